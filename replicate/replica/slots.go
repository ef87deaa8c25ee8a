package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// The slot file. All replicas of a process keep the chunks that they have
// fetched in one unlinked sparse file of 64 KiB slots, which grows by extents. A
// slot holds what its key says for as long as a version refers to it; then its
// blocks are given back and it is used again.
//
// The first extents are mapped read-only: from there C copies a page without a
// system call. From the others it takes a page by pread, as stock SQLite does:
// what is mapped counts as the host's resident memory once it is touched, and
// gigabytes of it would look like a leak, or be one where a limit counts them.
//
// Each slot has a generation, raised when the slot is given up, in memory that a
// forked child shares. An [entry] names slot and generation, and a reader
// compares before and after it copies: a child whose parent has reused a slot
// gets an error, never another chunk's bytes.
const (
	slotBytes        = chunkstore.ChunkBytes
	extentSlots      = 1 << 10 // 64 MiB
	extentBytes      = extentSlots * slotBytes
	extentsMapped    = 2               // 128 MiB
	extentsMax       = 1 << 14         // one terabyte of loaded chunks
	zeroSlot         = uint32(0)       // never given up: the chunk of zeros
	generationsBytes = 4 * extentSlots // of one extent
	fallocatePunch   = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
)

// extent is a part of the slot file; C's SlotExtent.
type extent struct {
	data        *[extentBytes]byte // nil: it is not mapped
	generations *[extentSlots]atomic.Uint32
	fd          int32 // of the slot file
	_           int32
	dev, ino    uint64 // which file that is
}

// entry is one chunk of a version, as C reads it: generation<<32 | marks | slot.
// Generations begin at 1: in an entry without one the chunk is not there.
type entry uint64

const (
	// entryAhead asks the reader that meets it to call [Reader.Ahead].
	entryAhead entry = 1 << 31
	// entryComing says that the chunk is not there but will be, so that C waits for it a
	// moment before it asks.
	entryComing entry = 1 << 30
	// entryAwaited, which C adds to entryComing, says that somebody does: on the futex at
	// the entry's address, which is its lower half.
	entryAwaited entry = 1 << 29
	// entryPatched says that the chunk has inline pages, which lie over what the slot has. It is
	// so from the beginning, whether the chunk is there or not.
	entryPatched entry = 1 << 28

	entryMarks = entryAhead | entryComing | entryAwaited | entryPatched
)

func (e entry) here() bool         { return e.generation() != 0 }
func (e entry) slot() uint32       { return uint32(e &^ entryMarks) }
func (e entry) generation() uint32 { return uint32(e >> 32) }

// slotKey names a slot's bytes: the ID of a chunk's object. Inline pages lie elsewhere (patch).
type slotKey [32]byte

var (
	// errReused: the slot has been given to another chunk since the entry was made.
	errReused = errors.New("slot was reused")
	// errSlots: a chunk came, but there is no room for it.
	errSlots = errors.New("slot file")
)

// slots is the slot file. It is safe for concurrent use.
type slots struct {
	dir         string
	memory      []byte              // anonymous memory that holds extents, for C to read
	extents     *[extentsMax]extent // each is written once, before the first entry that needs it
	generations []byte              // shared anonymous memory, of all extents

	filling sync.WaitGroup // fills outlive those who wait for them
	jobs    chan func()    // for idle workers

	mu    sync.Mutex
	file  *os.File
	grown int        // extents in use
	info  []slotInfo // by slot
	free  []uint32
	byKey map[slotKey]uint32
	fills map[slotKey]*fill
}

type slotInfo struct {
	key  slotKey
	refs int32 // versions and callers that hold an entry of it
}

// fill is the one fetch of a key that all wait for who miss it, until one of them gives up.
type fill struct {
	done    chan struct{}
	waiters int // guarded by slots.mu
	entry   entry
	err     error
}

// newSlots makes no file yet: the first chunk does, in dir.
func newSlots(dir string) (*slots, error) {
	memory, err := anonymous(extentsMax*int(unsafe.Sizeof(extent{})), unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	generations, err := anonymous(extentsMax*generationsBytes, unix.MAP_SHARED)
	if err != nil {
		unix.Munmap(memory)
		return nil, err
	}
	return &slots{
		dir: dir, memory: memory, generations: generations,
		extents: (*[extentsMax]extent)(unsafe.Pointer(&memory[0])),
		jobs:    make(chan func()), byKey: map[slotKey]uint32{}, fills: map[slotKey]*fill{},
	}, nil
}

// acquire returns an entry for key, which the caller must release. If no slot
// holds it, fetch is called, once however many callers wait, in a goroutine of
// its own: it outlives a caller whose ctx ends, but who comes after that does not wait for
// it. fetch returns at most slotBytes bytes; shorter ones are followed by zeros.
func (s *slots) acquire(
	ctx context.Context, key slotKey, fetch func() ([]byte, error),
) (entry, error) {
	for {
		entries, err := s.acquireAll(ctx, []slotKey{key}, func([]int) ([][]byte, error) {
			data, err := fetch()
			return [][]byte{data}, err
		})
		if !errors.Is(err, errTogether) || ctx.Err() != nil {
			return entries[0], err
		}
	}
}

// acquireAll is acquire for several keys, of which those that no slot holds, and nobody fetches
// yet, are fetched together: by one call of fetch, with their indexes in keys. It returns an entry
// for each key, or 0 where that failed, and the first error. If it was others who fetched that key
// together with more, the error wraps errTogether.
func (s *slots) acquireAll(
	ctx context.Context, keys []slotKey, fetch func(missing []int) ([][]byte, error),
) (entries []entry, err error) {
	entries, fills := make([]entry, len(keys)), make([]*fill, len(keys))
	var missing []int
	s.mu.Lock()
	for k, key := range keys {
		if slot, ok := s.byKey[key]; ok {
			s.info[slot].refs++
			entries[k] = s.entryOf(slot)
			continue
		}
		f := s.fills[key]
		if f == nil {
			f = &fill{done: make(chan struct{})}
			s.fills[key] = f
			missing = append(missing, k)
		}
		f.waiters++
		fills[k] = f
	}
	if len(missing) > 0 {
		s.filling.Add(1)
		s.work(func() {
			defer s.filling.Done()
			s.fillAll(keys, fills, missing, fetch)
		})
	}
	s.mu.Unlock()
	for k, f := range fills {
		if f == nil {
			continue
		}
		var failed error
		if entries[k], failed = s.await(ctx, keys[k], f); err == nil {
			err = failed
		}
	}
	return entries, err
}

// await waits for the fill of key, of which the caller is one of the waiters.
func (s *slots) await(ctx context.Context, key slotKey, f *fill) (entry, error) {
	select {
	case <-f.done:
		return f.entry, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-f.done: // it ended just now: the reference is ours to give back
		if f.err == nil {
			s.releaseLocked([]entry{f.entry})
		}
	default:
		f.waiters--
		if s.fills[key] == f {
			delete(s.fills, key) // it may hang for long yet, while its target is well again
		}
	}
	return 0, context.Cause(ctx)
}

// lookup returns an entry for key, which the caller must release, if a slot holds it.
func (s *slots) lookup(key slotKey) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.byKey[key]
	if !ok {
		return 0, false
	}
	s.info[slot].refs++
	return s.entryOf(slot), true
}

// store is acquire of what the caller has: data, which is copied.
func (s *slots) store(key slotKey, data []byte) (entry, error) {
	if e, ok := s.lookup(key); ok {
		return e, nil
	}
	f := &fill{done: make(chan struct{}), waiters: 1}
	s.fill(key, f, data, nil)
	return f.entry, f.err
}

// shareAll takes one more reference to each of entries that is there, which the caller holds.
func (s *slots) shareAll(entries *[partChunks]atomic.Uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range entries {
		if e := entry(entries[k].Load()); e.here() {
			s.info[e.slot()].refs++
		}
	}
}

// share takes one more reference to an entry that the caller holds.
func (s *slots) share(e entry) {
	s.mu.Lock()
	s.info[e.slot()].refs++
	s.mu.Unlock()
}

// work runs job in a goroutine that has run others before, if one is idle: its stack is as large by
// now as the SDK's layers need. A new one's is doubled four times on the way down,
// and copied each time: a tenth of what a scan takes of the processors.
func (s *slots) work(job func()) {
	select {
	case s.jobs <- job:
		return
	default:
	}
	go func() {
		for {
			job()
			select {
			case job = <-s.jobs:
			case <-time.After(workerIdle):
				return
			}
		}
	}()
}

// workerIdle is how long a goroutine waits for another job.
const workerIdle = time.Second

// errTogether: a fetch of several chunks failed. Another one may be to blame.
var errTogether = errors.New("fetched together")

// fillAll performs the fills of those of keys that are missing.
func (s *slots) fillAll(
	keys []slotKey, fills []*fill, missing []int, fetch func(missing []int) ([][]byte, error),
) {
	data, err := fetchAll(missing, fetch)
	if err != nil && len(missing) > 1 {
		err = fmt.Errorf("%d chunks %w: %w", len(missing), errTogether, err)
	}
	for n, k := range missing {
		if err != nil {
			s.fill(keys[k], fills[k], nil, err)
		} else {
			s.fill(keys[k], fills[k], data[n], nil)
		}
	}
}

// fetchAll is fetch, of which a panic is an error.
func fetchAll(
	missing []int, fetch func(missing []int) ([][]byte, error),
) (data [][]byte, err error) {
	defer recoverTo(&err)
	if data, err = fetch(missing); err == nil && len(data) != len(missing) {
		err = fmt.Errorf("%d chunks of %d", len(data), len(missing))
	}
	return data, err
}

// fill ends f with data, or err.
func (s *slots) fill(key slotKey, f *fill, data []byte, err error) {
	var slot uint32
	if err == nil {
		slot, err = s.write(data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	if s.fills[key] == f {
		delete(s.fills, key)
	}
	if f.err = err; err != nil {
		return
	}
	if earlier, ok := s.byKey[key]; ok { // a fill that began later was faster
		s.free = append(s.free, slot)
		slot = earlier
	} else {
		s.byKey[key] = slot
		s.info[slot].key = key
	}
	s.info[slot].refs += int32(f.waiters)
	f.entry = s.entryOf(slot)
	if f.waiters == 0 {
		s.info[slot].refs++
		s.releaseLocked([]entry{f.entry})
	}
}

// recoverTo turns a panic into an error, in goroutines of ours in hosts of others.
// It is to be deferred.
func recoverTo(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// write puts data into a free slot and returns it. The bytes go through the
// file and not through the mapping, so that a full disk is an error, not a SIGBUS.
func (s *slots) write(data []byte) (slot uint32, err error) {
	defer recoverTo(&err)
	s.mu.Lock()
	slot, err = s.takeLocked()
	file := s.file
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if len(data) < slotBytes { // a reused slot may hold anything
		data = append(data[:len(data):len(data)], make([]byte, slotBytes-len(data))...)
	}
	if _, err := file.WriteAt(data, int64(slot)*slotBytes); err != nil {
		s.mu.Lock()
		s.free = append(s.free, slot)
		s.mu.Unlock()
		return 0, fmt.Errorf("write to the %w in %s: %w", errSlots, s.dir, err)
	}
	return slot, nil
}

func (s *slots) takeLocked() (uint32, error) {
	if len(s.free) == 0 {
		if err := s.growLocked(); err != nil {
			return 0, fmt.Errorf("grow the %w in %s: %w", errSlots, s.dir, err)
		}
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return slot, nil
}

// growLocked adds one extent.
func (s *slots) growLocked() (err error) {
	if s.grown == extentsMax {
		return errors.New("a terabyte of chunks is in use")
	}
	if s.file == nil {
		if s.file, err = UnlinkedFile(s.dir); err != nil {
			return err
		}
	}
	offset := int64(s.grown) * extentBytes
	if err := s.file.Truncate(offset + extentBytes); err != nil {
		return err
	}
	if s.grown == 0 {
		// To read a hole through the mapping takes a block on tmpfs: SIGBUS if there is none.
		_, err := s.file.WriteAt(make([]byte, slotBytes), int64(zeroSlot)*slotBytes)
		if err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	x := extent{
		dev: uint64(st.Dev),
		ino: st.Ino,
		generations: (*[extentSlots]atomic.Uint32)(
			unsafe.Pointer(&s.generations[s.grown*generationsBytes])),
		fd: int32(s.file.Fd()),
	}
	if s.grown < extentsMapped {
		data, err := unix.Mmap(int(x.fd), offset, extentBytes, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
		x.data = (*[extentBytes]byte)(data)
	}
	s.extents[s.grown] = x
	first := uint32(s.grown) * extentSlots
	s.grown++
	s.info = append(s.info, make([]slotInfo, extentSlots)...)
	for i := range uint32(extentSlots) {
		slot := first + extentSlots - 1 - i
		s.generation(slot).Store(1)
		if slot != zeroSlot {
			s.free = append(s.free, slot)
		}
	}
	if first == zeroSlot {
		s.info[zeroSlot] = slotInfo{key: slotKey(chunkstore.ZeroID), refs: 1}
		s.byKey[slotKey(chunkstore.ZeroID)] = zeroSlot
	}
	return nil
}

// zeros returns an entry of the slot of zeros, which the caller must release.
func (s *slots) zeros() (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown == 0 {
		if err := s.growLocked(); err != nil {
			return 0, fmt.Errorf("grow the %w in %s: %w", errSlots, s.dir, err)
		}
	}
	s.info[zeroSlot].refs++
	return s.entryOf(zeroSlot), nil
}

// release gives entries back. A slot that nobody refers to any more is free.
func (s *slots) release(entries []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(entries)
}

func (s *slots) releaseLocked(entries []entry) {
	var freed []uint32
	for _, e := range entries {
		slot := e.slot()
		info := &s.info[slot]
		info.refs--
		if info.refs > 0 {
			continue
		}
		delete(s.byKey, info.key)
		*info = slotInfo{}
		// 0 would make an entry of slot 0 look absent; 2^32 uses of one slot later
		// a forgotten entry would match again.
		if s.generation(slot).Add(1) == 0 {
			s.generation(slot).Store(1)
		}
		freed = append(freed, slot)
	}
	slices.Sort(freed)
	for i := 0; i < len(freed); {
		n := 1
		for i+n < len(freed) && freed[i+n] == freed[i]+uint32(n) {
			n++
		}
		// A file system that cannot punch holes keeps the blocks until they are
		// written again: the file never grows for it.
		_ = unix.Fallocate(int(s.file.Fd()), fallocatePunch, int64(freed[i])*slotBytes,
			int64(n)*slotBytes)
		i += n
	}
	s.free = append(s.free, freed...)
}

// copyOut copies len(p) bytes from offset off of the slot that e names; what C's
// entryCopy does. The caller holds e.
func (s *slots) copyOut(p []byte, e entry, off int) error {
	g := s.generation(e.slot())
	if g.Load() != e.generation() {
		return errReused
	}
	if data := s.extents[e.slot()/extentSlots].data; data != nil {
		copy(p, data[e.slot()%extentSlots*slotBytes:][:slotBytes][off:])
	} else if _, err := s.file.ReadAt(p, int64(e.slot())*slotBytes+int64(off)); err != nil {
		return fmt.Errorf("read the %w in %s: %w", errSlots, s.dir, err)
	}
	if g.Load() != e.generation() {
		return errReused
	}
	return nil
}

func (s *slots) generation(slot uint32) *atomic.Uint32 {
	return &s.extents[slot/extentSlots].generations[slot%extentSlots]
}

func (s *slots) entryOf(slot uint32) entry {
	return entry(s.generation(slot).Load())<<32 | entry(slot)
}

// inUse returns the number of slots that versions refer to, without that of zeros.
func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, len(s.info)-len(s.free)-1)
}

// close unmaps everything. Nothing may refer to a slot any more, and what fetches
// for one must have been told to end.
func (s *slots) close() error {
	s.filling.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.extents[:min(s.grown, extentsMapped)] {
		unix.Munmap(x.data[:])
	}
	s.grown = 0
	unix.Munmap(s.generations)
	unix.Munmap(s.memory)
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// anonymous maps n zero bytes outside the Go heap, where C may keep pointers.
func anonymous(n, flags int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE,
		flags|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return memory, nil
}

// UnlinkedFile makes a file in dir that has no name and goes with its last descriptor.
func UnlinkedFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return keep(fd, dir)
	}
	// Not every file system has O_TMPFILE; what else is wrong will show here too.
	f, err := os.CreateTemp(dir, "verneuil-*")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return keep(fd, dir)
}

// keep returns the file of fd, above 2: a host that was started without standard
// streams would write what it has to say into slots.
func keep(fd int, dir string) (*os.File, error) {
	if fd <= 2 {
		low := fd
		defer unix.Close(low)
		var err error
		if fd, err = unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	return os.NewFile(uintptr(fd), dir+"/(verneuil)"), nil
}
