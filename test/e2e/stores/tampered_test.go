package stores_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/manifest"
	"verneuil/manifest/manifestpb"
	"verneuil/replicate/versions"
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
// version, B chunk 31 in the same pack, and leaf the only leaf, in another.
type tampered struct {
	*harness.Site
	key         string
	a, b, leaf  chunkstore.Ref
	manifests   map[string][]byte // old, new, other lineage, other host, other database
	application string            // what it writes
}

func newTampered(t *testing.T) *tampered {
	w := &tampered{Site: harness.DirSite(t), manifests: map[string][]byte{}}
	db := w.Path("a.db")
	w.key = manifest.PlainName(harness.Hostname, db)
	w.Stock("a.db", "create table t(a integer primary key, b)",
		"with recursive n(i) as (select 1 union all select i+1 from n limit 500) insert into "+
			"t(b) select randomblob(9000) from n",
		"update t set b = 'other' where a = 1")
	elsewhere := func(spool, host, source string) []byte {
		w.Configure(map[string]any{"replication_spooling_dir": w.Path(spool), "hostname": host})
		defer w.Configure(nil)
		w.Ctl("sync", source)
		return w.read("store/manifests/" + manifest.PlainName(host, source))
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
		w.manifests[state] = w.checkpoint(db)
	}
	for k := range 16 { // so many records are worth a checkpoint, at the end of a sync
		shell.Must(fmt.Sprintf("update t set b = 'other %d' where a = 2;", k))
		shell.Flush()
	}
	shell.EndsWith(0)
	w.Ctl("sync", db)
	w.copy("a.db", "new.db")
	w.manifests["new"] = w.read("store/manifests/" + w.key)
	if newest := w.checkpoint(db); !bytes.Equal(newest, w.manifests["new"]) {
		t.Fatal("a sync has put no checkpoint of the newest version")
	}
	m, err := manifest.Decode(chunkstore.Plain{}, w.manifests["new"])
	harness.Must(t, err)
	if m.Levels != 1 || len(m.Top) != 1 {
		t.Fatalf("%d levels, %d on top", m.Levels, len(m.Top))
	}
	w.leaf = m.Top[0]
	tree := m.Tree(chunkstore.Plain{})
	refs, err := tree.LookupAll(t.Context(), []int{30, 31},
		func(_ context.Context, refs []chunkstore.Ref) (plain [][]byte, err error) {
			leaf, err := chunkstore.OpenObject(chunkstore.Plain{}, nil, refs[0].ID,
				w.stored(refs[0]))
			return [][]byte{leaf}, err
		})
	harness.Must(t, err)
	w.a, w.b = refs[0], refs[1]
	if w.a.Place.Pack != w.b.Place.Pack || w.a.Place.Pack == w.leaf.Place.Pack ||
		w.a.Place.Bytes != w.b.Place.Bytes {
		t.Fatalf("two chunks and a leaf stand at %v, %v and %v", w.a, w.b, w.leaf)
	}
	harness.Must(t, os.Mkdir(w.Path("base"), 0o700))
	w.cp("store", "spool", "a.db", "base")
	return w
}

// checkpoint returns a manifest of the newest version, as a checkpoint has it.
func (w *tampered) checkpoint(db string) []byte {
	w.T.Helper()
	config := &dir.Config{Path: w.Path("store")}
	target, err := config.Open(chunkstore.NewLimiter(-1, 0), chunkstore.Options{}.WithDefaults())
	harness.Must(w.T, err)
	f, err := versions.OpenNewest(w.T.Context(), target, manifest.PlainName(harness.Hostname, db))
	harness.Must(w.T, err)
	stored, err := f.Newest().Encode(chunkstore.Plain{})
	harness.Must(w.T, err)
	return stored
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

// pack is the file of a pack.
func (w *tampered) pack(name chunkstore.Digest) string {
	return "store/chunks/" + name.String()[:2] + "/" + name.String()
}

// stored is what stands where ref says.
func (w *tampered) stored(ref chunkstore.Ref) []byte {
	return w.read(w.pack(ref.Place.Pack))[ref.Place.Offset:][:ref.Place.Bytes]
}

// in overwrites what stands where ref says, as far as b goes and there is room.
func (w *tampered) in(ref chunkstore.Ref, b []byte) {
	pack := w.read(w.pack(ref.Place.Pack))
	copy(pack[ref.Place.Offset:][:ref.Place.Bytes], b)
	w.Write(w.pack(ref.Place.Pack), pack)
}

// put stores leaves, nodes or chunks in a pack, under their own IDs.
func (w *tampered) put(plain ...[]byte) (refs []chunkstore.Ref) {
	p := &chunkstore.Pack{}
	for _, b := range plain {
		refs = append(refs, chunkstore.Ref{ID: chunkstore.Plain{}.Identify(b)})
		p.Seal(chunkstore.Plain{}, chunkstore.Hash(chunkstore.Plain{}, b))
	}
	stored, name, places := p.Encode(chunkstore.Plain{})
	for k := range refs {
		refs[k].Place = places[k]
	}
	harness.Must(w.T, os.MkdirAll(filepath.Dir(w.Path(w.pack(name))), 0o700))
	w.Write(w.pack(name), stored)
	return refs
}

// entries is a leaf or node, plain.
func entries(refs []chunkstore.Ref) []byte {
	ids, packs, places := parts(refs)
	b := binary.BigEndian.AppendUint16(nil, uint16(len(packs)/32))
	b = binary.BigEndian.AppendUint16(b, uint16(len(refs)))
	return append(append(append(b, packs...), ids...), places...)
}

// parts are IDs, packs and places as leaves, nodes and manifests have them.
func parts(refs []chunkstore.Ref) (ids, packs, places []byte) {
	index := map[chunkstore.Digest]uint16{}
	for _, ref := range refs {
		k, ok := index[ref.Place.Pack]
		if !ok {
			k = uint16(len(index))
			index[ref.Place.Pack] = k
			packs = append(packs, ref.Place.Pack[:]...)
		}
		ids = append(ids, ref.ID[:]...)
		places = binary.BigEndian.AppendUint16(places, k)
		places = binary.BigEndian.AppendUint32(places, ref.Place.Offset)
		places = binary.BigEndian.AppendUint32(places, ref.Place.Bytes)
	}
	return ids, packs, places
}

// repeated is n times ref.
func repeated(ref chunkstore.Ref, n int) []chunkstore.Ref {
	return slices.Repeat([]chunkstore.Ref{ref}, n)
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
	w.manifest(append(append([]byte("VRNM\x03\x00\x00\x00"), sum[:]...), body...))
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
	for _, part := range strings.Split(want, "|") {
		if name, ok := map[string]string{"A": w.a.ID.String(), "B": w.b.ID.String(),
			"LEAF": w.leaf.ID.String(), "PACK": w.b.Place.Pack.String(), "KEY": w.key}[part]; ok {
			part = name
		}
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
	key := manifest.PlainName(harness.Hostname, s.Path("a.db"))
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
		harness.Until(t, "a flush has seen it, and there is another manifest", func() bool {
			shell.Flush()
			now, err := store.Manifests.Get(t.Context(), key, chunkstore.GetOptions{})
			if err != nil || bytes.Equal(now.Body, old.Body) {
				return false
			}
			_, err = manifest.Decode(chunkstore.Plain{}, now.Body)
			return err == nil
		})
		replica.Ask("pragma verneuil_snapshot_refresh = 2;")
		replica.Want("select b from t where a = 1;", "after it was "+i)
	}
	replica.End()
	shell.EndsWith(0)
	s.Stock("a.db", "pragma wal_checkpoint(truncate)")
	s.MustEqual("a.db")
}
