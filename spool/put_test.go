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
// putJournal is the journal of one target, with numbers for IDs.
type putJournal struct {
	*testing.T
	sp  *spool.Spool
	now time.Time
}

func (j putJournal) id(n byte) chunkstore.ID { return chunkstore.Plain{}.Identify([]byte{n}) }

// load fails the test unless the journal has these, and no others.
func (j putJournal) load(want ...byte) {
	j.Helper()
	ids, err := j.sp.PutJournal("a target").Load(j.now)
	if err != nil {
		j.Fatal(err)
	}
	for _, n := range want {
		if !ids[j.id(n)] {
			j.Errorf("%d is not in the journal", n)
		}
	}
	if len(ids) != len(want) {
		j.Errorf("%d IDs, want %d", len(ids), len(want))
	}
}

// note notes these, so much later.
func (j putJournal) note(later time.Duration, numbers ...byte) {
	j.Helper()
	var ids []chunkstore.ID
	for _, n := range numbers {
		ids = append(ids, j.id(n))
	}
	journal := j.sp.PutJournal("a target")
	defer journal.Close()
	if err := journal.Note(ids, j.now.Add(later)); err != nil {
		j.Fatal(err)
	}
}

func (j putJournal) write(name string, b []byte) {
	j.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		j.Fatal(err)
	}
}

func TestPutJournal(t *testing.T) {
	root := t.TempDir()
	j := putJournal{T: t, now: time.Unix(1_700_000_000, 5)}
	j.write(filepath.Join(root, "a.db"), nil)
	var err error
	if j.sp, err = spool.Create(root, filepath.Join(root, "a.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	j.load()
	j.note(0, 1, 2)
	j.note(-25*time.Hour, 3) // too old
	j.note(time.Hour, 4)     // the clock was set back: how old, nobody knows
	j.note(-23*time.Hour, 5)
	j.load(1, 2, 5)
	if ids, err := j.sp.PutJournal("another").Load(j.now); err != nil || ids != nil {
		t.Errorf("another target's journal: %v, %v", ids, err)
	}

	names, err := filepath.Glob(filepath.Join(j.sp.Dir(), "put.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole { // cut anywhere, and go on
		j.write(names[0], whole[:n])
		var want []byte
		if n >= 24+2*32 {
			want = []byte{1, 2}
		}
		j.load(want...)
		j.note(0, 9)
		j.load(append(want, 9)...)
	}
	for n := range whole { // damaged anywhere
		damaged := append([]byte(nil), whole...)
		damaged[n] ^= 4
		j.write(names[0], damaged)
		j.damaged(n)
	}
	if err := j.sp.PutJournal("a target").Remove(); err != nil {
		t.Fatal(err)
	}
	j.load()
}

// damaged fails the test if the journal, whose byte n is damaged, has an ID that was not noted, or
// should not be there any more.
func (j putJournal) damaged(n int) {
	j.Helper()
	ids, err := j.sp.PutJournal("a target").Load(j.now)
	if err != nil || ids[j.id(3)] || ids[j.id(4)] || len(ids) > 3 {
		j.Fatalf("byte %d: %d IDs, %v", n, len(ids), err)
	}
	for known := range ids {
		if known != j.id(1) && known != j.id(2) && known != j.id(5) {
			j.Fatalf("byte %d: an ID that was not noted", n)
		}
	}
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
