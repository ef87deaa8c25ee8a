package publishtest

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
)

// Records makes the versions that are published from now on records of a history, which the first
// of them begins anew.
func (p *Publisher) Records() { p.records, p.history = true, nil }

// Key is that of the database's manifest.
func (p *Publisher) Key() string {
	return manifest.Name(p.Target.Sealer, p.Newest.Host, p.Newest.Path)
}

// Histories is where the database's histories are.
func (p *Publisher) Histories() history.Store { return versions.NewStore(p.Target, p.Key()) }

// append makes m, whose tree p has, a record, or the beginning of a history.
func (p *Publisher) append(m *manifest.Manifest) {
	p.t.Helper()
	if p.history == nil {
		p.begin(m)
		return
	}
	m.At = history.Position{}
	var changed []manifest.Patch
	for _, i := range slices.Sorted(maps.Keys(p.changed)) {
		if i < p.tree.Len() {
			changed = append(changed, manifest.Patch{Index: i, Ref: p.tree.At(i)})
		}
	}
	step := p.Newest.StepTo(m, changed, m.Chunks())
	body, err := step.Encode()
	p.must(err)
	p.must(p.history.Take(context.Background(), nil))
	p.must(p.history.Append(context.Background(), body, false))
	next, err := p.Newest.Apply(step)
	p.must(err)
	next.At = p.history.At()
	p.Newest = *next
}

// begin makes m the first version of a history, and keeps it.
func (p *Publisher) begin(m *manifest.Manifest) {
	p.t.Helper()
	var lineage [16]byte
	rand.Read(lineage[:])
	m.At = history.Position{Lineage: lineage, Released: true}
	body := p.describe(m)
	p.must(versions.Keep(context.Background(), p.Target, p.Key(), m.At, body))
	etag := ""
	o, err := p.Target.Manifests.Stat(context.Background(), p.Key())
	if err == nil {
		etag = o.ETag
	}
	r, err := history.Create(context.Background(), p.Histories(), versions.Options(), lineage,
		body, etag)
	p.must(err)
	p.history = history.NewWriter(r)
	p.Newest = *m
}

// describe packs the tree, and encodes m with it.
func (p *Publisher) describe(m *manifest.Manifest) []byte {
	p.t.Helper()
	p.tree.Near = p.Near
	var err error
	m.Levels, m.Top, m.Patches, err = p.tree.Pack(context.Background(), 3, nil, p.putAll)
	p.must(err)
	m.Earlier = nil
	body, err := m.Encode(p.Target.Sealer)
	p.must(err)
	return body
}

// Checkpoint makes the newest version the newest checkpoint, and keeps it if keep.
func (p *Publisher) Checkpoint(keep bool) {
	p.t.Helper()
	body := p.describe(&p.Newest)
	if keep {
		at := p.Newest.At
		p.must(versions.Keep(context.Background(), p.Target, p.Key(), at, body))
	}
	p.must(p.history.Checkpoint(context.Background(), body))
}

// Trim removes the records below before.
func (p *Publisher) Trim(before uint64) {
	p.t.Helper()
	p.must(p.history.Trim(context.Background(), before))
}

// TakeOver makes another writer the owner of the history, who says what body holds.
func (p *Publisher) TakeOver(body []byte) {
	p.t.Helper()
	f, err := versions.OpenNewest(context.Background(), p.Target, p.Key())
	p.must(err)
	p.history = history.NewWriter(f.Reader())
	p.must(p.history.Take(context.Background(), body))
	p.Newest.At = p.history.At()
}

// ID is that of the newest version, if it is in a history.
func (p *Publisher) ID() versions.ID { return versions.IDOf(p.Newest.At) }

// Ref returns where the newest version has chunk i.
func (p *Publisher) Ref(i int) chunkstore.Ref { return p.tree.At(i) }

func (p *Publisher) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}
