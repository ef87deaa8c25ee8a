package stores_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// A writer whose credentials cannot destroy what it has written: see docs/operations.md.

// appendOnlyPolicy is the one of docs/operations.md, but for its condition, which MinIO does not
// know: mayNotReplace has it.
const appendOnlyPolicy = `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],
 "Resource":["arn:aws:s3:::chunks/*","arn:aws:s3:::manifests/*"]},
{"Effect":"Allow","Action":["s3:ListBucket"],
 "Resource":["arn:aws:s3:::chunks","arn:aws:s3:::manifests"]}]}`

// mayNotReplace is what a policy denies that lets packs and records be created only: AWS's
// condition is that s3:if-none-match is there.
func mayNotReplace(_ int, r *http.Request) (f faultproxy.Fault) {
	key, inChunks := strings.CutPrefix(r.URL.Path, "/chunks/")
	free := key == "" || strings.HasPrefix(key, "verneuil-bucket") ||
		strings.HasPrefix(key, "lease-") || strings.HasPrefix(key, "want-")
	replaces := r.Method == http.MethodPut && r.Header.Get("If-None-Match") == ""
	if r.Method == http.MethodDelete || inChunks && !free && replaces {
		f.Status = http.StatusForbidden
	}
	return f
}

// TestAppendOnly: a writer that may not delete, nor replace packs, records and kept checkpoints,
// works: new data, old data again, a lost spool, a backup by verneuilctl. What is damaged it puts
// again under another name; for older versions its owner does, in place. gc runs with credentials
// of its own.
func TestAppendOnly(t *testing.T) {
	endpoint := miniotest.Start(t)
	s := harness.S3Site(t, endpoint)
	s.Stock("seed.db", "create table t(a)")
	s.Ctl("sync", s.Path("seed.db")) // makes the buckets, which the writer may not
	proxy := faultproxy.Start(t, endpoint)
	proxy.Set(mayNotReplace)
	s.Targets = harness.S3Site(t, proxy.URL).Targets
	s.Configure(nil)
	env := miniotest.Under(t, endpoint, appendOnlyPolicy)
	appendOnly(s, env)
	if proxy.Faults() == 0 {
		t.Error("nothing was denied")
	}
	writers, owners := s.Targets, harness.S3Site(t, endpoint).Targets
	s.Targets = owners
	s.Configure(nil)
	damaged := atTarget(s)
	damaged.look()
	ref := damaged.alike()
	damaged.change(damaged.target.Chunks, ref.Place.Pack.String(), func(b []byte) []byte {
		b[ref.Place.Offset+ref.Place.Bytes/2]++
		return b
	})
	s.Targets = writers
	s.Configure(nil)
	r := harness.Run(t, append(env, s.Env()), harness.Built(t, "VERNEUIL_CTL"), "sync", "--read",
		s.Path("a.db"))
	if r.Code != 1 || !strings.Contains(r.Stderr, "a policy denies replacing it") {
		t.Errorf("a pack is damaged, and sync --read: exit code %d: %s%s", r.Code, r.Stdout,
			r.Stderr)
	}
	s.Targets = owners
	s.Configure(nil)
	s.Ctl("verify", "--read") // the newest version names another pack
	s.MustEqual("a.db")
	s.Ctl("sync", "--read", s.Path("a.db"))
	s.Ctl("verify", "--read")
	s.Ctl("gc", "--delete")
	s.MustEqual("a.db")
}

// appendOnly has a writer with the credentials in env use the site's store.
func appendOnly(s *harness.Site, env []string) {
	s.T.Helper()
	flush := func(sql ...string) {
		s.T.Helper()
		shell := s.Shell("a.db", env...)
		for _, sql := range sql {
			shell.Must(sql)
		}
		if got := shell.Ask("pragma verneuil_flush_replication_data;"); got != "1" {
			s.T.Fatalf("%q: flush answers %q: %s\n%s", sql, got,
				shell.Ask("select verneuil_status();"), shell.Stderr())
		}
		shell.End()
		s.MustEqual("a.db")
	}
	lose := func() { harness.Must(s.T, os.RemoveAll(s.Path("spool"))) }
	flush("create table t(a integer primary key, b);",
		"with n(i) as (select 1 union all select i+1 from n where i < 3000) "+
			"insert into t select i, randomblob(1000) from n;")
	old, err := os.ReadFile(s.Path("a.db"))
	harness.Must(s.T, err)
	flush("update t set b = randomblob(1000);")
	lose()
	flush("insert into t values(null, 'a spool was lost');")
	// the first version again: all of its packs are there
	harness.Must(s.T, os.WriteFile(s.Path("a.db"), old, 0o600))
	flush()
	lose()
	flush("update t set b = 'small' where a < 10;", "vacuum;")
	for _, args := range [][]string{{"sync", s.Path("a.db")}, {"verify", "--drill", s.Path("a.db")},
		{"config", "check", "--write"}, {"config", "check", "--write"}, {"doctor", "--all"}} {
		r := harness.Run(s.T, append(slices.Clone(env), s.Env()),
			append([]string{harness.Built(s.T, "VERNEUIL_CTL")}, args...)...)
		if r.Code != 0 {
			s.T.Errorf("%q: exit code %d: %s%s", args, r.Code, r.Stdout, r.Stderr)
		}
		if args[0] == "doctor" && !strings.Contains(r.Stdout, "may not delete") {
			s.T.Errorf("the doctor does not see it: %s", r.Stdout)
		}
	}
}

// TestObjectLock: in buckets with object lock a writer works, gc hides what it would delete, and
// what a thief of the writer's credentials overwrites or hides is still there.
func TestObjectLock(t *testing.T) {
	endpoint := miniotest.Start(t)
	miniotest.MakeLocked(t, endpoint, "chunks")
	miniotest.MakeLocked(t, endpoint, "manifests")
	s := harness.S3Site(t, endpoint)
	env := miniotest.Under(t, endpoint, appendOnlyPolicy)
	appendOnly(s, env)
	s.Ctl("gc", "--delete")
	s.Ctl("verify", "--read")
	s.MustEqual("a.db")

	client := miniotest.Client(endpoint) // no thief can do more
	bucket := "chunks"
	listed, err := client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{
		Bucket: &bucket})
	harness.Must(t, err)
	tried := 0
	for _, v := range listed.Versions {
		if strings.Contains(*v.Key, "-") {
			continue
		}
		tried++
		_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket,
			Key: v.Key, VersionId: v.VersionId})
		if err == nil {
			t.Errorf("the version %s of pack %s could be deleted", *v.VersionId, *v.Key)
		}
		_, err = client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket,
			Key: v.Key}) // hides it
		harness.Must(t, err)
	}
	if tried == 0 {
		t.Fatal("there is no pack")
	}
	r := harness.Run(t, []string{s.Env()}, harness.Built(t, "VERNEUIL_CTL"), "verify")
	if r.Code != 1 {
		t.Errorf("packs are hidden, and verify: exit code %d", r.Code)
	}
	unhide(t, client, bucket)
	s.Ctl("verify", "--read")
	s.MustEqual("a.db")
}

// unhide removes the delete markers of a bucket, as docs/operations.md has it.
func unhide(t *testing.T, client *s3.Client, bucket string) {
	listed, err := client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{
		Bucket: &bucket})
	harness.Must(t, err)
	for _, m := range listed.DeleteMarkers {
		_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket,
			Key: m.Key, VersionId: m.VersionId})
		harness.Must(t, err)
	}
}
