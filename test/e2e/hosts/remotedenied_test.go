package hosts_test

import (
	"strings"
	"testing"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// TestRemoteMissing: who opens a database that is not there is told how to make one.
func TestRemoteMissing(t *testing.T) {
	s, uri := remoteSite(t, "dir")
	for _, mode := range []string{"ro", "rw"} {
		shell := s.Shell("")
		shell.Ask(".open " + uri + "&mode=" + mode)
		if said := shell.Stderr(); !strings.Contains(said, "no such database, which mode=rwc") {
			t.Errorf("mode=%s: %s", mode, said)
		}
		// What is said of one says nothing of another.
		shell.Ask(".open " + strings.Replace(uri, ".db", "-2.db", 1) + "&mode=" + mode)
		if said := shell.Stderr(); strings.Count(said, "which mode=rwc") != 2 {
			t.Errorf("mode=%s, another one: %s", mode, said)
		}
	}
}

// TestRemoteStaleness: what is no number of milliseconds is refused, and named.
func TestRemoteStaleness(t *testing.T) {
	s, uri := remoteSite(t, "dir")
	shell := s.Shell("")
	shell.Must(".open " + uri)
	shell.Must("create table t(a); insert into t values(7);")
	for _, c := range []struct {
		ms string
		ok bool
	}{
		{"500", true}, {"0", true}, {"99999999999999999999", true},
		{"abc", false}, {"", false}, {"5s", false}, {"-1", false}, {"0x10", false},
	} {
		reader := s.Shell("")
		got := reader.Ask(".open " + uri + "&staleness_ms=" + c.ms + "\nselect a from t;")
		if c.ok {
			if got != "7" {
				t.Errorf("%q: %q", c.ms, got)
			}
			continue
		}
		want := "staleness_ms=" + c.ms + ", and that is no number of milliseconds"
		if said := reader.Stderr(); got == "7" || !strings.Contains(said, want) {
			t.Errorf("%q: %q, %s", c.ms, got, said)
		}
	}
}

// TestRemoteDenied: who may read and not write is told so at once, when he begins to write, and
// which right he lacks; and he reads on.
func TestRemoteDenied(t *testing.T) {
	endpoint := miniotest.Start(t)
	s := harness.EmptySite(t)
	s.Targets = []any{}
	configure := func(tempdir string) {
		s.Configure(map[string]any{"make_default": false, "tempdir": s.Path(tempdir),
			"remote_deadline_ms": 3_600_000, "stores": map[string]any{"hosts": map[string]any{
				"s3": map[string]any{
					"region": "minio", "endpoint": endpoint, "create_buckets_on_demand": true,
					"chunk_bucket": "chunks", "manifest_bucket": "manifests",
				}}}})
	}
	const uri = "file:///hosts/a.db?vfs=verneuil_remote"
	configure("writer")
	writer := s.Shell("")
	writer.Must(".open " + uri)
	writer.Must("create table t(a); insert into t values(1);")
	writer.EndsWith(0)
	const read = `{"Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::*"}`
	for name, statements := range map[string]string{
		"reads": read,
		"writes no record": read + `,{"Effect":"Allow","Action":["s3:PutObject","s3:ListBucket"],` +
			`"Resource":"arn:aws:s3:::*"},{"Effect":"Deny","Action":["s3:PutObject"],` +
			`"Resource":"arn:aws:s3:::chunks/log-*"}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, right := range miniotest.Under(t, endpoint,
				`{"Version":"2012-10-17","Statement":[`+statements+`]}`) {
				name, value, _ := strings.Cut(right, "=")
				t.Setenv(name, value)
			}
			configure(strings.ReplaceAll(name, " ", "-"))
			reader := s.Shell("")
			reader.Must(".open " + uri)
			for n := range 2 {
				reader.Want("select a from t;", "1")
				for _, write := range []string{"insert into t values(2);", "begin immediate;"} {
					before := len(reader.Stderr())
					reader.Ask(write)
					said := reader.Stderr()[before:]
					told := strings.Contains(said, "s3:PutObject") // once
					if !strings.Contains(said, "attempt to write a readonly database") ||
						told != (n == 0 && write != "begin immediate;") {
						t.Errorf("%s: %s", write, said)
					}
				}
			}
		})
	}
}
