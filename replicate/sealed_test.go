package replicate

import (
	"bytes"
	"maps"
	"os"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/replicate/mirror"
	"verneuil/spool"
)

// Whoever stores or reads has the stored form from the store's Sealer: with another one, a database
// is stored whole, nothing of it as the plain one would, and a second Sync finds all of it.
func TestAnotherSealer(t *testing.T) {
	w := newWorld(t, 21, 1)
	w.transact(60)
	root := t.TempDir()
	store, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{&dir.Config{Path: root}},
		chunkstore.Options{CallsPerSecond: -1, Sealer: storetest.Keyed()})
	if err != nil {
		t.Fatal(err)
	}
	sync := func() SyncResult {
		seen, err := mirror.See(w.db)
		if err != nil {
			t.Fatal(err)
		}
		result, err := Sync(t.Context(), SyncOptions{Store: store, Root: w.root, DBPath: w.db,
			Host: "host", Program: "test", OpenSource: w.source, Seen: seen,
			Source: &spool.SourceConfig{Path: w.db, Host: "host"}})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	sync()
	want, err := os.ReadFile(w.db)
	if err != nil {
		t.Fatal(err)
	}
	key := manifest.PlainName("host", w.db)
	if got := stored(t, store.Targets[0], key); !bytes.Equal(got, want) {
		t.Errorf("stored are %d bytes that differ from the database's %d", len(got), len(want))
	}
	before := storetest.FilesIn(t, root+"/chunks")
	sync()
	if after := storetest.FilesIn(t, root+"/chunks"); !maps.Equal(after, before) {
		t.Errorf("%d packs after a second Sync of the same, %d before", len(after), len(before))
	}
	plain := chunkstore.NewTarget("plain", store.Targets[0].Chunks, store.Targets[0].Manifests)
	_, err = plain.GetManifest(t.Context(), key, chunkstore.GetOptions{},
		func(body []byte) error { _, err := manifest.Decode(plain.Sealer, body); return err })
	storetest.MustBe(t, err, chunkstore.ErrKey)
}

// stored returns the database whose manifest has the key.
func stored(t *testing.T, target *chunkstore.Target, key string) (file []byte) {
	t.Helper()
	var m *manifest.Manifest
	_, err := target.GetManifest(t.Context(), key, chunkstore.GetOptions{},
		func(body []byte) (err error) {
			m, err = manifest.Decode(target.Sealer, body)
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	file, err = contents(m, target)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
