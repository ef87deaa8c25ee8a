package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/chunkstore"
)

// Open opens the store of cfgs without a limit of calls, and has it closed at the end of the test.
func Open(t testing.TB, cfgs ...chunkstore.TargetConfig) *chunkstore.Store {
	t.Helper()
	s, err := chunkstore.Open(t.Context(), cfgs, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// MustPut puts body under key, and returns its ETag; the test ends if it cannot.
func MustPut(t *testing.T, b chunkstore.Bucket, key, body string,
	cond chunkstore.Condition) string {
	t.Helper()
	etag, err := b.Put(t.Context(), key, []byte(body), cond)
	if err != nil {
		t.Fatal(err)
	}
	return etag
}

// MustBe ends the test unless err is kind, as [errors.Is] says.
func MustBe(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v; want one that is %q", err, kind)
	}
}

// MustSay fails the test unless err's text contains parts, and is one line that names no request of
// the AWS SDK's.
func MustSay(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v\ndoes not contain %q", err, part)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "RequestID") ||
		strings.Count(err.Error(), "\n") > 0) {
		t.Errorf("error is not short:\n%v", err)
	}
}

// Listed returns what b lists of prefix, most objects at most.
func Listed(t *testing.T, b chunkstore.Bucket, prefix string, most int) []chunkstore.Object {
	t.Helper()
	var objects []chunkstore.Object
	err := b.List(t.Context(), prefix, func(o chunkstore.Object) bool {
		objects = append(objects, o)
		return len(objects) < most
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// Noise returns n bytes that do not compress, by seed.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

// Text returns n bytes that compress to a third, by seed.
func Text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%d|customer %d|2024-%02d-%02d|%d.%02d\x00", r.Uint32(), r.IntN(9999),
			r.IntN(12), r.IntN(28), r.IntN(999), r.IntN(99))
	}
	return []byte(b.String()[:n])
}

// filesIn returns the permissions of everything below root, by relative name.
func FilesIn(t *testing.T, root string) map[string]fs.FileMode {
	t.Helper()
	found := make(map[string]fs.FileMode)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		found[name] = info.Mode().Perm()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// LogLines is a log whose lines can be waited for.
type LogLines chan string

func (l LogLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// about waits for a line that holds part. (That the credentials are read may take its time, too.)
func (l LogLines) About(part string) string {
	for {
		if line := <-l; strings.Contains(line, part) {
			return line
		}
	}
}

// Gate is a Bucket whose Gets wait until it is opened, or their context ends.
type Gate struct {
	chunkstore.Bucket
	Arrived chan struct{}
	Opened  chan struct{}
}

// Get tells Arrived, and waits.
func (g *Gate) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	g.Arrived <- struct{}{}
	select {
	case <-g.Opened:
		return g.Bucket.Get(ctx, key, opts)
	case <-ctx.Done():
		return chunkstore.Object{}, ctx.Err()
	}
}
