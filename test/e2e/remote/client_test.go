package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"verneuil/spool/faultcall"
)

// client is a process that runs test/hosts/registers.c.
type client struct {
	number int
	on     *machine
	stdin  io.Closer
	stderr string // a path
	pid    int
	ended  chan struct{} // err is set, and lines is whole

	mu    sync.Mutex
	lines []string
	doom  bool // it is killed, or will be
	err   error
}

// start starts a client. callsLeft, if not 0, is how many system calls on files it lives.
func (r *round) start(on *machine, callsLeft int, args ...string) (*client, error) {
	r.mu.Lock()
	c := &client{number: len(r.clients), on: on, ended: make(chan struct{}), doom: callsLeft > 0}
	r.clients = append(r.clients, c)
	r.mu.Unlock()
	c.stderr = fmt.Sprintf("%s/client-%d", on.dir, c.number)
	if len(args) == 0 {
		args = []string{fmt.Sprintf("%c%d", 'a'+c.number%26, c.number/26), "1000"}
	}
	cmd := exec.Command(r.program, append([]string{r.library, r.uri}, args...)...)
	cmd.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+on.config, "VERNEUIL_LOG=info")
	if r.ceph != nil {
		cmd.Env = append(cmd.Env, r.ceph.Env("")...)
	}
	stderr, err := os.Create(c.stderr)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	wait := cmd.Wait
	if callsLeft > 0 {
		p, err := faultcall.Start(cmd, func(faultcall.Call) faultcall.Verdict {
			callsLeft--
			return faultcall.Verdict{Kill: callsLeft == 0}
		})
		if err != nil {
			return nil, err
		}
		wait = p.Wait
	} else if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.pid = cmd.Process.Pid
	go c.follow(stdout, wait)
	return c, nil
}

// follow reads what the client says, until it ends.
func (c *client) follow(stdout io.Reader, wait func() error) {
	defer close(c.ended)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // what has no end was not said
		}
		c.mu.Lock()
		c.lines = append(c.lines, strings.TrimSuffix(line, "\n"))
		c.mu.Unlock()
	}
	c.err = wait()
}

// said returns how many lines the client has said.
func (c *client) said() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

func (c *client) lives() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

func (c *client) kill() {
	c.mu.Lock()
	c.doom = true
	c.mu.Unlock()
	if c.lives() {
		syscall.Kill(c.pid, syscall.SIGKILL)
	}
	<-c.ended
}

// finish has the client end, and fails if it does not, or not well.
func (c *client) finish(ctx context.Context) error {
	c.stdin.Close()
	ctx, cancel := context.WithTimeout(ctx, finishBound)
	defer cancel()
	select {
	case <-c.ended:
	case <-ctx.Done():
		syscall.Kill(c.pid, syscall.SIGQUIT) // Go says where it is
		select {
		case <-c.ended:
		case <-time.After(10 * time.Second):
			syscall.Kill(c.pid, syscall.SIGKILL)
		}
		return fmt.Errorf("client %d hangs: %s", c.number, c.log())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil && !c.doom {
		return fmt.Errorf("client %d: %w: %s", c.number, c.err, c.log())
	}
	return nil
}

// log returns the end of what it has written to standard error.
func (c *client) log() string {
	b, err := os.ReadFile(c.stderr)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-20000):])
}
