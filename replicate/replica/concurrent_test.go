package replica_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

// readSome reads some pages of r's version, of so many that all are stamped with its number.
func readSome(r *Reader, rng *rand.Rand, pages int64) error {
	var page [144]byte
	for range 60 {
		i := rng.Int64N(pages)
		if err := r.Read(context.Background(), page[:], i*testPage); err != nil {
			return err
		}
		if n := binary.BigEndian.Uint64(page[128:]); n != r.Sequence() {
			return fmt.Errorf("version %d has page %d of version %d", r.Sequence(), i, n)
		}
		if n := binary.BigEndian.Uint64(page[136:]); n != uint64(i)+1 {
			return fmt.Errorf("page %d in the place of %d", n-1, i)
		}
	}
	return nil
}

// Each read transaction sees exactly one version, whatever happens meanwhile.
func TestConcurrentReaders(t *testing.T) {
	const versions, pages = 12, 66 * 16
	p := newSource(t)
	publish := func(number uint64) {
		// Alternate between commits that travel inline and such that move chunks.
		inline := []int64{0}
		for i := int64(1); number%2 == 0 && i < pages; i++ {
			inline = append(inline, i*testPage)
		}
		if len(inline)*testPage > 200<<10 {
			inline = inline[:50]
		}
		p.Publish(publishtest.Stamped(pages, number), inline...)
	}
	publish(1)
	all := p.follow(Options{Linger: -1})
	done := make(chan struct{})
	var group sync.WaitGroup
	for g := range 6 {
		r, err := all.Open(context.Background(), p.URI())
		if err != nil {
			t.Fatal(err)
		}
		r.SetAuto(g == 0)
		group.Go(func() {
			defer r.Close()
			rng := rand.New(rand.NewPCG(uint64(g), 2))
			for last := uint64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				switch g % 3 {
				case 0:
					r.Adopt()
				case 1:
					if err := r.Refresh(context.Background(), g > 3); err != nil {
						t.Error(err)
					}
				case 2:
					if !r.Adopt() {
						r.Request()
					}
				}
				if r.Sequence() < last {
					t.Errorf("reader %d went back from version %d to %d", g, last, r.Sequence())
				}
				last = r.Sequence()
				if err := readSome(r, rng, pages); err != nil {
					t.Errorf("reader %d: %v", g, err)
					return
				}
			}
		})
	}
	for number := uint64(2); number <= versions; number++ {
		publish(number)
	}
	close(done)
	group.Wait()
	awaitNoSlots(t, all)
}

// awaitNoSlots waits until no slot is in use: the last reader is closed.
func awaitNoSlots(t *testing.T, all *Set) {
	t.Helper()
	// A read-ahead may still be under way: it gives its version back when it ends.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10000 {
		if all.SlotsInUse() == 0 {
			return
		}
		<-tick.C
	}
	t.Errorf("%d slots in use after the last reader, want 0", all.SlotsInUse())
}
