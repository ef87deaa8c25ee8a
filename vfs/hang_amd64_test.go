package vfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hanging mounts a file system that answers no request.
func hanging(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("fuse", dir, "fuse", 0,
			fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		t.Skip("no FUSE here: ", err)
	}
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		unix.Close(fd) // what waits gets an error
	})
	return dir
}

// TestDiskThatHangs: while the replicator of a database waits for a disk that does not answer,
// others are opened and closed, and the status is told.
func TestDiskThatHangs(t *testing.T) {
	path := filepath.Join(hanging(t), "a.db")
	e := newTestEngine(&Config{})
	done := make(chan error, 1)
	go func() {
		e.services.files.use("hanging")
		_, err := e.services.files.openFile("hanging", path)
		done <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !waits(t) {
		<-tick.C
	}
	dir := filepath.Join(t.TempDir(), "spool")
	e.Opened(dir)
	e.Closed(dir)
	if status := string(e.Status(Recorded{})); !strings.Contains(status, dir) {
		t.Errorf("status: %s", status)
	}
	select {
	case err := <-done:
		t.Errorf("the disk has answered: %v", err)
	default:
	}
}

// waits reports whether a thread of this process asks what a file is like, and is not told.
func waits(t *testing.T) bool {
	calls, err := filepath.Glob("/proc/self/task/*/syscall")
	if err != nil || len(calls) == 0 {
		t.Fatal("no threads in /proc", err)
	}
	for _, name := range calls {
		if b, err := os.ReadFile(name); err == nil &&
			strings.HasPrefix(string(b), fmt.Sprint(unix.SYS_NEWFSTATAT, " ")) {
			return true
		}
	}
	return false
}
