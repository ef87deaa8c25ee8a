package upkeep

import (
	"context"
	"fmt"
	"time"

	"verneuil/chunkstore"
)

// pins are those of packs that their writers could not make young.
type pins struct {
	c  *collection
	at map[chunkstore.Digest]time.Time // when a pack was pinned last
}

// list finds out which packs are pinned, and since when, and shows each pin.
func (p *pins) list(ctx context.Context, show func(pin chunkstore.Object)) error {
	at := make(map[chunkstore.Digest]time.Time)
	err := p.c.chunks.List(ctx, chunkstore.PinKeyPrefix, func(o chunkstore.Object) bool {
		if name, ok := chunkstore.ParsePin(o.Key); ok {
			at[name] = later(at[name], o.Modified)
			show(o)
		}
		return ctx.Err() == nil
	})
	if err = orEnded(ctx, err); err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	p.at = at
	return nil
}

// listAll is list, and has those go with the leases that are old.
func (p *pins) listAll(ctx context.Context) error {
	l := &p.c.leases
	return p.list(ctx, func(pin chunkstore.Object) {
		if !p.c.young(pin.Modified) {
			l.gone = append(l.gone, pin)
			p.c.found.Leases.add(pin.Bytes)
		}
	})
}
