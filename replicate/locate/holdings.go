package locate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// Holding is a database that a target has a version of, by what a list says.
type Holding struct {
	manifest.Source // what the key says
	Key             string
	Stored          time.Time // when the target got the newest version
	ManifestBytes   int64     // of it
}

// Holdings calls yield for each database that t has a version of, in the order of their keys,
// until yield returns false. It takes a request for each 1,000 objects. host, if it is not
// empty, leaves out other hosts' databases, but not those of whose names the keys are not here: who
// reads them is told so. Objects whose key is no manifest's are passed over.
func Holdings(
	ctx context.Context, t *chunkstore.Target, host string, yield func(Holding) bool,
) error {
	prefix := ""
	if host != "" {
		prefix = manifest.NamePrefix(t.Sealer, host)
	}
	err := t.Manifests.List(ctx, prefix, func(o chunkstore.Object) bool {
		source, ok := manifest.ParseName(t.Sealer, o.Key)
		if !ok || host != "" && source.Host != host && !source.Foreign {
			return ctx.Err() == nil
		}
		h := Holding{Source: source, Key: o.Key, Stored: o.Modified, ManifestBytes: o.Bytes}
		return yield(h) && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	return nil
}

// AroundKeys bounds a look around: one request of S3's. The targets of many databases are not
// looked through to their end.
const AroundKeys = 1000

// Elsewhere is what targets have instead of the database at path on host.
type Elsewhere struct {
	Hosts []string // other ones that have a database of that path, at least these
	Paths []string // of other databases of that host, at least these
}

// LookElsewhere lists at most 1,000 databases of the target, and of those of host, to say which may
// have been meant by the one at path on host, of which there is no version. What credentials may
// not list is empty.
func LookElsewhere(ctx context.Context, t *chunkstore.Target, host, path string) (e Elsewhere) {
	e.Hosts = OtherHosts(ctx, t, host, path)
	FirstHoldings(ctx, t, host, func(h Holding) {
		if h.Path != path && h.Whole {
			e.Paths = append(e.Paths, h.Path)
		}
	})
	slices.Sort(e.Paths)
	return e
}

// OtherHosts returns the hosts that have a database of that path, of the first 1,000 databases of
// the target.
func OtherHosts(ctx context.Context, t *chunkstore.Target, host, path string) (hosts []string) {
	FirstHoldings(ctx, t, "", func(h Holding) {
		if h.Host != host && h.Host != "" && manifest.Name(t.Sealer, h.Host, path) == h.Key {
			hosts = append(hosts, h.Host)
		}
	})
	slices.Sort(hosts)
	return hosts
}

// FirstHoldings is [Holdings] of the first 1,000 at most. What cannot be listed is left out.
func FirstHoldings(
	ctx context.Context, t *chunkstore.Target, host string, found func(Holding),
) {
	n := 0
	_ = Holdings(ctx, t, host, func(h Holding) bool {
		found(h)
		n++
		return n < AroundKeys
	})
}
