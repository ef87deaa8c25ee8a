package replica

import (
	"math"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/spool/sqlitefile"
)

// tableHead is how a version looks to C (cgo/versiontable.h: VersionTable, the same
// offsets). It lives in anonymous memory outside the Go heap. All but the
// atomics is constant from the moment that C sees it.
//
//	offset size
//	0      8    length of the file
//	8      4    chunks
//	12     4    change counter that SQLite is shown: differs between any two versions
//	16     8    address of the extents of the slot file
//	24     4    0, or how many bytes of header are valid: stored before entry 0 is
//	28     100  the first bytes of the file, as SQLite is shown them
//	128    8*n  entries, one per chunk
type tableHead struct {
	fileBytes   uint64
	chunks      uint32
	counter     uint32
	extents     unsafe.Pointer
	headerBytes atomic.Uint32
	header      [sqlitefile.HeaderBytes]byte
}

// table is a version's memory.
type table struct {
	memory  []byte
	head    *tableHead
	entries []atomic.Uint64
}

// newTable maps a table without any chunk. Untouched parts of it cost no memory.
func newTable(fileBytes int64, chunks int, counter uint32, extents unsafe.Pointer) (*table, error) {
	memory, err := anonymous(int(unsafe.Sizeof(tableHead{}))+8*chunks, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	head := (*tableHead)(unsafe.Pointer(&memory[0]))
	head.fileBytes = uint64(fileBytes)
	head.chunks = uint32(chunks)
	head.counter = counter
	head.extents = extents
	t := &table{memory: memory, head: head}
	if chunks > 0 {
		t.entries = unsafe.Slice(
			(*atomic.Uint64)(unsafe.Pointer(&memory[unsafe.Sizeof(tableHead{})])), chunks)
	}
	return t, nil
}

func (t *table) entry(i int) entry { return entry(t.entries[i].Load()) }

// here reports whether chunk i is there.
func (t *table) here(i int) bool { return t.entry(i).here() }

// publish makes chunk i visible to C, and wakes who waits for it. It returns false if it
// is so already: then e is still the caller's.
func (t *table) publish(i int, e entry) bool {
	return t.replace(i, func(old entry) entry { return e | old&entryAhead })
}

// expect says that chunk i, if it is not there, is coming: [table.publish] or
// [table.forget] follows. The first to expect a chunk is told so.
func (t *table) expect(i int) (first bool) {
	old := t.entry(i)
	return !old.here() && old&entryComing == 0 &&
		t.entries[i].CompareAndSwap(uint64(old), uint64(old|entryComing))
}

// forget takes back that chunk i is coming, unless it has come.
func (t *table) forget(i int) { t.replace(i, func(entry) entry { return 0 }) }

// replace changes the entry of chunk i, and wakes who waits for it, unless the chunk is
// there: then it returns false.
func (t *table) replace(i int, change func(old entry) entry) bool {
	for {
		old := t.entry(i)
		if old.here() {
			return false
		}
		if t.entries[i].CompareAndSwap(uint64(old), uint64(change(old))) {
			if old&entryAwaited != 0 {
				wakeAll(&t.entries[i])
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
func (t *table) mark(i int) { t.entries[i].Or(uint64(entryAhead)) }

// setHeader shows SQLite the first bytes of the file with its own counter, and the schema
// cookie that cookie makes of the file's. To be called once, before entry 0 is published.
func (t *table) setHeader(first []byte, cookie func(uint32) uint32) {
	n := copy(t.head.header[:], first)
	showHeader(t.head.header[:n], t.head.counter, cookie)
	t.head.headerBytes.Store(uint32(n))
}

// all returns every entry that is there.
func (t *table) all() []entry {
	var all []entry
	for i := range t.entries {
		if e := t.entry(i); e.here() {
			all = append(all, e)
		}
	}
	return all
}

// free unmaps t; nobody may look at it any more.
func (t *table) free() { unix.Munmap(t.memory) }

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
