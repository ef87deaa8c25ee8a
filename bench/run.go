package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// compile builds the C host and finds SQLite's version.
func (b *bench) compile(headers string) error {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	sources, err := filepath.Glob(filepath.Join(b.root, "bench/host/*.c"))
	if err != nil || len(sources) == 0 {
		return fmt.Errorf("no sources of the host: %v", err)
	}
	b.host = filepath.Join(b.dir, "host")
	args := append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I" + headers,
		"-o", b.host}, sources...)
	out, err := exec.CommandContext(b.ctx, cc,
		append(args, "-l:libsqlite3.so.0", "-lpthread")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the host: %w\n%s", err, out)
	}
	return nil
}

// hideAccount hides the user's AWS account, and settings that would change how the programs
// behave, from everything that we start.
func hideAccount() {
	for _, name := range []string{"VERNEUIL_CONFIG", "VERNEUIL_LOG", "RUST_LOG",
		"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"} {
		os.Unsetenv(name)
	}
	os.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	os.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	os.Setenv("AWS_REGION", region)
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// need finds a program; if it is missing, it tries to install Debian's package.
func (b *bench) need(program, debian string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err == nil && os.Getuid() == 0 {
		fmt.Fprintln(os.Stderr, "installing Debian's", debian)
		install := fmt.Sprintf("apt-get install -y -q %[1]s || (apt-get update -q && apt-get "+
			"install -y -q %[1]s)", debian)
		exec.CommandContext(b.ctx, "sh", "-c", install).Run() // LookPath tells
	}
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is missing (apt-get install %s)", program, debian)
	}
	return nil
}

// fresh makes an empty directory for a part's data and returns a function that
// discards it.
func (b *bench) fresh(name string) (string, func(), error) {
	dir := filepath.Join(b.dir, name)
	b.discard(dir)
	return dir, func() { b.discard(dir) }, os.MkdirAll(dir, 0o755)
}

// local is fresh with a configuration for it, in env, whose target is a directory in it.
func (b *bench) local(name string) (dir string, env []string, remove func(), err error) {
	dir, remove, err = b.fresh(name)
	if err != nil {
		return "", nil, nil, err
	}
	if env, err = configure(dir, dirTarget(dir+"/store"), nil); err != nil {
		remove()
		return "", nil, nil, err
	}
	return dir, env, remove, nil
}

// scene is fresh with a MinIO server in it, which end stops, too.
func (b *bench) scene(name string) (dir string, s *server, end func(), err error) {
	dir, remove, err := b.fresh(name)
	if err != nil {
		return "", nil, nil, err
	}
	if s, err = b.serve("minio", filepath.Join(dir, "minio")); err != nil {
		remove()
		return "", nil, nil, err
	}
	return dir, s, func() { s.stop(); remove() }, nil
}

// discard gets files out of the way without deleting them. On ext4 without a journal, creating a
// file costs time for each inode that was deleted in the last five seconds (recently_deleted in
// fs/ext4/ialloc.c): a quarter of a sync's processor time. If the disk cannot hold all the files,
// discard deletes them and waits for that long.
func (b *bench) discard(path string) {
	if _, err := os.Lstat(path); err != nil {
		return
	}
	if b.keeps {
		trash := filepath.Join(b.dir, fmt.Sprintf("trash-%d", b.discarded.Add(1)))
		if os.Rename(path, trash) == nil {
			return
		}
	}
	os.RemoveAll(path)
	select {
	case <-time.After(6 * time.Second):
	case <-b.ctx.Done():
	}
}

// room fails if the disk has less free space than that many MiB and a tenth.
func (b *bench) room(mib int) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free := int(int64(fs.Bavail) * fs.Bsize >> 20); free < mib+mib/10 {
		return fmt.Errorf("it needs %s of disk, and %s are free", size(mib+mib/10), size(free))
	}
	return nil
}

// object is a JSON object.
type object = map[string]any

// configure writes a configuration with a spool of its own in dir, and returns the
// environment that names it.
func configure(dir string, target object, more object) (env []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := object{"replication_spooling_dir": filepath.Join(dir, "spool"), "hostname": "bench",
		"replication_targets": []any{target}}
	for k, v := range more {
		c[k] = v
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "config.json")
	return []string{"VERNEUIL_CONFIG=@" + path}, os.WriteFile(path, body, 0o600)
}

func dirTarget(path string) object { return object{"dir": object{"path": path}} }

// process is a program that was started: its output, and, once it has ended, what it used.
type process struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr bytes.Buffer
	start  time.Time
	peak   atomic.Int64  // kB
	ended  chan struct{} // closed when it has closed its output
}

// launch starts a program that dies with us and with the part.
func (b *bench) launch(env []string, name string, args ...string) (*process, error) {
	b.report.command(env, name, args)
	c := exec.CommandContext(b.ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	c.WaitDelay = 10 * time.Second
	p := &process{Cmd: c, ended: make(chan struct{})}
	c.Stderr = &p.stderr
	var err error
	if p.stdin, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = c.StdoutPipe(); err != nil {
		return nil, err
	}
	p.start = time.Now()
	return p, c.Start()
}

// wait returns when the program has ended; read its output first.
func (p *process) wait() error {
	if err := p.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(p.Path), first(p.Args[1:]), err,
			tail(p.stderr.String()))
	}
	return nil
}

// end stops a daemon.
func (p *process) end(signal os.Signal) {
	p.Process.Signal(signal)
	p.Wait()
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func tail(s string) string { return strings.TrimSpace(s[max(0, len(s)-500):]) }

// lastLine is the part of a program's error output that matters.
func lastLine(err error) string {
	text := strings.TrimSpace(err.Error())
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// cost is what a program took.
type cost struct {
	seconds float64
	cpu     float64 // seconds, of all threads
	peakMiB float64
}

// take runs a program to its end.
func (b *bench) take(env []string, name string, args ...string) (string, cost, error) {
	p, err := b.launch(env, name, args...)
	if err != nil {
		return "", cost{}, err
	}
	p.stdin.Close()
	go p.watchMemory()
	out, err := io.ReadAll(p.stdout)
	close(p.ended)
	if waitErr := p.wait(); waitErr != nil {
		return string(out), cost{}, waitErr
	}
	return string(out), p.cost(), err
}

func (p *process) cost() cost {
	return cost{time.Since(p.start).Seconds(),
		(p.ProcessState.UserTime() + p.ProcessState.SystemTime()).Seconds(),
		float64(p.peak.Load()) / 1024}
}

// watchMemory notes the largest resident set. (The kernel's ru_maxrss includes ours, as the child
// shares our memory until it executes its own program.)
func (p *process) watchMemory() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var kB int64
		if fmt.Sscan(fieldOf(fmt.Sprintf("/proc/%d/status", p.Process.Pid), "VmHWM"), &kB); kB > 0 {
			p.peak.Store(kB)
		}
		select {
		case <-p.ended:
			return
		case <-tick.C:
		}
	}
}

// ask runs the host and returns the numbers that it prints, line by line.
func (b *bench) ask(env []string, args ...string) ([][]float64, error) {
	out, _, err := b.take(env, b.host, args...)
	if err != nil {
		return nil, err
	}
	return numbers(out)
}

// numbers reads lines of numbers; lines with bars (memory) are left out.
func numbers(out string) (lines [][]float64, err error) {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "|") {
			continue
		}
		var row []float64
		for field := range strings.FieldsSeq(line) {
			v, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return nil, err
			}
			row = append(row, v)
		}
		lines = append(lines, row)
	}
	return lines, nil
}

// memory is a line of the host's memory_line.
type memory struct {
	when                string
	rss, anonymous, top float64 // MiB
	threads             int
}

func memories(out string) (all []memory) {
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 5 {
			continue
		}
		m := memory{when: f[0]}
		for i, v := range []*float64{&m.rss, &m.anonymous, &m.top} {
			*v, _ = strconv.ParseFloat(f[i+1], 64)
			*v /= 1024
		}
		m.threads, _ = strconv.Atoi(f[4])
		all = append(all, m)
	}
	return all
}

// treeBytes counts the files under dir, and their bytes.
func treeBytes(dir string) (files int, bytes int64) {
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // it was removed meanwhile
		}
		if info, err := entry.Info(); err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return nil
	})
	return files, bytes
}

// fill makes a database of about that many MiB.
func (b *bench) fill(path string, mib int) error {
	_, err := b.ask(nil, "fill", b.lib, "unix", path, strconv.Itoa(mib<<20))
	return err
}

// copyFile copies with holes, and leaves the source's bytes in the page cache.
func (b *bench) copyFile(from, to string) error {
	out, err := exec.CommandContext(b.ctx, "cp", "--sparse=auto", "--reflink=never", from,
		to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}
