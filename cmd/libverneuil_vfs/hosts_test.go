package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
)

// These tests load the extension that make has built (VERNEUIL_LIB) into real
// hosts: the sqlite3 shell, a C program that forks (test/hosts), Python.
// VERNEUIL_CTL is the verneuilctl that fetches back what was replicated.

const hostname = "test-host"

// processBound is when a process is taken for one that hangs, and anything that a test waits
// for is given up: far beyond what any of them needs on a machine that is ten times as busy.
const processBound = 20 * time.Minute

func TestMain(m *testing.M) {
	// What this process ignores (SIGHUP, under nohup) its children would ignore, too. What it
	// handles, they do not.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(m.Run())
}

// built returns what a variable that make test sets names. Without it the test is
// skipped; where it names what is not there, it fails.
func built(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s is not set; make test sets it", variable)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v (run make first)", variable, err)
	}
	return path
}

func library(t *testing.T) string { t.Helper(); return built(t, "VERNEUIL_LIB") }

// sqliteShell finds the sqlite3 shell, which make test has installed if it could.
func sqliteShell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("no sqlite3 shell (Debian, Ubuntu: apt-get install sqlite3)")
	}
	return path
}

// site is a place to try things in: a directory, a configuration, a target.
type site struct {
	t       *testing.T
	dir     string
	targets []any
}

func emptySite(t *testing.T) *site {
	t.Helper()
	library(t)
	for _, name := range []string{"VERNEUIL_CONFIG", "VERNEUIL_LOG", "RUST_LOG", "VERNEUIL_VALIDATE"} {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, dir: dir}
}

// dirSite has a target in a directory.
func dirSite(t *testing.T) *site {
	t.Helper()
	s := emptySite(t)
	s.targets = []any{map[string]any{"dir": map[string]any{"path": s.path("store")}}}
	s.configure(nil)
	return s
}

// s3Site has a target in the MinIO server at endpoint.
func s3Site(t *testing.T, endpoint string) *site {
	t.Helper()
	s := emptySite(t)
	s.targets = []any{map[string]any{"s3": map[string]any{
		"region": "minio", "endpoint": endpoint, "chunk_bucket": "chunks", "manifest_bucket": "manifests",
		"create_buckets_on_demand": true,
	}}}
	s.configure(nil)
	return s
}

func minioSite(t *testing.T) *site { t.Helper(); return s3Site(t, miniotest.Start(t)) }

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }
func (s *site) config() string          { return "@" + s.path("verneuil.json") }
func (s *site) env() string             { return "VERNEUIL_CONFIG=" + s.config() }

// configure writes the configuration, with changes on top of it.
func (s *site) configure(changes map[string]any) {
	s.t.Helper()
	config := map[string]any{
		"make_default":             true,
		"hostname":                 hostname,
		"replication_spooling_dir": s.path("spool"),
		"replication_targets":      s.targets,
		"api_calls_per_second":     10000,
		"manifest_interval_ms":     50,
	}
	for key, value := range changes {
		config[key] = value
	}
	b, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("verneuil.json", b)
}

func (s *site) write(name string, b []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// ctl runs verneuilctl, which must succeed.
func (s *site) ctl(args ...string) string {
	s.t.Helper()
	r := run(s.t, nil, append([]string{built(s.t, "VERNEUIL_CTL"), "-c", s.config()}, args...)...)
	if r.code != 0 {
		s.t.Fatalf("verneuilctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// mustEqual restores the newest version of the database, and compares it with the
// file, byte for byte.
func (s *site) mustEqual(db string) {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "restored.db")
	defer os.Remove(out)
	s.ctl("restore", "--force", "-s", s.path(db), "-o", out)
	got, err := os.ReadFile(out)
	if err != nil {
		s.t.Fatal(err)
	}
	want, err := os.ReadFile(s.path(db))
	if err != nil {
		s.t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	s.t.Fatalf("restored %d bytes, database %s has %d; they differ at %d", len(got), db, len(want), at)
}

// untilRestored waits until the newest version answers so.
func (s *site) untilRestored(db, sql, want string) {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "restored.db")
	until(s.t, db+" in the target says "+want, func() bool {
		r := run(s.t, nil, built(s.t, "VERNEUIL_CTL"), "-c", s.config(), "restore", "--force", "-s", s.path(db), "-o", out)
		return r.code == 0 && run(s.t, nil, sqliteShell(s.t), out, sql).stdout == want+"\n"
	})
}

// stock asks the sqlite3 shell, without the extension.
func (s *site) stock(db string, sql ...string) string {
	s.t.Helper()
	r := run(s.t, nil, append([]string{sqliteShell(s.t), s.path(db)}, sql...)...)
	if r.code != 0 || r.stderr != "" {
		s.t.Fatalf("sqlite3 %s %q: exit code %d\n%s%s", db, sql, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// shell starts a sqlite3 shell that has the extension loaded and db open.
func (s *site) shell(db string, env ...string) *session {
	s.t.Helper()
	shell := start(s.t, append([]string{s.env()}, env...), sqliteShell(s.t), "-batch")
	shell.must(".load " + library(s.t))
	shell.must(".timeout 10000")
	if db != "" {
		shell.must(".open " + s.path(db))
	}
	return shell
}

// result is what a program left behind.
type result struct {
	stdout, stderr string
	code           int
}

// run runs argv to its end, with env on top of the test's environment.
func run(t *testing.T, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), processBound)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Env = append(os.Environ(), env...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// session is a program that reads lines, as the sqlite3 shell does.
type session struct {
	t       *testing.T
	command *exec.Cmd
	stdin   io.WriteCloser
	output  *bufio.Scanner
	log     string // path of what it writes to stderr
	ended   bool
}

func start(t *testing.T, env []string, argv ...string) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), processBound)
	t.Cleanup(cancel)
	s := &session{t: t, command: exec.CommandContext(ctx, argv[0], argv[1:]...), log: filepath.Join(t.TempDir(), "stderr")}
	s.command.Env = append(os.Environ(), env...)
	stderr, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	s.command.Stderr = stderr
	if s.stdin, err = s.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.output = bufio.NewScanner(stdout)
	s.output.Buffer(nil, 1<<20)
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.ended {
			s.command.Process.Kill()
			s.command.Wait()
		}
	})
	return s
}

// stderr returns what the program has written to it so far.
func (s *session) stderr() string {
	s.t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *session) send(line string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.stdin, line); err != nil {
		s.t.Fatalf("%s: %v: %s", line, err, s.stderr())
	}
}

// ask sends a line and returns what the program answers on stdout, joined by newlines.
func (s *session) ask(line string) string {
	s.t.Helper()
	const mark = "---answered---"
	s.send(line)
	s.send(".print " + mark)
	var answer []string
	for s.output.Scan() {
		if s.output.Text() == mark {
			return strings.Join(answer, "\n")
		}
		answer = append(answer, s.output.Text())
	}
	s.t.Fatalf("%s: the program ended: %q: %s", line, answer, s.stderr())
	return ""
}

// warnings are lines of our log that are no errors: tests provoke them, and ask for them.
var warnings = regexp.MustCompile(`(?m)^verneuil: time=\S+ level=(WARN|INFO|DEBUG) .*\n`)

// must sends a line that has no answer, and no complaint on stderr.
func (s *session) must(line string) {
	s.t.Helper()
	before := s.stderr()
	if answer := s.ask(line); answer != "" {
		s.t.Fatalf("%s: %s", line, answer)
	}
	if after := s.stderr(); warnings.ReplaceAllString(after[len(before):], "") != "" {
		s.t.Fatalf("%s: %s", line, after[len(before):])
	}
}

// want sends a line and checks the answer.
func (s *session) want(line, want string) {
	s.t.Helper()
	if got := s.ask(line); got != want {
		s.t.Fatalf("%s: %q, want %q: %s", line, got, want, s.stderr())
	}
}

// flush asks for a flush, which must succeed.
func (s *session) flush() {
	s.t.Helper()
	if got := s.ask("pragma verneuil_flush_replication_data;"); got != "1" {
		s.t.Fatalf("flush answers %q: %s\n%s", got, s.ask("select verneuil_status();"), s.stderr())
	}
}

// refused asks for a flush of a database that is not replicated, which must be an error. The shell's
// exit code is 1 from then on.
func (s *session) refused() {
	s.t.Helper()
	before := s.stderr()
	answer := s.ask("pragma verneuil_flush_replication_data;")
	if said := s.stderr()[len(before):]; answer != "" || !strings.Contains(said, "is not replicated: ") {
		s.t.Fatalf("flush answers %q, and is not refused: %s", answer, said)
	}
}

// status decodes verneuil_status() into v.
func (s *session) status(v any) {
	s.t.Helper()
	text := s.ask("select verneuil_status();")
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatalf("verneuil_status(): %v: %s", err, text)
	}
}

// end closes the input, and returns the exit code; -1 after a signal.
func (s *session) end() int {
	s.t.Helper()
	s.stdin.Close()
	return s.wait()
}

func (s *session) wait() int {
	s.t.Helper()
	for s.output.Scan() {
		s.t.Errorf("the program says at its end: %q", s.output.Text())
	}
	s.command.Wait()
	s.ended = true
	return s.command.ProcessState.ExitCode()
}

// openFiles lists what a process has open: files, and how many sockets, in the host's table of descriptors
// and in that of our threads. What the Go runtime reads now and then beside it (the limits of its control group: runtime/cgroup_linux.go) does not count.
func openFiles(t *testing.T, pid int) (files []string, sockets int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/fd/*", pid))
	must(t, err)
	known := make(map[string]bool) // threads share tables
	for _, link := range links {
		switch to, err := os.Readlink(link); {
		case err != nil || known[filepath.Base(link)+" "+to]: // closed meanwhile
			continue
		default:
			known[filepath.Base(link)+" "+to] = true
		}
		switch to, err := os.Readlink(link); {
		case err != nil:
		case strings.HasPrefix(to, "/sys/fs/cgroup/"), strings.HasPrefix(to, "/proc/"):
		case strings.HasPrefix(to, "socket:"):
			sockets++
		default:
			files = append(files, to)
		}
	}
	return files, sockets
}

// endsWith ends the session, whose exit code must be that.
func (s *session) endsWith(code int) {
	s.t.Helper()
	if got := s.end(); got != code {
		s.t.Fatalf("the program ended with %v, want exit code %d: %s", s.command.ProcessState, code, s.stderr())
	}
}

// until polls until done.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(processBound); time.Now().Before(deadline); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for: %s", what)
}
