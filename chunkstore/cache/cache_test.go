package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/storetest"
)

func localCache(directory string, shards int, capacity int64) chunkstore.TargetConfig {
	return &cache.Local{Directory: directory, NumShards: shards, Capacity: capacity}
}

func readOnlyCache(directory string, shards int) chunkstore.TargetConfig {
	return &cache.ReadOnly{Directory: directory, NumShards: shards}
}

func dirTarget(path string) chunkstore.TargetConfig { return &dir.Config{Path: path} }

// fill puts n objects in packs of 8 in the target at root, and returns their bytes.
func fill(t *testing.T, root string, n int) map[chunkstore.Ref][]byte {
	t.Helper()
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	objects := make(map[chunkstore.Ref][]byte)
	var pack [][]byte
	for i := range n {
		pack = append(pack, storetest.Text(uint64(1000+i), 600))
		if len(pack) == 8 || i == n-1 {
			for k, ref := range storetest.PutObjects(t, target, pack...) {
				objects[ref] = pack[k]
			}
			pack = nil
		}
	}
	return objects
}

func mustGet(t *testing.T, s *chunkstore.Store, ref chunkstore.Ref, want []byte) {
	t.Helper()
	got, err := s.GetObject(t.Context(), nil, ref)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("object %v: got %d bytes, %v; want %d", ref, len(got), err, len(want))
	}
}

// entries returns the cache's files by the ID in their name, and the others.
func entries(t *testing.T, dir string) (byID map[chunkstore.ID]string, others []string) {
	t.Helper()
	byID = make(map[chunkstore.ID]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if id, err := chunkstore.ParseID(d.Name()); err == nil {
			byID[id] = path
		} else if d.Name() != ".claims" {
			others = append(others, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return byID, others
}

// TestCacheOfSealed: a cache knows of its entries only what the store's Sealer says; with another
// keys they are nothing, and stay.
func TestCacheOfSealed(t *testing.T) {
	root := t.TempDir()
	with := func(s chunkstore.Sealer) *chunkstore.Store {
		cfgs := []chunkstore.TargetConfig{localCache(root+"/cache", 1, 10),
			dirTarget(root + "/target")}
		store, err := chunkstore.Open(t.Context(), cfgs,
			chunkstore.Options{CallsPerSecond: -1, Sealer: s})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	plain := storetest.Text(1, 600)
	s, other := with(storetest.Keyed()), with(storetest.Keyed())
	ref := storetest.PutObjects(t, s.Targets[0], plain)[0]
	calls := s.Calls()
	for range 2 {
		mustGet(t, s, ref, plain)
	}
	if n := s.Calls() - calls; n != 1 {
		t.Errorf("%d calls, want one for the target and none for the cache", n)
	}
	_, err := other.GetObject(t.Context(), nil, ref)
	storetest.MustBe(t, err, chunkstore.ErrKey)
	mustGet(t, s, ref, plain) // what is another's is left in peace
	if n := s.Calls() - calls; n != 1 {
		t.Errorf("%d calls, want still one", n)
	}
}

func TestCacheSavesCalls(t *testing.T) {
	for _, shards := range []int{0, 1, 4} {
		root := t.TempDir()
		chunks := fill(t, root+"/target", 20)
		s := storetest.Open(t, localCache(root+"/cache", shards, 400), dirTarget(root+"/target"))
		for range 3 {
			for ref, plain := range chunks {
				mustGet(t, s, ref, plain)
			}
		}
		if s.Calls() != 20 {
			t.Errorf("%d shards: %d calls for 20 chunks", shards, s.Calls())
		}
		// Another process, or the same without the target, or a mere reader.
		readers := map[string]*chunkstore.Store{
			"local":     storetest.Open(t, localCache(root+"/cache", shards, 400)),
			"read_only": storetest.Open(t, readOnlyCache(root+"/cache", shards)),
			"second": storetest.Open(t, localCache(root+"/empty", 1, 100),
				localCache(root+"/cache", shards, 400)),
		}
		for name, s := range readers {
			for ref, plain := range chunks {
				mustGet(t, s, ref, plain)
			}
			if s.Calls() != 0 {
				t.Errorf("%s: %d calls", name, s.Calls())
			}
		}
		if byID, others := entries(t, root+"/cache"); len(byID) != 20 || len(others) != 0 {
			t.Errorf("cache has %d entries and %v", len(byID), others)
		}
	}
}

func TestI6DamagedCacheEntry(t *testing.T) {
	root := t.TempDir()
	chunks := fill(t, root+"/target", 5)
	s := storetest.Open(t, localCache(root+"/cache", 1, 100), dirTarget(root+"/target"))
	for ref, plain := range chunks {
		mustGet(t, s, ref, plain)
	}
	damages := [][]byte{nil, []byte("VRNC"), bytes.Repeat([]byte{0}, 300),
		chunkstore.SealObject(chunkstore.Plain{}, nil, chunkstore.ID{}, []byte("another")),
		make([]byte, 1<<20)}
	byID, _ := entries(t, root+"/cache")
	damage := func() {
		i := 0
		for _, file := range byID {
			if err := os.WriteFile(file, damages[i], 0o600); err != nil {
				t.Fatal(err)
			}
			i++
		}
	}
	damage()
	// A reader leaves it where it is, and goes on.
	reader := storetest.Open(t, readOnlyCache(root+"/cache", 1), dirTarget(root+"/target"))
	for ref, plain := range chunks {
		mustGet(t, reader, ref, plain)
	}
	if reader.Calls() != 5 {
		t.Errorf("reader: %d calls", reader.Calls())
	}
	if left, _ := entries(t, root+"/cache"); len(left) != 5 {
		t.Errorf("a reader removed entries: %d left", len(left))
	}
	// Without a target it is removed, with one it is replaced.
	alone := storetest.Open(t, localCache(root+"/cache", 1, 100))
	for ref := range chunks {
		if _, err := alone.GetObject(t.Context(), nil, ref); err == nil {
			t.Errorf("object %v: no error", ref)
		}
	}
	if left, _ := entries(t, root+"/cache"); len(left) != 0 {
		t.Errorf("%d damaged entries left", len(left))
	}
	damage()
	for range 2 {
		for ref, plain := range chunks {
			mustGet(t, s, ref, plain)
		}
	}
	if s.Calls() != 10 {
		t.Errorf("%d calls, want 5 to fill and 5 to replace", s.Calls())
	}
}

func TestCacheIsBounded(t *testing.T) {
	root := t.TempDir()
	const capacity = 100
	chunks := fill(t, root+"/target", 3*capacity)
	cfgs := []chunkstore.TargetConfig{localCache(root+"/cache", 4, capacity),
		dirTarget(root + "/target")}
	var all sync.WaitGroup
	for range 3 { // as processes would
		s := storetest.Open(t, cfgs...)
		all.Go(func() {
			for ref, plain := range chunks {
				got, err := s.GetObject(t.Context(), nil, ref)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("object %v: %d bytes, %v", ref, len(got), err)
				}
			}
		})
	}
	all.Wait()
	// Each of 3 processes may have 1/16 of a shard's 25, so 1, in each of 4 shards.
	if byID, others := entries(t, root+"/cache"); len(byID) > capacity+3*4 ||
		len(byID) < capacity/2 || len(others) != 0 {
		t.Errorf("%d entries and %v", len(byID), others)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	root := t.TempDir()
	chunks := fill(t, root+"/target", 30)
	s := storetest.Open(t, localCache(root+"/cache", 1, 20), dirTarget(root+"/target"))
	var order []chunkstore.Ref
	for ref := range chunks {
		order = append(order, ref)
	}
	for i, ref := range order[:20] {
		mustGet(t, s, ref, chunks[ref])
		// As if they had come one a minute.
		byID, _ := entries(t, root+"/cache")
		at := time.Now().Add(time.Duration(i-60) * time.Minute)
		if err := os.Chtimes(byID[ref.ID], at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range order[:10] { // used, though the oldest
		mustGet(t, s, ref, chunks[ref])
	}
	for _, ref := range order[20:] { // makes room for 10
		mustGet(t, s, ref, chunks[ref])
	}
	byID, _ := entries(t, root+"/cache")
	for i, ref := range order {
		_, has := byID[ref.ID]
		if want := i < 10 || i >= 20; has != want {
			t.Errorf("entry %d: in the cache: %v, want %v", i, has, want)
		}
	}
}

func TestCacheCleansUp(t *testing.T) {
	root := t.TempDir()
	shard := filepath.Join(root, "cache", "0000")
	if err := os.MkdirAll(shard, 0o700); err != nil {
		t.Fatal(err)
	}
	left, going := filepath.Join(shard, ".fill-left"), filepath.Join(shard, ".fill-going")
	for _, name := range []string{left, going} {
		ago := time.Now().Add(-time.Hour)
		if err := errors.Join(os.WriteFile(name, nil, 0o600),
			os.Chtimes(name, ago, ago)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(going)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	chunks := fill(t, root+"/target", 1)
	s := storetest.Open(t, localCache(root+"/cache", 1, 10), dirTarget(root+"/target"))
	for ref, plain := range chunks {
		mustGet(t, s, ref, plain)
	}
	if _, others := entries(t, root+"/cache"); len(others) != 1 || others[0] != going {
		t.Errorf("left over: %v", others)
	}
}

// fetcher is a Store with a cache, as another process has it, that fetches from chunks.
// It takes a target for slow that has not answered within slowAfter.
func fetcher(t *testing.T, root string, chunks chunkstore.Bucket,
	slowAfter time.Duration) *chunkstore.Store {
	t.Helper()
	cfgs := []chunkstore.TargetConfig{localCache(root+"/cache", 2, 1000),
		dirTarget(root + "/target")}
	s, err := chunkstore.Open(t.Context(), cfgs,
		chunkstore.Options{CallsPerSecond: -1, SlowAfter: slowAfter})
	if err != nil {
		t.Fatal(err)
	}
	s.Targets[0] = chunkstore.NewTarget("target", chunks, s.Targets[0].Manifests)
	return s
}

func TestI7FetchedOnce(t *testing.T) {
	root := t.TempDir()
	chunks := fill(t, root+"/target", 50)
	for _, failing := range []int{0, 1} {
		plan := &faultbucket.Plan{At: failing}
		bucket := plan.Bucket(storetest.Open(t, dirTarget(root+"/target")).Targets[0].Chunks)
		var all sync.WaitGroup
		var failed atomic.Int64
		for range 8 {
			s := fetcher(t, root, bucket, time.Hour)
			all.Go(func() {
				for ref, plain := range chunks {
					got, err := s.GetObject(t.Context(), nil, ref)
					if errors.Is(err, faultbucket.ErrInjected) {
						failed.Add(1)
						got, err = s.GetObject(t.Context(), nil, ref)
					}
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
		all.Wait()
		if plan.Calls() != len(chunks)+failing || failed.Load() != int64(failing) {
			t.Errorf("%d calls for %d chunks, of which %d failed", plan.Calls(), len(chunks),
				failing)
		}
		if err := os.RemoveAll(root + "/cache"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestI7WaitsForFetch: while another process fetches a chunk nobody asks for it, unless that
// takes too long.
func TestI7WaitsForFetch(t *testing.T) {
	root := t.TempDir()
	plan := &faultbucket.Plan{}
	counted := plan.Bucket(storetest.Open(t, dirTarget(root+"/target")).Targets[0].Chunks)
	for ref, plain := range fill(t, root+"/target", 1) {
		g := &storetest.Gate{Bucket: counted, Arrived: make(chan struct{}, 1),
			Opened: make(chan struct{})}
		first, second := fetcher(t, root, g, time.Hour), fetcher(t, root, counted, time.Hour)
		fetched := make(chan error, 1)
		go func() {
			_, err := first.GetObject(t.Context(), nil, ref)
			fetched <- err
		}()
		<-g.Arrived
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := second.GetObject(impatient, nil, ref)
		if !errors.Is(err, context.DeadlineExceeded) || plan.Calls() != 0 {
			t.Errorf("%v, after %d calls", err, plan.Calls())
		}
		mustGet(t, fetcher(t, root, counted, time.Millisecond), ref, plain)
		close(g.Opened)
		if err := <-fetched; err != nil {
			t.Error(err)
		}
	}
}

// TestI7WithoutClaims: where the file of claims cannot be one, nobody claims, and nothing
// that stands there is touched.
func TestI7WithoutClaims(t *testing.T) {
	victim := t.TempDir() + "/victim"
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, plant := range map[string]func(name string) error{
		"symbolic link": func(name string) error { return os.Symlink(victim, name) },
		"fifo":          func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"directory":     func(name string) error { return os.MkdirAll(name+"/x", 0o700) },
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			chunks := fill(t, root+"/target", 3)
			if err := errors.Join(os.Mkdir(root+"/cache", 0o700),
				plant(root+"/cache/.claims")); err != nil {
				t.Fatal(err)
			}
			s := storetest.Open(t, localCache(root+"/cache", 1, 10), dirTarget(root+"/target"))
			for range 2 {
				for ref, plain := range chunks {
					mustGet(t, s, ref, plain)
				}
			}
			if b, err := os.ReadFile(victim); string(b) != "precious" {
				t.Errorf("%s: %q, %v", victim, b, err)
			}
		})
	}
}

// TestUnusableCache: it costs nothing but calls.
func TestUnusableCache(t *testing.T) {
	root := t.TempDir()
	chunks := fill(t, root+"/target", 3)
	file := root + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, cfg := range []chunkstore.TargetConfig{localCache(file, 1, 10),
		localCache(file+"/below", 1, 10), readOnlyCache(file, 1), readOnlyCache(root+"/missing",
			1), localCache("/proc/version/x", 1, 10)} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := storetest.Open(t, cfg, dirTarget(root+"/target"))
			for ref, plain := range chunks {
				mustGet(t, s, ref, plain)
			}
		})
	}
}

// TestCacheForeign: what is no file of ours in a cache is neither waited for, nor followed,
// nor removed to make room.
func TestCacheForeign(t *testing.T) {
	root := t.TempDir()
	chunks := fill(t, root+"/target", 40)
	s := storetest.Open(t, localCache(root+"/cache", 1, 10), dirTarget(root+"/target"))
	shard, victim := root+"/cache/0000/", root+"/victim"
	if err := errors.Join(os.MkdirAll(shard, 0o700),
		os.WriteFile(victim, []byte("precious"), 0o600),
		os.WriteFile(shard+"letter.txt", []byte("precious"), 0o600)); err != nil {
		t.Fatal(err)
	}
	plants := []func(name string) error{
		func(name string) error { return os.Symlink(victim, name) },
		func(name string) error { return os.Link(victim, name) },
		func(name string) error { return syscall.Mkfifo(name, 0o600) },
		func(name string) error { return os.MkdirAll(name+"/x", 0o700) },
	}
	i := 0
	for ref := range chunks {
		if i == len(plants) {
			break
		}
		if err := plants[i](shard + ref.ID.String()); err != nil {
			t.Fatal(err)
		}
		i++
	}
	for ref, plain := range chunks {
		mustGet(t, s, ref, plain)
	}
	for _, name := range []string{victim, shard + "letter.txt"} {
		if b, err := os.ReadFile(name); string(b) != "precious" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}
