package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/chunkstore/probe"
	"verneuil/spool"
)

// host looks at this machine for a configuration.
type host struct {
	c     *Config
	found []probe.Finding
}

// CheckHost looks at what a configuration uses of this machine: directories, limits, the kernel. It
// changes nothing.
func (c *Config) CheckHost() []probe.Finding {
	h := &host{c: c}
	h.spool()
	h.directories()
	h.keys()
	h.limits()
	h.kernel()
	h.name()
	return h.found
}

func (h *host) add(level probe.Level, check, text, remedy string) {
	h.found = append(h.found, probe.Finding{Level: level, Where: "this host", Check: check,
		Text: text, Remedy: remedy})
}

func (h *host) spool() {
	const check = "replication_spooling_dir"
	dir := h.c.ReplicationSpoolingDir
	if dir == "" {
		if h.c.sendsTo() > 0 {
			h.add(probe.Note, check, "it is not set: nothing is replicated from here",
				"name a local directory that nothing cleans, such as /var/lib/verneuil")
		}
		return
	}
	err := local(dir)
	if err == nil {
		err = Usable(dir)
	}
	if err == nil {
		// No spool has this name: Trust checks only the directory above it.
		if err = spool.Trust(filepath.Join(dir, "none")); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		h.add(probe.Unsafe, check, err.Error(), "nothing is replicated until this is mended")
		return
	}
	h.add(probe.OK, check, dir, "")
	for _, cleaned := range []string{"/tmp/", "/var/tmp/", "/dev/shm/"} {
		if strings.HasPrefix(dir+"/", cleaned) {
			h.add(probe.Warning, check, dir+" may be cleaned: each file that goes costs a "+
				"comparison of the database", "name a directory that nothing cleans, such as "+
				"/var/lib/verneuil")
		}
	}
	h.room(check, dir, roomMin, "a spool takes up to twice its database")
}

// roomMin is how much room a spool should have.
const roomMin = 1 << 30

// cacheRoomMin is how much of it a cache, and the directory of temporary files, should have.
const cacheRoomMin = 64 << 20

// room warns of a file system on which less than most is left for dir; why is what for.
func (h *host) room(check, dir string, most int64, why string) {
	var at unix.Statfs_t
	for unix.Statfs(dir, &at) != nil && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	if free := int64(at.Bavail) * at.Bsize; free < most {
		h.add(probe.Warning, check, fmt.Sprintf("%s has %d MiB free, and %s", dir, free>>20, why),
			"make room")
	}
}

// Usable fails if this process cannot make dir, or files in it.
func Usable(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		return Usable(filepath.Dir(dir))
	} else if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s is not writable: %w", dir, err)
	}
	return nil
}

// UsableTempDir fails if dir cannot be tempdir, which nobody makes.
func UsableTempDir(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	return Usable(dir)
}

// directories are the caches, and tempdir.
func (h *host) directories() {
	check := func(what, dir string, err error, why string) {
		if err != nil {
			h.add(probe.Unsafe, what, err.Error(), "make it, or name another")
			return
		}
		h.add(probe.OK, what, dir, "")
		if why != "" {
			h.room(what, dir, cacheRoomMin, why)
		}
	}
	for _, t := range h.c.Targets {
		if cache, ok := t.(chunkstore.CacheOpener); ok {
			dir, filled := cache.Place()
			err, why := error(nil), ""
			if filled {
				err, why = Usable(dir), "what cannot be kept there is fetched again each time"
			} else {
				_, err = os.ReadDir(dir)
			}
			check(t.Kind(), dir, err, why)
		}
	}
	tempDir := cmp.Or(h.c.TempDir, os.TempDir())
	check("tempdir", tempDir, UsableTempDir(tempDir),
		"replicas, verify --drill and transactions that do not fit into memory write there")
}

// keys are where keys come from.
func (h *host) keys() {
	seen := make(map[string]bool)
	for _, keys := range append(slices.Collect(maps.Values(h.c.Remote.Keys)), h.c.Keys) {
		name := fmt.Sprint(keys)
		if keys.IsZero() || seen[name] {
			continue
		}
		seen[name] = true
		if _, err := keyring.Open(keys, nil); err != nil {
			h.add(probe.Unsafe, "keys", err.Error(), "nothing is sent or read until there is the "+
				"key file that the stores were written with: if this one is damaged, take the copy")
		} else if keys.File != "" {
			h.keyFile(keys.File)
		}
	}
}

// keyFile looks at who may read and change a key file.
func (h *host) keyFile(file string) {
	var at, above unix.Stat_t
	dir := filepath.Dir(file)
	if unix.Stat(file, &at) != nil || unix.Stat(dir, &above) != nil {
		return
	}
	was := len(h.found)
	warn := func(text, remedy string) { h.add(probe.Warning, "key_file", text, remedy) }
	mode := at.Mode & 0o777
	if mode&0o004 != 0 {
		warn(fmt.Sprintf("%s has mode %o: any user of this host can read what the stores hold",
			file, mode), "chmod o= it")
	}
	if mode&0o022 != 0 {
		warn(fmt.Sprintf("%s has mode %o: others than its owner can change the keys", file, mode),
			"chmod go-w it")
	}
	if me := uint32(os.Geteuid()); at.Uid != 0 && at.Uid != me {
		warn(fmt.Sprintf("%s belongs to the user %d, and this is %d: that one can change the keys",
			file, at.Uid, me), "chown it")
	}
	if above.Mode&0o022 != 0 && above.Mode&unix.S_ISVTX == 0 {
		warn(fmt.Sprintf("%s has mode %o: others than its owner can put another key file there",
			dir, above.Mode&0o777), "chmod go-w it")
	}
	if len(h.found) == was {
		h.add(probe.OK, "key_file", file, "")
	}
}

// Limits below which the library does not replicate, or not all that it might: see
// cgo/gort_limits.c and docs/operations.md.
const (
	filesMin   = 1024
	addressMin = 2560 << 20
	fileMin    = 1 << 20
)

func (h *host) limits() {
	limit := func(resource int) uint64 {
		var r unix.Rlimit
		if unix.Getrlimit(resource, &r) != nil {
			return unix.RLIM_INFINITY
		}
		return r.Cur
	}
	if n := limit(unix.RLIMIT_NOFILE); n <= filesMin {
		h.add(probe.Note, "limits", fmt.Sprintf("RLIMIT_NOFILE is %d: of a process that has "+
			"more than "+
			"%d databases open, some are not replicated", n, n/14), "raise it (ulimit -n)")
	}
	if n := limit(unix.RLIMIT_AS); n < addressMin {
		h.add(probe.Unsafe, "limits", fmt.Sprintf("RLIMIT_AS is %d MiB: programs with this "+
			"limit do "+
			"not replicate, which takes %d MiB and 128 for each processor", n>>20, addressMin>>20),
			"raise it (ulimit -v), or back up with verneuilctl sync")
	}
	if n := limit(unix.RLIMIT_FSIZE); n < fileMin {
		h.add(probe.Unsafe, "limits", fmt.Sprintf("RLIMIT_FSIZE is %d bytes: a spool's files have "+
			"1 MiB", n), "raise it (ulimit -f)")
	}
}

func (h *host) kernel() {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		h.add(probe.Unsafe, "/proc", "it is not mounted: programs do not replicate without",
			"mount it")
		return
	}
	for line := range strings.Lines(string(status)) {
		if name, mode, _ := strings.Cut(line, ":"); name == "Seccomp" &&
			strings.TrimSpace(mode) == "2" {
			h.add(probe.Note, "seccomp", "a filter of system calls is in force here: one that "+
				"forbids "+
				"what Go's runtime needs keeps programs from replicating",
				"verneuil_status() says which call; allow epoll_*, eventfd2, getrandom, "+
					"sigaltstack")
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return
	}
	release := unix.ByteSliceToString(u.Release[:])
	if before(release, 5, 9) {
		h.add(probe.Note, "kernel", "Linux "+release+" has no close_range: a program that "+
			"closes all "+
			"descriptors (closefrom) closes replication's", "use Linux 5.9 or later")
	}
	h.add(probe.OK, "kernel", "Linux "+release, "")
}

// before reports whether release is older than major.minor; false if it is no release.
func before(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

// name: a container's changes with each start.
func (h *host) name() {
	host := h.c.Host()
	_, docker := os.Stat("/.dockerenv")
	_, podman := os.Stat("/run/.containerenv")
	if h.c.Hostname == "" && (docker == nil || podman == nil) {
		h.add(probe.Warning, "hostname", host+" is a container's, which may change with each "+
			"start: "+
			"each would be a new source", "set hostname in the configuration")
		return
	}
	h.add(probe.OK, "hostname", host, "")
}
