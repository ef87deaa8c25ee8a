package stores_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/manifest"
	"verneuil/manifest/manifestpb"
	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// tampering is what somebody who may write to the store does to it, and what comes of it
// for each who uses it: "=new", "=old" or "=other" is the state that is shown, anything
// else is what the error says, in parts. None of it takes more than tamperedBytesMax of memory.
type tampering struct {
	long  bool // not in the short form: another one fails for the same reason
	name  string
	plant func(w *tampered)

	restore string
	verify  string // ok: nothing is found
	open    string // of a replica
	refresh string // of a replica that was opened before
	// by the writer, after a write. 1: all is well; damaged: 1, and restore still fails
	flush string
}

const tamperedBytesMax = 200 << 20

// tampered is a store, and what there is to put into it. A is chunk 30 of the newest
// version, B chunk 31, and leaf the only leaf.
type tampered struct {
	*harness.Site
	key         string
	a, b, leaf  string            // IDs
	manifests   map[string][]byte // old, new, other lineage, other host, other database
	application string            // what it writes
}

func newTampered(t *testing.T) *tampered {
	w := &tampered{Site: harness.DirSite(t), manifests: map[string][]byte{}}
	db := w.Path("a.db")
	w.key = manifest.Name(harness.Hostname, db)
	w.Stock("a.db", "create table t(a integer primary key, b)",
		"with recursive n(i) as (select 1 union all select i+1 from n limit 500) insert into "+
			"t(b) select randomblob(9000) from n",
		"update t set b = 'other' where a = 1")
	elsewhere := func(spool, host, source string) []byte {
		w.Configure(map[string]any{"replication_spooling_dir": w.Path(spool), "hostname": host})
		defer w.Configure(nil)
		w.Ctl("sync", source)
		return w.read("store/manifests/" + manifest.Name(host, source))
	}
	w.Stock("b.db", "create table t(b)")
	w.manifests["other database"] = elsewhere("spool2", harness.Hostname, w.Path("b.db"))
	w.manifests["other host"] = elsewhere("spool3", "other-host", db)
	w.manifests["other lineage"] = elsewhere("spool4", harness.Hostname, db)
	w.copy("a.db", "other.db")
	harness.Must(t, os.Remove(w.Path("store/manifests/"+w.key)))
	shell := w.Shell("a.db")
	for _, state := range []string{"old", "new"} {
		shell.Must("update t set b = '" + state +
			"' where a = 1; update t set b = randomblob(9000) where a = 250;")
		shell.Flush()
		w.copy("a.db", state+".db")
		w.manifests[state] = w.read("store/manifests/" + w.key)
	}
	shell.EndsWith(0)
	m, err := manifest.Decode(chunkstore.Plain{}, w.manifests["new"])
	harness.Must(t, err)
	if m.Levels != 1 || len(m.Top) != 1 {
		t.Fatalf("%d levels, %d on top", m.Levels, len(m.Top))
	}
	w.leaf = m.Top[0].String()
	leaf, err := chunkstore.Plain{}.Open(m.Top[0], w.read(w.object(w.leaf)))
	harness.Must(t, err)
	w.a, w.b = chunkstore.ID(leaf[30*32:31*32]).String(), chunkstore.ID(leaf[31*32:32*32]).String()
	harness.Must(t, os.Mkdir(w.Path("base"), 0o700))
	w.cp("store", "spool", "a.db", "base")
	return w
}

// reset undoes what has been done to store, spool and database.
func (w *tampered) reset() {
	w.T.Helper()
	harness.Must(w.T, os.RemoveAll(w.Path("store")))
	harness.Must(w.T, os.RemoveAll(w.Path("spool")))
	w.cp("base/store", "base/spool", ".")
	harness.Must(w.T, os.WriteFile(w.Path("a.db"), w.read("base/a.db"), 0o600)) // the same file
}

// cp copies to a directory, which is the last.
func (w *tampered) cp(names ...string) {
	w.T.Helper()
	argv := []string{"-a"}
	for _, name := range names {
		argv = append(argv, w.Path(name))
	}
	if out, err := exec.Command("cp", argv...).CombinedOutput(); err != nil {
		w.T.Fatalf("cp: %v: %s", err, out)
	}
}

func (w *tampered) copy(from, to string) { w.Write(to, w.read(from)) }

func (w *tampered) read(name string) []byte {
	w.T.Helper()
	b, err := os.ReadFile(w.Path(name))
	harness.Must(w.T, err)
	return b
}

// object is the file of a chunk or leaf.
func (w *tampered) object(id string) string { return "store/chunks/" + id[:2] + "/" + id }

// put stores a leaf or chunk under its own ID.
func (w *tampered) put(plain []byte) chunkstore.ID {
	id := chunkstore.Plain{}.Identify(plain)
	harness.Must(w.T, os.MkdirAll(filepath.Dir(w.Path(w.object(id.String()))), 0o700))
	w.Write(w.object(id.String()), chunkstore.Plain{}.Seal(chunkstore.ID{}, plain))
	return id
}

// manifest puts that in the place of the newest one.
func (w *tampered) manifest(b []byte) { w.Write("store/manifests/"+w.key, b) }

// forged puts the newest manifest in its own place, changed, with a checksum that is right.
func (w *tampered) forged(change func(m *manifestpb.Manifest)) {
	w.T.Helper()
	stored := w.manifests["new"]
	body := stored[40:]
	if stored[5] == 1 {
		decoder, err := zstd.NewReader(nil)
		harness.Must(w.T, err)
		body, err = decoder.DecodeAll(body, nil)
		harness.Must(w.T, err)
	}
	var m manifestpb.Manifest
	harness.Must(w.T, proto.Unmarshal(body, &m))
	m.Sequence++
	change(&m)
	body, err := proto.Marshal(&m)
	harness.Must(w.T, err)
	sum := chunkstore.Sum(body)
	w.manifest(append(append([]byte("VRNM\x02\x00\x00\x00"), sum[:]...), body...))
}

// bomb is a zstd frame of so many bytes, in blocks of 64 KiB.
func bomb(blocks int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 6 << 3} // of unknown size, window of 64 KiB
	for i := range blocks {
		last := uint32(0)
		if i == blocks-1 {
			last = 1
		}
		header := last | 1<<1 | 1<<16<<3 // one byte, repeated
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 'x')
	}
	return b
}

// declared is a zstd frame that says it has so many bytes.
func declared(n uint64) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 3<<6 | 1<<5}
	for k := range 8 {
		b = append(b, byte(n>>(8*k)))
	}
	return append(b, 1|1<<1, 0, 8, 'x') // 65,536 of them
}

func (w *tampered) longObject(name string, bytes int64) {
	w.Write(name, []byte("VRNC\x01\x01\x00\x00"))
	harness.Must(w.T, os.Truncate(w.Path(name), bytes))
}

// tamperings: A and B, LEAF and KEY stand for what they are called in the store.
func tamperings() []tampering { return append(tamperedObjects(), tamperedManifests()...) }

// ofObject is a tampering with the object that id stands for.
func ofObject(name, id string, put func(w *tampered)) tampering {
	return tampering{false, name, put, id + "|corrupt", id + "|corrupt", id + "|corrupt",
		"=new", "damaged"}
}

// damaged is one after which a manifest is none.
func damaged(name string, put func(w *tampered)) tampering {
	return tampering{false, name, put, "KEY|corrupt", "KEY|corrupt", "KEY|corrupt",
		"KEY|corrupt", "1"}
}

// forged is one in which a manifest says what cannot be.
func forged(name string, change func(m *manifestpb.Manifest)) tampering {
	return damaged(name, func(w *tampered) { w.forged(change) })
}

// anothers is one in which a manifest stands that is of something else.
func anothers(name, of string) tampering {
	return tampering{false, name + "'s manifest",
		func(w *tampered) { w.manifest(w.manifests[name]) },
		"KEY|" + of, "KEY|" + of, "KEY|" + of, "KEY|" + of, of}
}

// long makes it one that only make crash takes.
func long(c tampering) tampering {
	c.long = true
	return c
}

// objectHeader is what an object begins with.
const objectHeader = "VRNC\x01\x01\x00\x00"

func tamperedObjects() []tampering {
	return []tampering{
		ofObject("a chunk's body under another's key", "B",
			func(w *tampered) { w.copy(w.object(w.a), w.object(w.b)) }),
		long(ofObject("a leaf's body under a chunk's key", "B",
			func(w *tampered) { w.copy(w.object(w.leaf), w.object(w.b)) })),
		ofObject("a chunk's body under a leaf's key", "LEAF",
			func(w *tampered) { w.copy(w.object(w.b), w.object(w.leaf)) }),
		long(ofObject("a leaf that names itself", "LEAF", func(w *tampered) {
			id, err := chunkstore.ParseID(w.leaf)
			harness.Must(w.T, err)
			w.Write(w.object(w.leaf), chunkstore.Plain{}.Seal(chunkstore.ID{},
				bytes.Repeat(id[:], 70)))
		})),
		long(ofObject("a manifest under a chunk's key", "B",
			func(w *tampered) { w.Write(w.object(w.b), w.manifests["new"]) })),
		ofObject("a chunk of 1 GiB", "B", func(w *tampered) { w.longObject(w.object(w.b), 1<<30) }),
		long(ofObject("a leaf of 1 GiB", "LEAF", func(w *tampered) {
			w.longObject(w.object(w.leaf),
				1<<30)
		})),
		long(ofObject("a bomb for a chunk", "B", func(w *tampered) {
			w.Write(w.object(w.b),
				append([]byte(objectHeader), bomb(16000)...))
		})),
		ofObject("a chunk that says it is of 10 GB", "B",
			func(w *tampered) {
				w.Write(w.object(w.b),
					append([]byte(objectHeader), declared(10<<30)...))
			}),
		long(ofObject("a bomb for a leaf", "LEAF", func(w *tampered) {
			w.Write(w.object(w.leaf),
				append([]byte(objectHeader), bomb(16000)...))
		})),
	}
}

func tamperedManifests() []tampering {
	return []tampering{
		{false, "an old manifest", func(w *tampered) { w.manifest(w.manifests["old"]) }, "=old",
			"ok", "=old", "=new", "1"},
		{false, "another lineage's manifest",
			func(w *tampered) { w.manifest(w.manifests["other lineage"]) },
			"=other", "ok", "=other", "=other", "another lineage"},
		anothers("other database", "it is of "), long(anothers("other host", "it is of ")),
		long(damaged("a chunk under the manifest's key",
			func(w *tampered) { w.manifest(w.read(w.object(w.b))) })),
		damaged("a manifest of 100 MiB", func(w *tampered) {
			w.longObject("store/manifests/"+w.key,
				100<<20)
		}),
		damaged("a bomb for a manifest", func(w *tampered) {
			w.manifest(append(append([]byte("VRNM\x02\x01\x00\x00"), make([]byte, 32)...),
				bomb(10<<30>>16)...))
		}),
		forged("a file of 2^60 bytes", func(m *manifestpb.Manifest) { m.FileBytes = 1 << 60 }),
		long(forged("pages of 0 bytes", func(m *manifestpb.Manifest) { m.PageBytes = 0 })),
		long(forged("pages of 3 bytes", func(m *manifestpb.Manifest) { m.PageBytes = 3 })),
		long(forged("more leaves than chunks",
			func(m *manifestpb.Manifest) { m.Top = bytes.Repeat(m.Top, 60) })),
		long(forged("levels above levels", func(m *manifestpb.Manifest) { m.Levels = 1 << 31 })),
		long(forged("a patch beyond the end", func(m *manifestpb.Manifest) {
			m.Patches = append(m.Patches, &manifestpb.Patch{ChunkIndex: 1 << 40, Id: m.Top[:32]})
		})),
		{false, "281 TB of one chunk", func(w *tampered) { w.forged(w.huge) }, "too large", "",
			"error near line", "error near line", "newer than our"},
	}
}

// huge makes a version of half the greatest length, of four objects.
func (w *tampered) huge(m *manifestpb.Manifest) {
	id, err := chunkstore.ParseID(w.b)
	harness.Must(w.T, err)
	for range 3 {
		id = w.put(bytes.Repeat(id[:], 512))
	}
	m.FileBytes, m.Levels, m.Top, m.Patches = 1<<47, 3, bytes.Repeat(id[:], 16), nil
}

// folded makes a version of 256 GiB, 16 nodes of the same 512 leaves in other orders: each
// leaf is met 16 times.
func (w *tampered) folded(m *manifestpb.Manifest) {
	a, err := chunkstore.ParseID(w.a)
	harness.Must(w.T, err)
	b, err := chunkstore.ParseID(w.b)
	harness.Must(w.T, err)
	leaves := make([]byte, 0, 512*32)
	for k := range 512 {
		leaf := bytes.Repeat(a[:], 512)
		copy(leaf[k*32:], b[:])
		id := w.put(leaf)
		leaves = append(leaves, id[:]...)
	}
	m.Top, m.Patches = nil, nil
	for k := range 16 {
		id := w.put(append(bytes.Clone(leaves[k*32:]), leaves[:k*32]...))
		m.Top = append(m.Top, id[:]...)
	}
	m.FileBytes, m.Levels = 16<<34, 2
}

// TestTampered: whatever somebody puts into the store, nobody is shown what never was, and
// nobody crashes, or takes much memory; errors name the object. Who was shown a version is
// not shown an older one, and the writer is not made to believe that it is another.
func TestTampered(t *testing.T) {
	w := newTampered(t)
	for _, c := range tamperings() {
		if c.long && !crash.Chosen() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			w.T = t
			w.reset()
			replica := w.replica()
			w.shows(replica, "=new")
			c.plant(w)
			w.refreshes(replica, c.refresh)
			w.small(replica)
			w.restores(c.restore)
			w.verifies(c.verify)
			replica = w.replica()
			w.shows(replica, c.open)
			w.small(replica)
			w.writes(c.flush)
		})
		w.T = t
	}
	t.Run("281 TB, and the spool is lost", func(t *testing.T) {
		w.T = t
		w.reset()
		w.forged(w.huge)
		harness.Must(t, os.RemoveAll(w.Path("spool")))
		w.writes("1")
	})
	t.Run("the last epoch, and the spool is lost", func(t *testing.T) {
		w.T = t
		w.reset()
		replica := w.replica()
		w.shows(replica, "=new")
		w.forged(func(m *manifestpb.Manifest) { m.Epoch = math.MaxUint64 })
		w.refreshes(replica, "=new")
		harness.Must(t, os.RemoveAll(w.Path("spool")))
		w.writes("1")
		replica.Ask("pragma verneuil_snapshot_refresh = 2;")
		replica.Want("select b from t where a = 1;", "written") // not taken for an older version
		w.small(replica)
	})
	t.Run("256 GiB of 530 objects", func(t *testing.T) {
		w.T = t
		w.reset()
		w.forged(w.folded)
		_, before := w.command("verify", "-s", w.Path("b.db")) // of little
		if r, bytes := w.command("verify", "-s", w.Path("a.db")); r.Code != 0 ||
			bytes > before+60<<20 {
			t.Errorf("verify: exit code %d, %d bytes of memory, not %d: %s%s", r.Code, bytes,
				before, r.Stdout, r.Stderr)
		}
	})
	w.T = t
}

// says checks that what is said holds each of the parts of want.
func (w *tampered) says(who, said, want string) {
	w.T.Helper()
	for _, part := range strings.Split(strings.NewReplacer("KEY", w.key, "LEAF",
		w.leaf).Replace(want), "|") {
		part = map[string]string{"A": w.a,
			"B": w.b}[part] + strings.TrimPrefix(strings.TrimPrefix(part, "A"), "B")
		if !strings.Contains(said, part) {
			w.T.Errorf("%s: does not say %q: %.1000s", who, part, said)
		}
	}
}

func (w *tampered) replica() *harness.Process {
	w.T.Helper()
	shell := w.Shell("")
	shell.Ask(".open file:verneuil://" + harness.Hostname + w.Path("a.db") +
		"?vfs=verneuil_snapshot")
	return shell
}

// content is all of a database: what cannot be read is an error.
const content = "select hex(sha3(group_concat(hex(b)))) from t"

// shows checks what a replica shows: a state's hash, or an error.
func (w *tampered) shows(replica *harness.Process, want string) {
	w.T.Helper()
	got := replica.Ask(content + ";")
	if state, ok := strings.CutPrefix(want, "="); ok {
		if right := w.Stock(state+".db", content); got != right {
			w.T.Errorf("the replica is %q, want %q: %s", got, right, replica.Stderr())
		}
		return
	}
	if got != "" {
		w.T.Errorf("the replica shows %q, and should not", got)
	}
	w.says("replica", replica.Stderr(), want)
}

func (w *tampered) refreshes(replica *harness.Process, want string) {
	w.T.Helper()
	replica.Ask("pragma verneuil_snapshot_refresh = 2;")
	if strings.HasPrefix(want, "=") || strings.HasPrefix(want, "error") { // it moves on
		w.shows(replica, want)
		return
	}
	w.says("refresh", replica.Stderr(), want)
	w.shows(replica, "=new") // as before
}

// small ends a replica, which must have been small.
func (w *tampered) small(replica *harness.Process) {
	w.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", replica.Command.Process.Pid))
	harness.Must(w.T, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil || kib<<10 > tamperedBytesMax {
		w.T.Errorf("the replica took %d KiB, %v", kib, err)
	}
	replica.End()
}

// measured runs a program in files of at most 1 GiB, and writes to a file how many KiB of memory
// it took at most. (For a child of ours the kernel says at least what we have ourselves.)
const measured = `import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
code = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
with open(sys.argv[1], "w") as f: f.write(str(peak))
sys.exit(code)`

// command runs verneuilctl, which must be small, and returns what memory it took, too.
func (w *tampered) command(args ...string) (r harness.Result, bytes int) {
	w.T.Helper()
	file := w.Path("maxrss")
	r = harness.Run(w.T, nil, append([]string{harness.Python, "-c", measured, file,
		harness.Built(w.T, "VERNEUIL_CTL"), "-c", w.Config()}, args...)...)
	text, err := os.ReadFile(file)
	harness.Must(w.T, err)
	kib, err := strconv.Atoi(string(text))
	if err != nil || kib<<10 > tamperedBytesMax {
		w.T.Errorf("verneuilctl %s took %d KiB of memory, %v", args[0], kib, err)
	}
	return r, kib << 10
}

func (w *tampered) restores(want string) {
	w.T.Helper()
	out := w.Path("out.db")
	r, _ := w.command("restore", "--force", "-s", w.Path("a.db"), "-o", out)
	if state, ok := strings.CutPrefix(want, "="); ok {
		if r.Code != 0 {
			w.T.Errorf("restore: exit code %d: %s", r.Code, r.Stderr)
		} else if !bytes.Equal(w.read("out.db"), w.read(state+".db")) {
			w.T.Errorf("the restored file is not %s", state)
		}
		os.Remove(out)
		return
	}
	w.says("restore", r.Stderr, want)
	left, err := filepath.Glob(w.Path(".verneuil*"))
	if _, statErr := os.Stat(out); r.Code != 1 || statErr == nil || len(left) > 0 || err != nil {
		w.T.Errorf("restore: exit code %d; left %q, %v", r.Code, left, statErr)
	}
}

func (w *tampered) verifies(want string) {
	w.T.Helper()
	if want == "" {
		return // takes as long as its length says
	}
	r, _ := w.command("verify", "--read")
	switch {
	case want == "ok" && r.Code != 0, want != "ok" && r.Code != 1:
		w.T.Errorf("verify: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	case want != "ok":
		w.says("verify", r.Stdout, want)
	}
}

// writes has the application write and flush.
func (w *tampered) writes(want string) {
	w.T.Helper()
	shell := w.Shell("")
	shell.Ask(".open " + w.Path("a.db")) // from here on the log may say what is wrong, at any time
	if said := shell.Ask("update t set b = 'written' where a = 1;"); said != "" {
		w.T.Errorf("the application saw %q", said)
	}
	flushed := shell.Ask("pragma verneuil_flush_replication_data;")
	status, log := shell.Ask("select verneuil_status();"), shell.Stderr()
	w.small(shell)
	if b := w.Stock("a.db",
		"select b from t where a = 1; pragma integrity_check"); b != "written\nok" {
		w.T.Errorf("the database says %q", b)
	}
	switch want {
	case "1", "damaged":
		if flushed != "1" {
			w.T.Errorf("flush: %q: %s %s", flushed, status, log)
		} else if want == "1" {
			w.MustEqual("a.db")
		}
	default:
		if flushed != "0" {
			w.T.Errorf("flush: %q", flushed)
		}
		w.says("log", log, want)
		w.says("status", status, want)
	}
}

// TestRolledBackS3: an old manifest is put back in S3. A replica does not follow, the writer
// replaces it, and goes on; other ways to lose the manifest end the same.
func TestRolledBackS3(t *testing.T) {
	endpoint := miniotest.Start(t)
	s := harness.S3Site(t, endpoint)
	stores, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{&s3.Config{
		Region: "minio", Endpoint: endpoint, ChunkBucket: "chunks", ManifestBucket: "manifests",
	}}, chunkstore.Options{CallsPerSecond: -1})
	harness.Must(t, err)
	store := stores.Targets[0]
	key := manifest.Name(harness.Hostname, s.Path("a.db"))
	shell := s.Written("a.db", "wal")
	shell.Flush()
	old, err := store.Manifests.Get(t.Context(), key, chunkstore.GetOptions{})
	harness.Must(t, err)
	replica := s.Shell("")
	for i, change := range map[string]func() error{
		"rolled back": func() error {
			_, err := store.Manifests.Put(t.Context(), key, old.Body, chunkstore.Condition{})
			return err
		},
		"gone": func() error { return store.Manifests.Delete(t.Context(), key) },
		"junk": func() error {
			_, err := store.Manifests.Put(t.Context(), key, []byte("junk"), chunkstore.Condition{})
			return err
		},
	} {
		shell.Ask("update t set b = 'before it is " + i + "' where a = 1;")
		shell.Flush()
		replica.Ask(".open 'file:verneuil://" + harness.Hostname + s.Path("a.db") +
			"?vfs=verneuil_snapshot'")
		replica.Ask("pragma verneuil_snapshot_refresh = 2;")
		replica.Want("select b from t where a = 1;", "before it is "+i)
		harness.Must(t, change())
		replica.Ask("pragma verneuil_snapshot_refresh = 2;")
		replica.Want("select b from t where a = 1;", "before it is "+i)
		// the log says what is wrong
		shell.Ask("update t set b = 'after it was " + i + "' where a = 1;")
		shell.Flush()
		replica.Ask("pragma verneuil_snapshot_refresh = 2;")
		replica.Want("select b from t where a = 1;", "after it was "+i)
	}
	replica.End()
	shell.EndsWith(0)
	s.Stock("a.db", "pragma wal_checkpoint(truncate)")
	s.MustEqual("a.db")
}
