package spool

import (
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp describes a file as well as can be done without reading it. Every write to the file changes
// its ctime, which nobody can set; "Foreign writes" in doc.go says what may hide a write all the
// same.
type Stamp struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Birth int64  `json:"birth"` // ns; 0: the file system has none
	Bytes int64  `json:"bytes"`
	Mtime int64  `json:"mtime"` // Unix ns, as all times here
	Ctime int64  `json:"ctime"`
}

// StampOf returns the stamp of the file at path. On a network file system it asks the server.
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

// Sum returns the stamp as the state page has it, never 0; stampOf in cgo/spool_stamp.c computes
// the same. It leaves out the device and the birth time, which the state has anyway.
func (s Stamp) Sum() uint64 {
	var h uint64
	for _, x := range []uint64{s.Ino, uint64(s.Bytes), uint64(s.Mtime), uint64(s.Ctime)} {
		h = (h ^ x) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return max(h, 1)
}

const (
	// grainFine is longer than a tick of the kernel's clock, by which files' times advance before
	// Linux 6.13, and since then on file systems other than ext4, XFS, Btrfs and tmpfs.
	grainFine = 20 * time.Millisecond
	// grainCoarse is the step of FAT's times, the longest; ext4 with inodes of 128 bytes has one
	// second.
	grainCoarse = 2 * time.Second
)

// Coarse reports whether the file's times are in whole seconds: then nothing shows a write in the
// same second as the last one.
func (s Stamp) Coarse() bool { return s.Ctime%int64(time.Second) == 0 }

// Grain returns for how long after its last change the file may change again and keep its time.
func (s Stamp) Grain() time.Duration {
	if s.Coarse() {
		return grainCoarse + grainFine
	}
	return grainFine
}

// Age returns how long before now the file was last changed. (If the clock was set back, the time
// may be in the future. Then the distance tells as much: a write now does not leave that time.)
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

// Leave notes, for a recorder, the stamp with which it leaves the database's file.
func (s *State) Leave(stamp Stamp, by Token) {
	s.DBStamp.Store(stamp.Sum())
	s.StampedBy.Store(uint64(by))
}

// AsLeft reports whether the database's file is as the last recorder left it. The answer is sure
// unless a later write may have left the same coarse times. Even then it is sure if a recorder has
// had the database open since, or if a base copy has settled the stamp.
func (s *State) AsLeft(stamp Stamp) (same, sure bool) {
	sum := stamp.Sum()
	same = s.DBStamp.Load() == sum
	return same, same && (!stamp.Coarse() || s.StampSettled.Load() == sum ||
		Token(s.StampedBy.Load()).Alive())
}

// Left says what became of a database's file since the last recorder left it.
type Left uint8

// What [State.Look] finds.
const (
	LeftAlone   Left = iota // nothing
	LeftMaybe               // nothing, as far as coarse times can tell
	LeftChanged             // somebody else has changed it
	LeftMoving              // a recorder is changing it, or has not said yet how it leaves it
)

// Look compares the file at path, the database's, with what the last recorder has left.
func (s *State) Look(path string) (Left, error) {
	was := s.DBStamp.Load()
	checkpointing := func() bool { return Token(s.Checkpointing.Load()).Alive() }
	busy := checkpointing()
	now, err := StampOf(path)
	if err != nil {
		return LeftChanged, err
	}
	switch same, sure := s.AsLeft(now); {
	case !same && (busy || checkpointing() || s.DBStamp.Load() != was):
		return LeftMoving, nil
	case !same:
		return LeftChanged, nil
	case !sure:
		return LeftMaybe, nil
	}
	return LeftAlone, nil
}
