package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestOneBucket: several targets share a bucket, with prefixes and without, written as users
// write them; each command sees what is its target's, and takes chunks for chunks and manifests
// for manifests.
func TestOneBucket(t *testing.T) {
	s := minioSite(t)
	endpoint := s.target["s3"].(map[string]any)["endpoint"].(string)
	db := s.database("d.db", 5<<20) // above 4 MiB there are leaves
	other := s.database("other.db", 100<<10)
	layouts := []struct{ name, key string }{{"", ""}, {"app", "app/"}, {"app/deep/", "app/deep/"}}
	configs := make([]string, len(layouts))
	var key string
	for i, layout := range layouts {
		s.inBucket("shared", layout.name)
		s.configure(map[string]any{"replication_spooling_dir": s.path(fmt.Sprint("spool", i))})
		name := must(t, "-c", s.config(), "sync", db)
		if i > 0 {
			must(t, "-c", s.config(), "sync", other)
		}
		config, err := os.ReadFile(s.path("verneuil.json"))
		if err != nil {
			t.Fatal(err)
		}
		configs[i] = s.write(fmt.Sprint(i, ".json"), config)
		key = strings.TrimSpace(name)
	}
	for i, layout := range layouts {
		config := "@" + configs[i]
		want := fmt.Sprintf("versions: %d,", 1+min(i, 1))
		for _, args := range []string{"verify", "verify --read", "verify --touch"} {
			got := must(t, append([]string{"-c", config}, strings.Fields(args)...)...)
			if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "missing or damaged: 0\n") {
				t.Errorf("%q: %s: %q, want %q", layout.name, args, got, want)
			}
		}
		uri := "s3://shared.us-east-1." + strings.TrimPrefix(endpoint, "http://") + "/" +
			layout.key + "manifests/" + key
		for n, from := range [][]string{{"-s", db}, {"-m", uri}} {
			out := s.path(fmt.Sprint("out", i, n, ".db"))
			must(t, append([]string{"-c", config, "restore", "-o", out}, from...)...)
			if s.sum(out) != s.sum(db) {
				t.Errorf("%q: restore %s: the file differs", layout.name, from)
			}
		}
		// The newest manifest, and that it is kept.
		if got := must(t, "-c", config, "versions", "-s", db); strings.Count(got, "\n") != 2 {
			t.Errorf("%q: versions: %q", layout.name, got)
		}
		rows := must(t, "-c", config, "shell", "-m", uri, "--vfs", library(t), "--",
			"select count(*) from t")
		if rows != "525\n" {
			t.Errorf("%q: a replica by its URI has %q rows", layout.name, rows)
		}
		must(t, "flush", s.path(fmt.Sprint("spool", i)))
	}
	r := ctl(t, "-c", "@"+configs[0], "restore", "-s", other, "-o", s.path("none.db"))
	if r.code != 1 || !strings.Contains(r.stderr, "not found") {
		t.Errorf("another target's database: exit code %d, %s", r.code, r.stderr)
	}
	s.target["s3"].(map[string]any)["chunk_bucket"] = "shared"
	s.configure(nil)
	refuse(t, 1, []string{"replication_targets[0].s3.bucket: excludes chunk_bucket"}, "-c",
		s.config(), "verify")
}
