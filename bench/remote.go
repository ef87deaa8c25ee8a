package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// remotes measures databases that live in one store.
type remotes struct {
	*bench
	name   string // of the store, for the tables
	dir    string
	env    []string
	server *server      // nil: a directory
	proxy  *counter     // nil: nobody counts
	calls  func() calls // so far; nil: nobody counts
	raw    *raw         // the plainest client; nil: a directory
	put    []float64    // µs of PUTs of as many bytes as a commit's record has, one by one
	far    bool         // each request takes farAway longer
}

// recordBytes is about what the record of a one-row commit has: two pages, compressed.
const recordBytes = 1700

// partRemote measures verneuil_remote on each kind of store.
func partRemote(b *bench) error {
	b.report.text("A database that lives in the store (vfs=verneuil_remote): one-row commits at " +
		"synchronous=FULL, beside a PUT of as many bytes, one by one, to the same server. " +
		"Turns: two processes that commit in turns, and the requests of one more turn. " +
		"Takeover: from SIGKILL of the process that holds the lease, in a transaction, to the " +
		"commit of another machine that waits; the " +
		"lease's timeout is 3 s here.")
	var rows []row
	for _, kind := range []struct {
		name  string
		delay time.Duration
	}{{"dir", 0}, {"minio", 0}, {"versitygw", 0}, {"minio", farAway}} {
		r, err := b.remoteOf(kind.name, kind.delay)
		if err != nil {
			b.report.text("%s was left out: %v.", kind.name, err)
			continue
		}
		rows = append(rows, r)
	}
	b.report.table([]string{"store", "raw PUT, ms", "commit p50, ms", "p99", "x raw PUT",
		"requests a commit", "16 threads, x one", "OFF, commits/s", "x stock",
		"turns on one machine, ms", "requests", "on two", "requests", "takeover, s"}, rows)
	if err := b.remoteBeside(); err != nil {
		b.report.text("What stands beside it was left out: %v.", err)
	}
	return nil
}

// remoteOf measures one store: a line of the table.
func (b *bench) remoteOf(kind string, delay time.Duration) (row, error) {
	dir, remove, err := b.fresh("remote-" + kind)
	if err != nil {
		return nil, err
	}
	defer remove()
	r := &remotes{bench: b, name: kind, dir: dir, far: delay > 0}
	target := dirTarget(filepath.Join(dir, "store"))
	if kind != "dir" {
		s, err := b.serve(kind, filepath.Join(dir, kind))
		if err != nil {
			return nil, err
		}
		defer s.stop()
		c, err := count(s)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		c.delay, r.server, r.proxy, r.calls = delay, s, c, c.now
		target = s3Target(c.endpoint, "remote")
		if delay > 0 {
			r.name = fmt.Sprintf("%s, %.0f ms further away", kind, delay.Seconds()*1e3)
		}
		r.raw = newRaw(c.endpoint)
		if err := r.raw.bucket(r.ctx, tripsBucket); err != nil {
			return nil, err
		}
	}
	r.env, err = configure(dir, dirTarget(filepath.Join(dir, "unused")), object{
		"stores": object{"s": target}, "lease_timeout_ms": 3000, "lease_renewal_ms": 1000})
	if err != nil {
		return nil, err
	}
	return r.measure()
}

// rawPuts measures PUTs by the plainest client, half as many as commits.
func (r *remotes) rawPuts() error {
	if r.raw == nil {
		return nil
	}
	for range r.commits() / 2 {
		put, _, err := r.raw.roundTrip(r.ctx, r.raw, len(r.put), recordBytes)
		if err != nil {
			return err
		}
		r.put = append(r.put, put*1e6)
	}
	return nil
}

// commits is how many are measured one by one.
func (r *remotes) commits() int {
	if r.far {
		return 60
	}
	return 300
}

func remoteURI(name string) string { return "file:///s/" + name + "?vfs=verneuil_remote" }

// asked is what the host prints, and how many requests it has sent.
func (r *remotes) asked(args ...string) (line []float64, requests float64, err error) {
	var before calls
	if r.calls != nil {
		before = r.calls()
	}
	lines, err := r.ask(r.env, args...)
	if err == nil && len(lines) == 0 {
		err = fmt.Errorf("host %s: no answer", args[0])
	}
	if err != nil {
		return nil, 0, err
	}
	if r.calls != nil {
		requests = float64(r.calls().minus(before).all())
	}
	return lines[0], requests, nil
}

// crowd returns the commits a second of so many threads that make n each, and how busy the
// processors were with that.
func (r *remotes) crowd(threads int, n string) (rate float64, busy string, err error) {
	before := 0.0
	if r.server != nil {
		before = processCPU(r.server.process.Process.Pid)
	}
	out, spent, err := r.take(r.env, r.host, "crowd", r.lib, "verneuil_remote",
		remoteURI("crowd.db"), strconv.Itoa(threads), n)
	if err != nil {
		return 0, "", err
	}
	lines, err := numbers(out)
	if err != nil || len(lines) != 1 {
		return 0, "", fmt.Errorf("host crowd said %q: %v", out, err)
	}
	busy = fmt.Sprintf("of the time of the %d processors the host took %.0f %%", runtime.NumCPU(),
		100*spent.cpu/spent.seconds/float64(runtime.NumCPU()))
	if r.server != nil {
		busy += fmt.Sprintf(", and the server %.0f %%",
			100*(processCPU(r.server.process.Process.Pid)-before)/spent.seconds/
				float64(runtime.NumCPU()))
	}
	return lines[0][0], busy + "; a commit changes threads some 6 times, four of them between " +
		"SQLite and Go; of 16 threads 8 are in a record, as those that were answered queue up " +
		"while the other half's is on its way", nil
}

func (r *remotes) measure() (row, error) {
	n := strconv.Itoa(r.commits())
	each := func(name, sql, n string) ([]float64, float64, error) {
		return r.asked("each", r.lib, "verneuil_remote", remoteURI(name), sql, n)
	}
	// A server is slower at one time than at another: so its PUTs are measured before and after.
	if err := r.rawPuts(); err != nil {
		return nil, err
	}
	one, requests, err := each("each.db", "pragma synchronous=full", n)
	if err == nil {
		err = r.rawPuts()
	}
	if err != nil {
		return nil, err
	}
	perCommit := requests / (float64(r.commits()) * 1.1)
	const threads = 16
	crowd, busy, err := r.crowd(threads, n)
	if err != nil {
		return nil, err
	}
	off, _, err := each("off.db", "pragma synchronous=off", "3000")
	if err != nil {
		return nil, err
	}
	stock, _, err := r.asked("each", "-", "unix", filepath.Join(r.dir, "stock.db"),
		"pragma synchronous=off", "3000")
	if err != nil {
		return nil, err
	}
	line := row{r.name, "-", one[0] / 1e3, one[1] / 1e3, "-", "-", over(crowd, 1e6/one[2]),
		1e6 / off[2], over(stock[2], off[2])}
	if r.calls != nil {
		put := percentile(r.put, 0.5)
		line[1], line[4], line[5] = put/1e3, over(one[0], put), perCommit
		r.report.aim(aim{What: "remote: a commit / a raw PUT, " + r.name, Aim: 1.15,
			Got: single(over(one[0], put)), Why: fmt.Sprintf("besides the PUT a commit takes %.2f "+
				"ms: against a server that does nothing it takes some 700 us of processor time, a "+
				"PUT by the raw client 130. It goes into some 12 changes of threads, between "+
				"SQLite, Go and its connection, into the AWS SDK, into the connection, and into "+
				"blocks that are compared, compressed and hashed",
				(one[0]-put)/1e3)})
	}
	r.report.aim(aim{What: "remote: 16 threads' commits / one thread's, " + r.name, Aim: 8,
		AtLeast: true, Got: single(over(crowd, 1e6/one[2])), Why: busy})
	r.report.aim(aim{What: "remote: synchronous=OFF / stock SQLite's, " + r.name, Aim: 0.5,
		AtLeast: true, Got: single(over(stock[2], off[2])), Why: "each transaction is compressed " +
			"and hashed, on the processors that the server needs, too"})
	return r.others(line)
}

// turns returns the microseconds of a turn, and its requests: what more turns take more.
func (r *remotes) turns(i int, temps ...string) (took, requests float64, err error) {
	const few, many = 4, 44
	var all [2]float64
	for k, n := range []int{few, many} {
		args := append([]string{"turns", r.lib, remoteURI(fmt.Sprintf("turns%d-%d.db", i, n)),
			strconv.Itoa(n)}, temps...)
		line, requests, err := r.asked(args...)
		if err != nil {
			return 0, 0, err
		}
		took, all[k] = line[0], requests
	}
	return took, (all[1] - all[0]) / (many - few), nil
}

// others adds what several processes do to line.
func (r *remotes) others(line row) (row, error) {
	temp := []string{filepath.Join(r.dir, "temp-0"), filepath.Join(r.dir, "temp-1")}
	for _, t := range temp {
		if err := os.MkdirAll(t, 0o755); err != nil {
			return nil, err
		}
	}
	for i, aimed := range []float64{2, 4} {
		took, requests, err := r.turns(i, temp[0], temp[i])
		if err != nil {
			return nil, err
		}
		line = append(line, took/1e3, "-")
		if r.calls != nil {
			line[len(line)-1] = requests
			r.report.aim(aim{What: fmt.Sprintf("remote: requests of a turn on %d machines, %s",
				i+1, r.name), Aim: aimed, Got: single(requests), Why: "a turn is three: the " +
				"other one's commit is got, a takeover is put, so that the other one waits from " +
				"BEGIN IMMEDIATE on, and a commit is put, which gives the database back. The " +
				"rest are checkpoints, one for 32 turns, and looks for what the store may have " +
				"lost"})
		}
	}
	took, _, err := r.asked("takeover", r.lib, remoteURI("takeover.db"), temp[0], temp[1])
	if err != nil {
		return nil, err
	}
	if err := r.reads(); err != nil {
		return nil, err
	}
	return append(line, took[0]), nil
}

// reads measures what is read, of a database that was imported.
func (r *remotes) reads() error {
	local := filepath.Join(r.dir, "local.db")
	if err := r.fill(local, r.replica); err != nil {
		return err
	}
	if _, _, err := r.take(r.env, r.ctl, "import", local, "file:///s/read.db"); err != nil {
		return err
	}
	if !r.far {
		return r.compared(r.env, "database in the store ("+r.name+", mode=ro)",
			remoteURI("read.db")+"&mode=ro", local)
	}
	r.proxy.forget()
	lines, err := r.ask(r.env, "query", r.lib, "verneuil_remote",
		remoteURI("read.db")+"&mode=ro", pointSQL)
	if err != nil {
		return err
	}
	trips := float64(r.proxy.chain())
	r.report.text("Cold, on %s: to open a database of %d MiB and find a row by its key takes "+
		"%.0f requests one after the other, and %.1f x the time that a request takes longer.",
		r.name, r.replica, trips, (lines[0][0]+lines[1][0])/1e6/farAway.Seconds())
	r.report.aim(aim{What: "remote: a cold first query, in round trips", Aim: 3,
		Got: single(trips), Why: "the checkpoint says where the records after it stand and a " +
			"leaf of the tree, which says where a chunk is; a table of which the upper pages do " +
			"not all fit into a checkpoint takes one more for each level"})
	return nil
}
