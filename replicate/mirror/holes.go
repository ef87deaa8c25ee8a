package mirror

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// NextData returns the first offset from off on at which f may have bytes that are
// not zero, math.MaxInt64 if there is none: what lies before it is a hole, which costs
// time and page cache to read. Where the file system knows no holes, that is off. It
// moves f's position.
func NextData(f *os.File, off int64) (int64, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var at int64
	var seekErr error
	err = raw.Control(func(fd uintptr) { at, seekErr = unix.Seek(int(fd), off, unix.SEEK_DATA) })
	if err != nil {
		return 0, err
	}
	switch {
	case seekErr == nil:
		return at, nil
	case errors.Is(seekErr, unix.ENXIO): // none up to the end, which may be before off
		return math.MaxInt64, nil
	case errors.Is(seekErr, unix.EINVAL):
		return off, nil
	}
	return 0, os.NewSyscallError("lseek", seekErr)
}

// Hole reports whether chunk i is known to be zeros, because it was never written.
func (m *Mirror) Hole(i int) bool {
	at := int64(i) * chunkBytes
	data, err := NextData(m.file, at)
	return err == nil && data >= at+int64(m.ChunkBytes(i))
}

// zeros is what a hole reads as.
var zeros [chunkBytes]byte

// Zero is WriteAt of n zeros, but reads and writes nothing where the mirror has a
// hole itself.
func (m *Mirror) Zero(off, n int64) error {
	end := off + n
	for at := off; at < min(end, m.size); {
		data, err := NextData(m.file, at)
		if err != nil {
			return err
		}
		if at = max(at, data); at >= min(end, m.size) {
			break
		}
		next := min(at-at%chunkBytes+chunkBytes, end, m.size)
		if _, err := m.WriteAt(zeros[:next-at], at); err != nil {
			return err
		}
		at = next
	}
	if end > m.size {
		return m.Truncate(end)
	}
	return nil
}
