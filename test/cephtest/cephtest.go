// Package cephtest starts a real Ceph cluster for a test: a monitor and an OSD on 127.0.0.1, with
// cephx, which is up in two or three seconds and needs 100 MiB of memory. Without Ceph's programs a
// test is skipped (see [Need]). Only tests import it.
//
// [Shared] is one cluster for all tests of a package, which take a namespace each, or a pool.
// [Start] is one for a test that does something to it.
//
// A cluster's daemons end with the test process, however that ends, and its directory goes then.
package cephtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Pool is a pool that every cluster has: each object once, or in three copies if there are three
// OSDs.
const Pool = "verneuil"

const (
	startTries = 3 // another process may take the port that we found free
	// bound is when a program of Ceph's is taken for one that hangs.
	bound = 10 * time.Minute
)

// Options choose what a cluster is made of.
type Options struct {
	Bluestore bool   // OSDs on a file, which survive SIGKILL; else in memory
	NoAuth    bool   // without cephx
	OSDs      int    // how many; 0: one. An erasure-coded pool needs three
	Conf      string // more lines for the section [global] of ceph.conf
}

// Cluster is a running cluster. Its methods that take a testing.TB fail the test. Other than what
// is said there, they may be used concurrently.
type Cluster struct {
	Programs *Programs
	Conf     string // the path of ceph.conf
	Keyring  string // the path of that of client.admin
	Mon      *Daemon
	OSDs     []*Daemon

	options Options
	manager *Daemon // nil: there is none
	dir     string
	reaper  *os.File
	names   atomic.Int64
}

// Start starts a cluster, which ends with the test.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c, err := start(Need(tb), o)
	if err != nil {
		tb.Fatalf("start Ceph: %v", err)
	}
	tb.Cleanup(c.stop)
	return c
}

var shared = sync.OnceValues(func() (*Cluster, error) {
	p, err := Find()
	if err != nil {
		return nil, err
	}
	return start(p, Options{})
})

// Shared returns the cluster of this test process, on memstore. The first test that asks for it
// starts it. Tests leave it as it is, but for what they store in it.
func Shared(tb testing.TB) *Cluster {
	tb.Helper()
	Need(tb)
	c, err := shared()
	if err != nil {
		tb.Fatalf("start Ceph: %v", err)
	}
	return c
}

func start(p *Programs, o Options) (c *Cluster, err error) {
	o.OSDs = max(o.OSDs, 1)
	for range startTries {
		c = &Cluster{Programs: p, options: o}
		if err = c.start(); err == nil {
			return c, nil
		}
		c.stop()
	}
	return nil, err
}

func (c *Cluster) start() (err error) {
	// not TempDir of a test: the names of sockets are short
	if c.dir, err = os.MkdirTemp("", "ceph-"); err != nil {
		return err
	}
	if c.reaper, err = reap(c.dir); err != nil {
		return err
	}
	c.Conf, c.Keyring = c.file("ceph.conf"), c.file("keyring")
	for _, step := range []func() error{c.startMon, c.startOSDs, c.makePool} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// reap starts a process that removes dir when the file that it returns is closed, or this process
// has ended.
func reap(dir string) (*os.File, error) {
	// again: a daemon that is being killed may write meanwhile
	const script = `trap '' HUP INT TERM; cat >/dev/null
		n=0; while [ -e "$1" ] && [ $n -lt 100 ]; do rm -rf "$1"; n=$((n+1)); sleep 0.1; done`
	end, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer end.Close()
	command := exec.Command("sh", "-c", script, "sh", dir)
	command.Stdin = end
	if err := command.Start(); err != nil {
		hold.Close()
		return nil, err
	}
	go command.Wait()
	return hold, nil
}

func (c *Cluster) stop() {
	for _, d := range append(c.OSDs, c.Mon, c.manager) {
		if d != nil && d.process != nil {
			d.Kill()
		}
	}
	if c.reaper != nil {
		c.reaper.Close()
	}
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) startMon() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Conf, []byte(c.conf(port)), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(c.file("crash"), 0o700); err != nil {
		return err
	}
	keys, monmap := c.file("mon.keyring"), c.file("monmap")
	for _, args := range [][]string{
		{"ceph-authtool", "-C", c.Keyring, "--gen-key", "-n", "client.admin", "--cap", "mon",
			"allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"},
		{"ceph-authtool", "-C", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"},
		{"ceph-authtool", keys, "--import-keyring", c.Keyring},
		{"monmaptool", "--create", "--fsid", c.fsid(), "--addv", "a",
			fmt.Sprintf("[v2:127.0.0.1:%d/0]", port), monmap},
		{"ceph-mon", "--mkfs", "-i", "a", "-c", c.Conf, "--monmap", monmap, "--keyring", keys},
	} {
		if _, err := c.run(args...); err != nil {
			return err
		}
	}
	c.Mon = c.daemon("mon.a", "ceph-mon", "-f", "-i", "a", "-c", c.Conf, "--keyring", keys)
	return c.Mon.start()
}

func (c *Cluster) daemon(name, program string, args ...string) *Daemon {
	return &Daemon{cluster: c, name: name, args: append([]string{c.Programs.program(program)},
		args...)}
}

func (c *Cluster) fsid() string {
	text, _ := os.ReadFile(c.Conf) // written just now
	_, rest, _ := strings.Cut(string(text), "fsid = ")
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

func (c *Cluster) startOSDs() error {
	for i := range c.options.OSDs {
		if err := c.startOSD(i); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startOSD(i int) error {
	name, id, unique := fmt.Sprintf("osd.%d", i), fmt.Sprint(i), uuid()
	dir := c.file(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	keyring, secrets := filepath.Join(dir, "keyring"), filepath.Join(dir, "secrets")
	if _, err := c.run("ceph-authtool", "-C", keyring, "--gen-key", "-n", name); err != nil {
		return err
	}
	secret, err := c.run("ceph-authtool", keyring, "-n", name, "-p")
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"cephx_secret": strings.TrimSpace(secret)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(secrets, text, 0o600); err != nil {
		return err
	}
	if _, err := c.run("ceph", "osd", "new", unique, id, "-i", secrets); err != nil {
		return err
	}
	if _, err := c.run("ceph-osd", "--mkfs", "-i", id, "-c", c.Conf, "--osd-uuid", unique,
		"--keyring", keyring); err != nil {
		return err
	}
	d := c.daemon(name, "ceph-osd", "-f", "-i", id, "-c", c.Conf, "--keyring", keyring)
	c.OSDs = append(c.OSDs, d)
	return d.start()
}

// makePool makes [Pool], and waits until it can be used, which means that the OSDs are up.
func (c *Cluster) makePool() error {
	if _, err := c.run("ceph", "osd", "pool", "create", Pool); err != nil {
		return err
	}
	_, err := c.run("rados", "-p", Pool, "ls")
	return err
}

// environ is the environment of Ceph's programs, as client.admin.
func (c *Cluster) environ() []string {
	return append(os.Environ(), c.Env("")...)
}

// Env returns the variables, "NAME=VALUE", by which a program finds the cluster as a client of that
// name, without "client.", which User has made; empty: admin.
func (c *Cluster) Env(user string) []string {
	keyring, args := c.Keyring, ""
	if user != "" {
		keyring, args = c.file("client."+user), "--id "+user
	}
	return append(c.Programs.Env(), "CEPH_CONF="+c.Conf, "CEPH_KEYRING="+keyring,
		"CEPH_ARGS="+args)
}

// Setenv sets the variables of Env for the test.
func (c *Cluster) Setenv(tb testing.TB, user string) {
	tb.Helper()
	for _, variable := range c.Env(user) {
		name, value, _ := strings.Cut(variable, "=")
		tb.Setenv(name, value)
	}
}

// run runs a program of Ceph's as client.admin, and returns what it has written to its output. It
// gives up when a daemon that was started last has ended.
func (c *Cluster) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	for _, d := range append([]*Daemon{c.Mon}, c.OSDs...) {
		if d != nil && d.exited != nil {
			exited := d.exited
			go func() {
				select {
				case <-exited:
					fail(fmt.Errorf("%s ended: %s", d.name, d.said()))
				case <-ctx.Done():
				}
			}()
		}
	}
	command := exec.CommandContext(ctx, c.Programs.program(args[0]), args[1:]...)
	command.Env = c.environ()
	command.WaitDelay = time.Second
	var stderr strings.Builder
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "),
			errors.Join(err, context.Cause(ctx)), stderr.String())
	}
	return string(stdout), nil
}

// Run runs a program of Ceph's as client.admin, such as "ceph", "osd", "set", "full", and returns
// its output.
func (c *Cluster) Run(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := c.run(args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// User makes a client with capabilities, such as "mon", "allow r", "osd", "allow rwx", and returns
// the path of its keyring. It goes with the test.
func (c *Cluster) User(tb testing.TB, name string, capabilities ...string) (keyring string) {
	tb.Helper()
	keyring = c.file("client." + name)
	c.Run(tb, append([]string{"ceph", "auth", "get-or-create", "client." + name, "-o", keyring},
		capabilities...)...)
	tb.Cleanup(func() { c.run("ceph", "auth", "rm", "client."+name) })
	return keyring
}

// Namespace returns the name of a namespace that no other test of the process has.
func (c *Cluster) Namespace() string { return fmt.Sprintf("ns%d", c.names.Add(1)) }

// NewPool makes a pool and returns its name. args say more, such as "erasure". It goes with the
// test.
func (c *Cluster) NewPool(tb testing.TB, args ...string) string {
	tb.Helper()
	name := fmt.Sprintf("pool%d", c.names.Add(1))
	// the number of placement groups stands before the kind
	c.Run(tb, append([]string{"ceph", "osd", "pool", "create", name, "4", "4"}, args...)...)
	tb.Cleanup(func() { c.deletePool(name) })
	c.Run(tb, "rados", "-p", name, "ls")
	return name
}

// DeletePool deletes a pool with all that is in it.
func (c *Cluster) DeletePool(tb testing.TB, name string) {
	tb.Helper()
	if err := c.deletePool(name); err != nil {
		tb.Fatal(err)
	}
}

func (c *Cluster) deletePool(name string) error {
	_, err := c.run("ceph", "osd", "pool", "delete", name, name, "--yes-i-really-really-mean-it")
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
