package dir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
)

func dirTarget(path string) chunkstore.TargetConfig { return &dir.Config{Path: path} }

func TestDirConformance(t *testing.T) {
	target := storetest.Open(t, dirTarget(t.TempDir()+"/made/on demand")).Targets[0]
	storetest.Target(t, target)
	// MinIO refuses keys of more than 255 bytes without a slash
	storetest.LongKeys(t, target.Manifests)
}

func TestDirLogs(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	storetest.Log(t, func(name string) chunkstore.Log {
		return chunkstore.NewLog(target, name)
	})
	if _, err := os.Stat(root + "/chunks/logs/order/0000000000000064"); err != nil {
		t.Error(err)
	}
}

// TestDirShelves: what is no pack has directories of its own, and is listed after all packs.
func TestDirShelves(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	pack := storetest.PutObjects(t, target, []byte("chunk"))[0].Place.Pack.String()
	keys := []string{pack, "kept-aa-1-2", "kept-aa-1-3", "kept-ab-0-9", "lease-a", "lease-aa",
		"log-a-1", "log-a1-0", "want-aa"}
	for _, key := range keys[1:] {
		storetest.MustPut(t, target.Chunks, key, key, chunkstore.Condition{})
	}
	for _, bad := range []string{"kept-", "kept-a", "kept--1", "kept-a-", "kept", "log-a-",
		"lease-", "lease", "lease-a-b", "want-", "want-" + strings.Repeat("a", 300)} {
		_, err := target.Chunks.Put(t.Context(), bad, nil, chunkstore.Condition{})
		if err == nil {
			t.Errorf("key %q was taken", bad)
		}
	}
	for prefix, want := range map[string][]string{
		"": keys, "kept-": keys[1:4], "kept-aa-": keys[1:3], "kept-aa-1-3": keys[2:3],
		"log-": keys[6:8], "log-a-": keys[6:7], pack[:2]: keys[:1], "k": keys[1:4], "kept-b": nil,
		"l": keys[4:8], "lease-": keys[4:6], "lease-aa": keys[5:6], "want-": keys[8:],
	} {
		var got []string
		err := target.Chunks.List(t.Context(), prefix, func(o chunkstore.Object) bool {
			got = append(got, o.Key)
			return true
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", prefix, got, err, want)
		}
		got = nil
		err = target.Chunks.List(t.Context(), prefix, func(o chunkstore.Object) bool {
			got = append(got, o.Key)
			return false
		})
		if err != nil || len(got) != min(len(want), 1) {
			t.Errorf("%q: the first is %q, %v", prefix, got, err)
		}
	}
	for _, name := range []string{"kept/aa/1-3", "leases/aa", "wants/aa"} {
		if _, err := os.Stat(root + "/chunks/" + name); err != nil {
			t.Error(err)
		}
	}
}

// TestSealerConformance: a target knows of what it stores only what its Sealer says.
func TestSealerConformance(t *testing.T) {
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(t.TempDir())},
		chunkstore.Options{CallsPerSecond: -1, Sealer: storetest.Keyed()})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Target(t, s.Targets[0])
}

func TestDirLayout(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root+"/bucket")).Targets[0]
	name := storetest.PutObjects(t, target, []byte("chunk"))[0].Place.Pack.String()
	storetest.MustPut(t, target.Manifests, "5deb-verneuil%3Ahost", "manifest",
		chunkstore.Condition{})
	want := map[string]fs.FileMode{
		"bucket": 0o700, "bucket/chunks": 0o700, "bucket/manifests": 0o700,
		"bucket/chunks/" + name[:2]: 0o700, "bucket/chunks/" + name[:2] + "/" + name: 0o600,
		"bucket/manifests/5deb-verneuil%3Ahost": 0o600,
	}
	got := storetest.FilesIn(t, root)
	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("%s: mode %v, want %v", name, got[name], mode)
		}
		delete(got, name)
	}
	for name := range got {
		if base := filepath.Base(name); base != ".lock" && base != ".put" {
			t.Errorf("%s: what is this?", name)
		}
	}
}

func TestDirBadKeys(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root+"/bucket")).Targets[0]
	keys := []string{"", ".", "..", ".lock", ".history", "a/b", "../a", "/etc/passwd", "a\x00b",
		strings.Repeat("a", 1025)}
	for _, b := range []chunkstore.Bucket{target.Manifests, target.Chunks} {
		for _, key := range append(keys, strings.Repeat("/", 64), strings.Repeat("A", 64)) {
			if b == target.Manifests && key == strings.Repeat("A", 64) {
				continue // is a fine name for a manifest, but no chunk ID
			}
			if _, err := b.Put(t.Context(), key, nil, chunkstore.Condition{}); err == nil {
				t.Errorf("put %q in %v: no error", key, b)
			}
			if _, err := b.Get(t.Context(), key, chunkstore.GetOptions{}); err == nil ||
				errors.Is(err, chunkstore.ErrAbsent) {
				t.Errorf("get %q in %v: %v", key, b, err)
			}
			if err := b.Delete(t.Context(), key); err == nil {
				t.Errorf("delete %q in %v: no error", key, b)
			}
		}
	}
	if got := storetest.FilesIn(t, root); len(got) != 0 {
		t.Errorf("files made: %v", got)
	}
}

func historyOf(t *testing.T, root, key string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "manifests", ".history", key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Join(root, "manifests", ".history", key, e.Name()))
	}
	return names
}

func TestDirHistory(t *testing.T) {
	root := t.TempDir()
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	for i := range 4 {
		storetest.MustPut(t, b, "key", fmt.Sprint("version ", i), chunkstore.Condition{})
	}
	_, err := b.Put(t.Context(), "key", []byte("refused"), chunkstore.Condition{IfNone: true})
	storetest.MustBe(t, err, chunkstore.ErrConflict)
	if err := b.Delete(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range historyOf(t, root, "key") {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	slices.Sort(got) // several versions may have the same time
	if want := []string{"version 0", "version 1", "version 2", "version 3"}; !slices.Equal(got,
		want) {
		t.Errorf("history %q, want %q", got, want)
	}
	if left := storetest.Listed(t, b, "", 10); len(left) != 0 {
		t.Errorf("listed %v", left)
	}
}

// TestDirHistoryThins: what is older than the newest 1,000 is kept by the hour, then
// by the day.
func TestDirHistoryThins(t *testing.T) {
	now := time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC)
	name := func(age time.Duration) string {
		return fmt.Sprintf("%020d-0123456789abcdef", now.Add(-age).UnixNano())
	}
	var versions, want []string
	for hours := 40 * 24; hours > 0; hours-- { // at :00, :20 and :40 of each hour
		for minute := 30; minute >= -10; minute -= 20 {
			age := time.Duration(hours)*time.Hour + time.Duration(minute)*time.Minute
			versions = append(versions, name(age))
			last := minute == -10
			if age > 30*24*time.Hour {
				last = last && now.Add(-age).Hour() == 23
			}
			if last {
				want = append(want, versions[len(versions)-1])
			}
		}
	}
	for i := range 1000 {
		versions = append(versions, name(time.Duration(1000-i)*time.Millisecond))
		want = append(want, versions[len(versions)-1])
	}
	expired := dir.ExpiredVersions(versions, now)
	kept := slices.DeleteFunc(slices.Clone(versions), func(v string) bool {
		return slices.Contains(expired, v)
	})
	if !slices.Equal(kept, want) {
		t.Errorf("%d of %d versions kept, want %d", len(kept), len(versions), len(want))
	}
}

func TestDirHistoryIsBounded(t *testing.T) {
	root := t.TempDir()
	history := filepath.Join(root, "manifests", ".history", "key")
	if err := os.MkdirAll(history, 0o700); err != nil {
		t.Fatal(err)
	}
	old := func(i int) string {
		return filepath.Join(history, fmt.Sprintf("%020d-0123456789abcdef", i))
	}
	for i := range 1500 {
		if err := os.WriteFile(old(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	storetest.MustPut(t, b, "key", "a", chunkstore.Condition{})
	names := historyOf(t, root, "key")
	if len(names) != 1000 || names[0] != old(500) {
		t.Fatalf("%d versions left, the oldest %s", len(names), names[0])
	}
	for i := range 200 {
		storetest.MustPut(t, b, "key", fmt.Sprint(i), chunkstore.Condition{})
	}
	if names := historyOf(t, root, "key"); len(names) < 1000 || len(names) > 1064 {
		t.Errorf("%d versions left", len(names))
	}
}

func TestDirRemovedMeanwhile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "bucket")
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	for range 2 {
		ref := storetest.PutObjects(t, target, []byte("x"))[0]
		storetest.MustPut(t, target.Manifests, "k", "m", chunkstore.Condition{IfNone: true})
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		_, err := target.GetObject(t.Context(), ref)
		storetest.MustBe(t, err, chunkstore.ErrAbsent)
	}
}

func TestDirUnusable(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := storetest.Open(t, dirTarget(file)).Targets[0].Manifests.Put(t.Context(), "k", nil,
		chunkstore.Condition{})
	storetest.MustSay(t, err, "put k in directory "+file+"/manifests", "not a directory")
	if os.Geteuid() == 0 {
		return // may write everywhere
	}
	if err := os.Chmod(root, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err = storetest.Open(t, dirTarget(root+"/b")).Targets[0].Manifests.Put(t.Context(), "k", nil,
		chunkstore.Condition{})
	storetest.MustSay(t, err, root+"/b", "permission denied")
}

// TestDirFailedPut leaves the old object, and no files of its own.
func TestDirFailedPut(t *testing.T) {
	root := t.TempDir()
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	storetest.MustPut(t, b, "k", "old", chunkstore.Condition{})
	before := storetest.FilesIn(t, root)
	_, err := b.Put(t.Context(), "k", []byte("new"), chunkstore.Condition{IfNone: true})
	storetest.MustBe(t, err, chunkstore.ErrConflict)
	if after := storetest.FilesIn(t, root); len(after) != len(before) {
		t.Errorf("files before %v\nafter %v", before, after)
	}
	if o, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); err != nil ||
		string(o.Body) != "old" {
		t.Errorf("got %q, %v", o.Body, err)
	}
}

const counterEnv = "VERNEUIL_TEST_COUNTER"

// TestDirConditionsBetweenProcesses: processes count in one object by
// compare-and-swap; no count gets lost.
func TestDirConditionsBetweenProcesses(t *testing.T) {
	const processes, counts = 4, 25
	if root := os.Getenv(counterEnv); root != "" {
		if err := countUp(t.Context(), storetest.Open(t, dirTarget(root)).Targets[0].Manifests,
			counts); err != nil {
			t.Fatal(err)
		}
		return
	}
	root := t.TempDir()
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	storetest.MustPut(t, b, "counter", "0", chunkstore.Condition{})
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			c := exec.CommandContext(t.Context(), os.Args[0],
				"-test.run=^TestDirConditionsBetweenProcesses$")
			c.Env = append(os.Environ(), counterEnv+"="+root)
			if output, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
	all.Wait()
	o, err := b.Get(t.Context(), "counter", chunkstore.GetOptions{})
	if err != nil || string(o.Body) != strconv.Itoa(processes*counts) {
		t.Errorf("counted %s, %v; want %d", o.Body, err, processes*counts)
	}
}

func countUp(ctx context.Context, b chunkstore.Bucket, counts int) error {
	for counts > 0 {
		o, err := b.Get(ctx, "counter", chunkstore.GetOptions{})
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(o.Body))
		if err != nil {
			return err
		}
		_, err = b.Put(ctx, "counter", []byte(strconv.Itoa(n+1)),
			chunkstore.Condition{IfMatch: o.ETag})
		if err == nil {
			counts--
		} else if !errors.Is(err, chunkstore.ErrConflict) {
			return err
		}
	}
	return nil
}

// TestDirForeign: what is no file of ours, where one would be, is corrupt: it is neither
// followed nor waited for, and what it leads to is neither read nor changed; a Put
// replaces it.
func TestDirForeign(t *testing.T) {
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, plant := range map[string]func(path, victim string) error{
		"a link": func(path, victim string) error { return os.Symlink(victim, path) },
		"a FIFO": func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"a socket": func(path, _ string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := os.MkdirTemp("", "foreign") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(root)
			target := storetest.Open(t, dirTarget(root+"/bucket")).Targets[0]
			plain, victim := []byte("chunk"), root+"/victim"
			pack, _ := storetest.PackOf(target.Sealer, plain)
			stored, _, _ := pack.Encode(chunkstore.Plain{})
			ref := storetest.PutObjects(t, target, plain)[0]
			key := ref.Place.Pack.String()
			storetest.MustPut(t, target.Manifests, "key", "manifest", chunkstore.Condition{})
			if err := os.WriteFile(victim, stored, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(victim, old, old); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"chunks/" + key[:2] + "/" + key,
				"manifests/key", "manifests/.lock"} {
				path := root + "/bucket/" + file
				if err := errors.Join(os.Remove(path), plant(path, victim)); err != nil {
					t.Fatal(err)
				}
			}
			_, err = target.GetObject(t.Context(), ref)
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			storetest.MustSay(t, err, ref.ID.String(), key, "not a regular file")
			_, err = target.Manifests.Get(t.Context(), "key", chunkstore.GetOptions{})
			storetest.MustBe(t, err, chunkstore.ErrCorrupt)
			target.TouchPack(t.Context(), ref.Place.Pack)
			if _, _, err := target.PutPack(t.Context(), pack); err != nil {
				t.Error(err)
			}
			got, err := target.GetObject(t.Context(), ref)
			if err != nil || string(got) != "chunk" {
				t.Errorf("put anew: %q, %v", got, err)
			}
			// that can be locked
			if _, err := target.Manifests.Put(t.Context(), "key", []byte("new"),
				chunkstore.Condition{}); err == nil && name != "a FIFO" {
				t.Error("a lock that is none of ours was taken")
			}
			if err := os.Remove(root + "/bucket/manifests/.lock"); err != nil {
				t.Fatal(err)
			}
			storetest.MustPut(t, target.Manifests, "key", "new", chunkstore.Condition{})
			if info, err := os.Stat(victim); err != nil || !info.ModTime().Equal(old) ||
				info.Size() != int64(len(stored)) {
				t.Errorf("what the links led to was changed: %v, %v", info, err)
			}
		})
	}
}

// TestDirVersionsBehindJunk: a present manifest that cannot be read hides none before it,
// and is replaced.
func TestDirVersionsBehindJunk(t *testing.T) {
	root := t.TempDir()
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	storetest.MustPut(t, b, "key", "old", chunkstore.Condition{})
	storetest.MustPut(t, b, "key", "new", chunkstore.Condition{})
	if err := os.Truncate(filepath.Join(root, "manifests/key"), 1<<30); err != nil {
		t.Fatal(err)
	}
	var versions []chunkstore.Object
	if err := b.(chunkstore.Versioned).ListVersions(t.Context(), "key",
		func(o chunkstore.Object) bool {
			versions = append(versions, o)
			return true
		}); err != nil || len(versions) != 2 {
		t.Fatalf("%v, %v", versions, err)
	}
	o, err := b.(chunkstore.Versioned).GetVersion(t.Context(), "key", versions[1].Version,
		chunkstore.GetOptions{BytesMax: 100})
	if err != nil || string(o.Body) != "old" {
		t.Errorf("%q, %v", o.Body, err)
	}
	if _, err := b.Get(t.Context(), "key", chunkstore.GetOptions{}); !errors.Is(err,
		chunkstore.ErrCorrupt) {
		t.Errorf("1 GiB: %v", err)
	}
	o, err = b.Stat(t.Context(), "key")
	if err != nil || o.Bytes != 1<<30 || o.Body != nil {
		t.Fatalf("1 GiB: %d bytes, %d of them here, %v", o.Bytes, len(o.Body), err)
	}
	storetest.MustPut(t, b, "key", "newest", chunkstore.Condition{IfMatch: o.ETag})
}

// TestAppendAfterALoss: a directory that was emptied, put back to what it was, or is not mounted,
// takes no record of which the one before is not there, and stays as it is.
func TestAppendAfterALoss(t *testing.T) {
	root := t.TempDir()
	open := func() chunkstore.Log {
		return chunkstore.NewBucketLog(storetest.Open(t, dirTarget(root)).Targets[0].Chunks, "a")
	}
	log := open()
	for n := range uint64(3) {
		if err := log.Append(t.Context(), n+1, []byte("record")); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Append(t.Context(), 5, nil); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("a record too far: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(root, "chunks")); err != nil {
		t.Fatal(err)
	}
	for _, log := range []chunkstore.Log{log, open()} {
		if err := log.Append(t.Context(), 4, nil); !errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("a record of an emptied directory: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "chunks")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

// TestNotMounted: a directory in a file system that is to be mounted, and is not, is no target: not
// for one that was open before, and not for one that begins.
func TestNotMounted(t *testing.T) {
	top := t.TempDir()
	root := top + "/a server/backups/db"
	write := func(name, text string) string {
		if err := os.WriteFile(top+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return top + "/" + name
	}
	point := strings.ReplaceAll(top+"/a server", " ", `\040`)
	table := write("fstab",
		"# "+point+"\nnas:/x "+point+" nfs nofail 0 0\n/dev/a / ext4 defaults 0 1\n")
	mounts := "21 1 8:1 / / rw - ext4 /dev/a rw\n"
	now := write("mountinfo", mounts+"22 21 0:40 / "+point+" rw - nfs nas:/x rw\n")
	defer dir.MountsOf(table, now)()
	put := func(target *chunkstore.Target, key string) error {
		_, err := target.Manifests.Put(t.Context(), key, []byte("x"), chunkstore.Condition{})
		return err
	}
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	if err := put(target, "mounted"); err != nil {
		t.Fatal(err)
	}
	write("mountinfo", mounts)
	if err := os.Rename(top+"/a server", top+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(top+"/a server", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(top+"/a server", top+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, target := range []*chunkstore.Target{
		target, storetest.Open(t, dirTarget(root)).Targets[0],
		storetest.Open(t, dirTarget(top+"/link/x")).Targets[0],
	} {
		err := put(target, "not mounted")
		if err == nil || !strings.Contains(err.Error(), "nothing is mounted at "+top+"/a server") {
			t.Errorf("put where nothing is mounted: %v", err)
		}
	}
	if left, err := os.ReadDir(top + "/a server"); err != nil || len(left) > 0 {
		t.Errorf("something was made: %v, %v", left, err)
	}
	other := storetest.Open(t, dirTarget(top+"/a server 2")).Targets[0]
	if err := put(other, "beside it"); err != nil {
		t.Error(err)
	}
}
