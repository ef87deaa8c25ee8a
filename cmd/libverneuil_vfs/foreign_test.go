package main_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/spool"
)

// mustEqualNow compares the newest version with the database as it is, under its WAL.
func (s *site) mustEqualNow(db, when string) {
	s.t.Helper()
	dir := s.t.TempDir()
	out, twin := filepath.Join(dir, "restored.db"), filepath.Join(dir, "twin.db")
	s.ctl("restore", "--force", "-s", s.path(db), "-o", out)
	for _, suffix := range []string{"", "-wal"} {
		if b, err := os.ReadFile(s.path(db) + suffix); err == nil {
			must(s.t, os.WriteFile(twin+suffix, b, 0o600))
		}
	}
	run(s.t, nil, sqliteShell(s.t), twin, "pragma wal_checkpoint(truncate)")
	got, err := os.ReadFile(out)
	must(s.t, err)
	want, err := os.ReadFile(twin)
	must(s.t, err)
	if !bytes.Equal(got, want) {
		s.t.Fatalf("%s: the restored file, of %d bytes, is not the database, of %d", when, len(got), len(want))
	}
}

// command runs a program that must succeed.
func (s *site) command(argv ...string) {
	s.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// half has a program without the extension spill half a transaction into a database, and then die.
func (s *site) half(db, journal string) {
	s.t.Helper()
	stock := start(s.t, nil, sqliteShell(s.t), "-batch", s.path(db))
	stock.ask("pragma journal_mode=" + journal + ";")
	stock.must("pragma cache_size=2; pragma synchronous=off; begin; update t set b = zeroblob(3000) where a > 3;")
	stock.kill()
}

const rows = "with recursive n(i) as (select 1 union all select i+1 from n where i<60) "

// foreign is what others may do to a database, and "was.db" is it as it was before the last commit.
var foreign = []struct {
	name string
	do   func(s *site, db string)
}{
	{"a copy, edited elsewhere and put back", func(s *site, db string) {
		s.stock("was.db", "update t set b = 'edited' where a = 5")
		s.command("cp", s.path("was.db"), s.path(db))
	}},
	{"the same, with the time that the database had", func(s *site, db string) {
		s.stock("was.db", "update t set b = 'edited' where a = 5")
		s.command("touch", "-r", s.path(db), s.path("was.db"))
		s.command("cp", "-p", s.path("was.db"), s.path(db))
	}},
	{"an older copy, with its time", func(s *site, db string) { s.command("cp", "-p", s.path("was.db"), s.path(db)) }},
	{"bytes in the middle, and the time set back", func(s *site, db string) {
		info, err := os.Stat(s.path(db))
		must(s.t, err)
		f, err := os.OpenFile(s.path(db), os.O_RDWR, 0)
		must(s.t, err)
		_, err = f.WriteAt([]byte("foreign"), info.Size()-100)
		must(s.t, err)
		must(s.t, f.Close())
		must(s.t, os.Chtimes(s.path(db), info.ModTime(), info.ModTime()))
	}},
	{"truncated and written again", func(s *site, db string) {
		b, err := os.ReadFile(s.path(db))
		must(s.t, err)
		b[len(b)-100]++
		must(s.t, os.WriteFile(s.path(db), b, 0o600))
	}},
	{"through a mapping", func(s *site, db string) {
		f, err := os.OpenFile(s.path(db), os.O_RDWR, 0)
		must(s.t, err)
		defer f.Close()
		info, err := f.Stat()
		must(s.t, err)
		b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(s.t, err)
		b[len(b)-100]++
		must(s.t, unix.Munmap(b))
	}},
	{"commits", func(s *site, db string) { s.stock(db, "update t set b = 'x' where a % 2") }},
	{"journal_mode memory", func(s *site, db string) { s.stock(db, "pragma journal_mode=memory; update t set b = 'x' where a % 2") }},
	{"journal_mode off", func(s *site, db string) { s.stock(db, "pragma journal_mode=off; update t set b = 'x' where a % 2") }},
	{"spilled and rolled back", func(s *site, db string) {
		s.stock(db, "pragma cache_size=2; begin; update t set b = zeroblob(3000); rollback")
	}},
	{"killed, and rolled back by another", func(s *site, db string) {
		s.half(db, "persist")
		s.stock(db, "select count(*) from t")
	}},
	{"killed under journal_mode off", func(s *site, db string) { s.half(db, "off") }},
	{"vacuum", func(s *site, db string) { s.stock(db, "delete from t where a > 50; vacuum") }},
	{".restore", func(s *site, db string) { s.stock(db, ".restore '"+s.path("was.db")+"'") }},
	{"chmod", func(s *site, db string) { must(s.t, os.Chmod(s.path(db), 0o640)) }},
}

// TestForeign: whatever others do to the database while it is closed here, or open, a flush that says
// yes means that the target has what the file has; without a transaction of ours after it, and with one.
func TestForeign(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		for _, f := range foreign {
			t.Run(journal+"/"+f.name, func(t *testing.T) {
				s := dirSite(t)
				shell := s.shell("a.db")
				shell.ask("pragma journal_mode=" + journal + ";")
				shell.must("create table t(a integer primary key, b); " + rows + "insert into t select i, zeroblob(3000) from n;")
				shell.flush()
				shell.endsWith(0)
				s.command("cp", "-p", s.path("a.db"), s.path("was.db"))
				for _, commit := range []bool{false, true} {
					shell = s.shell("a.db")
					shell.must("update t set b = 'ours' where a = 7;")
					shell.flush()
					shell.endsWith(0)
					f.do(s, "a.db")
					shell = s.shell("a.db")
					if commit {
						shell.must("insert into t(b) values('next');")
					}
					shell.flush()
					s.mustEqualNow("a.db", map[bool]string{false: "flushed", true: "after a commit"}[commit])
					shell.endsWith(0)
				}
			})
		}
	}
}

// TestForeignWhileOpen: programs that heed no lock change the file while we have it open, and idle.
func TestForeignWhileOpen(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			shell := s.shell("a.db")
			shell.ask("pragma journal_mode=" + journal + ";")
			shell.must("create table t(a integer primary key, b); " + rows + "insert into t select i, zeroblob(3000) from n;")
			shell.ask("pragma wal_checkpoint(truncate);")
			shell.flush()
			for _, f := range foreign[3:6] {
				f.do(s, "a.db")
				shell.flush()
				s.mustEqualNow("a.db", f.name)
				f.do(s, "a.db")
				shell.must("update t set b = 'ours' where a = 7;")
				shell.flush()
				s.mustEqualNow("a.db", f.name+", and a commit")
				shell.ask("pragma wal_checkpoint(truncate);")
			}
			shell.endsWith(0)
		})
	}
}

// TestStampOfRecorder: the recorder's stamp of the file is the one that Go makes of it, after
// whatever leaves one.
func TestStampOfRecorder(t *testing.T) {
	s := dirSite(t)
	shell := s.shell("a.db")
	shell.must("create table t(a integer primary key, b);")
	for _, statement := range []string{
		"insert into t(b) values(zeroblob(9000));",
		"pragma cache_size=2; begin; update t set b = zeroblob(90000); rollback;",
		"pragma journal_mode=wal; insert into t(b) values(1); pragma wal_checkpoint;",
		"insert into t(b) values(2); pragma wal_checkpoint(truncate);",
		"insert into t(b) values(3); pragma journal_mode=delete;",
		"pragma mmap_size=1000000; insert into t(b) values(zeroblob(90000));",
		"pragma locking_mode=exclusive; insert into t(b) values(4);",
		"vacuum;",
	} {
		shell.ask(statement)
		states, err := filepath.Glob(s.path("spool/*/state"))
		must(t, err)
		b, err := os.ReadFile(states[0])
		must(t, err)
		stamp, err := spool.StampOf(s.path("a.db"))
		must(t, err)
		if left := binary.NativeEndian.Uint64(b[256:]); left != stamp.Sum() {
			t.Errorf("%s: the state page has stamp %016x, the file %016x (%v)", statement, left, stamp.Sum(), stamp)
		}
		if cause := binary.NativeEndian.Uint32(b[108:]); spool.Cause(cause) == spool.CauseForeign {
			t.Errorf("%s: taken for foreign", statement)
		}
	}
	shell.endsWith(0)
}

// TestWALPutBack: an older copy of the database and its WAL is put back in place, after a crash. Its
// salts are those of the newer one.
func TestWALPutBack(t *testing.T) {
	for _, c := range []struct {
		name                  string
		more                  string // what the copy has not
		reader, commit, noShm bool
	}{
		{name: "flush", more: "update t set b = 'new';"},
		{name: "commit", more: "update t set b = 'new';", commit: true},
		{name: "stock reads, flush", more: "update t set b = 'new';", reader: true},
		{name: "stock reads, commit", more: "update t set b = 'new';", reader: true, commit: true},
		{name: "no wal-index, flush", more: "update t set b = 'new';", noShm: true},
		{name: "one frame, stock reads, as many are added", more: "update t set b = 'new' where a = 1;", reader: true, commit: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := dirSite(t)
			open := func() *session {
				shell := s.shell("a.db")
				shell.ask("pragma wal_autocheckpoint=0;")
				return shell
			}
			shell := open()
			shell.ask("pragma journal_mode=wal;")
			shell.must("create table t(a integer primary key, b); " + rows + "insert into t select i, zeroblob(300) from n;")
			was := s.image("a.db", "a.db-wal")
			shell.must(c.more)
			shell.flush()
			shell.kill()
			for name, b := range was {
				must(t, os.WriteFile(name, b, 0o600))
			}
			if c.noShm {
				must(t, os.Remove(s.path("a.db-shm")))
				s.ctl("flush", s.path("a.db"))
				s.mustEqualNow("a.db", "flushed by the tool")
			}
			if c.reader {
				stock := start(t, nil, sqliteShell(t), "-batch", s.path("a.db"))
				defer stock.kill()
				stock.want("select count(*) from t where b = 'new';", "0")
			}
			shell = open()
			if c.commit {
				shell.must("update t set b = 'other' where a = 2;")
			}
			shell.flush()
			s.mustEqualNow("a.db", "flushed")
			shell.must("insert into t(b) values('next');")
			shell.flush()
			s.mustEqualNow("a.db", "after the next commit")
			shell.endsWith(0)
		})
	}
}

// TestForeignHolder: half a transaction of a program that has the database locked is not copied; a
// flush fails, and says who it is, as does the status. When it has ended, all is well.
func TestForeignHolder(t *testing.T) {
	s := dirSite(t)
	shell := s.shell("a.db")
	shell.must("create table t(a integer primary key, b); " + rows + "insert into t select i, zeroblob(3000) from n;")
	shell.flush()
	stock := start(t, nil, sqliteShell(t), "-batch", s.path("a.db"))
	stock.must("pragma cache_size=2; begin; update t set b = 'half' where a % 2;")
	if got := shell.ask("pragma verneuil_flush_replication_data;"); got != "0" {
		t.Errorf("flush beside half a transaction: %q", got)
	}
	if status := shell.ask("select verneuil_status();"); !strings.Contains(status, "EXCLUSIVE") {
		t.Errorf("status: %s", status)
	}
	stock.must("rollback;")
	shell.flush()
	s.mustEqualNow("a.db", "after the rollback")
	stock.endsWith(0)
	shell.endsWith(0)
}

// TestTimesOfSeconds: on a file system whose times have one second, a program without the extension
// writes in the second in which we have closed the database.
func TestTimesOfSeconds(t *testing.T) {
	ownMounts(t)
	s := dirSite(t)
	must(t, os.Mkdir(s.path("m"), 0o755))
	if err := exec.Command("mkfs.ext4", "-q", "-I", "128", s.path("image"), "16M").Run(); err != nil {
		t.Skipf("mkfs.ext4: %v", err)
	}
	if out, err := exec.Command("mount", "-o", "loop", s.path("image"), s.path("m")).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	defer func() { s.command("umount", s.path("m")) }()
	for _, journal := range []string{"wal", "delete"} {
		db := filepath.Join("m", journal+".db")
		changed := func() int64 {
			stamp, err := spool.StampOf(s.path(db))
			must(t, err)
			return stamp.Ctime
		}
		shell := s.shell(db)
		shell.ask("pragma journal_mode=" + journal + ";")
		shell.must("create table t(a integer primary key, b); insert into t(b) values('old');")
		shell.flush()
		for try := 0; ; try++ {
			until(t, "a second begins", func() bool { return time.Now().Nanosecond() < 1e8 })
			shell.must("update t set b = 'ours';")
			shell.must(".open :memory:")
			was := changed()
			if journal == "wal" {
				s.stock(db, "update t set b = 'them';")
			} else { // the change counter would tell
				f, err := os.OpenFile(s.path(db), os.O_RDWR, 0)
				must(t, err)
				_, err = f.WriteAt([]byte("them"), fileEnd(t, f)-4)
				must(t, err)
				must(t, f.Close())
			}
			missed := changed() != was
			shell.must(".open " + s.path(db))
			shell.flush()
			s.mustEqualNow(db, "flushed")
			if !missed {
				break
			} else if try == 20 {
				t.Fatal("the machine is too slow to write twice in a second")
			}
		}
		shell.endsWith(0)
	}
}

func fileEnd(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	must(t, err)
	return info.Size()
}
