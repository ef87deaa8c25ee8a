package deposit_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // what users' databases are made with

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/deposit"
	"verneuil/replicate/restore"
	"verneuil/replicate/versions"
	"verneuil/spool/sqlitefile"
)

// file is a source in memory.
type file struct{ *bytes.Reader }

func fileOf(b []byte) file                { return file{bytes.NewReader(b)} }
func (f file) Size() (int64, error)       { return f.Reader.Size(), nil }
func noise(seed uint64, n int) (b []byte) { return storetest.Noise(seed, n) }

var owner = manifest.Owner{
	Host: "desk", Program: "test 1", PID: 7, Since: time.Unix(1_700_000_000, 0),
}

func options(t *chunkstore.Target) deposit.Options {
	return deposit.Options{Target: t, Path: "/a/x.db", Owner: owner}
}

var key = manifest.PlainName("", "/a/x.db")

// newest returns the newest version, and its bytes.
func newest(t *testing.T, target *chunkstore.Target) (*manifest.Manifest, []byte) {
	t.Helper()
	f, err := versions.OpenNewest(t.Context(), target, key)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil, nil
	} else if err != nil {
		t.Fatal(err)
	}
	return f.Newest(), bytesOf(t, target, f.Newest())
}

func bytesOf(t *testing.T, target *chunkstore.Target, m *manifest.Manifest) []byte {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "restored"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(m.FileBytes); err != nil {
		t.Fatal(err)
	}
	o := restore.Options{Store: chunkstore.NewStore(target), Manifest: m, From: target}
	if err := restore.To(t.Context(), out, o); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPut: what is put is there byte for byte, as the first version of a history that nobody owns,
// and is kept to be gone back to.
func TestPut(t *testing.T) {
	for name, config := range map[string]chunkstore.TargetConfig{
		"dir": &dir.Config{Path: t.TempDir()},
		"s3": &s3.Config{Region: "us-east-1", Endpoint: miniotest.Start(t), Bucket: "databases",
			CreateBucketsOnDemand: true},
	} {
		target := storetest.Open(t, config).Targets[0]
		holes := noise(3, 9<<20)
		clear(holes[1<<20 : 8<<20])
		for i, content := range [][]byte{nil, noise(1, 512), noise(2, 300_001),
			holes, noise(4, 5<<20+4096), noise(5, 70<<20)} {
			t.Run(fmt.Sprintf("%s %d bytes", name, len(content)), func(t *testing.T) {
				o := options(target)
				o.Path = fmt.Sprintf("/%d.db", i)
				var told int64
				o.Progress = func(done, total int64) {
					if done < told || total != int64(len(content)) {
						t.Errorf("%d of %d bytes are done, after %d", done, total, told)
					}
					told = done
				}
				m, err := deposit.Put(t.Context(), o, fileOf(content))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(bytesOf(t, target, m), content) || told != int64(len(content)) {
					t.Errorf("another content; %d bytes were read", told)
				}
				if m.Host != "" || m.Path != o.Path || m.At.Number != 0 || !m.At.Released ||
					m.Continuity == 0 || m.Lineage == m.At.Lineage {
					t.Errorf("version: %+v", m)
				}
				kept, err := versions.ListKept(t.Context(), target, manifest.PlainName("", o.Path))
				if err != nil || len(kept) != 1 || kept[0].ID != versions.IDOf(m.At) {
					t.Errorf("kept: %+v, %v", kept, err)
				}
				o.Progress = nil
				if _, err := deposit.Put(t.Context(), o, deposit.Empty{}); !errors.Is(err,
					deposit.ErrExists) {
					t.Errorf("put where there is one: %v", err)
				}
			})
		}
	}
}

// database returns one in WAL mode, checkpointed, with so many rows.
func database(t *testing.T, rows int) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"PRAGMA journal_mode=WAL", "CREATE TABLE t(x)",
		fmt.Sprintf("WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x+1 FROM c LIMIT %d) "+
			"INSERT INTO t SELECT randomblob(500) FROM c", rows),
		"PRAGMA wal_checkpoint(TRUNCATE)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !(*sqlitefile.Header)(b).WAL() {
		t.Fatal("the database is not in WAL mode")
	}
	return b
}

// TestWAL: a database in WAL mode lives in a store as one in rollback mode.
func TestWAL(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	content := database(t, 100)
	if _, err := deposit.Put(t.Context(), options(target), fileOf(content)); err != nil {
		t.Fatal(err)
	}
	_, got := newest(t, target)
	(*sqlitefile.Header)(content).LeaveWAL()
	if !bytes.Equal(got, content) {
		t.Error("it is not the database with another header")
	}
}

// TestD2D3Replace: the copy is the next version, whoever has the old one notices, and the old one
// is there to be gone back to.
func TestD2D3Replace(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	first, second := database(t, 3000), database(t, 10)
	o := options(target)
	was, err := deposit.Put(t.Context(), o, fileOf(first))
	if err != nil {
		t.Fatal(err)
	}
	o.Replace = true
	is, err := deposit.Put(t.Context(), o, fileOf(second))
	if err != nil {
		t.Fatal(err)
	}
	if !is.Head().After(was.Head()) || is.At.Lineage != was.At.Lineage {
		t.Errorf("version %+v comes after %+v", is.Head(), was.Head())
	}
	m, got := newest(t, target)
	if m.Cut != is.Cut || !m.At.Released {
		t.Errorf("newest version: %+v", m)
	}
	h, old, own := (*sqlitefile.Header)(got), (*sqlitefile.Header)(first),
		(*sqlitefile.Header)(second)
	if h.SchemaCookie() != old.SchemaCookie()+1 || h.ChangeCounter() != old.ChangeCounter()+1 ||
		m.ChangeCounter != h.ChangeCounter() {
		t.Errorf("cookie %d, counter %d; before: %d, %d", h.SchemaCookie(), h.ChangeCounter(),
			old.SchemaCookie(), old.ChangeCounter())
	}
	own.LeaveWAL()
	own.SetChangeCounter(h.ChangeCounter())
	own.SetSchemaCookie(h.SchemaCookie())
	if !bytes.Equal(got, second) {
		t.Error("it is another content")
	}
	past, err := versions.OpenPast(t.Context(), target, key)
	if err != nil {
		t.Fatal(err)
	}
	before, err := past.Version(t.Context(), versions.IDOf(was.At))
	if err != nil {
		t.Fatal(err)
	}
	(*sqlitefile.Header)(first).LeaveWAL()
	if !bytes.Equal(bytesOf(t, target, before), first) {
		t.Error("the version before is another one than it was")
	}
	for _, content := range [][]byte{nil, first} { // from and to an empty one
		if _, err := deposit.Put(t.Context(), o, fileOf(content)); err != nil {
			t.Fatal(err)
		}
		if m, got := newest(t, target); m.FileBytes != int64(len(content)) ||
			len(content) > 0 && !bytes.Equal(got[4096:], content[4096:]) {
			t.Errorf("%d bytes, want %d", m.FileBytes, len(content))
		}
	}
}

// held takes the database's history over.
func held(t *testing.T, target *chunkstore.Target) *history.Writer {
	t.Helper()
	f, err := versions.OpenNewest(t.Context(), target, key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := manifest.Owner{Host: "other.example", PID: 42, Program: "p"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w := history.NewWriter(f.Reader())
	if err := w.Take(t.Context(), body); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestHeld: what somebody holds is not replaced, and he is named; nor does he lose anything who
// takes it meanwhile.
func TestHeld(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	o := options(target)
	content := database(t, 10)
	if _, err := deposit.Put(t.Context(), o, fileOf(content)); err != nil {
		t.Fatal(err)
	}
	o.Replace = true
	w := held(t, target)
	for range 20 { // the fence is looked for in the log
		if err := w.Append(t.Context(), nil, false); err != nil {
			t.Fatal(err)
		}
	}
	_, err := deposit.Put(t.Context(), o, deposit.Empty{})
	if !errors.Is(err, deposit.ErrHeld) ||
		!strings.Contains(err.Error(), "pid 42 on other.example") {
		t.Errorf("replace what is held: %v", err)
	}
	if err := w.Append(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	plan := &faultbucket.Plan{}
	taken := false
	plan.OnCalled = func(verb, name string) {
		if verb == "put" && strings.HasPrefix(name, chunkstore.LogKeyPrefix) && !taken {
			taken = true
			held(t, target) // as its fence is on its way
		}
	}
	o.Target = plan.Target(target)
	if _, err = deposit.Put(t.Context(), o, deposit.Empty{}); !errors.Is(err, deposit.ErrHeld) {
		t.Errorf("replace what was taken meanwhile: %v", err)
	}
	if m, _ := newest(t, target); m.FileBytes == 0 || m.At.Released {
		t.Errorf("the holder's version is gone: %+v", m)
	}
}

// TestD1Faults: whichever request fails, or all after it, and whether or not it was carried out,
// there is no database, or the old one, or the whole new one; and who is told that it is done finds
// the new one.
func TestD1Faults(t *testing.T) {
	old, content := database(t, 10), database(t, 2000)
	(*sqlitefile.Header)(old).LeaveWAL()
	(*sqlitefile.Header)(content).LeaveWAL()
	run := func(t *testing.T, plan *faultbucket.Plan, replace bool) {
		target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
		o := options(target)
		if replace {
			if _, err := deposit.Put(t.Context(), o, fileOf(old)); err != nil {
				t.Fatal(err)
			}
		}
		o.Target, o.Replace = plan.Target(target), replace
		_, err := deposit.Put(t.Context(), o, fileOf(content))
		m, got := newest(t, target)
		is := ""
		switch {
		case m == nil:
			is = "none"
		case bytes.Equal(got, old):
			is = "old"
		case len(got) == len(content) && bytes.Equal(got[100:], content[100:]):
			is = "new"
		}
		if is == "" || err == nil && is != "new" || (is == "none") && replace {
			t.Errorf("call %d (for good: %v, after: %v): %v, and there is %q", plan.At,
				plan.ForGood, plan.After, err, is)
		}
	}
	for _, replace := range []bool{false, true} {
		for at, fired := 1, 1; fired > 0; at++ {
			fired = 0
			for _, plan := range []*faultbucket.Plan{{At: at}, {At: at, ForGood: true},
				{At: at, After: true}, {At: at, ForGood: true, After: true}} {
				t.Run(fmt.Sprintf("%d %v %v %v", at, replace, plan.ForGood, plan.After),
					func(t *testing.T) { run(t, plan, replace) })
				fired += plan.Fired()
			}
			if at > 100 {
				t.Fatal("it never ends")
			}
		}
	}
}

// TestLostMeanwhile: what the store loses before the copy is there is put again (D4). It is said of
// what it loses again.
func TestLostMeanwhile(t *testing.T) {
	content := noise(7, 9<<20)
	run := func(t *testing.T, replace, again bool) error {
		target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
		o := options(target)
		if replace {
			if _, err := deposit.Put(t.Context(), o, fileOf(noise(8, 4096))); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		var packs []string
		there := false
		plan := &faultbucket.Plan{OnCalled: func(verb, name string) {
			mu.Lock()
			defer mu.Unlock()
			there = there || verb == "put" && name == key
			switch {
			case verb == "put" && len(name) == 64:
				packs = append(packs, name)
			case verb == "put" && name == key, verb == "stat" && there && again:
				for _, pack := range packs {
					if err := target.Chunks.Delete(t.Context(), pack); err != nil {
						t.Error(err)
					}
				}
			}
		}}
		o.Target, o.Replace = plan.Target(target), replace
		m, err := deposit.Put(t.Context(), o, fileOf(content))
		if len(packs) < 2 {
			t.Errorf("%d packs were lost", len(packs))
		}
		if err == nil && !bytes.Equal(bytesOf(t, target, m)[4096:], content[4096:]) {
			t.Error("another content")
		}
		return err
	}
	for _, replace := range []bool{false, true} {
		if err := run(t, replace, false); err != nil {
			t.Errorf("replace %v: %v", replace, err)
		}
		err := run(t, replace, true)
		if err == nil || !strings.Contains(err.Error(), "verneuilctl verify") {
			t.Errorf("replace %v, and all is lost again: %v", replace, err)
		}
	}
}

// TestSourceFails: a source that cannot be read leaves nothing.
func TestSourceFails(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	content := noise(1, 10<<20)
	for range 5 {
		torn := tornFile{fileOf(content), rand.Int64N(int64(len(content)))}
		if _, err := deposit.Put(t.Context(), options(target), torn); !errors.Is(err, errTorn) {
			t.Errorf("torn at %d: %v", torn.at, err)
		}
		if m, _ := newest(t, target); m != nil {
			t.Errorf("torn at %d: there is a database", torn.at)
		}
	}
}

var errTorn = errors.New("torn")

type tornFile struct {
	file
	at int64
}

func (f tornFile) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, errTorn
	}
	return f.file.ReadAt(p, off)
}
