package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
)

// partBulk moves whole databases, with verneuil and with everything else.
func partBulk(b *bench) error {
	b.report.text("Half of the database compresses two to one, half not at all. " +
		"All files are in the page cache at first. Each turn does everything once, " +
		"on a new server with empty storage.\n" +
		"\"x\" is verneuil's speed divided by the other one's: above 1, verneuil is faster. " +
		"A dir target is durable (fsync), so sync FILE follows cp and zstd; " +
		"an S3 client waits for the server's answer and no longer.\n" +
		"Server and client share the processors. There are as many turns as the part has time " +
		"for; what is left out of larger databases was compared on the smallest.")
	p := &plot{name: "bulk", part: "bulk", title: "MB of database a second",
		axis: "MB/s (line: least to greatest)"}
	var failed error
	for _, mib := range b.bulk {
		for _, name := range []string{"minio", "versitygw"} {
			if name == "versitygw" && mib != b.bulk[0] {
				continue
			}
			if err := b.bulkOf(mib, name, p); err != nil {
				failed = fmt.Errorf("%s, %s: %w", size(mib), name, err)
				b.report.text("**%v.**", failed)
			}
		}
	}
	b.report.plot(p)
	return failed
}

// bulkRun is one database and server. Each step leaves its costs.
type bulkRun struct {
	*bench
	dir, db string
	mib     int
	kind    string // of the server
	server  *server
	turns   int // made
	costs   map[string][]cost
	skipped map[string]string // step, and why
}

// step is a way to move the database; base names our step that it is compared with.
type step struct {
	name, base string
	kind       stepKind
	run        func(*bulkRun) (cost, error)
}

type stepKind int

const (
	ours stepKind = iota // and what the aims compare it with
	// optional: its failure is a note; of a larger database only in the first turn
	peer
	small // a peer, on the smallest database only
)

const (
	syncDir    = "verneuilctl sync to a directory"
	syncS3     = "verneuilctl sync to S3"
	restoreDir = "verneuilctl restore from a directory"
	restoreS3  = "verneuilctl restore from S3"
	coresOnly  = "hash and compress only, all processors"
	rawPuts    = "raw parallel PUTs of the same objects"
	rawGets    = "raw parallel GETs of the same objects"

	litestreamSync    = "litestream replicate -once"
	litestreamRestore = "litestream restore"

	rustSync    = "original Verneuil (Rust) sync"
	rustRestore = "original Verneuil (Rust) restore"
)

var bulkSteps = []step{
	{syncDir, syncDir, ours, func(k *bulkRun) (cost, error) { return k.ourSync(false) }},
	{coresOnly, syncDir, ours, (*bulkRun).cores},
	{"cp, sync", syncDir, ours, func(k *bulkRun) (cost, error) {
		return k.shell("cp a.db copy && sync copy")
	}},
	{"zstd -1 -T0, sync", syncDir, ours, func(k *bulkRun) (cost, error) {
		return k.shell("zstd -q -f -1 -T0 a.db -o copy.zst && sync copy.zst")
	}},
	{restoreDir, restoreDir, ours, func(k *bulkRun) (cost, error) { return k.ourRestore(false) }},
	{"cp back, sync", restoreDir, ours, func(k *bulkRun) (cost, error) {
		return k.shell("cp copy back && sync back; rm back copy")
	}},
	{"zstd -d, sync", restoreDir, ours, func(k *bulkRun) (cost, error) {
		return k.shell("zstd -q -f -d copy.zst -o back && sync back; rm back copy.zst")
	}},
	{syncS3, syncS3, ours, func(k *bulkRun) (cost, error) { return k.ourSync(true) }},
	{rawPuts, syncS3, ours, (*bulkRun).rawPut},
	{restoreS3, restoreS3, ours, func(k *bulkRun) (cost, error) { return k.ourRestore(true) }},
	{rawGets, restoreS3, ours, (*bulkRun).rawGet},
	{"sqlite3 .backup, raw PUTs", syncS3, small, func(k *bulkRun) (cost, error) {
		return k.backup(".backup copy")
	}},
	{"VACUUM INTO, raw PUTs", syncS3, small, func(k *bulkRun) (cost, error) {
		return k.backup("vacuum into 'copy'")
	}},
	{litestreamSync, syncS3, peer, (*bulkRun).litestreamSync},
	{litestreamRestore, restoreS3, peer, (*bulkRun).litestreamRestore},
	{rustSync, syncS3, small, (*bulkRun).rustSync},
	{rustRestore, restoreS3, small, (*bulkRun).rustRestore},
	{"sqlite3_rsync to a copy", syncDir, small, (*bulkRun).rsync},
}

func (b *bench) bulkOf(mib int, kind string, p *plot) error {
	dir, remove, err := b.fresh("bulk")
	if err != nil {
		return err
	}
	defer remove()
	k := &bulkRun{bench: b, dir: dir, db: filepath.Join(dir, "a.db"), mib: mib, kind: kind,
		costs: map[string][]cost{}, skipped: map[string]string{}}
	if err := b.fill(k.db, mib); err != nil {
		return err
	}
	if err := b.need("zstd", "zstd"); err != nil {
		k.skipped["zstd -1 -T0, sync"], k.skipped["zstd -d, sync"] = err.Error(), err.Error()
	}
	for turn := range b.inTime(b.turns) {
		if err := k.once(turn); err != nil {
			k.table()
			return err
		}
		k.turns++
	}
	k.table()
	k.aims()
	k.addTo(p)
	return nil
}

// once is a turn.
func (k *bulkRun) once(turn int) (err error) {
	storage := filepath.Join(k.dir, "storage")
	if k.server, err = k.serve(k.kind, storage); err != nil {
		return err
	}
	defer k.discard(storage)
	defer k.server.stop()
	for _, s := range bulkSteps {
		noS3 := s.base == syncDir || s.base == restoreDir
		larger := k.mib > k.bulk[0]
		if k.skipped[s.name] != "" || k.kind != "minio" && noS3 || larger &&
			(s.kind == small || s.kind == peer && turn > 0) {
			continue
		}
		c, err := s.run(k)
		if err != nil && s.kind != ours && k.ctx.Err() == nil {
			k.skipped[s.name] = lastLine(err)
			if s.name == rustRestore { // it says no when a sync stores nothing
				k.skipped[rustSync] = "what it stored cannot be restored"
				delete(k.costs, rustSync)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		k.costs[s.name] = append(k.costs[s.name], c)
	}
	for _, name := range []string{"store", "out", "copy", "copy.zst"} {
		k.discard(filepath.Join(k.dir, name))
	}
	return nil
}

// ---------------------------------------------------------------- ours

func (k *bulkRun) environment(s3 bool) ([]string, error) {
	if s3 {
		return configure(filepath.Join(k.dir, "s3"), s3Target(k.server.endpoint, "ours"), nil)
	}
	return configure(filepath.Join(k.dir, "dir"), dirTarget(k.dir+"/store"), nil)
}

func (k *bulkRun) ourSync(s3 bool) (cost, error) {
	env, err := k.environment(s3)
	if err != nil {
		return cost{}, err
	}
	k.discard(filepath.Join(k.dir, map[bool]string{true: "s3", false: "dir"}[s3], "spool"))
	_, c, err := k.take(env, k.ctl, "sync", k.db)
	return c, err
}

func (k *bulkRun) ourRestore(s3 bool) (cost, error) {
	env, err := k.environment(s3)
	if err != nil {
		return cost{}, err
	}
	out := filepath.Join(k.dir, "out")
	_, c, err := k.take(env, k.ctl, "restore", "--source-path", k.db, "--out", out)
	if err != nil {
		return c, err
	}
	defer os.Remove(out)
	return c, same(k.db, out)
}

// same compares what was restored, outside the time that is measured.
func same(a, b string) error {
	f, err := os.Open(a) // no SQLite uses it in this process
	if err != nil {
		return err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return err
	}
	defer g.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(f, x)
		m, errY := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return errors.New("the restored database differs")
		}
		if errX != nil || errY != nil {
			if (errX == io.EOF || errX == io.ErrUnexpectedEOF) &&
				(errY == io.EOF || errY == io.ErrUnexpectedEOF) {
				return nil
			}
			return errors.Join(errX, errY)
		}
	}
}

// ---------------------------------------------------------------- baselines

// cores does to each chunk only what every sync must do, on all processors.
func (k *bulkRun) cores() (cost, error) {
	f, err := os.Open(k.db)
	if err != nil {
		return cost{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return cost{}, err
	}
	const chunk = 1 << 16
	next := make(chan int64)
	sealer := chunkstore.Plain{} // as a sync without further configuration
	start := time.Now()
	var group sync.WaitGroup
	for range runtime.NumCPU() {
		group.Go(func() {
			b := make([]byte, chunk)
			for off := range next {
				n, _ := f.ReadAt(b, off)
				chunkstore.SealObject(sealer, nil, sealer.Identify(b[:n]), b[:n])
			}
		})
	}
	for off := int64(0); off < info.Size(); off += chunk {
		next <- off
	}
	close(next)
	group.Wait()
	return cost{seconds: time.Since(start).Seconds()}, nil
}

func (k *bulkRun) shell(script string) (cost, error) {
	_, c, err := k.take(nil, "sh", "-c", "cd "+k.dir+" && "+script)
	return c, err
}

func (k *bulkRun) rawPut() (cost, error) {
	all, err := objects(k.ctx, k.server.endpoint, "ours-chunks")
	if err != nil {
		return cost{}, err
	}
	seconds, err := newRaw(k.server.endpoint).putAll(k.ctx, "raw", all)
	return cost{seconds: seconds}, err
}

func (k *bulkRun) rawGet() (cost, error) {
	all, err := objects(k.ctx, k.server.endpoint, "ours-chunks")
	if err != nil {
		return cost{}, err
	}
	seconds, err := newRaw(k.server.endpoint).getAll(k.ctx, "ours-chunks", all)
	return cost{seconds: seconds}, err
}

// backup copies by SQL, and uploads the copy.
func (k *bulkRun) backup(command string) (cost, error) {
	copied := filepath.Join(k.dir, "copy")
	defer os.Remove(copied)
	_, c, err := k.take(nil, "sh", "-c", fmt.Sprintf("cd %s && sqlite3 a.db %q", k.dir, command))
	if err != nil {
		return c, err
	}
	start := time.Now()
	if err := newRaw(k.server.endpoint).putFile(k.ctx, "backup", copied); err != nil {
		return c, err
	}
	c.seconds += time.Since(start).Seconds()
	c.cpu = 0 // the upload's is ours
	return c, nil
}

// putFile uploads a file in objects of 16 MiB, in parallel, as a multipart upload does.
func (r *raw) putFile(ctx context.Context, bucket, path string) error {
	if err := r.bucket(ctx, bucket); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rawWorkers)
	const part = 16 << 20
	for off := int64(0); off < info.Size(); off += part {
		group.Go(func() error {
			body := make([]byte, min(part, info.Size()-off))
			if _, err := f.ReadAt(body, off); err != nil {
				return err
			}
			_, err := r.do(ctx, "PUT", fmt.Sprintf("/%s/%d", bucket, off), body)
			return err
		})
	}
	return group.Wait()
}

func (k *bulkRun) rsync() (cost, error) {
	if _, err := exec.LookPath("sqlite3_rsync"); err != nil {
		return cost{}, errors.New("it is not installed")
	}
	return k.shell("sqlite3_rsync a.db copy && sync copy; rm copy")
}

// ---------------------------------------------------------------- results

func (k *bulkRun) seconds(name string) (all []float64) {
	for _, c := range k.costs[name] {
		all = append(all, c.seconds)
	}
	return all
}

func (k *bulkRun) table() {
	var rows []row
	var notes []string
	for _, s := range bulkSteps {
		if why := k.skipped[s.name]; why != "" {
			notes = append(notes, fmt.Sprintf("%s: %s", s.name, why))
		}
		seconds := k.seconds(s.name)
		if len(seconds) == 0 {
			continue
		}
		var cpu, peak []float64
		for _, c := range k.costs[s.name] {
			if c.cpu > 0 {
				cpu, peak = append(cpu, c.cpu), append(peak, c.peakMiB)
			}
		}
		processor, memory := "-", "-"
		if len(cpu) > 0 {
			processor, memory = short(spreadOf(cpu).Median), short(spreadOf(peak).Median)
		}
		rows = append(rows, row{s.name, spreadOf(seconds), k.mbps(seconds).Median,
			ratios(seconds, k.seconds(s.base)), processor, memory})
	}
	k.report.table([]string{fmt.Sprintf("%s, %s (%d turns)", size(k.mib), k.kind, k.turns),
		"seconds", "MB/s", "x: verneuil's speed / this", "CPU s", "peak MiB"}, rows)
	if len(notes) > 0 {
		k.report.text("Left out: %s.", strings.Join(notes, "; "))
	}
}

// mbps is the speed in MB of database a second.
func (k *bulkRun) mbps(seconds []float64) spread {
	var all []float64
	for _, s := range seconds {
		all = append(all, float64(k.mib)*1.048576/s)
	}
	return spreadOf(all)
}

func (k *bulkRun) aims() {
	if k.kind != "minio" {
		return
	}
	for _, a := range []struct {
		what, ours, peer string
		aim              float64
		why              string
	}{
		{"sync to a directory, speed to hashing and compressing alone", syncDir, coresOnly, 0.8,
			"hashing and compressing are half of its processor time: a sync also reads the " +
				"database, copies it to the mirror and writes packs, on the same processors; " +
				"then ten flushes of the disk wait for each other, which count on a small " +
				"database"},
		{"sync to S3, speed to raw PUTs", syncS3, rawPuts, 0.8,
			"the raw client sends bytes that it has; a sync hashes, compresses, " +
				"copies to the mirror and makes a checksum for each PUT, on the processors that " +
				"the server needs, too"},
		{"restore from S3, speed to raw GETs", restoreS3, rawGets, 0.9,
			"the raw client drops what it gets; six tenths of a restore's processor time are " +
				"decompressing and verifying, on the processors that the server needs, too, and " +
				"it fsyncs the file at the end"},
		{"sync to S3, speed to Litestream's", syncS3, litestreamSync, 1.5,
			"a first sync proves each bucket before it puts anything, and both wait for the " +
				"server on the same processors"},
		{"restore from S3, speed to Litestream's", restoreS3, litestreamRestore, 2, ""},
	} {
		k.report.aim(aim{What: fmt.Sprintf("%s, %s", a.what, size(k.mib)), Aim: a.aim,
			AtLeast: true, Got: ratios(k.seconds(a.peer), k.seconds(a.ours)), Why: a.why})
	}
	var peak []float64
	for _, c := range slices.Concat(k.costs[restoreDir], k.costs[restoreS3]) {
		peak = append(peak, c.peakMiB)
	}
	k.report.aim(aim{What: "memory of a restore, " + size(k.mib), Aim: 150, Unit: "MiB",
		Got: spreadOf(peak)})
}

// label is what a step is called in a plot.
func label(step string) string {
	return strings.NewReplacer("verneuilctl ", "", " of the same objects", "", ", all processors",
		"").Replace(step)
}

// addTo puts the speeds into the plot.
func (k *bulkRun) addTo(p *plot) {
	s := series{name: fmt.Sprintf("%s, %s", size(k.mib), k.kind)}
	p.labels = nil
	for _, step := range bulkSteps {
		p.labels = append(p.labels, label(step.name))
		s.values = append(s.values, k.mbps(k.seconds(step.name)))
	}
	p.series = append(p.series, s)
}
