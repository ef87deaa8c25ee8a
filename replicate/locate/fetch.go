package locate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

// Found is a version that a [Locator] has found. It does not change.
type Found struct {
	// Manifest is the version, records folded in.
	Manifest *manifest.Manifest
	// From is the target that has it, and what it names: another target may have the same version
	// in other packs. nil: the source is one object, which does not say where the packs are.
	From *chunkstore.Target
	// Bytes is how much of manifests and records was read for it, by this call.
	Bytes int64
	// More: there may be a newer version already, which a FetchFrom finds.
	More bool

	doubted  bool               // see Doubted
	follower *versions.Follower // of From; nil: it is not followed there
	object   *object            // nil: the source is a host's database
	begun    func(*manifest.Manifest, *chunkstore.Target)
}

// Begun calls the function that f was announced to, if there is one, for a source of another kind.
func (f Found) Begun(m *manifest.Manifest, from *chunkstore.Target) {
	if f.begun != nil {
		f.begun(m, from)
	}
}

// object is what a source has that is one object.
type object struct {
	manifest *manifest.Manifest
	etag     string
	alone    bool // no target has its history
}

// Fetch is [Locator.FetchFrom] of who has no version yet.
func (l *Locator) Fetch(ctx context.Context) (Found, error) {
	f, _, err := l.FetchFrom(ctx, Found{})
	return f, err
}

// Doubted returns f for a FetchFrom that shall not only ask for what comes after it, but also
// whether it is still of the history that the target has, and whether another target has more.
func (f Found) Doubted() Found {
	f.doubted = true
	if f.follower != nil {
		f.follower = f.follower.Clone()
		f.follower.Doubt()
	}
	return f
}

// Announced returns f for a FetchFrom that calls begun with a checkpoint, and the target that has
// it, before it asks for the records that follow: what the checkpoint names may be fetched
// meanwhile. begun does not wait; several goroutines may call it.
func (f Found) Announced(begun func(*manifest.Manifest, *chunkstore.Target)) Found {
	f.begun = begun
	return f
}

// FetchFrom returns the source's newest version; prev is what it has found before, or zero. news
// says whether it is another version than prev's; if not, the next call should have found
// nevertheless. Of a host's database all targets are asked if prev is zero, or doubted, and what is
// furthest on counts, as far as they answer soon; else the one that prev is from, or, if it fails,
// the first that answers, which may lag. Where it is the same as before, what is new is asked for:
// as a rule, that is one request for the next record. To have a version soon, FetchFrom does not
// always ask whether there is yet another: see More. Errors wrap ErrAbsent, ErrCorrupt, or are
// worth a later try; all name the source.
func (l *Locator) FetchFrom(ctx context.Context, prev Found) (found Found, news bool, err error) {
	if l.Named() {
		found, news, err = l.fromTargets(ctx, prev)
	} else {
		found, news, err = l.fromObject(ctx, prev)
	}
	if err != nil {
		return Found{}, false, fmt.Errorf("manifest %s: %w", l, err)
	}
	return found, news, nil
}

// fetched is what a target answers.
type fetched struct {
	Found
	news bool
}

func (l *Locator) fromTargets(ctx context.Context, prev Found) (Found, bool, error) {
	get := func(ctx context.Context, t *chunkstore.Target) (fetched, error) {
		return goOn(ctx, t, l.key, prev)
	}
	var f fetched
	var err error
	if len(l.store.Targets) > 1 && (prev.From == nil || prev.doubted) {
		f, _, err = chunkstore.FromBest(ctx, l.store, get, func(a, b fetched) bool {
			h, o := a.Manifest.Head(), b.Manifest.Head()
			return h.Supersedes(o) || !o.Supersedes(h) && a.From == prev.From
		})
	} else {
		f, _, err = chunkstore.FromAny(ctx, l.store, prev.From, get)
	}
	if err != nil {
		return Found{}, false, fmt.Errorf("get manifest: object %s: %w", l.key, err)
	}
	return f.Found, f.news, nil
}

// goOn returns the newest version of t, from prev on if that is of t.
func goOn(
	ctx context.Context, t *chunkstore.Target, key string, prev Found,
) (f fetched, err error) {
	f.From = t
	if prev.From != t || prev.follower == nil {
		f.news = true
		var begun func(*manifest.Manifest)
		if prev.begun != nil {
			begun = func(m *manifest.Manifest) { prev.begun(m, t) }
		}
		if f.follower, err = versions.OpenToRead(ctx, t, key, begun); err != nil {
			return fetched{}, err
		}
		f.Manifest, f.Bytes = f.follower.Newest(), f.follower.Read()
		return f, nil
	}
	f.follower = prev.follower.Clone() // others may go on from prev at the same time
	end := true
	if prev.More {
		f.news, err = f.follower.Next(ctx)
	} else {
		f.news, end, err = f.follower.Some(ctx)
	}
	if err != nil {
		return fetched{}, err
	}
	f.Manifest, f.More = f.follower.Newest(), !end
	f.Bytes = f.follower.Read() - prev.follower.Read()
	return f, nil
}

// fromObject gets the object. If it is of a history that a target has, and not further than the
// target, then the target has the newest version. A lineage is drawn at random: another history
// does not have the same.
func (l *Locator) fromObject(ctx context.Context, prev Found) (Found, bool, error) {
	now, etag := object{}, ""
	if prev.object != nil {
		now, etag = *prev.object, prev.object.etag
	}
	body, etag, err := l.object(ctx, etag)
	unmodified := prev.object != nil && errors.Is(err, chunkstore.ErrUnmodified)
	if !unmodified {
		if err == nil {
			now = object{etag: etag}
			now.manifest, err = manifest.Decode(l.sealer, body)
		}
		if err != nil {
			return Found{}, false, err
		}
	}
	if at := now.manifest.At; at.Lineage != [16]byte{} && !now.alone {
		if f, err := l.historyOf(ctx, now.manifest, prev); err != nil {
			return Found{}, false, err
		} else if f.Manifest != nil {
			f.object = &now
			f.Bytes += int64(len(body))
			return f.Found, f.news, nil
		}
		now.alone = true
	}
	f := Found{Manifest: now.manifest, Bytes: int64(len(body)), object: &now}
	return f, !unmodified || prev.From != nil, nil
}

// historyOf returns the newest version of the history that m is of, from prev on if that is of it;
// nothing if no target has it.
func (l *Locator) historyOf(
	ctx context.Context, m *manifest.Manifest, prev Found,
) (fetched, error) {
	var targets []*chunkstore.Target
	if prev.follower != nil && prev.Manifest.At.Lineage == m.At.Lineage {
		targets = []*chunkstore.Target{prev.From}
	} else if l.store != nil {
		prev, targets = Found{}, l.store.Targets
	}
	var failed []error
	for _, t := range targets {
		f, err := goOn(ctx, t, manifest.Name(t.Sealer, m.Host, m.Path), prev)
		switch {
		case errors.Is(err, chunkstore.ErrAbsent), errors.Is(err, chunkstore.ErrDenied):
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
		case f.Manifest.At.Lineage == m.At.Lineage && f.Manifest.At.Number >= m.At.Number:
			return f, nil
		}
	}
	return fetched{}, errors.Join(failed...)
}

// FetchNewest is Fetch of the newest version that any target has, where there are several: one that
// was down for a while may have an older one than the others. failed says which
// targets could not be asked, or have a damaged one; it is an error only if no other has any.
func (l *Locator) FetchNewest(ctx context.Context) (newest Found, failed, err error) {
	if !l.Named() || len(l.store.Targets) < 2 {
		newest, err = l.Fetch(ctx)
		return newest, nil, err
	}
	targets, timeout := l.store.Targets, l.store.Options().Timeout
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(targets))
	for _, t := range targets {
		go func() {
			f, err := l.FetchOf(ctx, t)
			answers <- answer{f, err}
		}()
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	var failures []error
	absent := 0
	for open := len(targets); open > 0; {
		select {
		case a := <-answers:
			open--
			switch {
			case errors.Is(a.err, chunkstore.ErrAbsent):
				absent++
			case a.err != nil:
				failures = append(failures, a.err)
			case newest.Manifest == nil ||
				a.Manifest.Head().Supersedes(newest.Manifest.Head()):
				newest = a.Found
			}
		case <-late.C: // a directory may be on a disk that hangs
			failures = append(failures, fmt.Errorf("%d of %d targets have not answered in %v", open,
				len(targets), timeout))
			open = 0
		}
	}
	failed = errors.Join(failures...)
	switch {
	case newest.Manifest != nil:
		return newest, failed, nil
	case absent == len(targets):
		failed = chunkstore.ErrAbsent
	}
	return Found{}, nil, fmt.Errorf("manifest %s: object %s: %w", l, l.key, failed)
}

// answer is what one target says.
type answer struct {
	Found
	err error
}

// FetchOf is Fetch of the newest version that t has, which is one of [Locator.Targets].
func (l *Locator) FetchOf(ctx context.Context, t *chunkstore.Target) (found Found, err error) {
	defer func() {
		if p := recover(); p != nil { // in a goroutine of ours, in hosts of others
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	f, err := goOn(ctx, t, l.key, Found{})
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	return f.Found, nil
}

// Twins returns the version that f is as other targets have it, if it is their newest, too: it may
// stand there in other packs. What cannot be read is left out.
func (l *Locator) Twins(ctx context.Context, f Found) (twins []Found) {
	for _, t := range l.Targets() {
		if t == f.From {
			continue
		}
		if twin, err := l.FetchOf(ctx, t); err == nil && twin.Manifest.Cut == f.Manifest.Cut {
			twins = append(twins, twin)
		}
	}
	return twins
}
