package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"verneuil/chunkstore"
)

const (
	scanSQL  = "select sum(length(s)+length(b)) from t"
	pointSQL = "select s from t where id=4321"
)

// readers is the state of the replica part.
type readers struct {
	*bench
	dir, db string
	server  *server
	objects map[string]int64 // of the chunk bucket
	runs    int
}

// partReplica compares a replica with a local file, and its fetches with plain GETs.
func partReplica(b *bench) error {
	dir, remove, err := b.fresh("replica")
	if err != nil {
		return err
	}
	defer remove()
	r := &readers{bench: b, dir: dir, db: filepath.Join(dir, "a.db")}
	if r.server, err = b.serve("minio", filepath.Join(dir, "minio")); err != nil {
		return err
	}
	defer r.server.stop()
	if err := b.fill(r.db, b.replica); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	if r.objects, err = objects(b.ctx, r.server.endpoint, "r-chunks"); err != nil {
		return err
	}
	b.report.text("A database of %s in MinIO (%d packs, %.0f MB), "+
		"which `host` reads through verneuil_snapshot. It is compared with a local copy, and with "+
		"plain GETs of the same objects, 8 at a time.",
		size(b.replica), len(r.objects), float64(sumSizes(r.objects))/1e6)
	var failed error
	for _, step := range []struct {
		name string
		run  func() error
	}{{"warm reads", r.warm}, {"cold scan", r.coldScan}, {"first query", r.firstQuery},
		{"refresh", r.refresh}, {"far away", r.far}, {"shared cache", r.shared},
		{"cold queries beside a writer", r.beside}} {
		if err := step.run(); err != nil {
			failed = fmt.Errorf("%s: %w", step.name, err)
			b.report.text("**%s failed: %v.**", step.name, err)
		}
	}
	return failed
}

func sumSizes(all map[string]int64) (n int64) {
	for v := range maps.Values(all) {
		n += v
	}
	return n
}

func (r *readers) sync() error {
	env, err := configure(filepath.Join(r.dir, "writer"), s3Target(r.server.endpoint, "r"), nil)
	if err != nil {
		return err
	}
	_, _, err = r.take(env, r.ctl, "sync", r.db)
	return err
}

// reader is the environment of a process that has nothing cached.
func (r *readers) reader(endpoint string, more ...object) ([]string, error) {
	r.runs++
	home := filepath.Join(r.dir, fmt.Sprintf("reader-%d", r.runs))
	targets := append([]object{s3Target(endpoint, "r")}, more...)
	return configure(home, targets[0], object{"replication_targets": targets, "tempdir": home})
}

func (r *readers) warm() error {
	env, err := r.reader(r.server.endpoint)
	if err != nil {
		return err
	}
	return r.compared(env, "replica", replicaURI(r.db), r.db)
}

// compared compares reads of uri, which is called what, with those of a local file that is the
// same.
func (b *bench) compared(env []string, what, uri, local string) error {
	var rows []row
	for i, k := range []struct{ name, sql string }{
		{"point read, 10 pages of cache", "select s from t where id=?1"},
		{"range of 1,000 rows", "select sum(length(s)) from t where id between ?1 and ?1+1000"},
		{"scan, the whole table", "select sum(length(s)+length(b)) from t where n<>?1 or 1"},
	} {
		lines, err := b.ask(env, "compare", b.lib, uri, local, fmt.Sprint(3*b.seconds), k.sql)
		if err != nil {
			return err
		}
		var stock, ours []float64
		for _, line := range lines {
			stock, ours = append(stock, line[1]), append(ours, line[2])
		}
		rows = append(rows, row{k.name, spreadOf(stock).Median, spreadOf(ours).Median,
			ratios(ours, stock)})
		if i != 1 {
			b.report.aim(aim{What: "warm " + what + " to a local file, " + k.name, Aim: 1.05,
				Got: ratios(ours, stock)})
		}
	}
	b.report.table([]string{"warm, in turns in one process", "local file us", what + " us", "x"},
		rows)
	return nil
}

func (r *readers) coldScan() error {
	var gets, scans, rss []float64
	for turn := range r.inTime(r.turns) {
		for i := range 2 {
			if (turn+i)%2 == 0 {
				seconds, err := newRaw(r.server.endpoint).getAll(r.ctx, "r-chunks", r.objects)
				if err != nil {
					return err
				}
				gets = append(gets, seconds)
				continue
			}
			env, err := r.reader(r.server.endpoint)
			if err != nil {
				return err
			}
			out, c, err := r.take(env, r.bench.host, "query", r.lib, "verneuil_snapshot",
				replicaURI(r.db), scanSQL)
			if err != nil {
				return err
			}
			lines, err := numbers(out)
			if err != nil {
				return err
			}
			scans, rss = append(scans, (lines[0][0]+lines[1][0])/1e6), append(rss, c.peakMiB)
		}
	}
	speed := ratios(gets, scans)
	mb := float64(sumSizes(r.objects)) / 1e6
	r.report.table([]string{"cold scan of everything", "seconds", "MB/s of objects",
		"speed x raw GETs", "peak MiB"}, []row{
		{"raw parallel GETs", spreadOf(gets), mb / spreadOf(gets).Median, 1.0, "-"},
		{"open and scan", spreadOf(scans), mb / spreadOf(scans).Median, speed,
			spreadOf(rss).Median}})
	r.report.aim(aim{What: "cold replica scan, speed to raw parallel GETs", Aim: 0.9, AtLeast: true,
		Got: speed,
		Why: "server and client share the processors here, so that decompressing and verifying " +
			"take time from the server"})
	return nil
}

func (r *readers) firstQuery() error {
	c, err := count(r.server)
	if err != nil {
		return err
	}
	defer c.stop()
	get, err := newRaw(r.server.endpoint).getSeconds(r.ctx, 65536)
	if err != nil {
		return err
	}
	var first, warmed []float64
	var used calls
	for range r.turns {
		env, err := r.reader(c.endpoint)
		if err != nil {
			return err
		}
		before := c.now()
		lines, err := r.ask(env, "query", r.lib, "verneuil_snapshot", replicaURI(r.db), pointSQL,
			pointSQL)
		if err != nil {
			return err
		}
		used = c.now().minus(before)
		first, warmed = append(first, (lines[0][0]+lines[1][0])/1e3),
			append(warmed, lines[2][0]/1e3)
	}
	r.report.text("The first query, by key, in a process with nothing cached: "+
		"open and query take %s ms (%.1f raw GETs of 64 KiB), the same query again %s ms. "+
		"The first one made %s and fetched %.0f KB, %.4f of the stored bytes.",
		spreadOf(first), spreadOf(first).Median/1e3/get, spreadOf(warmed), used,
		float64(used.down)/1e3, float64(used.down)/float64(sumSizes(r.objects)))
	return nil
}

func (r *readers) refresh() error {
	c, err := count(r.server)
	if err != nil {
		return err
	}
	defer c.stop()
	env, err := r.reader(c.endpoint)
	if err != nil {
		return err
	}
	const refresh = "pragma verneuil_snapshot_refresh=2"
	args := append([]string{"query", r.lib, "verneuil_snapshot", replicaURI(r.db), pointSQL,
		"@" + refresh}, slices.Repeat([]string{refresh}, 20)...)
	args = append(args, "@"+refresh, pointSQL, "select n from t where id=4321")
	p, err := r.launch(env, r.bench.host, args...)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(p.stdout)
	next := func(n int) ([]float64, error) { return answers(p, lines, n) }
	if _, err := next(2); err != nil {
		return err
	}
	before := c.now()
	fmt.Fprintln(p.stdin)
	same, err := next(21)
	if err != nil {
		return err
	}
	for k := range same {
		same[k] /= 1e3
	}
	unchanged := c.now().minus(before)
	if err := r.commitRow(); err != nil {
		return err
	}
	before = c.now()
	fmt.Fprintln(p.stdin)
	us, err := next(1)
	if err != nil {
		return err
	}
	changed := c.now().minus(before)
	query, err := next(1)
	touched := c.now().minus(before)
	if err == nil {
		_, err = next(1)
	}
	if err != nil {
		return err
	}
	lines.ReadString('\n') // memory
	p.stdin.Close()
	if err := p.wait(); err != nil {
		return err
	}
	get, err := newRaw(r.server.endpoint).getSeconds(r.ctx, 4096)
	if err != nil {
		return err
	}
	r.report.table([]string{"refresh", "ms", "x a raw GET of 4 KB", "calls", "bytes down"}, []row{
		{"nothing new (median of 21)", spreadOf(same), over(spreadOf(same).Median, get*1e3),
			unchanged.String() + " in all 21", float64(unchanged.down) / 21},
		{"after a commit of one row", us[0] / 1e3, over(us[0], get*1e6), changed.String(),
			float64(changed.down)},
		{"and the row read", query[0] / 1e3, over(query[0], get*1e6),
			touched.minus(changed).String(),
			float64(touched.down - changed.down)}})
	return nil
}

// commitRow changes a row, and stores that.
func (r *readers) commitRow() error {
	_, _, err := r.take(nil, "sqlite3", r.db, "update t set n=n+1 where id=4321")
	if err != nil {
		return err
	}
	return r.sync()
}

// answers reads the times of p's next n steps, in us.
func answers(p *process, lines *bufio.Reader, n int) (us []float64, err error) {
	for range n {
		text, err := lines.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, tail(p.stderr.String()))
		}
		v, err := numbers(text)
		if err != nil {
			return nil, err
		}
		us = append(us, v[0][0])
	}
	return us, nil
}

// farAway is added to each request, as if the store were in another city.
const farAway = 20 * time.Millisecond

// far counts round trips, where round trips determine the cost.
func (r *readers) far() error {
	c, err := count(r.server)
	if err != nil {
		return err
	}
	defer c.stop()
	c.delay = farAway
	env, err := r.reader(c.endpoint)
	if err != nil {
		return err
	}
	lines, err := r.ask(env, "query", r.lib, "verneuil_snapshot", replicaURI(r.db), pointSQL,
		scanSQL)
	if err != nil {
		return err
	}
	first, scan := (lines[0][0]+lines[1][0])/1e3, lines[2][0]/1e6
	r.report.text("If each request takes %.0f ms longer, as over a network: "+
		"first query %s ms (%.1f x that), then the scan of everything %s s (%.1f requests at a "+
		"time).",
		farAway.Seconds()*1e3, short(first), first/1e3/farAway.Seconds(), short(scan),
		float64(len(r.objects))*farAway.Seconds()/scan)
	return nil
}

// besideRate is how many commits are made in a second while databases are opened.
const besideRate = 100

// beside opens the database and reads a row by its key, in processes with nothing cached, while
// another one makes commits.
func (r *readers) beside() error {
	const wait = 3 // records before the first is opened
	home := filepath.Join(r.dir, "beside")
	written, err := count(r.server)
	if err != nil {
		return err
	}
	defer written.stop()
	records := make(chan struct{}, 2*wait)
	written.watch(func(key string, _, _ time.Time, _ []byte) {
		if strings.HasPrefix(path.Base(key), chunkstore.LogKeyPrefix) && len(records) < wait {
			records <- struct{}{} // one at a time, as a rule: there is room
		}
	})
	env, err := configure(home, s3Target(written.endpoint, "beside"), nil)
	if err != nil {
		return err
	}
	db := filepath.Join(home, "a.db")
	if err := r.copyFile(r.db, db); err != nil {
		return err
	}
	p, err := r.launch(env, r.bench.host, "rate", r.lib, "verneuil", db, strconv.Itoa(besideRate),
		"3600", filepath.Join(home, "commits"))
	if err != nil {
		return err
	}
	defer p.end(os.Kill)
	for range wait {
		select {
		case <-records:
		case <-p.ended:
			return fmt.Errorf("host rate: %s", tail(p.stderr.String()))
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	var ms, trips, kb, gets []float64
	for turn := range r.turns {
		c, err := count(r.server)
		if err != nil {
			return err
		}
		c.delay = farAway
		cold := filepath.Join(home, fmt.Sprintf("reader-%d", turn))
		env, err := configure(cold, s3Target(c.endpoint, "beside"), object{"tempdir": cold})
		var lines [][]float64
		if err == nil {
			lines, err = r.ask(env, "query", r.lib, "verneuil_snapshot", replicaURI(db), pointSQL)
		}
		c.stop()
		if err != nil {
			return err
		}
		used := c.now()
		ms, trips = append(ms, (lines[0][0]+lines[1][0])/1e3), append(trips, float64(c.chain()))
		kb, gets = append(kb, float64(used.down)/1e3), append(gets, float64(used.get))
	}
	r.report.text("While %d one-row commits a second are made, at the default interval: open "+
		"and query by key, in a process with nothing cached, each request %.0f ms longer, take "+
		"%s ms, %s requests (%s one after the other) and %s KB.", besideRate,
		farAway.Seconds()*1e3, spreadOf(ms), spreadOf(gets), spreadOf(trips), spreadOf(kb))
	r.report.aim(aim{What: "cold query by key beside a writer, round trips", Aim: 3,
		Got: spreadOf(trips), Why: "the checkpoint says where the records after it stand, " +
			"these what the newest version is, and an interior level that has no room in it " +
			"which page comes next"})
	r.report.aim(aim{What: "its KB", Aim: 256, Got: spreadOf(kb), Unit: "KB",
		Why: "a checkpoint has up to 256 KiB inline, and up to 512 KiB of records follow it"})
	return nil
}

// shared lets several processes read everything through one cache directory.
func (r *readers) shared() error {
	var rows []row
	one := 0.0
	for _, n := range []int{1, r.bench.readers} {
		c, err := count(r.server)
		if err != nil {
			return err
		}
		cache :=
			object{"local": object{"directory": filepath.Join(r.dir, fmt.Sprintf("cache-%d", n)),
				"num_shards": 8, "capacity": 1 << 20}}
		start := time.Now()
		errs := make([]error, n)
		peaks := make([]float64, n)
		var group sync.WaitGroup
		for i := range n {
			env, err := r.reader(c.endpoint, cache)
			if err != nil {
				return err
			}
			group.Go(func() {
				var used cost
				_, used, errs[i] = r.take(env, r.bench.host, "query", r.lib, "verneuil_snapshot",
					replicaURI(r.db), scanSQL)
				peaks[i] = used.peakMiB
			})
		}
		group.Wait()
		seconds := time.Since(start).Seconds()
		c.stop()
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			return errs[i]
		}
		if n == 1 {
			one = seconds
		}
		used := c.now()
		rows = append(rows, row{n, seconds, over(seconds, one), used.String(),
			over(float64(used.get), float64(len(r.objects))), float64(used.down) / 1e6,
			over(float64(used.down), float64(sumSizes(r.objects))), spreadOf(peaks)})
	}
	r.report.table(strings.Split("processes that scan everything; one cache, "+
		"empty at first|seconds|x one|calls|GETs / objects|MB down|x the objects|peak MiB of each",
		"|"), rows)
	return nil
}
