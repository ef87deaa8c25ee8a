package replicate

import (
	"context"
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
// empty, leaves out other hosts' databases. Objects whose key is no manifest's are passed over.
func Holdings(
	ctx context.Context, t *chunkstore.Target, host string, yield func(Holding) bool,
) error {
	prefix := ""
	if host != "" {
		prefix = manifest.NamePrefix(host)
	}
	err := t.Manifests.List(ctx, prefix, func(o chunkstore.Object) bool {
		source, ok := manifest.ParseName(o.Key)
		if !ok || host != "" && source.Host != host {
			return ctx.Err() == nil
		}
		h := Holding{Source: source, Key: o.Key, Stored: o.Modified, ManifestBytes: o.Bytes}
		return yield(h) && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return wrap(err, "list manifests")
}
