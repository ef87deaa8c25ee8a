package remote_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/spool/faultcall"
	"verneuil/test/e2e/harness"
)

// sqlite is the shell on a machine, which is about to run sql on a database.
func (s *stage) sqlite(t *testing.T, m *machine, db, sql string) (cmd *exec.Cmd,
	out *strings.Builder) {
	t.Helper()
	out = new(strings.Builder)
	cmd = exec.Command(harness.SQLiteShell(t), "-batch", "-bail")
	cmd.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+m.config)
	cmd.Stdout = out
	cmd.Stdin = strings.NewReader(fmt.Sprintf(".load %s\n.timeout 60000\n"+
		".open file:///rounds/%s?vfs=verneuil_remote\n.timeout 60000\n%s\n", s.library, db, sql))
	return cmd, out
}

// TestStopped: a process stops just before one of its records is there, and somebody deletes the
// locks of the directory that is the store. Another machine takes over nevertheless, and when the
// process goes on, it replaces nothing: what either was told that it has committed is there.
func TestStopped(t *testing.T) {
	s := newStage(t, nil, nil)
	for n := 1; ; n++ {
		db := fmt.Sprintf("%d.db", n)
		cmd, said := s.sqlite(t, s.machines[0], db, "create table if not exists t(v);\n"+
			"insert into t values('a');\nselect 'done';")
		var other error
		left := n
		p, err := faultcall.Start(cmd, func(c faultcall.Call) (v faultcall.Verdict) {
			if !strings.HasPrefix(c.Name, "renameat") || !strings.Contains(c.Path, "/logs/") {
				return v
			}
			if left--; left == 0 {
				locks, err := filepath.Glob(s.Path("store/chunks/logs/*/.lock"))
				for _, lock := range locks {
					os.Remove(lock)
				}
				b, _ := s.sqlite(t, s.machines[1], db,
					"create table if not exists t(v);\ninsert into t values('b');")
				if other = err; other == nil {
					other = b.Run()
				}
			}
			return v
		})
		harness.Must(t, err)
		p.Wait() // it may have lost its commit
		if other != nil {
			t.Fatalf("stopped before record %d: the other machine: %v", n, other)
		}
		cmd, out := s.sqlite(t, s.machines[0], db,
			"select count(*) filter (where v = 'a'), count(*) filter (where v = 'b') from t;")
		harness.Must(t, cmd.Run())
		want := []byte("0|0\n")
		if strings.Contains(said.String(), "done") {
			want[0] = '1'
		}
		if left <= 0 {
			want[2] = '1'
		}
		if out.String() != string(want) {
			t.Fatalf("stopped before record %d: rows of the two are %q, want %q", n, out, want)
		}
		if left > 0 {
			if n < 3 {
				t.Errorf("there were %d records", n-1)
			}
			return
		}
	}
}
