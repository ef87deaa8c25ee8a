package replica

import (
	"math"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/spool/sqlitefile"
)

// tableHead is how a version looks to C (cgo/versiontable.h: VersionTable, the same
// offsets). It lies outside the Go heap. All but the atomics is constant from the moment that C
// sees it.
//
//	offset size
//	0      8    length of the file
//	8      4    chunks
//	12     4    change counter that SQLite is shown: see D3
//	16     8    address of the extents of the slot file
//	24     4    0, or how many bytes of header are valid: stored before entry 0 is
//	28     100  the first bytes of the file, as SQLite is shown them
//	128    8    address of the patches of chunks, ascending by chunk
//	136    4    how many
//	144    8*n  addresses of parts, one for each 256 chunks; 0: none of them is here
type tableHead struct {
	fileBytes   uint64
	chunks      uint32
	counter     uint32
	extents     uintptr
	headerBytes atomic.Uint32
	header      [sqlitefile.HeaderBytes]byte
	patches     uintptr
	patched     uint32
	_           uint32
}

// partChunks is how many chunks a part of a table has: enough that the parts of a large database
// are few, and few enough that one is copied in no time.
const partChunks = 256

// part is the entries of some chunks, which versions share in which all of them are the same. It
// holds the slots.
type part struct {
	piece   []byte
	entries *[partChunks]atomic.Uint64
	refs    atomic.Int32 // tables that have it
	present atomic.Int32 // chunks that are there
}

func newPart(from *memory) (*part, error) {
	piece, err := from.get(8 * partChunks)
	if err != nil {
		return nil, err
	}
	p := &part{piece: piece, entries: at[[partChunks]atomic.Uint64](piece, 0)}
	p.refs.Store(1)
	return p, nil
}

// copyOf returns a copy of p, but for the chunks of which without says true. It shares the slots.
func (p *part) copyOf(from *memory, s *slots, without func(k int) bool) (*part, error) {
	c, err := newPart(from)
	if err != nil {
		return nil, err
	}
	for k := range p.entries {
		if e := entry(p.entries[k].Load()); e.here() && !without(k) {
			c.entries[k].Store(uint64(e &^ entryMarks))
			c.present.Add(1)
		}
	}
	s.shareAll(c.entries)
	return c, nil
}

// release gives one table's reference to p back.
func (p *part) release(to *memory, s *slots) {
	if p.refs.Add(-1) > 0 {
		return
	}
	all := make([]entry, 0, partChunks)
	for k := range p.entries {
		if e := entry(p.entries[k].Load()); e.here() {
			all = append(all, e)
		}
	}
	s.release(all)
	to.put(p.piece)
}

// table is a version's memory.
type table struct {
	from    *memory
	head    *tableHead
	piece   []byte          // of head, and of what follows it
	shown   []atomic.Uint64 // the parts' addresses
	parts   []atomic.Pointer[part]
	patches []*patch // ascending by chunk
	rows    []byte   // that show them to C
}

// newTable makes a table without any chunk.
func newTable(
	from *memory, fileBytes int64, chunks int, counter uint32, extents unsafe.Pointer,
) (*table, error) {
	const headBytes = int(unsafe.Sizeof(tableHead{}))
	parts := (chunks + partChunks - 1) / partChunks
	piece, err := from.get(headBytes + 8*parts)
	if err != nil {
		return nil, err
	}
	t := &table{from: from, head: at[tableHead](piece, 0), piece: piece,
		parts: make([]atomic.Pointer[part], parts)}
	t.head.fileBytes = uint64(fileBytes)
	t.head.chunks = uint32(chunks)
	t.head.counter = counter
	t.head.extents = uintptr(extents)
	if parts > 0 {
		t.shown = unsafe.Slice(at[atomic.Uint64](piece, headBytes), parts)
	}
	return t, nil
}

// chunks is how many chunks the version has.
func (t *table) chunks() int { return int(t.head.chunks) }

// set makes p, whose reference it takes, part k of t, if it has none.
func (t *table) set(k int, p *part) bool {
	if !t.parts[k].CompareAndSwap(nil, p) {
		return false
	}
	t.shown[k].Store(uint64(address(p.piece)))
	return true
}

// makePart sees to it that there is a part with chunk i.
func (t *table) makePart(i int) error {
	k := i / partChunks
	if t.parts[k].Load() != nil {
		return nil
	}
	p, err := newPart(t.from)
	if err != nil {
		return err
	}
	if !t.set(k, p) { // another goroutine was faster
		t.from.put(p.piece)
	}
	return nil
}

// word is where the entry of chunk i is; nil: it has none, and is not here.
func (t *table) word(i int) *atomic.Uint64 {
	if k := i / partChunks; k < len(t.parts) {
		if p := t.parts[k].Load(); p != nil {
			return &p.entries[i%partChunks]
		}
	}
	return nil
}

func (t *table) entry(i int) entry {
	if w := t.word(i); w != nil {
		return entry(w.Load())
	}
	return 0
}

// here reports whether chunk i is there.
func (t *table) here(i int) bool { return t.entry(i).here() }

// present is how many chunks are there.
func (t *table) present() (n int64) {
	for k := range t.parts {
		if p := t.parts[k].Load(); p != nil {
			n += int64(p.present.Load())
		}
	}
	return n
}

// publish makes chunk i visible to C, and wakes who waits for it. It returns false if it
// is so already, or if there is no part for it: then e is still the caller's.
func (t *table) publish(i int, e entry) bool {
	if !t.replace(i, func(old entry) entry { return e | old&(entryAhead|entryPatched) }) {
		return false
	}
	t.parts[i/partChunks].Load().present.Add(1)
	return true
}

// expect says that chunk i, if it is not there, is coming: [table.publish] or
// [table.forget] follows. The first to expect a chunk is told so.
func (t *table) expect(i int) (first bool) {
	if t.makePart(i) != nil {
		return false
	}
	w := t.word(i)
	old := entry(w.Load())
	return !old.here() && old&entryComing == 0 &&
		w.CompareAndSwap(uint64(old), uint64(old|entryComing))
}

// forget takes back that chunk i is coming, unless it has come.
func (t *table) forget(i int) {
	t.replace(i, func(old entry) entry { return old & entryPatched })
}

// replace changes the entry of chunk i, and wakes who waits for it, unless the chunk is
// there, or has no part: then it returns false.
func (t *table) replace(i int, change func(old entry) entry) bool {
	w := t.word(i)
	if w == nil {
		return false
	}
	for {
		old := entry(w.Load())
		if old.here() {
			return false
		}
		if w.CompareAndSwap(uint64(old), uint64(change(old))) {
			if old&entryAwaited != 0 {
				wakeAll(w)
			}
			return true
		}
	}
}

// wakeAll wakes the threads of this process that wait on the futex at entry.
func wakeAll(entry *atomic.Uint64) {
	const futexWakePrivate = 1 | 128 // linux/futex.h
	unix.Syscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(entry)), futexWakePrivate, math.MaxInt32)
}

// mark asks the reader that comes to chunk i, which is there or coming, to call
// [Reader.Ahead].
func (t *table) mark(i int) {
	if t.makePart(i) == nil {
		t.word(i).Or(uint64(entryAhead))
	}
}

// setHeader shows SQLite the first bytes of the file with its own counter, and the schema
// cookie that cookie makes of the file's. To be called once, before entry 0 is published.
func (t *table) setHeader(first []byte, cookie func(uint32) uint32) {
	n := copy(t.head.header[:], first)
	showHeader(t.head.header[:n], t.head.counter, cookie)
	t.head.headerBytes.Store(uint32(n))
}

// free gives up all that t has; nobody may look at it any more.
func (t *table) free(s *slots) {
	for k := range t.parts {
		if p := t.parts[k].Load(); p != nil {
			p.release(t.from, s)
		}
	}
	for _, p := range t.patches {
		p.release(t.from)
	}
	if t.rows != nil {
		t.from.put(t.rows)
	}
	t.from.put(t.piece)
}

// showHeader makes a database's header the one that replicas see: a database in
// rollback mode whose change counter is counter, so that SQLite looks for no WAL
// and drops its page cache exactly when the version changes (pager.c,
// pagerOpenWal and pager_shared_lock), and its schema when cookie says so (vdbe.c, OP_Transaction).
func showHeader(first []byte, counter uint32, cookie func(uint32) uint32) {
	if len(first) < sqlitefile.HeaderBytes {
		return
	}
	h := (*sqlitefile.Header)(first)
	if !h.IsDatabase() {
		return // SQLite shall see it as it is
	}
	h.LeaveWAL()
	h.SetSchemaCookie(cookie(h.SchemaCookie()))
	h.SetChangeCounter(counter)
}
