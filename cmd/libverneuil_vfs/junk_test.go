package main_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// words say in which state of things something failed.
type words string

func (w words) String() string { return string(w) }

const sums = "select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;"

// damages are what may become of a file of the spool. Those that make a file shorter in
// place are not for one that is mapped: SQLite's own -shm does not stand that either.
var damages = map[string]func(s *site, file string) error{
	"deleted": func(_ *site, file string) error { return os.RemoveAll(file) },
	"emptied": func(_ *site, file string) error { return os.Truncate(file, 0) },
	"cut": func(_ *site, file string) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return os.Truncate(file, info.Size()/2)
	},
	"junk": func(_ *site, file string) error { // of the same length, in place
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write(random(max(int(info.Size()), 100)))
		return err
	},
	"zeros": func(_ *site, file string) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		return replaced(file, make([]byte, info.Size()))
	},
	"replaced by junk": func(_ *site, file string) error { return replaced(file, random(5000)) },
	"a directory": func(_ *site, file string) error {
		return instead(file, func() error { return os.MkdirAll(file+"/x/y", 0o700) })
	},
	"a FIFO": func(_ *site, file string) error {
		return instead(file, func() error { return unix.Mkfifo(file, 0o600) })
	},
	"a link": func(s *site, file string) error {
		return instead(file, func() error { return os.Symlink(s.path("victim"), file) })
	},
	"a hard link": func(s *site, file string) error { // of a file of the same contents
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		if err := os.Rename(file, s.path("twin")); err != nil {
			return err
		}
		return os.Link(s.path("twin"), file)
	},
	"another user's":       func(_ *site, file string) error { return os.Chown(file, nobody, nobody) },
	"another database's":   func(s *site, file string) error { return s.ofAnother(file) },
	"not to be written to": func(_ *site, file string) error { return os.Chmod(file, 0o400) },
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
func (s *site) ofAnother(file string) error {
	others, err := filepath.Glob(s.path("others/*/" + filepath.Base(file)))
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
var spoolFiles = []string{"state", "attach", "log.*", "free.*", "wake", "lock", "source.json", "boot", "mirror", "dirty", "cut",
	"tree", "tree/*", "flush.json", "targets.json", "put.*", "patrol.json", "copied.json", "aside"}

// TestSpoolDamaged: whatever becomes of a file of the spool while nobody has it open, or
// while somebody has, the application writes as if nothing were; and the next process that
// opens the database sends what that is, and nothing else.
func TestSpoolDamaged(t *testing.T) {
	journals, some := []string{"delete"}, 61
	if os.Getenv("VERNEUIL_FAULT_STRIDE") != "" {
		journals, some = []string{"delete", "wal", "wal+exclusive"}, 1
	}
	skip := rand.IntN(some)
	for _, journal := range journals {
		for _, when := range []string{"closed", "killed", "open"} {
			s := dirSite(t)
			begin := func() {
				s.anew()
				s.write("victim", []byte("not of the spool"))
				s.calm().run(s.script("b.db", workload(journal), true), sqliteShell(t), "-batch")
				must(t, os.Rename(s.path("spool"), s.path("others")))
				s.calm().run(s.script("a.db", workload(journal), true), sqliteShell(t), "-batch")
			}
			begin()
			for _, name := range spoolFiles {
				for how := range damages {
					if skip++; skip%some > 0 && !(name == "mirror" && how == "junk") {
						continue
					}
					if (how == "another user's" || how == "not to be written to") && os.Geteuid() != 0 ||
						when == "open" && slices.Contains([]string{"emptied", "cut"}, how) && slices.Contains([]string{"state", "log.*", "free.*"}, name) ||
						when == "open" && how == "a hard link" { // who has a file open, writes to it
						continue
					}
					if !t.Run(journal+"/"+when+"/"+name+"/"+how, func(t *testing.T) {
						s.t = t
						s.damaged(journal, when, name, how)
					}) {
						s.t = t
						begin()
					}
					s.t = t
				}
			}
		}
	}
}

// damaged damages the files of the spool that match name, and sees what comes of it.
func (s *site) damaged(journal, when, name, how string) {
	s.t.Helper()
	shell := s.shell("a.db", "VERNEUIL_LOG=off")
	if strings.HasSuffix(journal, "+exclusive") {
		shell.ask("pragma locking_mode=exclusive;")
	}
	shell.must("update t set b = b || '?' where a = 2;")
	shell.flush()
	s.sealed()
	switch when {
	case "closed":
		shell.endsWith(0)
	case "killed":
		shell.kill()
	}
	dirs, err := filepath.Glob(s.path("spool/*"))
	if err != nil || len(dirs) != 1 {
		s.t.Fatalf("spools: %q, %v", dirs, err)
	}
	files, err := filepath.Glob(filepath.Join(dirs[0], name))
	if len(files) == 0 && !strings.Contains(name, "*") { // there is none now: put something there
		files = []string{filepath.Join(dirs[0], name)}
		must(s.t, os.WriteFile(files[0], []byte("nothing"), 0o600))
	}
	for _, file := range files {
		if err := damages[how](s, file); err != nil {
			if info, statErr := os.Lstat(file); statErr == nil && info.Mode().IsRegular() {
				s.t.Fatal(err)
			} // else it is a FIFO or a directory, which cannot be had that way
		}
	}
	twin, _ := os.ReadFile(s.path("twin")) // if there is one
	const changes = "update t set b = b || '!' where a = 2; delete from t where a = (select max(a) from t); insert into t(b) values(zeroblob(30000));"
	if when == "open" {
		shell.must(changes)
		shell.ask("pragma verneuil_flush_replication_data;")
		shell.must("insert into t(b) values('more');")
		shell.endsWith(0)
	} else if r := s.calm().run(s.script("a.db", []string{changes}, true), sqliteShell(s.t), "-batch"); r.code != 0 || r.stdout != "" {
		s.t.Fatalf("the application saw %q, %q, exit code %d", r.stdout, r.stderr, r.code)
	}
	s.recovers(words("a write after the damage"), s.stock("a.db", sums)+"\n")
	if b, err := os.ReadFile(s.path("victim")); string(b) != "not of the spool" {
		s.t.Fatalf("another file was written to: %q, %v", b, err)
	}
	if b, err := os.ReadFile(s.path("twin")); !bytes.Equal(b, twin) || os.Remove(s.path("twin")) != nil && len(b) > 0 {
		s.t.Fatalf("another file was written to: %d bytes, %v", len(b), err)
	}
}

// sealed waits until the spool's state has what the mirror's files are like.
func (s *site) sealed() {
	s.t.Helper()
	until(s.t, "the mirror's files stay as they are", func() bool {
		states, _ := filepath.Glob(s.path("spool/*/state"))
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

// kill kills the program.
func (s *session) kill() {
	s.t.Helper()
	must(s.t, s.command.Process.Signal(syscall.SIGKILL))
	s.wait()
}

// TestSpoolEmptied: all files of the spool are deleted, while it is open and closed, and the
// directories stay.
func TestSpoolEmptied(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		s := dirSite(t)
		shell := s.written("a.db", journal)
		for range 3 {
			shell.flush()
			s.remove("spool/*/*")
			for range 3 {
				shell.must("insert into t(b) values(randomblob(20000));")
			}
		}
		shell.flush()
		shell.endsWith(0)
		s.remove("spool/*/*")
		s.recovers(words("an empty spool"), s.stock("a.db", sums)+"\n")
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
		s := dirSite(t)
		ownMounts(t)
		must(t, os.Mkdir(s.path("spool"), 0o700))
		must(t, unix.Mount(s.path("spool"), s.path("spool"), "", unix.MS_BIND, ""))
		defer unix.Unmount(s.path("spool"), unix.MNT_DETACH)
		flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
		status := s.readOnly("wal", "closed",
			func() { must(t, unix.Mount("", s.path("spool"), "", flags|unix.MS_RDONLY, "")) },
			func() { must(t, unix.Mount("", s.path("spool"), "", flags, "")) },
			func() *session {
				return start(t, []string{s.env(), "VERNEUIL_LOG=off"}, hostProgram(t), library(t))
			})
		if !strings.Contains(status, "Read-only file system") {
			t.Errorf("verneuil_status() does not say why nothing is replicated: %s", status)
		}
	})
	for _, journal := range []string{"delete", "wal"} {
		for _, when := range []string{"open", "closed"} {
			if when == "closed" && os.Getenv("VERNEUIL_FAULT_STRIDE") == "" {
				continue // its end waits for what cannot be sent
			}
			t.Run("mode/"+journal+"/"+when, func(t *testing.T) {
				s := dirSite(t)
				program, lib := s.forNobody()
				modes := func(mode os.FileMode) func() {
					return func() {
						dirs, _ := filepath.Glob(s.path("spool/*"))
						for _, dir := range append(dirs, s.path("spool")) {
							must(t, os.Chmod(dir, mode))
						}
					}
				}
				s.readOnly(journal, when, modes(0o500), modes(0o700), func() *session {
					h := start(t, []string{s.env(), "VERNEUIL_LOG=off"}, program, lib)
					h.must(".user " + strconv.Itoa(nobody))
					return h
				})
			})
		}
	}
}

// readOnly writes before, between begin and end, and after. It returns the status in between.
func (s *site) readOnly(journal, when string, begin, end func(), host func() *session) (status string) {
	s.t.Helper()
	h := host()
	h.must(".open " + s.path("a.db"))
	h.want("pragma journal_mode="+journal, journal)
	h.must("create table t(a integer primary key, b)")
	h.flush()
	if when == "closed" {
		h.endsWith(0)
		begin()
		h = host()
		h.must(".open " + s.path("a.db"))
	} else {
		begin()
	}
	for range 30 { // several segments
		h.must("insert into t(b) values(zeroblob(100000))")
	}
	h.want("select count(*) from t", "30")
	status = h.ask("select verneuil_status()")
	end()
	h.must(".close")
	h.endsWith(0)
	h = host()
	h.must(".open " + s.path("a.db"))
	h.flush()
	h.endsWith(0)
	if journal == "wal" {
		s.stock("a.db", "pragma wal_checkpoint(truncate)")
	}
	s.ctl("verify", "--read")
	s.mustEqual("a.db")
	return status
}
