package stores_test

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/versions"
	"verneuil/test/e2e/harness"
	"verneuil/vfs"
)

// damagedSite is a database that an application writes, and its only target.
type damagedSite struct {
	*harness.Site
	app    *harness.Process
	target *chunkstore.Target
	key    string // of the manifest
	newest *manifest.Manifest
	seen   uint64         // the number of the newest checkpoint
	first  chunkstore.Ref // of chunk 20, in the first version
}

// damage is what somebody does to an object, and what comes of it.
type damage struct {
	name  string
	plant func(s *damagedSite)
	lost  bool // versions before the newest cannot be had any more
	fine  bool // the newest version does not need it
}

// damages come one after the other.
func damages() []damage {
	// its pack has only what the database has
	static := func(s *damagedSite) chunkstore.Ref { return s.ref(70) }
	flip := func(b []byte, at int) []byte { b[at]++; return b }
	ofPack := func(of func(s *damagedSite) chunkstore.Ref,
		change func(body []byte, at chunkstore.Place) []byte) func(s *damagedSite) {
		return func(s *damagedSite) {
			ref := of(s)
			s.change(s.target.Chunks, ref.Place.Pack.String(),
				func(b []byte) []byte { return change(b, ref.Place) })
		}
	}
	inMiddle := func(b []byte, at chunkstore.Place) []byte {
		return flip(b, int(at.Offset+at.Bytes/2))
	}
	return []damage{
		{name: "a chunk", plant: ofPack(static, inMiddle)},
		{name: "a pack's list", plant: ofPack(static,
			func(b []byte, _ chunkstore.Place) []byte { return flip(b, 100) })},
		{name: "a pack's first bytes", plant: ofPack(static,
			func(b []byte, _ chunkstore.Place) []byte { clear(b[:12]); return b })},
		{name: "foreign bytes for a pack", plant: ofPack(static,
			func([]byte, chunkstore.Place) []byte { return []byte("this is no pack") })},
		{name: "half a pack", plant: ofPack(static,
			func(b []byte, at chunkstore.Place) []byte { return b[:at.Offset+at.Bytes/2] })},
		{name: "no pack", plant: func(s *damagedSite) {
			harness.Must(s.T, s.target.Chunks.Delete(s.T.Context(), static(s).Place.Pack.String()))
		}},
		{name: "a chunk of the first version alone", lost: true, fine: true,
			plant: ofPack(func(s *damagedSite) chunkstore.Ref { return s.first }, inMiddle)},
		{name: "nothing for a pack, which has more than the database", lost: true,
			plant: ofPack(func(s *damagedSite) chunkstore.Ref { return s.ref(30) },
				func([]byte, chunkstore.Place) []byte { return nil })},
		{name: "a leaf", lost: true, plant: ofPack(
			func(s *damagedSite) chunkstore.Ref { return s.newest.Top[0] }, inMiddle)},
		{name: "a record", lost: true, plant: func(s *damagedSite) {
			for s.seen == s.newest.At.Number { // no record is needed
				s.app.Must("insert into t(b) values('one more');")
				s.app.Flush()
				s.look()
			}
			s.change(s.target.Chunks, chunkstore.RecordKey(
				versions.LogName(s.newest.At.Lineage), s.newest.At.Number),
				func(b []byte) []byte { return flip(b, len(b)-1) })
		}},
		{name: "the checkpoint", lost: true, plant: func(s *damagedSite) {
			s.change(s.target.Manifests, s.key,
				func(b []byte) []byte { return flip(b, len(b)-1) })
		}},
	}
}

func newDamagedSite(s *harness.Site, keys map[string]any) *damagedSite {
	s.T.Helper()
	s.Configure(keys)
	d := atTarget(s)
	s.Stock("a.db", "create table t(a integer primary key, b)",
		"with recursive n(i) as (select 1 union all select i+1 from n limit 1300) insert into "+
			"t(b) select randomblob(9000) from n")
	s.Ctl("sync", s.Path("a.db"))
	d.look()
	d.first = d.ref(20)
	d.app = s.Shell("a.db")
	d.app.Must(".timeout 100000")
	d.app.Must("update t set b = randomblob(9000) where a between 100 and 200;")
	d.app.Flush()
	d.look()
	if d.ref(20) == d.first || d.newest.Levels != 1 {
		s.T.Fatalf("the newest version has the chunk, too, or %d levels", d.newest.Levels)
	}
	return d
}

// atTarget opens the target of the site's a.db.
func atTarget(s *harness.Site) *damagedSite {
	s.T.Helper()
	config, err := vfs.ParseConfig(s.Config())
	harness.Must(s.T, err)
	store, err := config.OpenForegroundStore(s.T.Context(), slog.New(slog.DiscardHandler))
	harness.Must(s.T, err)
	d := &damagedSite{Site: s, target: store.Targets[0]}
	d.key = manifest.Name(d.target.Sealer, harness.Hostname, s.Path("a.db"))
	return d
}

// look finds out what the newest version is.
func (s *damagedSite) look() {
	s.T.Helper()
	f, err := versions.OpenNewest(s.T.Context(), s.target, s.key)
	harness.Must(s.T, err)
	s.newest, s.seen = f.Newest(), f.Reader().Seen()
}

// ref returns where a chunk of the newest version stands.
func (s *damagedSite) ref(chunk int) chunkstore.Ref {
	s.T.Helper()
	ref, err := s.newest.Tree(s.target.Sealer).Lookup(s.T.Context(), chunk, s.target.GetObjects)
	harness.Must(s.T, err)
	return ref
}

// alike returns where a chunk stands that the database has as it is, without inline pages.
func (s *damagedSite) alike() chunkstore.Ref {
	s.T.Helper()
	db, err := os.ReadFile(s.Path("a.db"))
	harness.Must(s.T, err)
	for i := range s.newest.Chunks() - 1 {
		b := db[i*chunkstore.ChunkBytes:][:chunkstore.ChunkBytes]
		if ref := s.ref(i); ref.ID == chunkstore.Hash(s.target.Sealer, b).ID() {
			return ref
		}
	}
	s.T.Fatal("there is none")
	return chunkstore.Ref{}
}

// change changes an object.
func (s *damagedSite) change(b chunkstore.Bucket, key string, to func([]byte) []byte) {
	s.T.Helper()
	o, err := b.Get(s.T.Context(), key, chunkstore.GetOptions{})
	harness.Must(s.T, err)
	_, err = b.Put(s.T.Context(), key, to(o.Body), chunkstore.Condition{})
	harness.Must(s.T, err)
}

func (s *damagedSite) run(args ...string) harness.Result {
	s.T.Helper()
	return harness.Run(s.T, nil, append([]string{harness.Built(s.T, "VERNEUIL_CTL"), "-c",
		s.Config()}, args...)...)
}

// TestSyncRead: each kind of object is damaged, in each way, and sync --read puts it again while
// the application goes on: then verify finds nothing, and a restore equals. What only versions
// before the newest need, and nobody has any more, is named.
func TestSyncRead(t *testing.T) {
	t.Run("dir", func(t *testing.T) { syncReads(newDamagedSite(harness.DirSite(t), nil)) })
	t.Run("s3, encrypted", func(t *testing.T) {
		s := harness.MinioSite(t)
		s.Ctl("key", "new", s.Path("keys"))
		syncReads(newDamagedSite(s, map[string]any{"key_file": s.Path("keys")}))
	})
}

func syncReads(s *damagedSite) {
	lost := false
	for _, d := range damages() {
		s.look()
		d.plant(s)
		if r := s.run("verify", "--read"); (r.Code == 0) != d.fine {
			s.T.Errorf("%s is damaged, and verify: exit code %d: %s%s", d.name, r.Code, r.Stdout,
				r.Stderr)
		}
		for range 30 { // it writes meanwhile
			s.app.Send("insert into t(b) values(randomblob(5000));")
		}
		r := s.run("sync", s.Path("a.db"), "--read")
		lost = lost || d.lost
		said := strings.Count(r.Stdout, "cannot be restored: ")
		if r.Code > 1 || (r.Code == 1) != lost || (said > 0) != lost {
			s.T.Errorf("%s is damaged, and sync --read: exit code %d: %s%s", d.name, r.Code,
				r.Stdout, r.Stderr)
		}
		s.app.Flush()
		if r := s.run("verify", "--read"); r.Code != 0 {
			s.T.Fatalf("%s was put again, and verify: exit code %d: %s%s", d.name, r.Code,
				r.Stdout, r.Stderr)
		}
		s.MustEqual("a.db")
		if !d.fine {
			continue
		}
		lines := slices.DeleteFunc(strings.Split(r.Stdout, "\n"), func(line string) bool {
			return !strings.Contains(line, s.first.ID.String())
		})
		if len(lines) == 0 {
			s.T.Fatalf("the object is not named: %s", r.Stdout)
		}
		id := strings.Fields(lines[0][strings.Index(lines[0], ": version ")+len(": version "):])[0]
		if r := s.run("restore", "-s", s.Path("a.db"), "--version-id", id, "-o",
			s.Path("old.db")); r.Code != 1 || !strings.Contains(r.Stderr, s.first.ID.String()) {
			s.T.Errorf("restore of version %s: exit code %d: %s", id, r.Code, r.Stderr)
		}
	}
	s.app.EndsWith(0)
}
