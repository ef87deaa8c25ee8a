package librados

import (
	"errors"
	"syscall"
	"testing"
)

// TestClosed: whoever still has a client, or a pool of it, that somebody has closed meanwhile, is
// told so: nothing of it is given to librados, which has freed it.
func TestClosed(t *testing.T) {
	if err := Load(); errors.Is(err, ErrNoLibrary) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	a, err := parseArgs("-m 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	a.over(Options{})
	c, err := configured(a)
	if err != nil {
		t.Fatal(err)
	}
	io := &IO{cluster: c, pool: 1, name: "p"}
	if c.Config("mon_host") != "127.0.0.1" {
		t.Errorf("the client has the monitor %q", c.Config("mon_host"))
	}
	c.Close()
	c.Close()
	if _, err := c.FSID(); err != ErrClosed {
		t.Errorf("FSID: %v", err)
	}
	if _, err := c.Addr(); err != ErrClosed {
		t.Errorf("Addr: %v", err)
	}
	if id, value := c.ID(), c.Config("mon_host"); id != 0 || value != "" {
		t.Errorf("ID %d, monitor %q", id, value)
	}
	// A request has failed just before, and somebody else has closed the client since.
	if err := io.fail("read", "o", -int(syscall.ENOENT)); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("an error of a request: %v", err)
	}
	// IO had asked for the pool's name just before.
	if err := io.open(); err != ErrClosed {
		t.Errorf("open: %v", err)
	}
	if _, err := c.IO(t.Context(), 1, ""); err != ErrClosed {
		t.Errorf("IO: %v", err)
	}
}
