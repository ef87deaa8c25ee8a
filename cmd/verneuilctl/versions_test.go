package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
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

	type version struct {
		Stored time.Time
		ID     string `json:"version_id"`
	}
	var versions []version
	for line := range strings.Lines(must(t, "-c", config, "versions", "-s", db, "--json")) {
		var v version
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	if len(versions) != len(sums) {
		t.Fatalf("%d versions after %d syncs: %v", len(versions), len(sums), versions)
	}
	for i, v := range versions {
		want := sums[len(sums)-1-i]
		must(t, "-c", config, "restore", "--force", "-s", db, "--version-id", v.ID, "-o",
			s.path("old.db"))
		if got := s.sum(s.path("old.db")); got != want {
			t.Errorf("version %d (%v): the restored file differs", i, v)
		}
		rows := must(t, "-c", config, "shell", "-s", db, "--vfs", library(t), "--version-id", v.ID,
			"--", "select count(*) from t")
		if want := string(rune('0'+len(sums)-i)) + "\n"; rows != want {
			t.Errorf("version %d in the shell: %q rows, want %q", i, rows, want)
		}
	}

	// By time: S3's is of whole seconds, in which several versions may fall.
	newest := versions[0].Stored.Format(time.RFC3339Nano)
	must(t, "-c", config, "restore", "--force", "-s", db, "--at", newest, "-o", s.path("old.db"))
	if s.sum(s.path("old.db")) != sums[len(sums)-1] {
		t.Error("--at the time of the newest version restores another")
	}
	text := must(t, "-c", config, "versions", "-s", db, "-n", "1")
	if !strings.HasPrefix(text, newest+"  "+versions[0].ID+" ") || strings.Count(text, "\n") != 1 {
		t.Errorf("versions prints %q", text)
	}

	testNoVersion(t, s, db, versions[len(versions)-1].Stored, newest)
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
			"no such version: the oldest is from " + oldest.UTC().Format(time.RFC3339Nano)},
		{[]string{"restore", "--force", "-s", db, "--version-id",
			"00000000-1111-2222-3333-444444444444", "-o", s.path("none.db")}, 1, "no such version"},
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
