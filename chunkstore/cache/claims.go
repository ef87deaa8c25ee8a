package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

const (
	claimsName = ".claims"
	// How often a process looks whether another one has fetched what it waits for.
	claimPause, claimPauseMax = time.Millisecond, 16 * time.Millisecond
)

// claims is the file in which the processes that share a local cache say what they
// fetch (I7): by a lock of the open file description on the byte that stands for an
// object. Two that have a byte in common wait for each other without need. It is
// open only while something is fetched: a host may close, and use again,
// descriptors that it does not know.
type claims struct {
	dir string

	mu    sync.Mutex
	file  *os.File
	users int
}

func (c *claims) open() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		name := filepath.Join(c.dir, claimsName)
		const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
		f, err := openIn(c.dir, func() (*os.File, error) {
			return os.OpenFile(name, flags, objectfile.FilePerm)
		})
		if err != nil {
			return nil, err
		}
		c.file = f
	}
	c.users++
	return c.file, nil
}

func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 {
		c.file.Close()
		c.file = nil
	}
}

// Claim waits until no other process is fetching id, or its entry is there, for limit at
// most: one that hangs costs the others no more. It is for who did not find the entry;
// he looks again, fetches what is still missing, puts it, and calls release. A claim
// that cannot be made is none: the caller goes on without.
func (c *local) Claim(ctx context.Context, id chunkstore.ID, limit time.Duration) (release func()) {
	f, err := c.claims.open()
	if err != nil {
		c.log.Debug("share cache", "file", filepath.Join(c.dir, claimsName), "error", err)
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _, name := c.place(id)
	for pause := claimPause; ctx.Err() == nil; pause = min(2*pause, claimPauseMax) {
		err := lockClaim(f, id, unix.F_WRLCK)
		if err == nil {
			return func() {
				// closing is not enough: a forked child may have the file, too
				lockClaim(f, id, unix.F_UNLCK)
				c.claims.close()
			}
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			c.log.Debug("share cache", "file", f.Name(), "error", err)
			break
		}
		if _, err := os.Lstat(name); err == nil {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	c.claims.close()
	return func() {}
}

// lockClaim locks or unlocks the byte that stands for id, without waiting.
func lockClaim(f *os.File, id chunkstore.ID, kind int16) error {
	at := int64(binary.BigEndian.Uint64(id[:]) >> 2)
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
}
