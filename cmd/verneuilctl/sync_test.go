package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
	"verneuil/replicate/restore"
)

// effort is what a sync says it has cost, in its line of the log.
type effort struct{ chunks, bytes, calls int }

func syncEffort(t *testing.T, s *site, db string) effort {
	t.Helper()
	r := ctl(t, "-l", "info", "-c", s.config(), "sync", db)
	if r.code != 0 {
		t.Fatalf("sync: exit code %d, %s", r.code, r.stderr)
	}
	value := func(key string) int {
		_, after, found := strings.Cut(r.stderr[strings.LastIndex(r.stderr, "msg=synced"):],
			" "+key+"=")
		if !found {
			t.Fatalf("sync logs no %s: %s", key, r.stderr)
		}
		after, _, _ = strings.Cut(strings.TrimSpace(after), " ")
		n, err := strconv.Atoi(after)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return effort{value("chunks"), value("bytes"), value("calls")}
}

// change runs statements on a database by stock SQLite.
func change(t *testing.T, path, statements string) {
	t.Helper()
	db, err := openDatabase(path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

func (s *site) restored(db string) []byte {
	s.t.Helper()
	must(s.t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("restored.db"))
	b, err := os.ReadFile(s.path("restored.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func TestSyncSendsOnlyWhatChanged(t *testing.T) {
	for name, site := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			db := s.database("d.db", 6<<20)
			first := syncEffort(t, s, db)
			if first.chunks < 90 {
				t.Errorf("the first sync put %d chunks of 96", first.chunks)
			}
			if again := syncEffort(t, s, db); again.calls > 7 || again.chunks != 0 {
				t.Errorf("a sync of the unchanged database: %+v, want at most seven calls", again)
			}
			change(t, db, "UPDATE t SET x = randomblob(10000) WHERE rowid = 300")
			if small := syncEffort(t, s, db); small.chunks > 4 || small.bytes > first.bytes/10 {
				t.Errorf("a sync of a small change: %+v", small)
			}
			// Nothing is known any more, as after a reboot: the target says what it has.
			if err := os.RemoveAll(s.path("spool")); err != nil {
				t.Fatal(err)
			}
			if anew := syncEffort(t, s, db); anew.chunks != 0 {
				t.Errorf("a sync without the spool: %+v, want no chunks", anew)
			}
			change(t, db, "UPDATE t SET x = randomblob(10000) WHERE rowid = 3")
			if err := os.RemoveAll(s.path("spool")); err != nil {
				t.Fatal(err)
			}
			if anew := syncEffort(t, s, db); anew.chunks > 4 {
				t.Errorf("a sync of a small change without the spool: %+v", anew)
			}
			want, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.restored(db), want) {
				t.Error("the restored database differs")
			}
		})
	}
}

func TestSyncWAL(t *testing.T) {
	s := dirSite(t)
	db := s.path("w.db")
	writer := openTest(t, db)
	execute(t, writer, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x); "+
		"INSERT INTO t VALUES (randomblob(200000));")
	for _, statements := range []string{
		"PRAGMA wal_checkpoint(TRUNCATE);",
		"INSERT INTO t VALUES (randomblob(100000)); UPDATE t SET x = zeroblob(5) WHERE rowid = 1;",
		"PRAGMA wal_checkpoint(PASSIVE); DELETE FROM t; VACUUM;",
	} {
		execute(t, writer, statements)
		want := checkpointed(t, db)
		before := [2]string{s.sum(db), s.sum(db + "-wal")}
		must(t, "-c", s.config(), "sync", db)
		if after := [2]string{s.sum(db), s.sum(db + "-wal")}; after != before {
			t.Errorf("%s: sync changed the database or its WAL", statements)
		}
		if !bytes.Equal(s.restored(db), want) {
			t.Errorf("%s: the restored database differs from the checkpointed one", statements)
		}
	}
	refuse(t, 1, []string{"optimize", "WAL mode"}, "-c", s.config(), "sync", db, "--optimize")
}

func TestSyncEmptyAndAlias(t *testing.T) {
	s := dirSite(t)
	empty := s.write("empty.db", nil)
	must(t, "-c", s.config(), "sync", empty)
	if b := s.restored(empty); len(b) != 0 {
		t.Errorf("the empty database is restored as %d bytes", len(b))
	}
	db := s.database("d.db", 10000)
	if err := os.Symlink("d.db", s.path("link.db")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(s.dir)
	name := must(t, "-c", s.config(), "sync", db)
	if alias := must(t, "-c", s.config(), "sync", "./link.db"); alias != name {
		t.Errorf("by its link the database is %q, else %q", alias, name)
	}
}

func TestSyncTwoTargets(t *testing.T) {
	s := dirSite(t)
	s.addTarget("second")
	db := s.database("d.db", 100000)
	blocked := s.write("second", nil) // a file where the directory belongs
	refuse(t, 1, []string{"sync " + db, "1 of 2 targets", blocked}, "-c", s.config(), "sync", db)
	if len(s.packs()) == 0 {
		t.Error("the failing target held the other one up")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	must(t, "-c", s.config(), "sync", db)
	if out := must(t, "-c", s.config(), "verify", "--read"); !strings.HasPrefix(out,
		"versions: 2,") || !strings.Contains(out, "damaged: 0") {
		t.Errorf("what the targets have: %s", out)
	}
	// The first target had what did not change since, and its newest version need not be the one
	// that the second has. The next one is both's.
	execute(t, openTest(t, db), "CREATE TABLE next(x)")
	must(t, "-c", s.config(), "sync", db)
	want, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	// Either target alone restores it; what one lacks comes from the other, which has it in packs
	// of its own.
	for _, chunks := range []string{"store/chunks", "second/chunks"} {
		lost := map[string][]byte{}
		for _, name := range s.packsIn(chunks) {
			was, err := os.ReadFile(name)
			if err := errors.Join(err, os.Remove(name)); err != nil {
				t.Fatal(err)
			}
			lost[name] = was
		}
		s.restoresEach(db, want, chunks == "store/chunks")
		for name, was := range lost {
			if err := os.WriteFile(name, was, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// restoresEach restores db from the manifests of both targets, of which the first, or else the
// second, has lost its packs.
func (s *site) restoresEach(db string, want []byte, first bool) {
	s.t.Helper()
	ctx := s.t.Context()
	session, err := (&global{config: s.config(), log: slog.New(slog.DiscardHandler)}).open(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer session.Close()
	from := &origin{sourcePath: db}
	found, err := from.fetch(ctx, session)
	if err != nil {
		s.t.Fatal(err)
	}
	locator, err := from.locate(session)
	if err != nil {
		s.t.Fatal(err)
	}
	both := append(locator.Twins(ctx, found), found)
	if len(both) != 2 {
		s.t.Fatalf("found %+v", both)
	}
	for _, f := range both {
		var asked []*chunkstore.Target
		out := s.path("restored.db")
		err := restoreFound(ctx, session, from, f, func(f locate.Found) error {
			asked = append(asked, f.From)
			return restore.File(ctx, out, restore.Options{Manifest: f.Manifest, From: f.From,
				Store: session.store})
		})
		if got, readErr := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			s.t.Errorf("restored from %v: %v, %v", f.From.Name, err, readErr)
		}
		tries := 1
		if (f.From == session.store.Targets[0]) == first {
			tries = 2
		}
		if len(asked) != tries {
			s.t.Errorf("restored %d times, want %d", len(asked), tries)
		}
		if err := os.Remove(out); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestFlushAfterOutage: an application writes while its target is out of reach, and
// ends; flush sends it later, and knows where to.
func TestFlushAfterOutage(t *testing.T) {
	lib := library(t)
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			s := dirSite(t)
			db := s.path("d.db")
			blocked := s.write("store", nil)
			sqlite(t, []string{"VERNEUIL_CONFIG=" + s.config(), "VERNEUIL_LOG=off"}, "-cmd",
				".load "+lib, "-cmd", ".open "+db, ":memory:",
				"PRAGMA journal_mode="+mode+"; CREATE TABLE t(x); "+
					"INSERT INTO t VALUES (randomblob(100000)); INSERT INTO t VALUES (2);")
			refuse(t, 1, []string{"flush " + s.path("spool"), "1 of 1 databases", db, blocked},
				"flush", s.path("spool"))
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			if out := must(t, "flush", s.path("spool")); out != db+"\n" {
				t.Errorf("flush prints %q, want the database's path", out)
			}
			if !bytes.Equal(s.restored(db), checkpointed(t, db)) {
				t.Error("the restored database differs")
			}
		})
	}
}

// TestFlushAfterKill: an application is killed in the middle of a transaction that has
// written to the database already; flush has it rolled back, and sends the rest.
func TestFlushAfterKill(t *testing.T) {
	lib := library(t)
	s := dirSite(t)
	db := s.path("d.db")
	shell := startShell(t, []string{"VERNEUIL_CONFIG=" + s.config()}, []string{sqliteShell(t)})
	shell.ask(".load " + lib)
	shell.ask(".open " + db)
	shell.ask(
		"CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(300000)); PRAGMA cache_size = 5;")
	committed := s.sum(db)
	shell.ask("BEGIN; UPDATE t SET x = randomblob(300000); " +
		"INSERT INTO t VALUES (randomblob(500000));")
	if s.sum(db) == committed {
		t.Fatal("the transaction did not spill")
	}
	if err := shell.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	shell.command.Wait() // says that it was killed
	must(t, "flush", s.path("spool"))
	if s.sum(db) != committed {
		t.Error("the transaction was not rolled back")
	}
	want, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.restored(db), want) {
		t.Error("the restored database differs")
	}
}

// TestFlushWhileServed: the process that has the database open does it for us.
func TestFlushWhileServed(t *testing.T) {
	lib := library(t)
	s := dirSite(t)
	s.configure(map[string]any{"manifest_interval_ms": 3600_000}) // it would wait an hour
	db := s.path("d.db")
	shell := startShell(t, []string{"VERNEUIL_CONFIG=" + s.config()}, []string{sqliteShell(t)})
	shell.ask(".load " + lib)
	shell.ask(".open " + db)
	for i := range 3 {
		shell.ask(fmt.Sprintf("CREATE TABLE t%d(x);", i))
	}
	must(t, "flush", s.path("spool"))
	want, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.restored(db), want) {
		t.Error("the restored database differs")
	}
	// And so with sync, which sees also what somebody else has written.
	change(t, db, "CREATE TABLE foreigner(x)")
	must(t, "-c", s.config(), "sync", db)
	var n int
	restored, err := sql.Open("sqlite3", "file:"+s.path("restored.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	s.restored(db)
	if err := restored.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil ||
		n != 4 {
		t.Errorf("%d tables are restored (%v), want 4", n, err)
	}
	shell.end(0)
}

// TestSyncLocked: who cannot read a database, as somebody has it locked, is told who that is.
func TestSyncLocked(t *testing.T) {
	for _, mode := range []string{"delete", "wal"} {
		s := dirSite(t)
		db := s.path("d.db")
		shell := startShell(t, nil, []string{sqliteShell(t), db})
		shell.ask("PRAGMA journal_mode=" + mode + ";")
		shell.ask("PRAGMA locking_mode=exclusive;")
		shell.ask("CREATE TABLE t(x);")
		who := fmt.Sprintf("process %d", shell.command.Process.Pid)
		refuse(t, 1, []string{"database is locked", who, "try again"}, "-c", s.config(), "sync", db)
		shell.end(0)
		if r := ctl(t, "-c", s.config(), "sync", db); r.code != 0 {
			t.Errorf("%s: sync after its end: %s", mode, r.said())
		}
	}
}

// TestReplicatorStopped: who asks a process to replicate that is stopped is told so, and does not
// wait for ever.
func TestReplicatorStopped(t *testing.T) {
	lib := library(t)
	s := dirSite(t)
	db := s.path("d.db")
	shell := startShell(t, []string{"VERNEUIL_CONFIG=" + s.config()}, []string{sqliteShell(t)})
	shell.ask(".load " + lib)
	shell.ask(".open " + db)
	shell.ask("CREATE TABLE t(x);")
	must(t, "flush", s.path("spool"))
	pid := shell.command.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var state syscall.WaitStatus
	_, err := syscall.Wait4(pid, &state, syscall.WUNTRACED, nil)
	if err != nil || !state.Stopped() {
		t.Fatalf("%v, %v", state, err)
	}
	said := []string{fmt.Sprintf("process %d", pid), "is stopped", "kill -CONT"}
	refuse(t, 1, said, "--timeout", "1s", "flush", s.path("spool"))
	refuse(t, 1, said, "--timeout", "1s", "-c", s.config(), "sync", db)
	if out := must(t, "-c", s.config(), "status"); !strings.Contains(out, "is stopped") {
		t.Errorf("status: %s", out)
	}
	other := startShell(t, []string{"VERNEUIL_CONFIG=" + s.config()}, []string{sqliteShell(t)})
	other.ask(".load " + lib)
	other.ask(".open " + db)
	other.ask("SELECT * FROM t;")
	status := ""
	for !strings.Contains(status, `"state":"standing by`) { // its replicator begins beside it
		status = strings.Join(other.ask("SELECT verneuil_status();"), "")
	}
	if !strings.Contains(status, "is stopped") {
		t.Errorf("verneuil_status of another process: %s", status)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	must(t, "flush", s.path("spool"))
	if out := must(t, "-c", s.config(), "status"); strings.Contains(out, "is stopped") {
		t.Errorf("status of one that goes on: %s", out)
	}
	other.end(0)
	shell.end(0)
}

// TestNoSpoolingDir: whoever looks at the spools of a configuration whose spooling directory cannot
// be made says that nothing is replicated, and why; and makes nothing.
func TestNoSpoolingDir(t *testing.T) {
	s := dirSite(t)
	db := s.database("x.db", 10_000)
	s.configure(map[string]any{"replication_spooling_dir": s.write("file", nil) + "/spool"})
	const why = "not a directory"
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"status", "--prometheus"},
		{"flush"}, {"flush", "--allow-empty"}} {
		s.refuse(1, []string{"nothing is replicated from here", s.path("file/spool"), why}, args...)
	}
	for _, args := range [][]string{{"status", db}, {"flush", db}} {
		s.refuse(1, []string{"not recorded", s.path("file/spool"), why}, args...)
	}
	for _, args := range [][]string{{"config", "check"}, {"doctor"}} {
		r := ctl(t, append([]string{"-c", s.config()}, args...)...)
		if r.code != 1 || !strings.Contains(r.stdout, s.path("file/spool")+": "+why) {
			t.Errorf("%s: exit code %d, %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	said := program(t, []string{"VERNEUIL_CONFIG=" + s.config()}, sqliteShell(t), "-cmd",
		".load "+library(t), "-cmd", ".open "+db, ":memory:",
		"create table u(x); select verneuil_status();").stdout
	var status struct{ Error string }
	if err := json.Unmarshal([]byte(said), &status); err != nil || !strings.Contains(
		strings.ToLower(status.Error), why) {
		t.Errorf("verneuil_status() says %s: %v", said, err)
	}
}

// TestStatusOfOne: status tells of the database that it is asked for, and says so of one that
// nobody has written to.
func TestStatusOfOne(t *testing.T) {
	s := dirSite(t)
	refuse(t, 1, []string{"nothing is replicated from here"}, "-c", s.config(), "status")
	for _, name := range []string{"a.db", "b.db", "c.db"} {
		sqlite(t, nil, s.path(name), "CREATE TABLE t(x);")
		if name != "c.db" {
			must(t, "-c", s.config(), "sync", s.path(name))
		}
	}
	out := must(t, "-c", s.config(), "status", s.path("a.db"))
	if !strings.Contains(out, s.path("a.db")) || strings.Contains(out, s.path("b.db")) {
		t.Errorf("status of a.db: %s", out)
	}
	out = must(t, "-c", s.config(), "status")
	if !strings.Contains(out, s.path("a.db")) || !strings.Contains(out, s.path("b.db")) {
		t.Errorf("status: %s", out)
	}
	refuse(t, 1, []string{s.path("c.db"), "has no spool"}, "-c", s.config(), "status",
		s.path("c.db"))
	refuse(t, 1, []string{"its configuration", "--config"}, "status", s.path("a.db"))
}

// TestFlushOtherTargets: by a configuration that names other targets, or another host, than the
// programs had, neither a flush nor status says that they have everything. A sync sees to it.
func TestFlushOtherTargets(t *testing.T) {
	lib := library(t)
	for name, changes := range map[string]map[string]any{
		"targets": {"replication_targets": []any{map[string]any{"dir": map[string]any{
			"path": "other"}}}},
		"host": {"hostname": "other"},
	} {
		t.Run(name, func(t *testing.T) {
			s := dirSite(t)
			db := s.path("d.db")
			sqlite(t, []string{"VERNEUIL_CONFIG=" + s.config(), "VERNEUIL_LOG=off"}, "-cmd",
				".load "+lib, "-cmd", ".open "+db, ":memory:", "CREATE TABLE t(x);")
			must(t, "-c", s.config(), "flush", db)
			tells := func(upToDate, failing string) {
				t.Helper()
				out := must(t, "-c", s.config(), "status", "--prometheus")
				for metric, want := range map[string]string{
					"up_to_date": upToDate, "failing": failing,
				} {
					line := "verneuil_" + metric + `{database="` + db + `"} ` + want
					if !strings.Contains(out, line+"\n") {
						t.Errorf("want %s; status:\n%s", line, out)
					}
				}
			}
			tells("1", "0")
			s.configure(changes)
			tells("0", "1")
			for _, what := range []string{db, s.path("spool")} {
				refuse(t, 1, []string{"not to ", "other", "verneuilctl sync " + db},
					"-c", s.config(), "flush", what)
			}
			// nobody asks for other targets
			must(t, "flush", s.path("spool"))
			r := ctl(t, "-c", s.config(), "sync", db)
			if r.code != 0 { // it warns of another host
				t.Fatal(r.said())
			}
			must(t, "-c", s.config(), "flush", db)
			tells("1", "0")
			if !bytes.Equal(s.restored(db), checkpointed(t, db)) {
				t.Error("the restored database differs")
			}
		})
	}
}

func TestFlushDamagedSpool(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	sources, err := filepath.Glob(s.path("spool/*/source.json"))
	if err != nil || len(sources) != 1 {
		t.Fatalf("source.json: %q, %v", sources, err)
	}
	if err := os.WriteFile(sources[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, 1, []string{"flush " + s.path("spool"), "source.json"}, "flush", s.path("spool"))
	if err := os.Remove(sources[0]); err != nil {
		t.Fatal(err)
	}
	refuse(t, 1, []string{filepath.Dir(sources[0]), "source.json"}, "flush", s.path("spool"))
	// A configuration of another spooling directory says nothing of this one.
	s.configure(map[string]any{"replication_spooling_dir": t.TempDir()})
	refuse(t, 1, []string{"source.json"}, "-c", s.config(), "flush", s.path("spool"))
	s.configure(nil)
	if out := must(t, "-c", s.config(), "flush", s.path("spool")); out != db+"\n" {
		t.Errorf("flush with a configuration: %q", out)
	}
}
