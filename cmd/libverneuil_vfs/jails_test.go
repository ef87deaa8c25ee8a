package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Surroundings that lack what processes usually have. Databases work as they do with stock
// SQLite, and are replicated, or it is said why not.

const noProc = "is /proc mounted?"

// mountedHost starts a host with mounts of its own, which the shell's script makes; root is
// its root directory, or empty.
func (s *site) mountedHost(script, root string, argv ...string) *session {
	s.t.Helper()
	may := "mount -t proc proc /proc && mount -t tmpfs tmpfs /tmp && mount -o remount,bind,ro /"
	if out, err := exec.Command("unshare", "-m", "sh", "-c", may).CombinedOutput(); err != nil {
		s.t.Skipf("mounts need rights that are missing here: %v: %s", err, out)
	}
	become := `exec "$@"`
	if root != "" {
		become = `exec chroot '` + root + `' "$@"`
	}
	return start(s.t, []string{s.env()}, append([]string{"unshare", "-m", "sh", "-e", "-c", script + "\n" + become, "sh"}, argv...)...)
}

// jail makes a directory that has a host, the extension, and the libraries they need; what
// is /data there is the site's.
func (s *site) jail() (root string) {
	s.t.Helper()
	root = s.path("jail")
	must(s.t, os.MkdirAll(filepath.Join(root, "data"), 0o755))
	must(s.t, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
	copyTo := func(from, to string) {
		b, err := os.ReadFile(from)
		must(s.t, err)
		must(s.t, os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755))
		must(s.t, os.WriteFile(filepath.Join(root, to), b, 0o755))
	}
	copyTo(hostProgram(s.t), "host")
	copyTo(library(s.t), "libverneuil_vfs.so")
	libraries := run(s.t, nil, "ldd", hostProgram(s.t), library(s.t)).stdout
	for _, match := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(libraries, -1) {
		copyTo(match[1], match[1])
	}
	s.configure(map[string]any{"replication_spooling_dir": "/data/spool", "replication_targets": []any{map[string]any{"dir": map[string]any{"path": "/data/store"}}}})
	copyTo(s.path("verneuil.json"), s.path("verneuil.json"))
	return root
}

// TestJail: a root directory with nothing but libraries: without /proc nothing is replicated,
// with it all is, and neither /dev, nor /etc, nor /tmp is missed.
func TestJail(t *testing.T) {
	for _, proc := range []bool{false, true} {
		s := dirSite(t)
		root, script := s.jail(), ""
		if proc {
			script = "mount -t proc proc '" + root + "/proc'"
		}
		h := s.mountedHost(script, root, "/host", "/libverneuil_vfs.so")
		if h.replicated(s, "/data/a.db", noProc) != proc {
			t.Errorf("with /proc %v: replicated %v", proc, !proc)
		}
		if ok := s.stock("jail/data/a.db", "pragma integrity_check"); ok != "ok" {
			t.Error(ok)
		}
		if _, err := os.Stat(filepath.Join(root, "data/store/manifests")); (err == nil) != proc {
			t.Errorf("with /proc %v: manifests: %v", proc, err)
		}
	}
}

// TestJailedRequests: a store whose name cannot be resolved, as there is no /etc, nor a home
// with credentials.
func TestJailedRequests(t *testing.T) {
	s := dirSite(t)
	root := s.jail()
	s.configure(map[string]any{"replication_spooling_dir": "/data/spool", "replication_targets": []any{map[string]any{"s3": map[string]any{
		"region": "nowhere", "endpoint": "http://store.invalid:9", "chunk_bucket": "chunks", "manifest_bucket": "manifests"}}}})
	b, err := os.ReadFile(s.path("verneuil.json"))
	must(t, err)
	h := s.mountedHost("mount -t proc proc '"+root+"/proc'\nunset HOME", root, "/host", "/libverneuil_vfs.so")
	must(t, os.WriteFile(filepath.Join(root, s.path("verneuil.json")), b, 0o600))
	if h.replicated(s, "/data/a.db", "store.invalid") {
		t.Error("flushed to a store that is nowhere")
	}
}

// TestMounts: file systems that forbid.
func TestMounts(t *testing.T) {
	for _, test := range []struct {
		name, script string
		reason       string // not replicated, for this
	}{
		{"no proc", "umount -l /proc", noProc},
		{"noexec", `mount -t tmpfs -o noexec,nosuid,nodev spool "$SITE/spool"
			mount -t tmpfs -o noexec,nosuid,nodev temp "$SITE/temp"
			export TMPDIR="$SITE/temp"`, ""},
		{"read-only root", `mount --bind "$SITE" "$SITE"
			mount -o remount,bind,ro /
			if touch /verneuil-test 2>/dev/null; then exit 1; fi`, ""},
		{"read-only spool", `mount --bind "$SITE/spool" "$SITE/spool"
			mount -o remount,bind,ro "$SITE/spool"`, "Read-only file system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := dirSite(t)
			for _, name := range []string{"spool", "temp"} {
				must(t, os.Mkdir(s.path(name), 0o700))
			}
			h := s.mountedHost("SITE='"+s.dir+"'\n"+test.script, "", hostProgram(t), library(t))
			if h.replicated(s, s.path("a.db"), test.reason) != (test.reason == "") {
				t.Errorf("replicated %v", test.reason != "")
			}
			if test.reason == "" {
				s.mustEqual("a.db")
			}
		})
	}
}

// TestNoDirectory: the current directory is gone, before the extension is loaded or before
// the database is opened. Relative names mean nothing, as with stock SQLite; others work.
func TestNoDirectory(t *testing.T) {
	for _, when := range []string{"before loading", "before opening"} {
		t.Run(when, func(t *testing.T) {
			s := dirSite(t)
			must(t, os.Mkdir(s.path("gone"), 0o700))
			script := `cd "$1"; shift; exec "$@"`
			if when == "before loading" {
				script = `cd "$1"; rmdir "$1"; shift; exec "$@"`
			}
			h := start(t, []string{s.env()}, "sh", "-e", "-c", script, "sh", s.path("gone"), hostProgram(t), library(t))
			if when == "before opening" {
				h.want(".print loaded", "loaded")
				must(t, os.Remove(s.path("gone")))
			}
			stock := h.ask(".open file:a.db?vfs=unix")
			if ours := h.ask(".open file:a.db?vfs=verneuil"); stock == "" || ours != strings.ReplaceAll(stock, "unix", "verneuil") {
				t.Errorf("a relative name: %q, stock SQLite says %q", ours, stock)
			}
			h.must(".open " + s.path("b.db"))
			h.must("create table t(b)")
			h.flush()
			h.must(".chdir " + s.dir)
			if !h.replicated(s, "a.db", "") {
				t.Error("not replicated")
			}
			s.mustEqual("a.db")
			s.mustEqual("b.db")
		})
	}
}

// TestBareEnvironment: nothing is set but our own variable.
func TestBareEnvironment(t *testing.T) {
	s := dirSite(t)
	h := start(t, nil, "env", "-i", s.env(), hostProgram(t), library(t))
	if !h.replicated(s, s.path("a.db"), "") {
		t.Errorf("not replicated: %s", h.stderr())
	}
	s.mustEqual("a.db")
}
