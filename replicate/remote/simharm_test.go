package remote

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// harm kills and stops processes, and starts others, until all of the work is done.
func (w *world) harm(done <-chan struct{}, processes []*process, start func(*host)) {
	alive := slices.Clone(processes)
	n := w.rng.IntN(6)
	if w.held {
		n = 12
	}
	for ; n > 0; n-- {
		select {
		case <-done:
			return
		case <-time.After(travels(w.rng, 8*time.Second)):
		}
		i := w.rng.IntN(len(alive))
		p := alive[i]
		w.mu.Lock()
		switch w.rng.IntN(4) {
		case 0:
			w.counts.Kills++
			w.mu.Unlock()
			p.kill()
			alive = slices.Delete(alive, i, i+1)
			start(p.h)
		case 1:
			w.mu.Unlock()
			p.deafen(time.Duration(w.rng.ExpFloat64() * float64(20*time.Second)))
		default:
			w.counts.Sleeps++
			w.mu.Unlock()
			d := w.rng.ExpFloat64() * float64(ghostScales[w.rng.IntN(len(ghostScales))])
			if w.variant.trimsFences {
				d *= 10
			} else if w.held {
				d = (8 + 12*w.rng.Float64()) * float64(time.Second)
			}
			p.stop(time.Duration(d))
			if !w.paused || w.rng.IntN(2) == 0 {
				break
			}
			p.h.pause(time.Duration(d))
			for _, other := range alive {
				if other.h == p.h {
					other.stop(time.Duration(d))
				}
			}
		}
		if len(alive) == 0 {
			return
		}
	}
}

// clean deletes the machines' files now and then, as a cleaner of /tmp may, until done.
func (w *world) clean(done <-chan struct{}) {
	rng := rand.New(rand.NewPCG(uint64(w.seed), 2))
	files := make([]string, w.machines) // each machine has one, of the one database
	for {
		select {
		case <-done:
			return
		case <-time.After(travels(rng, 2*time.Second)):
		}
		machine := rng.IntN(len(files))
		if files[machine] == "" {
			pattern := fmt.Sprintf("%s/%d/verneuil-remote-*/*", w.dir, machine)
			if found, err := filepath.Glob(pattern); err != nil || len(found) > 1 {
				panic(fmt.Sprintf("machine %d has %v: %v", machine, found, err))
			} else if len(found) == 0 {
				continue
			} else {
				files[machine] = found[0]
			}
		}
		if err := unix.Unlink(files[machine]); err != nil && err != unix.ENOENT {
			panic(err)
		}
		w.trace("clean %s", files[machine])
	}
}
