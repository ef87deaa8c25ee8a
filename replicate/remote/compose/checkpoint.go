package compose

import (
	"context"

	"verneuil/manifest"
)

// Checkpoint returns m with a tree of its own, as a checkpoint has it. Its new leaves and nodes are
// durable on return (C2). fetch gets those of m's tree that it has to read; nil: [Options].Fetch
// does. It fails as fetch and the target do.
func (c *Composer) Checkpoint(
	ctx context.Context, m *manifest.Manifest, fetch manifest.Fetch,
) (*manifest.Manifest, error) {
	packed := *m
	p := c.packing(ctx)
	err := p.putTree(m.Tree(c.o.Target.Sealer), &packed, fetch)
	if err = p.end(err); err != nil {
		return nil, err
	}
	return &packed, nil
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
