package cephtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"verneuil/test/tied"
)

// Daemon is a monitor, an OSD or a manager of a cluster. It is used by one goroutine at a time.
type Daemon struct {
	cluster *Cluster
	name    string // "mon.a", "osd.0"
	args    []string
	env     []string // on top of the cluster's
	process *os.Process
	exited  chan struct{} // closed when the process has ended
}

func (d *Daemon) start() error {
	output, err := os.OpenFile(filepath.Join(d.cluster.dir, d.name+".out"),
		os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command(d.args[0], d.args[1:]...)
	command.Env = append(d.cluster.environ(), d.env...)
	command.Stdout, command.Stderr = output, output
	if err := tied.Start(command); err != nil {
		return err
	}
	exited := make(chan struct{})
	d.process, d.exited = command.Process, exited
	go func() {
		command.Wait() // ends with an error when we kill it
		close(exited)
	}()
	return nil
}

// said returns what the daemon has written to its output, for messages.
func (d *Daemon) said() string {
	text, err := os.ReadFile(filepath.Join(d.cluster.dir, d.name+".out"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// Start starts the daemon after Kill or Stop. It does not wait until it serves.
func (d *Daemon) Start(tb testing.TB) {
	tb.Helper()
	if err := d.start(); err != nil {
		tb.Fatalf("start %s: %v", d.name, err)
	}
}

// Kill ends the daemon with SIGKILL, and returns when it has ended. What an OSD on memstore has
// stored is lost.
func (d *Daemon) Kill() {
	d.process.Kill()
	<-d.exited
}

// Stop ends the daemon with SIGTERM, and returns when it has ended. An OSD on memstore saves what
// it has.
func (d *Daemon) Stop(tb testing.TB) {
	tb.Helper()
	d.Signal(tb, syscall.SIGTERM)
	<-d.exited
}

// Freeze stops the daemon with SIGSTOP, and returns when none of its threads runs.
func (d *Daemon) Freeze(tb testing.TB) {
	tb.Helper()
	d.Signal(tb, syscall.SIGSTOP)
	frozen := func() bool {
		states, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.process.Pid))
		if err != nil {
			tb.Fatal(err)
		}
		return !slices.ContainsFunc(states, func(name string) bool {
			text, err := os.ReadFile(name) // NUMBER (PROGRAM) STATE ...
			return err == nil && !strings.Contains(string(text), ") T ")
		})
	}
	if !within(time.Millisecond, frozen) {
		tb.Fatalf("%s still runs after SIGSTOP", d.name)
	}
}

// within asks done again and again, every so often, and reports whether it said yes before bound.
func within(every time.Duration, done func() bool) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.Now().Add(bound); time.Now().Before(deadline); <-tick.C {
		if done() {
			return true
		}
	}
	return false
}

// Thaw has a frozen daemon go on.
func (d *Daemon) Thaw(tb testing.TB) {
	tb.Helper()
	d.Signal(tb, syscall.SIGCONT)
}

// Signal sends the daemon a signal, such as SIGSTOP.
func (d *Daemon) Signal(tb testing.TB, signal os.Signal) {
	tb.Helper()
	if err := d.process.Signal(signal); err != nil {
		tb.Fatalf("%s: %v", d.name, fmt.Errorf("signal %v: %w", signal, err))
	}
}

// PID is the number of the process, which runs.
func (d *Daemon) PID() int { return d.process.Pid }
