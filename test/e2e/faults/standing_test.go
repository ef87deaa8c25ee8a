package faults_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// lying is a database that nobody has open, and whose recorders are gone: "a.db", of which all is
// sent. Beside it lie "was.db", as it was before its last commits, and "other.db".
type lying struct {
	name string
	was  string // how it was left: in which journal mode, and whether by a kill
	do   func(s *harness.Site)
	// calm says that the database is not another one after that, and that status should see it.
	calm bool
}

func copyFile(s *harness.Site, from, to string) {
	s.T.Helper()
	b, err := os.ReadFile(s.Path(from))
	harness.Must(s.T, err)
	harness.Must(s.T, os.WriteFile(s.Path(to), b, 0o600))
}

func removes(names ...string) func(s *harness.Site) {
	return func(s *harness.Site) {
		for _, name := range names {
			harness.Must(s.T, os.Remove(s.Path(name)))
		}
	}
}

func copies(fromTo ...string) func(s *harness.Site) {
	return func(s *harness.Site) {
		for i := 0; i < len(fromTo); i += 2 {
			copyFile(s, fromTo[i], fromTo[i+1])
		}
	}
}

// cut leaves a part of the WAL.
func cut(keep func(size int64) int64) func(s *harness.Site) {
	return func(s *harness.Site) {
		info, err := os.Stat(s.Path("a.db-wal"))
		harness.Must(s.T, err)
		harness.Must(s.T, os.Truncate(s.Path("a.db-wal"), keep(info.Size())))
	}
}

// junkInFrame overwrites some bytes of the WAL's frame n, from 0; those behind it stay as they are.
func junkInFrame(n, at int64) func(s *harness.Site) {
	return func(s *harness.Site) {
		const frame = 24 + 4096
		f, err := os.OpenFile(s.Path("a.db-wal"), os.O_RDWR, 0)
		harness.Must(s.T, err)
		info, err := f.Stat()
		harness.Must(s.T, err)
		if info.Size() < 32+(n+3)*frame {
			s.T.Fatalf("the WAL has %d bytes: no frames are behind the damage", info.Size())
		}
		_, err = f.WriteAt([]byte("junk junk junk"), 32+n*frame+at)
		harness.Must(s.T, errors.Join(err, f.Close()))
	}
}

func stock(sql ...string) func(s *harness.Site) {
	return func(s *harness.Site) { s.Stock("a.db", sql...) }
}

// stockKilled has stock SQLite do something, and then die.
func stockKilled(sql ...string) func(s *harness.Site) {
	return func(s *harness.Site) {
		shell := harness.Start(s.T, nil, harness.SQLiteShell(s.T), "-batch", s.Path("a.db"))
		for _, line := range sql {
			shell.Ask(line)
		}
		shell.Kill()
	}
}

const edit = "update t set b = 'theirs' where a % 3 = 0;"

// What lies there, and what becomes of it.
var standings = []lying{
	{name: "nothing", was: "killed", do: func(*harness.Site) {}, calm: true},
	{name: "nothing", was: "wal", do: func(*harness.Site) {}, calm: true},
	{name: "nothing", was: "delete", do: func(*harness.Site) {}, calm: true},
	{name: "the wal-index removed", was: "killed", do: removes("a.db-shm"), calm: true},
	{name: "the WAL removed", was: "killed", do: removes("a.db-wal")},
	{name: "WAL and wal-index removed", was: "killed", do: removes("a.db-wal", "a.db-shm")},
	{name: "the WAL emptied", was: "killed", do: cut(func(int64) int64 { return 0 })},
	{name: "the WAL cut after its header", was: "killed",
		do: cut(func(int64) int64 { return 32 })},
	{name: "the WAL cut in the middle", was: "killed",
		do: cut(func(n int64) int64 { return n / 2 })},
	{name: "the last commit cut off", was: "killed",
		do: cut(func(n int64) int64 { return n - 10 })},
	{name: "junk in the WAL's first frame", was: "killed", do: junkInFrame(0, 500)},
	{name: "junk in a frame's header", was: "killed", do: junkInFrame(2, 8)},
	{name: "junk in a page in the middle of the WAL", was: "killed", do: junkInFrame(2, 4000)},
	{name: "junk in the WAL's middle, no wal-index", was: "killed", do: func(s *harness.Site) {
		junkInFrame(2, 4000)(s)
		removes("a.db-shm")(s)
	}},
	{name: "junk in the WAL's header", was: "killed", do: junkInFrame(0, -20)},
	{name: "an older WAL", was: "killed", do: copies("was.db-wal", "a.db-wal")},
	{name: "an older WAL, no wal-index", was: "killed", do: func(s *harness.Site) {
		copyFile(s, "was.db-wal", "a.db-wal")
		removes("a.db-shm")(s)
	}},
	{name: "a WAL of before a reset", was: "killed", do: copies("old.db-wal", "a.db-wal")},
	{name: "another database's WAL", was: "killed", do: copies("other.db-wal", "a.db-wal")},
	{name: "another database's WAL, no wal-index", was: "killed", do: func(s *harness.Site) {
		copyFile(s, "other.db-wal", "a.db-wal")
		removes("a.db-shm")(s)
	}},
	{name: "junk for a WAL", was: "killed", do: copies("verneuil.json", "a.db-wal")},
	{name: "database and WAL put back", was: "killed",
		do: copies("was.db", "a.db", "was.db-wal", "a.db-wal")},
	{name: "database put back, not its WAL", was: "killed", do: copies("old.db", "a.db")},
	{name: "database put back by mv", was: "killed", do: func(s *harness.Site) {
		harness.Must(s.T, os.Rename(s.Path("old.db"), s.Path("a.db")))
	}},
	{name: "database put back by mv, its WAL removed", was: "killed", do: func(s *harness.Site) {
		harness.Must(s.T, os.Rename(s.Path("old.db"), s.Path("a.db")))
		removes("a.db-wal", "a.db-shm")(s)
	}},
	{name: "stock reads, and checkpoints", was: "killed", do: stock("select count(*) from t")},
	{name: "stock reads, and dies", was: "killed", do: stockKilled("select count(*) from t;"),
		calm: true},
	{name: "stock commits", was: "killed", do: stock(edit)},
	{name: "stock commits, and dies", was: "killed", do: stockKilled(edit)},
	{name: "stock commits, and dies; no wal-index", was: "killed", do: func(s *harness.Site) {
		stockKilled(edit)(s)
		removes("a.db-shm")(s)
	}},
	{name: "stock spills, and dies", was: "killed", do: stockKilled("pragma cache_size=2;",
		"begin;", "update t set b = zeroblob(3000);"), calm: true},
	{name: "stock checkpoints, and dies", was: "killed", do: stockKilled("pragma wal_checkpoint;")},
	{name: "stock truncates the WAL, and dies", was: "killed",
		do: stockKilled("pragma wal_checkpoint(truncate);")},
	{name: "stock restarts the WAL, commits, and dies", was: "killed",
		do: stockKilled("pragma wal_checkpoint(restart);", edit)},
	{name: "stock vacuums", was: "killed", do: stock("delete from t where a > 50; vacuum")},
	{name: "stock vacuums, and dies", was: "killed",
		do: stockKilled("delete from t where a > 50;", "vacuum;")},
	{name: "stock restores", was: "killed", do: func(s *harness.Site) {
		s.Stock("a.db", ".restore '"+s.Path("other.db")+"'")
	}},
	{name: "stock leaves WAL mode", was: "killed", do: stock("pragma journal_mode=delete;" + edit)},
	{name: "stock leaves WAL mode, and dies", was: "killed",
		do: stockKilled("pragma journal_mode=delete;", edit)},

	{name: "an empty WAL", was: "wal", do: func(s *harness.Site) { s.Write("a.db-wal", nil) },
		calm: true},
	{name: "a stale WAL", was: "wal", do: copies("was.db-wal", "a.db-wal")},
	{name: "a WAL of before a reset", was: "wal", do: copies("old.db-wal", "a.db-wal")},
	{name: "another database's WAL", was: "wal", do: copies("other.db-wal", "a.db-wal")},
	{name: "stock commits, and dies", was: "wal", do: stockKilled(edit)},
	{name: "stock leaves WAL mode, and dies", was: "wal",
		do: stockKilled("pragma journal_mode=delete;", edit)},
	{name: "stock restores, and dies", was: "wal", do: func(s *harness.Site) {
		stockKilled(".restore '" + s.Path("other.db") + "'")(s)
	}},
	{name: "database put back by mv, with a WAL", was: "wal", do: func(s *harness.Site) {
		harness.Must(s.T, os.Rename(s.Path("old.db"), s.Path("a.db")))
		copyFile(s, "was.db-wal", "a.db-wal")
	}},

	{name: "an empty WAL", was: "delete", do: func(s *harness.Site) { s.Write("a.db-wal", nil) },
		calm: true},
	{name: "another database's WAL", was: "delete", do: copies("other.db-wal", "a.db-wal")},
	{name: "stock goes to WAL mode, commits, and dies", was: "delete",
		do: stockKilled("pragma journal_mode=wal;", edit)},
	{name: "another database's journal", was: "delete",
		do: copies("other.db-journal", "a.db-journal")},
	{name: "stock is killed in a transaction", was: "delete", do: stockKilled(
		"pragma cache_size=2;", "begin;", "update t set b = zeroblob(3000);")},
	{name: "stock is killed in a transaction, and its journal removed", was: "delete",
		do: func(s *harness.Site) {
			stockKilled("pragma cache_size=2;", "begin;", "update t set b = zeroblob(3000);")(s)
			removes("a.db-journal")(s)
		}},
	{name: "stock restores", was: "delete", do: func(s *harness.Site) {
		s.Stock("a.db", ".restore '"+s.Path("other.db")+"'")
	}},
	{name: "nothing", was: "torn", do: func(*harness.Site) {}},
	{name: "the hot journal removed", was: "torn", do: removes("a.db-journal")},
}

// lay makes the database, and leaves it.
func lay(s *harness.Site, was string) {
	s.T.Helper()
	fill := "create table t(a integer primary key, b); " + rows +
		"insert into t select i, zeroblob(3000) from n;"
	other := harness.Start(s.T, nil, harness.SQLiteShell(s.T), "-batch", s.Path("other.db"))
	other.Ask("pragma journal_mode=wal;")
	other.Must(fill + "create table other(x);")
	copyFile(s, "other.db-wal", "kept")
	other.Ask("pragma journal_mode=persist;")
	other.Must("pragma synchronous=off; pragma cache_size=2; begin; update t set b = 'x';")
	copyFile(s, "other.db-journal", "kept2")
	other.Must("commit;")
	other.EndsWith(0)
	copyFile(s, "kept", "other.db-wal")
	copyFile(s, "kept2", "other.db-journal")

	mode := "wal"
	if was == "delete" || was == "torn" {
		mode = "delete"
	}
	shell := s.Shell("a.db")
	shell.Ask("pragma journal_mode=" + mode + ";")
	shell.Must(fill)
	if mode == "wal" {
		shell.Ask("pragma wal_autocheckpoint=0; pragma wal_checkpoint(truncate);")
		shell.Must("update t set b = 'old' where a = 5;")
		copies("a.db", "old.db", "a.db-wal", "old.db-wal")(s)
		shell.Ask("pragma wal_checkpoint(truncate);")
		shell.Must("update t set b = 'earlier' where a < 10;")
		copies("a.db", "was.db", "a.db-wal", "was.db-wal")(s)
	} else {
		copies("a.db", "was.db", "a.db", "old.db")(s)
	}
	shell.Must("update t set b = 'ours' where a = 7;")
	shell.Must("update t set b = 'ours' where a = 9;")
	shell.Flush()
	if was == "torn" {
		shell.Must("pragma cache_size=2; begin; update t set b = zeroblob(3000);")
	}
	if was == "killed" || was == "torn" {
		shell.Kill()
	} else {
		shell.EndsWith(0)
	}
	if was != "torn" {
		s.Ctl("flush", s.Path("a.db"))
	}
}

// reads is what SQLite reads of a database that lies there, which is not touched.
func reads(s *harness.Site, db string) harness.Result {
	s.T.Helper()
	dir := s.T.TempDir()
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if b, err := os.ReadFile(db + suffix); err == nil {
			harness.Must(s.T, os.WriteFile(filepath.Join(dir, "twin.db"+suffix), b, 0o600))
		}
	}
	return harness.Run(s.T, nil, harness.SQLiteShell(s.T), filepath.Join(dir, "twin.db"), ".dump")
}

// sent reports whether the target's newest version is the database as SQLite reads it.
func sent(s *harness.Site) bool {
	s.T.Helper()
	out := s.Path("restored.db")
	s.Ctl("restore", "--force", "-s", s.Path("a.db"), "-o", out)
	return reads(s, out) == reads(s, s.Path("a.db"))
}

// saysUpToDate is what status says of the database, with the reason.
func saysUpToDate(s *harness.Site) (bool, string) {
	s.T.Helper()
	var said struct {
		UpToDate bool   `json:"up_to_date"`
		Error    string `json:"error"`
	}
	harness.Must(s.T, json.Unmarshal([]byte(s.Ctl("status", "--json")), &said))
	return said.UpToDate, said.Error
}

// TestStandings: of a database that nobody has open, status says that it is up to date only where
// the target has what SQLite will read there, whatever became of which of its files. A flush that
// says yes means that it does: the tool's, after which no other commit is asked for, and that of
// the next one who opens the database, before he has read it and after that. One of two cases has
// the tool's; and of two of the others the next one commits first.
func TestStandings(t *testing.T) {
	for i, c := range standings {
		t.Run(c.was+"/"+c.name, func(t *testing.T) {
			s := harness.DirSite(t)
			lay(s, c.was)
			c.do(s)
			mustTell := func(when string, calm bool) {
				t.Helper()
				said, why := saysUpToDate(s)
				if same := sent(s); said && !same || calm && !said {
					t.Errorf("%s: status says up to date: %v (%s); what was sent is it: %v",
						when, said, why, same)
				}
			}
			mustTell("as it lies there", c.calm)
			if i%2 == 0 {
				s.Ctl("flush", s.Path("a.db"))
				mustTell("flushed by the tool", true)
			}
			shell := s.Shell("a.db")
			if i%4 == 1 {
				shell.Must(more)
			}
			if shell.Ask("pragma verneuil_flush_replication_data;") == "1" && !sent(s) {
				t.Error("a flush says yes, and what was sent is another database")
			}
			shell.Want("select count(*) > 0 from t;", "1")
			shell.Flush()
			shell.Must(more)
			shell.Flush()
			shell.Kill()
			mustTell("left again", true)
		})
	}
}

const more = "create table if not exists more(b); insert into more values('next');"

// TestStandingBesideWriter: a recorder that is in the middle of a commit, or resets the WAL, is not
// taken for somebody who does so without the extension.
func TestStandingBesideWriter(t *testing.T) {
	for _, locking := range []string{"normal", "exclusive"} {
		t.Run(locking, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Written("a.db", "wal")
			shell.Must(".open " + s.Path("a.db")) // for a wal-index on the heap
			shell.Want("pragma locking_mode="+locking+";", locking)
			shell.Ask("pragma wal_autocheckpoint=7;")
			for range 30 {
				for range 40 {
					shell.Send("insert into t(b) values(randomblob(3000));")
				}
				if _, why := saysUpToDate(s); strings.Contains(why, "without the extension") {
					t.Error(why)
				}
			}
			shell.Flush()
			if said, why := saysUpToDate(s); !said {
				t.Errorf("status after a flush: %s", why)
			}
			shell.EndsWith(0)
		})
	}
}
