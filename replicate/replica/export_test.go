package replica

import (
	"context"
	"time"
)

// BeginRefresh is Refresh in two steps, for tests that stand between them.
func (r *Reader) BeginRefresh(force bool) (end func() error) {
	fl := r.f.request(force)
	return func() error {
		<-fl.done
		if fl.err == nil {
			r.Adopt()
		}
		return fl.err
	}
}

// Check says that the source was asked at that time for the version that r is at.
func (r *Reader) Check(at time.Time) { r.s.checked.Store(at.UnixNano()) }

// awaitMS is how long cgo/versiontable.c waits for a chunk that is coming.
const awaitMS = 20

// ReadPage reads a page as cgo/versiontable.c does, and says whether it had to wait.
func (r *Reader) ReadPage(ctx context.Context, page uint32) (p []byte, missed bool, err error) {
	i := r.s.chunkOf(page)
	entry := &r.s.table.entries[i]
	if old := entry.And(^uint64(entryAhead)); old&uint64(entryAhead) != 0 {
		r.Ahead(i)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range awaitMS {
		if e := r.s.table.entry(i); e.here() || e&entryComing == 0 {
			break
		}
		<-tick.C
		missed = true
	}
	if p = r.s.pageIfHere(page); p != nil {
		return p, missed, nil
	}
	p = make([]byte, r.s.m.PageBytes)
	return p, true, r.Read(ctx, p, int64(page-1)*int64(len(p)))
}

// Quiet reports whether nothing is fetched ahead.
func (all *Set) Quiet() bool { return len(all.ahead) == 0 }
