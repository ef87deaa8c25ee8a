package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// weighed runs ls --dedup --json with args, and returns its lines: databases, and the sums.
func weighed(s *site, args ...string) (all []map[string]any, sums map[string]any) {
	s.t.Helper()
	args = append([]string{"ls", "--dedup", "--json"}, args...)
	for text := range strings.Lines(s.ctl(args...)) {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all[:len(all)-1], all[len(all)-1]
}

// figure is one of what ls --dedup says.
func figure(line map[string]any, name string) float64 {
	return line["dedup"].(map[string]any)[name].(float64)
}

// TestLsDedup: ls --dedup tells what versions would take alone, and what they take, of each
// database and of all, on each kind of target.
func TestLsDedup(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *site{
		"dir": dirSite, "minio": minioSite, "one bucket": oneBucketSite,
		"versioned": versioned(minioSite, "manifests"), // which has a database already
	} {
		t.Run(name, func(t *testing.T) { testLsDedup(t, make(t)) })
	}
}

func testLsDedup(t *testing.T, s *site) {
	const size = 2 << 20
	db, day := s.database("a.db", size), time.Now().UTC().YearDay()
	bytes, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	s.ctl("sync", db)
	s.ctl("sync", s.write("twin.db", bytes))
	if day != time.Now().UTC().YearDay() {
		t.Skip("midnight: packs of two days are not shared")
	}
	write(t, db, "CREATE TABLE more(x); INSERT INTO more VALUES (randomblob(1000))")
	s.ctl("sync", db)

	all, sums := weighed(s)
	var alone, stored, versions float64
	for _, one := range all {
		alone += figure(one, "alone_bytes")
		stored += figure(one, "stored_bytes")
		versions += figure(one, "versions")
	}
	if n := float64(len(all)); sums["databases"] != n || figure(sums, "versions") != versions ||
		figure(sums, "alone_bytes") != alone {
		t.Errorf("the sums are %v; want those of %v", sums, all)
	}
	// The second version of a.db shares nearly all with the first, and the twin all with that.
	if together := figure(sums, "stored_bytes"); together < size || together > stored-size*9/10 ||
		sums["bucket_bytes"].(float64) < together*9/10 {
		t.Errorf("together they take %v of %v, and there are %v bytes: %v", together, stored,
			sums["bucket_bytes"], all)
	}
	one, _ := weighed(s, "-s", db)
	if len(one) != 1 || figure(one[0], "versions") < 2 ||
		figure(one[0], "file_bytes") < 2*size || figure(one[0], "alone_bytes") < 2*size ||
		figure(one[0], "stored_bytes") > size*5/4 {
		t.Errorf("%s: %v", db, one)
	}
	text := s.ctl("ls", "--dedup")
	if !strings.Contains(text, "ALONE") || !strings.Contains(text, " saved)") {
		t.Errorf("ls --dedup: %s", text)
	}
	if plain := s.ctl("ls"); strings.Contains(plain, "ALONE") || strings.Contains(plain, "saved") {
		t.Errorf("ls without --dedup: %s", plain)
	}
}

// TestLsDedupOfStore: so does ls of a store, of the databases that live in it.
func TestLsDedupOfStore(t *testing.T) {
	s := dirSite(t).withStores()
	const size = 1 << 20
	for _, name := range []string{"a.db", "b.db"} {
		db := s.path("local.db")
		if name == "a.db" {
			s.database("local.db", size)
		}
		s.ctl("import", db, "file:///other/"+name)
	}
	all, sums := weighed(s, "file:///other")
	if len(all) != 2 || sums["databases"] != 2.0 ||
		figure(sums, "stored_bytes") > 3*size/2 || figure(sums, "alone_bytes") < 2*size {
		t.Errorf("ls --dedup of a store: %v, in all %v", all, sums)
	}
	if text := s.ctl("ls", "--dedup", "--store", "other"); !strings.Contains(text, "ALONE") {
		t.Errorf("ls --dedup: %s", text)
	}
}
