package remote_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"verneuil/spool/faultcall"
	"verneuil/test/e2e/harness"
)

// shell runs sql in SQLite's shell, on databases a and b of the stage's store. It dies before the
// callsLeft'th record is there; 0: never.
func (s *stage) shell(t *testing.T, callsLeft int, a, b, sql string) (out string, killed bool) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.Command(harness.SQLiteShell(t), "-batch", "-bail")
	cmd.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+s.machines[0].config)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	uri := "file:///rounds/%s?vfs=verneuil_remote"
	cmd.Stdin = strings.NewReader(fmt.Sprintf(".load %s\n.timeout 60000\n.open "+uri+
		"\n.timeout 60000\nattach '"+uri+"' as b;\n%s\n", s.library, a, b, sql))
	p, err := faultcall.Start(cmd, func(c faultcall.Call) faultcall.Verdict {
		if c.Name == "renameat2" && strings.Contains(c.Path, "/logs/") {
			callsLeft--
			killed = killed || callsLeft == 0
		}
		return faultcall.Verdict{Kill: killed}
	})
	if err == nil {
		err = p.Wait()
	}
	if err != nil && !killed {
		t.Fatalf("%s: %v\n%s%s", sql, err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), killed
}

// TestTwoDatabases: a process dies anywhere in a transaction that writes to two databases. Then
// each of them has all or nothing of its part, b only if a has it, and both go on.
func TestTwoDatabases(t *testing.T) {
	s := newStage(t, nil, nil)
	const read = "select count(*)||' '||ifnull(sum(length(x)), 0) from main.t;" +
		"select count(*)||' '||ifnull(sum(length(x)), 0) from b.t;"
	seen := map[string]bool{}
	for n := 1; ; n++ {
		a, b := fmt.Sprintf("a%d.db", n), fmt.Sprintf("b%d.db", n)
		s.shell(t, 0, a, b, "create table main.t(x); create table b.t(x);")
		_, killed := s.shell(t, n, a, b, "begin; insert into main.t values(zeroblob(9000));"+
			"insert into b.t values(zeroblob(9000)); insert into main.t values(zeroblob(20000));"+
			"commit;")
		got, _ := s.shell(t, 0, a, b, read)
		seen[got] = true
		switch got {
		case "0 0\n0 0", "2 29000\n0 0", "2 29000\n1 9000":
		default:
			t.Fatalf("killed before record %d: %q", n, got)
		}
		check := "pragma main.integrity_check; pragma b.integrity_check;"
		got, _ = s.shell(t, 0, a, b, "begin; delete from main.t; delete from b.t; commit;"+
			read+check)
		if want := "0 0\n0 0\nok\nok"; got != want {
			t.Fatalf("killed before record %d, and then written to: %q, want %q", n, got, want)
		}
		if !killed {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("no kill between the two commits: %v", seen)
	}
}
