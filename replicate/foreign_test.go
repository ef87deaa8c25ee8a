package replicate

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// readSource tells when the database is read.
type readSource struct {
	fileSource
	read func(b []byte)
}

func (s readSource) ReadAt(b []byte, off int64) (int, error) {
	s.read(b)
	return s.fileSource.ReadAt(b, off)
}

// onCopy has f run before a base copy reads the file's pages.
func (w *world) onCopy(f func()) {
	old := w.options
	w.options = func(o *Options) {
		if old != nil {
			old(o)
		}
		o.OpenSource = func() (mirror.Source, error) {
			src, err := w.source()
			if err != nil {
				return nil, err
			}
			return readSource{src.(fileSource), func(b []byte) {
				if len(b) > sqlitefile.HeaderBytes {
					f()
				}
			}}, nil
		}
	}
}

// TestForeignDuringCopy: a program without a recorder writes while the database is copied, and
// leaves the change counter alone. What was never committed is not sent.
func TestForeignDuringCopy(t *testing.T) {
	half := func(w *world, b []byte) {
		f, err := os.OpenFile(w.db, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := f.WriteAt(b, 7*int64(w.page)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name     string
		rollback bool // as soon as the file is copied; else it stays as it is
		ours     int  // transactions that follow at once
	}{
		{"rolled back", true, 0},
		{"rolled back, and then ours", true, 1},
		{"rolled back, and then many of ours", true, 5},
		{"left behind", false, 0},
		{"left behind, and then ours", false, 1},
		{"left behind, and then many of ours", false, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3, 1)
			var spilled, ended atomic.Bool
			var was []byte
			w.options = func(o *Options) {
				o.fault = func(at string) bool {
					if at != "copied" || !spilled.Load() || ended.Swap(true) {
						return false
					}
					if c.rollback {
						half(w, was)
					}
					w.setReserved(false)
					w.lock.Unlock()
					for range c.ours {
						w.begin()
						w.write(3, w.pageOf(3, 0, 99))
						w.commit()
					}
					return false
				}
			}
			w.onCopy(func() {
				if !spilled.Swap(true) { // no lock shows: it has a VFS without these, say
					w.lock.Lock()
					half(w, w.pageOf(7, 0, 66))
				}
			})
			w.begin()
			for n := range 20 {
				w.write(n, w.pageOf(n, w.counter()+1, byte(n)))
			}
			w.commit()
			was = w.pageOf(7, 0, 7)
			r := w.replicator()
			defer w.run(r)()
			w.mustFlush(r)
			if !ended.Load() {
				t.Fatal("nobody wrote during the copy")
			}
			w.equal(0, "after the copy")
		})
	}
}

// TestForeignInOneTick: a program without a recorder spills a page while it is copied, and rolls it
// back, and the file's times are what a recorder had left in the same tick of the clock.
func TestForeignInOneTick(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.begin()
	for n := range 20 {
		w.write(n, w.pageOf(n, w.counter()+1, byte(n)))
	}
	w.commit()
	put := func(b []byte) {
		f, err := os.OpenFile(w.db, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := f.WriteAt(b, 7*int64(w.page)); err != nil {
			t.Error(err)
		}
	}
	var spilled bool
	w.options = func(o *Options) {
		o.OpenSource = func() (mirror.Source, error) {
			src, err := w.source()
			if err != nil {
				return nil, err
			}
			return tickSource{src.(fileSource), func(read func()) {
				if spilled {
					read()
					return
				}
				spilled = true
				put(w.pageOf(7, 0, 66))
				read()
				put(w.pageOf(7, 0, 7))
				w.w.Leave()
			}}, nil
		}
	}
	r := w.replicator()
	defer w.run(r)()
	w.mustFlush(r)
	if !spilled {
		t.Fatal("nobody wrote during the copy")
	}
	w.equal(0, "after the copy")
}

// tickSource has something happen around a read of pages.
type tickSource struct {
	fileSource
	around func(read func())
}

func (s tickSource) ReadAt(b []byte, off int64) (n int, err error) {
	read := func() { n, err = s.fileSource.ReadAt(b, off) }
	if len(b) > sqlitefile.HeaderBytes {
		s.around(read)
	} else {
		read()
	}
	return n, err
}

// TestExclusiveHeld: while somebody without a recorder has the database locked, nothing is copied;
// a flush fails and says who it is. RESERVED alone is in nobody's way.
func TestExclusiveHeld(t *testing.T) {
	w := newWorld(t, 8, 1)
	w.transact(50)
	w.setExclusive()
	fake := &fakeClock{at: time.Now()}
	w.options = func(o *Options) { o.clock = fake }
	r := w.replicator()
	stop := w.run(r)
	if err := w.flush(r); !errors.Is(err, mirror.ErrHeld) ||
		!strings.Contains(err.Error(), "process") {
		t.Errorf("flush beside a lock: %v", err)
	}
	if w.manifests[0].count() > 0 {
		t.Error("pushed what may be half a transaction")
	}
	w.setReserved(true)
	w.mustFlush(r)
	w.equal(0, "with RESERVED held")
	stop()
}

// TestNeverQuiet: somebody writes during each copy: a flush fails when its time is over, and says
// why.
func TestNeverQuiet(t *testing.T) {
	w := newWorld(t, 8, 1)
	var copies atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	w.onCopy(func() {
		if ctx.Err() != nil {
			return
		}
		w.foreign(50)
		if copies.Add(1) == 3 {
			cancel()
		}
	})
	w.transact(50)
	r := w.replicator()
	defer w.run(r)()
	if err := r.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	w.mustFlush(r)
	w.equal(0, "when all is quiet")
}
