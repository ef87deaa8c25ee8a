package compose

import (
	"context"

	"verneuil/manifest"
)

// Checkpoint returns m with a tree of its own, as a checkpoint has it, and the packs that were put
// for it. Its new leaves and nodes are durable on return (C2). It fails as the store does.
func (c *Composer) Checkpoint(
	ctx context.Context, m *manifest.Manifest,
) (*manifest.Manifest, []Put, error) {
	packed := *m
	p := c.packing(ctx, 0)
	err := p.putTree(m.Tree(c.o.Target.Sealer), &packed)
	if err = p.end(err); err != nil {
		return nil, nil, err
	}
	return &packed, p.put.all, nil
}

// Rebase returns newest, which came of m, as it comes of packed, which Checkpoint has made of m:
// the same version, with fewer patches (C5). If newest has a tree of its own meanwhile, it returns
// newest.
func Rebase(m, packed, newest *manifest.Manifest) *manifest.Manifest {
	if moved, ok := newest.Rebase(m, packed); ok {
		return moved
	}
	return newest
}
