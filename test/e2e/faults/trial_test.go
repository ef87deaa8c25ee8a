package faults_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/replicate/upkeep"
	"verneuil/spool/faultcall"
	"verneuil/test/e2e/harness"
)

// trial is one run of a program.
type trial struct {
	s     *harness.Site
	at    int // the call that is struck first, from 1; 0: none
	every int // and of those after it, each that is so far away; 0: none
	good  bool
	errno syscall.Errno // 0: it is short, if kill is not set
	kill  bool
	late  time.Duration // how long after the call it is killed
	ours  func(c faultcall.Call) bool
	log   string // VERNEUIL_LOG; empty: off

	calls, strikes int
	struck         string       // the call that was struck first
	descriptors    *descriptors // of a shell that has closed its databases; nil: nobody looks
	target         *watcher     // nil: nobody looks
	program        *faultcall.Program
}

func (r *trial) decide(c faultcall.Call) faultcall.Verdict {
	r.target.called(c)
	if r.ours == nil || !r.ours(c) {
		return faultcall.Verdict{}
	}
	r.calls++
	again := r.good || r.every > 0 && (r.calls-r.at)%r.every == 0
	if r.at == 0 || r.calls < r.at || r.calls > r.at && !again {
		return faultcall.Verdict{}
	}
	if r.struck == "" {
		r.struck = c.String()
	}
	r.strikes++
	if r.kill && r.late > 0 {
		time.AfterFunc(r.late, r.program.Kill)
		return faultcall.Verdict{}
	}
	v := faultcall.Verdict{Err: r.errno, Short: r.errno == 0 && !r.kill, Kill: r.kill}
	switch { // what these calls fail with
	case r.kill:
	case c.Name == "mmap":
		v = faultcall.Verdict{Err: syscall.ENOMEM}
	case c.Name == "madvise":
		v = faultcall.Verdict{Err: syscall.EFAULT}
	}
	return v
}

// unending reports whether replication may never have done what it has to: what takes
// more calls than lie between two that fail cannot.
func (r *trial) unending() bool { return r.good || r.every > 0 }

func (r *trial) String() string {
	what := "fails with " + r.errno.Error()
	switch {
	case r.kill:
		what = fmt.Sprintf("is not survived for more than %v", r.late)
	case r.errno == 0:
		what = "is short"
	}
	switch {
	case r.good:
		what += ", and all later ones"
	case r.every > 0:
		what += fmt.Sprintf(", and each %dth after it, %d in all", r.every, r.strikes)
	}
	return fmt.Sprintf("call %d (%s) %s", r.at, strings.ReplaceAll(r.struck, r.s.Dir, ""), what)
}

// run runs argv to its end, with input on its stdin, under supervision if anybody asks.
func (r *trial) run(input string, argv ...string) harness.Result {
	r.s.T.Helper()
	ctx, cancel := context.WithTimeout(r.s.T.Context(), harness.Bound)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), r.s.Env(), "VERNEUIL_LOG="+cmp.Or(r.log, "off"))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	running, ended := context.WithCancel(ctx)
	defer ended()
	started, looked := make(chan struct{}), make(chan struct{})
	if r.descriptors != nil {
		r.descriptors.follow(running, r, cmd, &input, &stdout, started, looked)
	} else {
		cmd.Stdin = strings.NewReader(input)
		close(looked)
	}
	var err error
	if r.asks() {
		r.program, err = faultcall.Start(cmd, func(c faultcall.Call) faultcall.Verdict {
			<-started
			return r.decide(c)
		})
		if err != nil {
			r.s.T.Fatal(err)
		}
		close(started)
		err = r.program.Wait()
	} else {
		err = cmd.Run()
	}
	ended()
	<-looked
	if ctx.Err() != nil {
		r.s.T.Fatalf("%v: hangs: %s%s", r, stdout.String(), stderr.String())
	}
	if cmd.ProcessState == nil || strings.Contains(fmt.Sprint(err), "faultcall") {
		r.s.T.Fatalf("%v: %v", r, err)
	}
	if r.target != nil && r.target.err != nil {
		r.s.T.Fatalf("%v: %v", r, r.target.err)
	}
	return harness.Result{Stdout: stdout.String(), Stderr: stderr.String(),
		Code: cmd.ProcessState.ExitCode()}
}

// descriptors are those that a shell has when it has closed its databases: none of the
// files in the site, once replication has sent what it has to, and how many others.
type descriptors struct {
	site   []string
	others int
}

// closedMark is what the shell prints when it has closed them.
const closedMark = "---closed---\n"

// follow has cmd, a shell, end when the descriptors were looked at; looked is closed then,
// or when ctx has ended.
func (d *descriptors) follow(ctx context.Context, r *trial, cmd *exec.Cmd, input *string,
	stdout *bytes.Buffer, started <-chan struct{}, looked chan<- struct{}) {
	*input += ".open :memory:\n.print " + closedMark
	mark := &marked{out: stdout, seen: make(chan struct{})}
	cmd.Stdout = mark
	end, write, err := os.Pipe()
	if err != nil {
		r.s.T.Fatal(err)
	}
	text := *input
	cmd.Stdin = end
	r.s.T.Cleanup(func() { end.Close() })
	go func() {
		defer close(looked)
		defer write.Close()
		io.WriteString(write, text)
		select {
		case <-mark.seen:
			<-started
			d.look(r)
		case <-ctx.Done():
		}
	}()
}

// marked closes seen when closedMark was written, and does not keep it.
type marked struct {
	out  *bytes.Buffer
	seen chan struct{}
	once sync.Once
}

func (m *marked) Write(b []byte) (int, error) {
	m.out.Write(b)
	if rest, ok := bytes.CutSuffix(m.out.Bytes(), []byte(closedMark)); ok {
		m.out.Truncate(len(rest))
		m.once.Do(func() { close(m.seen) })
	}
	return len(b), nil
}

// look waits until the program has no descriptor in the site, but where replication
// cannot come to an end.
func (d *descriptors) look(r *trial) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(harness.Bound); ; <-tick.C {
		d.site = nil
		files, sockets := harness.OpenFiles(r.s.T, r.program.PID())
		d.others = sockets
		for _, name := range files {
			if strings.HasPrefix(name, r.s.Dir) {
				d.site = append(d.site, strings.TrimPrefix(name, r.s.Dir))
			} else {
				d.others++
			}
		}
		if len(d.site) == 0 || r.unending() || time.Now().After(deadline) {
			return
		}
	}
}

// leaked says what is wrong with them; calm are those of a run without faults.
func (d *descriptors) leaked(r *trial, calm *descriptors) error {
	slices.Sort(d.site)
	switch {
	case !r.unending() && len(d.site) > 0 || len(d.site) > 16:
		return fmt.Errorf("descriptors are left: %q", d.site)
	case d.others > calm.others:
		return fmt.Errorf("%d descriptors are left, and %d without faults", d.others, calm.others)
	}
	for i := range d.site {
		if i > 1 && d.site[i-2] == d.site[i] {
			return fmt.Errorf("more and more descriptors: %q", d.site)
		}
	}
	return nil
}

// watcher looks at a site's target while others work on it: nothing may dangle, ever.
type watcher struct {
	s        *harness.Site
	verifier *upkeep.Verifier
	seen     string // what the manifests were when they were looked at last
	versions int    // how many were looked at
	err      error
}

func newWatcher(s *harness.Site) *watcher { return &watcher{s: s} }

// called looks whether the call before this one has changed the target.
func (w *watcher) called(c faultcall.Call) {
	if w != nil && w.err == nil && strings.HasPrefix(c.Path, w.s.Path("store")) {
		w.err = w.look()
	}
}

// look verifies the newest versions, if they are not those of the last time.
func (w *watcher) look() error {
	manifests, err := filepath.Glob(w.s.Path("store/manifests/[^.]*-verneuil%3A*"))
	if err != nil || len(manifests) == 0 {
		return err
	}
	now := ""
	for _, name := range manifests {
		if info, err := os.Stat(name); err == nil {
			now += fmt.Sprint(name, info.Sys().(*syscall.Stat_t).Ino, info.ModTime().UnixNano())
		}
	}
	if now == w.seen {
		return nil
	}
	w.seen = now
	ctx := w.s.T.Context()
	if w.verifier == nil {
		target := []chunkstore.TargetConfig{&dir.Config{Path: w.s.Path("store")}}
		store, err := chunkstore.Open(ctx, target, chunkstore.Options{})
		if err != nil {
			return err
		}
		w.verifier = upkeep.NewVerifier(store.Targets[0], upkeep.VerifyOptions{Read: true})
	}
	for _, name := range manifests {
		m, err := w.verifier.Named(ctx, filepath.Base(name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.versions++
		if faults, err := w.verifier.Verify(ctx, m); err != nil || len(faults) > 0 {
			return errors.Join(append(faults, err)...)
		}
	}
	return nil
}

// script is the input of a shell that does the workload on name.
func script(s *harness.Site, name string, lines []string, extension bool) string {
	script := ".bail off\n.timeout 10000\n"
	if extension {
		script += ".load " + harness.Library(s.T) + "\n"
	}
	return script + ".open " + s.Path(name) + "\n" + strings.Join(lines, "\n") + "\n"
}

// recovers checks what a run has left: the database is what the stock shell made of it, a
// flush sends it, and what was sent is the database.
func recovers(s *harness.Site, what fmt.Stringer, sum string) {
	s.T.Helper()
	r := calm(s).run(script(s, "a.db", []string{sums, "pragma verneuil_flush_replication_data;"},
		true), harness.SQLiteShell(s.T), "-batch")
	if r.Stdout != sum+"1\n" || r.Code != 0 {
		s.T.Fatalf("%v: afterwards: %q, %s; want %q and a flush", what, r.Stdout, r.Stderr, sum)
	}
	if err := newWatcher(s).look(); err != nil {
		s.T.Fatalf("%v: the target: %v", what, err)
	}
	defer func() {
		if s.T.Failed() {
			s.T.Logf("after %v", what)
		}
	}()
	s.MustEqual("a.db")
}

// calm is a trial in which nothing happens.
func calm(s *harness.Site) *trial { return &trial{s: s, log: "warn"} }

// asks reports whether the program's calls matter to anybody: supervision costs as much as they do.
func (r *trial) asks() bool { return r.ours != nil || r.target != nil || r.descriptors != nil }

// anew empties the site but for its configuration.
func anew(s *harness.Site) {
	s.T.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "verneuil.json" {
			continue
		}
		if err := os.RemoveAll(s.Path(e.Name())); err != nil {
			s.T.Fatal(err)
		}
	}
}

// touches are the calls on files of the site.
func touches(s *harness.Site) func(faultcall.Call) bool {
	return func(c faultcall.Call) bool { return strings.HasPrefix(c.Path, s.Dir) }
}
