package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// outcome is what one run of an item has shown.
type outcome struct {
	finished bool           // it said how many cases there were
	exit     string         // how the process ended; empty: with 0
	passed   map[string]int // cases, and how often each
	failed   []string       // cases, sorted
	tests    int            // as counted by itself
	errors   int            // likewise
	problems []string       // ours only: what it logged, or left in the spool or the target
	elapsed  time.Duration
	output   string
}

// cases returns how many cases passed.
func (o outcome) cases() (n int) {
	for _, times := range o.passed {
		n += times
	}
	return n
}

// killed reports whether the process did not end in time.
func (o outcome) killed() bool { return strings.HasPrefix(o.exit, "killed") }

// runner runs items.
type runner struct {
	programs
	stored   stored
	lib, ctl string
	work     string // where the directories of the runs are made
	timeout  time.Duration
	preload  string // libraries of a sanitizer, for the test programs; empty: none
	uid      int    // that the tests run as; -1: ours
}

// run runs an item in a new directory, stock or with our VFS. The two names are equally
// long, as some tests count up to the longest path.
func (r *runner) run(ctx context.Context, i item, ours bool) (outcome, error) {
	how := "stock"
	if ours {
		how = "owned"
	}
	dir := filepath.Join(r.work, strings.NewReplacer(" ", "-", ":", "-").Replace(i.String())+"-"+
		how)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return outcome{}, err
	}
	defer removeAll(dir)
	if r.uid >= 0 {
		if err := os.Chown(dir, r.uid, r.uid); err != nil {
			return outcome{}, err
		}
	}
	env := append(os.Environ(), "SUITE_SRC="+r.src(), "TMPDIR="+dir, "LC_ALL=C")
	spool, store := filepath.Join(dir, "spool"), filepath.Join(dir, "store")
	if ours && r.stored.extension != "" {
		more, err := r.stored.environment(r.lib, dir)
		if err != nil {
			return outcome{}, err
		}
		env = append(env, more...)
	} else if ours {
		env = append(env, "SUITE_EXTENSION="+r.lib, "VERNEUIL_VALIDATE=1", "VERNEUIL_LOG=error",
			fmt.Sprintf(
				`VERNEUIL_CONFIG={"make_default":true,"replication_spooling_dir":%q,"replication_targets":[{"dir":{"path":%q}}]}`,
				spool, store))
	}
	testEnv := env
	if r.preload != "" {
		testEnv = append(slices.Clip(env), sanitized(r.preload, dir)...)
	}
	start := time.Now()
	stdout, stderr, exit, err := r.exec(ctx, dir, testEnv, i.command(r.programs)...)
	if err != nil {
		return outcome{}, err
	}
	o := parse(logLine.ReplaceAllString(stdout, ""))
	o.elapsed, o.exit, o.output = time.Since(start), exit, stdout+"\n---- standard error:\n"+stderr
	if ours {
		lines, reports, err := findings(dir)
		if err != nil {
			return outcome{}, err
		}
		o.problems = append(problems(stdout+stderr), lines...)
		o.output += reports
		if r.stored.extension != "" {
			err = r.afterRemote(ctx, dir, env, &o)
		} else {
			err = r.after(ctx, dir, env, spool, store, &o)
		}
		if err != nil {
			return outcome{}, err
		}
	}
	return o, nil
}

// after looks at what the processes have left: their spool and their target. What
// was in a database that is deleted can no longer be sent.
func (r *runner) after(ctx context.Context, dir string, env []string, spool, store string,
	o *outcome) error {
	sources, err := filepath.Glob(filepath.Join(spool, "*", "source.json"))
	if err != nil {
		return err
	}
	for _, source := range sources {
		var config struct {
			Path string `json:"path"`
		}
		b, err := os.ReadFile(source)
		if err == nil {
			err = json.Unmarshal(b, &config)
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(config.Path); err != nil {
			removeAll(filepath.Dir(source))
		}
	}
	for _, check := range []struct {
		of   string
		args []string
	}{{spool, []string{"flush", "--allow-empty", spool}}, {store, []string{"verify"}}} {
		if _, err := os.Stat(check.of); err != nil {
			continue // nothing was replicated
		}
		_, stderr, exit, err := r.exec(ctx, dir, env, append([]string{r.ctl}, check.args...)...)
		if err != nil {
			return err
		}
		if exit != "" {
			o.problems = append(o.problems, "verneuilctl "+check.args[0]+": "+exit+": "+
				last(stderr))
		}
	}
	return nil
}

// exec runs a command to its end, or to the timeout's, with its children. exit says
// how it ended; empty: with 0.
func (r *runner) exec(ctx context.Context, dir string, env []string,
	args ...string) (stdout, stderr, exit string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var out, errs bytes.Buffer
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir, command.Env, command.Stdout, command.Stderr = dir, env, &out, &errs
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.uid >= 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(r.uid), Gid: uint32(r.uid)}
	}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second // a child has our pipe
	err = command.Run()
	if command.Process != nil {
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // children that it has left
	}
	var ended *exec.ExitError
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		exit, err = fmt.Sprintf("killed after %v", r.timeout), nil
	case errors.As(err, &ended):
		exit, err = ended.Error(), nil
	case errors.Is(err, exec.ErrWaitDelay):
		exit, err = "left children behind", nil
	}
	return out.String(), errs.String(), exit, err
}

var (
	summary = regexp.MustCompile(`(?m)^(?:Summary: )?(\d+) errors out of (\d+) tests`)
	passing = regexp.MustCompile(`(?m)^\.*([^\s.]\S*)\.\.\. Ok$`) // threads write dots before
	failing = regexp.MustCompile(`(?m)^! (\S+) expected: |^!Failures on these tests:(.*)$`)
	// Of a child: between a case's name and its Ok
	logLine = regexp.MustCompile(`(?:verneuil: )?time=\S+ level=[A-Z]+ msg=.*\n`)
	logged  = regexp.MustCompile(`level=ERROR msg=.*`)
)

// parse reads a test program's output: testfixture says "NAME... Ok" of each case that
// passes, and all of them sum up.
func parse(output string) outcome {
	o := outcome{passed: make(map[string]int)}
	for _, m := range passing.FindAllStringSubmatch(output, -1) {
		if name := unnumbered(m[1]); name != m[1] {
			o.passed[name] = 1
		} else {
			o.passed[name]++
		}
	}
	for _, m := range failing.FindAllStringSubmatch(output, -1) {
		for _, name := range strings.Fields(m[1] + " " + m[2]) {
			o.failed = append(o.failed, unnumbered(name))
		}
	}
	if m := summary.FindStringSubmatch(output); m != nil {
		o.finished = true
		o.errors, _ = strconv.Atoi(m[1]) // digits
		o.tests, _ = strconv.Atoi(m[2])
	}
	for _, z := range []string{"files were left open", "Unfreed memory"} {
		if strings.Contains(output, z) {
			o.failed = append(o.failed, "("+z+")")
		}
	}
	slices.Sort(o.failed)
	o.failed = slices.Compact(o.failed)
	return o
}

// repeated are the cases that are made until one run is through: by malloc_common.tcl, which lets
// the 1st, 2nd, 3rd... malloc fail, and by crash.test, which crashes at the 1st, 2nd, 3rd... sync
// of a transaction of random length; and walfault-10, whose table is random (with stock the full
// disk comes three or four times). How many there are is how often SQLite and the VFS call malloc,
// or chance, and tells nothing. That none failed, and the last one passed, is what counts.
var repeated = regexp.MustCompile(`(-oom-(?:transient|persistent)|malloc\S*\.(?:transient|` +
	`persistent)|\bcrash-4\.[123]|\bwalfault-10-(?:full|ioerr-transient))\.\d+`)

// drawn are the cases whose names end with how many rows a table has that are chosen at random:
// with stock, too, one run of some 160 has another number.
var drawn = regexp.MustCompile(`(\b(?:av)?trans-9\.\d+(?:\.\d-|-6\.)|\bmemdb-1\.\d+\.\d-)\d+`)

// unnumbered is the name of a case without the number of the malloc or sync that failed, or of rows
// at random.
func unnumbered(name string) string {
	return drawn.ReplaceAllString(repeated.ReplaceAllString(name, "$1.N"), "${1}N")
}

// problems are the errors that our library has logged, each once.
func problems(output string) []string {
	var found []string
	for _, line := range logged.FindAllString(output, -1) {
		if !slices.Contains(found, line) {
			found = append(found, line)
		}
	}
	return found
}

func last(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return lines[len(lines)-1]
}

// removeAll removes a directory also if a test has left parts of it without permissions.
func removeAll(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	os.RemoveAll(dir)
}
