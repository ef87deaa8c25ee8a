package faults_test

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
	"verneuil/test/e2e/harness"
)

// mustEqualNow compares the newest version with the database as it is, under its WAL.
func mustEqualNow(s *harness.Site, db, when string) {
	s.T.Helper()
	dir := s.T.TempDir()
	out, twin := filepath.Join(dir, "restored.db"), filepath.Join(dir, "twin.db")
	s.Ctl("restore", "--force", "-s", s.Path(db), "-o", out)
	for _, suffix := range []string{"", "-wal"} {
		if b, err := os.ReadFile(s.Path(db) + suffix); err == nil {
			harness.Must(s.T, os.WriteFile(twin+suffix, b, 0o600))
		}
	}
	harness.Run(s.T, nil, harness.SQLiteShell(s.T), twin, "pragma wal_checkpoint(truncate)")
	got, err := os.ReadFile(out)
	harness.Must(s.T, err)
	want, err := os.ReadFile(twin)
	harness.Must(s.T, err)
	if !bytes.Equal(got, want) {
		s.T.Fatalf("%s: the restored file, of %d bytes, is not the database, of %d", when, len(got),
			len(want))
	}
}

// command runs a program that must succeed.
func command(s *harness.Site, argv ...string) {
	s.T.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		s.T.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// half has a program without the extension spill half a transaction into a database, and then die.
func half(s *harness.Site, db, journal string) {
	s.T.Helper()
	stock := harness.Start(s.T, nil, harness.SQLiteShell(s.T), "-batch", s.Path(db))
	stock.Ask("pragma journal_mode=" + journal + ";")
	stock.Must("pragma cache_size=2; pragma synchronous=off; begin; " +
		"update t set b = zeroblob(3000) where a > 3;")
	stock.Kill()
}

const rows = "with recursive n(i) as (select 1 union all select i+1 from n where i<60) "

// foreign is what others may do to a database, and "was.db" is it as it was before the last commit.
var foreign = []struct {
	name string
	do   func(s *harness.Site, db string)
}{
	{"a copy, edited elsewhere and put back", func(s *harness.Site, db string) {
		s.Stock("was.db", "update t set b = 'edited' where a = 5")
		command(s, "cp", s.Path("was.db"), s.Path(db))
	}},
	{"the same, with the time that the database had", func(s *harness.Site, db string) {
		s.Stock("was.db", "update t set b = 'edited' where a = 5")
		command(s, "touch", "-r", s.Path(db), s.Path("was.db"))
		command(s, "cp", "-p", s.Path("was.db"), s.Path(db))
	}},
	{"an older copy, with its time", func(s *harness.Site,
		db string) {
		command(s, "cp", "-p", s.Path("was.db"), s.Path(db))
	}},
	{"bytes in the middle, and the time set back", func(s *harness.Site, db string) {
		info, err := os.Stat(s.Path(db))
		harness.Must(s.T, err)
		f, err := os.OpenFile(s.Path(db), os.O_RDWR, 0)
		harness.Must(s.T, err)
		_, err = f.WriteAt([]byte("foreign"), info.Size()-100)
		harness.Must(s.T, err)
		harness.Must(s.T, f.Close())
		harness.Must(s.T, os.Chtimes(s.Path(db), info.ModTime(), info.ModTime()))
	}},
	{"truncated and written again", func(s *harness.Site, db string) {
		b, err := os.ReadFile(s.Path(db))
		harness.Must(s.T, err)
		b[len(b)-100]++
		harness.Must(s.T, os.WriteFile(s.Path(db), b, 0o600))
	}},
	{"through a mapping", func(s *harness.Site, db string) {
		f, err := os.OpenFile(s.Path(db), os.O_RDWR, 0)
		harness.Must(s.T, err)
		defer f.Close()
		info, err := f.Stat()
		harness.Must(s.T, err)
		b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED)
		harness.Must(s.T, err)
		b[len(b)-100]++
		harness.Must(s.T, unix.Munmap(b))
	}},
	{"commits", func(s *harness.Site, db string) {
		s.Stock(db,
			"update t set b = 'x' where a % 2")
	}},
	{"journal_mode memory", func(s *harness.Site, db string) {
		s.Stock(db, "pragma journal_mode=memory; update t set b = 'x' where a % 2")
	}},
	{"journal_mode off", func(s *harness.Site, db string) {
		s.Stock(db, "pragma journal_mode=off; update t set b = 'x' where a % 2")
	}},
	{"spilled and rolled back", func(s *harness.Site, db string) {
		s.Stock(db, "pragma cache_size=2; begin; update t set b = zeroblob(3000); rollback")
	}},
	{"killed, and rolled back by another", func(s *harness.Site, db string) {
		half(s, db, "persist")
		s.Stock(db, "select count(*) from t")
	}},
	{"killed under journal_mode off", func(s *harness.Site, db string) { half(s, db, "off") }},
	{"vacuum", func(s *harness.Site, db string) {
		s.Stock(db,
			"delete from t where a > 50; vacuum")
	}},
	{".restore", func(s *harness.Site, db string) {
		s.Stock(db,
			".restore '"+s.Path("was.db")+"'")
	}},
	{"chmod", func(s *harness.Site, db string) { harness.Must(s.T, os.Chmod(s.Path(db), 0o640)) }},
}

// TestForeign: whatever others do to the database while it is closed here, or open, a flush that
// says yes means that the target has what the file has; without a transaction of ours after it, and
// with one.
func TestForeign(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		for _, f := range foreign {
			t.Run(journal+"/"+f.name, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Shell("a.db")
				shell.Ask("pragma journal_mode=" + journal + ";")
				shell.Must("create table t(a integer primary key, b); " + rows +
					"insert into t select i, zeroblob(3000) from n;")
				shell.Flush()
				shell.EndsWith(0)
				command(s, "cp", "-p", s.Path("a.db"), s.Path("was.db"))
				for _, commit := range []bool{false, true} {
					shell = s.Shell("a.db")
					shell.Must("update t set b = 'ours' where a = 7;")
					shell.Flush()
					shell.EndsWith(0)
					f.do(s, "a.db")
					shell = s.Shell("a.db")
					if commit {
						shell.Must("insert into t(b) values('next');")
					}
					shell.Flush()
					mustEqualNow(s, "a.db", map[bool]string{false: "flushed",
						true: "after a commit"}[commit])
					shell.EndsWith(0)
				}
			})
		}
	}
}

// TestForeignWhileOpen: programs that heed no lock change the file while we have it open, and idle.
func TestForeignWhileOpen(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Shell("a.db")
			shell.Ask("pragma journal_mode=" + journal + ";")
			shell.Must("create table t(a integer primary key, b); " + rows +
				"insert into t select i, zeroblob(3000) from n;")
			shell.Ask("pragma wal_checkpoint(truncate);")
			shell.Flush()
			for _, f := range foreign[3:6] {
				f.do(s, "a.db")
				shell.Flush()
				mustEqualNow(s, "a.db", f.name)
				f.do(s, "a.db")
				shell.Must("update t set b = 'ours' where a = 7;")
				shell.Flush()
				mustEqualNow(s, "a.db", f.name+", and a commit")
				shell.Ask("pragma wal_checkpoint(truncate);")
			}
			shell.EndsWith(0)
		})
	}
}

// TestStampOfRecorder: the recorder's stamp of the file is the one that Go makes of it, after
// whatever leaves one.
func TestStampOfRecorder(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Shell("a.db")
	shell.Must("create table t(a integer primary key, b);")
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
		shell.Ask(statement)
		states, err := filepath.Glob(s.Path("spool/*/state"))
		harness.Must(t, err)
		b, err := os.ReadFile(states[0])
		harness.Must(t, err)
		stamp, err := spool.StampOf(s.Path("a.db"))
		harness.Must(t, err)
		if left := binary.NativeEndian.Uint64(b[256:]); left != stamp.Sum() {
			t.Errorf("%s: the state page has stamp %016x, the file %016x (%v)", statement, left,
				stamp.Sum(), stamp)
		}
		if cause := binary.NativeEndian.Uint32(b[108:]); spool.Cause(cause) == spool.CauseForeign {
			t.Errorf("%s: taken for foreign", statement)
		}
	}
	shell.EndsWith(0)
}

// TestWALPutBack: an older copy of the database and its WAL is put back in place, after a crash.
// Its salts are those of the newer one.
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
		{name: "one frame, stock reads, as many are added",
			more: "update t set b = 'new' where a = 1;", reader: true, commit: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := harness.DirSite(t)
			open := func() *harness.Process {
				shell := s.Shell("a.db")
				shell.Ask("pragma wal_autocheckpoint=0;")
				return shell
			}
			shell := open()
			shell.Ask("pragma journal_mode=wal;")
			shell.Must("create table t(a integer primary key, b); " + rows +
				"insert into t select i, zeroblob(300) from n;")
			was := imageOf(s, "a.db", "a.db-wal")
			shell.Must(c.more)
			shell.Flush()
			shell.Kill()
			for name, b := range was {
				harness.Must(t, os.WriteFile(name, b, 0o600))
			}
			if c.noShm {
				harness.Must(t, os.Remove(s.Path("a.db-shm")))
				s.Ctl("flush", s.Path("a.db"))
				mustEqualNow(s, "a.db", "flushed by the tool")
			}
			if c.reader {
				stock := harness.Start(t, nil, harness.SQLiteShell(t), "-batch", s.Path("a.db"))
				defer stock.Kill()
				stock.Want("select count(*) from t where b = 'new';", "0")
			}
			shell = open()
			if c.commit {
				shell.Must("update t set b = 'other' where a = 2;")
			}
			shell.Flush()
			mustEqualNow(s, "a.db", "flushed")
			shell.Must("insert into t(b) values('next');")
			shell.Flush()
			mustEqualNow(s, "a.db", "after the next commit")
			shell.EndsWith(0)
		})
	}
}

// TestForeignHolder: half a transaction of a program that has the database locked is not copied; a
// flush fails, and says who it is, as does the status. When it has ended, all is well.
func TestForeignHolder(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Shell("a.db")
	shell.Must("create table t(a integer primary key, b); " + rows +
		"insert into t select i, zeroblob(3000) from n;")
	shell.Flush()
	stock := harness.Start(t, nil, harness.SQLiteShell(t), "-batch", s.Path("a.db"))
	stock.Must("pragma cache_size=2; begin; update t set b = 'half' where a % 2;")
	if got := shell.Ask("pragma verneuil_flush_replication_data;"); got != "0" {
		t.Errorf("flush beside half a transaction: %q", got)
	}
	if status := shell.Ask("select verneuil_status();"); !strings.Contains(status, "EXCLUSIVE") {
		t.Errorf("status: %s", status)
	}
	stock.Must("rollback;")
	shell.Flush()
	mustEqualNow(s, "a.db", "after the rollback")
	stock.EndsWith(0)
	shell.EndsWith(0)
}

// TestTimesOfSeconds: on a file system whose times have one second, a program without the extension
// writes in the second in which we have closed the database.
func TestTimesOfSeconds(t *testing.T) {
	ownMounts(t)
	s := harness.DirSite(t)
	harness.Must(t, os.Mkdir(s.Path("m"), 0o755))
	if err := exec.Command("mkfs.ext4", "-q", "-I", "128", s.Path("image"),
		"16M").Run(); err != nil {
		t.Skipf("mkfs.ext4: %v", err)
	}
	if out, err := exec.Command("mount", "-o", "loop", s.Path("image"),
		s.Path("m")).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	defer func() { command(s, "umount", s.Path("m")) }()
	for _, journal := range []string{"wal", "delete"} {
		db := filepath.Join("m", journal+".db")
		changed := func() int64 {
			stamp, err := spool.StampOf(s.Path(db))
			harness.Must(t, err)
			return stamp.Ctime
		}
		shell := s.Shell(db)
		shell.Ask("pragma journal_mode=" + journal + ";")
		shell.Must("create table t(a integer primary key, b); insert into t(b) values('old');")
		shell.Flush()
		for try := 0; ; try++ {
			harness.Until(t, "a second begins",
				func() bool { return time.Now().Nanosecond() < 1e8 })
			shell.Must("update t set b = 'ours';")
			shell.Must(".open :memory:")
			was := changed()
			if journal == "wal" {
				s.Stock(db, "update t set b = 'them';")
			} else { // the change counter would tell
				f, err := os.OpenFile(s.Path(db), os.O_RDWR, 0)
				harness.Must(t, err)
				_, err = f.WriteAt([]byte("them"), fileEnd(t, f)-4)
				harness.Must(t, err)
				harness.Must(t, f.Close())
			}
			missed := changed() != was
			shell.Must(".open " + s.Path(db))
			shell.Flush()
			mustEqualNow(s, db, "flushed")
			if !missed {
				break
			} else if try == 20 {
				t.Fatal("the machine is too slow to write twice in a second")
			}
		}
		shell.EndsWith(0)
	}
}

func fileEnd(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	harness.Must(t, err)
	return info.Size()
}
