package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

const (
	pageBytes   = 4096
	headerBytes = 56
	slotMagic   = "VRMS"
	slotVersion = 1

	// StateBytesMax bounds a state: a record of RecordBytesMax in base64, and half as much again.
	StateBytesMax = 2 * chunkstore.RecordBytesMax
	// SlotBytes is from slot 0 to slot 1.
	SlotBytes = headerBytes + StateBytesMax
)

// File is one opening of the file of a database. It is safe for concurrent use. A child that was
// forked must not use it.
type File struct {
	place place
	page  *Page // L4

	mu      sync.Mutex
	f       *os.File
	is      identity // f's
	held    bool     // the lock is
	private error    // why f is nobody else's; nil: it is the path's
	strange bool     // f has left a file, and has neither loaded nor stored a state since
	left    []byte   // the state of the file that f has left; nil: none, or it is not known
	// The last slot of this file that was stored or loaded; nil: none.
	header, state []byte
}

// Open opens the file of the database with that name in dir, and makes it if it is not there. If
// that cannot be done, the File is private: it does all that a file does, for nobody else, and
// [File.Private] says why. It fails if there is no memory for that.
func Open(dir, name string) (*File, error) {
	f := &File{}
	var err error
	if f.place, err = placeOf(dir, name); err != nil {
		err = f.alone(err)
	} else if err = f.open(); err == nil && f.private == nil {
		f.place.tidy()
	}
	if err != nil {
		return nil, fmt.Errorf("the file by which processes share a lease: %w", err)
	}
	return f, nil
}

// Page returns the page, which is at the same place until Close.
func (f *File) Page() *Page { return f.page }

// Name is the path, for messages.
func (f *File) Name() string { return filepath.Join(f.place.dir, f.place.name) }

// Private returns why no other process shares f; nil if they can.
func (f *File) Private() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.private
}

// open makes the path's file the one that is open, or a private one.
func (f *File) open() error {
	file, err := f.place.open()
	if err == nil {
		if err = f.use(file); err != nil {
			file.Close()
		}
	}
	if err != nil {
		return f.alone(err)
	}
	f.private = nil
	return nil
}

// alone makes the open file one that nobody else finds, for that reason.
func (f *File) alone(reason error) error {
	fd, err := unix.MemfdCreate("verneuil-remote", unix.MFD_CLOEXEC)
	if err != nil {
		return errors.Join(reason, err)
	}
	file := os.NewFile(uintptr(fd), "verneuil-remote")
	if err := f.use(file); err != nil {
		file.Close()
		return errors.Join(reason, err)
	}
	f.private = reason
	return nil
}

// use allocates and maps the page of file, in the place of that which was mapped (L4).
func (f *File) use(file *os.File) error {
	fd := int(file.Fd())
	if err := unix.Fallocate(fd, 0, 0, pageBytes); errors.Is(err, unix.EOPNOTSUPP) {
		// Others may have begun to use it. Zeros are no promise, and no state.
		if _, err := file.WriteAt(make([]byte, pageBytes), 0); err != nil {
			return fmt.Errorf("allocate the page: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("allocate the page of %s: %w", file.Name(), err)
	}
	is, err := identityOf(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name(), err)
	}
	flags := unix.MAP_SHARED
	if f.page != nil {
		flags |= unix.MAP_FIXED
	}
	at, err := unix.MmapPtr(fd, 0, unsafe.Pointer(f.page), pageBytes,
		unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return fmt.Errorf("map %s: %w", file.Name(), err)
	}
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.is, f.header, f.state = file, is, nil, nil
	if f.page == nil { // else it is where it was, and others read f.page
		f.page = (*Page)(at)
	}
	return nil
}

// Renew moves f to the path's file, if that is another one by now. It does nothing while f has the
// lock.
func (f *File) Renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.renew()
}

// renew leaves a file that no path leads to. It takes back what the page promises there, as others
// may have it mapped still, and takes the state away (L6). It does so under that file's lock:
// nobody takes that again to promise anything.
func (f *File) renew() error {
	if f.held || f.private != nil || f.place.has(f.is) {
		return nil
	}
	f.strange = true
	if f.flock(unix.F_WRLCK) == nil {
		f.page.Withdraw()
		if state, ok := f.load(); ok {
			f.left = state
		}
		f.page.sequence.Store(0)
		f.flock(unix.F_UNLCK)
	} else {
		f.left = nil
	}
	return f.open()
}

// Left reports whether f has left a file since it last loaded or stored a state, and what was the
// state there; nil: there was none, or somebody else had the lock. Whoever has stored it or loaded
// it last, and finds that nobody has gone on, is who he was; to all others what was promised on
// pages of files that they have not seen is unknown.
func (f *File) Left() (state []byte, left bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left, f.strange
}

// TryLock takes the lock if nobody has it, and reports whether it did so. f itself counts as
// somebody. Before that f moves to the path's file, if it is another one.
func (f *File) TryLock() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held {
		return false, nil
	}
	for range 8 {
		err := f.flock(unix.F_WRLCK)
		taken := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)
		if err != nil && !taken {
			return false, fmt.Errorf("lock %s: %w", f.f.Name(), err)
		}
		if f.private != nil || f.place.has(f.is) {
			f.held = !taken
			return f.held, nil
		}
		if !taken {
			f.flock(unix.F_UNLCK)
		}
		if err := f.renew(); err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("lock %s: it is removed again and again", f.f.Name())
}

// Free reports whether nobody seems to have the lock.
func (f *File) Free() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(f.f.Fd(), unix.F_OFD_GETLK, &l)
	return !f.held && (err != nil || l.Type == unix.F_UNLCK)
}

// Unlock gives the lock back, if f has it.
func (f *File) Unlock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlock()
}

// unlock: to close the file is not enough, as a forked child may have it, too.
func (f *File) unlock() {
	if f.held {
		f.flock(unix.F_UNLCK) // cannot fail: nothing is allocated for all of a range
		f.held = false
	}
}

func (f *File) flock(kind int16) error {
	return unix.FcntlFlock(f.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
}

// Break gives the path a new file, if f's lock is somebody else's, and the path still leads to
// f's. It is for who has found the holder dead by the log, and yet the lock taken. The holder, if
// it is alive, finds out by the log.
func (f *File) Break() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held || f.private != nil {
		return nil
	}
	if f.place.has(f.is) {
		err := os.Remove(filepath.Join(f.place.dir, f.place.name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("give up a lock that nobody gives back: %w", err)
		}
	}
	return f.renew()
}

// ErrLeft is why a File is private after [File.Leave].
var ErrLeft = errors.New("this process shares the file no more")

// Leave gives the lock back, and makes f private: the page stays where it is, and promises nothing.
// Others find the state that was stored last. It fails if there is no memory for that; then the
// lock is given back all the same.
func (f *File) Leave() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	f.unlock()
	if err := f.alone(ErrLeft); err != nil {
		return fmt.Errorf("leave the file that processes share: %w", err)
	}
	return nil
}

// Load returns the state, which nobody may change; ok is false if there is none. f must have the
// lock.
func (f *File) Load() (state []byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.held {
		return nil, false
	}
	if state, ok = f.load(); ok {
		f.strange, f.left = false, nil
	}
	return state, ok
}

// Peek returns a state that was stored a moment ago, or is; ok is false if none is found. f need
// not have the lock: whoever has it may go on meanwhile.
func (f *File) Peek() (state []byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

func (f *File) load() (state []byte, ok bool) {
	sequence := f.page.sequence.Load()
	if sequence == 0 {
		return nil, false
	}
	slot := pageBytes + int64(sequence&1)*SlotBytes
	header := make([]byte, headerBytes)
	if _, err := f.f.ReadAt(header, slot); err != nil {
		return nil, false
	}
	if bytes.Equal(header, f.header) { // which has a hash of the state
		return f.state, true
	}
	length := binary.LittleEndian.Uint64(header[16:])
	if length > StateBytesMax {
		return nil, false
	}
	state = make([]byte, length)
	if _, err := f.f.ReadAt(state, slot+headerBytes); err != nil && length > 0 {
		return nil, false
	}
	if !bytes.Equal(header, f.headerOf(sequence, state)) { // L2
		return nil, false
	}
	f.header, f.state = header, state
	return state, true
}

// Store replaces the state, which f retains. After an error there is none (L2). f must have the
// lock.
func (f *File) Store(state []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.held {
		return errors.New("store a state without the lock")
	}
	err := f.store(state)
	if err != nil {
		f.page.sequence.Store(0)
		return fmt.Errorf("store a state for the next process: %w", err)
	}
	return nil
}

func (f *File) store(state []byte) error {
	if len(state) > StateBytesMax {
		return fmt.Errorf("it has %d bytes; at most %d", len(state), StateBytesMax)
	}
	sequence := f.page.sequence.Load() + 1
	slot := pageBytes + int64(sequence&1)*SlotBytes
	header := f.headerOf(sequence, state)
	if _, err := f.f.WriteAt(append(header, state...), slot); err != nil {
		return err
	}
	f.page.sequence.Store(sequence) // it counts
	f.header, f.state = header, state
	f.strange, f.left = false, nil
	return nil
}

// Clear removes the state. f must have the lock.
func (f *File) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held {
		f.page.sequence.Store(0)
	}
}

// headerOf is that of the slot that has state.
func (f *File) headerOf(sequence uint64, state []byte) []byte {
	h := make([]byte, 0, headerBytes+len(f.place.name)+len(state))
	h = binary.LittleEndian.AppendUint32(append(h, slotMagic...), slotVersion)
	h = binary.LittleEndian.AppendUint64(h, sequence)
	h = binary.LittleEndian.AppendUint64(h, uint64(len(state)))
	n := len(h)
	sum := chunkstore.Sum(append(append(h, f.place.name...), state...))
	return append(h[:n], sum[:]...)
}

// Close gives the lock back. Nobody may use the page any more.
func (f *File) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return
	}
	f.unlock()
	unix.MunmapPtr(unsafe.Pointer(f.page), pageBytes)
	f.f.Close()
	f.f, f.page = nil, nil
}
