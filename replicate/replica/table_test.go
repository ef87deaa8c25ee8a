package replica

import (
	"sync"
	"testing"
)

// TestExpectedChunk: what is said of a chunk before it comes is kept when it comes, and
// gone when it does not.
func TestExpectedChunk(t *testing.T) {
	tab, err := newTable(&memory{}, 3*slotBytes, 3, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.makePart(2); err != nil {
		t.Fatal(err)
	}
	const e = entry(7<<32 | 5)

	if !tab.expect(0) || tab.expect(0) {
		t.Error("not exactly the first to expect a chunk is told so")
	}
	tab.mark(0)
	if tab.here(0) {
		t.Error("a chunk that is coming is here")
	}
	if !tab.publish(0, e) || tab.entry(0) != e|entryAhead {
		t.Errorf("the chunk that has come is %x, want %x", tab.entry(0), e|entryAhead)
	}
	if tab.publish(0, e+1) || tab.expect(0) {
		t.Error("a chunk that is here came again")
	}
	tab.forget(0)
	if tab.entry(0).slot() != e.slot() || !tab.here(0) {
		t.Error("a chunk that is here was forgotten")
	}

	tab.expect(1)
	tab.mark(1)
	tab.forget(1)
	if tab.entry(1) != 0 || !tab.expect(1) {
		t.Error("a chunk that was forgotten cannot be expected")
	}

	if tab.publish(2, e); tab.entry(2) != e {
		t.Error("a chunk came otherwise than nobody had expected it")
	}
}

// TestExpectedAtOnce: of many who expect, publish and forget one chunk, one publishes.
func TestExpectedAtOnce(t *testing.T) {
	tab, err := newTable(&memory{}, slotBytes, 1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.makePart(0); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	published := make([]bool, 8)
	for k := range published {
		all.Go(func() {
			for range 1000 {
				tab.expect(0)
				tab.mark(0)
				tab.forget(0)
			}
			published[k] = tab.publish(0, entry(1<<32|k))
		})
	}
	all.Wait()
	n := 0
	for k, ok := range published {
		if ok {
			n++
			if slot := tab.entry(0).slot(); slot != uint32(k) {
				t.Errorf("%d has published, slot %d is there", k, slot)
			}
		}
	}
	if n != 1 || !tab.here(0) {
		t.Errorf("%d have published", n)
	}
}
