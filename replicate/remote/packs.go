package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
)

const (
	// packKeep is how many bytes of the packs of one version are kept, until it is named.
	packKeep = 8 << 20
	// namedKeep is how many bytes of packs that were named are kept, until they are looked for.
	namedKeep = 16 << 20
	// namedAtOnce is how many are looked for at once.
	namedAtOnce = 8
	// knownMax bounds how many packs it is noted of that they need not be looked for.
	knownMax = 4096
	// goneMax is how many are told of that are lost.
	goneMax = 16
)

// named are the packs that this process has put, and that were named since they were last looked
// for. Where a store was put back after a pack was put, and before the record was appended that
// names it, that record stands in the log, and the pack is gone. It is guarded by database.mu.
type named struct {
	packs []compose.Put
	kept  int64 // bytes

	// heirs are packs that others have put, and that the newest version names by itself: who has
	// put them may have died before he looked for them.
	heirs []chunkstore.Digest
	known map[chunkstore.Digest]bool // those that were looked for, or are to be
	gone  []chunkstore.Digest        // heirs that are lost
}

// inherit has those packs looked for that m names, the version of which this process is to make the
// next one. It is called with mu.
func (n *named) inherit(m *manifest.Manifest) {
	before := n.known
	n.known = make(map[chunkstore.Digest]bool)
	for pack := range namedBy(m) {
		if n.known[pack] || len(n.known) == knownMax {
			continue
		}
		if n.known[pack] = true; !before[pack] {
			n.heirs = append(n.heirs, pack)
		}
	}
	n.heirs = n.heirs[:min(len(n.heirs), knownMax)]
}

// namedBy yields the packs that m names by itself, some of them more than once: those that records
// have named since the checkpoint, then those that have the top of its tree.
func namedBy(m *manifest.Manifest) iter.Seq[chunkstore.Digest] {
	return func(yield func(chunkstore.Digest) bool) {
		for _, p := range m.Patches {
			if p.ID != chunkstore.ZeroID && !yield(p.Place.Pack) {
				return
			}
		}
		for _, ref := range m.Top {
			if ref.ID != chunkstore.ZeroID && !yield(ref.Place.Pack) {
				return
			}
		}
	}
}

// add notes that packs were named, or may have been. It is called with mu.
func (n *named) add(packs ...compose.Put) {
	for _, p := range packs {
		if n.known == nil || len(n.known) >= knownMax {
			n.known = make(map[chunkstore.Digest]bool)
		}
		n.known[p.Name] = true
		if p.Pack != nil {
			if bytes := p.Pack.StoredBytes(); n.kept+bytes <= namedKeep {
				n.kept += bytes
			} else {
				p.Pack = nil
			}
		}
		n.packs = append(n.packs, p)
	}
}

// take returns the packs that are to be looked for. It is called with mu.
func (n *named) take() []compose.Put {
	packs := n.packs
	n.packs, n.kept = nil, 0
	return packs
}

// mend looks for packs that were named, and puts those again that are gone. It fails with
// [history.ErrLost] if one was not kept.
func (n *named) mend(ctx context.Context, d *database) error {
	if d.set.broken.looksNever || d.set.broken.mendsNothing {
		return nil
	}
	d.mu.Lock()
	packs, heirs := n.take(), append(n.heirs, n.gone...)
	n.heirs = nil
	d.mu.Unlock()
	var gone, failed error
	var group errgroup.Group
	group.SetLimit(namedAtOnce)
	for _, p := range packs {
		group.Go(func() error {
			err := mendPack(ctx, d, p)
			d.mu.Lock()
			defer d.mu.Unlock()
			switch {
			case errors.Is(err, history.ErrLost):
				gone = err
			case err != nil:
				failed = err
				n.add(p)
			}
			return nil
		})
	}
	group.Wait()
	if missing := n.missing(ctx, d, heirs); len(missing) > 0 {
		d.set.run("look for packs again", d, func(ctx context.Context) {
			// Who has put them, and lives, looks by then, and puts them again.
			if rest(ctx, d.set.o.LeaseTimeout) {
				n.tell(d, n.missing(ctx, d, missing))
			}
		})
	}
	return cmp.Or(gone, failed)
}

// missing returns which of those packs of others are not there, and notes of those that are that
// they are not lost.
func (n *named) missing(
	ctx context.Context, d *database, packs []chunkstore.Digest,
) (missing []chunkstore.Digest) {
	var group errgroup.Group
	group.SetLimit(namedAtOnce)
	for _, pack := range packs {
		group.Go(func() error {
			_, err := d.shop.t.Chunks.Stat(ctx, pack.String())
			d.mu.Lock()
			defer d.mu.Unlock()
			switch {
			case errors.Is(err, chunkstore.ErrAbsent):
				if !slices.Contains(n.gone, pack) {
					missing = append(missing, pack)
				}
			case err != nil:
				delete(n.known, pack) // who takes the history next looks for it
			default:
				n.gone = slices.DeleteFunc(n.gone,
					func(g chunkstore.Digest) bool { return g == pack })
			}
			return nil
		})
	}
	group.Wait()
	return missing
}

// tell tells of packs that are lost. This process can do nothing about them, and goes on.
func (n *named) tell(d *database, packs []chunkstore.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, pack := range packs {
		if len(n.gone) < goneMax {
			n.gone = append(n.gone, pack)
		}
		d.log.Error("the store has lost a pack: "+remedy, "pack", pack)
	}
}

// remedy is what to do about a pack that is gone, and of which nobody has a copy.
const remedy = "what stands in it cannot be read, unless a machine has it in its cache. " +
	"verneuilctl verify tells what that is; verneuilctl import with --version-id and --replace " +
	"makes an older version the newest again"

// tellOf tells of the packs that m names by itself, and that are not there.
func (n *named) tellOf(ctx context.Context, d *database, m *manifest.Manifest) {
	packs := make(map[chunkstore.Digest]bool)
	for pack := range namedBy(m) {
		packs[pack] = true
	}
	n.tell(d, n.missing(ctx, d, slices.Collect(maps.Keys(packs))))
}

// lost is nil, or says which packs are gone. It is called with mu.
func (n *named) lost() error {
	if len(n.gone) == 0 {
		return nil
	}
	return fmt.Errorf("the store has lost the pack %v, and %d more: %s", n.gone[0],
		len(n.gone)-1, remedy)
}

// mendPack is mend of one pack.
func mendPack(ctx context.Context, d *database, p compose.Put) error {
	_, err := d.shop.t.Chunks.Stat(ctx, p.Name.String())
	if !errors.Is(err, chunkstore.ErrAbsent) {
		return err
	} else if p.Pack == nil {
		return packLost(p.Name)
	}
	// After an error a connection may read what was put, while it is put again.
	if _, _, err := d.shop.t.PutPack(ctx, p.Pack.Clone()); err != nil {
		return err
	}
	d.log.Warn("the store was put back to an older copy, without a pack that is named since: it "+
		"was put again", "pack", p.Name)
	return nil
}

// packLost is the error of a pack that is gone, and was not kept. It is a [history.ErrLost].
type packLost chunkstore.Digest

func (e packLost) Error() string {
	return fmt.Sprintf("it has lost the pack %v, which a record names, and of which this process "+
		"has no copy: some of the database cannot be read", chunkstore.Digest(e))
}

// Is makes it an ErrLost.
func (packLost) Is(target error) bool { return errors.Is(history.ErrLost, target) }
