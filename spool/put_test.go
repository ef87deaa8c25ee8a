package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// What a kill or a damaged disk leaves of a journal is a beginning of it, never an
// ID that was not noted; and what is noted later counts.
func TestPutJournal(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 5)
	id := func(n byte) chunkstore.ID { return chunkstore.Plain{}.Identify([]byte{n}) }
	load := func(want ...byte) {
		t.Helper()
		ids, err := sp.PutJournal("a target").Load(now)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range want {
			if !ids[id(n)] {
				t.Errorf("%d is not in the journal", n)
			}
		}
		if len(ids) != len(want) {
			t.Errorf("%d IDs, want %d", len(ids), len(want))
		}
	}
	note := func(now time.Time, ids ...chunkstore.ID) {
		t.Helper()
		j := sp.PutJournal("a target")
		defer j.Close()
		if err := j.Note(ids, now); err != nil {
			t.Fatal(err)
		}
	}
	load()
	note(now, id(1), id(2))
	note(now.Add(-25*time.Hour), id(3)) // too old
	note(now.Add(time.Hour), id(4))     // the clock was set back: how old, nobody knows
	note(now.Add(-23*time.Hour), id(5))
	load(1, 2, 5)
	if ids, err := sp.PutJournal("another").Load(now); err != nil || ids != nil {
		t.Errorf("another target's journal: %v, %v", ids, err)
	}

	names, err := filepath.Glob(filepath.Join(sp.Dir(), "put.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole { // cut anywhere, and go on
		if err := os.WriteFile(names[0], whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var want []byte
		if n >= 24+2*32 {
			want = []byte{1, 2}
		}
		load(want...)
		note(now, id(9))
		load(append(want, 9)...)
	}
	for n := range whole { // damaged anywhere
		damaged := append([]byte(nil), whole...)
		damaged[n] ^= 4
		if err := os.WriteFile(names[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		ids, err := sp.PutJournal("a target").Load(now)
		if err != nil || ids[id(3)] || ids[id(4)] || len(ids) > 3 {
			t.Fatalf("byte %d: %d IDs, %v", n, len(ids), err)
		}
		for known := range ids {
			if known != id(1) && known != id(2) && known != id(5) {
				t.Fatalf("byte %d: an ID that was not noted", n)
			}
		}
	}
	if err := sp.PutJournal("a target").Remove(); err != nil {
		t.Fatal(err)
	}
	load()
}

// Processes that open a database at one time write source.json at one time.
func TestWriteSourceConfigAtOnce(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				err := sp.WriteSourceConfig(spool.SourceConfig{Path: sp.Path(),
					Host: fmt.Sprint("host", i, n)})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := spool.ReadSourceConfig(sp.Dir()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(filepath.Join(sp.Dir(), "source.json.*")); err != nil ||
		len(left) > 0 {
		t.Errorf("left behind: %q, error %v", left, err)
	}
}
