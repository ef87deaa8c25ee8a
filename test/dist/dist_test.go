package dist

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// place is where one package is installed and used: a directory, and an environment that knows
// nothing of what was built beside it.
type place struct {
	*testing.T
	dir string
	env []string
}

// newPlace returns a place with a configuration, of a store in its directory.
func newPlace(t *testing.T, makeDefault bool) *place {
	t.Helper()
	p := &place{T: t, dir: t.TempDir()}
	p.write("verneuil.json", fmt.Sprintf(`{"make_default": %t,
		"replication_spooling_dir": "%s/spool", "replication_targets": [{"dir": {"path": "%s/store"}}]}`, makeDefault, p.dir, p.dir))
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "VERNEUIL_") {
			p.env = append(p.env, entry)
		}
	}
	p.env = append(p.env, "VERNEUIL_CONFIG=@"+p.path("verneuil.json"), "HOME="+p.dir,
		"VERNEUIL_LOG=error")
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name, text string) {
	p.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

// try runs a program there, and returns what it says.
func (p *place) try(argv ...string) (string, error) {
	command := exec.CommandContext(p.Context(), argv[0], argv[1:]...)
	command.Dir, command.Env = p.dir, p.env
	out, err := command.CombinedOutput()
	return string(out), err
}

// run is try of what must succeed.
func (p *place) run(argv ...string) string {
	p.Helper()
	out, err := p.try(argv...)
	if err != nil {
		p.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return out
}

// says runs a program that must succeed and say want.
func (p *place) says(want string, argv ...string) {
	p.Helper()
	if got := p.run(argv...); got != want {
		p.Errorf("%q says %q, want %q", argv, got, want)
	}
}

// restores restores app.db with an installed tool, once the database itself is gone, and compares
// what is in it with want.
func (p *place) restores(tool, want string) {
	p.Helper()
	if err := os.Rename(p.path("app.db"), p.path("gone.db")); err != nil {
		p.Fatal(err)
	}
	p.run(tool, "restore", "app.db", "--out", "restored.db")
	p.says(want, "sqlite3", "restored.db", "select group_concat(x) from t")
	if out := p.run(tool, "version"); !strings.Contains(out, version(p.T)) {
		p.Errorf("the tool is of another version than the package: %s", out)
	}
}

// made returns the package of that pattern.
func made(t *testing.T, pattern string) string {
	t.Helper()
	dir := os.Getenv("VERNEUIL_DIST")
	if dir == "" {
		t.Skip("VERNEUIL_DIST is not set: make dist sets it")
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %q, %v", pattern, dir, found, err)
	}
	return found[0]
}

// version is that of the source.
func version(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../vfs/engine.go")
	if err != nil {
		t.Fatal(err)
	}
	v := regexp.MustCompile(`const Version = "(.*)"`).FindSubmatch(text)
	if v == nil {
		t.Fatal("vfs/engine.go has no version")
	}
	return string(v[1])
}

// needs leaves a test out where a program is not installed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s (make deps, or make dist, installs it on Debian)", program)
		}
	}
}

// TestVersionStandsOnce: names and contents of packages have the source's version.
func TestVersionStandsOnce(t *testing.T) {
	dir := filepath.Dir(made(t, "*.deb"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Name() == "Containerfile" {
			continue
		}
		if n++; !strings.Contains(e.Name(), version(t)) {
			t.Errorf("%s is not of version %s", e.Name(), version(t))
		}
	}
	if n < 4 {
		t.Errorf("%d packages in %s", n, dir)
	}
}

// TestTag: the wheel's tag and the Debian package's dependency are what binutils finds that the
// two files ask for.
func TestTag(t *testing.T) {
	needs(t, "objdump", "dpkg-deb")
	wheel := made(t, "*.whl")
	newest := 0
	for _, file := range []string{os.Getenv("VERNEUIL_LIB"), os.Getenv("VERNEUIL_CTL")} {
		out, err := exec.Command("objdump", "-T", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`GLIBC_2\.(\d+)`).FindAllSubmatch(out, -1) {
			var minor int
			if _, err := fmt.Sscan(string(m[1]), &minor); err != nil {
				t.Fatal(err)
			}
			newest = max(newest, minor)
		}
	}
	if want := fmt.Sprintf("-py3-none-manylinux_2_%d_", newest); !strings.Contains(wheel, want) {
		t.Errorf("%s is not tagged %s", wheel, want)
	}
	depends, err := exec.Command("dpkg-deb", "-f", made(t, "*.deb"), "Depends").Output()
	if want := fmt.Sprintf("libc6 (>= 2.%d)\n", newest); err != nil || string(depends) != want {
		t.Errorf("the Debian package depends on %q, want %q (%v)", depends, want, err)
	}
}

// TestTarball: make install, then the sqlite3 shell, and a program in C that pkg-config tells how
// to link.
func TestTarball(t *testing.T) {
	p := newPlace(t, true)
	p.run("tar", "xzf", made(t, "*.tar.gz"))
	source := strings.TrimSuffix(filepath.Base(made(t, "*.tar.gz")), ".tar.gz")
	root := p.path("opt/verneuil")
	p.run("make", "-C", source, "install", "PREFIX="+root)
	p.says("1\n", "sqlite3", ":memory:", ".load "+root+"/lib/libverneuil_vfs", ".open app.db",
		"create table t(x)", "insert into t values(7)", "select verneuil_flush()")
	p.says("7\n", root+"/bin/verneuilctl", "shell", "app.db", "--", "select x from t")
	p.restores(root+"/bin/verneuilctl", "7\n")
	for _, file := range []string{"share/man/man1/verneuilctl-restore.1",
		"share/bash-completion/completions/verneuilctl", "share/doc/verneuil/configuration.md"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	out := p.run("bash", "-c", "source "+root+"/share/bash-completion/completions/verneuilctl && "+
		"complete -p verneuilctl")
	if !strings.Contains(out, "__start_verneuilctl") {
		t.Errorf("bash completes verneuilctl by %q", out)
	}
	t.Run("pkg-config", func(t *testing.T) { links(t, root) })
}

// links builds a program in C against what is installed in root.
func links(t *testing.T, root string) {
	needs(t, "gcc", "pkg-config")
	p := newPlace(t, false)
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/mattn/go-sqlite3").Output()
	if err != nil {
		t.Fatal(err)
	}
	// The system's SQLite, which may have come without its header and its pkg-config file.
	p.write("sqlite3.h", "#include <"+strings.TrimSpace(string(headers))+"/sqlite3-binding.h>\n")
	p.write("sqlite3.pc", "Name: sqlite3\nDescription: SQLite\nVersion: 3\nCflags: -I"+p.dir+
		"\nLibs: -l:libsqlite3.so.0\n")
	p.env = append(p.env, "PKG_CONFIG_PATH="+root+"/lib/pkgconfig:"+p.dir,
		"LD_LIBRARY_PATH="+root+"/lib")
	p.says(version(t)+"\n", "pkg-config", "--modversion", "verneuil_vfs")
	p.write("app.c", linked)
	p.run("sh", "-c", "gcc -Wall -Wextra -Werror app.c -o app "+
		"$(pkg-config --cflags --libs verneuil_vfs)")
	p.says("7\n1\n", p.path("app"))
	p.restores(root+"/bin/verneuilctl", "7\n")
}

const linked = `#include <verneuil_vfs.h>
#include <stdio.h>
static int print(void *p, int n, char **values, char **names) {
  (void)p, (void)n, (void)names;
  return puts(values[0]) < 0;
}
int main(void) {
  sqlite3 *first, *db;
  char *error = 0;
  sqlite3_auto_extension((void (*)(void))sqlite3_verneuilvfs_init);
  if (sqlite3_open(":memory:", &first)) return 1;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (sqlite3_open_v2("app.db", &db, flags, "verneuil")) return 2;
  if (sqlite3_exec(db, "create table t(x); insert into t values(7); select x from t;"
                       "select verneuil_flush()", print, 0, &error)) return 3;
  return sqlite3_close(db) || sqlite3_close(first);
}
`

// TestWheel: pip installs it into a new environment, without an index.
func TestWheel(t *testing.T) {
	wheel := made(t, "*.whl")
	if exec.Command("/usr/bin/python3", "-c", "import venv, ensurepip").Run() != nil {
		t.Skip("no python3-venv (make deps installs it on Debian)")
	}
	p := newPlace(t, false)
	p.run("/usr/bin/python3", "-m", "venv", "venv")
	p.run("venv/bin/pip", "install", "-q", "--disable-pip-version-check", "--no-index", wheel)
	p.write("app.py", `
import os, pathlib, sqlite3, verneuil
db = verneuil.connect(pathlib.Path("app.db"), timeout=7)
db.execute("create table t(x)")
db.execute("insert into t values(7)")
db.commit()
print(db.execute("select verneuil_flush()").fetchone()[0])
verneuil.assert_replicated(db)
print(verneuil.connect("file:app.db?mode=ro", uri=True).execute("select x from t").fetchone()[0])

def refused(what, why):
    try:
        what()
    except verneuil.NotReplicatedError as error:
        assert why in str(error), error
    else:
        raise AssertionError(why)

refused(lambda: verneuil.connect(":memory:"), "in memory")
refused(lambda: verneuil.assert_replicated(sqlite3.connect("app.db")), "make_default is not set")
verneuil.load(sqlite3.connect("app.db"))
assert os.path.exists(verneuil.loadable_path())
# A name with everything in it that a URI gives a meaning.
odd = verneuil.connect("100% ?#&=.db")
odd.execute("create table t(x)")
assert os.path.exists("100% ?#&=.db")
`)
	p.says("1\n7\n", "venv/bin/python", "app.py")
	p.write("unset.py", `
import os, verneuil
os.environ.pop("VERNEUIL_CONFIG")
try:
    verneuil.connect("other.db")
except verneuil.NotReplicatedError as error:
    print(error)
`)
	out := p.run("venv/bin/python", "unset.py")
	if !strings.Contains(out, "VERNEUIL_CONFIG is not set") {
		t.Errorf("without a configuration it says %q", out)
	}
	p.says("7\n", "venv/bin/verneuilctl", "shell", "app.db", "--", "select x from t")
	p.restores("venv/bin/verneuilctl", "7\n")
}

// npm installs the package into a new place, without an index.
func npm(t *testing.T, makeDefault bool) *place {
	t.Helper()
	archive := made(t, "*.tgz")
	needs(t, "npm")
	p := newPlace(t, makeDefault)
	p.write("package.json", `{"private": true}`)
	p.run("npm", "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error",
		"--cache", p.path("cache"), archive)
	return p
}

const writes = `
db.exec("create table t(x)");
db.exec("insert into t values(7)");
console.log(db.prepare("select verneuil_flush() as safe").get().safe);
verneuil.assertReplicated(db);
`

// TestBetterSQLite3: the package for npm, with better-sqlite3 beside it.
func TestBetterSQLite3(t *testing.T) {
	better := os.Getenv("VERNEUIL_NODE")
	if _, err := os.Stat(better + "/built"); err != nil {
		t.Skip("no better-sqlite3 was built (make deps says why)")
	}
	p := npm(t, true)
	p.env = append(p.env, "NODE_PATH="+better+"/node_modules")
	p.write("app.js", `const verneuil = require("verneuil");
const db = verneuil.connect("app.db", { timeout: 7000 });`+writes)
	p.says("1\n", "node", "app.js")
	p.says("7\n", "node_modules/.bin/verneuilctl", "shell", "app.db", "--", "select x from t")
	p.write("verneuil.json",
		strings.Replace(read(t, p.path("verneuil.json")), "true", "false", 1))
	p.write("loud.js", `const verneuil = require("verneuil");
const Database = require("better-sqlite3");
for (const open of [() => verneuil.connect("loud.db"),
                    () => verneuil.assertReplicated(new Database("loud.db")),
                    () => verneuil.connect(":memory:")])
  try {
    open();
    console.log("nothing was said");
  } catch (error) {
    console.log(error.name, error.message);
  }
`)
	out := p.run("node", "loud.js")
	if strings.Count(out, "NotReplicatedError ") != 3 || !strings.Contains(out, "in memory") ||
		strings.Count(out, "make_default is not set") != 2 {
		t.Errorf("it is not loud: %s", out)
	}
	p.write("early.js", `const verneuil = require("verneuil");
const Database = require("better-sqlite3");
const db = new Database("app.db");
try { verneuil.assertReplicated(db); } catch (error) { console.log(error.message); }
`)
	if out := p.run("node", "early.js"); !strings.Contains(out, "was not loaded") {
		t.Errorf("opened without us, it says %q", out)
	}
	p.restores("node_modules/.bin/verneuilctl", "7\n")
}

// TestNodeSQLite: the package for npm, with a Node that has node:sqlite.
func TestNodeSQLite(t *testing.T) {
	newer := filepath.Join(os.Getenv("VERNEUIL_NODE_SQLITE"), "bin/node")
	if _, err := os.Stat(newer); err != nil {
		t.Skip("no newer Node (make deps says why)")
	}
	p := npm(t, false)
	p.write("app.js", `const verneuil = require("verneuil");
const { DatabaseSync } = require("node:sqlite");
const db = verneuil.connect("app.db", { driver: DatabaseSync });`+writes+`
const odd = verneuil.connect("100% ?#&.db"); // no better-sqlite3: node:sqlite
odd.exec("create table t(x)");
console.log(require("node:fs").existsSync("100% ?#&.db"));
try {
  verneuil.assertReplicated(new DatabaseSync("app.db"));
} catch (error) {
  console.log(error.message);
}
`)
	out := p.run(newer, "--disable-warning=ExperimentalWarning", "app.js")
	if !strings.HasPrefix(out, "1\ntrue\n") ||
		!strings.Contains(out, "make_default is not set") ||
		strings.Contains(out, "better-sqlite3") {
		t.Errorf("it says %q", out)
	}
	p.restores("node_modules/.bin/verneuilctl", "7\n")
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDebian: lintian has nothing to say, and dpkg installs it into an empty tree.
func TestDebian(t *testing.T) {
	needs(t, "dpkg", "dpkg-deb")
	deb := made(t, "*.deb")
	p := newPlace(t, true)
	t.Run("lintian", func(t *testing.T) {
		needs(t, "lintian")
		out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning",
			deb).CombinedOutput()
		if err != nil || len(strings.TrimSpace(string(out))) > 0 {
			t.Errorf("lintian: %v\n%s", err, out)
		}
	})
	root := p.path("root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"updates", "info", "triggers", "parts"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.write("root/var/lib/dpkg/status", "")
	p.run("dpkg", "--root="+root, "--force-depends", "--force-not-root", "--log=/dev/null",
		"--force-script-chrootless", "-i", deb)
	p.says("", "sh", "-c", "dpkg --root="+root+" --verify verneuil")
	library, err := filepath.Glob(root + "/usr/lib/*/libverneuil_vfs.so")
	if err != nil || len(library) != 1 {
		t.Fatal(library, err)
	}
	for _, file := range []string{"lib/systemd/system/verneuil-run.service",
		"usr/share/man/man1/verneuilctl.1.gz"} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil {
			t.Error(err)
		}
	}
	p.says("1\n", "sqlite3", ":memory:", ".load "+library[0], ".open app.db",
		"create table t(x)", "insert into t values(7)", "select verneuil_flush()")
	p.says("7\n", root+"/usr/bin/verneuilctl", "shell", "app.db", "--", "select x from t")
	p.restores(root+"/usr/bin/verneuilctl", "7\n")
	p.run("dpkg", "--root="+root, "--force-not-root", "--log=/dev/null", "-P", "verneuil")
	if left, _ := filepath.Glob(root + "/usr/*/*verneuil*"); len(left) > 0 {
		t.Errorf("purged, it leaves %q", left)
	}
}
