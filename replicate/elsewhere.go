package replicate

import (
	"context"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// A database is named by host and path. Where a host's name changes with each start, as a
// container's does, each start is a new database, whose predecessor nobody finds. So who
// finds no version looks for what may have been meant.

const (
	// elsewhereKeys bounds a look: one request of S3's. The targets of many databases are not
	// looked through to their end.
	elsewhereKeys = 1000
	// elsewhereTime bounds a look before a first push, which waits for it.
	elsewhereTime = 2 * time.Second
)

// Elsewhere is what targets have instead of the database at path on host.
type Elsewhere struct {
	Hosts []string // other ones that have a database of that path, at least these
	Paths []string // of other databases of that host, at least these
}

// LookElsewhere lists at most 1,000 databases of the target, and of those of host, to say which may
// have been meant by the one at path on host, of which there is no version. What credentials may
// not list is empty.
func LookElsewhere(ctx context.Context, t *chunkstore.Target, host, path string) (e Elsewhere) {
	e.Hosts = otherHosts(ctx, t, host, path)
	boundedHoldings(ctx, t, host, func(h Holding) {
		if h.Path != path && h.Whole {
			e.Paths = append(e.Paths, h.Path)
		}
	})
	slices.Sort(e.Paths)
	return e
}

// otherHosts returns those that have a database of that path.
func otherHosts(ctx context.Context, t *chunkstore.Target, host, path string) (hosts []string) {
	boundedHoldings(ctx, t, "", func(h Holding) {
		if h.Host != host && h.Host != "" && manifest.Name(h.Host, path) == h.Key {
			hosts = append(hosts, h.Host)
		}
	})
	slices.Sort(hosts)
	return hosts
}

func boundedHoldings(ctx context.Context, t *chunkstore.Target, host string, found func(Holding)) {
	n := 0
	_ = Holdings(ctx, t, host, func(h Holding) bool { // what cannot be listed is no hint
		found(h)
		n++
		return n < elsewhereKeys
	})
}

// lookElsewhere is what a newcomer's first contact does that finds no version.
func (c *contact) lookElsewhere(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, elsewhereTime)
	defer cancel()
	c.calls.Add(1)
	c.elsewhere = otherHosts(ctx, c.t, c.host, c.path)
}

// sayElsewhere warns, once, that a database begins anew which seems to have a past.
func (s *session) sayElsewhere(c *contact) {
	if len(c.elsewhere) == 0 || s.saidElsewhere {
		return
	}
	s.saidElsewhere = true
	const most = 5
	hosts := c.elsewhere[:min(len(c.elsewhere), most)]
	s.log().Warn("no version of this path under this host: it begins anew, but there are "+
		"versions of it under other hosts (where the host name changes, as a container's does, set hostname in the configuration)",
		"target", c.t.Name, "host", c.host, "others", hosts, "more", len(c.elsewhere)-len(hosts))
}
