package locate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
)

// ErrNoVersion: the targets have no version of that ID or time (any more).
var ErrNoVersion = errors.New("no such version")

// Version is one version of a source that a target keeps as a manifest. What time it
// is of is when the target got it, by the target's clock.
type Version struct {
	ID     string // of the target's, or if it is a checkpoint that is kept, of the history's
	Stored time.Time
	Bytes  int64 // of the stored manifest
	Target string
	bucket keeper
	key    string
	kept   bool
}

// Records are those of a target that make versions of a source, each of which can be gone back to,
// by an ID that is between From and To.
type Records struct {
	versions.Range
	Target string
}

// Versions returns the versions that the targets keep, the newest first, at most so many of each
// target (0: all); two targets' versions may be of the same state, and so may two of one. If a
// target cannot be asked, the error says so, and the others' versions are returned all the same.
func (l *Locator) Versions(ctx context.Context, most int) ([]Version, error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return nil, err
	}
	var all []Version
	var failed []error
	for _, bucket := range buckets {
		some, err := bucket.list(ctx, key, most)
		failed = append(failed, err)
		if bucket.target != nil && err == nil {
			kept, err := versions.ListKept(ctx, bucket.target, key)
			failed = append(failed, err)
			some = append(some, bucket.kept(key, kept)...)
		}
		sortVersions(some)
		if most > 0 && len(some) > most {
			some = some[:most]
		}
		all = append(all, some...)
	}
	sortVersions(all)
	err = errors.Join(failed...)
	if err == nil && len(all) == 0 {
		err = checkRings(ctx, buckets)
	}
	if err != nil {
		return all, fmt.Errorf("versions of %s: %w", l, err)
	}
	return all, nil
}

// Records returns which records the targets have that make versions, the newest first. It lists
// their logs: a request for each 1,000 records. Errors are as those of Versions.
func (l *Locator) Records(ctx context.Context) (all []Records, err error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, bucket := range buckets {
		past, err := bucket.past(ctx, key)
		if past == nil {
			failed = append(failed, err)
			continue
		}
		ranges, err := past.Ranges(ctx)
		failed = append(failed, err)
		for _, r := range ranges {
			all = append(all, Records{r, bucket.name})
		}
	}
	slices.SortStableFunc(all, func(a, b Records) int { return b.Last.Compare(a.Last) })
	if err := errors.Join(failed...); err != nil {
		return all, fmt.Errorf("records of %s: %w", l, err)
	}
	return all, nil
}

func sortVersions(all []Version) {
	slices.SortStableFunc(all, func(a, b Version) int { return b.Stored.Compare(a.Stored) })
}

// FetchVersion returns the version that some target calls id: a version of the bucket's, or of a
// history. It fails with ErrNoVersion if all targets say that they have none of that ID.
func (l *Locator) FetchVersion(ctx context.Context, id string) (Found, error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return Found{}, err
	}
	inHistory, ok := versions.ParseID(id)
	var failed []error
	for _, bucket := range buckets {
		var f Found
		if ok {
			f, err = bucket.fetchRecord(ctx, key, inHistory)
		} else {
			f, err = l.fetchVersion(ctx, &Version{ID: id, Target: bucket.name, bucket: bucket,
				key: key})
		}
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, chunkstore.ErrAbsent) {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		failed = append(failed, checkRings(ctx, buckets))
	}
	if err := errors.Join(failed...); err != nil {
		return Found{}, err
	}
	return Found{}, fmt.Errorf("manifest %s, version %s: %w", l, id, ErrNoVersion)
}

// checkRings fails with [chunkstore.ErrKey] if a target that has nothing of the source is of other
// keys: under its own names it may have some.
func checkRings(ctx context.Context, buckets []keeper) error {
	for _, b := range buckets {
		if b.target == nil {
			continue
		}
		if err := chunkstore.CheckRing(ctx, b.target.Manifests, b.target.Sealer); err != nil {
			return err
		}
	}
	return nil
}

// FetchAt returns the version that was the newest at time t, of the targets that can be asked:
// where one target's is damaged or gone, another's. Of a version in a history it is its writer's
// clock that counts, of another one when the target got it. It fails with ErrNoVersion if none has
// one so old.
func (l *Locator) FetchAt(ctx context.Context, t time.Time) (found Found, err error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return Found{}, err
	}
	var oldest time.Time
	var failed []error
	for _, bucket := range buckets {
		w := &search{l: l, keeper: bucket, key: key, at: t}
		f, err := w.fetch(ctx)
		if !w.oldest.IsZero() && (oldest.IsZero() || w.oldest.Before(oldest)) {
			oldest = w.oldest
		}
		if err != nil {
			failed = append(failed, err)
		} else if f.Manifest != nil && (found.Manifest == nil ||
			f.Manifest.Head().Supersedes(found.Manifest.Head())) {
			found = f
		}
	}
	if found.Manifest != nil {
		return found, nil
	}
	if err := errors.Join(failed...); err != nil {
		return Found{}, err
	}
	has := "there are no versions"
	if !oldest.IsZero() {
		has = "the oldest is from " + oldest.UTC().Format(time.RFC3339Nano)
	}
	return Found{}, fmt.Errorf("manifest %s at %s: %w: %s", l, t.UTC().Format(time.RFC3339Nano),
		ErrNoVersion, has)
}

// search looks in one target for the version of a time.
type search struct {
	l *Locator
	keeper
	key    string
	at     time.Time
	oldest time.Time // version that was seen; zero: none was
}

// fetch returns the version; nothing if there is none so old. A target with a damaged version is
// not asked for an older one.
func (w *search) fetch(ctx context.Context) (Found, error) {
	past, err := w.past(ctx, w.key)
	if err != nil {
		return Found{}, err
	}
	var kept []Version
	if past != nil {
		kept = w.kept(w.key, past.Kept())
	}
	sortVersions(kept)
	for before := w.at; ; {
		newest, err := w.lastAt(ctx, before)
		if err != nil {
			return Found{}, err
		}
		for _, v := range kept {
			if !v.Stored.After(before) && (newest == nil || v.Stored.After(newest.Stored)) {
				newest = &v
				break
			}
		}
		if newest == nil {
			if n := len(kept); n > 0 && (w.oldest.IsZero() || kept[n-1].Stored.Before(w.oldest)) {
				w.oldest = kept[n-1].Stored
			}
			return Found{}, nil
		}
		f, err := w.l.fetchVersion(ctx, newest)
		if err != nil {
			return Found{}, err
		}
		if m := f.Manifest; m.At.Lineage != [16]byte{} && m.Time.After(w.at) {
			before = newest.Stored.Add(-1) // the writer's clock is ahead of the store's
			continue
		}
		if past != nil {
			f.Manifest, err = past.Until(ctx, f.Manifest, w.at)
		}
		return f, err
	}
}

// lastAt returns the last version that the bucket keeps which it got at t or before; nil: none.
func (w *search) lastAt(ctx context.Context, t time.Time) (last *Version, err error) {
	err = w.each(ctx, w.key, func(v Version) bool {
		if w.oldest.IsZero() || v.Stored.Before(w.oldest) {
			w.oldest = v.Stored
		}
		if !v.Stored.After(t) {
			last = &v
		}
		return last == nil
	})
	return last, err
}

func (l *Locator) fetchVersion(ctx context.Context, v *Version) (Found, error) {
	var m *manifest.Manifest
	var err error
	if v.kept {
		id, _ := versions.ParseID(v.ID)
		m, err = versions.GetKept(ctx, v.bucket.target, v.key, id)
	} else if v.bucket.Versioned == nil {
		err = chunkstore.ErrAbsent
	} else {
		var o chunkstore.Object
		o, err = v.bucket.GetVersion(ctx, v.key, v.ID,
			chunkstore.GetOptions{BytesMax: manifest.BytesMax})
		if err != nil {
			return Found{}, err
		}
		if l.Named() {
			m, err = versions.Decode(l.sealer, v.key, o.Body)
		} else {
			m, err = manifest.Decode(l.sealer, o.Body)
		}
	}
	if err != nil {
		return Found{}, fmt.Errorf("manifest %s, version %s in %s: %w", v.key, v.ID, v.Target, err)
	}
	return Found{Manifest: m, From: v.bucket.target}, nil
}

// keeper is a bucket that keeps versions, and its target; nil: the source is one object.
type keeper struct {
	chunkstore.Versioned // nil: it keeps none
	target               *chunkstore.Target
	name                 string
}

// each calls yield for the versions that the bucket keeps, the newest first, until it returns
// false: a busy database has thousands a day.
func (k keeper) each(ctx context.Context, key string, yield func(Version) bool) error {
	if k.Versioned == nil {
		return nil
	}
	return k.ListVersions(ctx, key, func(o chunkstore.Object) bool {
		return yield(Version{ID: o.Version, Stored: o.Modified, Bytes: o.Bytes, Target: k.name,
			bucket: k, key: key})
	})
}

// list returns the newest versions that the bucket keeps, so many at most; 0: all.
func (k keeper) list(ctx context.Context, key string, most int) (all []Version, err error) {
	err = k.each(ctx, key, func(v Version) bool {
		all = append(all, v)
		return len(all) != most
	})
	return all, err
}

// kept returns checkpoints of the target as versions.
func (k keeper) kept(key string, kept []versions.Kept) (all []Version) {
	for _, c := range kept {
		all = append(all, Version{ID: c.ID.String(), Stored: c.Stored, Bytes: c.Bytes,
			Target: k.name, bucket: k, key: key, kept: true})
	}
	return all
}

// past returns what the target has of the past; nil: the source is one object.
func (k keeper) past(ctx context.Context, key string) (*versions.Past, error) {
	if k.target == nil {
		return nil, nil
	}
	past, err := versions.OpenPast(ctx, k.target, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.target.Name, err)
	}
	return past, nil
}

// fetchRecord returns the version id. It fails with [chunkstore.ErrAbsent] if the target has none.
func (k keeper) fetchRecord(ctx context.Context, key string, id versions.ID) (Found, error) {
	past, err := k.past(ctx, key)
	if err != nil {
		return Found{}, err
	} else if past == nil {
		return Found{}, chunkstore.ErrAbsent
	}
	m, err := past.Version(ctx, id)
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", k.target.Name, err)
	}
	return Found{Manifest: m, From: k.target}, nil
}

// versioned returns the buckets that may keep versions, and the manifest's key in them.
func (l *Locator) versioned() (versioned []keeper, key string, err error) {
	if l.buckets == nil {
		return nil, "", fmt.Errorf("manifest %s: only s3 and dir targets keep versions: "+
			"name the source by verneuil:// or s3://", l)
	}
	buckets, key, err := l.buckets()
	if err != nil {
		return nil, "", err
	}
	for _, bucket := range buckets {
		v, _ := bucket.Bucket.(chunkstore.Versioned)
		if v != nil || bucket.target != nil {
			versioned = append(versioned, keeper{v, bucket.target, bucket.String()})
		}
	}
	return versioned, key, nil
}
