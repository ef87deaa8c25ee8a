package upkeep_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
)

// keeping is clocked where the bucket keeps versions, which are as old as the clock said.
type keeping struct {
	*clocked
	chunkstore.Versioned
}

func (b keeping) Get(ctx context.Context, key string, o chunkstore.GetOptions) (
	chunkstore.Object, error,
) {
	return b.clocked.Get(ctx, key, o)
}

func (b keeping) Put(ctx context.Context, key string, body []byte, cond chunkstore.Condition) (
	string, error,
) {
	return b.clocked.Put(ctx, key, body, cond)
}

func (b keeping) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	return b.clocked.Stat(ctx, key)
}

func (b keeping) Delete(ctx context.Context, key string) error { return b.clocked.Delete(ctx, key) }

func (b keeping) List(
	ctx context.Context, prefix string, yield func(chunkstore.Object) bool,
) error {
	return b.clocked.List(ctx, prefix, yield)
}

func (b keeping) String() string { return b.clocked.String() }

// TestG1OnStores: on real stores, whose buckets keep versions or do not, what stays restores, and
// of a bucket that keeps versions, each of them.
func TestG1OnStores(t *testing.T) {
	open := func(t *testing.T, config chunkstore.TargetConfig) *gcWorld {
		w := newGCWorld(t, 21)
		target := storetest.Open(t, config).Targets[0]
		w.chunks = newClocked(target.Chunks, w.clock)
		w.manifests = newClocked(target.Manifests, w.clock)
		w.Target.Chunks = w.chunks
		w.Target.Manifests = keeping{w.manifests, target.Manifests.(chunkstore.Versioned)}
		return w
	}
	t.Run("dir", func(t *testing.T) {
		testStore(t, open(t, &dir.Config{Path: t.TempDir()}))
	})
	endpoint, region := os.Getenv("VERNEUIL_TEST_S3"), cmp.Or(os.Getenv("AWS_REGION"), "us-east-1")
	if endpoint == "" {
		endpoint, region = miniotest.Start(t), "minio"
	}
	for _, versioned := range []bool{false, true} {
		t.Run(fmt.Sprint("s3, versioned ", versioned), func(t *testing.T) {
			name := fmt.Sprintf("verneuil-gc-%v-", versioned)
			w := open(t, &s3.Config{Region: region, Endpoint: endpoint, ChunkBucket: name + "c",
				ManifestBucket: name + "m", CreateBucketsOnDemand: true})
			if versioned {
				w.write(1) // makes the buckets
				miniotest.EnableVersioning(t, endpoint, name+"m")
				miniotest.EnableVersioning(t, endpoint, name+"c")
				w.past = nil
			}
			testStore(t, w)
		})
	}
}

func testStore(t *testing.T, w *gcWorld) {
	w.age()
	w.clock.advance(2 * historyHours)
	w.write(1)
	w.checkpoint()
	dry := w.collect(false)
	found := w.collect(true)
	if *dry != *found || found.Records.Objects == 0 {
		t.Errorf("would delete %+v, deleted %+v", *dry, *found)
	}
	w.check()
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
	packs, n := w.chunks.keys(t, ""), 0
	bucket := w.Target.Manifests.(chunkstore.Versioned)
	err := bucket.ListVersions(t.Context(), w.Key(), func(o chunkstore.Object) bool {
		stored, err := bucket.GetVersion(t.Context(), w.Key(), o.Version, chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(w.Target.Sealer, stored.Body)
		if err != nil {
			t.Fatal(err)
		}
		tree := m.Tree(w.Target.Sealer)
		if err := tree.Load(t.Context(), w.Target.GetObjects); err != nil {
			t.Fatalf("version %s: %v", o.Version, err)
		}
		for i := range tree.Len() {
			if ref := tree.At(i); ref.ID != chunkstore.ZeroID &&
				!packs[ref.Place.Pack.String()] {
				t.Errorf("version %s, chunk %d: pack %v is gone", o.Version, i, ref.Place.Pack)
			}
		}
		n++
		return true
	})
	if err != nil || n == 0 {
		t.Errorf("%d versions: %v", n, err)
	}
	if again := w.collect(true); again.Packs.Objects+again.Records.Objects > 0 {
		t.Errorf("once more: %+v", *again)
	}
}

// TestForgetsVersions: a directory's versions of a manifest are thinned out, as nobody else does
// that: what is recent stays, the last one before, and the first of each day of the last week.
func TestForgetsVersions(t *testing.T) {
	w := newGCWorld(t, 22)
	path := t.TempDir()
	w.Target = storetest.Open(t, &dir.Config{Path: path}).Targets[0]
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour) // midnight
	w.clock.now = now
	dated := map[string]bool{}
	for at := now.Add(-20*24*time.Hour + 8*time.Hour); at.Before(now); at = at.Add(8 * time.Hour) {
		w.stamp(w.rng.IntN(90))
		w.Publish(w.file)
		err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || dated[name] {
				return err
			}
			dated[name] = strings.Contains(name, "/chunks/") || strings.Contains(name, "/.history/")
			if strings.Contains(name, "/.history/") {
				return nil
			}
			return os.Chtimes(name, at, at)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := w.versions()
	found := w.collect(true)
	after := w.versions()
	// The newest is 8 hours before now. Recent: 25 hours, with it 4. The one before them; and the
	// first of 7 days, of which one is 8 hours after the week began, and one is recent.
	if len(before) != 59 || found.Versions.Objects != len(before)-len(after) || len(after) != 11 {
		t.Errorf("of %d versions, %d were deleted, and there are %v", len(before),
			found.Versions.Objects, after)
	}
	if found.Packs.Objects < 10 {
		t.Errorf("%d packs were deleted", found.Packs.Objects)
	}
	if w.waited > 0 {
		t.Error("waited, though versions stay that readers may be at")
	}
	if !bytes.Equal(w.restore(), w.file) {
		t.Error("the newest version has other bytes")
	}
}

// versions returns of when the versions are that the bucket keeps of the manifest, and fails unless
// the packs of each are there.
func (w *gcWorld) versions() (all []time.Time) {
	t := w.t
	t.Helper()
	bucket := w.Target.Manifests.(chunkstore.Versioned)
	err := bucket.ListVersions(t.Context(), w.Key(), func(o chunkstore.Object) bool {
		all = append(all, o.Modified.UTC())
		stored, err := bucket.GetVersion(t.Context(), w.Key(), o.Version,
			chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(w.Target.Sealer, stored.Body)
		if err != nil {
			t.Fatal(err)
		}
		for i, tree := 0, m.Tree(w.Target.Sealer); i < tree.Len(); i++ {
			ref, err := tree.Lookup(t.Context(), i, w.Target.GetObjects)
			if err == nil {
				_, err = w.Target.StatPack(t.Context(), ref.Place.Pack, 0)
			}
			if err != nil {
				t.Fatalf("version %s, chunk %d: %v", o.Version, i, err)
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
