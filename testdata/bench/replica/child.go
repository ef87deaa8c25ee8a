package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"verneuil/cgo"
	"verneuil/chunkstore"
	"verneuil/vfs"
)

// measured is what a child reports, as JSON.
type measured struct {
	Point, PointStock, Scan, ScanStock, Many time.Duration
	Calls, Bytes, ManyCalls                  int64
	PeakKiB, FileKiB, Mappings               int64
}

func child(kind string, args []string) error {
	if err := cgo.Register(); err != nil {
		return err
	}
	uri := args[0]
	rows, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var m measured
	switch args = args[2:]; kind {
	case "warm":
		m, err = childWarm(uri, args[0], rows)
	case "cold":
		m, err = childCold(uri, args[0], rows)
	case "scan":
		m, err = childScan(uri)
	case "get":
		m, err = childGet(args[0])
	case "follow":
		return childFollow(uri)
	case "rss":
		m, err = childRSS(uri)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

func connect(uri string) (*sql.Conn, error) {
	db, err := sql.Open("sqlite3", uri)
	if err != nil {
		return nil, err
	}
	return db.Conn(context.Background())
}

func points(c *sql.Conn, rng *rand.Rand, rows, n int) (time.Duration, error) {
	s, err := c.PrepareContext(context.Background(), "select v from t where k=?")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	began := time.Now()
	for range n {
		var v int
		if err := s.QueryRow(1 + rng.IntN(rows)).Scan(&v); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / time.Duration(n), nil
}

func scan(c *sql.Conn) (time.Duration, error) {
	var n int64
	began := time.Now()
	err := c.QueryRowContext(context.Background(), "select sum(v) from t").Scan(&n)
	return time.Since(began), err
}

// childWarm: rounds alternate, and the median of each counts.
func childWarm(uri, path string, rows int) (m measured, err error) {
	var times [2][2][]time.Duration
	var conns [2]*sql.Conn
	for i, name := range []string{uri, "file:" + path + "?vfs=unix&mode=ro"} {
		if conns[i], err = connect(name); err != nil {
			return m, err
		}
		if _, err := scan(conns[i]); err != nil {
			return m, err
		}
	}
	for round := range 11 {
		for i, c := range conns {
			d, err := points(c, rand.New(rand.NewPCG(1, uint64(round))), rows, 20000)
			if err != nil {
				return m, err
			}
			times[i][0] = append(times[i][0], d)
			if round < 5 {
				if d, err = scan(c); err != nil {
					return m, err
				}
				times[i][1] = append(times[i][1], d)
			}
		}
	}
	middle := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)/2] }
	m.Point, m.PointStock = middle(times[0][0]), middle(times[1][0])
	m.Scan, m.ScanStock = middle(times[0][1]), middle(times[1][1])
	return m, nil
}

// spent asks the status for the requests and bytes of the replica so far.
func spent(c *sql.Conn) (calls, bytes int64, err error) {
	err = c.QueryRowContext(context.Background(), `select json_extract(s, '$.api_calls'), json_extract(s, '$.replicas[0].bytes_fetched')
		from (select verneuil_status() s)`).Scan(&calls, &bytes)
	return calls, bytes, err
}

func childCold(uri, key string, rows int) (m measured, err error) {
	began := time.Now()
	c, err := connect(uri)
	if err != nil {
		return m, err
	}
	var v int
	if err := c.QueryRowContext(context.Background(), "select v from t where k="+key).Scan(&v); err != nil {
		return m, err
	}
	m.Point = time.Since(began)
	if m.Calls, m.Bytes, err = spent(c); err != nil {
		return m, err
	}
	d, err := points(c, rand.New(rand.NewPCG(3, 4)), rows, 100)
	if err != nil {
		return m, err
	}
	m.Many = 100 * d
	calls, _, err := spent(c)
	m.ManyCalls = calls - m.Calls
	return m, err
}

func childScan(uri string) (m measured, err error) {
	began := time.Now()
	c, err := connect(uri)
	if err != nil {
		return m, err
	}
	if _, err := scan(c); err != nil {
		return m, err
	}
	m.Scan = time.Since(began)
	m.Calls, m.Bytes, err = spent(c)
	return m, err
}

// childGet gets every object of the database, with as many at a time as a scan has.
func childGet(path string) (m measured, err error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	var ids []chunkstore.ID
	for chunk := range slices.Chunk(file, chunkstore.ChunkBytes) {
		ids = append(ids, chunkstore.Sum(chunk))
	}
	file = nil
	config, err := vfs.ParseConfig(os.Getenv("VERNEUIL_CONFIG"))
	if err != nil {
		return m, err
	}
	store, err := config.OpenForegroundStore(context.Background(), vfs.Process().Log())
	if err != nil {
		return m, err
	}
	next := make(chan chunkstore.ID)
	var group sync.WaitGroup
	began := time.Now()
	for range 32 {
		group.Go(func() {
			for id := range next {
				_, getErr := store.Targets[0].Chunks.Get(context.Background(), id.String(), chunkstore.GetOptions{})
				if getErr != nil && !errors.Is(getErr, chunkstore.ErrAbsent) { // a chunk with inline pages has another name
					err = getErr
				}
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	group.Wait()
	m.Scan = time.Since(began)
	return m, err
}

// childFollow does what its input says, and reports each line.
func childFollow(uri string) error {
	c, err := connect(uri)
	if err != nil {
		return err
	}
	ctx, lines := context.Background(), bufio.NewScanner(os.Stdin)
	value := func(key string) (v int, err error) {
		err = c.QueryRowContext(ctx, "select v from t where k="+key).Scan(&v)
		return v, err
	}
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		calls, bytes, err := spent(c)
		if err != nil {
			return err
		}
		began := time.Now()
		var s string
		switch word[0] {
		case "row":
			_, err = value(word[1])
		case "refresh":
			err = c.QueryRowContext(ctx, "pragma verneuil_snapshot_refresh=2").Scan(&s)
		case "auto":
			err = c.QueryRowContext(ctx, "pragma verneuil_snapshot_auto_refresh=1").Scan(&s)
		case "until":
			var v int
			for want, _ := strconv.Atoi(word[2]); err == nil && v != want; {
				if v, err = value(word[1]); v != want {
					time.Sleep(time.Millisecond / 2)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		m := measured{Scan: time.Since(began)}
		if m.Calls, m.Bytes, err = spent(c); err != nil {
			return err
		}
		m.Calls, m.Bytes = m.Calls-calls, m.Bytes-bytes
		if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
			return err
		}
	}
	return lines.Err()
}

func childRSS(uri string) (m measured, err error) {
	c, err := connect(uri)
	if err != nil {
		return m, err
	}
	for range 2 {
		if _, err := scan(c); err != nil {
			return m, err
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmHWM: %d", &m.PeakKiB)
		fmt.Sscanf(line, "RssFile: %d", &m.FileKiB)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	m.Mappings = int64(strings.Count(string(maps), "\n"))
	return m, err
}
