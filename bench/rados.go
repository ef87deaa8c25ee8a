package main

import (
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
	radosRaw  = "raw compare and set"
	radosOurs = "verneuil_remote"
)

// partRados measures verneuil_remote and Ceph's own VFS on clusters of one node.
func partRados(b *bench) error {
	b.report.text("Clusters of one node on this machine, which the OSD shares with the client: "+
		"one-row commits at synchronous=FULL, one by one, in turns with the raw compound write "+
		"that is a commit here (compare and set of %d bytes in an object's map), and with Ceph's "+
		"libcephsqlite in three modes. Medians, of turns' medians, in ms. Turns: two machines "+
		"that commit in turns. Takeover: as in the part before, at a lease of 3 s; "+
		"libcephsqlite's is 30 s, and cannot be changed.", recordBytes)
	var rows []row
	for _, kind := range []struct {
		name string
		o    cephtest.Options
	}{{"bluestore", cephtest.Options{Bluestore: true}}, {"memstore", cephtest.Options{}}} {
		r, err := b.radosOn(kind.name, kind.o)
		if err != nil {
			b.report.text("%s was left out: %v.", kind.name, err)
			continue
		}
		rows = append(rows, r)
	}
	heads := []string{"store", "raw", "verneuil_remote", "rate, x raw"}
	for _, m := range cephModes {
		heads = append(heads, m.name)
	}
	b.report.table(append(heads, "16 threads, x one", "turns of two machines", "takeover, s"),
		rows)
	return nil
}

func (b *bench) radosOn(kind string, o cephtest.Options) (row, error) {
	c, err := cephtest.Launch(o)
	if err != nil {
		return nil, err
	}
	defer c.End()
	dir, remove, err := b.fresh("rados-" + kind)
	if err != nil {
		return nil, err
	}
	defer remove()
	r := &radosRun{bench: b, kind: kind, cluster: c, samples: make(map[string][]float64),
		theirs: c.Programs.NamedLibrary("libcephsqlite.so")}
	target := object{"rados": object{"pool": cephtest.Pool, "namespace": "ours"}}
	r.env, err = configure(dir, dirTarget(filepath.Join(dir, "unused")), object{
		"stores": object{"s": target}, "lease_timeout_ms": 3000, "lease_renewal_ms": 1000})
	if err != nil {
		return nil, err
	}
	r.env = append(r.env, c.Env("")...)
	client, err := librados.Connect(b.ctx, librados.Options{Conf: c.Conf, Keyring: c.Keyring})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	pool, err := client.PoolID(b.ctx, cephtest.Pool)
	if err != nil {
		return nil, err
	}
	if r.io, err = client.IO(b.ctx, pool, "raw"); err != nil {
		return nil, err
	}
	for r.turn = range b.inTime(5) {
		if err := r.commits(); err != nil {
			return nil, err
		}
	}
	return r.row(dir)
}

const radosCommits = 300 // of a turn

// commits measures each way once.
func (r *radosRun) commits() error {
	raw, err := r.raw()
	if err != nil {
		return err
	}
	r.samples[radosRaw] = append(r.samples[radosRaw], raw)
	each := func(name, lib, vfs, uri, pragmas string) error {
		lines, err := r.ask(r.env, "each", lib, vfs, uri, pragmas, strconv.Itoa(radosCommits))
		if err == nil && len(lines) == 0 {
			err = fmt.Errorf("host: no answer")
		}
		if err != nil {
			return err
		}
		r.samples[name] = append(r.samples[name], lines[0][0])
		return nil
	}
	if err := each(radosOurs, r.lib, "verneuil_remote",
		remoteURI(fmt.Sprintf("each%d.db", r.turn)), "pragma synchronous=full"); err != nil {
		return err
	}
	for i, m := range cephModes {
		if r.theirs == "" {
			break
		}
		uri := fmt.Sprintf("file:///%s:theirs/each%d-%d.db?vfs=ceph", cephtest.Pool, r.turn, i)
		if err := each(m.name, r.theirs, "ceph", uri, m.pragmas); err != nil {
			return err
		}
	}
	return nil
}

// raw returns the median time, in µs, of the operation that a commit is, one by one.
func (r *radosRun) raw() (float64, error) {
	body := make([]byte, recordBytes)
	var times []float64
	for i := range radosCommits {
		key := fmt.Sprintf("%016x", i)
		w := new(librados.WriteOp).Create(false).CompareOmap("m"+key, nil).
			SetOmap("m"+key, body[:16]).SetOmap("r"+key, body)
		began := time.Now()
		if _, err := r.io.Write(r.ctx, fmt.Sprintf("log%d", r.turn), w); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds()*1e6)
	}
	slices.Sort(times)
	return percentile(times, 0.5), nil
}

func (r *radosRun) median(name string) float64 {
	all := slices.Clone(r.samples[name])
	slices.Sort(all)
	return percentile(all, 0.5)
}

// row makes the line of the table, with what processes do together.
func (r *radosRun) row(dir string) (row, error) {
	raw, ours := r.median(radosRaw), r.median(radosOurs)
	line := row{r.kind, raw / 1e3, ours / 1e3, over(raw, ours)}
	r.report.aim(aim{What: "rados: commits / raw operations, " + r.kind, Aim: 0.8, AtLeast: true,
		Got: single(over(raw, ours))})
	for i, m := range cephModes {
		if len(r.samples[m.name]) == 0 {
			line = append(line, "-")
			continue
		}
		theirs := r.median(m.name)
		line = append(line, theirs/1e3)
		r.report.aim(aim{What: "rados: commits / " + m.name + ", " + r.kind,
			Aim: []float64{2, 4, 10}[i], AtLeast: true, Got: single(over(theirs, ours))})
	}
	one := func(args ...string) (float64, error) {
		lines, err := r.ask(r.env, args...)
		if err == nil && len(lines) == 0 {
			err = fmt.Errorf("host %s: no answer", args[0])
		}
		if err != nil {
			return 0, err
		}
		return lines[0][0], nil
	}
	crowd, err := one("crowd", r.lib, "verneuil_remote", remoteURI("crowd.db"), "16",
		strconv.Itoa(radosCommits))
	if err != nil {
		return nil, err
	}
	temp := []string{filepath.Join(dir, "temp-0"), filepath.Join(dir, "temp-1")}
	for _, t := range temp {
		if err := os.MkdirAll(t, 0o755); err != nil {
			return nil, err
		}
	}
	turns, err := one("turns", r.lib, remoteURI("turns.db"), "40", temp[0], temp[1])
	if err != nil {
		return nil, err
	}
	takeover, err := one("takeover", r.lib, remoteURI("takeover.db"), temp[0], temp[1])
	if err != nil {
		return nil, err
	}
	r.report.aim(aim{What: "rados: 16 threads' commits / one thread's, " + r.kind, Aim: 4,
		AtLeast: true, Got: single(over(crowd, 1e6/ours))})
	r.report.aim(aim{What: "rados: hand-over to a writer that waits, ms, " + r.kind, Aim: 50,
		Got: single(turns / 1e3)})
	return append(line, over(crowd, 1e6/ours), turns/1e3, takeover), nil
}
