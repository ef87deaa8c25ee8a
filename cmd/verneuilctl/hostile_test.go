package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/spool"
)

// nobody is a user who does not run the tests.
const nobody = 61534

// tree returns what is below the site's directory, of what type, and what is in it.
func (s *site) tree() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		text := d.Type().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(b)
		}
		found[strings.TrimPrefix(path, s.dir)] = text
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// unchanged checks that nothing differs from before but below the names in except.
func (s *site) unchanged(before map[string]string, except ...string) {
	s.t.Helper()
	now := s.tree()
	for name := range now {
		if _, ok := before[name]; !ok {
			before[name] = "nothing"
		}
	}
	for name, was := range before {
		inside := slices.ContainsFunc(except, func(e string) bool {
			return name == "/"+e || strings.HasPrefix(name, "/"+e+"/")
		})
		if now[name] != was && !inside {
			s.t.Errorf("%q was %.40q, is %.40q", name, was, now[name])
		}
	}
}

// TestForeignOutput: restore and manifest replace regular files, and nothing else.
func TestForeignOutput(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	s.write("victim", []byte("precious"))
	out := s.path("out")
	for name, plant := range map[string]func() error{
		"is a symbolic link":    func() error { return os.Symlink(s.path("victim"), out) },
		"a symbolic link: name": func() error { return os.Symlink(s.path("nothing"), out) },
		"is not a regular file": func() error { return unix.Mkfifo(out, 0o600) },
		"out is a directory":    func() error { return os.Mkdir(out, 0o700) },
		// Another /dev/null
		"out is not a regular": func() error {
			return unix.Mknod(out, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		},
		"/out is not a regular f": func() error { return unix.Mknod(out, unix.S_IFSOCK|0o600, 0) },
	} {
		if err := plant(); errors.Is(err, unix.EPERM) {
			continue // devices are root's
		} else if err != nil {
			t.Fatal(err)
		}
		before := s.tree()
		for _, command := range []string{"restore", "manifest"} {
			refuse(t, 1, []string{command + " " + db, out, name}, "-c", s.config(), command, "-s",
				db, "-o", out)
		}
		s.unchanged(before)
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForeignNames: whatever the names of hosts and databases, their objects stay where
// they belong, and are found again.
func TestForeignNames(t *testing.T) {
	s := dirSite(t)
	before := s.tree()
	for _, host := range []string{"../../..", "h/../../x", "h\n", "a b", "a\x00b"} {
		s.configure(map[string]any{"hostname": host})
		refuse(t, 1, []string{"hostname: "}, "-c", s.config(), "sync", s.path("none.db"))
	}
	names := []string{"plain", "..", "%2F..%2F..%2Fx", "a\nb\x1b[2J", "%00", "~",
		strings.Repeat("é", 120), "a?b#c&vfs=x"}
	hosts := []string{"h", "..", "%2F..%2F..", "%00", "~", strings.Repeat("long", 60), ".history",
		"é"}
	for i, name := range names {
		db := s.database(name+".db", 1000*i)
		s.configure(map[string]any{"hostname": hosts[i]})
		must(t, "-c", s.config(), "sync", db)
		must(t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"))
		if s.sum(db) != s.sum(s.path("out.db")) {
			t.Errorf("%q of %q: the restored file differs", name, hosts[i])
		}
		if err := os.Remove(s.path("out.db")); err != nil {
			t.Fatal(err)
		}
		must(t, "flush", s.path("spool")) // of each host
		must(t, "-c", s.config(), "verify", "--read", "-s", db)
	}
	for _, name := range names {
		before["/"+name+".db"] = s.tree()["/"+name+".db"]
	}
	s.configure(nil)
	before["/verneuil.json"] = s.tree()["/verneuil.json"]
	s.unchanged(before, "store", "spool")
	if n := len(s.files("store/manifests")); n != len(names) {
		t.Errorf("%d manifests of %d databases", n, len(names))
	}
	before = s.tree()
	for _, uri := range []string{
		"verneuil://h/../../../../etc/passwd", "verneuil://../etc/passwd",
		"verneuil://h/%2e%2e%2f%2e%2e%2fetc/passwd",
		"verneuil://h/" + strings.Repeat("x", 100000), "verneuil://h/x\ny", "verneuil://.history/x",
		"file://../../nothing", s.path("store/../nothing"),
	} {
		refuse(t, 1, []string{"not found"}, "-c", s.config(), "restore", "-m", uri, "-o",
			s.path("out.db"))
	}
	refuse(t, 1, []string{"/etc/passwd", "corrupt"}, "-c", s.config(), "restore", "-m",
		"file:///etc/../etc/passwd", "-o", s.path("out.db"))
	s.unchanged(before)
}

// TestForeignSpools: a source.json that is not what we have left there is refused, by
// name, reads and sends nothing, and keeps no other spool from being flushed.
func TestForeignSpools(t *testing.T) {
	s := dirSite(t)
	good, bad, third := s.database("good.db", 10000), s.database("bad.db", 10000),
		s.database("third.db", 10000)
	for _, db := range []string{good, bad, third} {
		must(t, "-c", s.config(), "sync", db)
	}
	name := spool.Dir(s.path("spool"), bad) + "/source.json"
	ours, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, new string) func() error {
		return func() error {
			return os.WriteFile(name, []byte(strings.Replace(string(ours), old, new, 1)), 0o600)
		}
	}
	sqlite(t, nil, bad, "insert into t values('not sent')")
	for want, plant := range map[string]func() error{
		"symbolic links": func() error {
			return os.Symlink(spool.Dir(s.path("spool"), third)+"/source.json", name)
		},
		"not a file of":        func() error { return unix.Mkfifo(name, 0o600) },
		"source.json: corrupt": func() error { return os.Mkdir(name, 0o700) },
		"at most 1048576": func() error {
			return os.WriteFile(name, make([]byte, 2<<20), 0o600)
		},
		"it belongs to \"" + third + "\"": replaced(bad, third),
		"lacks an absolute path":          replaced(bad, "../bad.db"),
		"zero byte":                       replaced("/store", "/store\\u0000/x"),
		"targets[0].dir.path":             replaced(s.path("store"), ""),
		"targets[0].ftp: unknown":         replaced("\"dir\"", "\"ftp\""),
	} {
		if err := errors.Join(os.RemoveAll(name), plant()); err != nil {
			t.Fatal(err)
		}
		before := s.tree()
		r := ctl(t, "flush", s.path("spool"))
		if r.code != 1 || r.stdout != good+"\n"+third+"\n" ||
			!strings.Contains(r.stderr, "1 of 3 databases") ||
			!strings.Contains(r.stderr, name) && !strings.Contains(r.stderr, filepath.Dir(name)) ||
			!strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit code %d, %q, %q", want, r.code, r.stdout, r.stderr)
		}
		s.unchanged(before, "spool/"+filepath.Base(spool.Dir("", good)),
			"spool/"+filepath.Base(spool.Dir("", third)))
	}
	if err := errors.Join(os.RemoveAll(name), os.WriteFile(name, ours, 0o600)); err != nil {
		t.Fatal(err)
	}
	must(t, "flush", s.path("spool"))
}

// TestForeignDatabase: flush does not wait for what stands in the place of a database.
func TestForeignDatabase(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	for want, plant := range map[string]func() error{
		"not a regular file": func() error { return unix.Mkfifo(db, 0o600) },
		"is a directory":     func() error { return os.Mkdir(db, 0o700) },
	} {
		if err := errors.Join(os.Remove(db), plant()); err != nil {
			t.Fatal(err)
		}
		refuse(t, 1, []string{db, want}, "flush", s.path("spool"))
	}
}

// TestForeignStore: in place of the store's files stand links to others, or FIFOs: they are
// not read, written or waited for.
func TestForeignStore(t *testing.T) {
	for how, plant := range map[string]func(victim, name string) error{
		"link":      os.Symlink,
		"hard link": os.Link,
		"FIFO":      func(_, name string) error { return unix.Mkfifo(name, 0o600) },
	} {
		t.Run(how, func(t *testing.T) {
			s := dirSite(t)
			s.caches =
				[]any{map[string]any{"local": map[string]any{"directory": s.path("cache"),
					"num_shards": 1, "capacity": 10}}}
			s.configure(nil)
			db := s.database("d.db", 300000)
			must(t, "-c", s.config(), "sync", db)
			must(t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"))
			s.write("victim", []byte("precious"))
			replace := func(files []string) {
				for _, name := range files {
					err := errors.Join(os.Remove(name), plant(s.path("victim"), name))
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			replace(s.files("cache")) // the store has it
			must(t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"))
			replace(s.files("cache"))
			chunk := s.packs()[0]
			replace(s.packs())
			refuse(t, 1, []string{filepath.Base(chunk)[:1], "corrupt"}, "-c", s.config(), "restore",
				"--force", "-s", db, "-o", s.path("none.db"))
			r := ctl(t, "-c", s.config(), "verify", "--read")
			if r.code != 1 || !strings.Contains(r.stdout, filepath.Base(chunk)) {
				t.Errorf("verify: exit code %d, %s%s", r.code, r.stdout, r.stderr)
			}
			replace(s.files("store/manifests"))
			refuse(t, 1, []string{db, "corrupt"}, "-c", s.config(), "restore", "--force", "-s", db,
				"-o", s.path("none.db"))
			if err := os.RemoveAll(s.path("spool")); err != nil {
				t.Fatal(err)
			}
			if r := ctl(t, "-c", s.config(), "sync", db); r.code != 0 { // heals all of it
				t.Error(r.stderr)
			}
			must(t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"))
			if s.sum(db) != s.sum(s.path("out.db")) {
				t.Error("the restored file differs")
			}
			if b, err := os.ReadFile(s.path("victim")); string(b) != "precious" {
				t.Errorf("what stood for our files was changed: %q, %v", b, err)
			}
		})
	}
}

// TestAtOfTwo: restore --at, like restore, takes the other target where the first one's
// manifest is damaged, and names both where both are.
func TestAtOfTwo(t *testing.T) {
	s := dirSite(t)
	s.addTarget("second")
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	at := []string{"-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"), "--at",
		"2099-01-01"}
	for i, manifests := range []string{"store/manifests", "second/manifests"} {
		if err := os.WriteFile(s.files(manifests)[0], []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			must(t, at...)
			if s.sum(db) != s.sum(s.path("out.db")) {
				t.Error("the restored file differs")
			}
		}
	}
	refuse(t, 1, []string{s.path("store"), s.path("second"), "corrupt"}, at...)
}

// TestNoRoom: where the output, the spool or the store has no room, may not be written to, or
// is full in the middle, a command says which, leaves nothing behind, and changes nothing.
func TestNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system, and become another user")
	}
	s := dirSite(t)
	db := s.database("d.db", 3<<20)
	must(t, "-c", s.config(), "sync", db)
	mount := func(name, options string, flags uintptr) {
		t.Helper()
		if err := os.MkdirAll(s.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", s.path(name), "tmpfs", flags, options); err != nil {
			t.Skipf("cannot mount a small file system: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(s.path(name), unix.MNT_DETACH) })
	}
	remount := func(name string, flags uintptr) {
		t.Helper()
		if err := unix.Mount("", s.path(name), "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount("small", "size=1m,mode=700", 0)
	s.write("small/old.db", []byte("precious"))
	out := s.path("small/old.db")
	restore := []string{"-c", s.config(), "restore", "--force", "-s", db, "-o", out}
	before := s.tree()
	refuse(t, 1, []string{"restore " + db, s.path("small") + "/.verneuil-restore-",
		"no space left on device"}, restore...)
	s.unchanged(before)

	spooled := s.write("other.json", config(t, s.path("small/spool"), s.path("store2")))
	refuse(t, 1, []string{"sync " + db, s.path("small/spool"), "no space left on device"}, "-c",
		"@"+spooled, "sync", db)
	stored := s.write("third.json", config(t, s.path("spool3"), s.path("small/store")))
	refuse(t, 1, []string{"sync " + db, s.path("small/store"), "no space left on device"}, "-c",
		"@"+stored, "sync", db)
	left, err := filepath.Glob(s.path("small/store/manifests/*%*"))
	if len(left) > 0 || err != nil {
		t.Errorf("manifests of what has no room: %q, %v", left, err)
	}
	r := ctl(t, "flush", s.path("spool3"))
	if r.code != 1 || !strings.Contains(r.stderr, s.path("small/store")) ||
		!strings.Contains(r.stderr, "no space left") {
		t.Errorf("flush: exit code %d, %s", r.code, r.stderr)
	}

	remount("small", unix.MS_RDONLY)
	refuse(t, 1, []string{"restore " + db, s.path("small"), "read-only file system"}, restore...)
	refuse(t, 1, []string{"manifest " + db, s.path("small"), "read-only file system"}, "-c",
		s.config(), "manifest", "--force", db, "-o", out)
	refuse(t, 1, []string{"sync " + db, s.path("small/spool"), "read-only file system"}, "-c",
		"@"+spooled, "sync", db)
	r = ctl(t, "flush", s.path("spool3"))
	if r.code != 1 || !strings.Contains(r.stderr, s.path("small/store")) ||
		!strings.Contains(r.stderr, "read-only file system") {
		t.Errorf("flush: exit code %d, %s", r.code, r.stderr)
	}
	remount("small", 0)
	if b, err := os.ReadFile(out); string(b) != "precious" {
		t.Errorf("the old file is %q, %v", b, err)
	}

	unix.Unmount(s.path("small"), unix.MNT_DETACH)
	must(t, "-c", "@"+stored, "sync", db) // and now there is room
	must(t, "flush", s.path("spool3"))
}

// config is a configuration with that spooling directory and store.
func config(t *testing.T, spool, store string) []byte {
	return fmt.Appendf(nil, `{"hostname": %q, "replication_spooling_dir": %q, `+
		`"replication_targets": [{"dir": {"path": %q}}]}`, hostname, spool, store)
}

// TestNoPermission: another user than the owner is told what he may not read or write.
func TestNoPermission(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv("VERNEUIL_CTL") == "" {
		t.Skip("only root can become another user, with a program that he can run")
	}
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	built, err := os.ReadFile(os.Getenv("VERNEUIL_CTL"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(s.path("ctl"), built, 0o755),
		os.Chmod(filepath.Dir(s.dir), 0o711), os.Chmod(s.dir, 0o755),
		os.Chmod(s.path("verneuil.json"), 0o644), os.Chmod(db, 0o644),
		os.Mkdir(s.path("his"), 0o755), os.Chown(s.path("his"), nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	before := s.tree()
	for _, test := range []struct {
		args string
		want []string
	}{
		{"restore -s DB -o his/out.db", []string{"restore", s.path("store"), "permission denied"}},
		{"verify", []string{"verify", s.path("store"), "permission denied"}},
		{"sync DB", []string{"sync", s.path("spool"), "permission denied"}},
		{"flush SPOOL", []string{"flush", s.path("spool"), "permission denied"}},
	} {
		args := strings.Fields(strings.NewReplacer("DB", db, "SPOOL", s.path("spool"), "his/",
			s.path("his")+"/").Replace(test.args))
		argv := append([]string{"setpriv", "--reuid", strconv.Itoa(nobody), "--regid",
			strconv.Itoa(nobody), "--clear-groups", s.path("ctl"), "-c", s.config()}, args...)
		r := program(t, nil, argv...)
		if r.code != 1 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s%s", test.args, r.code, r.stdout, r.stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: does not say %q: %s", test.args, want, r.stderr)
			}
		}
	}
	s.unchanged(before)
}

// TestFileLimit: where files may not be as long as the database, restore says so, and leaves
// what was there.
func TestFileLimit(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 300000)
	must(t, "-c", s.config(), "sync", db)
	s.write("out.db", []byte("precious"))
	before := s.tree()
	for _, command := range []string{"restore --force -s " + db + " -o " + s.path("out.db"),
		"restore -s " + db, "sync " + s.database("new.db", 300000)} {
		argv := append([]string{"sh", "-c", `ulimit -f 100 && exec "$@"`, "sh"},
			ctlCommand(append([]string{"-c", s.config()}, strings.Fields(command)...)...)...)
		r := program(t, []string{"TMPDIR=" + s.dir}, argv...)
		if r.code != 1 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 ||
			!strings.Contains(r.stderr, s.dir) || !strings.Contains(r.stderr, "file too large") {
			t.Errorf("%s: exit code %d, %d bytes, %s", command, r.code, len(r.stdout), r.stderr)
		}
	}
	before["/new.db"] = s.tree()["/new.db"]
	s.unchanged(before, "spool")
}
