package compose

import (
	"cmp"
	"maps"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// Draft is a version on its way into the log, and how it comes of another one, its base. It does
// not change.
type Draft struct {
	// Version is the version, without a position. What it names is durable.
	Version *manifest.Manifest
	// Whole says that Version has a tree of its own: the step to it is a whole version.
	Whole bool
	// Changed are the chunks whose object has changed since the base, ascending.
	Changed []manifest.Patch
	// Shortest is the least number of chunks since the base.
	Shortest int
	// Chunks are the plain bytes of new objects of Changed, by chunk. Some, or all, may be missing.
	Chunks map[int][]byte
	// Packs are what was put for Version (C8), or was there.
	Packs []Put
}

// Put is a pack that was put. Pack is nil if it was not kept.
type Put struct {
	Name chunkstore.Digest
	Pack *chunkstore.Pack
}

// Step returns what leads from base, d's base, to d's version: the record has it. To encode it
// fails with [manifest.ErrTooLong] if drafts were joined of which fewer should have been.
func (d *Draft) Step(base *manifest.Manifest) *manifest.Step {
	return d.stepTo(base, d.Version)
}

func (d *Draft) stepTo(base, next *manifest.Manifest) *manifest.Step {
	if d.Whole {
		return next.WholeStep()
	}
	return base.StepTo(next, d.Changed, d.Shortest)
}

// describe makes next d's version, which comes after base.
func (d *Draft) describe(base, next *manifest.Manifest) (err error) {
	d.Version, err = base.Apply(d.stepTo(base, next)) // C3
	return err
}

// Join returns the draft of b's version that has a's base, where a's version is b's base (C4). One
// that is nil is none. It shares memory with both.
func Join(a, b *Draft) *Draft {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	d := &Draft{
		Version: b.Version, Whole: a.Whole || b.Whole, Shortest: min(a.Shortest, b.Shortest),
		Chunks: make(map[int][]byte), Packs: slices.Concat(a.Packs, b.Packs),
	}
	rest := b.Changed
	for _, p := range a.Changed {
		for len(rest) > 0 && rest[0].Index < p.Index {
			d.Changed, rest = append(d.Changed, rest[0]), rest[1:]
		}
		if p.Index >= b.Shortest || len(rest) > 0 && rest[0].Index == p.Index {
			continue
		}
		d.Changed = append(d.Changed, p)
		if chunk, ok := a.Chunks[p.Index]; ok {
			d.Chunks[p.Index] = chunk
		}
	}
	d.Changed = slices.Concat(d.Changed, rest)
	maps.Copy(d.Chunks, b.Chunks)
	if len(d.Chunks) > chunksKept {
		d.Chunks = nil
	}
	return d
}
