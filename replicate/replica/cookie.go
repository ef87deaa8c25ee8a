package replica

import (
	"sync"

	"verneuil/manifest"
)

// cookies are the schema cookies that SQLite is shown of one source's versions (F8). A
// connection keeps the schema that it has parsed for as long as the cookie stays the same.
// The file's own cookie counts changes of the schema: that tells two states of one file
// apart, and says nothing of two files. Its zero value is ready.
type cookies struct {
	mu    sync.Mutex
	line  line   // of the version that was asked for last
	file  uint32 // the cookie that its file has
	shown uint32 // the one that is shown for it: the highest so far
	any   bool
}

// line is what a file's own cookie is good for.
type line struct {
	lineage           [16]byte
	epoch, continuity uint64
}

// cookieStep bounds by how much a cookie grows between two versions that are believed to be
// states of one file. "pragma schema_version = N" can set any number.
const cookieStep = 1 << 24

// show returns what is shown in place of cookie, which the file of m has. The first version
// is shown as it is. A later one of the same line grows by what the file's cookie has grown
// by; any other is shown a cookie that no version before it had.
func (c *cookies) show(m *manifest.Manifest, cookie uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := line{m.Lineage, m.Epoch, m.Continuity}
	step := cookie - c.file // modulo 2^32, like the cookie
	switch {
	case !c.any:
		c.shown = cookie
	case now == c.line && now.continuity != 0 && step < cookieStep:
		c.shown += step
	default:
		c.shown++
	}
	c.line, c.file, c.any = now, cookie, true
	return c.shown
}
