package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"verneuil/cgo/librados"
	"verneuil/test/cephtest"
)

// radosRun is one cluster, and what is measured on it.
type radosRun struct {
	*bench
	kind    string
	cluster *cephtest.Cluster
	env     []string // of the host, for both libraries
	theirs  string   // libcephsqlite.so; empty: there is none
	io      *librados.IO
	turn    int
	dir     string
	samples map[string][]float64
}

// cephModes are the ways in which Ceph's VFS is measured: its best, and two that are usual.
var cephModes = []struct{ name, pragmas string }{
	{"ceph: WAL, exclusive, 64 KiB", "pragma page_size=65536; pragma locking_mode=exclusive; " +
		"pragma journal_mode=wal; pragma synchronous=full"},
	{"ceph: PERSIST, exclusive, 4 KiB", "pragma page_size=4096; pragma locking_mode=exclusive; " +
		"pragma journal_mode=persist; pragma synchronous=full"},
	{"ceph: DELETE, normal, 4 KiB", "pragma page_size=4096; pragma journal_mode=delete; " +
		"pragma synchronous=full"},
}

const (
	radosRaw       = "raw compare and set"
	radosRawPaused = "raw compare and set, with pauses"
	radosOurs      = "verneuil_remote"
)

// watchPause is between the host's commits that are watched (bench/host/reads.c).
const watchPause = 5 * time.Millisecond

// partRados measures verneuil_remote and Ceph's own VFS on clusters of one node.
func partRados(b *bench) error {
	b.report.text("Clusters of one node on this machine, which the OSD shares with the client. " +
		"Medians of turns, in each of which both are measured.")
	b.report.text("One-row commits at synchronous=FULL, one by one, and the raw compound write "+
		"that is a commit here (compare and set of %d bytes in an object's map), and Ceph's "+
		"libcephsqlite in three modes: the medians in ms, and how many operations of the OSD's "+
		"that wrote a commit has taken, by its own counter.", recordBytes)
	tables := &radosTables{half: time.Until(b.until) / 2}
	for _, kind := range []struct {
		name string
		o    cephtest.Options
	}{{"bluestore", cephtest.Options{Bluestore: true}}, {"memstore", cephtest.Options{}}} {
		if err := b.radosOn(kind.name, kind.o, tables); err != nil {
			b.report.text("%s was left out: %v.", kind.name, err)
		}
	}
	heads := []string{"store", "raw", "verneuil_remote", "rate, x raw"}
	for _, m := range cephModes {
		heads = append(heads, m.name)
	}
	b.report.table(append(heads, "16 threads, x one", "writes a commit: verneuil_remote",
		"ceph, each mode"), tables.commits)
	b.report.text("A transaction that inserts %d MiB, in rows of 8 KiB; a scan of it by a process "+
		"that has read nothing; then reads of a row by its key, with two pages of cache of "+
		"SQLite's own. verneuil_remote reads with mode=ro; libcephsqlite has PERSIST and "+
		"locking_mode=exclusive.", b.radosMiB())
	b.report.table([]string{"store", "page size", "bulk, MB/s", "ceph", "scan, MB/s", "ceph",
		"point read, us", "ceph"}, tables.reads)
	b.report.text("Watching: from the beginning of a commit until the reader of another machine, "+
		"which follows, has read it, and from its end, with a pause of %v after each; and the raw "+
		"operation with such pauses, which takes longer than one after another: processors, and "+
		"their caches, have to find back. Turns: two machines that commit in turns. "+
		"Takeover: as in the part before, at a lease of 3 s; libcephsqlite's is 30 s, and cannot "+
		"be changed.", watchPause)
	b.report.table([]string{"store", "raw with pauses, ms", "watching, ms", "x raw",
		"from the end, ms", "turns of two machines, ms", "takeover, s"}, tables.others)
	return nil
}

// radosTables are their lines, of all kinds of clusters.
type radosTables struct {
	half                   time.Duration // how long a kind should take
	commits, reads, others []row
}

func (b *bench) radosMiB() int {
	if b.form.name == "quick" {
		return 16
	}
	return 256
}

// radosOn measures a cluster of one kind.
func (b *bench) radosOn(kind string, o cephtest.Options, tables *radosTables) error {
	start, until := time.Now(), b.until
	defer func() { b.until = until }()
	c, err := cephtest.Launch(o)
	if err != nil {
		return err
	}
	defer c.End()
	dir, remove, err := b.fresh("rados-" + kind)
	if err != nil {
		return err
	}
	defer remove()
	r := &radosRun{bench: b, kind: kind, cluster: c, dir: dir, samples: make(map[string][]float64),
		theirs: c.Programs.NamedLibrary("libcephsqlite.so")}
	target := object{"rados": object{"pool": cephtest.Pool, "namespace": "ours"}}
	r.env, err = configure(dir, dirTarget(filepath.Join(dir, "unused")), object{
		"stores": object{"s": target}, "lease_timeout_ms": 3000, "lease_renewal_ms": 1000})
	if err != nil {
		return err
	}
	r.env = append(r.env, c.Env("")...)
	client, err := librados.Connect(b.ctx, librados.Options{Conf: c.Conf, Keyring: c.Keyring})
	if err != nil {
		return err
	}
	defer client.Close()
	pool, err := client.PoolID(b.ctx, cephtest.Pool)
	if err != nil {
		return err
	}
	if r.io, err = client.IO(b.ctx, pool, "raw"); err != nil {
		return err
	}
	b.until = start.Add(tables.half / 2)
	for r.turn = range b.inTime(5) {
		if err := r.commits(); err != nil {
			return err
		}
	}
	tables.commits = append(tables.commits, r.commitsRow())
	b.until = start.Add(tables.half * 3 / 4)
	for r.turn = range b.inTime(3) {
		if err := r.bulk(); err != nil {
			return err
		}
	}
	tables.reads = append(tables.reads, r.readsRows()...)
	line, err := r.others()
	tables.others = append(tables.others, line)
	return err
}

const radosCommits = 120 // of a turn

// add runs the host, and notes what it prints under the names; an empty one is not noted.
func (r *radosRun) add(names []string, args ...string) error {
	lines, err := r.ask(r.env, args...)
	if err == nil && (len(lines) == 0 || len(lines[0]) < len(names)) {
		err = fmt.Errorf("host %s: no answer", args[0])
	}
	if err != nil {
		return err
	}
	for i, name := range names {
		r.note(name, lines[0][i])
	}
	return nil
}

func (r *radosRun) note(name string, value float64) {
	r.samples[name] = append(r.samples[name], value)
}

func (r *radosRun) median(name string) float64 {
	return percentile(slices.Clone(r.samples[name]), 0.5)
}

// of is a name of samples.
func of(name, what string) string { return name + ": " + what }

func (r *radosRun) theirURI(name string) string {
	return fmt.Sprintf("file:///%s:theirs/%s?vfs=ceph", cephtest.Pool, name)
}

// commits measures each way once.
func (r *radosRun) commits() error {
	if err := r.raw(radosRaw, 0); err != nil {
		return err
	}
	each := func(name, lib, vfs, uri, pragmas string) error {
		before := 0.0
		if r.turn == 0 {
			before = r.writes()
		}
		err := r.add([]string{name}, "each", lib, vfs, uri, pragmas, strconv.Itoa(radosCommits))
		if r.turn == 0 {
			r.note(of(name, "writes"), (r.writes()-before)/(radosCommits*1.1))
		}
		return err
	}
	if err := each(radosOurs, r.lib, "verneuil_remote",
		remoteURI(fmt.Sprintf("each%d.db", r.turn)), "pragma synchronous=full"); err != nil {
		return err
	}
	for i, m := range cephModes {
		if r.theirs == "" {
			break
		}
		uri := r.theirURI(fmt.Sprintf("each%d-%d.db", r.turn, i))
		if err := each(m.name, r.theirs, "ceph", uri, m.pragmas); err != nil {
			return err
		}
	}
	return r.add([]string{of(radosOurs, "threads")}, "crowd", r.lib, "verneuil_remote",
		remoteURI(fmt.Sprintf("crowd%d.db", r.turn)), "16", strconv.Itoa(radosCommits))
}

// writes returns how many operations of clients that wrote the OSD has carried out; 0 if it does
// not tell.
func (r *radosRun) writes() float64 {
	out, err := r.cluster.Output("ceph", "tell", "osd.0", "perf", "dump")
	var counters struct {
		OSD struct {
			W  float64 `json:"op_w"`
			RW float64 `json:"op_rw"`
		} `json:"osd"`
	}
	if err != nil || json.Unmarshal([]byte(out), &counters) != nil {
		return 0
	}
	return counters.OSD.W + counters.OSD.RW
}

// raw notes the median time, in µs, of the operation that a commit is, one by one, with pauses
// between them.
func (r *radosRun) raw(name string, pause time.Duration) error {
	body, log := make([]byte, recordBytes), fmt.Sprintf("%s %d", name, len(r.samples[name]))
	var times []float64
	for i := range radosCommits {
		time.Sleep(pause)
		key := fmt.Sprintf("%016x", i)
		w := new(librados.WriteOp).Create(false).CompareOmap("m"+key, nil).
			SetOmap("m"+key, body[:16]).SetOmap("r"+key, body)
		began := time.Now()
		if _, err := r.io.WriteHere(r.ctx, log, w); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds()*1e6)
	}
	r.note(name, percentile(times, 0.5))
	return nil
}

// commitsRow makes the line of the table of commits.
func (r *radosRun) commitsRow() row {
	raw, ours := r.median(radosRaw), r.median(radosOurs)
	line := row{r.kind, raw / 1e3, ours / 1e3, over(raw, ours)}
	r.report.aim(aim{What: "rados: commits / raw operations, " + r.kind, Aim: 0.8, AtLeast: true,
		Got: ratios(r.samples[radosRaw], r.samples[radosOurs]),
		Why: fmt.Sprintf("a commit takes %.0f µs beyond the operation, here: SQLite's own work, "+
			"two hand-overs from the host's thread to Go's and back, and what is composed, "+
			"compressed, hashed and noted for the machine's other processes; that is "+
			"processor time, which the OSD needs meanwhile, and it weighs more where the "+
			"operation takes less",
			ours-raw)})
	theirWrites := ""
	for i, m := range cephModes {
		if len(r.samples[m.name]) == 0 {
			line = append(line, "-")
			continue
		}
		line = append(line, r.median(m.name)/1e3)
		writes := r.median(of(m.name, "writes"))
		theirWrites += fmt.Sprintf("%.1f ", writes)
		r.report.aim(aim{What: "rados: commits / " + m.name + ", " + r.kind,
			Aim: []float64{2, 4, 10}[i], AtLeast: true,
			Got: ratios(r.samples[m.name], r.samples[radosOurs]),
			Why: fmt.Sprintf("by the OSD's count a commit of libcephsqlite's is %.1f writes, one "+
				"of ours %.1f; where a write costs the OSD little, our own work weighs more",
				writes, r.median(of(radosOurs, "writes")))})
	}
	var crowd []float64
	for i, rate := range r.samples[of(radosOurs, "threads")] {
		crowd = append(crowd, rate*r.samples[radosOurs][i]/1e6)
	}
	r.report.aim(aim{What: "rados: 16 threads' commits / one thread's, " + r.kind, Aim: 4,
		AtLeast: true, Got: spreadOf(crowd),
		Why: "a record has what all threads have committed meanwhile; what is left of a commit " +
			"is processor time, which clients and the OSD share"})
	return append(line, spreadOf(crowd).Median, r.median(of(radosOurs, "writes")), theirWrites)
}

var radosPages = []string{"4096", "65536"}

// bulk measures a bulk insert, a scan and point reads once, with small and with large pages.
func (r *radosRun) bulk() error {
	const points = "1000"
	for _, page := range radosPages {
		name := fmt.Sprintf("bulk%d-%s.db", r.turn, page)
		size, cache := "pragma page_size="+page+"; ", "pragma cache_size=2; "
		for _, side := range []struct{ name, lib, vfs, uri, read, pragmas, all string }{
			{radosOurs, r.lib, "verneuil_remote", remoteURI(name), "&mode=ro", "", ""},
			{"ceph", r.theirs, "ceph", r.theirURI(name), "", "pragma journal_mode=persist",
				"pragma locking_mode=exclusive; "},
		} {
			if side.lib == "" || side.vfs == "ceph" && page == radosPages[0] && r.turn > 0 {
				continue // it is slow, and far from its best
			}
			of := func(what string) string { return of(side.name, what+page) }
			err := r.add([]string{of("bulk")}, "bulk", side.lib, side.vfs, side.uri,
				size+side.all+side.pragmas, strconv.Itoa(r.radosMiB()))
			if err == nil {
				err = r.add([]string{of("scan"), of("point")}, "reads", side.lib, side.vfs,
					side.uri+side.read, cache+side.all, points)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// readsRows makes the lines of the table of bulk inserts and reads. The aims compare with the size
// of pages that is better for the other one.
func (r *radosRun) readsRows() (rows []row) {
	bytes := float64(r.radosMiB()) * (1 << 20)
	best := func(side, what string) []float64 {
		small, large := of(side, what+radosPages[0]), of(side, what+radosPages[1])
		if r.median(small) < r.median(large) {
			return r.samples[small]
		}
		return r.samples[large]
	}
	for _, page := range radosPages {
		line := row{r.kind, page}
		for _, what := range []string{"bulk", "scan", "point"} {
			for _, side := range []string{radosOurs, "ceph"} {
				switch took := r.median(of(side, what+page)); {
				case took == 0:
					line = append(line, "-")
				case what == "point":
					line = append(line, took)
				default:
					line = append(line, bytes/1e6/took)
				}
			}
		}
		rows = append(rows, line)
	}
	for _, a := range []struct {
		what, name string
		aim        float64
		why        string
	}{
		{"bulk", "bulk insert", 1, "a transaction's pages lie in memory or in a temporary file " +
			"until the commit, which then hashes them, tries to compress them, hashes the packs " +
			"and sends them, on as many processors as there are; libcephsqlite sends pages as " +
			"they are, while the transaction goes on, and the OSD works meanwhile: here the OSD " +
			"is idle during the half of the time in which the transaction is made"},
		{"scan", "cold scan", 2, "each byte is decompressed, checked against its hash and kept " +
			"for who reads it again, which is processor time; libcephsqlite hands over what the " +
			"OSD has sent"},
		{"point", "point reads", 20, ""},
	} {
		r.report.aim(aim{What: "rados: " + a.name + " / libcephsqlite's best, " + r.kind,
			Aim: a.aim, AtLeast: true, Why: a.why,
			Got: ratios(best("ceph", a.what), best(radosOurs, a.what))})
	}
	return rows
}

// others measures what machines do together: a line of its table.
func (r *radosRun) others() (row, error) {
	temp := []string{filepath.Join(r.dir, "temp-0"), filepath.Join(r.dir, "temp-1")}
	for _, t := range temp {
		if err := os.MkdirAll(t, 0o755); err != nil {
			return nil, err
		}
	}
	for turn := range 3 {
		if err := r.raw(radosRawPaused, watchPause); err != nil {
			return nil, err
		}
		err := r.add([]string{"watch", "watch after"}, "watch", r.lib, "verneuil_remote",
			remoteURI(fmt.Sprintf("watch%d.db", turn)), "60", temp[0], temp[1])
		if err != nil {
			return nil, err
		}
	}
	err := r.add([]string{"turns"}, "turns", r.lib, remoteURI("turns.db"), "40", temp[0], temp[1])
	if err == nil {
		err = r.add([]string{"takeover"}, "takeover", r.lib, remoteURI("takeover.db"), temp[0],
			temp[1])
	}
	if err != nil {
		return nil, err
	}
	watch := ratios(r.samples["watch"], r.samples[radosRawPaused])
	turns, takeover := r.median("turns"), r.median("takeover")
	r.report.aim(aim{What: "rados: a commit until a watching replica has read it / the raw " +
		"operation, both with pauses, " + r.kind, Aim: 3, Got: watch,
		Why: "the replica is notified while the record is appended, asks the log for it, and has " +
			"it as soon as the OSD has written it: most of it is the commit's own time, and " +
			"the rest is what the replica makes of a record, on processors that both share with " +
			"the OSD"})
	r.report.aim(aim{What: "rados: hand-over to a writer that waits, ms, " + r.kind, Aim: 50,
		Got: single(turns / 1e3)})
	r.report.aim(aim{What: "rados: takeover, lease's timeouts, " + r.kind, Aim: 1,
		Got: single(takeover / 3)})
	return row{r.kind, r.median(radosRawPaused) / 1e3, r.median("watch") / 1e3, watch.Median,
		r.median("watch after") / 1e3, turns / 1e3, takeover}, nil
}
