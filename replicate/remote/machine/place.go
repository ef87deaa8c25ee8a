package machine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// bootIDFile is another file in tests.
var bootIDFile = "/proc/sys/kernel/random/boot_id"

// staleAge is how old the file of another boot must be to be removed. It may be that of another
// machine, if both share the directory; then that one loses what its file saves.
const staleAge = 24 * time.Hour

// place is where the file of one database is.
type place struct {
	dir  string // verneuil-remote-UID
	name string // in it
}

// placeOf fails if the machine's boot is not known.
func placeOf(dir, name string) (place, error) {
	boot, err := bootName()
	if err != nil {
		return place{}, err
	}
	sum := chunkstore.Sum([]byte(name))
	return place{
		dir:  filepath.Join(dir, "verneuil-remote-"+strconv.Itoa(os.Geteuid())),
		name: hex.EncodeToString(sum[:16]) + "-" + boot,
	}, nil
}

// bootName stands for this boot of this machine, and its clock.
func bootName() (string, error) {
	id, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("boot ID: %w", err)
	}
	if len(strings.TrimSpace(string(id))) != 36 {
		return "", fmt.Errorf("boot ID: %s has %q", bootIDFile, id)
	}
	clock, _ := os.Readlink("/proc/self/ns/time") // kernels before 5.6 have no such thing
	sum := chunkstore.Sum([]byte(string(id) + clock))
	return hex.EncodeToString(sum[:8]), nil
}

// open opens the file, and makes it if it is not there.
func (p place) open() (*os.File, error) {
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	dir, err := unix.Open(p.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the directory %s: %w", p.dir, err)
	}
	defer unix.Close(dir)
	if err := private(dir, p.dir, unix.S_IFDIR); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(dir, p.name,
		unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	name := filepath.Join(p.dir, p.name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if err := private(fd, name, unix.S_IFREG); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// private fails if what is open is of another type, or others may reach it.
func private(fd int, name string, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return fmt.Errorf("%s is of another kind: remove it", name)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d: remove it, or use another tempdir", name, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s has mode %o, so that others may write it: remove it", name,
			st.Mode&0o7777)
	}
	return nil
}

// identity is a file's, while it is open.
type identity struct{ device, inode uint64 }

func identityOf(fd int) (identity, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return identity{st.Dev, st.Ino}, err
}

// has reports whether the path leads to that file.
func (p place) has(is identity) bool {
	var st unix.Stat_t
	err := unix.Lstat(p.dir+"/"+p.name, &st)
	return err == nil && is == identity{st.Dev, st.Ino}
}

// tidied has the directories that this process has tidied.
var tidied sync.Map

// tidy removes what other boots have left, once in a process: there may be many files.
func (p place) tidy() {
	if _, done := tidied.LoadOrStore(p.dir, true); done {
		return
	}
	all, _ := os.ReadDir(p.dir) // what is left over does no harm
	_, boot, _ := strings.Cut(p.name, "-")
	for _, e := range all {
		if strings.HasSuffix(e.Name(), "-"+boot) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAge {
			os.Remove(filepath.Join(p.dir, e.Name()))
		}
	}
}
