package docs_test

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// block returns the first block of a page in that language, or, without one, the first indented
// one after the words.
func block(t *testing.T, name, after, language string) string {
	t.Helper()
	_, text, ok := strings.Cut(page(t, name), after)
	if language != "" {
		_, text, ok = strings.Cut(text, "```"+language+"\n")
		text, _, _ = strings.Cut(text, "```")
	} else {
		text = regexp.MustCompile(`(?m)(^ {4,}.*\n)+`).FindString(text)
		text = regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(text, "")
	}
	if !ok || text == "" {
		t.Fatalf("%s has no block after %q", name, after)
	}
	return text
}

// guide is an example whose configuration is a page's, with a directory for its bucket, and
// directories of the test's for the machine's. The package for pip is installed there.
func guide(t *testing.T, configuration string) *example {
	t.Helper()
	e := newExample(t)
	bucket := regexp.MustCompile(`\{ "s3": \{[^}]*\} \}`)
	if !bucket.MatchString(configuration) {
		t.Fatalf("no bucket in %s", configuration)
	}
	text := bucket.ReplaceAllString(configuration, `{ "dir": { "path": "`+e.dir+`/store" } }`)
	e.write("verneuil.json", e.here(text))
	e.install()
	return e
}

// install installs the package for pip into the directory packages.
func (e *example) install() {
	e.Helper()
	wheels, err := filepath.Glob(os.Getenv("VERNEUIL_DIST") + "/*.whl")
	if err != nil || len(wheels) != 1 {
		e.Skip("no package for pip: make dist-files makes it")
	}
	e.run("/usr/bin/python3", "-m", "pip", "install", "-q", "--disable-pip-version-check",
		"--no-index", "--no-deps", "--target", "packages", wheels[0])
}

// TestFirstRun: what docs/install.md has one type, once a package is installed, ends with the
// restored database.
func TestFirstRun(t *testing.T) {
	e := newExample(t)
	e.install()
	text := strings.ReplaceAll(block(t, "docs/install.md", "## A first run", ""), "/var/tmp/",
		e.dir+"/")
	e.run("env", "PYTHONPATH="+e.dir+"/packages", "PATH="+e.build+":/usr/bin:/bin", "bash",
		"-euo", "pipefail", "-c", text)
	if out := e.run("sqlite3", "copy.db", "select x from t"); out != "7\n" {
		t.Errorf("restored: %q", out)
	}
}

// here replaces the paths that pages have by those of the test.
func (e *example) here(text string) string {
	return strings.NewReplacer("/srv/app", e.dir, "/var/lib/verneuil", e.dir+"/spool",
		"/usr/bin/verneuilctl", e.build+"/verneuilctl", "/etc/verneuil.json", e.config).
		Replace(text)
}

// TestDjango: with what docs/guide-django.md says, Django's database is replicated, from its first
// migration on, and it refuses to work where it would not be.
func TestDjango(t *testing.T) {
	django := os.Getenv("VERNEUIL_DJANGO")
	if _, err := os.Stat(django + "/django"); django == "" || err != nil {
		t.Skip("no Django (make deps says why)")
	}
	const name = "docs/guide-django.md"
	e := guide(t, block(t, name, "names the VFS for nobody:", ""))
	if err := os.MkdirAll(filepath.Join(e.dir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.write("shop/__init__.py", "")
	e.write("shop/apps.py", block(t, name, "", "python"))
	e.write("settings.py", `SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "`+e.dir+
		`/db.sqlite3"}}
`)
	manage := []string{"env", "PYTHONPATH=" + e.dir + ":" + e.dir + "/packages:" + django,
		"DJANGO_SETTINGS_MODULE=settings", "/usr/bin/python3", "-m", "django"}
	e.run(append(manage[:6:6], "migrate", "-v0")...)
	e.run(append(manage[:6:6], "shell", "-v0", "-c", "from django.contrib.auth.models import "+
		"User; User.objects.create(username='anna')")...)
	e.run(e.build+"/verneuilctl", "flush", e.dir+"/spool", "--allow-empty")
	if err := os.Remove(filepath.Join(e.dir, "db.sqlite3")); err != nil {
		t.Fatal(err)
	}
	restore := regexp.MustCompile("verneuilctl (restore [^`]*)`").FindStringSubmatch(page(t, name))
	if restore == nil {
		t.Fatal("the page restores nothing")
	}
	e.run(append([]string{e.build + "/verneuilctl"}, strings.Fields(e.here(restore[1]))...)...)
	out := e.run("sqlite3", "db.sqlite3", "select username from auth_user")
	if out != "anna\n" {
		t.Errorf("restored: %q", out)
	}
	e.write("verneuil.json", strings.Replace(read(t, e.config), "db.sqlite3", "other.db", 1))
	command := exec.CommandContext(t.Context(), manage[0], append(manage[1:6:6], "migrate")...)
	command.Dir, command.Env = e.dir, append(os.Environ(), "VERNEUIL_CONFIG=@"+e.config)
	said, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "NotReplicatedError") {
		t.Errorf("not replicated, it says %v: %s", err, said)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestServers: gunicorn, as the unit in docs/guide-servers.md starts and ends it: what several
// workers have committed is in the target once the unit's last line has run.
func TestServers(t *testing.T) {
	if exec.Command("/usr/bin/python3", "-c", "import gunicorn").Run() != nil {
		t.Skip("no gunicorn (make deps says why)")
	}
	e := guide(t, block(t, "docs/from-litestream.md", "the two know nothing", ""))
	unit := block(t, "docs/guide-servers.md", "## systemd", "")
	line := func(key string) []string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return strings.Fields(e.here(m[1]))
	}
	if want := "VERNEUIL_CONFIG=@" + e.config; line("Environment")[0] != want {
		t.Errorf("the unit sets %q, want %s", line("Environment"), want)
	}
	e.write("app.py", `import sqlite3, verneuil
def app(environ, start_response):
    db = sqlite3.connect("app.db", timeout=60)
    verneuil.load(db)
    db.close()
    db = sqlite3.connect("app.db", timeout=60)
    db.execute("create table if not exists t(x)")
    db.execute("insert into t values(7)")
    db.commit()
    verneuil.assert_replicated(db)
    db.close()
    start_response("200 OK", [])
    return [b"done"]
`)
	start := line("ExecStart")
	if filepath.Base(start[0]) != "gunicorn" {
		t.Fatalf("the unit starts %q", start)
	}
	server := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"-m",
		"gunicorn", "-w", "2", "-b", "unix:" + e.dir + "/socket", "--log-level", "error"},
		start[1:]...)...)
	server.Dir = e.dir
	server.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+e.config, "PYTHONPATH="+e.dir+
		"/packages")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	visits(t, e.dir+"/socket", ended, 6)
	if err := server.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ended
	e.run(line("ExecStopPost")...)
	e.run(e.build+"/verneuilctl", "restore", "app.db", "--out", "restored.db")
	if out := e.run("sqlite3", "restored.db", "select count(*) from t"); out != "6\n" {
		t.Errorf("restored: %q", out)
	}
}

// visits asks the server at a socket n times, once it answers, and returns the last answer.
func visits(t *testing.T, socket string, ended <-chan error, n int) (last string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
	for done := 0; done < n; {
		select {
		case err := <-ended:
			t.Fatalf("the server has ended: %v", err)
		default:
		}
		answer, err := client.Get("http://app/")
		if err != nil {
			if done > 0 {
				t.Fatal(err)
			}
			continue // it is not there yet
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v: %s", answer.Status, err, body)
		}
		last = string(body)
		done++
	}
	return last
}

// untilStored waits until Litestream has stored something below dir.
func untilStored(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for stored := false; !stored; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("Litestream has stored nothing")
		}
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
			stored = stored || strings.HasSuffix(path, ".ltx")
			return nil
		})
	}
}

// TestFromLitestream: the move in docs/from-litestream.md, step by step, with Litestream at work:
// both have the same database in the end.
func TestFromLitestream(t *testing.T) {
	litestream, err := filepath.Abs(filepath.Join(root, ".tools/bin/litestream"))
	if err == nil {
		_, err = os.Stat(litestream)
	}
	if err != nil {
		t.Skip("no Litestream: make bench-tools builds it")
	}
	const name = "docs/from-litestream.md"
	e := guide(t, block(t, name, "the two know nothing", ""))
	ctl := e.build + "/verneuilctl"
	e.write("litestream.yml", "dbs:\n  - path: "+e.dir+"/app.db\n    replica:\n      type: file\n"+
		"      path: "+e.dir+"/litestream\n")
	e.run("sqlite3", "app.db", "pragma journal_mode=wal; create table t(x); "+
		"insert into t values(1)")
	old := exec.CommandContext(t.Context(), litestream, "replicate", "-config", "litestream.yml")
	old.Dir = e.dir
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Process.Kill() }()
	steps := regexp.MustCompile("`verneuilctl ([^`]*)`").FindAllStringSubmatch(
		strings.SplitN(page(t, name), "## Move", 2)[1], -1)
	if len(steps) != 3 {
		t.Fatalf("%d commands, %q", len(steps), steps)
	}
	for _, step := range steps[:2] {
		e.run(append([]string{ctl}, strings.Fields(e.here(step[1]))...)...)
	}
	e.write("app.py", `import sqlite3, verneuil
first = sqlite3.connect(":memory:")
verneuil.load(first)
db = sqlite3.connect("`+e.dir+`/app.db", timeout=60)
for i in range(2, 101):
    db.execute("insert into t values(?)", (i,))
    db.commit()
verneuil.assert_replicated(db)
print(db.execute("select verneuil_flush()").fetchone()[0])
`)
	if out := e.run("env", "PYTHONPATH="+e.dir+"/packages", "/usr/bin/python3",
		"app.py"); out != "1\n" {
		t.Errorf("the application says %q", out)
	}
	e.run(append([]string{ctl}, strings.Fields(e.here(steps[2][1]))...)...)
	// Litestream sends what is left when it ends, of what it has begun.
	untilStored(t, e.dir+"/litestream")
	if err := old.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = old.Wait()
	e.run(litestream, "restore", "-config", "litestream.yml", "-o", "old.db", e.dir+"/app.db")
	e.run(ctl, "restore", "app.db", "--out", "new.db")
	for _, file := range []string{"old.db", "new.db"} {
		out := e.run("sqlite3", file, "select count(*), sum(x) from t")
		if out != "100|5050\n" {
			t.Errorf("%s has %q", file, out)
		}
	}
	for _, command := range []string{"ls", "versions app.db", "gc --delete"} {
		if !strings.Contains(page(t, name), "`verneuilctl "+command+"`") {
			t.Errorf("the page does not name %s", command)
		}
		e.run(append([]string{ctl}, strings.Fields(command)...)...)
	}
}
