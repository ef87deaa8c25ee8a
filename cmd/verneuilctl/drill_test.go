package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/manifest"
)

// drillOf runs verify --drill --json with args, which must exit with code, and returns its lines:
// one for each database in each target, and the sums.
func drillOf(s *site, code int, args ...string) (all []map[string]any) {
	s.t.Helper()
	args = append([]string{"-c", s.config(), "verify", "--drill", "--json"}, args...)
	r := ctl(s.t, args...)
	if r.code != code {
		s.t.Fatalf("%q: exit code %d, want %d:\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	for text := range strings.Lines(r.stdout) {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, one)
	}
	if left, _ := filepath.Glob(s.path("scratch/*")); len(left) > 0 {
		s.t.Errorf("left in the scratch directory: %v", left)
	}
	return all
}

// drilling returns a site that has a scratch directory.
func drilling(t *testing.T, s *site) *site {
	if err := os.Mkdir(s.path("scratch"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.configure(map[string]any{"tempdir": s.path("scratch"),
		"replication_targets": []any{s.target}})
	return s
}

// TestDrill: what was backed up restores, and the target keeps that it did, which ls shows, and
// nothing else takes for a database; on each kind of target.
func TestDrill(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *site{
		"dir": dirSite, "minio": minioSite, "one bucket": oneBucketSite,
		"versioned": versioned(minioSite, "manifests"), // which has a database already
	} {
		t.Run(name, func(t *testing.T) { testDrill(t, drilling(t, make(t))) })
	}
}

func testDrill(t *testing.T, s *site) {
	large, small := s.database("large.db", 5<<20), s.database("small.db", 100<<10)
	for _, db := range []string{large, small} {
		must(t, "-c", s.config(), "sync", db)
	}
	databases := strings.Count(must(t, "-c", s.config(), "ls"), "\n") - 1 // and a heading
	if got := must(t, "-c", s.config(), "ls"); strings.Count(got, "never") != databases {
		t.Errorf("ls before the drill:\n%s", got)
	}
	all := drillOf(s, 0)
	sums := all[len(all)-1]
	if len(all) != 1+databases || sums["databases"] != float64(databases) || sums["failed"] != 0.0 {
		t.Fatalf("drill: %v", all)
	}
	for _, one := range all[:databases] {
		if one["ok"] != true || one["integrity"] != "ok" || one["source"] != "equal" ||
			one["proof_kept"] != true || one["file_bytes"].(float64) < 10<<10 {
			t.Errorf("drill: %v", one)
		}
	}
	if got := must(t, "-c", s.config(), "ls"); strings.Count(got, "\n") != 1+databases ||
		strings.Contains(got, "never") {
		t.Errorf("ls after the drill:\n%s", got)
	}
	if got := must(t, "-c", s.config(), "verify"); !strings.HasPrefix(got,
		fmt.Sprintf("versions: %d,", databases)) {
		t.Errorf("verify after the drill: %s", got)
	}
	if got := must(t, "-c", s.config(), "gc", "--delete", "--json"); !strings.Contains(got,
		fmt.Sprintf(`"databases":%d`, databases)) {
		t.Errorf("gc after the drill: %s", got)
	}
	first := line(t, must(t, "-c", s.config(), "ls", "--json", "-s", small))["proven"]

	write(t, small, "CREATE TABLE more(x); INSERT INTO more VALUES (randomblob(1000))")
	one := drillOf(s, 0, small)[0]
	if one["source"] != "newer" || one["ok"] != true {
		t.Errorf("a source that was written to: %v", one)
	}
	now := line(t, must(t, "-c", s.config(), "ls", "--json", "-s", small))["proven"]
	if now == first {
		t.Errorf("the drill did not renew its proof of %v", first)
	}
	tick(t, time.Now())
	before := time.Now()
	must(t, "-c", s.config(), "sync", small)
	at := drillOf(s, 0, small, "--at", before.UTC().Format(time.RFC3339Nano))[0]
	newest := drillOf(s, 0, small, "--no-proof")[0]
	if at["version_id"] == newest["version_id"] || at["ok"] != true || at["proof_kept"] != false ||
		newest["source"] != "equal" || newest["proof_kept"] != false {
		t.Errorf("at %v: %v\nnewest: %v", before, at, newest)
	}
	if again := line(t, must(t, "-c", s.config(), "ls", "--json", "-s", small)); again["proven"] !=
		now {
		t.Errorf("proven: %v, then %v by a drill that keeps nothing", now, again["proven"])
	}
}

// TestDrillFinds: what does not restore, or is not what it should be, is found, keeps no proof, and
// is not excused by another target, or by a cache.
func TestDrillFinds(t *testing.T) {
	fails := func(t *testing.T, s *site, want string, args ...string) {
		t.Helper()
		one := drillOf(s, 1, args...)[0]
		text, _ := one["error"].(string)
		if one["ok"] != false || one["proof_kept"] != false || !strings.Contains(text, want) {
			t.Errorf("%v\nwant %q", one, want)
		}
	}
	t.Run("a pack is gone from one target", func(t *testing.T) {
		s := drilling(t, dirSite(t))
		cache := map[string]any{"local": map[string]any{"directory": s.path("cache"),
			"num_shards": 1, "capacity": 1000}}
		second := map[string]any{"dir": map[string]any{"path": s.path("second")}}
		s.configure(map[string]any{"tempdir": s.path("scratch"),
			"replication_targets": []any{s.target, second, cache}})
		db := s.database("a.db", 1<<20)
		must(t, "-c", s.config(), "sync", db)
		must(t, "-c", s.config(), "restore", db, "-o", s.path("copy.db"))
		for _, file := range s.packs() {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		fails(t, s, "not found")
		if all := drillOf(s, 1); all[1]["ok"] != true || all[1]["proof_kept"] != true {
			t.Errorf("the other target: %v", all[1])
		}
	})
	t.Run("a database that was damaged before it was sent", func(t *testing.T) {
		s := drilling(t, dirSite(t))
		db := s.database("a.db", 1<<20)
		f, err := os.OpenFile(db, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(strings.Repeat("damage", 100)), 8192); err != nil {
			t.Fatal(err)
		}
		f.Close()
		must(t, "-c", s.config(), "sync", db)
		fails(t, s, "integrity_check")
	})
	t.Run("foreign keys", func(t *testing.T) {
		s := drilling(t, dirSite(t))
		db := s.database("a.db", 100<<10)
		write(t, db, "CREATE TABLE p(id INTEGER PRIMARY KEY); "+
			"CREATE TABLE c(p REFERENCES p); INSERT INTO c VALUES (1), (2)")
		must(t, "-c", s.config(), "sync", db)
		fails(t, s, "2 rows refer")
		if one := drillOf(s, 0, "--ignore-foreign-keys")[0]; one["foreign_key_violations"] != 2.0 {
			t.Errorf("%v", one)
		}
	})
	t.Run("another database than the source", func(t *testing.T) {
		s := drilling(t, dirSite(t))
		db := s.database("a.db", 100<<10)
		must(t, "-c", s.config(), "sync", db)
		write(t, db, "CREATE TABLE more(x)")
		recut(s, db, time.Now().Add(time.Hour))
		fails(t, s, "differs from its source")
	})
}

// TestDrillTellsFew: of a database with hundreds of faults some are told, and how many more.
func TestDrillTellsFew(t *testing.T) {
	s := drilling(t, dirSite(t))
	db := s.database("a.db", 100<<10)
	write(t, db, "CREATE TABLE many(x); INSERT INTO many SELECT 1 FROM t, t, t")
	f, err := os.OpenFile(db, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil { // the cells of a page of that table
		_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 1000), info.Size()-4096+8)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	must(t, "-c", s.config(), "sync", db)
	said := fmt.Sprint(drillOf(s, 1)[0]["integrity"])
	if len(said) > 1000 || strings.Count(said, ";") != faultsTold ||
		!strings.HasSuffix(said, " more") {
		t.Errorf("not %d faults, and how many more: %s", faultsTold, said)
	}
}

// TestDrillRefuses: what cannot begin is said.
func TestDrillRefuses(t *testing.T) {
	s := dirSite(t)
	refuse(t, 1, []string{"no database is in it"}, "-c", s.config(), "verify", "--drill")
	refuse(t, 2, []string{"--drill excludes"}, "-c", s.config(), "verify", "--drill", "--read")
	refuse(t, 2, []string{"need --drill"}, "-c", s.config(), "verify", "--at", "2026-01-01")
	must(t, "-c", s.config(), "sync", s.database("a.db", 100<<10))
	refuse(t, 1, []string{"missing: no such file"}, "-c", s.config(), "verify", "--drill",
		"--scratch", s.path("missing"))
}

// recut gives the manifest of db another time.
func recut(s *site, db string, at time.Time) {
	s.t.Helper()
	file := s.path("store/manifests/" + strings.TrimSpace(
		must(s.t, "-c", s.config(), "manifest-name", db)))
	body, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := manifest.Decode(chunkstore.Plain{}, body)
	if err != nil {
		s.t.Fatal(err)
	}
	m.Time = at
	if body, err = m.Encode(chunkstore.Plain{}); err == nil {
		err = os.WriteFile(file, body, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestDrillReadOnly: credentials that may only get do for a drill of one database. It says that
// nothing was kept.
func TestDrillReadOnly(t *testing.T) {
	s := drilling(t, minioSite(t))
	db := s.database("a.db", 1<<20)
	must(t, "-c", s.config(), "sync", db)
	endpoint := s.target["s3"].(map[string]any)["endpoint"].(string)
	for _, env := range miniotest.ReadOnly(t, endpoint, "chunks", "manifests") {
		name, value, _ := strings.Cut(env, "=")
		t.Setenv(name, value)
	}
	one := drillOf(s, 0, db)[0]
	if one["ok"] != true || one["proof_kept"] != false || one["note"] == nil {
		t.Errorf("%v", one)
	}
}
