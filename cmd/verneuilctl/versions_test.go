package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
	"verneuil/replicate/versions"
)

// TestVersions goes back in time on both kinds of target, and in one bucket.
func TestVersions(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *site{
		"dir": dirSite, "minio": versioned(minioSite, "manifests"),
		"one bucket": versioned(oneBucketSite, "shared"),
	} {
		t.Run(name, func(t *testing.T) { testVersions(t, make(t)) })
	}
}

// versioned returns a maker of sites whose bucket of manifests, so called, has versioning.
func versioned(make func(*testing.T) *site, bucket string) func(*testing.T) *site {
	return func(t *testing.T) *site {
		s := make(t)
		must(t, "-c", s.config(), "sync", s.database("makes-the-buckets.db", 1))
		miniotest.EnableVersioning(t, s.target["s3"].(map[string]any)["endpoint"].(string), bucket)
		return s
	}
}

func testVersions(t *testing.T, s *site) {
	db, config := s.path("test.db"), s.config()
	var sums []string
	for range 3 {
		sqlite(t, nil, db,
			"create table if not exists t(x); insert into t values(randomblob(5000))")
		sums = append(sums, s.sum(db))
		must(t, "-c", config, "sync", db)
	}

	// Each version can be had, by its ID in the log, in the bucket, or of what is kept.
	there := listed(t, s, db)
	found := map[string]bool{}
	for _, id := range there.ids {
		must(t, "-c", config, "restore", "--force", "-s", db, "--version-id", id, "-o",
			s.path("old.db"))
		sum := s.sum(s.path("old.db"))
		n := slices.Index(sums, sum)
		if n < 0 {
			t.Fatalf("version %s: the restored file is none that there was", id)
		}
		found[sum] = true
		rows := must(t, "-c", config, "shell", "-s", db, "--vfs", library(t), "--version-id", id,
			"--", "select count(*) from t")
		if want := string(rune('1'+n)) + "\n"; rows != want {
			t.Errorf("version %s in the shell: %q rows, want %q", id, rows, want)
		}
		s.standsAlone(db, id, sum)
	}
	if len(found) != len(sums) {
		t.Errorf("%d of %d versions are there: %+v", len(found), len(sums), there)
	}

	// By time: S3's is of whole seconds, in which several versions may fall.
	newest := there.newest.Format(time.RFC3339Nano)
	must(t, "-c", config, "restore", "--force", "-s", db, "--at", newest, "-o", s.path("old.db"))
	if s.sum(s.path("old.db")) != sums[len(sums)-1] {
		t.Error("--at the time of the newest version restores another")
	}
	text := must(t, "-c", config, "versions", "-s", db, "-n", "1")
	if lines := strings.Split(text, "\n"); len(lines) != 4 || lines[1] != "" ||
		!strings.Contains(lines[0], " to "+newest+"  ") {
		t.Errorf("versions prints %q", text)
	}

	testNoVersion(t, s, db, there.oldest, newest)
}

// standsAlone: the manifest that is written of a version opens and restores by itself.
func (s *site) standsAlone(db, id, want string) {
	s.t.Helper()
	file, out := s.path("alone.manifest"), s.path("alone.db")
	must(s.t, "-c", s.config(), "manifest", "--force", "-s", db, "--version-id", id, "-o", file)
	must(s.t, "-c", s.config(), "restore", "--force", "-m", file, "-o", out)
	if s.sum(out) != want {
		s.t.Errorf("version %s: its manifest restores another", id)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if again := must(s.t, "-c", s.config(), "manifest", "-m", file); again != string(written) {
		s.t.Errorf("version %s: its manifest is not taken as it is", id)
	}
}

// listing is what the command versions lists.
type listing struct {
	ids            []string
	oldest, newest time.Time // of what it says when it was stored
}

func listed(t *testing.T, s *site, db string) (all listing) {
	t.Helper()
	note := func(at time.Time) {
		if all.oldest.IsZero() || at.Before(all.oldest) {
			all.oldest = at
		}
		if at.After(all.newest) {
			all.newest = at
		}
	}
	ranges := 0
	for line := range strings.Lines(must(t, "-c", s.config(), "versions", "-s", db, "--json")) {
		var v struct {
			Stored time.Time
			ID     string `json:"version_id"`
			First  string `json:"first_version_id"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		note(v.Stored)
		if v.First == "" {
			all.ids = append(all.ids, v.ID)
			continue
		}
		ranges++
		first, ok := versions.ParseID(v.First)
		last, ok2 := versions.ParseID(v.ID)
		if !ok || !ok2 || first.Lineage != last.Lineage || first.Number != 1 {
			t.Fatalf("%s", line)
		}
		for id := first; id.Number <= last.Number; id.Number++ {
			all.ids = append(all.ids, id.String())
		}
	}
	if ranges != 1 {
		t.Errorf("%d ranges of records", ranges)
	}
	return all
}

// testNoVersion asks for versions that are not there: of a database of which the oldest one was
// stored at that time, and the newest one at that other.
func testNoVersion(t *testing.T, s *site, db string, oldest time.Time, newest string) {
	t.Helper()
	before := oldest.Add(-time.Second).Format(time.RFC3339Nano)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"restore", "--force", "-s", db, "--at", before, "-o", s.path("none.db")}, 1,
			"no such version: the oldest is from " + oldest.UTC().Format(time.RFC3339Nano) +
				" (verneuilctl versions lists"},
		{[]string{"restore", "--force", "-s", db, "--version-id",
			"00000000-1111-2222-3333-444444444444", "-o", s.path("none.db")}, 1,
			"no such version (verneuilctl versions lists"},
		{[]string{"restore", "--force", "-s", s.path("never.db"), "--version-id",
			"00000000-1111-2222-3333-444444444444", "-o", s.path("none.db")}, 1, "there is "},
		{[]string{"versions", "-s", s.path("never.db")}, 1, "no such version"},
		{[]string{"versions", "-m", s.path("a.file")}, 1, "only s3 and dir targets keep versions"},
		{[]string{"restore", "--force", "-s", db, "--at", "yesterday", "-o", s.path("none.db")}, 2,
			`--at "yesterday" is not a time`},
		{[]string{"restore", "--force", "-s", db, "--at", newest, "--version-id", "x", "-o",
			s.path("none.db")}, 2, "exclude each other"},
	} {
		r := ctl(t, append([]string{"-c", s.config()}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%q: exit code %d, %q; want %d, %q", c.args, r.code, r.stderr, c.code, c.says)
		}
	}
}

// TestParseTime: every way of writing one moment.
func TestParseTime(t *testing.T) {
	want := time.Date(2026, 11, 22, 2, 30, 0, 0, time.Local)
	for _, text := range []string{
		want.UTC().Format(time.RFC3339), want.Format(time.RFC3339Nano),
		"2026-11-22 02:30:00", "2026-11-22T02:30:00", "2026-11-22 02:30",
		want.UTC().Format("2006-01-02 15:04:05Z"), want.Format("2006-01-02 15:04:05-07:00"),
		want.Format("2006-01-02 15:04:05.000-0700"), want.UTC().Format("2006-01-02T15:04Z"),
		want.In(time.FixedZone("", 2*3600)).Format("2006-01-02 15:04:05") + "+02",
	} {
		if got, err := parseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"2026-11-22 02", "now", "1700000000", "2026-13-01"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
