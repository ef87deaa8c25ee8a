package replica

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
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
	if entry := r.s.table.word(i); entry != nil {
		if old := entry.And(^uint64(entryAhead)); old&uint64(entryAhead) != 0 {
			r.Ahead(i)
		}
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

// SetLeavesAtOnce has other databases be large ones, whose leaves are not fetched at once.
func (all *Set) SetLeavesAtOnce(bytes int) { all.leavesAtOnce = bytes }

// Quiet reports whether nothing is fetched ahead.
func (all *Set) Quiet() bool { return len(all.ahead) == 0 }

// MemoryInUse is how many bytes of tables there are.
func (all *Set) MemoryInUse() (n int) {
	all.memory.mu.Lock()
	defer all.memory.mu.Unlock()
	for _, block := range all.memory.all {
		n += len(block)
	}
	for _, pieces := range all.memory.free {
		for _, piece := range pieces {
			n -= len(piece)
		}
	}
	return n
}

// Fault says how r's table, as C reads it, differs from what it is to be; "": it does not.
func (r *Reader) Fault() (fault string) {
	t := r.s.table
	var patches []int
	for _, p := range t.patches {
		patches = append(patches, p.chunk)
	}
	if !slices.IsSorted(patches) || len(patches) != int(t.head.patched) {
		return fmt.Sprint("patches of ", patches, ", shown ", t.head.patched)
	}
	for k := range t.parts {
		p := t.parts[k].Load()
		shown := t.shown[k].Load()
		if p == nil && shown != 0 || p != nil && shown != uint64(address(p.piece)) {
			return fmt.Sprint("part ", k, " is not where it is shown")
		}
	}
	present, quiet := int64(0), r.f.all.Quiet()
	defer func() {
		if n := t.present(); quiet && fault == "" && n != present {
			fault = fmt.Sprint(n, " chunks are counted of ", present)
		}
	}()
	for i := range t.chunks() {
		if t.here(i) {
			present++
		}
		_, patched := slices.BinarySearch(patches, i)
		if patched != (t.entry(i)&entryPatched != 0) || patched != (len(r.s.m.InlineOf(i)) > 0) {
			return fmt.Sprint("chunk ", i, " is patched, or is not")
		}
	}
	return ""
}

// ReadAsC reads what lies in one chunk as cgo/versiontable.c does, from what it sees. It returns
// false where that would ask Go.
func (r *Reader) ReadAsC(p []byte, off int64) bool {
	t := r.s.table
	i, within := int(off/slotBytes), int(off%slotBytes)
	address := uintptr(t.shown[i/partChunks].Load())
	if address == 0 {
		return false
	}
	entries := (*[partChunks]atomic.Uint64)(pointer(address))
	e := entry(entries[i%partChunks].Load())
	lay := func() (copied int) {
		if e&entryPatched == 0 {
			return 0
		}
		rows := unsafe.Slice((*patchRow)(pointer(t.head.patches)), t.head.patched)
		k := slices.IndexFunc(rows, func(row patchRow) bool { return row.chunk == uint32(i) })
		for _, run := range unsafe.Slice((*patchRun)(pointer(rows[k].run)), rows[k].runs) {
			from := max(int(run.off), within)
			to := min(int(run.off+run.n), within+len(p))
			if from < to {
				data := unsafe.Slice((*byte)(pointer(run.data)), run.n)
				copied += copy(p[from-within:to-within], data[from-int(run.off):])
			}
		}
		return copied
	}
	if lay() < len(p) {
		if !e.here() || r.f.all.slots.copyOut(p, e, within) != nil {
			return false
		}
		lay()
	}
	if n := int64(t.head.headerBytes.Load()); off < n {
		copy(p, t.head.header[off:n])
	}
	return true
}

// pointer is one that C would follow.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }
