package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// besides measures what else a host could do than to have its database in a store.
type besides struct {
	*remotes
	rows []row
}

// besideCommits is how many commits are lost, or not.
const besideCommits = 100

// remoteBeside measures others on one MinIO: each is left out with the reason if it cannot run.
func (b *bench) remoteBeside() error {
	dir, s, end, err := b.scene("beside")
	if err != nil {
		return err
	}
	defer end()
	c, err := count(s)
	if err != nil {
		return err
	}
	defer c.stop()
	r := &remotes{bench: b, dir: dir, proxy: c, calls: c.now}
	p := &besides{remotes: r}
	r.env, err = configure(dir, dirTarget(filepath.Join(dir, "unused")),
		object{"stores": object{"s": s3Target(c.endpoint, "remote")}})
	if err != nil {
		return err
	}
	b.report.text("Beside it, on the same server: one-row commits at synchronous=FULL, and how "+
		"many of %d that COMMIT had answered are gone when the process is killed (SIGKILL) right "+
		"after the last one. Litestream's VFS writes to a buffer, in a file that the next process "+
		"empties, and sends it once a second (LITESTREAM_SYNC_INTERVAL), so that it loses up to a "+
		"second: of a new database, all. s3fs keeps files in its own process, and puts the whole "+
		"object at each fsync; two machines that have one file mounted do not see each other's "+
		"locks, and the later one overwrites what the other wrote.", besideCommits)
	for _, other := range []struct {
		name string
		run  func(name string) error
	}{
		{"stock SQLite, local disk", p.stock}, {"verneuil_remote", p.ours},
		{"Litestream's VFS, LITESTREAM_WRITE_ENABLED", p.litestreamVFS},
		{"stock SQLite on s3fs", p.s3fs},
	} {
		if err := other.run(other.name); err != nil {
			b.report.text("%s was left out: %s.", other.name, lastLine(err))
		}
	}
	b.report.table([]string{"", "commit p50, ms", "p99, ms", "requests a commit",
		fmt.Sprintf("lost, of %d", besideCommits)}, p.rows)
	return nil
}

// measure adds a line: n commits to the database that name makes a URI of.
func (p *besides) measure(what, lib, vfs string, name func(string) string, n int) error {
	took, requests, err := p.asked("each", lib, vfs, name("each.db"), "pragma synchronous=full",
		strconv.Itoa(n))
	if err != nil {
		return err
	}
	lost, _, err := p.asked("lost", lib, vfs, name("lost.db"), "pragma synchronous=full",
		strconv.Itoa(besideCommits))
	if err != nil {
		return err
	}
	p.rows = append(p.rows, row{what, took[0] / 1e3, took[1] / 1e3, requests / (float64(n) * 1.1),
		lost[0]})
	return nil
}

func (p *besides) stock(what string) error {
	in := func(name string) string { return filepath.Join(p.dir, name) }
	return p.measure(what, "-", "unix", in, 200)
}

func (p *besides) ours(what string) error {
	return p.measure(what, p.lib, "verneuil_remote", remoteURI, 200)
}

func (p *besides) litestreamVFS(what string) error {
	lib, err := p.peer("lib/litestream-vfs.so")
	if err != nil {
		return err
	}
	if err := newRaw(p.proxy.endpoint).bucket(p.ctx, litestreamBucket); err != nil {
		return err
	}
	env := p.env
	defer func() { p.env = env }()
	database := func(name string) string { // which one it is, the environment says
		p.env = []string{"LITESTREAM_REPLICA_URL=s3://" + litestreamBucket + "/" + name +
			"?endpoint=" + strings.TrimPrefix(p.proxy.endpoint, "http://") + "&region=" + region +
			"&force-path-style=true", "LITESTREAM_WRITE_ENABLED=true",
			"LITESTREAM_LOG_FILE=" + os.DevNull}
		return "file:" + name
	}
	return p.measure(what, lib, "litestream", database, 200)
}

func (p *besides) s3fs(what string) error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return errors.New("there is no /dev/fuse here")
	}
	for program, debian := range map[string]string{"s3fs": "s3fs", "fusermount": "fuse"} {
		if err := p.need(program, debian); err != nil {
			return err
		}
	}
	const bucket = "file-system"
	if err := newRaw(p.proxy.endpoint).bucket(p.ctx, bucket); err != nil {
		return err
	}
	at, keys := filepath.Join(p.dir, "s3fs"), filepath.Join(p.dir, "s3fs-keys")
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(keys, []byte(accessKey+":"+secretKey), 0o600); err != nil {
		return err
	}
	daemon, err := p.launch(nil, "s3fs", bucket, at, "-f", "-o", "url="+p.proxy.endpoint,
		"-o", "use_path_request_style", "-o", "endpoint="+region, "-o", "passwd_file="+keys)
	if err != nil {
		return err
	}
	defer daemon.end(os.Interrupt)
	defer func() {
		exec.CommandContext(context.WithoutCancel(p.ctx), "fusermount", "-u", "-z", at).Run()
	}()
	if err := p.mounted(at); err != nil {
		return fmt.Errorf("%w: %s", err, tail(daemon.stderr.String()))
	}
	in := func(name string) string { return filepath.Join(at, name) }
	return p.measure(what, "-", "unix", in, 20)
}

// mounted waits until a file system is mounted at that directory.
func (p *besides) mounted(at string) error {
	for range 200 {
		mounts, err := os.ReadFile("/proc/mounts")
		if err != nil {
			return err
		}
		if strings.Contains(string(mounts), " "+at+" ") {
			return nil
		}
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("it does not mount")
}
