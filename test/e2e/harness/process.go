package harness

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
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// Result is what a program left behind. Code is its exit code; -1 after a signal.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs argv to its end, with env on top of the test's environment.
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
	if command.ProcessState.ExitCode() < 0 { // by which signal
		stderr.WriteString(command.ProcessState.String())
	}
	return Result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// Process is a program that reads lines, as the sqlite3 shell does, and answers on stdout. It is
// killed when the test ends, if it still lives. One goroutine may talk to it.
type Process struct {
	T       *testing.T
	Command *exec.Cmd
	Stdin   io.WriteCloser
	Output  *bufio.Scanner // its stdout, by lines
	Ended   bool           // Command.Wait was called
	log     string         // path of what it writes to stderr
}

// Start starts argv, with env on top of the test's environment.
func Start(t *testing.T, env []string, argv ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Bound)
	t.Cleanup(cancel)
	s := &Process{
		T:       t,
		Command: exec.CommandContext(ctx, argv[0], argv[1:]...),
		log:     filepath.Join(t.TempDir(), "stderr"),
	}
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

// Stderr returns what the program has written to it so far.
func (s *Process) Stderr() string {
	s.T.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.T.Fatal(err)
	}
	return string(b)
}

// Send sends a line, and does not wait.
func (s *Process) Send(line string) {
	s.T.Helper()
	if _, err := fmt.Fprintln(s.Stdin, line); err != nil {
		s.T.Fatalf("%s: %v: %s", line, err, s.Stderr())
	}
}

// Ask sends a line and returns what the program answers on stdout, joined by newlines.
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

// Must sends a line that has no answer, and no complaint on stderr.
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

// Want sends a line and checks the answer.
func (s *Process) Want(line, want string) {
	s.T.Helper()
	if got := s.Ask(line); got != want {
		s.T.Fatalf("%s: %q, want %q: %s", line, got, want, s.Stderr())
	}
}

// Flush asks for a flush, which must succeed.
func (s *Process) Flush() {
	s.T.Helper()
	if got := s.Ask("pragma verneuil_flush_replication_data;"); got != "1" {
		status := s.Ask("select verneuil_status();")
		s.T.Fatalf("flush answers %q: %s\n%s", got, status, s.Stderr())
	}
}

// Refused asks for a flush of a database that is not replicated, which must be an error. The
// shell's exit code is 1 from then on.
func (s *Process) Refused() {
	s.T.Helper()
	before := s.Stderr()
	answer := s.Ask("pragma verneuil_flush_replication_data;")
	said := s.Stderr()[len(before):]
	if answer != "" || !strings.Contains(said, "is not replicated: ") {
		s.T.Fatalf("flush answers %q, and is not refused: %s", answer, said)
	}
}

// Status decodes verneuil_status() into v.
func (s *Process) Status(v any) {
	s.T.Helper()
	text := s.Ask("select verneuil_status();")
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.T.Fatalf("verneuil_status(): %v: %s", err, text)
	}
}

// End closes the input, and returns the exit code; -1 after a signal.
func (s *Process) End() int {
	s.T.Helper()
	s.Stdin.Close()
	return s.Wait()
}

// Wait waits for the program's end, and returns the exit code; -1 after a signal. It fails the
// test if the program says anything more.
func (s *Process) Wait() int {
	s.T.Helper()
	for s.Output.Scan() {
		s.T.Errorf("the program says at its end: %q", s.Output.Text())
	}
	s.Command.Wait()
	s.Ended = true
	return s.Command.ProcessState.ExitCode()
}

// EndsWith closes the input, and fails the test unless the program ends with that exit code.
func (s *Process) EndsWith(code int) {
	s.T.Helper()
	if got := s.End(); got != code {
		s.T.Fatalf("the program ended with %v, want exit code %d: %s",
			s.Command.ProcessState, code, s.Stderr())
	}
}

// Kill kills the program, and waits for its end.
func (s *Process) Kill() {
	s.T.Helper()
	Must(s.T, s.Command.Process.Signal(syscall.SIGKILL))
	s.Wait()
}

// OpenFiles lists what a process has open: files, and how many sockets, in the host's table of
// descriptors and in that of our threads. What the Go runtime reads now and then beside it (the
// limits of its control group: runtime/cgroup_linux.go) does not count.
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
