package remote_test

import (
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
