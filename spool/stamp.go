package spool

import (
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is what a file is like, as far as can be told without reading it. Whatever writes to
// the file changes its ctime, which nobody can set; see "Foreign writes" in doc.go for what
// may hide a write all the same.
type Stamp struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Birth int64  `json:"birth"` // ns; 0: the file system has none
	Bytes int64  `json:"bytes"`
	Mtime int64  `json:"mtime"` // Unix ns, as all times here
	Ctime int64  `json:"ctime"`
}

// StampOf looks at the file at path: on a network file system, at what the server has.
func StampOf(path string) (Stamp, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC,
		unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	if err != nil {
		return Stamp{}, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	s := Stamp{
		Dev: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), Ino: st.Ino, Bytes: int64(st.Size),
		Mtime: nanoseconds(st.Mtime), Ctime: nanoseconds(st.Ctime),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		s.Birth = nanoseconds(st.Btime)
	}
	return s, nil
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }

// Sum is the stamp as the state page has it, never 0; stampOf in cgo/spool_stamp.c makes the same.
// The device and the birth time are the state's own already.
func (s Stamp) Sum() uint64 {
	var h uint64
	for _, x := range []uint64{s.Ino, uint64(s.Bytes), uint64(s.Mtime), uint64(s.Ctime)} {
		h = (h ^ x) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return max(h, 1)
}

const (
	// grainFine is longer than the tick of a kernel's clock, which files' times go by before
	// Linux 6.13, and on other file systems than ext4, XFS, Btrfs and tmpfs since.
	grainFine = 20 * time.Millisecond
	// grainCoarse is that of FAT, the longest; ext4 with inodes of 128 bytes has one second.
	grainCoarse = 2 * time.Second
)

// Coarse reports whether the file's times are of whole seconds: then there is nothing
// that tells of a write in the second of the last one.
func (s Stamp) Coarse() bool { return s.Ctime%int64(time.Second) == 0 }

// Grain is how long after its last change the file may change without another time.
func (s Stamp) Grain() time.Duration {
	if s.Coarse() {
		return grainCoarse + grainFine
	}
	return grainFine
}

// Age is how long before now the file was changed last. (A time in the future, after the clock was
// set back, tells as much as it can: who writes now does not leave that one.)
func (s Stamp) Age(now time.Time) time.Duration {
	age := now.Sub(time.Unix(0, s.Ctime))
	if age < 0 {
		age = -age
	}
	return age
}

func (s Stamp) String() string {
	return fmt.Sprintf("inode %d, %d bytes, changed %s", s.Ino, s.Bytes,
		time.Unix(0, s.Ctime).UTC().Format(time.RFC3339Nano))
}

// Leave notes, for a recorder, that it leaves the database's file like this.
func (s *State) Leave(stamp Stamp, by Token) {
	s.DBStamp.Store(stamp.Sum())
	s.StampedBy.Store(uint64(by))
}

// AsLeft reports whether the database's file is what the last recorder has left. It is sure unless
// a write after that may have left the same coarse times: a recorder that has the database open
// since would know, and so does a base copy that has settled it.
func (s *State) AsLeft(stamp Stamp) (same, sure bool) {
	sum := stamp.Sum()
	same = s.DBStamp.Load() == sum
	return same, same && (!stamp.Coarse() || s.StampSettled.Load() == sum ||
		Token(s.StampedBy.Load()).Alive())
}
