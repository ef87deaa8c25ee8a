package cephtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestClusterEnds: after a test that started a cluster, no daemon of it runs, and nothing is left
// in the temporary directory.
func TestClusterEnds(t *testing.T) {
	var c *Cluster
	t.Run("cluster", func(t *testing.T) {
		c = Start(t, Options{})
		c.Run(t, "rados", "-p", Pool, "put", "object", c.Conf)
		if got := c.Run(t, "rados", "-p", Pool, "ls"); got != "object\n" {
			t.Errorf("the pool has %q", got)
		}
	})
	if c == nil {
		t.SkipNow() // so did the other
	}
	for _, d := range append(c.OSDs, c.Mon) {
		if err := syscall.Kill(d.process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s still runs: %v", d.name, err)
		}
	}
	until(t, "the directory is gone", func() bool {
		_, err := os.Stat(c.dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !within(10*time.Millisecond, done) {
		t.Fatalf("waited in vain for: %s", what)
	}
}

func TestSharedIsOne(t *testing.T) {
	if a, b := Shared(t), Shared(t); a != b || a.Namespace() == b.Namespace() {
		t.Error("two clusters, or one namespace for two")
	}
}

// TestUserHasOnlyWhatItWasGiven: cephx is in force, and the variables of Env choose who one is.
func TestUserHasOnlyWhatItWasGiven(t *testing.T) {
	c := Shared(t)
	mine, other := c.NewPool(t), c.NewPool(t)
	keyring := c.User(t, "narrow", "mon", "allow r", "osd", "allow rwx pool="+mine)
	put := func(pool string) error {
		_, err := c.run("rados", "--id", "narrow", "--keyring", keyring, "-p", pool, "put", "o",
			c.Conf)
		return err
	}
	if err := put(mine); err != nil {
		t.Errorf("its own pool: %v", err)
	}
	if err := put(other); err == nil || !strings.Contains(err.Error(), "Operation not permitted") {
		t.Errorf("another pool: %v", err)
	}
	for variable, want := range map[string]string{
		"CEPH_CONF": c.Conf, "CEPH_KEYRING": keyring, "CEPH_ARGS": "--id narrow",
	} {
		c.Setenv(t, "narrow")
		if got := os.Getenv(variable); got != want {
			t.Errorf("%s is %q, not %q", variable, got, want)
		}
	}
}

// TestDaemonsComeBack: what is stored survives the end of every daemon, of an OSD on memstore if it
// is stopped in order. (That it survives SIGKILL on bluestore test/e2e/ceph relies on.)
func TestDaemonsComeBack(t *testing.T) {
	c := Start(t, Options{})
	c.Run(t, "rados", "-p", Pool, "put", "object", c.Conf)
	c.OSDs[0].Stop(t)
	c.Mon.Kill()
	c.Mon.Start(t)
	c.OSDs[0].Start(t)
	if got := c.Run(t, "rados", "-p", Pool, "get", "object", "-"); len(got) < 1000 {
		t.Errorf("got %q", got)
	}
}

// TestErasureCodedPool needs three OSDs.
func TestErasureCodedPool(t *testing.T) {
	c := Start(t, Options{OSDs: 3, NoAuth: true})
	pool := c.NewPool(t, "erasure")
	c.Run(t, "rados", "-p", pool, "put", "object", c.Conf)
	if got := c.Run(t, "rados", "-p", pool, "ls"); got != "object\n" {
		t.Errorf("the pool has %q", got)
	}
}

// TestNoCephIsSkipped: without programs the tests are skipped by name, and the message says what
// to do.
func TestNoCephIsSkipped(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("VERNEUIL_CEPH", "")
	t.Chdir(t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("found Ceph: %v", err)
	}
	t.Setenv("VERNEUIL_CEPH", t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "VERNEUIL_CEPH") {
		t.Errorf("VERNEUIL_CEPH has no Ceph: %v", err)
	}
}

// TestDirectoryOfKilledTestGoes: whoever holds the reaper's pipe may die.
func TestDirectoryOfKilledTestGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceph")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	hold, err := reap(dir)
	if err != nil {
		t.Fatal(err)
	}
	hold.Close()
	until(t, "the directory is gone", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}
