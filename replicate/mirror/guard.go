package mirror

import (
	"fmt"
	"hash/fnv"
	"time"

	"golang.org/x/sys/unix"
)

// changing in a note says that the rest of it is a time, Unix ns.
const changing = 1 << 63

const (
	// touchEvery is how old the time in a note may be when a file is changed.
	touchEvery = 500 * time.Millisecond
	// touchMost is how long after the time in a note a dead process may have changed
	// a file: one call of it may have taken long.
	touchMost = 2 * time.Second
)

// guard is what a mirror needs to find out that somebody else has changed its files. Nobody has a
// reason to; but what they wrote would be sent as if it were the database. A note in the state page
// survives us:
//
//	Stamp              nobody is changing the files; this is what they are like
//	changing | time    they are being changed, since not long before
//	0                  nothing is known
//
// So a kill costs nothing: if the files were changed last at a time at which we may have changed
// them, they are taken for what was left. What others do to them within that time is not noticed.
type guard struct {
	note    Note      // nil: none is kept
	touched time.Time // what the note says of when we change the files; zero: it has a stamp
	doubted bool      // the note is 0, and is to stay so until all is marked
}

// Note is a word that outlives the process: spool's State has it.
type Note interface {
	Load() uint64
	Store(uint64)
}

// Guard has the mirror keep a note, in the state, of what its files are like, and
// reports whether they are what the note says. If they are not, the caller gives the mirror no
// generation, and then calls [Mirror.MarkAll].
func (f *files) Guard(note Note) (asLeft bool) {
	f.guard = guard{note: note}
	n := note.Load()
	switch {
	case !f.whole || n == 0:
	case n&changing == 0:
		asLeft = n == f.Stamp()
	default:
		asLeft = f.changedBy(time.Unix(0, int64(n&^changing)).Add(touchMost))
		f.guard.touched = time.Unix(0, 0) // whose time that is, not ours
	}
	if !asLeft {
		f.doubt()
	}
	return asLeft
}

// AsLeft reports whether nobody but us has changed the files since they were sealed.
// If somebody has, the caller does as after [Mirror.Guard].
func (f *files) AsLeft() bool {
	g := &f.guard
	if g.note == nil || g.doubted || !g.touched.IsZero() || g.note.Load() == f.Stamp() {
		return true
	}
	f.doubt()
	return false
}

// Refresh makes the times of the files new, for cleaners by age, if nobody but us has changed
// them.
func (f *files) Refresh() {
	if f.file == nil || !f.AsLeft() {
		return
	}
	f.touch()
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
	for _, file := range f.both() {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, file.Name(), now, unix.AT_SYMLINK_NOFOLLOW)
	}
	f.Seal()
}

func (f *files) doubt() {
	f.guard.doubted = true
	f.guard.note.Store(0)
}

// touch notes that the files are about to be changed.
func (f *files) touch() {
	g := &f.guard
	if g.note == nil {
		return
	}
	if now := time.Now(); now.Sub(g.touched) >= touchEvery || now.Before(g.touched) {
		g.touched = now
		if !g.doubted {
			g.note.Store(changing | uint64(now.UnixNano()))
		}
	}
}

// Seal notes what the files are like, now that what was to be changed is.
func (f *files) Seal() {
	g := &f.guard
	if g.note == nil || g.doubted || g.touched.IsZero() || f.file == nil {
		return
	}
	g.touched = time.Time{}
	g.note.Store(f.Stamp())
}

// Stamp returns a number, never 0, that is another one if somebody has replaced or
// changed one of the files; 0 if that cannot be told.
func (f *files) Stamp() uint64 {
	h := fnv.New64a()
	for _, file := range f.both() {
		var st unix.Stat_t
		if file == nil || unix.Fstat(int(file.Fd()), &st) != nil {
			return 0
		}
		fmt.Fprint(h, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
	}
	return max(h.Sum64()&^changing, 1)
}

// changedBy reports whether the files were last changed before a time.
func (f *files) changedBy(t time.Time) bool {
	for _, file := range f.both() {
		var st unix.Stat_t
		if unix.Fstat(int(file.Fd()), &st) != nil {
			return false
		}
		if max(st.Mtim.Nano(), st.Ctim.Nano()) > t.UnixNano() {
			return false
		}
	}
	return true
}
