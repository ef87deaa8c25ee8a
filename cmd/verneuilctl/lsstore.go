package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"verneuil/replicate/locate"
	"verneuil/replicate/proof"
	"verneuil/replicate/remote"
	"verneuil/replicate/upkeep"
)

// lister is a run of ls of a store that databases live in.
type lister struct {
	*session
	o     lsFlags
	all   []*living
	dedup *dedup
}

// living is what is printed about one database.
type living struct {
	locate.Holding
	hold   *remote.Hold   // nil: err says why
	proof  *proof.Proof   // nil: none is known
	weight *upkeep.Weight // nil: that was not asked, or err says why
	err    error
}

// lsStore lists the databases that live in the store of that name, as far as they can be read.
func lsStore(ctx context.Context, g *global, name string, o lsFlags) error {
	s, err := g.openNamed(ctx, name)
	if err != nil {
		return err
	}
	defer s.Close()
	l := &lister{session: s, o: o, dedup: newDedup(s.store.Targets[0], o.dedup)}
	failed := []error{l.look(ctx), l.weigh(ctx)}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, d := range l.all {
		if d.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", d.Path, d.err))
		}
	}
	if err := errors.Join(l.print(), l.dedup.print(o.asJSON)); err != nil {
		return err
	}
	if err := errors.Join(failed...); err != nil || len(l.all) > 0 || o.allowEmpty {
		return err
	}
	if o.path != "" {
		name += " at " + o.path
	}
	return fmt.Errorf("no database lives in the store %s (if that is right, give --allow-empty)",
		name)
}

// storeOf returns the store that an argument of ls names: file:///STORE.
func storeOf(argument string) (name string, ok bool) {
	name, ok = strings.CutPrefix(argument, "file:///")
	name = strings.TrimSuffix(name, "/")
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// look finds the databases, and who holds them.
func (l *lister) look(ctx context.Context) error {
	t := l.store.Targets[0]
	err := locate.Holdings(ctx, t, "", func(h locate.Holding) bool {
		if h.Host == "" && (l.o.path == "" || !h.Whole || h.Path == l.o.path) {
			l.all = append(l.all, &living{Holding: h})
		}
		return true
	})
	var group errgroup.Group
	group.SetLimit(32)
	for _, d := range l.all {
		group.Go(func() error {
			if d.hold, d.err = remote.Inspect(ctx, t, d.Key); d.err == nil {
				d.Path = d.hold.Version.Path // its key may not have all of it
			}
			d.proof = lastProof(ctx, t, d.Key)
			return nil
		})
	}
	_ = group.Wait() // each keeps its own
	l.all = slices.DeleteFunc(l.all, func(d *living) bool {
		return d.hold != nil && (d.hold.Version.Host != "" || l.o.path != "" && d.Path != l.o.path)
	})
	slices.SortFunc(l.all, func(a, b *living) int { return cmp.Compare(a.Path, b.Path) })
	return err
}

// weigh finds out what deduplication saves, if that was asked.
func (l *lister) weigh(ctx context.Context) error {
	for _, d := range l.all {
		if d.err == nil {
			d.weight, d.err = l.dedup.weigh(ctx, d.Key)
		}
	}
	return l.dedup.finish(ctx)
}

func (l *lister) print() error {
	if l.o.asJSON {
		for _, d := range l.all {
			if err := printJSON(l.json(d)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(l.all) == 0 {
		return nil
	}
	out := newTable(false)
	out.row("", append([]string{"PATH", "SIZE", "NEWEST", "PROVEN", "HELD BY"},
		weightHeads(l.o.dedup)...)...)
	for _, d := range l.all {
		path, size, newest, by := d.Path, unknown(d.err), humanize.Time(d.Stored), "?"
		if d.hold != nil {
			size, by = humanBytes(d.hold.Version.FileBytes), holder(d.hold)
			if quiet := l.quiet(d.hold); quiet > 0 {
				by += fmt.Sprintf(", but no sign of life since %s", quiet)
			}
			if !d.hold.Appended.IsZero() {
				newest = humanize.Time(d.hold.Appended)
			}
		} else if !d.Whole {
			path += "…"
		}
		out.row("", append([]string{path, size, newest, proven(d.proof), by},
			weightCells(l.o.dedup, d.weight)...)...)
	}
	return out.Flush()
}

// json is what ls --json prints of d.
func (l *lister) json(d *living) map[string]any {
	a := locate.Address{Store: l.name, Path: d.Path}
	if d.hold == nil {
		return map[string]any{"database": a.String(), "store": a.Store, "path": a.Path,
			"manifest": d.Key, "error": d.err.Error()}
	}
	line := inStore{l.session, a}.json(d.hold)
	if d.proof != nil {
		line["proven"] = d.proof.Time
	}
	line["manifest"], line["file_bytes"] = d.Key, d.hold.Version.FileBytes
	line["time"], line["sequence"] = d.hold.Version.Time.UTC(), d.hold.Version.Sequence
	if d.weight != nil {
		line["dedup"] = d.weight
	}
	if d.err != nil {
		line["error"] = d.err.Error()
	}
	return line
}
