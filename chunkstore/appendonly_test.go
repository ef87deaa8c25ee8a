package chunkstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
)

// creating is a bucket of which a policy denies replacing, and deleting, objects.
type creating struct {
	chunkstore.Bucket
}

func (c *creating) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	if !cond.IfNone {
		return "", fmt.Errorf("put %s: %w", key, chunkstore.ErrDenied)
	}
	return c.Bucket.Put(ctx, key, body, cond)
}

func (c *creating) Delete(context.Context, string) error { return chunkstore.ErrDenied }

// TestAppendOnly: where packs can only be created, one that is there is as good as put, if it is
// whole, and is pinned where it would be touched; a damaged one is an error that says what to do.
func TestAppendOnly(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, &dir.Config{Path: root}).Targets[0]
	policy := &creating{Bucket: target.Chunks}
	target = chunkstore.NewTarget("target", policy, target.Manifests)
	day := time.Now()
	put := func() (chunkstore.Digest, error) {
		p := new(chunkstore.Pack)
		p.Date(day)
		for i := range 3 {
			p.Seal(target.Sealer, chunkstore.Hash(target.Sealer, storetest.Noise(uint64(i), 5000)))
		}
		places, _, err := target.PutPack(t.Context(), p)
		if err != nil {
			return chunkstore.Digest{}, err
		}
		return places[0].Pack, nil
	}
	pins := func(name chunkstore.Digest) int {
		return len(storetest.Listed(t, policy, chunkstore.PinPrefix(name), 10))
	}
	name, err := put()
	if again, twice := put(); err != nil || twice != nil || again != name || pins(name) != 0 {
		t.Fatalf("put %v, %v; again %v, %v, and %d pins", name, err, again, twice, pins(name))
	}
	file := filepath.Join(root, "chunks", name.String()[:2], name.String())
	for range 2 {
		err := chunkstore.RenewPack(t.Context(), target, name)
		if err != nil || pins(name) != 1 {
			t.Errorf("renewed: %v, %d pins", err, pins(name))
		}
	}
	for _, o := range storetest.Listed(t, policy, chunkstore.PinKeyPrefix, 10) {
		if of, ok := chunkstore.ParsePin(o.Key); !ok || of != name {
			t.Errorf("the pin %s is one of %v, %v", o.Key, of, ok)
		}
	}
	if err := chunkstore.RenewPack(t.Context(), target, chunkstore.Sum(nil)); !errors.Is(err,
		chunkstore.ErrAbsent) {
		t.Errorf("renew what is absent: %v", err)
	}
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = put()
	if err == nil || errors.Is(err, chunkstore.ErrCorrupt) ||
		!strings.Contains(err.Error(), "delete it with credentials that may") {
		t.Errorf("a damaged pack: %v", err)
	}
}

// TestDeniedIsNotAppendOnly: who may not put at all is told so, as before.
func TestDeniedIsNotAppendOnly(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	target = chunkstore.NewTarget("target", nobody{target.Chunks}, target.Manifests)
	p := new(chunkstore.Pack)
	p.Seal(target.Sealer, chunkstore.Hash(target.Sealer, storetest.Noise(1, 5000)))
	_, _, err := target.PutPack(t.Context(), p)
	storetest.MustBe(t, err, chunkstore.ErrDenied)
	if chunkstore.CreatesOnly(target) {
		t.Error("it is taken for a store in which packs may be created")
	}
}

// nobody may put.
type nobody struct{ chunkstore.Bucket }

func (nobody) Put(context.Context, string, []byte, chunkstore.Condition) (string, error) {
	return "", chunkstore.ErrDenied
}
