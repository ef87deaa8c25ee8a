package cache

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

const (
	tempPrefix = ".fill-"
	// A shard is looked through, for eviction, once per 1/slack of its
	// capacity that this process added, and once per shardFillsMax at most.
	slack         = 16
	shardFillsMax = 64
	// leftAfter is how old a fill is that may be a crash's: a younger one may not be locked yet.
	leftAfter = time.Minute
)

// reader is a directory of stored objects, which any number of processes may read. It never fails a
// caller: what goes wrong is logged at debug level. See doc.go for its files.
type reader struct {
	dir    string
	shards int
	filled bool // it is a local cache's
	sealer chunkstore.Sealer
	log    *slog.Logger
}

// local is a cache that any number of processes read and fill.
type local struct {
	reader
	capacity int // of a shard, in files
	claims   claims

	mu    sync.Mutex
	fills []int // per shard, how often to fill before it is looked through
}

// place returns the number of the shard of id, its directory, and the entry's file.
func (c *reader) place(id chunkstore.ID) (shard int, dir, name string) {
	shard = int(binary.BigEndian.Uint64(id[:]) % uint64(c.shards))
	dir = filepath.Join(c.dir, fmt.Sprintf("%04x", shard))
	return shard, dir, filepath.Join(dir, id.String())
}

// Get returns the plain bytes of id, verified, if they are here. It removes a
// damaged entry from a local cache (I6).
func (c *reader) Get(id chunkstore.ID) (plain []byte, ok bool) {
	_, _, name := c.place(id)
	plain, err := c.read(id, name)
	switch {
	case err == nil:
		return plain, true
	case errors.Is(err, chunkstore.ErrCorrupt) && c.filled:
		err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(name))) // I6
	case errors.Is(err, chunkstore.ErrAbsent):
		return nil, false
	}
	c.log.Debug("read cache", "file", name, "error", err)
	return nil, false
}

func (c *reader) read(id chunkstore.ID, name string) ([]byte, error) {
	f, info, err := objectfile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > chunkstore.ObjectBytesMax(c.sealer) {
		return nil, fmt.Errorf("%w: entry of %d bytes, more than %d", chunkstore.ErrCorrupt,
			info.Size(), chunkstore.ObjectBytesMax(c.sealer))
	}
	stored := make([]byte, info.Size())
	if _, err := io.ReadFull(f, stored); err != nil {
		return nil, err
	}
	plain, err := chunkstore.OpenObject(c.sealer, nil, id, stored)
	if err != nil {
		return nil, err
	}
	if c.filled && !wasUsed(info) {
		modified := info.ModTime()
		if err := objectfile.SetTimes(name, later(time.Now(), modified), modified); err != nil {
			c.log.Debug("mark cache entry as used", "file", name, "error", err)
		}
	}
	return plain, nil
}

// Put adds the stored form of id to a local cache, and makes room for it. It
// need not be durable: what a crash leaves is verified when it is read.
func (c *local) Put(id chunkstore.ID, stored []byte) {
	shard, dir, name := c.place(id)
	err := writeEntry(dir, name, stored)
	if err == nil && c.timeToTidy(shard) {
		err = c.tidy(dir)
	}
	if err != nil {
		c.log.Debug("fill cache", "file", name, "error", err)
	}
}

// openIn calls open, and again after it has made dir, if that was missing.
func openIn(dir string, open func() (*os.File, error)) (*os.File, error) {
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, objectfile.DirPerm); err == nil {
			f, err = open()
		}
	}
	return f, err
}

func writeEntry(dir, name string, stored []byte) error {
	// mode 0600
	f, err := openIn(dir, func() (*os.File, error) { return os.CreateTemp(dir, tempPrefix+"*") })
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = f.Write(stored)
	}
	if err == nil {
		err = os.Rename(f.Name(), name) // I5; absent if it was swept before it was locked
	}
	if err != nil {
		return errors.Join(err, objectfile.IgnoreAbsent(os.Remove(f.Name())))
	}
	return nil
}

// timeToTidy counts fills. The first one of a process is always due: it finds
// what earlier ones left.
func (c *local) timeToTidy(shard int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fills[shard]--
	if c.fills[shard] > 0 {
		return false
	}
	c.fills[shard] = max(1, min(shardFillsMax, c.capacity/slack))
	return true
}

// tidy brings a shard back to its capacity by second chance: entries go in the
// order of their age, but one that was read since it was written, or since it
// was spared last, is spared once, as if written now. It removes what a crashed
// fill left. Other processes may do the same at the same time.
func (c *local) tidy(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []entry
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil {
			continue // evicted by somebody else
		}
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if time.Since(info.ModTime()) > leftAfter {
				err = errors.Join(err, objectfile.RemoveUnlocked(name))
			}
			continue
		}
		if _, err := chunkstore.ParseID(e.Name()); err != nil {
			continue // none of ours to count, or to remove
		}
		files = append(files, entry{name, info.ModTime(), wasUsed(info)})
	}
	excess := len(files) - c.capacity
	if excess <= 0 {
		return err
	}
	slices.SortFunc(files, func(a, b entry) int {
		return cmp.Or(a.modified.Compare(b.modified), cmp.Compare(a.name, b.name))
	})
	var spared []entry
	for _, f := range files {
		if excess == 0 {
			break
		}
		if f.used {
			spared = append(spared, f)
			continue
		}
		err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(f.name)))
		excess--
	}
	now := time.Now()
	for i, f := range spared {
		if i < excess { // all were used: the oldest go
			err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(f.name)))
		} else {
			err = errors.Join(err, objectfile.IgnoreAbsent(objectfile.SetTimes(f.name, now, now)))
		}
	}
	return err
}

type entry struct {
	name     string
	modified time.Time
	used     bool
}

// wasUsed: an entry is written with equal times, and the first read moves the
// time of access, by itself on most mounts, by our own hand on the others.
func wasUsed(info fs.FileInfo) bool {
	return accessed(info).After(info.ModTime())
}

func accessed(info fs.FileInfo) time.Time {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(stat.Atim.Unix())
	}
	return info.ModTime()
}

// later returns now, or the first instant after modified if that is later.
func later(now, modified time.Time) time.Time {
	if now.After(modified) {
		return now
	}
	return modified.Add(1)
}
