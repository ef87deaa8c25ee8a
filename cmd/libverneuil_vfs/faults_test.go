package main_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/spool/faultcall"
)

// These tests fail the system calls that recorder, replicator and a dir target make,
// one after the other, in the real programs, and kill these before each of them. With
// VERNEUIL_FAULT_STRIDE=1 they take every call, in all journal modes; without it some, from a
// random start, in those that differ most.

// trialSeconds bounds a program whose calls fail: a flush that cannot answer gives up after 30.
const trialSeconds = 100

// stride is the distance between the calls that are failed, and the first of them.
func stride(t *testing.T, byDefault int) (first, step int) {
	t.Helper()
	step = byDefault
	if text := os.Getenv("VERNEUIL_FAULT_STRIDE"); text != "" {
		var err error
		if step, err = strconv.Atoi(text); err != nil || step < 1 {
			t.Fatalf("VERNEUIL_FAULT_STRIDE=%s", text)
		}
	}
	first = 1 + rand.IntN(step)
	if text := os.Getenv("VERNEUIL_FAULT_FIRST"); text != "" {
		first, _ = strconv.Atoi(text)
	}
	t.Logf("every call from %d by %d (VERNEUIL_FAULT_FIRST, VERNEUIL_FAULT_STRIDE)", first, step)
	return first, step
}

// workload is what an application does; what it prints does not depend on the VFS.
func workload(journal string) []string {
	mode, locking, _ := strings.Cut(journal, "+")
	w := []string{"pragma locking_mode=" + map[bool]string{true: "exclusive", false: "normal"}[locking != ""] + ";"}
	return append(w,
		"pragma journal_mode="+mode+";",
		"create table if not exists t(a integer primary key, b);",
		"insert into t(b) values(printf('%.*c', 900, 'x'));",
		".output /dev/null", "pragma verneuil_flush_replication_data;", ".output stdout",
		"begin; update t set b = 'rolled back'; insert into t(b) values('too'); rollback;",
		"pragma cache_size=5;",
		"begin; with recursive n(i) as (select 1 union all select i+1 from n limit 80)"+
			" insert into t(b) select printf('%.*c', 900+i, 'y') from n; commit;",
		"update t set b = printf('%.*c', 500, 'z') where a % 7 = 0;",
		"pragma wal_checkpoint(truncate);",
		"delete from t where a % 3 = 0;", "vacuum;",
		"insert into t(b) values(printf('%.*c', 70000, 'w'));",
		".output /dev/null", "pragma verneuil_flush_replication_data;", ".output stdout",
		"update t set b = 'last' where a = 2;",
		"select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;")
}

// faultJournals are the journal modes to test.
func faultJournals() []string {
	if os.Getenv("VERNEUIL_FAULT_STRIDE") == "" {
		return []string{"delete", "wal", "wal+exclusive"}
	}
	return []string{"delete", "truncate", "persist", "wal", "delete+exclusive", "wal+exclusive"}
}

// trial is one run of a program under supervision.
type trial struct {
	s      *site
	at     int // the call that is failed, from 1; 0: none
	good   bool
	errno  syscall.Errno
	short  bool
	kill   bool
	ours   func(c faultcall.Call) bool
	log    string // VERNEUIL_LOG; empty: off
	calls  int
	struck string // the call that failed first
}

func (r *trial) decide(c faultcall.Call) faultcall.Verdict {
	if !r.ours(c) {
		return faultcall.Verdict{}
	}
	r.calls++
	if r.at == 0 || r.calls < r.at || r.calls > r.at && !r.good {
		return faultcall.Verdict{}
	}
	if r.struck == "" {
		r.struck = c.String()
	}
	return faultcall.Verdict{Err: r.errno, Short: r.short, Kill: r.kill}
}

func (r *trial) String() string {
	what := "fails with " + r.errno.Error()
	switch {
	case r.kill:
		what = "is not survived"
	case r.short:
		what = "is short"
	}
	if r.good {
		what += ", and all later ones"
	}
	return fmt.Sprintf("call %d (%s) %s", r.at, strings.ReplaceAll(r.struck, r.s.dir, ""), what)
}

// run runs argv to its end, with input on its stdin.
func (r *trial) run(input string, argv ...string) result {
	r.s.t.Helper()
	ctx, cancel := context.WithTimeout(r.s.t.Context(), trialSeconds*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), r.s.env(), "VERNEUIL_LOG="+cmp.Or(r.log, "off"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	p, err := faultcall.Start(cmd, r.decide)
	if err != nil {
		r.s.t.Fatal(err)
	}
	err = p.Wait()
	if ctx.Err() != nil {
		r.s.t.Fatalf("%v: hangs: %s%s", r, stdout.String(), stderr.String())
	}
	if cmd.ProcessState == nil || strings.Contains(fmt.Sprint(err), "faultcall") {
		r.s.t.Fatalf("%v: %v", r, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// script is the input of a shell that does the workload on name.
func (s *site) script(name string, lines []string, extension bool) string {
	script := ".bail off\n.timeout 10000\n"
	if extension {
		script += ".load " + library(s.t) + "\n"
	}
	return script + ".open " + s.path(name) + "\n" + strings.Join(lines, "\n") + "\n"
}

// replicates are the calls of replication: on files in the spool and the store, and the
// opens of the database's files, which SQLite itself opens for writing.
func (s *site) replicates(c faultcall.Call) bool {
	in := func(dir string) bool { return c.Path == s.path(dir) || strings.HasPrefix(c.Path, s.path(dir)+"/") }
	switch {
	case in("spool"), in("store"):
		return true
	case strings.HasPrefix(c.Path, "/proc/") && (strings.HasSuffix(c.Path, "/stat") || strings.HasSuffix(c.Path, "/boot_id")):
		return true
	case strings.HasPrefix(c.Path, s.path("a.db")):
		return c.Name == "statx" || c.Name == "openat" && c.Flags&syscall.O_ACCMODE == syscall.O_RDONLY
	}
	return false
}

// recovers checks what a run has left: the database is what the stock shell made of it, a
// flush sends it, and what was sent is the database.
func (s *site) recovers(what fmt.Stringer, sum string) {
	s.t.Helper()
	const ask = "select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;"
	r := s.calm().run(s.script("a.db", []string{ask, "pragma verneuil_flush_replication_data;"}, true), sqliteShell(s.t), "-batch")
	if r.stdout != sum+"1\n" || r.code != 0 {
		s.t.Fatalf("%v: afterwards: %q, %s; want %q and a flush", what, r.stdout, r.stderr, sum)
	}
	if r := s.verify(); r.code != 0 {
		s.t.Fatalf("%v: the target: %s%s", what, r.stdout, r.stderr)
	}
	defer func() {
		if s.t.Failed() {
			s.t.Logf("after %v", what)
		}
	}()
	s.mustEqual("a.db")
}

// calm is a trial in which nothing happens.
func (s *site) calm() *trial {
	return &trial{s: s, ours: func(faultcall.Call) bool { return false }, log: "warn"}
}

// verify looks for what the newest versions in the target name.
func (s *site) verify() result {
	s.t.Helper()
	return run(s.t, nil, built(s.t, "VERNEUIL_CTL"), "-c", s.config(), "verify", "--read")
}

// anew empties the site but for its configuration.
func (s *site) anew() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "verneuil.json" {
			continue
		}
		if err := os.RemoveAll(s.path(e.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
}

// stockOutput is what the stock shell prints for the workload, and its last two lines.
func (s *site) stockOutput(lines []string) (output, sum string) {
	s.t.Helper()
	cmd := exec.Command(sqliteShell(s.t), "-batch")
	cmd.Stdin = strings.NewReader(s.script("stock.db", lines, false))
	b, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, b)
	}
	all := strings.SplitAfter(string(b), "\n")
	return string(b), strings.Join(all[len(all)-3:], "")
}

// TestFaultsOfMirror: a write to the mirror that fails is done again, with all that
// came before it and is not in the mirror yet.
func TestFaultsOfMirror(t *testing.T) {
	first, step := stride(t, 29)
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			s.sweep(journal, first, step, func(c faultcall.Call) bool {
				return c.Name == "pwrite64" && strings.HasPrefix(c.Path, s.path("spool")) && strings.HasSuffix(c.Path, "/mirror")
			})
		})
	}
}

// TestFaults: whatever call of replication fails, once or for good, the application
// sees what it would see without it; and when nothing fails any more, all of it is sent.
func TestFaults(t *testing.T) {
	first, step := stride(t, 149)
	for _, journal := range faultJournals() {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			s.sweep(journal, first, step, s.replicates)
		})
	}
}

// sweep fails every step-th of the calls that are ours, until a run passes untouched.
func (s *site) sweep(journal string, first, step int, ours func(faultcall.Call) bool) {
	s.t.Helper()
	errnos := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EACCES, syscall.EMFILE, 0}
	lines := workload(journal)
	want, sum := s.stockOutput(lines)
	for n := 0; ; n++ {
		s.anew()
		turn := n + first
		r := &trial{s: s, at: first + n*step, errno: errnos[turn%len(errnos)], ours: ours}
		r.short = r.errno == 0
		r.good = turn/len(errnos)%2 == 1 && !r.short
		got := r.run(s.script("a.db", lines, true), sqliteShell(s.t), "-batch")
		if got.code != 0 || got.stdout != want || got.stderr != "" {
			s.t.Fatalf("%v: the application saw %q, %q, exit code %d; want %q", r, got.stdout, got.stderr, got.code, want)
		}
		s.recovers(r, sum)
		if r.struck == "" {
			s.t.Logf("%d of %d calls failed", n, r.calls)
			return
		}
	}
}

// TestKills: the application, with the replicator in it, dies before whatever call it
// makes on its database, in the spool or in the target.
func TestKills(t *testing.T) {
	first, step := stride(t, 401)
	for _, journal := range faultJournals() {
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			lines := workload(journal)
			done := 0
			for at := first; ; at += step {
				s.anew()
				r := &trial{s: s, at: at, kill: true, ours: func(c faultcall.Call) bool { return strings.HasPrefix(c.Path, s.dir) }}
				got := r.run(s.script("a.db", lines, true), sqliteShell(t), "-batch")
				if died := got.code == -1; died != (r.struck != "") {
					t.Fatalf("%v: exit code %d: %s", r, got.code, got.stderr)
				}
				if v := s.verify(); v.code != 0 {
					t.Fatalf("%v: the target: %s%s", r, v.stdout, v.stderr)
				}
				s.stock("a.db", "create table if not exists t(a integer primary key, b);") // recovery by somebody else
				s.recovers(r, s.stock("a.db", "select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;")+"\n")
				if r.struck == "" {
					break
				}
				done++
			}
			t.Logf("%d kills", done)
		})
	}
}

// TestKillsOfCommands: verneuilctl sync, flush and restore die before whatever call
// they make. At any moment nothing dangles in the target; who comes next does it all.
func TestKillsOfCommands(t *testing.T) {
	first, step := stride(t, 173)
	unsent := func(s *site) { // a spool with unsent commits: the process that had it is dead
		lines := append(workload("wal"), "insert into t(b) values('unsent'); update t set b = 'unsent' where a % 5 = 0;")
		r := s.calm()
		r.run(s.script("a.db", lines, true)+".shell kill -9 $PPID\n", sqliteShell(t), "-batch")
	}
	for name, argv := range map[string][]string{
		"sync":    {"sync", "a.db"},
		"flush":   {"flush", "spool"},
		"restore": {"restore", "-s", "a.db", "-o", "out.db"},
	} {
		t.Run(name, func(t *testing.T) {
			s, first, step := dirSite(t), first, step
			if name == "restore" { // it makes fewer
				first, step = max(first/8, 1), max(step/8, 1)
			}
			for i, arg := range argv {
				if i > 0 && arg[0] != '-' {
					argv[i] = s.path(arg)
				}
			}
			argv := append([]string{built(t, "VERNEUIL_CTL"), "-c", s.config()}, argv...)
			for n := 0; ; n++ {
				s.anew()
				unsent(s)
				sum := s.stock("a.db", sums) + "\n"
				if name == "restore" {
					s.recovers(words("preparation"), sum)
				}
				r := &trial{s: s, at: first + n*step, kill: true, ours: func(c faultcall.Call) bool { return strings.HasPrefix(c.Path, s.dir) }}
				got := r.run("", argv...)
				if died := got.code == -1; died != (r.struck != "") || !died && got.code != 0 {
					t.Fatalf("%v: exit code %d: %s", r, got.code, got.stderr)
				}
				if v := s.verify(); v.code != 0 {
					t.Fatalf("%v: the target: %s%s", r, v.stdout, v.stderr)
				}
				if out := s.path("out.db"); name == "restore" {
					_, err := os.Stat(out)
					if err == nil {
						s.same(out, s.path("a.db")) // whole, or not there
					} else if r.struck == "" {
						t.Fatal(err)
					}
					s.ctl(argv[3:]...) // the next one removes what this one has left
					left, err := filepath.Glob(s.path(".verneuil*"))
					if err != nil || len(left) > 0 {
						t.Fatalf("%v: left: %q, %v", r, left, err)
					}
				}
				s.recovers(r, sum)
				if r.struck == "" {
					t.Logf("%d kills, of %d calls", n, r.calls)
					return
				}
			}
		})
	}
}

// same fails unless two files are equal.
func (s *site) same(a, b string) {
	s.t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		s.t.Fatal(err)
	}
	if y, err := os.ReadFile(b); err != nil || !bytes.Equal(x, y) {
		s.t.Fatalf("%s and %s differ: %v", a, b, err)
	}
}
