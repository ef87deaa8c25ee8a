package remote_test

import (
	"net/http"
	"strings"
	"testing"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// TestTip: at synchronous=OFF a process reads what it has committed before the store has said that
// it has it. It does so only while nobody can have taken over: the answers of the store are lost,
// another machine takes over, and is answered, and the process sees that.
func TestTip(t *testing.T) {
	s := newStage(t, miniotest.Run(t), nil)
	open := func(m *machine) *harness.Process {
		p := harness.Start(t, []string{"VERNEUIL_CONFIG=@" + m.config}, harness.SQLiteShell(t),
			"-batch")
		p.Must(".load " + s.library)
		p.Must(".open file:///rounds/tip.db?vfs=verneuil_remote")
		p.Ask("pragma busy_timeout = 60000;")
		return p
	}
	a := open(s.machines[0])
	a.Must("create table t(v); insert into t values('first'); pragma synchronous = off;")
	b := open(s.machines[1])
	a.Must("begin; insert into t values('early');") // it has the lease from here on
	s.machines[0].proxy.Set(func(_ int, q *http.Request) faultproxy.Fault {
		return faultproxy.Fault{Lose: q.Method == http.MethodPut}
	})
	const read = "select group_concat(v) from t;"
	a.Must("commit;")
	a.Want(read, "first,early")
	b.Must("insert into t values('taken over');")
	want := b.Ask(read)
	if got := a.Ask(read); got != want || !strings.HasSuffix(got, ",taken over") {
		t.Errorf("it reads %q, and %q is there: %s", got, want, a.Stderr())
	}
	s.machines[0].proxy.Set(nil)
	a.Must("pragma synchronous = full; insert into t values('and goes on');")
	b.Want(read, want+",and goes on")
}
