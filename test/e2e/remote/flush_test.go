package remote_test

import (
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestFlush: what COMMIT has answered for with synchronous=OFF is in the store once a flush has
// answered 1, whatever becomes of the process.
func TestFlush(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"remote_commit_interval_ms": 3600_000,
		"remote_deadline_ms": 3600_000, "stores": map[string]any{
			"s": map[string]any{"dir": map[string]any{"path": s.Path("remote")}}}})
	open := func() *harness.Process {
		p := s.Shell("")
		p.Must(".open file:///s/flush.db?vfs=verneuil_remote")
		return p
	}
	p := open()
	p.Must("create table t(v);")
	p.Flush()
	p.Must("pragma synchronous=off;")
	p.Must("insert into t values('flushed');")
	p.Flush()
	p.Must("insert into t values('lost');")
	p.Kill()
	open().Want("select group_concat(v) from t;", "flushed")
}

// TestDurable: the pragmas and functions that tell of durable commits tell of a database in a store
// what holds there: a COMMIT waits, but with synchronous=OFF.
func TestDurable(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"remote_commit_interval_ms": 3600_000,
		"remote_deadline_ms": 3600_000, "stores": map[string]any{
			"s": map[string]any{"dir": map[string]any{"path": s.Path("remote")}}}})
	p := s.Shell("")
	p.Must(".open file:///s/durable.db?vfs=verneuil_remote")
	const mode, outcome = "pragma verneuil_durable;", "pragma verneuil_durable_outcome;"
	p.Want(mode, "on")
	p.Want(outcome, "none: no commit of this connection has waited")
	for _, asked := range []string{"on", "any", "1", "off"} {
		p.Want("pragma verneuil_durable="+asked+";", "on")
	}
	refused := func(line, why string) {
		t.Helper()
		before := p.Stderr()
		answer := p.Ask(line)
		if said := p.Stderr()[len(before):]; answer != "" || !strings.Contains(said, why) {
			t.Errorf("%s: %q, %q", line, answer, said)
		}
	}
	refused("pragma verneuil_durable=perhaps;", "none of on")
	p.Must("create table t(v);")
	p.Want(outcome, "stored")
	p.Must("pragma synchronous=off;")
	p.Want(mode, "off")
	p.Must("insert into t values(1);")
	if said := p.Ask(outcome); !strings.HasPrefix(said, "pending: with synchronous=OFF") {
		t.Errorf("a commit that has not waited: %q", said)
	}
	refused("pragma verneuil_durable=on;", "synchronous=NORMAL")
	p.Want("select verneuil_flush();", "1")
	p.Want(outcome, "stored, but after COMMIT had returned")
	p.Must("pragma synchronous=full;")
	p.Want(mode, "on")
	p.Must("insert into t values(2);")
	p.Want(outcome, "stored")
	p.Must("begin; insert into t values(3); rollback;")
	p.Want(outcome, "stored")
	p.Must("begin immediate; insert into t values(4);")
	s.Ctl("lock", "break", "--force", "file:///s/durable.db")
	refused("commit;", "taken the database over")
	if said := p.Ask(outcome); !strings.HasPrefix(said, "failed: ") {
		t.Errorf("a commit that has failed: %q", said)
	}
	p.Want("select group_concat(v) from t;", "1,2")
	p.Must("insert into t values(5);")
	p.Want(outcome, "stored")
}
