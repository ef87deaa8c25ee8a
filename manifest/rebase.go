package manifest

import (
	"slices"

	"verneuil/chunkstore"
)

// Rebase returns the version as steps from to make it, where m is what steps from from make, and to
// has the same content as from, with a tree of its own. What it returns has m's content. It goes by
// the contents alone: ok is false if m is not described over the same top as from, or in a way that
// steps from it cannot lead to. It shares memory with m and to, and neither changes.
func (m *Manifest) Rebase(from, to *Manifest) (moved *Manifest, ok bool) {
	was, is := from.extent(), m.extent()
	if to.Earlier != nil || to.Chunks() != from.Chunks() || !m.SharesTop(from) ||
		is.Valid > was.Valid {
		return nil, false
	}
	n := *m
	n.Levels, n.Top = to.Levels, to.Top
	e := Extent{to.Chunks(), min(to.Chunks(), m.Chunks())}
	if is.Valid < was.Valid { // from here on all is zeros, but for patches
		e.Valid = is.Valid
	}
	// Chunks before e.Valid are what to has, but for these.
	var differ []Patch
	old, fresh := from.Patches, m.Patches
	for len(old) > 0 || len(fresh) > 0 {
		switch {
		case len(fresh) == 0 || len(old) > 0 && old[0].Index < fresh[0].Index:
			if old[0].Index < is.Valid {
				return nil, false // a patch is never taken back
			}
			if old[0].Index < e.Valid {
				differ = append(differ, Patch{old[0].Index, zeroRef})
			}
			old = old[1:]
		default:
			same := len(old) > 0 && old[0] == fresh[0]
			if !same || fresh[0].Index >= e.Valid {
				differ = append(differ, fresh[0])
			}
			if len(old) > 0 && old[0].Index == fresh[0].Index {
				old = old[1:]
			}
			fresh = fresh[1:]
		}
	}
	at, _ := findPatch(to.Patches, e.Valid)
	n.Patches, n.Earlier = merge(slices.Clip(to.Patches[:at]), differ), &e
	if n.packed() {
		n.Earlier = nil
	}
	return &n, n.validate() == nil
}

// SharesTop reports whether m and other are described over the same top: then what either has for a
// chunk is the same if [Manifest.Described] says so of both.
func (m *Manifest) SharesTop(other *Manifest) bool {
	return m.Levels == other.Levels && m.extent().Chunks == other.extent().Chunks &&
		slices.Equal(m.Top, other.Top)
}

// Described returns how m describes chunk i: the Ref that it has in a patch, or as void, and ok; or
// that the top knows.
func (m *Manifest) Described(i int) (ref chunkstore.Ref, ok bool) {
	if k, found := findPatch(m.Patches, i); found {
		return m.Patches[k].Ref, true
	}
	if i >= m.extent().Valid {
		return zeroRef, true
	}
	return chunkstore.Ref{}, false
}
