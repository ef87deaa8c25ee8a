package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
)

// Log is the conformance test of logs; open returns the one of a name, which is empty.
func Log(t *testing.T, open func(name string) chunkstore.Log) {
	t.Run("order", func(t *testing.T) { testLogOrder(t, open("order")) })
	t.Run("create once", func(t *testing.T) { testLogOnce(t, open("once")) })
	t.Run("one winner", func(t *testing.T) { testLogWinner(t, open("winner")) })
	t.Run("trim", func(t *testing.T) { testLogTrim(t, open("trim")) })
	t.Run("names", func(t *testing.T) { testLogNames(t, open("a"), open("ab")) })
	t.Run("same", func(t *testing.T) { testLogSame(t, open("same"), open("same")) })
	t.Run("sizes", func(t *testing.T) { testLogSizes(t, open("sizes")) })
	t.Run("ended context", func(t *testing.T) {
		log := open("ended")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		MustBe(t, log.Append(ctx, 1, []byte("a")), context.Canceled)
		_, err := log.Read(ctx, 1, 1)
		MustBe(t, err, context.Canceled)
		if got := mustRead(t, log, 1, 9); len(got) != 0 {
			t.Errorf("%q is there", got)
		}
	})
}

func mustAppend(t *testing.T, log chunkstore.Log, n uint64, record string) {
	t.Helper()
	if err := log.Append(t.Context(), n, []byte(record)); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, log chunkstore.Log, from uint64, limit int) (texts []string) {
	t.Helper()
	records, err := log.Read(t.Context(), from, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		texts = append(texts, string(r))
	}
	return texts
}

// numbers returns what log lists from a number on.
func numbers(t *testing.T, log chunkstore.Log, from uint64) []uint64 {
	t.Helper()
	return numbersTo(t, log, from, math.MaxUint64)
}

// numbersTo returns what log lists from one number to another.
func numbersTo(t *testing.T, log chunkstore.Log, from, to uint64) (all []uint64) {
	t.Helper()
	err := log.List(t.Context(), from, to, func(e chunkstore.LogEntry) bool {
		if e.Bytes == 0 || e.Appended.IsZero() {
			t.Errorf("listed %+v", e)
		}
		all = append(all, e.Number)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func testLogOrder(t *testing.T, log chunkstore.Log) {
	if got := mustRead(t, log, 1, 10); len(got) != 0 {
		t.Fatalf("an empty log has %q", got)
	}
	var want []string
	for n := uint64(1); n <= 100; n++ {
		want = append(want, fmt.Sprint("record ", n))
		mustAppend(t, log, n, want[n-1])
		if got := mustRead(t, log, n, 10); !slices.Equal(got, want[n-1:]) {
			t.Fatalf("read from %d: %q", n, got)
		}
	}
	for _, c := range []struct {
		from     uint64
		limit, n int
	}{{1, 1000, 100}, {1, 7, 7}, {1, 1, 1}, {60, 1000, 41}, {101, 5, 0}, {1, 0, 0}} {
		got := mustRead(t, log, c.from, c.limit)
		if !slices.Equal(got, want[c.from-1:int(c.from)-1+c.n]) {
			t.Errorf("%d from %d: %q", c.limit, c.from, got)
		}
	}
	if got := numbers(t, log, 98); !slices.Equal(got, []uint64{98, 99, 100}) {
		t.Errorf("listed %d", got)
	}
	if got := numbersTo(t, log, 14, 18); !slices.Equal(got, []uint64{14, 15, 16, 17, 18}) {
		t.Errorf("listed %d", got)
	}
	got := 0
	log.List(t.Context(), 1, 100, func(chunkstore.LogEntry) bool { got++; return got < 3 })
	if got != 3 {
		t.Errorf("the list went on: %d", got)
	}
}

func testLogOnce(t *testing.T, log chunkstore.Log) {
	mustAppend(t, log, 1, "first")
	for _, other := range []string{"other", "longer than the first", ""} {
		MustBe(t, log.Append(t.Context(), 1, []byte(other)), chunkstore.ErrConflict)
	}
	// The same bytes: a conflict, or the answer that was lost.
	if err := log.Append(t.Context(), 1, []byte("first")); err != nil {
		MustBe(t, err, chunkstore.ErrConflict)
	}
	if got := mustRead(t, log, 1, 9); !slices.Equal(got, []string{"first"}) {
		t.Errorf("read %q", got)
	}
}

func testLogWinner(t *testing.T, log chunkstore.Log) {
	for n := uint64(1); n <= 10; n++ {
		var winners atomic.Int64
		var won atomic.Value
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				record := fmt.Sprintf("record %d of writer %d", n, i)
				err := log.Append(t.Context(), n, []byte(record))
				if err == nil {
					winners.Add(1)
					won.Store(record)
				} else if !errors.Is(err, chunkstore.ErrConflict) {
					t.Errorf("error %v; want ErrConflict", err)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Fatalf("record %d: %d winners", n, winners.Load())
		}
		if got := mustRead(t, log, n, 9); !slices.Equal(got, []string{won.Load().(string)}) {
			t.Errorf("record %d: read %q; %q won", n, got, won.Load())
		}
	}
}

func testLogTrim(t *testing.T, log chunkstore.Log) {
	for n := uint64(1); n <= 30; n++ {
		mustAppend(t, log, n, fmt.Sprint(n))
	}
	for range 2 {
		if err := log.Trim(t.Context(), 21, []uint64{3, 17, 25}); err != nil {
			t.Fatal(err)
		}
		want := []uint64{3, 17, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30}
		if got := numbers(t, log, 1); !slices.Equal(got, want) {
			t.Fatalf("left are %d", got)
		}
	}
	if got := mustRead(t, log, 1, 99); len(got) != 0 {
		t.Errorf("read %q, from a number that is gone", got)
	}
	if got := mustRead(t, log, 17, 99); !slices.Equal(got, []string{"17"}) {
		t.Errorf("read %q, from one before a gap", got)
	}
	MustBe(t, log.Append(t.Context(), 17, []byte("x")), chunkstore.ErrConflict)
	if got := mustRead(t, log, 21, 99); len(got) != 10 {
		t.Errorf("read %q", got)
	}
}

func testLogNames(t *testing.T, a, ab chunkstore.Log) {
	mustAppend(t, a, 1, "a")
	mustAppend(t, ab, 1, "ab")
	err := ab.Append(t.Context(), 0xb000000000000001, []byte("far"))
	if err != nil && !errors.Is(err, chunkstore.ErrAbsent) { // there is none before it
		t.Fatal(err)
	}
	if got := numbers(t, a, 0); !slices.Equal(got, []uint64{1}) {
		t.Errorf("one log lists %d, of which some are another's", got)
	}
	if err := ab.Trim(t.Context(), 1<<63, nil); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, a, 1, 9); !slices.Equal(got, []string{"a"}) {
		t.Errorf("read %q", got)
	}
}

// testLogSame: records that a log has appended, or read, are listed as no others.
func testLogSame(t *testing.T, log, reader chunkstore.Log) {
	for n := range uint64(3) {
		mustAppend(t, log, n+1, fmt.Sprint("record ", n+1))
	}
	mustRead(t, reader, 1, 3)
	for _, l := range []chunkstore.Log{log, reader} {
		if err := l.List(t.Context(), 0, 9, func(e chunkstore.LogEntry) bool {
			if e.Other {
				t.Errorf("record %d is taken for another", e.Number)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func testLogSizes(t *testing.T, log chunkstore.Log) {
	for n, size := range []int{1, 100_000, chunkstore.RecordBytesMax} {
		record := Noise(uint64(n), size)
		if err := log.Append(t.Context(), uint64(n+1), record); err != nil {
			t.Fatal(err)
		}
		got, err := log.Read(t.Context(), uint64(n+1), 1)
		if err != nil || len(got) != 1 || !bytes.Equal(got[0], record) {
			t.Errorf("%d bytes: read %d records, %v", size, len(got), err)
		}
	}
	if log.Append(t.Context(), 4, make([]byte, chunkstore.RecordBytesMax+1)) == nil {
		t.Error("a record that is too long was appended")
	}
}
