package chunkstore

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
)

const (
	cacheTempPrefix = ".fill-"
	// A shard is looked through, for eviction, once per 1/cacheSlack of its
	// capacity that this process added, and once per shardFillsMax at most.
	cacheSlack    = 16
	shardFillsMax = 64
	// leftAfter is how old a fill is that may be a crash's: a younger one may not be locked yet.
	leftAfter = time.Minute
)

// cache is a directory of chunk objects, which any number of processes may read,
// and fill if it is a local one. It never fails a caller: what goes wrong is
// logged at debug level. See doc.go for its files.
type cache struct {
	dir      string
	shards   int
	capacity int // of a shard, in files; 0: read-only
	log      *slog.Logger
	claims   claims // of a local one

	mu    sync.Mutex
	fills []int // per shard, how often to fill before it is looked through
}

func newLocalCache(c LocalConfig, log *slog.Logger) (*cache, error) {
	shards := max(1, c.NumShards)
	cache, err := newReadOnlyCache(ReadOnlyConfig{Directory: c.Directory, NumShards: shards}, log)
	if err != nil {
		return nil, err
	}
	cache.capacity = int(c.Capacity / int64(shards)) // at least 1: see Validate
	cache.fills = make([]int, shards)
	cache.claims.dir = cache.dir
	return cache, nil
}

func newReadOnlyCache(c ReadOnlyConfig, log *slog.Logger) (*cache, error) {
	dir, err := filepath.Abs(c.Directory)
	if err != nil {
		return nil, err
	}
	return &cache{dir: dir, shards: max(1, c.NumShards), log: log}, nil
}

func (c *cache) local() bool { return c.capacity > 0 }

// place returns the number of the shard of id, its directory, and the entry's file.
func (c *cache) place(id ID) (shard int, dir, name string) {
	shard = int(binary.BigEndian.Uint64(id[:]) % uint64(c.shards))
	dir = filepath.Join(c.dir, fmt.Sprintf("%04x", shard))
	return shard, dir, filepath.Join(dir, id.String())
}

// get returns the plain bytes of id, verified, if they are here. It removes a
// damaged entry from a local cache (I6).
func (c *cache) get(id ID) (plain []byte, ok bool) {
	_, _, name := c.place(id)
	plain, err := c.read(id, name)
	switch {
	case err == nil:
		return plain, true
	case errors.Is(err, ErrCorrupt) && c.local():
		err = errors.Join(err, ignoreAbsent(os.Remove(name))) // I6
	case errors.Is(err, ErrAbsent):
		return nil, false
	}
	c.log.Debug("read cache", "file", name, "error", err)
	return nil, false
}

func (c *cache) read(id ID, name string) ([]byte, error) {
	f, info, err := openObject(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > objectBytesMax {
		return nil, fmt.Errorf("%w: entry of %d bytes, more than %d", ErrCorrupt, info.Size(), objectBytesMax)
	}
	stored := make([]byte, info.Size())
	if _, err := io.ReadFull(f, stored); err != nil {
		return nil, err
	}
	plain, err := DecodeObject(id, stored)
	if err != nil {
		return nil, err
	}
	if c.local() && !wasUsed(info) {
		modified := info.ModTime()
		if err := setTimes(name, later(time.Now(), modified), modified); err != nil {
			c.log.Debug("mark cache entry as used", "file", name, "error", err)
		}
	}
	return plain, nil
}

// put adds the stored form of id to a local cache, and makes room for it. It
// need not be durable: what a crash leaves is verified when it is read.
func (c *cache) put(id ID, stored []byte) {
	if !c.local() {
		return
	}
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
		if err = os.MkdirAll(dir, dirPerm); err == nil {
			f, err = open()
		}
	}
	return f, err
}

func writeEntry(dir, name string, stored []byte) error {
	f, err := openIn(dir, func() (*os.File, error) { return os.CreateTemp(dir, cacheTempPrefix+"*") }) // mode 0600
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
		return errors.Join(err, ignoreAbsent(os.Remove(f.Name())))
	}
	return nil
}

// RemoveUnlocked removes a regular file that nobody has locked (flock(2)): what a process
// was writing that was killed. One that is locked, or is gone, is no error.
func RemoveUnlocked(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ignoreAbsent(&fs.PathError{Op: "open", Path: name, Err: err})
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	return ignoreAbsent(os.Remove(name))
}

// timeToTidy counts fills. The first one of a process is always due: it finds
// what earlier ones left.
func (c *cache) timeToTidy(shard int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fills[shard]--
	if c.fills[shard] > 0 {
		return false
	}
	c.fills[shard] = max(1, min(shardFillsMax, c.capacity/cacheSlack))
	return true
}

// tidy brings a shard back to its capacity by second chance: entries go in the
// order of their age, but one that was read since it was written, or since it
// was spared last, is spared once, as if written now. It removes what a crashed
// fill left. Other processes may do the same at the same time.
func (c *cache) tidy(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []cacheFile
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil {
			continue // evicted by somebody else
		}
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), cacheTempPrefix) {
			if time.Since(info.ModTime()) > leftAfter {
				err = errors.Join(err, RemoveUnlocked(name))
			}
			continue
		}
		if _, err := ParseID(e.Name()); err != nil {
			continue // none of ours to count, or to remove
		}
		files = append(files, cacheFile{name, info.ModTime(), wasUsed(info)})
	}
	excess := len(files) - c.capacity
	if excess <= 0 {
		return err
	}
	slices.SortFunc(files, func(a, b cacheFile) int {
		return cmp.Or(a.modified.Compare(b.modified), cmp.Compare(a.name, b.name))
	})
	var spared []cacheFile
	for _, f := range files {
		if excess == 0 {
			break
		}
		if f.used {
			spared = append(spared, f)
			continue
		}
		err = errors.Join(err, ignoreAbsent(os.Remove(f.name)))
		excess--
	}
	now := time.Now()
	for i, f := range spared {
		if i < excess { // all were used: the oldest go
			err = errors.Join(err, ignoreAbsent(os.Remove(f.name)))
		} else {
			err = errors.Join(err, ignoreAbsent(setTimes(f.name, now, now)))
		}
	}
	return err
}

type cacheFile struct {
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
