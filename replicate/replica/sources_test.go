package replica_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"verneuil/chunkstore"
	. "verneuil/replicate/replica"
)

// both publishes file as version 2 of two targets, which have it in other packs, and returns a set
// of replicas that reads from both.
func both(t *testing.T, file []byte, deadline time.Duration) (a, b *source, all *Set) {
	t.Helper()
	a, b = newSource(t), newSource(t)
	a.Publish(random(len(file), 99), 0)
	a.Publish(file, 0)
	half := bytes.Clone(file)
	for off := 0; off < len(half); off += 2 * chunkstore.ChunkBytes {
		half[off+5000] ^= 1
	}
	b.Publish(half, 0)
	b.Publish(file, 0)
	all, err := NewSet(Options{Store: chunkstore.NewStore(a.Target, b.Target),
		TempDir: t.TempDir(), Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, b, all
}

// TestF5OtherTarget: a target that fails when its manifest has been read already, or hangs, is no
// error of who reads, as long as another one has the chunk. It has it in another pack.
func TestF5OtherTarget(t *testing.T) {
	const chunks = 100
	reset := errors.New("connection reset")
	for name, c := range map[string]struct {
		fail func(a *source, hang chan struct{})
		late bool // the other target has a later version, with another chunk 7
	}{
		"all fails": {
			fail: func(a *source, _ chan struct{}) {
				a.Hooks.Set(func(string) error { return reset }, func() error { return reset })
			},
		},
		"chunks fail": {
			fail: func(a *source, _ chan struct{}) {
				a.Hooks.Set(func(string) error { return reset }, nil)
			},
		},
		"chunks are gone": {
			fail: func(a *source, _ chan struct{}) {
				a.Hooks.Set(func(string) error { return chunkstore.ErrAbsent }, nil)
			},
		},
		"it hangs": {
			fail: func(a *source, hang chan struct{}) {
				a.Hooks.Set(func(string) error { <-hang; return reset }, nil)
			},
		},
		"chunks are gone, and the other is ahead": {
			fail: func(a *source, _ chan struct{}) {
				a.Hooks.Set(func(string) error { return chunkstore.ErrAbsent }, nil)
			},
			late: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := random(chunks*chunkstore.ChunkBytes, 1)
			a, b, all := both(t, file, 20*time.Second)
			r := a.open(all)
			hang := make(chan struct{})
			defer close(hang)
			if c.late { // the leaf is there
				err := r.Read(t.Context(), make([]byte, 1), 20*chunkstore.ChunkBytes)
				if err != nil {
					t.Fatal(err)
				}
			}
			c.fail(a, hang)
			if c.late {
				later := bytes.Clone(file)
				later[7*chunkstore.ChunkBytes+6000] ^= 1
				b.Publish(later, 0)
			}
			for _, i := range []int{7, 50, 8, 9, 99, 10, 11, 12} {
				got := make([]byte, 1000)
				off := i*chunkstore.ChunkBytes + 5500
				err := r.Read(t.Context(), got, int64(off))
				if lost := c.late && i == 7; (err != nil) != lost ||
					errors.Is(err, chunkstore.ErrAbsent) != lost {
					t.Errorf("chunk %d: %v", i, err)
				} else if !lost && !bytes.Equal(got, file[off:][:1000]) {
					t.Errorf("chunk %d: other bytes", i)
				}
			}
		})
	}
}

// TestF5NoTarget: what no target can answer for is not said to be gone.
func TestF5NoTarget(t *testing.T) {
	a, b, all := both(t, random(10*chunkstore.ChunkBytes, 1), time.Second)
	r := a.open(all)
	reset := errors.New("connection reset")
	a.Hooks.Set(func(string) error { return chunkstore.ErrAbsent }, nil)
	b.Hooks.Set(func(string) error { return reset }, func() error { return reset })
	err := r.Read(t.Context(), make([]byte, 100), 3*chunkstore.ChunkBytes)
	if !errors.Is(err, reset) || errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("gone from one target, and the other cannot be asked: %v", err)
	}
	b.Hooks.Set(func(string) error { return chunkstore.ErrAbsent }, nil)
	err = r.Read(t.Context(), make([]byte, 100), 3*chunkstore.ChunkBytes)
	if !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("gone from both: %v", err)
	}
}
