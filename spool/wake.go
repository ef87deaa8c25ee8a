package spool

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Wake is the FIFO on which the replicator sleeps: only the holder of the lock may
// have one open for reading.
type Wake struct{ file *os.File }

// OpenWake opens the spool's FIFO, and makes it if it does not exist. It opens it for reading and
// writing, so that it never ends, and nonblocking, so that a wait takes a goroutine and no thread.
func (s *Spool) OpenWake() (*Wake, error) {
	name := filepath.Join(s.dir, "wake")
	if err := unix.Mkfifo(name, 0o600); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("make wake: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open wake: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode()&fs.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is not a FIFO", f.Name())
	}
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // fails unless the poller has it
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open wake: %w", err)
	}
	return &Wake{f}, nil
}

// Wait returns when somebody has woken us, and consumes what was written. It fails with
// os.ErrClosed after Close.
func (w *Wake) Wait() error {
	var b [4096]byte
	_, err := w.file.Read(b[:])
	return err
}

// Current reports whether recorders find this FIFO at its path.
func (w *Wake) Current() bool {
	ours, err := w.file.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Lstat(w.file.Name())
	return err == nil && os.SameFile(ours, theirs)
}

// Close ends a Wait.
func (w *Wake) Close() error { return w.file.Close() }

// Wake wakes the replicator, wherever it runs, armed or not. It is not an error if there is none.
func (s *Spool) Wake() error {
	// For reading, too: a FIFO that has a reader never raises SIGPIPE.
	fd, err := unix.Open(filepath.Join(s.dir, "wake"),
		unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte{0})
		unix.Close(fd)
	}
	if err != nil && err != unix.EAGAIN { // EAGAIN: full of wakes already
		return fmt.Errorf("wake replicator of %s: %w", s.dir, err)
	}
	return nil
}
