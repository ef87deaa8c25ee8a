// Command lag measures the time from a commit to the manifest that has it:
//
//	lag STORE MANIFEST-NAME COMMITS COMMAND...
//
// It runs COMMAND, which is `host rate ... COMMITS`, and looks at the manifest in
// the dir target STORE twice per millisecond. The number of the last commit that a
// manifest has is the user_version in its page 1. It prints cells of a Markdown
// table: commits, manifests seen, p50 and p99 in ms, the median bytes of a manifest,
// the median time of a durable PUT of that size (write, fsync, rename, fsync of the
// directory) in ms, and p50 as a multiple of that.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// seen is one manifest and when it was first seen.
type seen struct {
	commit uint32
	at     time.Time
	bytes  int
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 5 {
		return fmt.Errorf("usage: lag STORE MANIFEST-NAME COMMITS COMMAND...")
	}
	store, name, commits := os.Args[1], os.Args[2], os.Args[3]
	c := exec.Command(os.Args[4], os.Args[5:]...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	all, err := watch(store, name, done)
	if err != nil {
		return err
	}
	lags, err := match(commits, all)
	if err != nil {
		return err
	}
	return report(store, lags, all)
}

func watch(dir, name string, done <-chan error) ([]seen, error) {
	store, err := chunkstore.Open(context.Background(), []chunkstore.TargetConfig{{Dir: &chunkstore.DirConfig{Path: dir}}},
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	path := filepath.Join(dir, "manifests", name)
	var all []seen
	var last os.FileInfo
	for {
		select {
		case err := <-done:
			return all, err
		case <-time.After(500 * time.Microsecond):
		}
		info, err := os.Stat(path)
		if err != nil || last != nil && os.SameFile(info, last) && info.ModTime().Equal(last.ModTime()) {
			continue
		}
		at := time.Now()
		last = info
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		commit, err := userVersion(store, body)
		if err != nil {
			return nil, err
		}
		all = append(all, seen{commit, at, len(body)})
	}
}

func userVersion(store *chunkstore.Store, body []byte) (uint32, error) {
	m, err := manifest.Decode(body)
	if err != nil || m.FileBytes == 0 {
		return 0, err
	}
	if in := m.InlineOf(0); len(in) > 0 && in[0].Offset == 0 {
		return binary.BigEndian.Uint32(in[0].Data[60:]), nil
	}
	id, err := m.Tree().Lookup(context.Background(), 0, store.GetChunk)
	if err != nil {
		return 0, err
	}
	chunk, err := store.GetChunk(context.Background(), id)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(m.Overlay(0, chunk)[60:]), nil
}

// match returns each commit's lag.
func match(name string, all []seen) ([]time.Duration, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lags []time.Duration
	lines := bufio.NewScanner(f)
	for i := 0; lines.Scan(); {
		var commit uint32
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &commit, &at); err != nil {
			return nil, err
		}
		for i < len(all) && all[i].commit < commit {
			i++
		}
		if i == len(all) {
			return nil, fmt.Errorf("commit %d is in no manifest", commit)
		}
		lags = append(lags, max(0, all[i].at.Sub(time.Unix(0, at))))
	}
	return lags, lines.Err()
}

func report(store string, lags []time.Duration, all []seen) error {
	var sizes []int
	for _, s := range all {
		sizes = append(sizes, s.bytes)
	}
	slices.Sort(sizes)
	slices.Sort(lags)
	size := sizes[len(sizes)/2]
	put, err := putTime(store, size)
	if err != nil {
		return err
	}
	p50, p99 := lags[len(lags)/2], lags[len(lags)*99/100]
	fmt.Printf(" %d | %d | %s | %s | %d | %s | %.1f |\n", len(lags), len(all), ms(p50), ms(p99), size, ms(put), float64(p50)/float64(put))
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1e3) }

// putTime is the median of 21 durable PUTs of so many bytes.
func putTime(store string, bytes int) (time.Duration, error) {
	dir, err := os.MkdirTemp(store, "put")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var times []time.Duration
	for range 21 {
		start := time.Now()
		if err := put(dir, make([]byte, bytes)); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func put(dir string, body []byte) error {
	f, err := os.Create(filepath.Join(dir, "new"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, "object")); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
