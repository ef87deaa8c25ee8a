package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWalkthrough performs the walkthrough command for command, with the sqlite3
// shell, on both kinds of target, and in one bucket.
func TestWalkthrough(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite,
		"one bucket": oneBucketSite} {
		t.Run(name, func(t *testing.T) { walkthrough(t, make(t)) })
	}
}

func walkthrough(t *testing.T, s *site) {
	lib := library(t)
	sqliteShell(t)
	t.Chdir(s.dir)
	db, config := s.path("test.db"), s.config()

	sqlite(t, nil, "test.db", `create table random_data as
		with recursive tmp(x) as (select random() union all select random() from tmp limit 1000000)
		select * from tmp;`)

	// sync, restore, the same bytes.
	name := must(t, "-c", config, "sync", "test.db", "--optimize")
	if want := must(t, "-c", config, "manifest-name", db); name != want {
		t.Errorf("sync prints %q, manifest-name %q", name, want)
	}
	if !regexp.MustCompile(`^[0-9a-f]{4}-verneuil%3A` + hostname +
		`%3A[0-9a-f]{4}%2F%2F.*test\.db\n$`).MatchString(name) {
		t.Errorf("manifest name %q", name)
	}
	s.mustRestore(db, "restore.db")
	if pageSize := sqlite(t, nil, "restore.db", "pragma page_size"); pageSize != "65536\n" {
		t.Errorf("page size %q after --optimize", pageSize)
	}

	// An unchanged database: the manifest stays as it is.
	before := must(t, "-c", config, "manifest", "--json", db)
	if again := must(t, "-c", config, "sync", "test.db"); again != name {
		t.Errorf("second sync prints %q, want %q", again, name)
	}
	if after := must(t, "-c", config, "manifest", "--json", db); after != before {
		t.Errorf("a sync of an unchanged database wrote a manifest:\n%s\nwas:\n%s", after, before)
	}

	// A small update by stock SQLite, behind our back.
	first := strings.TrimSpace(sqlite(t, nil, "test.db", "select x from random_data limit 1"))
	sqlite(t, nil, "test.db", "update random_data set x = 0 where x = "+first)
	must(t, "-c", config, "sync", "test.db")

	// A local cache: the second restore is served by it.
	s.caches =
		[]any{map[string]any{"local": map[string]any{"directory": s.path("cache"),
			"num_shards": 128, "capacity": 10000}}}
	s.configure(nil)
	s.mustRestore(db, "restore2.db")
	if cached := len(s.files("cache")); cached < 100 {
		t.Errorf("%d chunks in the cache after a restore of 245", cached)
	}
	s.mustRestore(db, "restore3.db")

	// Live replication through the extension.
	env := []string{"VERNEUIL_CONFIG=" + config}
	sqlite(t, env, "-cmd", ".load "+lib, "-cmd", ".open test.db", ":memory:",
		"update random_data set x = 1 where rowid == 1;")
	must(t, "flush", s.path("spool"))
	s.mustRestore(db, "restore2.db")
	if x := sqlite(t, nil, "restore2.db", "select * from random_data limit 1"); x != "1\n" {
		t.Errorf("the first row is %q after the update, want 1", x)
	}

	walkReplica(t, s, db)
}

// walkReplica opens a read replica, and refreshes it while somebody writes.
func walkReplica(t *testing.T, s *site, db string) {
	t.Helper()
	lib, config := library(t), s.config()
	env := []string{"VERNEUIL_CONFIG=" + config}
	replica := startShell(t, env, ctlCommand("-c", config, "shell", "--hostname", hostname,
		"--source-path", db, "--vfs", lib))
	rows := replica.ask("select * from random_data limit 2;")
	if len(rows) != 2 || rows[0] != "1" {
		t.Errorf("the replica's first rows are %q", rows)
	}
	refused := replica.ask("update random_data set x = 2 where rowid == 1;")
	if len(refused) != 1 || !strings.Contains(refused[0], "attempt to write a readonly database") {
		t.Errorf("a write to the replica: %q", refused)
	}
	writer := startShell(t, env, []string{sqliteShell(t)})
	writer.ask(".load " + lib)
	writer.ask(".open test.db")
	if said := writer.ask("update random_data set x = -2 where rowid == 2;"); len(said) != 0 {
		t.Errorf("the writer says %q", said)
	}
	// Replication is in the background: refresh until the update is there.
	timestamp := regexp.MustCompile(`^\d+\.\d{9}$`)
	for try := 0; ; try++ {
		at := replica.ask("pragma verneuil_snapshot_refresh = 2;")
		if len(at) != 1 || !timestamp.MatchString(at[0]) {
			t.Fatalf("refresh says %q", at)
		}
		rows = replica.ask("select * from random_data limit 2;")
		if len(rows) == 2 && rows[1] == "-2" {
			break
		}
		if try == 10000 {
			t.Fatalf("after %d refreshes the replica's rows are %q", try, rows)
		}
	}
	writer.end(0)
	replica.end(1) // the refused write
}

// mustRestore restores db to a file of the site, which must have its bytes.
func (s *site) mustRestore(db, out string) {
	s.t.Helper()
	must(s.t, "-c", s.config(), "restore", "--force", "--hostname", hostname, "--source-path", db,
		"--out", out)
	if s.sum(db) != s.sum(s.path(out)) {
		s.t.Errorf("%s and %s differ", db, out)
	}
}

// shellSession is a sqlite3 shell that waits for commands.
type shellSession struct {
	t       *testing.T
	command *exec.Cmd
	stdin   io.WriteCloser
	output  *bufio.Scanner
}

// ctlCommand is how ctl runs verneuilctl.
func ctlCommand(args ...string) []string {
	if built := os.Getenv("VERNEUIL_CTL"); built != "" {
		return append([]string{built}, args...)
	}
	return append([]string{"env", actAsProgram + "=1", os.Args[0]}, args...)
}

func startShell(t *testing.T, env, argv []string) *shellSession {
	t.Helper()
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	command.Env = append(os.Environ(), env...)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout // one order for both
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return &shellSession{t, command, stdin, bufio.NewScanner(stdout)}
}

// ask sends a line and returns what the shell answers, line by line.
func (s *shellSession) ask(line string) []string {
	s.t.Helper()
	const mark = "---answered---"
	if _, err := fmt.Fprintf(s.stdin, "%s\n.print %s\n", line, mark); err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	var answer []string
	for s.output.Scan() {
		if s.output.Text() == mark {
			return answer
		}
		answer = append(answer, s.output.Text())
	}
	s.t.Fatalf("%s: the shell ended: %q", line, answer)
	return nil
}

// end closes the session, which must say nothing and end with that exit code.
func (s *shellSession) end(code int) {
	s.t.Helper()
	s.stdin.Close()
	for s.output.Scan() {
		s.t.Errorf("the shell says at its end: %q", s.output.Text())
	}
	if err := s.command.Wait(); s.command.ProcessState.ExitCode() != code {
		s.t.Errorf("the shell ended: %v, want exit code %d", err, code)
	}
}

// TestShell: the arguments of sqlite3, hostile names, and the ways to name a replica.
func TestShell(t *testing.T) {
	lib := library(t)
	sqliteShell(t)
	s := dirSite(t)
	db := s.database(`it's 100% "odd"? #1 & more.db`, 10000)
	must(t, "-c", s.config(), "sync", db)
	odd := s.path(`manifest file's % name?.bin`)
	must(t, "-c", s.config(), "manifest", db, "--out", odd)
	oddLib := s.path(`lib "x" \ y.so`)
	if err := os.Link(lib, oddLib); err != nil {
		b, err := os.ReadFile(lib)
		if err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Base(oddLib), b)
	}
	for _, args := range [][]string{
		{"--source-path", db, "--vfs", lib},
		{"--hostname", hostname, "--source-path", db, "--vfs", oddLib},
		{"--manifest", "verneuil:///" + strings.TrimPrefix(db, "/"), "--vfs", lib},
		{"--manifest", odd, "--vfs", lib},
		{"--manifest", "file://" + odd, "--vfs", lib},
	} {
		args = append(append([]string{"-c", s.config(), "shell"}, args...), "--", "-json",
			"select count(*) as n from t")
		if r := ctl(t, args...); r.stdout != "[{\"n\":2}]\n" || r.said() != "" || r.code != 0 {
			t.Errorf("verneuilctl %s: exit code %d, %q, %q", args, r.code, r.stdout, r.stderr)
		}
	}
	refuse(t, 1, []string{"no-such-sqlite3"}, "-c", s.config(), "shell", "-s", db, "--vfs", lib,
		"-e", "no-such-sqlite3")
	refuse(t, 1, []string{s.path("none.so")}, "-c", s.config(), "shell", "-s", db, "--vfs",
		s.path("none.so"))
	refuse(t, 1, []string{s.path("none.db"), "not found"}, "-c", s.config(), "shell", "-s",
		s.path("none.db"), "--vfs", lib)
}
