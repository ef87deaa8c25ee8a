package restore

import "testing"

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

// SetWindow makes the windows n chunks large until the test ends.
func SetWindow(t testing.TB, n int) {
	was := windowChunks
	windowChunks = n
	t.Cleanup(func() { windowChunks = was })
}
