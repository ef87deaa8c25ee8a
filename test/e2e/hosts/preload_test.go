package hosts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestPreload: programs that load no extension replicate, if LD_PRELOAD names the library that has
// SQLite load it.
func TestPreload(t *testing.T) {
	const sql = "create table t(b); insert into t values(randomblob(9000));"
	for name, program := range map[string][]string{
		"shell": {"sqlite3", "FILE", sql},
		"python": {harness.Python, "-c",
			"import sqlite3; sqlite3.connect('FILE').executescript('" + sql + "')"},
		"php": {"php", "-r", "$d = new SQLite3('FILE'); $d->exec('" + sql + "');"},
		"pdo": {"php", "-r", "$d = new PDO('sqlite:FILE'); $d->exec('" + sql + "');"},
		"perl": {"perl", "-MDBI", "-e", "my $d = DBI->connect('dbi:SQLite:dbname=FILE', '', '', " +
			"{sqlite_allow_multiple_statements => 1}); $d->do('" + sql + "');"},
		"sqlite-utils": {harness.Python, "-m", "sqlite_utils", "query", "FILE",
			"create table t as select randomblob(9000) as b"},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.DirSite(t)
			modules := os.Getenv("VERNEUIL_SQLITE_UTILS")
			env := []string{s.Env(), "PYTHONPATH=" + modules,
				"LD_PRELOAD=" + preload(t)}
			if name == "sqlite-utils" {
				if _, err := os.Stat(filepath.Join(modules, "sqlite_utils")); err != nil {
					t.Skipf("no sqlite-utils ('make deps'): %v", err)
				}
			}
			probe := map[string]string{"php": `class_exists("SQLite3") or exit(1);`,
				"pdo": `in_array("sqlite", PDO::getAvailableDrivers()) or exit(1);`}[name]
			if probe != "" {
				probe = "php -r '" + probe + "'"
			} else if name == "perl" {
				probe = "perl -MDBD::SQLite -e1"
			}
			if probe != "" && harness.Run(t, nil, "sh", "-c", probe).Code != 0 {
				t.Skipf("%s fails", probe)
			}
			var argv []string
			for _, a := range program {
				argv = append(argv, strings.ReplaceAll(a, "FILE", s.Path("a.db")))
			}
			if r := harness.Run(t, env, argv...); r.Code != 0 || r.Stderr != "" {
				t.Fatalf("%s: exit code %d: %s%s", name, r.Code, r.Stdout, r.Stderr)
			}
			s.MustEqual("a.db")
		})
	}
}

// TestPreloadSaysWhereItCannot: a program that has an SQLite linked in says that it is not
// replicated, and works; one without any says nothing, and has nothing loaded.
func TestPreloadSaysWhereItCannot(t *testing.T) {
	s := harness.DirSite(t)
	env := []string{s.Env(), "LD_PRELOAD=" + preload(t)}
	r := harness.Run(t, env, harness.Built(t, "VERNEUIL_CTL"), "version")
	if r.Code != 0 || !strings.Contains(r.Stderr, "has an SQLite of its own linked in") {
		t.Errorf("exit code %d, %q", r.Code, r.Stderr)
	}
	r = harness.Run(t, env, "/bin/sh", "-c", "cat /proc/$$/maps")
	if r.Stderr != "" || !strings.Contains(r.Stdout, "libverneuil_preload") ||
		strings.Contains(r.Stdout, "libverneuil_vfs") {
		t.Errorf("a program without SQLite: %q, it has %s", r.Stderr, r.Stdout)
	}
}

// preload returns the path of the library for LD_PRELOAD.
func preload(t *testing.T) string {
	t.Helper()
	return filepath.Join(filepath.Dir(harness.Library(t)), "libverneuil_preload.so")
}
