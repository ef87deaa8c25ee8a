package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"verneuil/chunkstore"
	"verneuil/spool"
	"verneuil/spool/spooltest"
)

// memory is an Applier.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p) - len(m.b); need > 0 {
		m.b = append(m.b, make([]byte, need)...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Truncate(size int64) error {
	if need := int(size) - len(m.b); need > 0 {
		m.b = append(m.b, make([]byte, need)...)
	}
	m.b = m.b[:size]
	return nil
}

func newWriter(t testing.TB) *spooltest.Writer {
	t.Helper()
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Create(filepath.Join(dir, "spool"), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	w, err := spooltest.NewWriter(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.File.Close() })
	return w
}

// transaction does a few random writes.
func transaction(t testing.TB, w *spooltest.Writer, r *rand.Rand) {
	t.Helper()
	w.Begin()
	for range 1 + r.IntN(5) {
		if r.IntN(8) == 0 {
			if err := w.Truncate(int64(r.IntN(300_000))); err != nil {
				t.Fatal(err)
			}
			continue
		}
		p := make([]byte, 1+r.IntN(9000))
		p[0], p[len(p)-1] = byte(r.Uint32()), byte(r.Uint32())
		if _, err := w.WriteAt(p, int64(r.IntN(300_000))); err != nil {
			t.Fatal(err)
		}
	}
	w.Commit()
}

func readAll(t testing.TB, r *spool.Reader, a spool.Applier) (n int) {
	t.Helper()
	for {
		_, err := r.Next(a)
		if err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

func TestLogRoundTrip(t *testing.T) {
	for _, segmentBytes := range []int64{16 << 10, 16<<10 + 8, 17000 &^ 7, spool.SegmentBytes} {
		w := newWriter(t)
		w.SegmentBytes = segmentBytes
		st := w.Spool.State()
		rnd := rand.New(rand.NewPCG(1, uint64(segmentBytes)))
		m, from := &memory{}, st.Head()
		for round := range 30 {
			n := rnd.IntN(4)
			for range n {
				transaction(t, w, rnd)
			}
			if rnd.IntN(3) == 0 { // garbage behind head
				w.Begin()
				transaction2(t, w, rnd)
				w.Abandon()
				st.Writing.Store(0)
				if err := w.File.Truncate(0); err != nil {
					t.Fatal(err)
				}
				if _, err := w.File.WriteAt(m2file(t, w, m, from), 0); err != nil {
					t.Fatal(err)
				}
			}
			r := spool.NewReader(w.Spool.Dir(), from, st.Head())
			if got := readAll(t, r, m); got != n {
				t.Fatalf("segments of %d, round %d: %d transactions, want %d", segmentBytes, round,
					got, n)
			}
			if r.Position() != st.Head() {
				t.Fatalf("reader ends at %v, head is %v", r.Position(), st.Head())
			}
			r.Close()
			from = st.Head()
			db, err := os.ReadFile(w.Spool.Path())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(db, m.b) {
				t.Fatalf("segments of %d, round %d: replay differs from the database", segmentBytes,
					round)
			}
			if err := spool.Trim(w.Spool.Dir(), st.Tail(), from); err != nil {
				t.Fatal(err)
			}
			st.SetTail(from)
		}
		_, err := os.Stat(filepath.Join(w.Spool.Dir(), fmt.Sprintf("log.%016x", from.Segment()-1)))
		if err == nil {
			t.Error("a segment below the tail survives Trim")
		}
	}
}

func transaction2(t testing.TB, w *spooltest.Writer, r *rand.Rand) {
	for range 3 {
		if _, err := w.WriteAt(make([]byte, 5000), int64(r.IntN(100_000))); err != nil {
			t.Fatal(err)
		}
	}
}

// m2file is what the database must be: what was published after from, on m.
func m2file(t testing.TB, w *spooltest.Writer, m *memory, from spool.Position) []byte {
	c := &memory{b: bytes.Clone(m.b)}
	r := spool.NewReader(w.Spool.Dir(), from, w.Spool.State().Head())
	defer r.Close()
	readAll(t, r, c)
	return c.b
}

func TestLogDamage(t *testing.T) {
	w := newWriter(t)
	w.SegmentBytes = 16 << 10
	st := w.Spool.State()
	from := st.Head()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		transaction(t, w, rnd)
	}
	second := filepath.Join(w.Spool.Dir(), filepath.Base(globs(t, w)[1]))
	good, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"missing": nil, "empty": {}, "cut": good[:len(good)/2],
		"header": append([]byte("X"), good[1:]...),
		"frame":  append(append(bytes.Clone(good[:5000]), good[5000]+1), good[5001:]...),
	} {
		os.Remove(second)
		if b != nil {
			if err := os.WriteFile(second, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := spool.NewReader(w.Spool.Dir(), from, st.Head())
		var err error
		for err == nil {
			_, err = r.Next(&memory{})
		}
		r.Close()
		if !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
}

func globs(t testing.TB, w *spooltest.Writer) []string {
	names, err := filepath.Glob(filepath.Join(w.Spool.Dir(), "log.*"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	return names
}

func TestLogAllowance(t *testing.T) {
	w := newWriter(t)
	w.SegmentBytes = 16 << 10
	st := w.Spool.State()
	st.LogAllowance.Store(64 << 10)
	rnd := rand.New(rand.NewPCG(3, 4))
	for st.Dropped.Load() == 0 {
		transaction(t, w, rnd)
	}
	if st.Generation.Load() < 3 || st.Cause() != spool.CauseLogFull {
		t.Errorf("generation %d, cause %v", st.Generation.Load(), st.Cause())
	}
	if n, _ := spool.LogBytes(w.Spool.Dir()); n > 64<<10+16<<10 { // I6
		t.Errorf("log of %d bytes", n)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(spool.AppendFrame(nil, spool.Frame{Kind: spool.KindWrite, Sequence: 1, Offset: 4096,
		Data: []byte("hello")}))
	f.Add(spool.AppendFrame(nil, spool.Frame{Kind: spool.KindCommit, Size: 4096, Before: 1,
		After: 2, TimeNS: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, n, err := spool.DecodeFrame(b)
		if err != nil {
			if !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Errorf("%v is not ErrCorrupt", err)
			}
			return
		}
		again, k, err := spool.DecodeFrame(spool.AppendFrame(nil, frame))
		if err != nil || k != n || again.Kind != frame.Kind ||
			!bytes.Equal(again.Data, frame.Data) {
			t.Errorf("decode after encode: %v", err)
		}
	})
}
