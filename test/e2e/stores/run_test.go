package stores_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/common/expfmt"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// standing is what status --json says of a database.
type standing struct {
	Path       string
	State      string
	Replicator int
	UpToDate   bool    `json:"up_to_date"`
	LagSeconds float64 `json:"lag_seconds"`
	Commits    int
	Requests   int
	Targets    []struct{ Name, Error string }
}

// standings asks verneuilctl status.
func standings(s *harness.Site) (all []standing) {
	s.T.Helper()
	d := json.NewDecoder(strings.NewReader(s.Ctl("status", "--json")))
	for d.More() {
		var one standing
		harness.Must(s.T, d.Decode(&one))
		all = append(all, one)
	}
	return all
}

// metric returns the value of a database's metric in Prometheus' text, which must have it.
func metric(t *testing.T, text io.Reader, name, database string) float64 {
	t.Helper()
	value, ok := findMetric(t, text, name, database)
	if !ok {
		t.Fatalf("no metric %s of %s", name, database)
	}
	return value
}

func findMetric(
	t *testing.T, text io.Reader, name, database string,
) (value float64, ok bool) {
	t.Helper()
	families, err := new(expfmt.TextParser).TextToMetricFamilies(text)
	harness.Must(t, err)
	for _, m := range families[name].GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == "database" && l.GetValue() == database {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
			}
		}
	}
	return 0, false
}

// TestStatus: what a replicator leaves in the spool is what status and metrics show, while it lives
// and afterwards.
func TestStatus(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Written("a.db", "wal")
	shell.Flush()
	pid := shell.Command.Process.Pid
	harness.Until(t, "status shows the target", func() bool {
		all := standings(s)
		return len(all) == 1 && all[0].Path == s.Path("a.db") && all[0].UpToDate &&
			all[0].Replicator == pid && all[0].Commits > 0 && len(all[0].Targets) == 1 &&
			all[0].Requests > 0
	})
	if got := metric(t, strings.NewReader(s.Ctl("status", "--prometheus")),
		"verneuil_up_to_date", s.Path("a.db")); got != 1 {
		t.Errorf("verneuil_up_to_date is %v", got)
	}
	s.Ctl("verify", "--drill")
	if at := metric(t, strings.NewReader(s.Ctl("status", "--proof", "--prometheus")),
		"verneuil_last_proof_timestamp_seconds", s.Path("a.db")); at == 0 {
		t.Error("status does not know of the proof")
	}
	var status struct {
		Databases []standing
	}
	shell.Status(&status)
	if len(status.Databases) != 1 || !status.Databases[0].UpToDate {
		t.Errorf("verneuil_status() has %+v", status.Databases)
	}
	harness.Must(t, os.Rename(s.Path("store"), s.Path("away")))
	s.Write("store", nil) // a file: nothing can be put
	shell.Must("insert into t(b) values(1);")
	harness.Until(t, "status shows what fails", func() bool {
		all := standings(s)
		return !all[0].UpToDate && all[0].LagSeconds > 0 && all[0].Targets[0].Error != ""
	})
	shell.Kill()
	if all := standings(s); all[0].UpToDate || all[0].State != "nobody replicates" {
		t.Errorf("of a killed process: %+v", all[0])
	}
}

// running is verneuilctl run.
type running struct {
	*harness.Process
	metrics string // where
}

func startRun(s *harness.Site, flags ...string) *running {
	s.T.Helper()
	p := harness.Start(s.T, nil, append([]string{harness.Built(s.T, "VERNEUIL_CTL"), "-c",
		s.Config(), "run", "--listen", "127.0.0.1:0"}, flags...)...)
	if !p.Output.Scan() {
		s.T.Fatalf("run says nothing: %s", p.Stderr())
	}
	return &running{p, strings.TrimPrefix(p.Output.Text(), "metrics at ")}
}

// TestRun: it serves what processes leave that are killed, gives way to those that replicate
// themselves, takes over from them, survives its own death, and ends when it is told to.
func TestRun(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			run := startRun(s)
			replicates := func(pid int) {
				t.Helper()
				harness.Until(t, "that process replicates, and is done", func() bool {
					all := standings(s)
					return len(all) == 1 && all[0].Replicator == pid && all[0].UpToDate
				})
			}
			shell := s.Written("a.db", journal)
			shell.Must("insert into t(b) values('before');")
			shell.Kill()
			replicates(run.Command.Process.Pid)
			s.UntilRestored("a.db", "select count(*) from t where b='before'", "1")

			second := s.Shell("a.db") // stands by
			second.Must("insert into t(b) values('while it runs');")
			second.Flush()
			replicates(run.Command.Process.Pid)
			run.Kill()
			second.Must("insert into t(b) values('after it');")
			second.Flush()
			replicates(second.Command.Process.Pid)

			run = startRun(s) // stands by
			second.Must("insert into t(b) values('beside it');")
			second.Flush()
			replicates(second.Command.Process.Pid)
			second.Kill()
			replicates(run.Command.Process.Pid)
			s.UntilRestored("a.db", "select count(*) from t where b='beside it'", "1")

			response, err := http.Get(run.metrics)
			harness.Must(t, err)
			defer response.Body.Close()
			if got := metric(t, bufio.NewReader(response.Body), "verneuil_up_to_date",
				s.Path("a.db")); got != 1 {
				t.Errorf("verneuil_up_to_date is %v", got)
			}
			harness.Must(t, run.Command.Process.Signal(syscall.SIGTERM))
			if code := run.Wait(); code != 0 || run.Stderr() != "" {
				t.Errorf("at SIGTERM: exit code %d, %q", code, run.Stderr())
			}
		})
	}
}

// scrape returns a database's metric, if there is one.
func (r *running) scrape(s *harness.Site, name, db string) (value float64, ok bool) {
	s.T.Helper()
	response, err := http.Get(r.metrics)
	harness.Must(s.T, err)
	defer response.Body.Close()
	return findMetric(s.T, response.Body, name, s.Path(db))
}

// TestRunKnowsProofs: run tells when a database was last proven to restore. One that is idle costs
// it a request when it is first seen, and no other, unless the user wants that.
func TestRunKnowsProofs(t *testing.T) {
	proxy := faultproxy.Start(t, miniotest.Start(t))
	var asks atomic.Int64 // for proofs
	proxy.Set(func(_ int, r *http.Request) faultproxy.Fault {
		if strings.Contains(r.URL.Path, "/proof-") {
			asks.Add(1)
		}
		return faultproxy.Fault{}
	})
	s := harness.S3Site(t, proxy.URL)
	shell := s.Written("a.db", "wal")
	shell.Flush()
	shell.End()
	run := startRun(s)
	// asked waits until run replicates and has asked for the proof, and returns its time.
	asked := func(what string) (at float64) {
		t.Helper()
		harness.Until(t, what, func() bool {
			pid, _ := run.scrape(s, "verneuil_replicator", "a.db")
			_, known := run.scrape(s, "verneuil_last_proof_asked_timestamp_seconds", "a.db")
			return pid == float64(run.Command.Process.Pid) && known
		})
		at, _ = run.scrape(s, "verneuil_last_proof_timestamp_seconds", "a.db")
		return at
	}
	if at := asked("run has asked for the proof"); at != 0 {
		t.Errorf("proven at %v, and nobody has", at)
	}
	for range 20 {
		run.scrape(s, "verneuil_up_to_date", "a.db")
	}
	if n := asks.Load(); n != 1 {
		t.Errorf("20 scrapes of an idle database: %d requests for its proof, want 1", n)
	}
	s.Ctl("verify", "--drill")
	run.Kill()
	run = startRun(s)
	first := asked("the next one has asked")
	if first == 0 {
		t.Error("run does not know of the proof")
	}
	run.Kill()
	run = startRun(s, "--proof-interval", "1ms")
	asked("with an interval, too")
	s.Ctl("verify", "--drill")
	harness.Until(t, "run knows of the next proof", func() bool {
		at, _ := run.scrape(s, "verneuil_last_proof_timestamp_seconds", "a.db")
		return at > first
	})
}

// TestRecorderAlone: a process without Go records, and waits for its commits, while another one
// replicates: in all the ways in which a connection may commit. It has no thread but its own.
func TestRecorderAlone(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Configure(rarely)
			run := startRun(s)
			library := filepath.Join(filepath.Dir(harness.Library(t)), "libverneuil_recorder.so")
			shell := harness.Start(t, []string{s.Env()}, harness.SQLiteShell(t), "-batch")
			shell.Must(".load " + library)
			shell.Must(".open " + s.Path("a.db"))
			shell.Want("pragma journal_mode="+journal+";", journal)
			shell.Want("pragma verneuil_durable=on;", "on")
			shell.Must("create table t(a integer primary key, b);")
			for range 10 {
				shell.Must("insert into t(b) values(randomblob(10000));")
				shell.Want("pragma verneuil_durable_outcome;", "stored")
			}
			shell.Flush()
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", shell.Command.Process.Pid))
			harness.Must(t, err)
			if !strings.Contains(string(status), "\nThreads:\t1\n") {
				t.Errorf("the process has threads: %s", status)
			}
			shell.Kill()
			s.Stock("a.db", "pragma wal_checkpoint(truncate)")
			s.UntilRestored("a.db", "select count(*) from t", "10")
			if run.Stderr() != "" {
				t.Errorf("run says %s", run.Stderr())
			}
		})
	}
}
