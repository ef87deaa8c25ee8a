package remote_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
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

// TestWritesAtOnce: a connection that writes needs no busy timeout while another one of its process
// waits for the store, nor does it wait for that: COMMIT does.
func TestWritesAtOnce(t *testing.T) {
	s := newStage(t, miniotest.Run(t), nil)
	m := s.machines[0]
	config, err := os.ReadFile(m.config)
	harness.Must(t, err)
	patient := strings.Replace(string(config), `"remote_deadline_ms":3000`,
		`"remote_deadline_ms":300000`, 1)
	s.Write("patient.json", []byte(patient))
	p := harness.Start(t, []string{"VERNEUIL_CONFIG=@" + s.Path("patient.json")},
		harness.SQLiteShell(t), "-batch")
	p.Must(".load " + s.library)
	for _, number := range []string{"1", "0"} {
		p.Must(".connection " + number)
		p.Must(".open file:///rounds/atonce.db?vfs=verneuil_remote")
		p.Must("pragma synchronous = off; create table if not exists t(v);")
	}
	p.Must("insert into t values('first');")
	held := make(chan struct{})
	m.proxy.Set(func(_ int, q *http.Request) faultproxy.Fault {
		if q.Method == http.MethodPut {
			return faultproxy.Fault{Hold: held}
		}
		return faultproxy.Fault{}
	})
	const writes = "begin immediate; insert into t values('%s'); commit;"
	for i := range 6 {
		p.Must(".connection " + strconv.Itoa(i%2))
		p.Must(fmt.Sprintf(writes, strconv.Itoa(i)))
	}
	close(held)
	m.proxy.Set(nil)
	p.Want("select group_concat(v) from t;", "first,0,1,2,3,4,5")
}
