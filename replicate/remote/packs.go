package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
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
)

// named are the packs that this process has put, and that were named since they were last looked
// for. Where a store was put back after a pack was put, and before the record was appended that
// names it, that record stands in the log, and the pack is gone. It is guarded by database.mu.
type named struct {
	packs []compose.Put
	kept  int64 // bytes
}

// add notes that packs were named, or may have been. It is called with mu.
func (n *named) add(packs ...compose.Put) {
	for _, p := range packs {
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
	packs := n.take()
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
	return cmp.Or(gone, failed)
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
