package mirror

import (
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"
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

// guard is what a mirror needs to find out that somebody else has changed its files,
// which nobody has a reason to, and which would be sent as if it were the database. A note
// in the state page survives us:
//
//	Stamp              nobody is changing the files; this is what they are like
//	changing | time    they are being changed, since not long before
//	0                  nothing is known
//
// So a kill costs nothing: files that were changed last when they may have been are
// taken for what was left. What is done to them within that time is not noticed.
type guard struct {
	note    *atomic.Uint64 // nil: none is kept
	touched time.Time      // when the note said so last that we change the files; zero: it has a stamp
	doubted bool           // the note is 0, and is to stay so until all is marked
}

// Guard has the mirror keep a note, in the state, of what its files are like, and
// reports whether they are what the note says. If they are not, the caller sees to it
// that the mirror is of no generation, and then calls [Mirror.MarkAll].
func (m *Mirror) Guard(note *atomic.Uint64) (asLeft bool) {
	m.guard = guard{note: note}
	n := note.Load()
	switch {
	case !m.whole || n == 0:
	case n&changing == 0:
		asLeft = n == m.Stamp()
	default:
		asLeft = m.changedBy(time.Unix(0, int64(n&^changing)).Add(touchMost))
		m.guard.touched = time.Unix(0, 0) // whose time that is, not ours
	}
	if !asLeft {
		m.doubt()
	}
	return asLeft
}

// AsLeft reports whether nobody but us has changed the files since they were sealed.
// If somebody has, the caller does as after [Mirror.Guard].
func (m *Mirror) AsLeft() bool {
	g := &m.guard
	if g.note == nil || g.doubted || !g.touched.IsZero() || g.note.Load() == m.Stamp() {
		return true
	}
	m.doubt()
	return false
}

// Refresh makes the times of the files new, for cleaners by age, if nobody but us has changed
// them.
func (m *Mirror) Refresh() {
	if m.file == nil || !m.AsLeft() {
		return
	}
	m.touch()
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
	for _, f := range []*os.File{m.file, m.dirty} {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), now, unix.AT_SYMLINK_NOFOLLOW)
	}
	m.Seal()
}

func (m *Mirror) doubt() {
	m.guard.doubted = true
	m.guard.note.Store(0)
}

// touch notes that the files are about to be changed.
func (m *Mirror) touch() {
	g := &m.guard
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
func (m *Mirror) Seal() {
	g := &m.guard
	if g.note == nil || g.doubted || g.touched.IsZero() || m.file == nil {
		return
	}
	g.touched = time.Time{}
	g.note.Store(m.Stamp())
}

// Stamp returns a number, never 0, that is another one if somebody has replaced or
// changed one of the files; 0 if that cannot be told.
func (m *Mirror) Stamp() uint64 {
	h := fnv.New64a()
	for _, f := range []*os.File{m.file, m.dirty} {
		var st unix.Stat_t
		if f == nil || unix.Fstat(int(f.Fd()), &st) != nil {
			return 0
		}
		fmt.Fprint(h, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim)
	}
	return max(h.Sum64()&^changing, 1)
}

// changedBy reports whether the files were last changed before a time.
func (m *Mirror) changedBy(t time.Time) bool {
	for _, f := range []*os.File{m.file, m.dirty} {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) != nil || max(st.Mtim.Nano(), st.Ctim.Nano()) > t.UnixNano() {
			return false
		}
	}
	return true
}
