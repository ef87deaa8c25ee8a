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

const Hostname = "test-host"

// processBound is when a process is taken for one that hangs, and anything that a test waits
// for is given up: far beyond what any of them needs on a machine that is ten times as busy.
const Bound = 20 * time.Minute

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
func Built(t *testing.T, variable string) string {
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

func Library(t *testing.T) string { t.Helper(); return Built(t, "VERNEUIL_LIB") }

// sqliteShell finds the sqlite3 shell, which make test has installed if it could.
func SQLiteShell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("no sqlite3 shell (Debian, Ubuntu: apt-get install sqlite3)")
	}
	return path
}

// site is a place to try things in: a directory, a configuration, a target.
type Site struct {
	T       *testing.T
	Dir     string
	Targets []any
}

func EmptySite(t *testing.T) *Site {
	t.Helper()
	Library(t)
	for _, name := range []string{"VERNEUIL_CONFIG", "VERNEUIL_LOG", "RUST_LOG", "VERNEUIL_VALIDATE"} {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Site{T: t, Dir: dir}
}

// dirSite has a target in a directory.
func DirSite(t *testing.T) *Site {
	t.Helper()
	s := EmptySite(t)
	s.Targets = []any{map[string]any{"dir": map[string]any{"path": s.Path("store")}}}
	s.Configure(nil)
	return s
}

// s3Site has a target in the MinIO server at endpoint.
func S3Site(t *testing.T, endpoint string) *Site {
	t.Helper()
	s := EmptySite(t)
	s.Targets = []any{map[string]any{"s3": map[string]any{
		"region": "minio", "endpoint": endpoint, "chunk_bucket": "chunks", "manifest_bucket": "manifests",
		"create_buckets_on_demand": true,
	}}}
	s.Configure(nil)
	return s
}

func MinioSite(t *testing.T) *Site { t.Helper(); return S3Site(t, miniotest.Start(t)) }

func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }
func (s *Site) Config() string          { return "@" + s.Path("verneuil.json") }
func (s *Site) Env() string             { return "VERNEUIL_CONFIG=" + s.Config() }

// configure writes the configuration, with changes on top of it.
func (s *Site) Configure(changes map[string]any) {
	s.T.Helper()
	config := map[string]any{
		"make_default":             true,
		"hostname":                 Hostname,
		"replication_spooling_dir": s.Path("spool"),
		"replication_targets":      s.Targets,
		"api_calls_per_second":     10000,
		"manifest_interval_ms":     50,
	}
	for key, value := range changes {
		config[key] = value
	}
	b, err := json.Marshal(config)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Write("verneuil.json", b)
}

func (s *Site) Write(name string, b []byte) {
	s.T.Helper()
	if err := os.WriteFile(s.Path(name), b, 0o600); err != nil {
		s.T.Fatal(err)
	}
}

// ctl runs verneuilctl, which must succeed.
func (s *Site) Ctl(args ...string) string {
	s.T.Helper()
	r := Run(s.T, nil, append([]string{Built(s.T, "VERNEUIL_CTL"), "-c", s.Config()}, args...)...)
	if r.Code != 0 {
		s.T.Fatalf("verneuilctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// mustEqual restores the newest version of the database, and compares it with the
// file, byte for byte.
func (s *Site) MustEqual(db string) {
	s.T.Helper()
	out := filepath.Join(s.T.TempDir(), "restored.db")
	defer os.Remove(out)
	s.Ctl("restore", "--force", "-s", s.Path(db), "-o", out)
	got, err := os.ReadFile(out)
	if err != nil {
		s.T.Fatal(err)
	}
	want, err := os.ReadFile(s.Path(db))
	if err != nil {
		s.T.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	s.T.Fatalf("restored %d bytes, database %s has %d; they differ at %d", len(got), db, len(want), at)
}

// untilRestored waits until the newest version answers so.
func (s *Site) UntilRestored(db, sql, want string) {
	s.T.Helper()
	out := filepath.Join(s.T.TempDir(), "restored.db")
	Until(s.T, db+" in the target says "+want, func() bool {
		r := Run(s.T, nil, Built(s.T, "VERNEUIL_CTL"), "-c", s.Config(), "restore", "--force", "-s", s.Path(db), "-o", out)
		return r.Code == 0 && Run(s.T, nil, SQLiteShell(s.T), out, sql).Stdout == want+"\n"
	})
}

// stock asks the sqlite3 shell, without the extension.
func (s *Site) Stock(db string, sql ...string) string {
	s.T.Helper()
	r := Run(s.T, nil, append([]string{SQLiteShell(s.T), s.Path(db)}, sql...)...)
	if r.Code != 0 || r.Stderr != "" {
		s.T.Fatalf("sqlite3 %s %q: exit code %d\n%s%s", db, sql, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// shell starts a sqlite3 shell that has the extension loaded and db open.
func (s *Site) Shell(db string, env ...string) *Process {
	s.T.Helper()
	shell := Start(s.T, append([]string{s.Env()}, env...), SQLiteShell(s.T), "-batch")
	shell.Must(".load " + Library(s.T))
	shell.Must(".timeout 10000")
	if db != "" {
		shell.Must(".open " + s.Path(db))
	}
	return shell
}

// result is what a program left behind.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// run runs argv to its end, with env on top of the test's environment.
func Run(t *testing.T, env []string, argv ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Bound)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Env = append(os.Environ(), env...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return Result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// session is a program that reads lines, as the sqlite3 shell does.
type Process struct {
	T       *testing.T
	Command *exec.Cmd
	Stdin   io.WriteCloser
	Output  *bufio.Scanner
	log     string // path of what it writes to stderr
	Ended   bool
}

func Start(t *testing.T, env []string, argv ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Bound)
	t.Cleanup(cancel)
	s := &Process{T: t, Command: exec.CommandContext(ctx, argv[0], argv[1:]...), log: filepath.Join(t.TempDir(), "stderr")}
	s.Command.Env = append(os.Environ(), env...)
	stderr, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	s.Command.Stderr = stderr
	if s.Stdin, err = s.Command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.Command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Output = bufio.NewScanner(stdout)
	s.Output.Buffer(nil, 1<<20)
	if err := s.Command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.Ended {
			s.Command.Process.Kill()
			s.Command.Wait()
		}
	})
	return s
}

// stderr returns what the program has written to it so far.
func (s *Process) Stderr() string {
	s.T.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.T.Fatal(err)
	}
	return string(b)
}

func (s *Process) Send(line string) {
	s.T.Helper()
	if _, err := fmt.Fprintln(s.Stdin, line); err != nil {
		s.T.Fatalf("%s: %v: %s", line, err, s.Stderr())
	}
}

// ask sends a line and returns what the program answers on stdout, joined by newlines.
func (s *Process) Ask(line string) string {
	s.T.Helper()
	const mark = "---answered---"
	s.Send(line)
	s.Send(".print " + mark)
	var answer []string
	for s.Output.Scan() {
		if s.Output.Text() == mark {
			return strings.Join(answer, "\n")
		}
		answer = append(answer, s.Output.Text())
	}
	s.T.Fatalf("%s: the program ended: %q: %s", line, answer, s.Stderr())
	return ""
}

// warnings are lines of our log that are no errors: tests provoke them, and ask for them.
var warnings = regexp.MustCompile(`(?m)^verneuil: time=\S+ level=(WARN|INFO|DEBUG) .*\n`)

// must sends a line that has no answer, and no complaint on stderr.
func (s *Process) Must(line string) {
	s.T.Helper()
	before := s.Stderr()
	if answer := s.Ask(line); answer != "" {
		s.T.Fatalf("%s: %s", line, answer)
	}
	if after := s.Stderr(); warnings.ReplaceAllString(after[len(before):], "") != "" {
		s.T.Fatalf("%s: %s", line, after[len(before):])
	}
}

// want sends a line and checks the answer.
func (s *Process) Want(line, want string) {
	s.T.Helper()
	if got := s.Ask(line); got != want {
		s.T.Fatalf("%s: %q, want %q: %s", line, got, want, s.Stderr())
	}
}

// flush asks for a flush, which must succeed.
func (s *Process) Flush() {
	s.T.Helper()
	if got := s.Ask("pragma verneuil_flush_replication_data;"); got != "1" {
		s.T.Fatalf("flush answers %q: %s\n%s", got, s.Ask("select verneuil_status();"), s.Stderr())
	}
}

// refused asks for a flush of a database that is not replicated, which must be an error. The shell's
// exit code is 1 from then on.
func (s *Process) Refused() {
	s.T.Helper()
	before := s.Stderr()
	answer := s.Ask("pragma verneuil_flush_replication_data;")
	if said := s.Stderr()[len(before):]; answer != "" || !strings.Contains(said, "is not replicated: ") {
		s.T.Fatalf("flush answers %q, and is not refused: %s", answer, said)
	}
}

// status decodes verneuil_status() into v.
func (s *Process) Status(v any) {
	s.T.Helper()
	text := s.Ask("select verneuil_status();")
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.T.Fatalf("verneuil_status(): %v: %s", err, text)
	}
}

// end closes the input, and returns the exit code; -1 after a signal.
func (s *Process) End() int {
	s.T.Helper()
	s.Stdin.Close()
	return s.Wait()
}

func (s *Process) Wait() int {
	s.T.Helper()
	for s.Output.Scan() {
		s.T.Errorf("the program says at its end: %q", s.Output.Text())
	}
	s.Command.Wait()
	s.Ended = true
	return s.Command.ProcessState.ExitCode()
}

// openFiles lists what a process has open: files, and how many sockets, in the host's table of descriptors
// and in that of our threads. What the Go runtime reads now and then beside it (the limits of its control group: runtime/cgroup_linux.go) does not count.
func OpenFiles(t *testing.T, pid int) (files []string, sockets int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/fd/*", pid))
	Must(t, err)
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
func (s *Process) EndsWith(code int) {
	s.T.Helper()
	if got := s.End(); got != code {
		s.T.Fatalf("the program ended with %v, want exit code %d: %s", s.Command.ProcessState, code, s.Stderr())
	}
}

// until polls until done.
func Until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Bound); time.Now().Before(deadline); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain for: %s", what)
}
