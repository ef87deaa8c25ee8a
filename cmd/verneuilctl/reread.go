package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/replicate/mirror"
	"verneuil/replicate/upkeep"
	"verneuil/spool"
)

// readRounds bounds how often targets are read, and what is damaged is put again: what is damaged
// then is so by something that goes on.
const readRounds = 3

// rereading is sync --read: all that targets have of one database is read. A pack that is damaged
// is put again as it was, if what stood in it is known: that is right for all versions, whoever
// replicates meanwhile. What else the newest version needs is put again by whoever replicates it.
type rereading struct {
	*session
	path, key string
	asJSON    bool
	verifiers []*upkeep.Verifier // of the targets

	faults int             // of the newest version
	packs  int             // that were put again as they were
	denied bool            // one could have been, and a policy denies replacing it
	lost   []string        // what versions before the newest lack
	olds   map[string]bool // those, with their targets
	local  []*localChunks  // of files that are here, while packs are mended
}

func (r *rereading) run(ctx context.Context) error {
	bar := &progress{}
	defer bar.end()
	for _, t := range r.store.Targets {
		r.verifiers = append(r.verifiers, upkeep.NewVerifier(t, upkeep.VerifyOptions{
			Read: true, Concurrency: r.config.DownloadConcurrency(),
			Progress: func(done, total int64) { bar.set("read", done, total) },
		}))
	}
	damage, faults, err := r.read(ctx)
	if err == nil {
		err = r.past(ctx)
	}
	bar.end()
	if err != nil {
		return err
	}
	r.faults = len(faults)
	for _, fault := range faults {
		r.say("fault", fault.Error())
	}
	if err := r.mend(ctx); err != nil {
		return err
	}
	for round := 1; len(damage) > 0; round++ {
		if damage, faults, err = r.read(ctx); err != nil {
			return err
		}
		if len(damage) > 0 && round == readRounds {
			return fmt.Errorf("%w (and %d more); it was put again: if another process "+
				"replicates the database, is it of this version of verneuil?", faults[0],
				len(faults)-1)
		}
		if len(damage) > 0 {
			if _, err := syncOnce(ctx, r.session, r.path, damage); err != nil {
				return fmt.Errorf("put again what is damaged: %w", err)
			}
		}
	}
	if r.faults > 0 || len(r.lost) > 0 {
		err = r.past(ctx)
	}
	for _, text := range r.lost {
		r.say("lost", text)
	}
	return err
}

// read returns what is damaged, or gone, of the newest version in each target.
func (r *rereading) read(ctx context.Context) (
	damage map[int]replicate.Damage, faults []error, err error,
) {
	damage = make(map[int]replicate.Damage)
	for k, t := range r.store.Targets {
		v := r.verifiers[k]
		v.Again() // others may put it again
		m, err := v.Named(ctx, r.key)
		switch {
		case chunkstore.IsFault(err):
			damage[k] = replicate.Damage{Version: err.Error()}
			faults = append(faults, fmt.Errorf("%s: %w", t.Name, err))
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		found, err := v.Verify(ctx, m)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, fault := range found {
			faults = append(faults, fmt.Errorf("%s: %w", t.Name, fault))
		}
		var packs []string
		for _, name := range v.Bad() {
			packs = append(packs, name.String())
		}
		if len(packs) > 0 {
			damage[k] = replicate.Damage{Packs: packs}
		}
	}
	return damage, faults, nil
}

// past finds out which versions before the newest cannot be restored.
func (r *rereading) past(ctx context.Context) error {
	r.lost, r.olds = nil, make(map[string]bool)
	for k, t := range r.store.Targets {
		faults, all, err := r.verifiers[k].VerifyPast(ctx, r.key)
		if errors.Is(err, chunkstore.ErrDenied) {
			r.log.Warn("older versions are not read: they may not be listed", "target", t.Name,
				"error", err)
			continue
		} else if err != nil {
			return fmt.Errorf("%s: read older versions: %w", t.Name, err)
		}
		r.log.Info("older versions were read", "target", t.Name, "versions", all)
		for _, f := range faults {
			of := ""
			if !f.Time.IsZero() {
				of = " of " + f.Time.UTC().Format(time.RFC3339)
			}
			r.olds[t.Name+" "+f.Version] = true
			r.lost = append(r.lost, fmt.Sprintf("%s: version %s%s cannot be restored: %v (%s)",
				t.Name, f.Version, of, f.Err, f.Key))
		}
	}
	return nil
}

// mend puts packs again as they were, as far as what stood in them is known.
func (r *rereading) mend(ctx context.Context) error {
	defer func() {
		for _, l := range r.local {
			l.close()
		}
		r.local = nil
	}()
	for k, t := range r.store.Targets {
		v := r.verifiers[k]
		twins := slices.Delete(slices.Clone(r.store.Targets), k, k+1)
		for _, name := range v.Bad() {
			err := chunkstore.MendPack(ctx, t, name, chunkstore.Remains{
				Known: v.Known(name), Twins: twins, Plain: r.plain,
			})
			switch {
			case err == nil:
				r.packs++
				r.log.Info("a damaged pack is put again as it was", "target", t.Name,
					"pack", name)
			case chunkstore.IsFault(err), errors.Is(err, chunkstore.ErrDenied):
				r.denied = r.denied || errors.Is(err, chunkstore.ErrDenied)
				r.log.Info("a damaged pack cannot be put again as it was", "target", t.Name,
					"pack", name, "error", err)
			default:
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		v.Again()
	}
	return nil
}

// plain returns the plain bytes of an object, if a chunk of the database or of its mirror has them.
// No lock is needed: whatever is written meanwhile, bytes of that ID are the right ones.
func (r *rereading) plain(ctx context.Context, id chunkstore.ID) []byte {
	copied := filepath.Join(spool.Dir(r.config.ReplicationSpoolingDir, r.path), "mirror")
	for k, name := range []string{r.path, copied} {
		if k == len(r.local) {
			r.local = append(r.local, chunksOf(ctx, r.store.Sealer(), name))
		}
		if b := r.local[k].get(id); b != nil {
			return b
		}
	}
	return nil
}

// localChunks is what chunks a file has.
type localChunks struct {
	f      *mirror.SourceFile      // nil: it cannot be read
	chunks map[chunkstore.ID]int64 // their numbers
}

// chunksOf finds out what chunks a file has; one that cannot be read has none.
func chunksOf(ctx context.Context, s chunkstore.Sealer, name string) *localChunks {
	f, err := mirror.OpenSourceFile(name)
	if err != nil {
		return new(localChunks)
	}
	l := &localChunks{f, make(map[chunkstore.ID]int64)}
	buf := make([]byte, chunkstore.ChunkBytes)
	for i := int64(0); ctx.Err() == nil; i++ {
		n, err := f.ReadAt(buf, i*chunkstore.ChunkBytes)
		if n > 0 {
			l.chunks[chunkstore.Hash(s, buf[:n]).ID()] = i
		}
		if err != nil {
			break
		}
	}
	return l
}

// get returns what may be the object's plain bytes; nil: the file has not got them.
func (l *localChunks) get(id chunkstore.ID) []byte {
	i, ok := l.chunks[id]
	if !ok {
		return nil
	}
	buf := make([]byte, chunkstore.ChunkBytes)
	n, err := l.f.ReadAt(buf, i*chunkstore.ChunkBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return buf[:n]
}

func (l *localChunks) close() {
	if l.f != nil {
		l.f.Close()
	}
}

func (r *rereading) say(kind, text string) {
	if r.asJSON {
		_ = printJSON(map[string]any{kind: text})
		return // what was done is printed, or fails, in the same way
	}
	fmt.Println(oneLine(text))
}

// err fails if versions before the newest are not whole.
func (r *rereading) err() error {
	if len(r.olds) == 0 {
		return nil
	}
	why := "that is nowhere else"
	if r.denied {
		why = "and a policy denies replacing it: run it again with credentials that may"
	}
	return fmt.Errorf("the newest version is whole, but of %d older ones something is damaged or "+
		"gone, %s; restore --version-id of one of them, or --at a time at which it is the newest, "+
		"fails", len(r.olds), why)
}
