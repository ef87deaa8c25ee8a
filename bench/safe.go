package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// partSafe measures what it costs that a commit waits for the store, and that all is encrypted.
func partSafe(b *bench) error {
	dir, s, end, err := b.scene("safe")
	if err != nil {
		return err
	}
	defer end()
	if err := b.durable(dir, s); err != nil {
		return fmt.Errorf("durable commits: %w", err)
	}
	if err := b.sealed(dir, s); err != nil {
		return err
	}
	return b.sealedCommits(dir, s)
}

// durableCommits is how many are timed.
const durableCommits = 100

// durable times commits of one row that wait for MinIO, in turns with raw PUTs of as many bytes as
// the record of such a commit has.
func (b *bench) durable(dir string, s *server) error {
	env, err := configure(filepath.Join(dir, "durable"), s3Target(s.endpoint, "durable"),
		object{"make_default": true})
	if err != nil {
		return err
	}
	sql, err := b.shell(env, filepath.Join(dir, "durable.db"))
	if err != nil {
		return err
	}
	defer sql.end()
	setup := []string{".load " + b.lib, ".open " + filepath.Join(dir, "durable.db"),
		"pragma journal_mode=wal; create table t(a integer primary key, b);",
		"select verneuil_flush();", "pragma verneuil_durable=on;"}
	for _, each := range setup {
		if _, _, err := sql.ask(each); err != nil {
			return err
		}
	}
	raw := newRaw(s.endpoint)
	if err := raw.bucket(b.ctx, "raw-durable"); err != nil {
		return err
	}
	var ours, puts []float64
	var body []byte
	for n := range durableCommits + 10 { // the first ones warm up
		_, seconds, err := sql.ask("insert into t(b) values(randomblob(100));")
		if err != nil {
			return err
		}
		if n == 9 {
			if body, err = b.lastRecord(s); err != nil {
				return err
			}
		}
		if n < 10 {
			continue
		}
		began := time.Now()
		if _, err := raw.do(b.ctx, "PUT", fmt.Sprintf("/raw-durable/%d", n), body); err != nil {
			return err
		}
		ours, puts = append(ours, seconds*1e3), append(puts, time.Since(began).Seconds()*1e3)
	}
	if said, _, err := sql.ask("pragma verneuil_durable_outcome;"); err != nil || said != "stored" {
		return fmt.Errorf("the last commit is %q: %v", said, err)
	}
	var local []float64
	for range durableCommits {
		_, seconds, err := sql.ask("pragma verneuil_durable=off; " +
			"insert into t(b) values(randomblob(100));")
		if err != nil {
			return err
		}
		local = append(local, seconds*1e3)
	}
	b.report.table([]string{"ms", "p50", "p95"}, []row{
		{"durable commit of one row, WAL", percentile(ours, 0.5), percentile(ours, 0.95)},
		{"the same, not durable", percentile(local, 0.5), percentile(local, 0.95)},
		{fmt.Sprintf("raw PUT of %d bytes", len(body)), percentile(puts, 0.5),
			percentile(puts, 0.95)}})
	b.report.aim(aim{What: "durable commit, p50 to a raw PUT's", Aim: 1.2,
		Got: spreadOf([]float64{percentile(ours, 0.5) / percentile(puts, 0.5)}),
		Why: fmt.Sprintf("the commit comes first, which takes %.2f ms here by itself; then a "+
			"thread of Go's is woken, copies the pages to the mirror, makes a "+
			"version of them, and notes in the spool what it is about to put, without which no "+
			"other process could go on; and the AWS SDK makes a request of it",
			percentile(local, 0.5))})
	return nil
}

// shell is one of sqlite3's.
type shell struct {
	*process
	out *bufio.Scanner
}

func (b *bench) shell(env []string, db string) (*shell, error) {
	p, err := b.launch(env, "sqlite3", "-batch", db)
	if err != nil {
		return nil, err
	}
	return &shell{p, bufio.NewScanner(p.stdout)}, nil
}

// ask runs statements, and returns the last line of what they print, and how long they took.
func (s *shell) ask(sql string) (answer string, seconds float64, err error) {
	began := time.Now()
	if _, err := fmt.Fprintf(s.stdin, "%s\nselect 'end';\n", sql); err != nil {
		return "", 0, err
	}
	for s.out.Scan() {
		if s.out.Text() == "end" {
			return answer, time.Since(began).Seconds(), nil
		}
		answer = s.out.Text()
	}
	return answer, 0, fmt.Errorf("the shell has ended: %s", tail(s.stderr.String()))
}

func (s *shell) end() {
	s.stdin.Close()
	_ = s.Wait()
}

// lastRecord returns as many bytes as the last record has.
func (b *bench) lastRecord(s *server) ([]byte, error) {
	all, err := objects(b.ctx, s.endpoint, "durable-chunks")
	last := ""
	for key := range all {
		if strings.HasPrefix(key, "log-") {
			last = max(last, key)
		}
	}
	if err == nil && last == "" {
		err = errors.New("no record is there")
	}
	return make([]byte, all[last]), err
}

// sealed syncs and restores a database with a key file and without, in turns.
func (b *bench) sealed(dir string, s *server) error {
	db, mib := filepath.Join(dir, "sealed.db"), b.bulk[0]
	if err := b.fill(db, mib); err != nil {
		return err
	}
	keys := filepath.Join(dir, "keys")
	if _, _, err := b.take(nil, b.ctl, "key", "new", keys); err != nil {
		return err
	}
	seconds := map[string][]float64{}
	for turn := range b.inTime(b.turns) {
		for name, more := range map[string]object{"plain": nil, "encrypted": {"key_file": keys}} {
			at := fmt.Sprintf("%s-%d", name, turn)
			env, err := configure(filepath.Join(dir, at), s3Target(s.endpoint, at), more)
			if err != nil {
				return err
			}
			_, c, err := b.take(env, b.ctl, "sync", db)
			if err != nil {
				return err
			}
			seconds["sync, "+name] = append(seconds["sync, "+name], c.seconds)
			out := filepath.Join(dir, "out")
			_, c, err = b.take(env, b.ctl, "restore", "--source-path", db, "--out", out)
			if err == nil {
				err = same(db, out)
			}
			if err != nil {
				return err
			}
			seconds["restore, "+name] = append(seconds["restore, "+name], c.seconds)
			os.Remove(out)
			b.discard(filepath.Join(dir, at))
		}
	}
	var rows []row
	for _, what := range []string{"sync", "restore"} {
		plain, sealed := seconds[what+", plain"], seconds[what+", encrypted"]
		speed := ratios(plain, sealed)
		rows = append(rows, row{what, spreadOf(plain), spreadOf(sealed), speed})
		b.report.aim(aim{What: "speed of a " + what + " with encryption, " + size(mib), Aim: 0.85,
			AtLeast: true, Got: speed})
	}
	b.report.table([]string{size(mib) + ", minio", "plain, s", "encrypted, s",
		"x: speed encrypted / plain"}, rows)
	return nil
}

// sealedCells are the commits that are measured with a key file and without.
var sealedCells = []string{"delete/full/4096/1", "truncate/off/4096/1", "wal/full/4096/1"}

// sealedCommits measures commits in fine turns with stock SQLite's, with a key file and without,
// the one after the other: while nothing else runs, and while another database of the process
// uploads a backlog at full speed, which is encrypted then.
func (b *bench) sealedCommits(dir string, s *server) error {
	keys := filepath.Join(dir, "keys")
	names := []string{"plain", "encrypted"}
	var results [2][2][]*cellResult // load, name
	seconds := strconv.FormatFloat(b.seconds/2, 'g', -1, 64)
	for turn := range b.inTime(b.turns) {
		for i := range names {
			i ^= turn & 1
			for load := range results {
				at := fmt.Sprintf("commits-%s-%d-%d", names[i], load, turn)
				home := filepath.Join(dir, at)
				var more object
				if names[i] == "encrypted" {
					more = object{"key_file": keys}
				}
				env, err := configure(home, s3Target(s.endpoint, at), more)
				if err != nil {
					return err
				}
				args := append([]string{"commit", b.lib, home, seconds, strconv.Itoa(load)},
					sealedCells...)
				out, _, err := b.take(env, b.host, args...)
				if err == nil {
					results[load][i], err = parseCells(results[load][i], out)
				}
				if err != nil {
					return err
				}
				b.discard(home)
			}
		}
	}
	var rows []row
	for load, when := range []string{"", ", while uploading"} {
		for k, name := range sealedCells {
			plain, sealed := results[load][0][k], results[load][1][k]
			both := ratios(sealed.toStock(), plain.toStock())
			rows = append(rows, row{name + when, plain.samples + sealed.samples,
				plain.ratio(statMedian), sealed.ratio(statMedian), both})
			b.report.aim(aim{What: "commit, " + name + ", encrypted to plain" + when, Aim: 1.03,
				Got: both, Why: "the application's thread does not encrypt"})
		}
	}
	b.report.table([]string{"a commit's median, in fine turns with stock", "samples",
		"plain, x stock", "encrypted, x stock", "encrypted / plain"}, rows)
	return nil
}

// toStock is the ratio of each part's median to that of stock SQLite in the same part.
func (c *cellResult) toStock() (x []float64) {
	for i, v := range c.ours[statMedian] {
		x = append(x, over(v, c.stock[statMedian][i]))
	}
	return x
}
