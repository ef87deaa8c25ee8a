// Package docs_test runs what the documentation says, and follows its links.
package docs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

const root = "../.."

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// built returns the directory of the library and the tool that make has built.
func built(t *testing.T) string {
	t.Helper()
	lib := os.Getenv("VERNEUIL_LIB")
	if lib == "" {
		t.Skip("VERNEUIL_LIB is not set; make test sets it")
	}
	return filepath.Dir(lib)
}

// TestReadmeIsShort: the front door is one page.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(page(t, "README.md"), "\n"); n > 130 {
		t.Errorf("the README has %d lines, at most 130 are wanted", n)
	}
}

// TestSixtySeconds: what the README has one type works as it stands, in the checkout's
// directory after make.
func TestSixtySeconds(t *testing.T) {
	build := built(t)
	_, text, ok := strings.Cut(page(t, "README.md"), "directory of the checkout:\n\n")
	if !ok {
		t.Fatal("the README has no commands to type")
	}
	text, _, _ = strings.Cut(text, "\n\nThe pragma")
	dir, printed := typed(t, build, text)
	name, rest, _ := strings.Cut(printed, "\n")
	if !strings.Contains(name, "-verneuil%3A") || rest != "1\n1\n" {
		t.Errorf("it prints %q", printed)
	}
	out, err := exec.Command("sqlite3", filepath.Join(dir, "copy.db"),
		"select * from t").CombinedOutput()
	if err != nil || string(out) != "0\n" {
		t.Errorf("copy.db: %s, %v", out, err)
	}
}

// TestSixtyMore: so does what it has one type for a database that lives in the store.
func TestSixtyMore(t *testing.T) {
	build := built(t)
	_, text, ok := strings.Cut(page(t, "README.md"), "lives in the store\n\n")
	if !ok {
		t.Fatal("the README has no commands to type")
	}
	text, _, _ = strings.Cut(text, "\n\nEach commit")
	_, printed := typed(t, build, "export PATH=$PWD/build:$PATH\n"+text)
	rows, list, _ := strings.Cut(printed, "\n")
	if rows != "7" || !strings.Contains(list, "/app.db") || !strings.Contains(list, "nobody") {
		t.Errorf("it prints %q", printed)
	}
}

// typed runs what is typed in a new directory, which has a build, and returns the directory and
// what was printed.
func typed(t *testing.T, build, text string) (dir, printed string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Symlink(build, filepath.Join(dir, "build")); err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "/var/tmp/", dir+"/") // the only change
	text = regexp.MustCompile(`(?m)^    `).ReplaceAllString(text, "")
	command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", text)
	command.Dir = dir
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
	}
	return dir, stdout.String()
}

// TestHosts: the programs in docs/hosts.md replicate.
func TestHosts(t *testing.T) {
	build := built(t)
	jdbc, _ := harness.JDBC() // can tells
	for _, host := range []struct {
		language string
		run      []string
		write    string // what the program goes on to do
	}{
		{"python", []string{"/usr/bin/python3"},
			"\ndb.execute('create table t(x)')\ndb.execute('insert into t " +
				"values(7)')\ndb.commit()\n"},
		{"php", []string{"php", "-d", "sqlite3.extension_dir=" + build},
			"\n$db->exec('create table t(x); insert into t values(7)');\n"},
		{"perl", []string{"perl"}, "\n$db->do($_) for 'create table t(x)', " +
			"'insert into t values(7)';\n"},
		{"js", []string{"node"}, "\ndb.exec('create table t(x); insert into t values(7)');\n"},
		{"ruby", []string{"ruby"}, "\ndb.execute_batch('create table t(x); " +
			"insert into t values(7)')\n"},
		{"java", []string{"java", "-cp", jdbc}, "\ndb.createStatement().executeUpdate(" +
			"\"create table t(x); insert into t values(7)\");\n}}\n"},
	} {
		t.Run(host.language, func(t *testing.T) {
			_, err := os.Stat(os.Getenv("VERNEUIL_NODE") + "/built")
			if host.language == "js" && err != nil {
				t.Skip("no better-sqlite3 was built (make deps says why)")
			}
			if !can(host.language) {
				t.Skip("it is not installed, or knows no SQLite")
			}
			_, program, _ := strings.Cut(page(t, "docs/hosts.md"), "```"+host.language+"\n")
			program, _, ok := strings.Cut(program, "```")
			if !ok {
				t.Fatal("docs/hosts.md has no program in it")
			}
			program = strings.ReplaceAll(program, "/usr/local/lib", build)
			name := "program"
			if host.language == "java" {
				name = "App.java"
				program = "import java.sql.*;\nimport java.util.*;\nclass App {\n" +
					"public static void main(String[] args) throws Exception {\n" + program
			}
			e := newExample(t)
			e.write(name, program+host.write)
			if out := e.run(append(host.run, name)...); out != "" {
				t.Fatalf("it says %s\n%s", out, program)
			}
			e.run(e.build+"/verneuilctl", "restore", "app.db", "--out", "restored.db")
			if got := e.run("sqlite3", "restored.db", "select x from t"); got != "7\n" {
				t.Errorf("restored: %q", got)
			}
		})
	}
}

// can reports whether there is an interpreter that knows SQLite, of those that may be missing.
func can(language string) bool {
	switch language {
	case "java":
		_, err := harness.JDBC()
		return err == nil
	case "ruby":
		return exec.Command("ruby", "-e", "require 'sqlite3'").Run() == nil
	case "php":
		return exec.Command("php", "-r", "new SQLite3(':memory:');").Run() == nil
	case "perl":
		return exec.Command("perl", "-MDBD::SQLite", "-e", "1").Run() == nil
	}
	return true
}

// example is a site for one program: its directory, its environment and its configuration.
type example struct {
	*testing.T
	dir, build, config string
}

func newExample(t *testing.T) *example {
	e := &example{T: t, dir: t.TempDir(), build: built(t)}
	e.config = filepath.Join(e.dir, "verneuil.json")
	e.write("verneuil.json", `{"make_default": true, "replication_spooling_dir": "`+e.dir+`/spool",
		"replication_targets": [{"dir": {"path": "`+e.dir+`/store"}}]}`)
	return e
}

func (e *example) write(name, text string) {
	e.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o600); err != nil {
		e.Fatal(err)
	}
}

// run runs a program in the directory, which must succeed, and returns what it says.
func (e *example) run(argv ...string) string {
	e.Helper()
	command := exec.CommandContext(e.Context(), argv[0], argv[1:]...)
	command.Dir = e.dir
	command.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+e.config, "CGO_ENABLED=1",
		"GOFLAGS=-mod=mod "+os.Getenv("GOFLAGS"),
		"NODE_PATH="+os.Getenv("VERNEUIL_NODE")+"/node_modules")
	out, err := command.CombinedOutput()
	if err != nil {
		e.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

// TestExamples: each example does what it says, and what it has written is in the target.
func TestExamples(t *testing.T) {
	here, err := filepath.Abs(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"python", "node", "c", "go"} {
		t.Run(language, func(t *testing.T) {
			e := newExample(t)
			var argv []string
			switch language {
			case "python":
				argv = []string{"/usr/bin/python3", here + "/python/app.py"}
			case "node":
				if _, err := os.Stat(os.Getenv("VERNEUIL_NODE") + "/built"); err != nil {
					t.Skip("no better-sqlite3 was built (make deps says why)")
				}
				argv = []string{"node", here + "/node/app.js"}
			case "c":
				headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
					"github.com/mattn/go-sqlite3").Output()
				if err != nil {
					t.Fatal(err)
				}
				// its header is called sqlite3-binding.h, and there may be no other
				e.write("sqlite3.h", "#include <"+strings.TrimSpace(string(headers))+
					"/sqlite3-binding.h>\n")
				e.run("gcc", "-Wall", "-Wextra", "-Werror", "-I"+e.dir, here+"/c/app.c",
					"-l:libsqlite3.so.0", "-o", "app")
				argv = []string{e.dir + "/app"}
			case "go": // from a module outside the tree
				e.module(filepath.Dir(here))
				e.write("main.go", page(t, "examples/go/main.go"))
				e.run("go", "build", "-o", "app", ".")
				argv = []string{e.dir + "/app"}
			}
			for _, want := range []string{"1 visits\nsafe: 1\n", "2 visits\nsafe: 1\n"} {
				if got := e.run(argv...); got != want {
					t.Errorf("it says %q, want %q", got, want)
				}
			}
			e.run(e.build+"/verneuilctl", "restore", "app.db", "--out", "restored.db")
			if got := e.run("sqlite3", "restored.db", "select count(*) from visits"); got != "2\n" {
				t.Errorf("restored: %q rows", got)
			}
			verify := regexp.MustCompile(`ExecStart=/usr/local/bin/verneuilctl --config ` +
				`/etc/verneuil.json (.*)`).
				FindStringSubmatch(page(t, "examples/systemd/verneuil-verify.service"))
			if verify == nil {
				t.Fatal("the unit does not run verneuilctl")
			}
			e.run(append([]string{e.build + "/verneuilctl", "--config", e.config},
				strings.Fields(verify[1])...)...)
		})
	}
}

// module makes the directory a module that depends on the one in checkout.
func (e *example) module(checkout string) {
	e.Helper()
	text := strings.Replace(page(e.T, "go.mod"), "module verneuil\n", "module example\n", 1)
	e.write("go.mod", text+"\nrequire verneuil v0.0.0\nreplace verneuil => "+checkout+"\n")
	e.write("go.sum", page(e.T, "go.sum"))
}

// TestTestsThatPagesName: a page says that a test shows something; the test is there.
func TestTestsThatPagesName(t *testing.T) {
	tests := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(page(t, "docs/operations.md"),
		-1)
	for _, m := range named {
		if !tests[m[1]] {
			t.Errorf("docs/operations.md names %s, which is no test", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("docs/operations.md names %d tests", len(named))
	}
}

// TestLinks: what the pages link to is there, with the heading that they name.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	top, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, file := range append(pages, top...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			to := file
			if path != "" {
				to = filepath.Join(filepath.Dir(file), path)
			}
			text, err := os.ReadFile(to)
			if info, statErr := os.Stat(to); err != nil && (statErr != nil || !info.IsDir()) {
				t.Errorf("%s: links to %s, which is not there", file, m[1])
			} else if anchor != "" && !strings.Contains(anchors(string(text)), "\n"+anchor+"\n") {
				t.Errorf("%s: links to %s, which has no such heading", file, m[1])
			}
		}
	}
}

// anchors lists what the headings of a page are linked by, each on a line.
func anchors(text string) string {
	list := "\n"
	for line := range strings.Lines(text) {
		heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if ok && strings.HasPrefix(line, "#") {
			heading =
				regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(
					strings.ToLower(strings.TrimSpace(heading)), "")
			list += strings.ReplaceAll(heading, " ", "-") + "\n"
		}
	}
	return list
}
