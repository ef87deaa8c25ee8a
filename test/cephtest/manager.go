package cephtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager returns where the manager is: in .tools/ceph-mgr, as install.sh has unpacked it, or with
// the other programs; nil: there is none.
func (p *Programs) manager() (root *Programs) {
	if tools, err := toolsOfModule(); err == nil {
		root = &Programs{filepath.Join(tools, "ceph-mgr")}
		if _, err := os.Stat(root.program("ceph-mgr")); err == nil {
			return root
		}
	}
	if _, err := exec.LookPath(p.program("ceph-mgr")); err != nil {
		return nil
	}
	return p
}

// StartManager starts a manager, by which the monitors know what pools hold: without it they keep
// no quota. It has no modules, which would want a lot of Python. Where there is no manager the test
// is skipped.
func (c *Cluster) StartManager(tb testing.TB) {
	tb.Helper()
	root := c.Programs.manager()
	if root == nil {
		tb.Skip("no ceph-mgr: `make deps` unpacks it, of Debian's package")
	}
	dir := c.file("mgr.x")
	keyring, modules := filepath.Join(dir, "keyring"), filepath.Join(dir, "modules")
	if err := os.MkdirAll(modules, 0o700); err != nil {
		tb.Fatal(err)
	}
	c.Run(tb, "ceph", "auth", "get-or-create", "mgr.x", "mon", "allow profile mgr", "osd",
		"allow *", "-o", keyring)
	c.manager = c.daemon("mgr.x", "ceph-mgr", "-f", "-i", "x", "-c", c.Conf, "--keyring", keyring,
		"--mgr_data", dir, "--mgr_module_path", modules, "--mgr_stats_period", "1")
	c.manager.args[0], c.manager.env = root.program("ceph-mgr"), environ(root, c.Programs)
	c.manager.Start(tb)
	serves := func() bool {
		var status struct{ Available bool }
		text := c.Run(tb, "ceph", "mgr", "stat", "-f", "json")
		return json.Unmarshal([]byte(strings.TrimSpace(text)), &status) == nil && status.Available
	}
	if !within(100*time.Millisecond, serves) {
		tb.Fatalf("the manager does not serve:\n%s", c.manager.said())
	}
}
