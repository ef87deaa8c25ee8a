package faults_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/test/e2e/harness"
)

// These tests kill the real programs before their calls, one after the other, as
// VERNEUIL_FAULT_STRIDE says (faults_test.go), and each second time a random moment after
// one. While they live, and when they are dead, nothing dangles in the target.

// lateMost is how long after a call a program is killed, at most: several calls' time.
const lateMost = 3 * time.Millisecond

// kill is a trial that does not survive call at, or not for long.
func kill(s *harness.Site, at int, late bool) *trial {
	r := &trial{s: s, at: at, kill: true, ours: touches(s), target: newWatcher(s)}
	if late {
		r.late = time.Duration(1 + rand.Int64N(int64(lateMost)))
	}
	return r
}

// mustHaveDied checks how a program ended, and what it left in the target. One that is struck
// as it ends by itself may have done so when SIGKILL arrives.
func (r *trial) mustHaveDied(got harness.Result) {
	r.s.T.Helper()
	died := got.Code == -1
	if died && r.struck == "" || !died && (r.struck != "" && r.late == 0 && !r.program.Missed() ||
		got.Code != 0) {
		r.s.T.Fatalf("%v: exit code %d: %s", r, got.Code, got.Stderr)
	}
	if err := r.target.look(); err != nil {
		r.s.T.Fatalf("%v: the target: %v", r, err)
	}
}

// TestKills: the application, with the replicator in it, dies before whatever call it
// makes on its database, in the spool or in the target.
func TestKills(t *testing.T) {
	first, step := harness.Stride(t, 401)
	for _, journal := range faultJournals() {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			lines := workload(journal)
			versions := 0
			for n := 0; ; n++ {
				anew(s)
				r := kill(s, first+n*step, n%2 == 1)
				r.mustHaveDied(r.run(script(s, "a.db", lines, true), harness.SQLiteShell(t),
					"-batch"))
				versions += r.target.versions
				create := "create table if not exists t(a integer primary key, b);"
				recovers(s, r, s.Stock("a.db", create, sums)+"\n") // recovery by somebody else
				if r.struck == "" {
					t.Logf("%d kills, of %d calls; %d versions looked at", n, r.calls, versions)
					return
				}
			}
		})
	}
}

// TestKillsOfReplicator: the process that replicates dies before whatever call it makes;
// another one, which writes, goes on as if nothing had happened, and replicates.
func TestKillsOfReplicator(t *testing.T) {
	first, step := harness.Stride(t, 331)
	for _, journal := range faultJournals() {
		if strings.HasSuffix(journal, "+exclusive") {
			continue // one process at a time
		}
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			lines := workload(journal)
			want, sum := stockOutput(s, lines)
			for n := 0; ; n++ {
				anew(s)
				r := kill(s, first+n*step, n%2 == 1)
				first, ended := make(chan struct{}), make(chan struct{})
				signals := t.TempDir() // elsewhere: what the shells do there is no call of ours
				ready, done := filepath.Join(signals, "ready"), filepath.Join(signals, "done")
				opens := []string{"pragma verneuil_flush_replication_data;",
					".shell touch " + ready,
					".shell while [ ! -e " + done + " ]; do sleep 0.01; done"}
				var got harness.Result
				go func() {
					defer close(ended)
					got = r.run(script(s, "a.db", opens, true), harness.SQLiteShell(t), "-batch")
				}()
				go func() {
					defer close(first)
					harness.Until(t, "there is a replicator, or it is dead", func() bool {
						_, err := os.Stat(ready)
						select {
						case <-ended:
							return true
						default:
							return err == nil
						}
					})
				}()
				<-first
				writes := calm(s).run(script(s, "a.db", lines, true), harness.SQLiteShell(t),
					"-batch")
				if err := os.WriteFile(done, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				<-ended
				if writes.Code != 0 || writes.Stdout != want || writes.Stderr != "" {
					t.Fatalf("%v: the application saw %q, %q, exit code %d; want %q", r,
						writes.Stdout, writes.Stderr, writes.Code, want)
				}
				r.mustHaveDied(got)
				recovers(s, r, sum)
				if r.struck == "" {
					t.Logf("%d kills, of %d calls", n, r.calls)
					return
				}
			}
		})
	}
}

// TestKillsOfCommands: verneuilctl sync, flush and restore die before whatever call
// they make. Who comes next does it all. "packs" says that the database fills several: of these
// some are there then, put or restored, and some are not.
func TestKillsOfCommands(t *testing.T) {
	first, step := harness.Stride(t, 173)
	for name, argv := range map[string][]string{
		"sync":           {"sync", "a.db"},
		"flush":          {"flush", "spool"},
		"restore":        {"restore", "--force", "-s", "a.db", "-o", "out.db"},
		"sync, packs":    {"sync", "a.db"},
		"flush, packs":   {"flush", "spool"},
		"restore, packs": {"restore", "--force", "-s", "a.db", "-o", "out.db"},
	} {
		t.Run(name, func(t *testing.T) {
			s, first, step := harness.DirSite(t), first, step
			command, packs := strings.CutSuffix(name, ", packs")
			var more []string
			switch {
			case packs && command == "restore": // less than 16 MiB are not kept for the next one
				more = []string{"insert into t(b) values(randomblob(30000000));"}
			case packs:
				more = []string{"insert into t(b) values(randomblob(9000000));"}
			}
			switch name { // it makes fewer
			case "restore":
				first, step = max(first/8, 1), max(step/8, 1)
			case "restore, packs":
				first, step = max(first/2, 1), max(step/2, 1)
			}
			for i, arg := range argv {
				if i > 0 && arg[0] != '-' {
					argv[i] = s.Path(arg)
				}
			}
			argv := append([]string{harness.Built(t, "VERNEUIL_CTL"), "-c", s.Config()}, argv...)
			for n := 0; ; n++ {
				anew(s)
				unsent(s, []string{"wal", "delete", "persist", "wal+exclusive"}[n%4], more...)
				sum := s.Stock("a.db", sums) + "\n"
				if command == "restore" {
					recovers(s, words("preparation"), sum)
				}
				r := kill(s, first+n*step, n/4%2 == 1)
				r.mustHaveDied(r.run("", argv...))
				if out := s.Path("out.db"); command == "restore" {
					_, err := os.Stat(out)
					if err == nil {
						s.Same(out, s.Path("a.db")) // whole, or not there
					} else if r.struck == "" {
						t.Fatal(err)
					}
					s.Ctl(argv[3:]...) // the next one uses, or removes, what this one has left
					s.Same(out, s.Path("a.db"))
					left, err := filepath.Glob(s.Path(".verneuil*"))
					if err != nil || len(left) > 0 {
						t.Fatalf("%v: left: %q, %v", r, left, err)
					}
				}
				recovers(s, r, sum)
				if r.struck == "" {
					t.Logf("%d kills, of %d calls", n, r.calls)
					return
				}
			}
		})
	}
}

// unsent leaves a spool with commits that were not sent, more among them: the process that had it
// is dead.
func unsent(s *harness.Site, journal string, more ...string) {
	s.T.Helper()
	lines := append(workload(journal), more...)
	lines = append(lines,
		"insert into t(b) values('unsent'); update t set b = 'unsent' where a % 5 = 0;")
	calm(s).run(script(s, "a.db", lines, true)+".shell kill -9 $PPID\n", harness.SQLiteShell(s.T),
		"-batch")
}
