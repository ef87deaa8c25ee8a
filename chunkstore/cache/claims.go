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
	held  map[chunkstore.ID]bool // by callers in this process
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
		c.file.Close() // and nothing is held
		c.file = nil
	}
}

// Claim says which of ids the caller is to fetch: see [chunkstore.FilledCache]. A claim that cannot
// be made is none: the caller goes on without.
func (c *local) Claim(ctx context.Context, ids []chunkstore.ID,
	limit time.Duration) (busy []chunkstore.ID, release func()) {
	f, err := c.claims.open()
	if err != nil {
		c.log.Debug("share cache", "file", filepath.Join(c.dir, claimsName), "error", err)
		return nil, func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := claimPause; ; pause = min(2*pause, claimPauseMax) {
		claimed, busy := c.claim(f, ids)
		if limit <= 0 {
			busy = nil
		}
		if len(busy) == 0 || len(busy) < len(ids) {
			return busy, func() {
				for _, id := range claimed {
					c.claims.drop(f, id)
				}
				c.claims.close()
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			c.claims.close()
			return nil, func() {}
		}
	}
}

// claim claims those of ids that nobody fetches. busy are those that somebody does, and that have
// no entry yet.
func (c *local) claim(f *os.File, ids []chunkstore.ID) (claimed, busy []chunkstore.ID) {
	for _, id := range ids {
		err := c.claims.take(f, id)
		_, _, name := c.place(id)
		switch {
		case err == nil:
			claimed = append(claimed, id)
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES):
			c.log.Debug("share cache", "file", f.Name(), "error", err)
		default:
			if _, err := os.Lstat(name); err != nil {
				busy = append(busy, id)
			}
		}
	}
	return claimed, busy
}

// take claims id, without waiting. It fails with EAGAIN or EACCES if it is claimed, be it by this
// process: its file stands for all its callers.
func (c *claims) take(f *os.File, id chunkstore.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[id] {
		return unix.EAGAIN
	}
	err := lockClaim(f, id, unix.F_WRLCK)
	if err == nil {
		if c.held == nil {
			c.held = make(map[chunkstore.ID]bool)
		}
		c.held[id] = true
	}
	return err
}

// drop gives up the claim to id. To close the file is not enough: a forked child may have it, too.
func (c *claims) drop(f *os.File, id chunkstore.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, id)
	lockClaim(f, id, unix.F_UNLCK)
}

// lockClaim locks or unlocks the byte that stands for id, without waiting.
func lockClaim(f *os.File, id chunkstore.ID, kind int16) error {
	at := int64(binary.BigEndian.Uint64(id[:]) >> 2)
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
}
