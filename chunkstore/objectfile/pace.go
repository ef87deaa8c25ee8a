package objectfile

import "sync/atomic"

// Pace says when the disk is to be asked to begin to write, while there is more to come, so
// that there is little left to wait for at the end. Its zero value is ready, and safe for
// concurrent use.
type Pace struct{ written atomic.Int64 }

// paceBytes are written from one time to the next.
const paceBytes = 16 << 20

// Wrote notes that n bytes more were written, and reports whether the disk should begin now.
func (p *Pace) Wrote(n int) bool {
	now := p.written.Add(int64(n))
	return now/paceBytes != (now-int64(n))/paceBytes
}
