package mirror

import (
	"maps"
	"math"
	"math/bits"
	"slices"

	"verneuil/chunkstore"
)

// Diff says how a chunk of the mirror differs, or may differ, from the object
// that the last cut's tree names for it.
type Diff struct {
	Changed bool // since the last cut
	Whole   bool // anywhere: Sectors does not tell
	Sectors [2]uint64
	Since   [2]uint64 // those that were set since Begin
	Stamp   uint64    // grows with each change

	Hashed bool // Hash is the ID of the chunk as it is now
	Hash   chunkstore.ID
}

// Has reports whether sector k of the chunk may differ.
func (d *Diff) Has(k int) bool { return d.Whole || d.Sectors[k/64]>>(k%64)&1 != 0 }

// Set marks sectors from..to-1.
func (d *Diff) Set(from, to int) {
	for k := from; k < to; k++ {
		d.Sectors[k/64] |= 1 << (k % 64)
		d.Since[k/64] |= 1 << (k % 64)
	}
}

// Begin notes that the chunk, as it is now, is about to become an object.
func (d *Diff) Begin() { d.Since = [2]uint64{} }

// End notes that the chunk, as it was at Begin, is its object. Whole is false, and was then: what
// differed from the object before is in the new one.
func (d *Diff) End() { d.Sectors = d.Since }

// Count returns how many sectors may differ.
func (d *Diff) Count() int {
	if d.Whole {
		return sectorsPerChunk
	}
	return bits.OnesCount64(d.Sectors[0]) + bits.OnesCount64(d.Sectors[1])
}

// differences are those of a mirror from the last cut, by chunk.
type differences struct {
	diffs     map[int]*Diff
	changed   int // how many of diffs are Changed
	stamp     uint64
	cutChunks int // how many chunks the last cut, or the tree of the next one, may have
}

func newDifferences() differences {
	return differences{diffs: make(map[int]*Diff), cutChunks: math.MaxInt}
}

// Changed reports whether a chunk changed since the last cut. A change of length
// alone does not count.
func (d *differences) Changed() bool { return d.changed > 0 }

// Diffs returns the indexes of chunks that differ from the last cut's objects, ascending.
func (d *differences) Diffs() []int { return slices.Sorted(maps.Keys(d.diffs)) }

// Diff returns chunk i's difference, nil if there is none. The caller may change
// it, but for Changed.
func (d *differences) Diff(i int) *Diff { return d.diffs[i] }

// TreeHas notes that the tree of a cut, which may not come to be saved, has so many chunks:
// those that are cut off, and come back, are not what it has for them.
func (d *differences) TreeHas(chunks int) { d.cutChunks = max(d.cutChunks, chunks) }

// NoteSaved notes how chunk i differs from the object that a saved cut names for
// it: not at all (same), or by what its Diff says. [Mirror.Cleared] must follow.
func (d *differences) NoteSaved(i int, same bool) {
	diff := d.diffs[i]
	if diff == nil {
		return
	}
	if diff.Changed {
		diff.Changed = false
		d.changed--
	}
	if same {
		delete(d.diffs, i)
	}
}

// add notes how a chunk differs that has changed.
func (d *differences) add(i int, diff *Diff) {
	d.diffs[i] = diff
	d.changed++
}

// of returns chunk i's difference, an empty one if there was none.
func (d *differences) of(i int) *Diff {
	if d.diffs[i] == nil {
		d.diffs[i] = new(Diff)
	}
	return d.diffs[i]
}

// change notes that chunk i is about to change, and returns its difference.
func (d *differences) change(i int) *Diff {
	diff := d.of(i)
	if !diff.Changed {
		diff.Changed = true
		d.changed++
	}
	d.stamp++
	diff.Stamp, diff.Hashed = d.stamp, false
	return diff
}

// appear notes that chunk i was added, of zeros.
func (d *differences) appear(i int) {
	d.stamp++
	d.add(i, &Diff{Changed: true, Whole: i < d.cutChunks, Stamp: d.stamp})
}

// forget notes that chunk i was cut off.
func (d *differences) forget(i int) {
	if diff := d.diffs[i]; diff != nil && diff.Changed {
		d.changed--
	}
	delete(d.diffs, i)
}
