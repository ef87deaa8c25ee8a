package remote_test

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// contents are what buckets have, by bucket and key.
type contents map[string]map[string][]byte

// each calls f for each object of the bucket.
func each(t *testing.T, c *s3.Client, bucket string, f func(key string)) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		harness.Must(t, err)
		for _, o := range page.Contents {
			f(aws.ToString(o.Key))
		}
	}
}

func get(ctx context.Context, c *s3.Client, bucket, key string) ([]byte, error) {
	o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

// copyOf copies the buckets, as a backup of them does.
func copyOf(t *testing.T, c *s3.Client, buckets ...string) contents {
	t.Helper()
	all := contents{}
	for _, bucket := range buckets {
		all[bucket] = map[string][]byte{}
		each(t, c, bucket, func(key string) {
			b, err := get(t.Context(), c, bucket, key)
			harness.Must(t, err)
			all[bucket][key] = b
		})
	}
	return all
}

// putBack makes the buckets what they were.
func putBack(t *testing.T, c *s3.Client, old contents) {
	t.Helper()
	for bucket, objects := range old {
		each(t, c, bucket, func(key string) {
			was, ok := objects[key]
			if !ok {
				_, err := c.DeleteObject(t.Context(),
					&s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
				harness.Must(t, err)
				return
			}
			is, err := get(t.Context(), c, bucket, key)
			harness.Must(t, err)
			if !bytes.Equal(is, was) {
				_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key,
					Body: bytes.NewReader(was)})
				harness.Must(t, err)
			}
		})
	}
}

// TestBucketThatWasPutBack: the buckets with a database that lives in them are put back to an older
// copy under its writer. Within the lease's renewal time COMMIT fails, and the log says what may be
// gone. Another machine goes on with what is there, and so does the writer when it has begun
// anew; both beyond the records that the writer has put meanwhile, on some that are gone.
func TestBucketThatWasPutBack(t *testing.T) {
	server := miniotest.Run(t)
	s := newStage(t, server, nil)
	c := miniotest.Client(server.Endpoint)
	const open = ".open file:///rounds/back.db?vfs=verneuil_remote"
	const count = "select count(*) from t;"
	start := func(m *machine) *harness.Process {
		p := harness.Start(t, []string{"VERNEUIL_CONFIG=@" + m.config}, harness.SQLiteShell(t),
			"-batch")
		p.Must(".load " + s.library)
		p.Must(open)
		p.Ask("pragma busy_timeout = 60000;")
		return p
	}
	a := start(s.machines[0])
	a.Must("create table t(v); insert into t values(1);")
	old := copyOf(t, c, "chunks", "manifests")
	for range 5 {
		a.Must("insert into t values(2);")
	}
	a.Want(count, "6")
	putBack(t, c, old)
	answered := 0
	harness.Until(t, "COMMIT fails", func() bool {
		before := len(a.Stderr())
		a.Ask("insert into t values(3);")
		if strings.Contains(a.Stderr()[before:], "rror near line") {
			return true
		}
		answered++
		return false
	})
	t.Logf("%d commits were answered for before the look", answered)
	for _, want := range []string{"not what it was", "has lost what was called stored"} {
		if !strings.Contains(a.Stderr(), want) {
			t.Errorf("the log does not say %q: %s", want, a.Stderr())
		}
	}
	b := start(s.machines[1])
	b.Want(count, "1")
	rows := 1
	told := 0
	for range answered + 20 {
		before := len(b.Stderr())
		b.Ask("insert into t values(4);")
		if said := b.Stderr()[before:]; !strings.Contains(said, "rror near line") {
			rows++
		} else if told++; !strings.Contains(said, "not what it was") {
			t.Fatal(said)
		}
	}
	if told > 1 {
		t.Errorf("%d of its commits failed, want one, at the first record of the other", told)
	}
	b.Want(count, strconv.Itoa(rows))
	a.End()
	a = start(s.machines[0])
	a.Want(count, strconv.Itoa(rows))
	a.Must("insert into t values(5);")
	b.Want(count, strconv.Itoa(rows+1))
	b.Want("pragma integrity_check;", "ok")
}
