package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/cephtest"
	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// leaseTimeout is short, so that a round sees holders that are taken for dead.
const leaseTimeout = 600 * time.Millisecond

// finishBound is when a client that does not end is taken for one that hangs. It begins when the
// store serves: a cluster that was killed may take more than a minute for that on a busy machine.
const finishBound = 3 * time.Minute

// nimble has clients of Ceph look for an OSD that came back after a second, and not after ten.
const nimble = "objecter_timeout = 1\nobjecter_tick_interval = 0.5\n"

// machine is a directory for temporary files and a way to the store.
type machine struct {
	dir, config string
	proxy       *faultproxy.Proxy // nil: the store is a directory
}

// stage is where rounds are played: a store, and machines.
type stage struct {
	*harness.Site
	program, library string
	server           *miniotest.Server // nil: it is no S3
	ceph             *cephtest.Cluster // nil: it is no RADOS; else the store is a directory
	machines         []*machine
}

func newStage(t *testing.T, server *miniotest.Server, ceph *cephtest.Cluster) *stage {
	s := &stage{Site: harness.EmptySite(t), library: harness.Library(t), server: server,
		ceph: ceph}
	s.program = s.Compile(harness.InHosts("registers.c"), "-l:libsqlite3.so.0")
	for i := range 2 {
		name := fmt.Sprintf("machine-%d", i)
		m := &machine{dir: s.Path(name), config: s.Path(name + ".json")}
		harness.Must(t, os.Mkdir(m.dir, 0o700))
		store := map[string]any{"dir": map[string]any{"path": s.Path("store")}}
		if server != nil {
			m.proxy = faultproxy.Start(t, server.Endpoint)
			store = map[string]any{"s3": map[string]any{
				"region": "minio", "endpoint": m.proxy.URL, "create_buckets_on_demand": true,
				"chunk_bucket": "chunks", "manifest_bucket": "manifests",
			}}
		} else if ceph != nil {
			store = map[string]any{"rados": map[string]any{"pool": cephtest.Pool,
				"conf": ceph.Conf, "keyring": ceph.Keyring}}
		}
		b, err := json.Marshal(map[string]any{
			"hostname": name, "tempdir": m.dir, "stores": map[string]any{"rounds": store},
			"lease_timeout_ms":   leaseTimeout.Milliseconds(),
			"lease_renewal_ms":   leaseTimeout.Milliseconds() / 4,
			"lease_linger_ms":    100,
			"remote_deadline_ms": 3000, "remote_commit_interval_ms": 50,
		})
		harness.Must(t, err)
		s.Write(name+".json", b)
		s.machines = append(s.machines, m)
	}
	return s
}

// round is some clients that use a new database, and what happens to them.
type round struct {
	*stage
	uri  string
	rand *rand.Rand
	ctx  context.Context

	mu      sync.Mutex
	clients []*client
	events  []string
	report  report
}

// report counts what a round has come to.
type report struct {
	ok, failed, unknown, reads, strikes int
	kills                               int // of daemons of the store
}

func (r *report) add(o report) {
	r.ok += o.ok
	r.failed += o.failed
	r.unknown += o.unknown
	r.reads += o.reads
	r.strikes += o.strikes
	r.kills += o.kills
}

// TestRounds: whatever happens to the processes and the store, no commit that was answered is
// lost, no transaction that failed is found, and nobody reads half a transaction. VERNEUIL_ROUNDS
// says how many rounds there are on each kind of store, VERNEUIL_ROUND_SEED which is the first.
func TestRounds(t *testing.T) {
	for _, kind := range []string{"dir", "minio", "rados"} {
		t.Run(kind, func(t *testing.T) {
			var server *miniotest.Server
			var ceph *cephtest.Cluster
			switch kind {
			case "minio":
				server = miniotest.Run(t)
			case "rados":
				ceph = cephtest.Start(t, cephtest.Options{Bluestore: true, Conf: nimble})
			}
			s := newStage(t, server, ceph)
			first := uint64(harness.Number(t, "VERNEUIL_ROUND_SEED", int(rand.Uint32())))
			n := 15
			if ceph != nil {
				n = 5 // a round takes four seconds
			}
			if crash.Chosen() {
				n = 100
			}
			n = harness.Number(t, "VERNEUIL_ROUNDS", n)
			var sum report
			for i := range uint64(n) {
				got, err := s.play(t, first+i)
				if err != nil {
					t.Fatalf("round %d, seed %d (VERNEUIL_ROUND_SEED, VERNEUIL_ROUNDS=1): %v", i,
						first+i, err)
				}
				sum.add(got)
			}
			t.Logf("%d rounds from seed %d: %+v", n, first, sum)
			if sum.ok == 0 || sum.reads == 0 {
				t.Error("nothing has happened")
			}
		})
	}
}

// play plays one round.
func (s *stage) play(t *testing.T, seed uint64) (report, error) {
	r := &round{
		stage: s, rand: rand.New(rand.NewPCG(seed, 18)), ctx: t.Context(),
		uri: fmt.Sprintf("file:///rounds/%d.db?vfs=verneuil_remote", seed),
	}
	defer r.end()
	err := r.run()
	if err == nil {
		err = r.judge()
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, r.story())
	}
	return r.report, err
}

// end kills what is left.
func (r *round) end() {
	for _, m := range r.machines {
		if m.proxy != nil {
			m.proxy.Set(nil)
		}
	}
	for _, c := range r.clients {
		c.kill()
	}
}

// run has clients work while the nemesis strikes, and reads in the end.
func (r *round) run() error {
	c, err := r.start(r.machines[0], 0, "create")
	if err == nil {
		err = c.finish(r.ctx)
	}
	if err != nil {
		return err
	}
	for i := range 4 {
		if _, err := r.start(r.machines[i%2], 0); err != nil {
			return err
		}
	}
	for range 3 + r.rand.IntN(4) {
		r.pause(20, 300)
		if err := r.strike(); err != nil {
			return err
		}
	}
	r.pause(100, 300)
	r.served()
	for _, c := range r.clients {
		c.stdin.Close()
	}
	for _, c := range r.clients {
		if err := c.finish(r.ctx); err != nil {
			return err
		}
	}
	for _, m := range r.machines {
		c, err := r.start(m, 0, "end", "read")
		if err == nil {
			err = c.finish(r.ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pause lets the clients work for a while.
func (r *round) pause(least, most int) {
	select {
	case <-time.After(time.Duration(least+r.rand.IntN(most-least)) * time.Millisecond):
	case <-r.ctx.Done():
	}
}

// strike does one evil, and ends it.
func (r *round) strike() error {
	kinds := []func() error{r.killOne, r.killAtCall, r.stopOne, r.clean}
	if r.server != nil {
		kinds = append(kinds, r.partition, r.loseAnswers, r.freeze)
	}
	if r.ceph != nil {
		kinds = append(kinds, r.freezeOSD, r.freezeMonitor, r.killOSD, r.killMonitor, r.killCluster)
	}
	r.report.strikes++
	return kinds[r.rand.IntN(len(kinds))]()
}

// note notes what happens, for the story.
func (r *round) note(format string, args ...any) {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	r.events = append(r.events, fmt.Sprintf("%d ", now.Nano())+fmt.Sprintf(format, args...))
}

// one returns some client that lives, or has not yet been found dead.
func (r *round) one() *client {
	var alive []*client
	for _, c := range r.clients {
		if c.lives() {
			alive = append(alive, c)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[r.rand.IntN(len(alive))]
}

// killOne kills a client at any moment, and starts another one in its place.
func (r *round) killOne() error {
	c := r.one()
	if c == nil {
		return nil
	}
	r.note("client %d is killed", c.number)
	c.kill()
	_, err := r.start(c.on, 0)
	return err
}

// killAtCall starts a client that dies before one of its system calls.
func (r *round) killAtCall() error {
	at := 1 + r.rand.IntN(1500)
	c, err := r.start(r.machines[r.rand.IntN(len(r.machines))], at)
	if err == nil {
		r.note("client %d dies before call %d", c.number, at)
	}
	return err
}

// stopOne stops a client, as a rule for longer than the lease lasts.
func (r *round) stopOne() error {
	c := r.one()
	if c == nil {
		return nil
	}
	r.note("client %d is stopped", c.number)
	syscall.Kill(c.pid, syscall.SIGSTOP)
	r.pause(100, int(2*leaseTimeout.Milliseconds()))
	if c.lives() {
		syscall.Kill(c.pid, syscall.SIGCONT)
	}
	r.note("client %d goes on", c.number)
	return nil
}

// clean deletes the file by which the processes of a machine share the lease, as a cleaner of /tmp
// may.
func (r *round) clean() error {
	m := r.machines[r.rand.IntN(len(r.machines))]
	files, err := filepath.Glob(filepath.Join(m.dir, "verneuil-remote-*", "*"))
	if err != nil {
		return err
	}
	r.note("%s is cleaned", filepath.Base(m.dir))
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// partition cuts a machine off: its requests are reset, or never answered.
func (r *round) partition() error {
	i := r.rand.IntN(len(r.machines))
	f := faultproxy.Fault{Reset: true}
	if r.rand.IntN(2) == 0 {
		healed := make(chan struct{})
		defer close(healed)
		f = faultproxy.Fault{Hold: healed}
	}
	r.note("machine %d is cut off, reset %v", i, f.Reset)
	r.machines[i].proxy.Set(func(int, *http.Request) faultproxy.Fault { return f })
	r.pause(50, int(2*leaseTimeout.Milliseconds()))
	r.machines[i].proxy.Set(nil)
	r.note("machine %d is back", i)
	return nil
}

// loseAnswers has answers of a machine lost, after the store has done what was asked.
func (r *round) loseAnswers() error {
	i, share := r.rand.IntN(len(r.machines)), 2+r.rand.IntN(3)
	r.note("machine %d loses answers, 1 of %d", i, share)
	r.machines[i].proxy.Set(func(n int, q *http.Request) faultproxy.Fault {
		return faultproxy.Fault{Lose: q.Method == http.MethodPut && n%share == 0}
	})
	r.pause(100, 600)
	r.machines[i].proxy.Set(nil)
	r.note("machine %d loses no more", i)
	return nil
}

// freeze stops the store.
func (r *round) freeze() error {
	r.note("the store is frozen")
	if err := r.server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	r.pause(50, int(2*leaseTimeout.Milliseconds()))
	r.note("the store goes on")
	return r.server.Signal(syscall.SIGCONT)
}

// freezeOSD stops what has the data.
func (r *round) freezeOSD() error { return r.freezeDaemon("OSD", r.ceph.OSDs[0]) }

// freezeMonitor stops whom clients ask first of all.
func (r *round) freezeMonitor() error { return r.freezeDaemon("monitor", r.ceph.Mon) }

func (r *round) freezeDaemon(name string, d *cephtest.Daemon) error {
	r.note("the %s is frozen", name)
	if err := syscall.Kill(d.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	r.pause(50, int(2*leaseTimeout.Milliseconds()))
	r.note("the %s goes on", name)
	return syscall.Kill(d.PID(), syscall.SIGCONT)
}

// killOSD kills what has the data, and starts it again after a while.
func (r *round) killOSD() error {
	return r.killDaemons("OSD", r.ceph.OSDs[0])
}

// killMonitor has no monitor for a while.
func (r *round) killMonitor() error {
	return r.killDaemons("monitor", r.ceph.Mon)
}

// killCluster kills all, as a power failure does.
func (r *round) killCluster() error {
	return r.killDaemons("cluster", r.ceph.Mon, r.ceph.OSDs[0])
}

func (r *round) killDaemons(name string, daemons ...*cephtest.Daemon) error {
	r.note("the %s is killed", name)
	for _, d := range daemons {
		d.Kill()
	}
	r.pause(20, int(2*leaseTimeout.Milliseconds()))
	for _, d := range daemons {
		d.Start(r.T)
	}
	r.note("the %s is started", name)
	r.report.kills++
	if r.rand.IntN(2) == 0 { // else the next evil may come before it serves
		r.served()
	}
	return nil
}

// served returns when the cluster answers, which it may do late after a kill.
func (r *round) served() {
	if r.ceph != nil {
		r.ceph.Run(r.T, "rados", "-p", cephtest.Pool, "ls") // it asks each placement group
		r.note("the cluster serves")
	}
}

// judge looks at what the clients have said.
func (r *round) judge() error {
	var all []*operation
	for _, c := range r.clients {
		if len(c.lines) == 0 {
			continue
		}
		said, err := parse(c.number, c.lines)
		if err != nil {
			return err
		}
		all = append(all, said...)
	}
	for _, o := range all {
		switch {
		case o.verdict == "failed":
			r.report.failed++
		case o.verdict != "ok":
			r.report.unknown++
		case len(o.changes) == 0:
			r.report.reads++
		default:
			r.report.ok++
		}
	}
	n := len(all)
	if n < 2 || all[n-1].verdict != "ok" || all[n-2].verdict != "ok" {
		return fmt.Errorf("the database cannot be read in the end")
	}
	return check(all)
}

// story tells a round that has failed.
func (r *round) story() string {
	var b strings.Builder
	for _, event := range r.events {
		fmt.Fprintln(&b, event)
	}
	for _, c := range r.clients {
		fmt.Fprintf(&b, "client %d, of %s:\n%s\n%s\n", c.number, filepath.Base(c.on.dir),
			strings.Join(c.lines, "\n"), c.log())
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("verneuil-round-%d.txt", os.Getpid()))
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return err.Error()
	}
	return "the whole story is in " + path
}
