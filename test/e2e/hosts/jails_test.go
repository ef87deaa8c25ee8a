package hosts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// Surroundings that lack what processes usually have. Databases work as they do with stock
// SQLite, and are replicated, or it is said why not.

const noProc = "is /proc mounted?"

// mountedHost starts a host with mounts of its own, which the shell's script makes; root is
// its root directory, or empty.
func mountedHost(s *harness.Site, script, root string, argv ...string) *harness.Process {
	s.T.Helper()
	may := "mount -t proc proc /proc && mount -t tmpfs tmpfs /tmp && mount -o remount,bind,ro /"
	if out, err := exec.Command("unshare", "-m", "sh", "-c", may).CombinedOutput(); err != nil {
		s.T.Skipf("mounts need rights that are missing here: %v: %s", err, out)
	}
	become := `exec "$@"`
	if root != "" {
		become = `exec chroot '` + root + `' "$@"`
	}
	return harness.Start(s.T, []string{s.Env()}, append([]string{"unshare", "-m", "sh", "-e", "-c",
		script + "\n" + become, "sh"}, argv...)...)
}

// jail makes a directory that has a host, the extension, and the libraries they need; what
// is /data there is the site's.
func jail(s *harness.Site) (root string) {
	s.T.Helper()
	root = s.Path("jail")
	harness.Must(s.T, os.MkdirAll(filepath.Join(root, "data"), 0o755))
	harness.Must(s.T, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
	copyTo := func(from, to string) {
		b, err := os.ReadFile(from)
		harness.Must(s.T, err)
		harness.Must(s.T, os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755))
		harness.Must(s.T, os.WriteFile(filepath.Join(root, to), b, 0o755))
	}
	copyTo(harness.HostProgram(s.T), "host")
	copyTo(harness.Library(s.T), "libverneuil_vfs.so")
	libraries := harness.Run(s.T, nil, "ldd", harness.HostProgram(s.T), harness.Library(s.T)).Stdout
	for _, match := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(libraries, -1) {
		copyTo(match[1], match[1])
	}
	s.Configure(map[string]any{"replication_spooling_dir": "/data/spool",
		"replication_targets": []any{map[string]any{"dir": map[string]any{"path": "/data/store"}}}})
	copyTo(s.Path("verneuil.json"), s.Path("verneuil.json"))
	return root
}

// TestJail: a root directory with nothing but libraries: without /proc nothing is replicated,
// with it all is, and neither /dev, nor /etc, nor /tmp is missed.
func TestJail(t *testing.T) {
	for _, proc := range []bool{false, true} {
		s := harness.DirSite(t)
		root, script := jail(s), ""
		if proc {
			script = "mount -t proc proc '" + root + "/proc'"
		}
		h := mountedHost(s, script, root, "/host", "/libverneuil_vfs.so")
		if replicated(h, s, "/data/a.db", noProc) != proc {
			t.Errorf("with /proc %v: replicated %v", proc, !proc)
		}
		if ok := s.Stock("jail/data/a.db", "pragma integrity_check"); ok != "ok" {
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
	s := harness.DirSite(t)
	root := jail(s)
	s.Configure(map[string]any{"replication_spooling_dir": "/data/spool",
		"replication_targets": []any{map[string]any{"s3": map[string]any{
			"region": "nowhere", "endpoint": "http://store.invalid:9", "chunk_bucket": "chunks",
			"manifest_bucket": "manifests"}}}})
	b, err := os.ReadFile(s.Path("verneuil.json"))
	harness.Must(t, err)
	h := mountedHost(s, "mount -t proc proc '"+root+"/proc'\nunset HOME", root, "/host",
		"/libverneuil_vfs.so")
	harness.Must(t, os.WriteFile(filepath.Join(root, s.Path("verneuil.json")), b, 0o600))
	if replicated(h, s, "/data/a.db", "store.invalid") {
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
			s := harness.DirSite(t)
			for _, name := range []string{"spool", "temp"} {
				harness.Must(t, os.Mkdir(s.Path(name), 0o700))
			}
			h := mountedHost(s, "SITE='"+s.Dir+"'\n"+test.script, "", harness.HostProgram(t),
				harness.Library(t))
			if replicated(h, s, s.Path("a.db"), test.reason) != (test.reason == "") {
				t.Errorf("replicated %v", test.reason != "")
			}
			if test.reason == "" {
				s.MustEqual("a.db")
			}
		})
	}
}

// TestNoDirectory: the current directory is gone, before the extension is loaded or before
// the database is opened. Relative names mean nothing, as with stock SQLite; others work.
func TestNoDirectory(t *testing.T) {
	for _, when := range []string{"before loading", "before opening"} {
		t.Run(when, func(t *testing.T) {
			s := harness.DirSite(t)
			harness.Must(t, os.Mkdir(s.Path("gone"), 0o700))
			script := `cd "$1"; shift; exec "$@"`
			if when == "before loading" {
				script = `cd "$1"; rmdir "$1"; shift; exec "$@"`
			}
			h := harness.Start(t, []string{s.Env()}, "sh", "-e", "-c", script, "sh", s.Path("gone"),
				harness.HostProgram(t), harness.Library(t))
			if when == "before opening" {
				h.Want(".print loaded", "loaded")
				harness.Must(t, os.Remove(s.Path("gone")))
			}
			stock := h.Ask(".open file:a.db?vfs=unix")
			if ours := h.Ask(".open file:a.db?vfs=verneuil"); stock == "" ||
				ours != strings.ReplaceAll(stock, "unix", "verneuil") {
				t.Errorf("a relative name: %q, stock SQLite says %q", ours, stock)
			}
			h.Must(".open " + s.Path("b.db"))
			h.Must("create table t(b)")
			h.Flush()
			h.Must(".chdir " + s.Dir)
			if !replicated(h, s, "a.db", "") {
				t.Error("not replicated")
			}
			s.MustEqual("a.db")
			s.MustEqual("b.db")
		})
	}
}

// TestBareEnvironment: nothing is set but our own variable.
func TestBareEnvironment(t *testing.T) {
	s := harness.DirSite(t)
	h := harness.Start(t, nil, "env", "-i", s.Env(), harness.HostProgram(t), harness.Library(t))
	if !replicated(h, s, s.Path("a.db"), "") {
		t.Errorf("not replicated: %s", h.Stderr())
	}
	s.MustEqual("a.db")
}
