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
	fed bool // set once

	mu    sync.Mutex
	line  line   // of the version that was asked for last
	file  uint32 // the cookie that its file has
	shown uint32 // the one that is shown for it: if it is not fed, the highest so far
	any   bool
	most  uint32 // if it is fed: the highest that was shown of any version
}

// fileCookie is the schema cookie of a version: the file's own, and what is shown.
type fileCookie struct{ file, shown uint32 }

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
	if c.fed {
		return c.showFedLocked(m, cookie)
	}
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

// cookieGap is how far a cookie of a source that is fed is from all others, if it is not the file's
// own. A connection of this process may write the file's own plus one, whatever others are shown.
const cookieGap = 1 << 10

// showFedLocked is show of a version that the store has, of a source that is fed. Who writes must
// be shown the file's own cookie, or another one that is written back. The caller holds c.mu.
func (c *cookies) showFedLocked(m *manifest.Manifest, cookie uint32) uint32 {
	now := lineOf(m)
	if !c.any || now != c.line || now.continuity == 0 || cookie != c.file {
		c.shown = c.unseenLocked(cookie)
	}
	c.line, c.file, c.any = now, cookie, true
	return c.shown
}

// lineOf is what a version's own cookie is good for, if its source is fed: all who write there
// follow all transactions, whoever takes over.
func lineOf(m *manifest.Manifest) line { return line{m.Lineage, 0, m.Continuity} }

// derive returns what is shown in place of cookie, which the file of a derived version has, where
// that which it was made of has the cookie of; nil: that is not known. What is derived may fail:
// then another version has the same cookie, and not the same schema. What SQLite was shown it
// writes back with page 1, and plus one with another schema.
func (c *cookies) derive(of *fileCookie, cookie uint32) uint32 {
	if of != nil && (cookie == of.file || cookie == of.shown) {
		return of.shown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unseenLocked(cookie)
}

// unseenLocked returns a cookie that was not shown yet: the file's own if that is higher than all
// that were. The caller holds c.mu.
func (c *cookies) unseenLocked(cookie uint32) uint32 {
	first := !c.any && c.most == 0
	if step := cookie - c.most; !first && (step == 0 || step >= cookieStep) {
		cookie = c.most + cookieGap
	}
	c.most = cookie
	return cookie
}

// publish says that the store has m, whose cookie is known.
func (c *cookies) publish(m *manifest.Manifest, known fileCookie) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line, c.file, c.shown, c.any = lineOf(m), known.file, known.shown, true
}
