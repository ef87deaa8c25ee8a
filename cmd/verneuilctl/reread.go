package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/replicate/upkeep"
)

// readRounds bounds how often targets are read, and what is damaged is put again: what is damaged
// then is so by something that goes on.
const readRounds = 3

// rereading is sync --read: all that targets have of one database is read, and what is damaged of
// its newest version is put again by whoever replicates it.
type rereading struct {
	*session
	path, key string
	asJSON    bool
	verifiers []*upkeep.Verifier // of the targets

	mended   int             // faults
	versions map[string]bool // that are not whole, with their targets
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
	for round := 1; ; round++ {
		damage, faults, err := r.read(ctx)
		bar.end()
		switch {
		case err != nil:
			return err
		case len(damage) == 0:
			return r.past(ctx)
		case round == readRounds:
			return fmt.Errorf("%w (and %d more); it was put again %d times: if another process "+
				"replicates the database, is it of this version of verneuil?", faults[0],
				len(faults)-1, round-1)
		case round == 1:
			r.mended = len(faults)
			for _, fault := range faults {
				r.say("fault", fault.Error())
			}
		}
		if _, err := syncOnce(ctx, r.session, r.path, damage); err != nil {
			return fmt.Errorf("put again what is damaged: %w", err)
		}
	}
}

// read returns what is damaged, or gone, of the newest version in each target.
func (r *rereading) read(ctx context.Context) (
	damage map[int]replicate.Damage, faults []error, err error,
) {
	damage = make(map[int]replicate.Damage)
	for k, t := range r.store.Targets {
		v := r.verifiers[k]
		v.Again()
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

// past says which versions before the newest cannot be restored any more.
func (r *rereading) past(ctx context.Context) error {
	r.versions = make(map[string]bool)
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
			r.versions[t.Name+" "+f.Version] = true
			of := ""
			if !f.Time.IsZero() {
				of = " of " + f.Time.UTC().Format(time.RFC3339)
			}
			r.say("lost", fmt.Sprintf("%s: version %s%s cannot be restored: %v", t.Name, f.Version,
				of, f.Err))
		}
	}
	return nil
}

func (r *rereading) say(kind, text string) {
	if r.asJSON {
		_ = printJSON(map[string]any{kind: text})
		return // what was done is printed, or fails, in the same way
	}
	fmt.Println(oneLine(text))
}

// lost fails if versions before the newest are not whole.
func (r *rereading) lost() error {
	if len(r.versions) == 0 {
		return nil
	}
	return fmt.Errorf("the newest version is whole, but of %d older ones something is damaged or "+
		"gone that the database does not have any more: restore --version-id, or --at a time at "+
		"which one of them is the newest, fails; gc deletes nothing while it cannot read one",
		len(r.versions))
}
