// Package docs_test runs what the documentation says, and follows its links.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
	dir := t.TempDir()
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
	name, rest, _ := strings.Cut(stdout.String(), "\n")
	if !strings.Contains(name, "-verneuil%3A") || rest != "1\n1\n" {
		t.Errorf("it prints %q", stdout.String())
	}
	out, err := exec.Command("sqlite3", filepath.Join(dir, "copy.db"), "select * from t").CombinedOutput()
	if err != nil || string(out) != "0\n" {
		t.Errorf("copy.db: %s, %v", out, err)
	}
}

// TestHosts: the programs in docs/hosts.md replicate.
func TestHosts(t *testing.T) {
	build := built(t)
	for _, host := range []struct {
		language string
		run      []string
		env      string
		write    string // what the program goes on to do
	}{
		{"python", []string{"/usr/bin/python3", "-"}, "", "\ndb.execute('create table t(x)')\ndb.execute('insert into t values(7)')\ndb.commit()\n"},
		{"js", []string{"node", "-"}, "NODE_PATH=" + os.Getenv("VERNEUIL_NODE") + "/node_modules", "\ndb.exec('create table t(x); insert into t values(7)');\n"},
	} {
		t.Run(host.language, func(t *testing.T) {
			if _, err := os.Stat(os.Getenv("VERNEUIL_NODE") + "/built"); host.language == "js" && err != nil {
				t.Skip("no better-sqlite3 was built (make deps says why)")
			}
			_, program, _ := strings.Cut(page(t, "docs/hosts.md"), "```"+host.language+"\n")
			program, _, ok := strings.Cut(program, "```")
			if !ok {
				t.Fatal("docs/hosts.md has no program in it")
			}
			program = strings.ReplaceAll(program, "/usr/local/lib", build)
			dir := t.TempDir()
			config := filepath.Join(dir, "verneuil.json")
			text := `{"make_default": true, "replication_spooling_dir": "` + dir + `/spool", "replication_targets": [{"dir": {"path": "` + dir + `/store"}}]}`
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), host.run[0], host.run[1:]...)
			command.Dir = dir
			command.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+config, host.env)
			command.Stdin = strings.NewReader(program + host.write)
			if out, err := command.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v: %s\n%s", err, out, program)
			}
			restored := filepath.Join(dir, "restored.db")
			restore := exec.Command(filepath.Join(build, "verneuilctl"), "-c", config, "restore", filepath.Join(dir, "app.db"), "--out", restored)
			if out, err := restore.CombinedOutput(); err != nil {
				t.Fatalf("restore: %v: %s", err, out)
			}
			if out, err := exec.Command("sqlite3", restored, "select x from t").CombinedOutput(); err != nil || string(out) != "7\n" {
				t.Errorf("restored: %s, %v", out, err)
			}
		})
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
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			heading = regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			list += strings.ReplaceAll(heading, " ", "-") + "\n"
		}
	}
	return list
}
