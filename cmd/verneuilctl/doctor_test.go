package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/probe"
	"verneuil/vfs"
)

// findings runs doctor --json, which must exit with code, and returns what it finds.
func findings(s *site, code int, args ...string) (found []probe.Finding) {
	s.t.Helper()
	args = append([]string{"-c", s.config(), "doctor", "--json"}, args...)
	r := ctl(s.t, args...)
	if r.code != code {
		s.t.Errorf("%q: exit code %d, want %d:\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	for text := range strings.Lines(r.stdout) {
		var f probe.Finding
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			s.t.Fatal(err)
		}
		found = append(found, f)
	}
	return found
}

// finds fails the test unless one finding is of that level and check, and says what.
func finds(t *testing.T, found []probe.Finding, level probe.Level, check, what string) {
	t.Helper()
	for _, f := range found {
		if f.Level == level && f.Check == check && strings.Contains(f.Text, what) &&
			(level == probe.OK || f.Remedy != "") {
			return
		}
	}
	t.Errorf("no finding %s of %s says %q: %+v", level, check, what, found)
}

// TestDoctor: what is well is said to be, on each kind of target; nothing is left behind.
func TestDoctor(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *site{
		"dir": dirSite, "minio": oneBucketSite,
	} {
		t.Run(name, func(t *testing.T) {
			s := make(t)
			must(t, "-c", s.config(), "sync", s.database("a.db", 100<<10))
			before := must(t, "-c", s.config(), "ls")
			found := findings(s, 0)
			finds(t, found, probe.OK, "conditions", "once")
			finds(t, found, probe.OK, "pace", "MB/s")
			finds(t, found, probe.OK, "kernel", "Linux")
			for _, f := range findings(s, 0, "--read-only") {
				if f.Check == "conditions" || f.Check == "pace" {
					t.Errorf("--read-only has looked at %+v", f)
				}
			}
			r := ctl(t, "-c", s.config(), "doctor")
			if r.code != 0 || !strings.HasPrefix(r.stdout, "LEVEL") ||
				strings.Contains(r.stdout, "\nok ") ||
				!strings.Contains(r.stdout, "checks found nothing") {
				t.Errorf("%d:\n%s%s", r.code, r.stdout, r.stderr)
			}
			if after := must(t, "-c", s.config(), "ls"); strings.Count(after, "\n") !=
				strings.Count(before, "\n") {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
			must(t, "-c", s.config(), "verify", "--read")
		})
	}
}

// TestDoctorFinds: what is wrong with the host and the configuration, and with the stores in which
// databases live, is said, with the words of whoever refuses it.
func TestDoctorFinds(t *testing.T) {
	t.Run("spool", func(t *testing.T) {
		s := dirSite(t)
		if err := os.Chmod(s.path("spool"), 0o777); err != nil {
			if err = os.Mkdir(s.path("spool"), 0o777); err == nil {
				err = os.Chmod(s.path("spool"), 0o777)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		finds(t, findings(s, 1), probe.Unsafe, "replication_spooling_dir", "chmod +t or go-w it")
	})
	t.Run("cleaned", func(t *testing.T) {
		s := dirSite(t)
		s.configure(map[string]any{"replication_spooling_dir": "/tmp/verneuil-doctor-none"})
		finds(t, findings(s, 0), probe.Warning, "replication_spooling_dir", "cleaned")
	})
	t.Run("no target", func(t *testing.T) {
		s := dirSite(t)
		s.configure(map[string]any{"replication_targets": []any{}})
		finds(t, findings(s, 1), probe.Unsafe, "targets", "names no s3 or dir")
	})
	t.Run("cache", func(t *testing.T) {
		s := dirSite(t)
		s.configure(map[string]any{"replication_targets": []any{s.target, map[string]any{
			"read_only": map[string]any{"directory": s.path("none"), "num_shards": 1}}}})
		finds(t, findings(s, 1), probe.Unsafe, "read_only", "no such file")
	})
	t.Run("keys", testDoctorKeys)
	t.Run("a store that is careless", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "id")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		s := dirSite(t)
		s.target = map[string]any{"s3": map[string]any{"region": "r",
			"endpoint": carelessStore(t), "bucket": "databases"}}
		s.withStores()
		r := ctl(t, "-c", s.config(), "-l", "off", "create", "file:///s/x.db")
		_, words, _ := strings.Cut(strings.TrimSpace(r.stderr), "file:///s/x.db: ")
		if words == "" {
			t.Fatal(r.stderr)
		}
		finds(t, findings(s, 1, "-l", "off"), probe.Unsafe, "conditions", words)
	})
	t.Run("silent", func(t *testing.T) {
		miniotest.Start(t) // for credentials
		s := dirSite(t)
		endpoint, _ := silence(t)
		s.target = map[string]any{"s3": map[string]any{"region": "r", "endpoint": endpoint,
			"bucket": "b"}}
		s.configure(nil)
		finds(t, findings(s, 1, "--timeout", "300ms"), probe.Unsafe, "reach", "answer")
	})
}

// TestPagesForAStore: a web server that has a page for every name, and says ETag of it as a store
// does, is taken for no store, whoever asks.
func TestPagesForAStore(t *testing.T) {
	miniotest.Start(t) // for credentials
	s := dirSite(t)
	db := s.database("d.db", 10000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"page"`)
		_, _ = io.WriteString(w, "<html>Sign in</html>")
	}))
	t.Cleanup(server.Close)
	s.target = map[string]any{"s3": map[string]any{"region": "r", "endpoint": server.URL,
		"bucket": "b"}}
	s.configure(nil)
	const foreign = "something else answers in the store's place"
	finds(t, findings(s, 1), probe.Unsafe, "reach", foreign)
	if r := ctl(t, "-c", s.config(), "config", "check"); r.code != 1 ||
		strings.Count(r.stdout, foreign) != 2 {
		t.Errorf("config check: exit code %d, %s", r.code, r.stdout)
	}
	refuse(t, 1, []string{"sync " + db, "identity of"}, "-l", "off", "-c", s.config(), "sync", db)
}

// testDoctorKeys: a key file that cannot be used is a finding, of a store's own, too, and so is one
// that others than its owner can read or change.
func testDoctorKeys(t *testing.T) {
	s := dirSite(t)
	dir := s.path("etc")
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "key", "new", keys)
	whole, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]any{"stores": map[string]any{"own": map[string]any{"key_file": keys,
		"dir": map[string]any{"path": s.path("own")}}}}
	configurations := []map[string]any{{"key_file": keys}, own,
		{"key_command": []string{"/bin/cat", keys}}}
	for what, c := range map[string]struct{ text, says string }{
		"absent": {"", "o such file"}, "empty": {"\n", "keys"},
		"malformed": {"hello\n", "it must begin with"},
		"cut":       {string(whole[:len(whole)/2]), "line"},
		"twice": {string(whole) + string(whole[bytes.LastIndex(whole, []byte("key ")):]),
			"it is there already"},
	} {
		if err := os.WriteFile(keys, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if what == "absent" {
			if err := os.Remove(keys); err != nil {
				t.Fatal(err)
			}
		}
		for _, config := range configurations {
			s.configure(config)
			found := findings(s, 1, "--read-only")
			finds(t, found, probe.Unsafe, "keys", c.says)
			finds(t, found, probe.OK, "kernel", "Linux") // and all else is looked at
		}
	}
	if err := os.WriteFile(keys, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	testDoctorCommandFails(s)
	s.configure(configurations[0])
	testDoctorRights(s, dir, keys)
}

// testDoctorCommandFails: a command that fails is run once, however many have their keys from it;
// more often only if the machine is so slow that it may be run again.
func testDoctorCommandFails(s *site) {
	const interval = 10 * time.Second // of package keyring
	runs, began := s.path("runs"), time.Now()
	keys := []string{"/bin/sh", "-c", "echo >>" + runs + "; exit 3"}
	s.configure(map[string]any{"key_command": keys, "stores": map[string]any{
		"one": map[string]any{"dir": map[string]any{"path": s.path("one")}},
		"two": map[string]any{"key_command": keys, "dir": map[string]any{"path": s.path("two")}}}})
	finds(s.t, findings(s, 1, "--read-only"), probe.Unsafe, "keys", "exit status 3")
	b, err := os.ReadFile(runs)
	if n, most := len(b), 1+int(time.Since(began)/interval); err != nil || n < 1 || n > most {
		s.t.Errorf("the command was run %d times, want at most %d: %v", n, most, err)
	}
}

// testDoctorRights: who else may read and change the key file.
func testDoctorRights(s *site, dir, keys string) {
	t := s.t
	finds(t, findings(s, 0), probe.OK, "key_file", keys)
	for _, c := range []struct {
		path, says string
		mode       os.FileMode
	}{
		{keys, "any user of this host can read", 0o644}, {keys, "can change the keys", 0o620},
		{keys, "can change the keys", 0o602}, {dir, "can put another key file there", 0o720},
		{dir, "can put another key file there", 0o702},
	} {
		was, err := os.Stat(c.path)
		if err == nil {
			err = os.Chmod(c.path, c.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		finds(t, findings(s, 0), probe.Warning, "key_file", c.says)
		if err := os.Chmod(c.path, was.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	if err := os.Chown(keys, 12345, -1); err != nil {
		t.Fatal(err)
	}
	finds(t, findings(s, 0), probe.Warning, "key_file", "belongs to the user 12345")
}

// TestDoctorLimits: limits of this host with which programs do not replicate, or not all that they
// might, are found.
func TestDoctorLimits(t *testing.T) {
	s := dirSite(t)
	for _, c := range []struct {
		ulimit, says string
		level        probe.Level
	}{
		{"-n 512", "RLIMIT_NOFILE is 512", probe.Note},
		{"-v 2400000", "RLIMIT_AS is", probe.Unsafe},
		{"-f 1", "RLIMIT_FSIZE is", probe.Unsafe},
	} {
		ctl := os.Getenv("VERNEUIL_CTL")
		if ctl == "" {
			t.Skip("VERNEUIL_CTL names no verneuilctl; make test does")
		}
		r := program(t, nil, "/bin/sh", "-c", "ulimit "+c.ulimit+` && exec "$@"`, "sh", ctl, "-c",
			s.config(), "doctor", "--json", "--read-only")
		var found []probe.Finding
		for text := range strings.Lines(r.stdout) {
			var f probe.Finding
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				t.Fatal(err)
			}
			found = append(found, f)
		}
		finds(t, found, c.level, "limits", c.says)
	}
	s.configure(map[string]any{"tempdir": s.write("a-file", nil)})
	finds(t, findings(s, 1), probe.Unsafe, "tempdir", "is not a directory")
	s.configure(map[string]any{"tempdir": s.path("nobody-made-it")})
	finds(t, findings(s, 1), probe.Unsafe, "tempdir", "no such file or directory")
	r := ctl(t, "-c", s.config(), "config", "check")
	if r.code != 1 || !strings.Contains(r.stdout, "FAILED  tempdir") {
		t.Errorf("config check: exit code %d, %s", r.code, r.stdout)
	}
	full := s.path("full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer syscall.Unmount(full, syscall.MNT_DETACH)
	s.configure(map[string]any{"tempdir": full, "replication_targets": []any{s.target,
		map[string]any{"local": map[string]any{"directory": full, "num_shards": 1, "capacity": 9}},
	}})
	found := findings(s, 0)
	finds(t, found, probe.Warning, "tempdir", " MiB free, and ")
	finds(t, found, probe.Warning, "local", " MiB free, and ")
}

// TestDoctorSQLite: a sqlite3 shell that has the WAL-reset bug is warned of, and one that has not
// is not: the real one, and one that says that it is another.
func TestDoctorSQLite(t *testing.T) {
	s := dirSite(t)
	shell := sqliteShell(t)
	version := strings.Fields(sqlite(t, nil, "-version"))[0]
	level := func(where string) (level probe.Level, text string) {
		t.Helper()
		for _, f := range findings(s, 0, "--read-only") {
			if f.Check == "SQLite" && f.Where == where {
				level, text = f.Level, f.Text
			}
		}
		return level, text
	}
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Fatal(err)
	}
	got, text := level(path)
	if bug := vfs.WALResetBug(version); (bug != "") != (got == probe.Warning) || got == "" ||
		bug != "" && text != bug {
		t.Errorf("sqlite3 %s: %s %q, want %q", version, got, text, bug)
	}
	// The one within is later than the bug.
	if got, text := level("verneuilctl"); got != probe.OK {
		t.Errorf("verneuilctl: %s %q", got, text)
	}
	bin := s.path("bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for version, want := range map[string]probe.Level{
		"3.51.2": probe.Warning, "3.51.3": probe.OK,
	} {
		other := filepath.Join(bin, "sqlite3")
		if err := os.WriteFile(other, []byte("#!/bin/sh\necho "+version+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, text := level(other); got != want {
			t.Errorf("%s: %s %q, want %s", version, got, text, want)
		}
	}
}
