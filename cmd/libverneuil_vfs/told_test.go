package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// unreplicated is an entry of verneuil_status()'s not_replicated.
type unreplicated struct {
	Path, Reason string
	More         int
}

// notReplicated returns what verneuil_status() lists, by path.
func (s *session) notReplicated() map[string]string {
	s.t.Helper()
	var status struct {
		List []unreplicated `json:"not_replicated"`
	}
	s.status(&status)
	reasons := make(map[string]string)
	for _, u := range status.List {
		if u.Path != "" {
			reasons[u.Path] = u.Reason
		}
	}
	return reasons
}

// logForm is the form of each line, of C and of Go (vfs.NewLogger).
var logForm = regexp.MustCompile(`^verneuil: time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(ERROR|WARN|INFO|DEBUG) msg=("(\\.|[^"\\])*"|[^" ]+)( [a-z_]+=("(\\.|[^"\\])*"|[^" ]+))*$`)

// TestLogForm: C and Go write lines of one form, whatever the names in them.
func TestLogForm(t *testing.T) {
	s := dirSite(t)
	shell := s.shell("a.db", "VERNEUIL_LOG=debug")
	shell.must("create table t(b);")
	shell.flush()                                      // Go logs the push
	must(t, os.Mkdir(s.path("x\" \n\xff\x1b"), 0o700)) // C logs the name
	must(t, os.Symlink("nothing", s.path("elsewhere")))
	s.write("verneuil.json", fmt.Appendf(nil, `{"make_default": true, "replication_spooling_dir": %q}`, s.path("elsewhere")))
	second := s.shell("", "VERNEUIL_LOG=debug")
	second.ask(".open 'file:" + s.dir + "/x%22%20%0a%ff%1b/b.db?vfs=verneuil'")
	second.ask("create table t(b);")
	for name, said := range map[string]string{"Go": shell.stderr(), "C": second.stderr()} {
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		for _, line := range lines {
			if !logForm.MatchString(line) {
				t.Errorf("%s: not of the form: %q", name, line)
			}
		}
		t.Logf("%s: %d lines", name, len(lines))
	}
	if want := `b.db"`; !strings.Contains(second.stderr(), want) || !strings.Contains(shell.stderr(), "msg=pushed") {
		t.Errorf("C and Go have not both logged: %s%s", shell.stderr(), second.stderr())
	}
	shell.endsWith(0)
	second.endsWith(0)
}

// TestToldOnce: a reason is logged once for each database, and listed; when the database is
// replicated it is listed no more; what is listed is bounded.
func TestToldOnce(t *testing.T) {
	s := dirSite(t)
	must(t, os.Symlink("nothing", s.path("spool")))
	shell := s.shell("")
	for range 3 {
		shell.ask(".open " + s.path("a.db"))
		shell.must("create table if not exists t(b);")
	}
	const reason = "symbolic link"
	if why := shell.notReplicated()[s.path("a.db")]; !strings.Contains(why, reason) {
		t.Errorf("verneuil_status() says %q, want %q", why, reason)
	}
	if n := strings.Count(shell.stderr(), reason); n != 1 {
		t.Errorf("said %d times, want once: %s", n, shell.stderr())
	}
	for i := range 300 {
		shell.ask(fmt.Sprintf(".open %s/%d.db", s.dir, i))
		shell.ask("pragma user_version;")
	}
	if n := len(shell.notReplicated()); n != 256 {
		t.Errorf("%d are listed, want 256", n)
	}
	if text := shell.ask("select verneuil_status();"); !json.Valid([]byte(text)) || !strings.Contains(text, `{"more":45}`) {
		t.Errorf("it is not said how many there are more: %.2000s", text)
	}
	must(t, os.Remove(s.path("spool")))
	shell.ask(".open " + s.path("a.db"))
	shell.flush()
	if why, ok := shell.notReplicated()[s.path("a.db")]; ok {
		t.Errorf("it is replicated, and verneuil_status() says why not: %s", why)
	}
	shell.endsWith(0)
}
