package faults_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// words say in which state of things something failed.
type words string

func (w words) String() string { return string(w) }

const sums = "select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;"

// damages are what may become of a file of the spool. Those that make a file shorter in
// place are not for one that is mapped: SQLite's own -shm does not stand that either.
var damages = map[string]func(s *harness.Site, file string) error{
	"deleted": func(_ *harness.Site, file string) error { return os.RemoveAll(file) },
	"emptied": func(_ *harness.Site, file string) error { return os.Truncate(file, 0) },
	"cut": func(_ *harness.Site, file string) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return os.Truncate(file, info.Size()/2)
	},
	"junk": func(_ *harness.Site, file string) error { // of the same length, in place
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(file, os.O_WRONLY|unix.O_NONBLOCK, 0) // a FIFO may have no reader
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(random(max(int(info.Size()), 100)))
		return err
	},
	"zeros": func(_ *harness.Site, file string) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return replaced(file, make([]byte, info.Size()))
	},
	"replaced by junk": func(_ *harness.Site, file string) error {
		return replaced(file,
			random(5000))
	},
	"a directory": func(_ *harness.Site, file string) error {
		return instead(file, func() error { return os.MkdirAll(file+"/x/y", 0o700) })
	},
	"a FIFO": func(_ *harness.Site, file string) error {
		return instead(file, func() error { return unix.Mkfifo(file, 0o600) })
	},
	"a link": func(s *harness.Site, file string) error {
		return instead(file, func() error { return os.Symlink(s.Path("victim"), file) })
	},
	"a hard link": func(s *harness.Site, file string) error { // of a file of the same contents
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		if err := os.Rename(file, s.Path("twin")); err != nil {
			return err
		}
		return os.Link(s.Path("twin"), file)
	},
	"another user's": func(_ *harness.Site, file string) error {
		return os.Chown(file,
			harness.Nobody, harness.Nobody)
	},
	"another database's": func(s *harness.Site, file string) error { return ofAnother(s, file) },
	"not to be written to": func(_ *harness.Site, file string) error {
		return os.Chmod(file,
			0o400)
	},
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func instead(file string, put func() error) error {
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	return put()
}

func replaced(file string, b []byte) error {
	return instead(file, func() error { return os.WriteFile(file, b, 0o600) })
}

// ofAnother puts what the spool of the database b.db has in the place of a file.
func ofAnother(s *harness.Site, file string) error {
	others, err := filepath.Glob(s.Path("others/*/" + filepath.Base(file)))
	if err != nil || len(others) == 0 {
		return err // it has no such file
	}
	if info, err := os.Lstat(others[0]); err != nil || !info.Mode().IsRegular() {
		return err // a directory, or a FIFO
	}
	b, err := os.ReadFile(others[0])
	if err != nil {
		return err
	}
	return replaced(file, b)
}

// spoolFiles are the names of what is damaged.
var spoolFiles = []string{"state", "attach", "log.*", "free.*", "wake", "lock", "source.json",
	"boot", "mirror", "dirty", "cut",
	"tree", "tree/*", "flush.json", "targets.json", "put.*", "patrol.json", "copied.json", "aside"}

// TestSpoolDamaged: whatever becomes of a file of the spool while nobody has it open, or
// while somebody has, the application writes as if nothing were; and the next process that
// opens the database sends what that is, and nothing else.
func TestSpoolDamaged(t *testing.T) {
	journals, some := []string{"delete"}, 61
	if crash.Chosen() {
		journals, some = []string{"delete", "wal", "wal+exclusive"}, 1
	}
	skip := rand.IntN(some)
	for _, journal := range journals {
		for _, when := range []string{"closed", "killed", "open"} {
			s := harness.DirSite(t)
			begin := func() {
				anew(s)
				s.Write("victim", []byte("not of the spool"))
				calm(s).run(script(s, "b.db", workload(journal), true), harness.SQLiteShell(t),
					"-batch")
				harness.Must(t, os.Rename(s.Path("spool"), s.Path("others")))
				calm(s).run(script(s, "a.db", workload(journal), true), harness.SQLiteShell(t),
					"-batch")
			}
			begin()
			for _, name := range spoolFiles {
				for how := range damages {
					if skip++; skip%some > 0 && !(name == "mirror" && how == "junk") {
						continue
					}
					if (how == "another user's" || how == "not to be written to") &&
						os.Geteuid() != 0 ||
						when == "open" && slices.Contains([]string{"emptied", "cut"}, how) &&
							slices.Contains([]string{"state", "log.*", "free.*"}, name) ||
						// who has a file open, writes to it
						when == "open" && how == "a hard link" {
						continue
					}
					if !t.Run(journal+"/"+when+"/"+name+"/"+how, func(t *testing.T) {
						s.T = t
						damaged(s, journal, when, name, how)
					}) {
						s.T = t
						begin()
					}
					s.T = t
				}
			}
		}
	}
}

// damaged damages the files of the spool that match name, and sees what comes of it.
func damaged(s *harness.Site, journal, when, name, how string) {
	s.T.Helper()
	shell := s.Shell("a.db", "VERNEUIL_LOG=off")
	if strings.HasSuffix(journal, "+exclusive") {
		shell.Ask("pragma locking_mode=exclusive;")
	}
	shell.Must("update t set b = b || '?' where a = 2;")
	shell.Flush()
	sealed(s)
	switch when {
	case "closed":
		shell.EndsWith(0)
	case "killed":
		shell.Kill()
	}
	dirs, err := filepath.Glob(s.Path("spool/*"))
	if err != nil || len(dirs) != 1 {
		s.T.Fatalf("spools: %q, %v", dirs, err)
	}
	files, err := filepath.Glob(filepath.Join(dirs[0], name))
	if len(files) == 0 && !strings.Contains(name, "*") { // there is none now: put something there
		files = []string{filepath.Join(dirs[0], name)}
		harness.Must(s.T, os.WriteFile(files[0], []byte("nothing"), 0o600))
	}
	for _, file := range files {
		if err := damages[how](s, file); err != nil {
			if info, statErr := os.Lstat(file); statErr == nil && info.Mode().IsRegular() {
				s.T.Fatal(err)
			} // else it is a FIFO or a directory, which cannot be had that way
		}
	}
	twin, _ := os.ReadFile(s.Path("twin")) // if there is one
	const changes = "update t set b = b || '!' where a = 2; " +
		"delete from t where a = (select max(a) from t); insert into t(b) values(zeroblob(30000));"
	if when == "open" {
		shell.Must(changes)
		shell.Ask("pragma verneuil_flush_replication_data;")
		shell.Must("insert into t(b) values('more');")
		shell.EndsWith(0)
	} else if r := calm(s).run(script(s, "a.db", []string{changes}, true), harness.SQLiteShell(s.T),
		"-batch"); r.Code != 0 || r.Stdout != "" {
		s.T.Fatalf("the application saw %q, %q, exit code %d", r.Stdout, r.Stderr, r.Code)
	}
	recovers(s, words("a write after the damage"), s.Stock("a.db", sums)+"\n")
	if b, err := os.ReadFile(s.Path("victim")); string(b) != "not of the spool" {
		s.T.Fatalf("another file was written to: %q, %v", b, err)
	}
	if b, err := os.ReadFile(s.Path("twin")); !bytes.Equal(b, twin) ||
		os.Remove(s.Path("twin")) != nil && len(b) > 0 {
		s.T.Fatalf("another file was written to: %d bytes, %v", len(b), err)
	}
}

// sealed waits until the spool's state has what the mirror's files are like.
func sealed(s *harness.Site) {
	s.T.Helper()
	harness.Until(s.T, "the mirror's files stay as they are", func() bool {
		states, _ := filepath.Glob(s.Path("spool/*/state"))
		if len(states) != 1 {
			return false
		}
		b, err := os.ReadFile(states[0])
		if err != nil || len(b) < 256 {
			return false
		}
		note := binary.LittleEndian.Uint64(b[248:])
		return note != 0 && note>>63 == 0
	})
}

// TestSpoolEmptied: all files of the spool are deleted, while it is open and closed, and the
// directories stay.
func TestSpoolEmptied(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		s := harness.DirSite(t)
		shell := s.Written("a.db", journal)
		for range 3 {
			shell.Flush()
			remove(s, "spool/*/*")
			for range 3 {
				shell.Must("insert into t(b) values(randomblob(20000));")
			}
		}
		shell.Flush()
		shell.EndsWith(0)
		remove(s, "spool/*/*")
		recovers(s, words("an empty spool"), s.Stock("a.db", sums)+"\n")
	}
}

// TestSpoolReadOnly: the spool cannot be written to any more, as its directories' mode says,
// or its file system was mounted anew while nobody had it open; the application goes on,
// and when that is over all is sent.
func TestSpoolReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount, and become another user")
	}
	t.Run("mounted", func(t *testing.T) {
		s := harness.DirSite(t)
		ownMounts(t)
		harness.Must(t, os.Mkdir(s.Path("spool"), 0o700))
		harness.Must(t, unix.Mount(s.Path("spool"), s.Path("spool"), "", unix.MS_BIND, ""))
		defer unix.Unmount(s.Path("spool"), unix.MNT_DETACH)
		flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
		status := readOnly(s, "wal", "closed",
			func() {
				harness.Must(t, unix.Mount("", s.Path("spool"), "", flags|unix.MS_RDONLY,
					""))
			},
			func() { harness.Must(t, unix.Mount("", s.Path("spool"), "", flags, "")) },
			func() *harness.Process {
				return harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=off"},
					harness.HostProgram(t), harness.Library(t))
			})
		if !strings.Contains(status, "Read-only file system") {
			t.Errorf("verneuil_status() does not say why nothing is replicated: %s", status)
		}
	})
	for _, journal := range []string{"delete", "wal"} {
		for _, when := range []string{"open", "closed"} {
			if when == "closed" && !crash.Chosen() {
				continue // its end waits for what cannot be sent
			}
			t.Run("mode/"+journal+"/"+when, func(t *testing.T) {
				s := harness.DirSite(t)
				program, lib := s.ForNobody()
				modes := func(mode os.FileMode) func() {
					return func() {
						dirs, _ := filepath.Glob(s.Path("spool/*"))
						for _, dir := range append(dirs, s.Path("spool")) {
							harness.Must(t, os.Chmod(dir, mode))
						}
					}
				}
				readOnly(s, journal, when, modes(0o500), modes(0o700), func() *harness.Process {
					h := harness.Start(t, []string{s.Env(), "VERNEUIL_LOG=off"}, program, lib)
					h.Must(".user " + strconv.Itoa(harness.Nobody))
					return h
				})
			})
		}
	}
}

// readOnly writes before, between begin and end, and after. It returns the status in between.
func readOnly(s *harness.Site, journal, when string, begin, end func(),
	host func() *harness.Process) (status string) {
	s.T.Helper()
	h := host()
	h.Must(".open " + s.Path("a.db"))
	h.Want("pragma journal_mode="+journal, journal)
	h.Must("create table t(a integer primary key, b)")
	h.Flush()
	if when == "closed" {
		h.EndsWith(0)
		begin()
		h = host()
		h.Must(".open " + s.Path("a.db"))
	} else {
		begin()
	}
	for range 30 { // several segments
		h.Must("insert into t(b) values(zeroblob(100000))")
	}
	h.Want("select count(*) from t", "30")
	status = h.Ask("select verneuil_status()")
	end()
	h.Must(".close")
	h.EndsWith(0)
	h = host()
	h.Must(".open " + s.Path("a.db"))
	h.Flush()
	h.EndsWith(0)
	if journal == "wal" {
		s.Stock("a.db", "pragma wal_checkpoint(truncate)")
	}
	s.Ctl("verify", "--read")
	s.MustEqual("a.db")
	return status
}
