package hosts_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestSignalsOfAnotherGo: where the runtime's table of signals is not what the library knows, as it
// may be in another version of Go, that is told, with what follows from it, and all else works.
func TestSignalsOfAnotherGo(t *testing.T) {
	const known, told = "SIGCHLD: child", "the Go runtime's table of signals was not found"
	s := harness.DirSite(t)
	library, err := os.ReadFile(harness.Library(t))
	harness.Must(t, err)
	other := bytes.ReplaceAll(library, []byte(known), []byte("SIGCHLD; child"))
	if bytes.Equal(other, library) {
		t.Fatalf("%q does not stand in the library", known)
	}
	s.Write("libverneuil_vfs.so", other)
	for _, c := range []struct {
		library string
		tells   bool
	}{{harness.Library(t), false}, {s.Path("libverneuil_vfs.so"), true}} {
		db := s.Path(filepath.Base(filepath.Dir(c.library)) + ".db")
		r := harness.Run(t, []string{s.Env()}, harness.SQLiteShell(t), "-batch",
			"-cmd", ".load "+c.library, ":memory:", ".open "+db,
			"create table t(x);", "pragma verneuil_flush_replication_data;")
		if r.Code != 0 || r.Stdout != "1\n" {
			t.Errorf("%s: exit code %d: %q, want 1: %s", c.library, r.Code, r.Stdout, r.Stderr)
		}
		if tells := strings.Contains(r.Stderr, told); tells != c.tells {
			t.Errorf("%s: it is told: %v, want %v: %s", c.library, tells, c.tells, r.Stderr)
		}
	}
}
