// Package scratch has the tests of a package keep their files in memory. It is for packages whose
// tests write and sync many files, and of which none is about a disk: half of what they took was
// the file system's work. What is about one, the tests in which the real programs run (test/e2e,
// cgo, spool, chunkstore/dir), has its files where TMPDIR says.
//
// Only tests import it.
package scratch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// memory is where files are in memory, on Linux.
const memory = "/dev/shm"

// wanted is how many bytes have to be free there: containers have 64 MiB as a rule.
const wanted = 2 << 30

// Main is a package's TestMain: it runs the tests, and returns the exit code.
func Main(m *testing.M) int {
	InMemory()
	return m.Run()
}

// InMemory has this process, and those that it starts, make temporary files in memory, if there is
// room. A TMPDIR that is set already counts instead.
func InMemory() {
	var s unix.Statfs_t
	if err := unix.Statfs(memory, &s); err != nil || s.Type != unix.TMPFS_MAGIC ||
		s.Bavail*uint64(s.Bsize) < wanted || os.Getenv("TMPDIR") != "" {
		return
	}
	os.Setenv("TMPDIR", memory)
}
