package main_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests kill the real programs before their calls, one after the other, as
// VERNEUIL_FAULT_STRIDE says (faults_test.go), and each second time a random moment after
// one. While they live, and when they are dead, nothing dangles in the target.

// lateMost is how long after a call a program is killed, at most: several calls' time.
const lateMost = 3 * time.Millisecond

// kill is a trial that does not survive call at, or not for long.
func (s *site) kill(at int, late bool) *trial {
	r := &trial{s: s, at: at, kill: true, ours: s.touches, target: s.watcher()}
	if late {
		r.late = time.Duration(1 + rand.Int64N(int64(lateMost)))
	}
	return r
}

// mustHaveDied checks how a program ended, and what it left in the target. One that is struck
// as it ends by itself may have done so when SIGKILL arrives.
func (r *trial) mustHaveDied(got result) {
	r.s.t.Helper()
	died := got.code == -1
	if died && r.struck == "" || !died && (r.struck != "" && r.late == 0 && !r.program.Missed() || got.code != 0) {
		r.s.t.Fatalf("%v: exit code %d: %s", r, got.code, got.stderr)
	}
	if err := r.target.look(); err != nil {
		r.s.t.Fatalf("%v: the target: %v", r, err)
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
			versions := 0
			for n := 0; ; n++ {
				s.anew()
				r := s.kill(first+n*step, n%2 == 1)
				r.mustHaveDied(r.run(s.script("a.db", lines, true), sqliteShell(t), "-batch"))
				versions += r.target.versions
				create := "create table if not exists t(a integer primary key, b);"
				s.recovers(r, s.stock("a.db", create, sums)+"\n") // recovery by somebody else
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
	first, step := stride(t, 331)
	for _, journal := range faultJournals() {
		if strings.HasSuffix(journal, "+exclusive") {
			continue // one process at a time
		}
		t.Run(journal, func(t *testing.T) {
			s := dirSite(t)
			lines := workload(journal)
			want, sum := s.stockOutput(lines)
			for n := 0; ; n++ {
				s.anew()
				r := s.kill(first+n*step, n%2 == 1)
				first, ended := make(chan struct{}), make(chan struct{})
				signals := t.TempDir() // elsewhere: what the shells do there is no call of ours
				ready, done := filepath.Join(signals, "ready"), filepath.Join(signals, "done")
				opens := []string{"pragma verneuil_flush_replication_data;", ".shell touch " + ready,
					".shell while [ ! -e " + done + " ]; do sleep 0.01; done"}
				var got result
				go func() {
					defer close(ended)
					got = r.run(s.script("a.db", opens, true), sqliteShell(t), "-batch")
				}()
				go func() {
					defer close(first)
					until(t, "there is a replicator, or it is dead", func() bool {
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
				writes := s.calm().run(s.script("a.db", lines, true), sqliteShell(t), "-batch")
				if err := os.WriteFile(done, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				<-ended
				if writes.code != 0 || writes.stdout != want || writes.stderr != "" {
					t.Fatalf("%v: the application saw %q, %q, exit code %d; want %q", r, writes.stdout, writes.stderr, writes.code, want)
				}
				r.mustHaveDied(got)
				s.recovers(r, sum)
				if r.struck == "" {
					t.Logf("%d kills, of %d calls", n, r.calls)
					return
				}
			}
		})
	}
}

// TestKillsOfCommands: verneuilctl sync, flush and restore die before whatever call
// they make. Who comes next does it all.
func TestKillsOfCommands(t *testing.T) {
	first, step := stride(t, 173)
	for name, argv := range map[string][]string{
		"sync":    {"sync", "a.db"},
		"flush":   {"flush", "spool"},
		"restore": {"restore", "--force", "-s", "a.db", "-o", "out.db"},
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
				s.unsent([]string{"wal", "delete", "persist", "wal+exclusive"}[n%4])
				sum := s.stock("a.db", sums) + "\n"
				if name == "restore" {
					s.recovers(words("preparation"), sum)
				}
				r := s.kill(first+n*step, n/4%2 == 1)
				r.mustHaveDied(r.run("", argv...))
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

// unsent leaves a spool with commits that were not sent: the process that had it is dead.
func (s *site) unsent(journal string) {
	s.t.Helper()
	lines := append(workload(journal), "insert into t(b) values('unsent'); update t set b = 'unsent' where a % 5 = 0;")
	s.calm().run(s.script("a.db", lines, true)+".shell kill -9 $PPID\n", sqliteShell(s.t), "-batch")
}
