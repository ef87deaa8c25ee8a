package restore

import (
	"io"
	"os"
	"testing"
)

// LockPart locks a restore's new part file.
var LockPart = lockPart

// Resume reports whether the file called name can be gone on with; it keeps it locked until the
// returned function is called.
func Resume(name string) (end func() error, ok bool) {
	if p := resume(name); p != nil {
		return p.Close, true
	}
	return nil, false
}

// PartName is the name of a part file of path.
func PartName(path, random string) string {
	return partPrefix + partKey(path) + "-" + random
}

// Unlocked is for tests.
var Unlocked = unlocked

// What the tests count with.
const (
	FetchedBytesMax = fetchedBytesMax
	PartWorth       = partWorth
	RunChunks       = runChunks
)

// SetDirect has files of n bytes or more written directly until the test ends.
func SetDirect(t testing.TB, n int64) {
	was := directFrom
	directFrom = n
	t.Cleanup(func() { directFrom = was })
}

// Paced is what writes to f, and directly to direct.
func Paced(f, direct *os.File) io.WriterAt { return &pacedFile{File: f, direct: direct} }

// SetWindow makes the windows n chunks large until the test ends.
func SetWindow(t testing.TB, n int) {
	was := windowChunks
	windowChunks = n
	t.Cleanup(func() { windowChunks = was })
}
