package replica

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"verneuil/chunkstore"
	"verneuil/spool/sqlitefile"
)

const (
	// aheadMax bounds how far read-ahead goes: two packs, of 8 MiB, so that one is read while the
	// next comes.
	aheadMax = 2 * chunkstore.PackMax
	// comingMax bounds how many chunks a process has on their way before they are asked for: those
	// of a scan, and as many as the guesses of another query.
	comingMax = aheadMax + aheadBlind
	// aheadBlind is how far read-ahead goes at once; beyond that, a third of what has been read: a
	// scan ends somewhere, and what is there in vain then shall be little beside it.
	aheadBlind = 32
	// streamsMax is how many sequential reads a reader tells apart: a scan reads
	// leaves in order and interior pages in between, and a join scans several tables.
	streamsMax = 4
)

// Reader is one open handle on a source, at one version. Its owner sees to it that
// one goroutine uses it at a time, and does not move it to another version in
// the middle of a read transaction.
type Reader struct {
	f    *follower
	s    *snapshot // holds a reference
	auto bool

	wantsAuto bool               // as it was opened
	streams   [streamsMax]stream // the most recently used first
	scans     []*indexScan       // the same
	guesses   guesses
}

// stream is a sequential read: chunks from first to last were read, those before end are
// there or on their way, and ahead is how many beyond last those were to be at the last look.
type stream struct{ first, last, end, ahead int }

// continues reports whether a read of chunk i is one more of the stream.
func (t stream) continues(i int) bool { return t.last <= i && i <= t.end && t.end > 0 }

// Table is what C reads: the address of the present version's table. It stays valid
// until the reader moves on or closes.
func (r *Reader) Table() unsafe.Pointer { return unsafe.Pointer(r.s.table.head) }

// Newest is the address of an atomic uint32: the change counter of the newest known
// version. It stays valid until the reader closes.
func (r *Reader) Newest() unsafe.Pointer { return unsafe.Pointer(&r.f.shared[0]) }

// Size is the length of the database at this version.
func (r *Reader) Size() int64 { return r.s.m.FileBytes }

// Sequence is that of this version.
func (r *Reader) Sequence() uint64 { return r.s.m.Sequence }

// Source names what is read, for messages.
func (r *Reader) Source() string { return r.f.source.String() }

// Checked is the local time at which the last fetch began that found this version
// to be the source's newest.
func (r *Reader) Checked() time.Time { return time.Unix(0, r.s.checked.Load()) }

// SourceCtime is the ctime of the source's file at this version, zero if unknown; of a database
// that lives in a store, and has no file, when the version was committed.
func (r *Reader) SourceCtime() time.Time {
	if r.s.m.At.Lineage != [16]byte{} && r.s.m.SourceCtime.IsZero() {
		return r.s.m.Time
	}
	return r.s.m.SourceCtime
}

// Read fills p with the bytes at off, all of which lie in the file, fetching what
// is not there. Errors name chunk, version and cause.
func (r *Reader) Read(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		i := int(off / chunkstore.ChunkBytes)
		if off < 0 || i >= r.s.table.chunks() {
			return fmt.Errorf("read at %d of %s: beyond its %d bytes", off, r.s, r.s.m.FileBytes)
		}
		n := min(len(p), int(chunkstore.ChunkBytes-off%chunkstore.ChunkBytes))
		if err := r.readChunk(ctx, p[:n], i, off); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (r *Reader) readChunk(ctx context.Context, p []byte, i int, off int64) error {
	if ok, err := r.s.readAt(p, i, off); ok || err != nil {
		return err
	}
	r.guesses.needed(i, true)
	r.lookAhead(i)
	var page uint32 // that is missed; 0: none, or the first, or not just one
	if off%int64(r.s.m.PageBytes) == 0 && off > 0 && len(p) == r.s.m.PageBytes {
		page = r.s.pageAt(off)
	}
	row := r.missedRow(page)
	if err := r.s.demand(ctx, i); err != nil {
		if row != nil {
			row.failed()
		}
		return err
	}
	if ok, err := r.s.readAt(p, i, off); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("chunk %d of %s: lost", i, r.s)
	}
	if page != 0 {
		r.lookAround(p, page, row)
	}
	return nil
}

// lookAround prefetches what goes with page p, which was missed, and was on the way to row if that
// is not nil.
func (r *Reader) lookAround(p []byte, page uint32, row *rowMiss) {
	interior := sqlitefile.IsInterior(p[0])
	siblings, n := r.f.interior.missed(page, interior)
	switch {
	case row != nil:
		row.came(!interior)
		return // a scan knows better than that some siblings may be needed
	case sqlitefile.IsIndexLeaf(p[0]):
		r.noteIndexLeaf(p, page)
	case sqlitefile.IsTable(p[0]):
		r.noteTablePage(page, !interior)
		r.noteTermPage(p, page)
	}
	r.prefetchPages(siblings, min(n, r.guesses.hope()))
}

// Ahead is called by a reader that comes to a marked chunk: time to prefetch more.
func (r *Reader) Ahead(i int) {
	if r.guesses.needed(i, false) {
		r.launchMore()
	}
	r.lookAhead(i)
}

// lookAhead notes that chunk i is read, missing or marked, and prefetches if that
// continues a sequential read. A first miss fetches nothing more: most are point
// lookups. Then the window doubles. When half of it is read, which is where the mark is, it is
// made as long as it was, or longer.
func (r *Reader) lookAhead(i int) {
	k := 0
	for k < streamsMax && !r.streams[k].continues(i) {
		k++
	}
	if k == streamsMax {
		copy(r.streams[1:], r.streams[:])
		r.streams[0] = stream{first: i, last: i, end: i + 1}
		return
	}
	t := r.streams[k]
	copy(r.streams[1:k+1], r.streams[:k])
	if i > t.last { // else it was marked, and is still missing
		t.last, t.end = i, max(t.end, i+1)
		if t.end-i <= 1+(t.ahead+1)/2 { // else it was asked for, and is late
			r.widen(&t)
		}
	}
	r.streams[0] = t
}

// widen prefetches more for t, whose last chunk is read.
func (r *Reader) widen(t *stream) {
	t.ahead = min(max(1, 2*t.ahead), max(aheadBlind, min((t.last-t.first)/3, aheadMax)))
	end := min(t.last+1+t.ahead, r.s.table.chunks())
	// As a rule a pack has the chunks from one multiple of its size to the next.
	if whole := end - end%chunkstore.PackMax; whole > t.end && whole-t.last > t.ahead/2 {
		end = whole
	}
	t.end = r.s.prefetch(t.end, end)
	if next := min(t.last+max(1, t.ahead/2), t.end-1); next > t.last {
		r.s.table.mark(next)
	}
}

// Adopt moves on to the newest known version and reports whether that is another
// one. It never waits for the network.
func (r *Reader) Adopt() bool {
	s := r.f.latest()
	if s == r.s {
		s.release()
		return false
	}
	r.move(s)
	return true
}

// move has r read s, of which it takes the caller's reference.
func (r *Reader) move(s *snapshot) {
	r.s.release()
	r.s = s
	r.streams, r.scans = [streamsMax]stream{}, nil
	r.guesses.forget()
}

// Refresh asks the source for its newest version and moves on to it. A fetch that
// is under way will do, unless force. On an error the reader stays where it is.
func (r *Reader) Refresh(ctx context.Context, force bool) error {
	if err := r.f.refresh(ctx, force); err != nil {
		return err
	}
	r.Adopt()
	return nil
}

// Request sees to it that a fetch is under way, and does not wait for it.
func (r *Reader) Request() { r.f.request(false) }

// SetAuto has the source polled for as long as the reader is open or until it is
// set to false.
func (r *Reader) SetAuto(auto bool) {
	if auto == r.auto {
		return
	}
	r.auto = auto
	if auto {
		r.f.pollFor(1)
	} else {
		r.f.pollFor(-1)
	}
}

// WantsAuto reports whether the replica file, or else the configuration, asks for auto refresh.
// Whoever opened the reader sees to it ([Reader.SetAuto]), or knows better.
func (r *Reader) WantsAuto() bool { return r.wantsAuto }

// Close gives the version up. The reader is of no use afterwards.
func (r *Reader) Close() {
	r.SetAuto(false)
	r.s.release()
	r.f.all.unfollow(r.f)
}
