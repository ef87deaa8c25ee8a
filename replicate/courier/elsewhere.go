package courier

import (
	"context"
	"time"
)

// A database is named by host and path. Where a host's name changes with each start, as a
// container's does, each start is a new database, whose predecessor nobody finds. So who
// finds no version looks for what may have been meant.

// elsewhereTime bounds a look before a first push, which waits for it.
const elsewhereTime = 2 * time.Second

// lookElsewhere is what a newcomer's first contact does that finds no version.
func (a *contact) lookElsewhere(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, elsewhereTime)
	defer cancel()
	a.uploads.calls.Add(1)
	a.others = a.elsewhere(ctx)
}

// sayElsewhere warns, once, that a database begins anew which seems to have a past.
func (o *Office) sayElsewhere(c *Courier, hosts []string) {
	if len(hosts) == 0 || o.saidElsewhere {
		return
	}
	o.saidElsewhere = true
	const most = 5
	some := hosts[:min(len(hosts), most)]
	o.o.Log.Warn("no version of this path under this host: it begins anew, but there are "+
		"versions of it under other hosts (where the host name changes, as a container's does, "+
		"set hostname in the configuration)",
		"target", c.Name, "host", o.o.Host, "others", some, "more", len(hosts)-len(some))
}
