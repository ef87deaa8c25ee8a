package faultcall

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is one system call that is about to happen.
type Call struct {
	Name  string // such as "openat"
	Path  string // of the file that it is about, if that is known
	Flags int    // of an openat
}

func (c Call) String() string { return c.Name + " " + c.Path }

// Verdict says what happens to a call; the zero value lets it pass.
type Verdict struct {
	Err   syscall.Errno // it fails with this, and is not carried out
	Short bool          // a write writes half; anything else passes
	Kill  bool          // the process is killed before it
}

// Program is a program under supervision.
type Program struct {
	cmd    *exec.Cmd
	listen int
	done   chan struct{} // the supervisor has ended
	decide func(Call) Verdict

	mu     sync.Mutex
	err    error // of the supervisor
	killed bool  // cmd's process was sent SIGKILL before a call
	missed bool  // see Missed
}

// Start starts cmd, and asks decide about every call on files that cmd, or a process that it forks,
// is about to make. Only one goroutine at a time calls decide.
func Start(cmd *exec.Cmd, decide func(Call) Verdict) (*Program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	defer unix.Close(pair[0])
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %s", launchEnv, 2+len(cmd.ExtraFiles), cmd.Path))
	cmd.Path = self
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	theirs.Close()
	p := &Program{cmd: cmd, done: make(chan struct{}), decide: decide}
	if p.listen, err = receive(pair[0]); err != nil {
		cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("faultcall: no filter: %w", err), cmd.Wait())
	}
	go p.supervise()
	return p, nil
}

// receive takes the filter's descriptor from a launcher.
func receive(socket int) (int, error) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return 0, errors.Join(errors.New("the launcher sent none"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// PID returns the program's process number.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Kill kills the program, if it has not ended.
func (p *Program) Kill() { p.cmd.Process.Kill() }

// Missed reports whether a call was already gone when its process was to be killed before it: the
// process was ending, or a signal interrupted the call. The process may have ended by itself. After
// Wait it also reports whether cmd's process was killed before a call and has ended by itself all
// the same: then another thread had called exit before the signal came, as after a signal that ends
// the process nothing else does (Linux, kernel/signal.c, complete_signal).
func (p *Program) Missed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missed
}

// Wait waits for the program's end, as [exec.Cmd.Wait] does.
func (p *Program) Wait() error {
	err := p.cmd.Wait()
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed && p.cmd.ProcessState != nil && p.cmd.ProcessState.Exited() {
		p.missed = true
	}
	return errors.Join(err, p.err)
}

// notification and answer are the kernel's struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

func (p *Program) supervise() {
	defer close(p.done)
	defer unix.Close(p.listen)
	for {
		poll := []unix.PollFd{{Fd: int32(p.listen), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			p.fail(err)
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return // no process is left that could ask
		}
		var n notification
		if err := ioctl(p.listen, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
			continue // it was killed meanwhile
		}
		p.answer(&n)
	}
}

func (p *Program) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = fmt.Errorf("faultcall: %w", err)
}

func (p *Program) answer(n *notification) {
	a := answer{id: n.id}
	v := p.decide(n.call())
	switch {
	case v.Kill:
		process := groupOf(n.pid)
		gone := ioctl(p.listen, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id)) != nil
		p.mu.Lock()
		p.missed = p.missed || gone
		p.killed = p.killed || process == p.cmd.Process.Pid
		p.mu.Unlock()
		syscall.Kill(process, syscall.SIGKILL)
		return
	case v.Err != 0:
		a.err = -int32(v.Err)
	case v.Short && n.short(&a):
	default:
		a.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	// ENOENT: the call was interrupted, and we will be asked again; or the process died.
	err := ioctl(p.listen, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a))
	if err != nil && err != unix.ENOENT {
		p.fail(err)
	}
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// groupOf returns the process that a thread belongs to.
func groupOf(tid uint32) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	for line := range strings.Lines(string(status)) {
		var pid int
		if _, scanErr := fmt.Sscanf(line, "Tgid: %d", &pid); err == nil && scanErr == nil {
			return pid
		}
	}
	return int(tid)
}

func (n *notification) call() Call {
	how := calls[n.nr]
	c := Call{Name: how.name}
	switch {
	case how.dir >= 0 && how.path >= 0:
		c.Path = n.at(n.args[how.dir], n.args[how.path])
	case how.path >= 0:
		c.Path = n.at(0xffffff9c, n.args[how.path]) // AT_FDCWD
	case how.fd >= 0:
		c.Path = n.link(n.args[how.fd])
	}
	if n.nr == unix.SYS_OPENAT {
		c.Flags = int(n.args[2])
	}
	return c
}

// link returns the path of a descriptor's file.
func (n *notification) link(fd uint64) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(fd)))
	return strings.TrimSuffix(path, " (deleted)")
}

// at returns the path that an *at call gives as a directory and a pointer.
func (n *notification) at(dir, pointer uint64) string {
	path := n.text(pointer)
	switch {
	case filepath.IsAbs(path):
		return path
	case int32(dir) != unix.AT_FDCWD:
		return filepath.Join(n.link(dir), path)
	}
	cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", n.pid))
	return filepath.Join(cwd, path)
}

// text returns the string at an address of the process; empty if it cannot be read.
func (n *notification) text(address uint64) string {
	var b []byte
	for len(b) < unix.PathMax {
		page := 4096 - int(address%4096) // the next page may not be mapped
		piece := n.memory(address, page)
		if end := strings.IndexByte(string(piece), 0); end >= 0 {
			return string(append(b, piece[:end]...))
		}
		if piece == nil {
			break
		}
		b, address = append(b, piece...), address+uint64(page)
	}
	return ""
}

func (n *notification) memory(address uint64, length int) []byte {
	b := make([]byte, length)
	local := []unix.Iovec{{Base: &b[0], Len: uint64(length)}}
	remote := []unix.RemoteIovec{{Base: uintptr(address), Len: length}}
	if k, err := unix.ProcessVMReadv(int(n.pid), local, remote, 0); err != nil || k < length {
		return nil
	}
	return b
}

// short writes half of the bytes of a write, in place of the program.
func (n *notification) short(a *answer) bool {
	length := int(n.args[2])
	if n.nr != unix.SYS_WRITE && n.nr != unix.SYS_PWRITE64 || length < 2 {
		return false
	}
	b := n.memory(n.args[1], length/2)
	pid, err := unix.PidfdOpen(groupOf(n.pid), 0)
	if b == nil || err != nil {
		return false
	}
	defer unix.Close(pid)
	fd, err := unix.PidfdGetfd(pid, int(n.args[0]), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	k := 0
	if n.nr == unix.SYS_WRITE {
		k, err = unix.Write(fd, b)
	} else {
		k, err = unix.Pwrite(fd, b, int64(n.args[3]))
	}
	a.val = int64(k)
	return err == nil
}
