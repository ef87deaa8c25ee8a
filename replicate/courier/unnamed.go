package courier

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"verneuil/chunkstore"
)

// touchAfter is how old a pack may get that no version names yet, before it is touched. Who
// collects garbage spares it for 49 hours. What the journal of puts has may be a day older.
const touchAfter = 20 * time.Hour

// unnamed is the packs that were put, and that no version names yet, as an upload may take long.
type unnamed struct {
	packs []aged
	gone  map[chunkstore.Digest]bool // that were found to be
}

// aged is a pack that was put, or touched, at that time, or is known since.
type aged struct {
	name chunkstore.Digest
	at   time.Time
}

// add notes the packs in which refs stand, those of a pack together.
func (u *unnamed) add(refs []chunkstore.Ref, at time.Time) {
	for k, ref := range refs {
		if k == 0 || refs[k-1].Place.Pack != ref.Place.Pack {
			u.packs = append(u.packs, aged{ref.Place.Pack, at})
		}
	}
}

// old takes those away that are to be touched.
func (u *unnamed) old(now time.Time) (old []aged) {
	u.packs = slices.DeleteFunc(u.packs, func(a aged) bool {
		is := now.Sub(a.at) >= touchAfter
		if is {
			old = append(old, a)
		}
		return is
	})
	return old
}

// keep has what was put before, and is known since then, touched with what is put now.
func (u *uploads) keep(put map[chunkstore.ID]chunkstore.Place, since time.Time) {
	packs := make(map[chunkstore.Digest]bool)
	for _, place := range put {
		packs[place.Pack] = true
	}
	for name := range packs {
		u.unnamed.packs = append(u.unnamed.packs, aged{name, since})
	}
}

// touch touches the packs that have become old. It fails if one cannot be touched, which is old
// still then; one that is gone is not durable, and has the upload fail.
func (u *uploads) touch() (failed error) {
	u.mu.Lock()
	old := u.unnamed.old(u.now())
	u.mu.Unlock()
	for _, a := range old {
		release, err := u.t.Slot(u.ctx)
		began := u.now() // it is as young as that, however long the request takes
		if err == nil {
			u.calls.Add(1)
			err = chunkstore.RenewPack(u.ctx, u.t, a.name)
			release()
		}
		u.mu.Lock()
		switch {
		case err == nil:
			u.unnamed.packs = append(u.unnamed.packs, aged{a.name, began})
		case chunkstore.IsFault(err):
			u.lose(a.name)
		default:
			u.unnamed.packs = append(u.unnamed.packs, a)
			failed = fmt.Errorf("keep what was put: %w", err)
		}
		u.mu.Unlock()
	}
	return failed
}

// lose notes that a pack is gone. The caller holds mu.
func (u *uploads) lose(name chunkstore.Digest) {
	note(&u.unnamed.gone, name)
	maps.DeleteFunc(u.durable, func(_ chunkstore.ID, p chunkstore.Place) bool {
		return p.Pack == name
	})
	u.err = fmt.Errorf("pack %v is gone, which was put, and which no version names yet", name)
	if err := u.journal.Remove(); err != nil {
		u.warn(err)
	}
}

// unput forgets packs that were put, and are gone. It returns the chunks that miss their objects
// now.
func (s *stock) unput(gone map[chunkstore.Digest]bool) (chunks []int) {
	s.forget(gone)
	for i, ref := range s.moved {
		if gone[ref.Place.Pack] {
			delete(s.moved, i)
			s.missing[i] = ref.ID
			chunks = append(chunks, i)
		}
	}
	return chunks
}
