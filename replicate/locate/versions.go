package locate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// ErrNoVersion: the targets have no version of that ID or time (any more).
var ErrNoVersion = errors.New("no such version")

// Version is one version of a source's manifest that a target keeps. What time it is
// of is when the target got it, by the target's clock.
type Version struct {
	ID     string // of the target's
	Stored time.Time
	Bytes  int64 // of the stored manifest
	Target string
	bucket keeper
	key    string
}

// Versions returns the versions that the targets keep, the newest first, at most so many of each
// target (0: all); two targets' versions may be of the same state. If a target cannot be asked,
// the error says so, and the others' versions are returned all the same.
func (l *Locator) Versions(ctx context.Context, most int) ([]Version, error) {
	return l.list(ctx, func(n int, _ Version) (keep, more bool) { return true, n != most })
}

// list returns those versions of each target that take keeps, the newest first, until it wants no
// more of the target: a busy database has thousands a day. take gets the n-th of a target, from 1.
func (l *Locator) list(
	ctx context.Context, take func(n int, v Version) (keep, more bool),
) ([]Version, error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return nil, err
	}
	var (
		versions []Version
		failed   []error
	)
	for _, bucket := range buckets {
		n := 0
		failed = append(failed, bucket.ListVersions(ctx, key, func(o chunkstore.Object) bool {
			v := Version{
				ID:     o.Version,
				Stored: o.Modified,
				Bytes:  o.Bytes,
				Target: bucket.String(),
				bucket: bucket,
				key:    key,
			}
			n++
			keep, more := take(n, v)
			if keep {
				versions = append(versions, v)
			}
			return more
		}))
	}
	slices.SortStableFunc(versions, func(a, b Version) int { return b.Stored.Compare(a.Stored) })
	if err := errors.Join(failed...); err != nil {
		return versions, fmt.Errorf("versions of %s: %w", l, err)
	}
	return versions, nil
}

// FetchVersion returns the manifest that some target calls id.
// It fails with ErrNoVersion if all targets say that they have none of that ID.
func (l *Locator) FetchVersion(ctx context.Context, id string) (Found, error) {
	buckets, key, err := l.versioned()
	if err != nil {
		return Found{}, err
	}
	var failed []error
	for _, bucket := range buckets {
		v := Version{ID: id, Target: bucket.String(), bucket: bucket, key: key}
		f, err := l.fetchVersion(ctx, &v)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, chunkstore.ErrAbsent) {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return Found{}, err
	}
	return Found{}, fmt.Errorf("manifest %s, version %s: %w", l, id, ErrNoVersion)
}

// FetchAt returns the manifest that was the newest at time t, of the targets that
// can be asked: where one target's is damaged or gone, another's. It fails with
// ErrNoVersion if none has one so old.
func (l *Locator) FetchAt(ctx context.Context, t time.Time) (Found, error) {
	var oldest time.Time
	// Of each target one: a target with a damaged version is not asked for an older one.
	versions, listErr := l.list(ctx, func(_ int, v Version) (keep, more bool) {
		if oldest.IsZero() || v.Stored.Before(oldest) {
			oldest = v.Stored
		}
		keep = !v.Stored.After(t)
		return keep, !keep
	})
	var failed []error
	for _, v := range versions {
		f, err := l.fetchVersion(ctx, &v)
		if err == nil {
			return f, nil
		}
		failed = append(failed, err)
	}
	if err := errors.Join(append(failed, listErr)...); err != nil {
		return Found{}, err
	}
	has := "there are no versions"
	if !oldest.IsZero() {
		has = "the oldest is from " + oldest.UTC().Format(time.RFC3339Nano)
	}
	return Found{}, fmt.Errorf("manifest %s at %s: %w: %s", l, t.UTC().Format(time.RFC3339Nano),
		ErrNoVersion, has)
}

func (l *Locator) fetchVersion(ctx context.Context, v *Version) (Found, error) {
	o, err := v.bucket.GetVersion(ctx, v.key, v.ID,
		chunkstore.GetOptions{BytesMax: manifest.BytesMax})
	if err != nil {
		return Found{}, err
	}
	m, err := l.decode(o.Body)
	if err != nil {
		return Found{}, fmt.Errorf("manifest %s, version %s in %s: %w", v.key, v.ID, v.Target, err)
	}
	return Found{Manifest: m, Stored: o.Body, From: v.bucket.target}, nil
}

// keeper is a bucket that keeps versions, and its target; nil: the source is one object.
type keeper struct {
	chunkstore.Versioned
	target *chunkstore.Target
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
		if v, ok := bucket.Bucket.(chunkstore.Versioned); ok {
			versioned = append(versioned, keeper{v, bucket.target})
		}
	}
	return versioned, key, nil
}
