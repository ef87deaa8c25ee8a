package history

import (
	"context"
	"slices"
	"testing"

	"verneuil/chunkstore"
)

// askedStore notes which records are asked for.
type askedStore struct {
	*plainStore
	asked []uint64
}

type askedLog struct {
	plainLog
	s *askedStore
}

func (s *askedStore) Log([16]byte) chunkstore.Log { return askedLog{plainLog{s.plainStore}, s} }

func (l askedLog) Read(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	for n := range uint64(limit) {
		l.s.asked = append(l.s.asked, from+n)
	}
	return l.plainLog.Read(ctx, from, limit)
}

// next reads to the end, and returns the numbers of what was read, and of what was asked for. Where
// there is no clock each request is followed by a look.
func (s *askedStore) next(t *testing.T, w *Writer) (read, asked []uint64) {
	t.Helper()
	s.asked = nil
	for {
		step, err := w.Next(t.Context())
		must(t, err)
		for _, r := range step.Records {
			read = append(read, r.Number)
		}
		if step.Empty() || step.End {
			return read, s.asked
		}
	}
}

// TestTurn: who has given the history to a rival, with a commit, asks for the second record of what
// comes next, and takes the first one for the fence that it must be; unless it is another, or there
// is no second one.
func TestTurn(t *testing.T) {
	s := &askedStore{plainStore: &plainStore{log: map[uint64][]byte{}}}
	_, err := Create(t.Context(), s, Options{}, [16]byte{1}, nil, "")
	must(t, err)
	w1, w2, w3 := follower(t, s), follower(t, s), follower(t, s)
	turn := func(w *Writer, owner string, commits int) {
		t.Helper()
		must(t, w.Take(t.Context(), []byte(owner)))
		for n := range commits {
			must(t, w.Append(t.Context(), []byte("a commit"), n == commits-1))
		}
	}
	expect := func(w *Writer, read, asked []uint64) {
		t.Helper()
		if r, a := s.next(t, w); !slices.Equal(r, read) || !slices.Equal(a, asked) {
			t.Fatalf("has read %v, and asked for %v; want %v and %v", r, a, read, asked)
		}
		if there := follower(t, s); !there.At().Is(w.At()) || there.At().Epoch != w.At().Epoch ||
			there.At().Released != w.At().Released {
			t.Fatalf("is at %v, want %v", w.At(), there.At())
		}
	}
	turn(w1, "one", 1) // 1, 2
	expect(w2, []uint64{1, 2}, []uint64{1, 2, 3})
	turn(w2, "two", 1) // 3, 4
	expect(w1, []uint64{3, 4}, []uint64{3, 4, 5})
	turn(w1, "one", 1) // 5, 6
	expect(w2, []uint64{5, 6}, []uint64{6, 7})
	turn(w2, "two", 2) // 7 to 9
	expect(w1, []uint64{7, 8, 9}, []uint64{8, 9, 10})
	turn(w1, "one", 1)                 // 10, 11
	expect(w1, nil, []uint64{13, 12})  // nothing yet
	expect(w1, nil, []uint64{12})      // and it is not tried again
	s.next(t, w2)                      // 10, 11
	turn(w2, "two, as another one", 1) // 12, 13
	expect(w1, []uint64{12, 13}, []uint64{12, 13, 14})
	turn(w1, "one", 1) // 14, 15
	s.next(t, w3)
	turn(w3, "three", 1) // 16, 17
	expect(w1, []uint64{16, 17}, []uint64{17, 16, 17, 18})
	turn(w1, "one", 1) // 18, 19
	s.next(t, w3)
	must(t, w3.Take(t.Context(), []byte("three"))) // 20
	expect(w1, []uint64{20}, []uint64{21, 20, 21, 22})
}
