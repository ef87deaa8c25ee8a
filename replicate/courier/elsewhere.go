package courier

import (
	"context"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
)

// A database is named by host and path. Where a host's name changes with each start, as a
// container's does, each start is a new database, whose predecessor nobody finds. So who
// finds no version looks for what may have been meant.

// elsewhereTime bounds a look before a first push, which waits for it.
const elsewhereTime = 2 * time.Second

// elsewhere is what a newcomer's first contact looks for that finds no version.
type elsewhere struct {
	host, path string
	hosts      []string // that have the path
}

// look looks at a part of what t has.
func (e *elsewhere) look(ctx context.Context, t *chunkstore.Target) {
	ctx, cancel := context.WithTimeout(ctx, elsewhereTime)
	defer cancel()
	e.hosts = locate.OtherHosts(ctx, t, e.host, e.path)
}

// say warns, once, that a database begins anew which seems to have a past. e may be nil.
func (e *elsewhere) say(c *Courier) {
	if e == nil || len(e.hosts) == 0 || c.office.saidElsewhere {
		return
	}
	c.office.saidElsewhere = true
	const most = 5
	some := e.hosts[:min(len(e.hosts), most)]
	c.log().Warn("this host has no version of this path, so a new history begins; but other "+
		"hosts have versions of it (if the host's name changes, as a container's does, "+
		"set hostname in the configuration)",
		"target", c.Name, "host", e.host, "others", some, "more", len(e.hosts)-len(some))
}
