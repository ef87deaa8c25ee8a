package hosts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// unreplicated is an entry of verneuil_status()'s not_replicated.
type unreplicated struct {
	Path, Reason string
	More         int
}

// notReplicated returns what verneuil_status() lists, by path.
func notReplicated(s *harness.Process) map[string]string {
	s.T.Helper()
	var status struct {
		List []unreplicated `json:"not_replicated"`
	}
	s.Status(&status)
	reasons := make(map[string]string)
	for _, u := range status.List {
		if u.Path != "" {
			reasons[u.Path] = u.Reason
		}
	}
	return reasons
}

// logForm is the form of each line, of C and of Go (vfs.NewLogger).
var logForm = regexp.MustCompile(
	`^verneuil: time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(ERROR|WARN|INFO|DEBUG)` +
		` msg=("(\\.|[^"\\])*"|[^" ]+)( [a-z_]+=("(\\.|[^"\\])*"|[^" ]+))*$`)

// TestLogForm: C and Go write lines of one form, whatever the names in them.
func TestLogForm(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Shell("a.db", "VERNEUIL_LOG=debug")
	shell.Must("create table t(b);")
	shell.Flush()                                              // Go logs the push
	harness.Must(t, os.Mkdir(s.Path("x\" \n\xff\x1b"), 0o700)) // C logs the name
	harness.Must(t, os.Symlink("nothing", s.Path("elsewhere")))
	s.Write("verneuil.json", fmt.Appendf(nil,
		`{"make_default": true, "replication_spooling_dir": %q}`, s.Path("elsewhere")))
	second := s.Shell("", "VERNEUIL_LOG=debug")
	second.Ask(".open 'file:" + s.Dir + "/x%22%20%0a%ff%1b/b.db?vfs=verneuil'")
	second.Ask("create table t(b);")
	for name, said := range map[string]string{"Go": shell.Stderr(), "C": second.Stderr()} {
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		for _, line := range lines {
			if !logForm.MatchString(line) {
				t.Errorf("%s: not of the form: %q", name, line)
			}
		}
		t.Logf("%s: %d lines", name, len(lines))
	}
	if want := `b.db"`; !strings.Contains(second.Stderr(), want) ||
		!strings.Contains(shell.Stderr(), "msg=pushed") {
		t.Errorf("C and Go have not both logged: %s%s", shell.Stderr(), second.Stderr())
	}
	shell.EndsWith(0)
	second.EndsWith(0)
}

// TestToldOnce: a reason is logged once for each database, and listed; when the database is
// replicated it is listed no more; what is listed is bounded.
func TestToldOnce(t *testing.T) {
	s := harness.DirSite(t)
	harness.Must(t, os.Symlink("nothing", s.Path("spool")))
	shell := s.Shell("")
	for range 3 {
		shell.Ask(".open " + s.Path("a.db"))
		shell.Must("create table if not exists t(b);")
	}
	const reason = "symbolic link"
	if why := notReplicated(shell)[s.Path("a.db")]; !strings.Contains(why, reason) {
		t.Errorf("verneuil_status() says %q, want %q", why, reason)
	}
	if n := strings.Count(shell.Stderr(), reason); n != 1 {
		t.Errorf("said %d times, want once: %s", n, shell.Stderr())
	}
	for i := range 300 {
		shell.Ask(fmt.Sprintf(".open %s/%d.db", s.Dir, i))
		shell.Ask("create table t(b);")
	}
	if n := len(notReplicated(shell)); n != 256 {
		t.Errorf("%d are listed, want 256", n)
	}
	if text := shell.Ask("select verneuil_status();"); !json.Valid([]byte(text)) ||
		!strings.Contains(text, `{"more":45}`) {
		t.Errorf("it is not said how many there are more: %.2000s", text)
	}
	harness.Must(t, os.Remove(s.Path("spool")))
	shell.Ask(".open " + s.Path("a.db"))
	shell.Flush()
	if why, ok := notReplicated(shell)[s.Path("a.db")]; ok {
		t.Errorf("it is replicated, and verneuil_status() says why not: %s", why)
	}
	shell.EndsWith(0)
}

// silentStates are the states in which a database that its user may believe to be replicated is
// not, each with what the log, verneuil_status(), the pragma and the function must say of it.
var silentStates = map[string]struct {
	config  map[string]any // changes of it; the value of "" is VERNEUIL_CONFIG itself
	uri     string         // parameters
	reason  string
	heard   bool // the pragma is: the database goes through our VFS
	unnamed bool // neither the log nor the status speak of it: nobody writes
}{
	"no make_default": {config: map[string]any{"make_default": false},
		reason: "make_default is not set"},
	"no configuration": {config: map[string]any{"": ""},
		reason: "VERNEUIL_CONFIG is not set"},
	"no configuration, ours": {config: map[string]any{"": ""}, uri: "vfs=verneuil",
		reason: "VERNEUIL_CONFIG is not set", heard: true},
	"no such file": {config: map[string]any{"": "@/none.json"},
		reason: "/none.json: No such file"},
	"no JSON": {config: map[string]any{"": "{"}, reason: "malformed JSON"},
	"a path without @": {config: map[string]any{"": "/etc/verneuil.json"},
		reason: "want a JSON object, or @ and the path"},
	"a list": {config: map[string]any{"": `[{"make_default": true}]`},
		reason: "want a JSON object, or @ and the path"},
	"no spool": {config: map[string]any{"replication_spooling_dir": nil},
		reason: "replication_spooling_dir is not set", heard: true},
	"no targets": {config: map[string]any{"replication_targets": []any{}},
		reason: "no s3 or dir target", heard: true},
	"unknown key": {config: map[string]any{"hostnam": "x"},
		reason: "hostnam: unknown key", heard: true},
	"nolock": {uri: "nolock=1", reason: "nolock=1", heard: true},
	"nolock, read-only": {uri: "nolock=1&mode=ro", reason: "nolock=1", heard: true,
		unnamed: true},
	"immutable": {uri: "immutable=1", reason: "immutable=1", heard: true,
		unnamed: true},
}

// TestSilentStates: it does not replicate, and that is told.
func TestSilentStates(t *testing.T) {
	for name, test := range silentStates {
		t.Run(name, func(t *testing.T) {
			s := harness.DirSite(t)
			s.Stock("a.db", "create table t(b)")
			config := s.Config()
			if text, ok := test.config[""]; ok {
				config = text.(string)
			} else {
				s.Configure(test.config)
			}
			shell := s.Shell("", "VERNEUIL_CONFIG="+config)
			shell.Ask(".open 'file:" + s.Path("a.db") + "?" + test.uri + "'")
			shell.Want("select count(*) from t;", "0")
			n := 1
			if test.unnamed {
				n = 0
			}
			if said := shell.Stderr(); strings.Count(said, "not replicated: ") != n ||
				n == 1 && !strings.Contains(said, test.reason) {
				t.Errorf("the log does not say %q, %d times: %s", test.reason, n, said)
			}
			if why, ok := notReplicated(shell)[s.Path("a.db")]; ok != (n == 1) ||
				!strings.Contains(why, test.reason) && n == 1 {
				t.Errorf("verneuil_status() says %q, want %q", why, test.reason)
			}
			before := len(shell.Stderr())
			for _, function := range []string{"verneuil_replicated()", "verneuil_flush()"} {
				answer := shell.Ask("select " + function + ";")
				said := shell.Stderr()[before:]
				if before += len(said); answer != "" ||
					!strings.Contains(said, "database main is not replicated: ") ||
					!strings.Contains(said, test.reason) {
					t.Errorf("%s answers %q: %s", function, answer, said)
				}
			}
			if test.heard {
				before := len(shell.Stderr())
				if shell.Refused(); !strings.Contains(shell.Stderr()[before:], test.reason) {
					t.Errorf("the pragma does not say %q: %s", test.reason, shell.Stderr()[before:])
				}
				shell.Want("pragma verneuil_flush_replication_data(off);", "0")
			} else if answer := shell.Ask("pragma verneuil_flush_replication_data;"); answer != "" {
				t.Errorf("the pragma answers %q", answer)
			}
			shell.End()
		})
	}
}

// TestFlushFunction: verneuil_flush() answers an integer, for any database of the connection;
// verneuil_replicated() says the same of it without asking the target.
func TestFlushFunction(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Shell("a.db")
	shell.Must("create table t(b);")
	shell.Must("attach '" + s.Path("b.db") + "' as other;")
	shell.Must("create table other.t(b);")
	shell.Want("select verneuil_flush(), typeof(verneuil_flush('main')), verneuil_flush(null), "+
		"verneuil_flush('other');", "1|integer|1|1")
	s.MustEqual("a.db")
	s.MustEqual("b.db")
	harness.Must(t, os.Rename(s.Path("store"), s.Path("away")))
	s.Write("store", nil) // no directory
	shell.Must("insert into t values(1);")
	shell.Want("select verneuil_flush();", "0")
	shell.Want("select verneuil_replicated(), verneuil_replicated('other');", "1|1") // nobody asks
	harness.Must(t, os.Remove(s.Path("store")))
	harness.Must(t, os.Rename(s.Path("away"), s.Path("store")))
	shell.Want("select verneuil_flush('MAIN');", "1")
	shell.Must("attach 'file:" + s.Path("c.db") + "?vfs=unix' as stock;")
	shell.Must("create table stock.t(b);")
	shell.Must("attach ':memory:' as memory;")
	shell.Must("create temp table u(b);")
	for schema, want := range map[string]string{"stock": "vfs=unix",
		"memory": "an in-memory or temporary database",
		"temp":   "an in-memory or temporary database",
		"none":   "no such database: none"} {
		for _, function := range []string{"verneuil_flush", "verneuil_replicated"} {
			before := len(shell.Stderr())
			answer := shell.Ask("select " + function + "('" + schema + "');")
			said := shell.Stderr()[before:]
			if answer != "" || !strings.Contains(said, function+": ") ||
				!strings.Contains(said, want) {
				t.Errorf("%s('%s') answers %q, and does not say %q: %s", function, schema, answer,
					want, said)
			}
		}
	}
	shell.End()
}

// TestOutageIsTold: at the default level a target that fails gets one line, whatever the number of
// databases and attempts, and one when it is well again. Unsent data at exit gets one, too.
func TestOutageIsTold(t *testing.T) {
	s := harness.DirSite(t)
	s.Write("store", nil) // no directory
	shell := s.Shell("")
	shell.Must(".open ':memory:'")
	for i := range 5 {
		shell.Must(fmt.Sprintf("attach '%s/%d.db' as d%d;", s.Dir, i, i))
		shell.Must(fmt.Sprintf("create table d%d.t(b);", i))
	}
	for range 3 { // more attempts
		for i := range 5 {
			shell.Want(fmt.Sprintf("select verneuil_flush('d%d');", i), "0")
		}
	}
	const begins, ends = "level=WARN msg=\"target failed", "level=WARN msg=\"target works again\""
	if said := shell.Stderr(); strings.Count(said, "\n") != 1 || !strings.Contains(said, begins) ||
		!strings.Contains(said, "not a directory") {
		t.Errorf("want one line that says %s: %s", begins, said)
	}
	harness.Must(t, os.Remove(s.Path("store")))
	for i := range 5 {
		shell.Want(fmt.Sprintf("select verneuil_flush('d%d');", i), "1")
	}
	if said := shell.Stderr(); strings.Count(said, "\n") != 2 || !strings.Contains(said, ends) ||
		!strings.Contains(said, "databases=5") {
		t.Errorf("want one line more, that says %s: %s", ends, said)
	}
	harness.Must(t, os.Rename(s.Path("store"), s.Path("away")))
	s.Write("store", nil)
	for i := range 5 {
		shell.Must(fmt.Sprintf("insert into d%d.t values(1);", i))
	}
	shell.EndsWith(0)
	said := shell.Stderr()
	if strings.Count(said, "process ends with unsent data") != 1 ||
		!strings.Contains(said, "spools=5") {
		t.Errorf("unsent data is not told, once: %s", said)
	}
}
