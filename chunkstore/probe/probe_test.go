package probe_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/probe"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

var writing = probe.Options{Write: true, PatrolDays: 7}

// look returns what is found about the target of c.
func look(t *testing.T, c chunkstore.TargetConfig, o probe.Options) []probe.Finding {
	t.Helper()
	found, err := probe.Target(t.Context(), storetest.Open(t, c).Targets[0], o)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// has fails the test unless one finding is of that level and check, and says what; of the others
// none may be worse than a note.
func has(t *testing.T, found []probe.Finding, level probe.Level, check, what string) {
	t.Helper()
	there := false
	for _, f := range found {
		switch {
		case f.Level == level && f.Check == check && strings.Contains(f.Text, what):
			there = true
			if f.Remedy == "" && level != probe.OK {
				t.Errorf("no remedy: %+v", f)
			}
		case f.Level == probe.Unsafe || f.Level == probe.Warning:
			if f.Check != check {
				t.Errorf("also: %+v", f)
			}
		}
	}
	if !there {
		t.Errorf("no finding %s of %s says %q: %+v", level, check, what, found)
	}
}

// healthy fails the test if something is worse than a note, or nothing was looked at.
func healthy(t *testing.T, found []probe.Finding) {
	t.Helper()
	for _, f := range found {
		if f.Level == probe.Unsafe || f.Level == probe.Warning {
			t.Errorf("%+v", f)
		}
	}
	if len(found) < 2 {
		t.Errorf("looked at %+v", found)
	}
}

func odds(endpoint string) *s3.Config {
	return &s3.Config{Region: "us-east-1", Endpoint: endpoint, ChunkBucket: "chunks",
		ManifestBucket: "manifests"}
}

func credentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
}

// TestOddStores: each way in which a store may be other than S3 is found, and nothing else of it.
func TestOddStores(t *testing.T) {
	credentials(t)
	for name, c := range map[string]struct {
		store *odd
		level probe.Level
		check string
		what  string
	}{
		"clock":        {&odd{skew: -5 * time.Minute}, probe.Warning, "clock", "ahead"},
		"a wrong day":  {&odd{skew: 30 * time.Minute}, probe.Unsafe, "clock", "ahead"},
		"conditions":   {&odd{ignoresConds: true}, probe.Warning, "conditions", "does not keep"},
		"looks first":  {&odd{racy: 8}, probe.Warning, "conditions", "does not keep"},
		"If-Match":     {&odd{comparesBare: true}, probe.Unsafe, "conditions", "ETag"},
		"ranges":       {&odd{ignoresRanges: true}, probe.Warning, "ranges", "whole"},
		"checksums":    {&odd{takesDamage: true}, probe.Warning, "checksums", "wrong"},
		"lists":        {&odd{forgetsLists: true}, probe.Unsafe, "list", "lists 0"},
		"copies":       {&odd{noCopies: true}, probe.Note, "touch", "young"},
		"no deletes":   {&odd{deniesDeletes: true}, probe.OK, "rights", "may not delete"},
		"all is well":  {&odd{}, probe.OK, "conditions", "once"},
		"well, pace":   {&odd{}, probe.OK, "pace", "MB/s"},
		"well, rights": {&odd{}, probe.Note, "rights", "may delete"},
	} {
		t.Run(name, func(t *testing.T) {
			store := c.store
			has(t, look(t, odds(store.start(t)), writing), c.level, c.check, c.what)
			if store.deniesDeletes {
				return
			}
			for path := range store.objects {
				if strings.Contains(path, chunkstore.WantKeyPrefix) {
					t.Errorf("left: %s", path)
				}
			}
		})
	}
}

// TestSameWords: what the doctor says of a store in which databases cannot live is what the library
// refuses it with.
func TestSameWords(t *testing.T) {
	credentials(t)
	for name, store := range map[string]*odd{"ignores": {ignoresConds: true}, "looks": {racy: 8}} {
		t.Run(name, func(t *testing.T) {
			url := store.start(t)
			found := look(t, odds(url), probe.Options{Write: true, Lives: true})
			store.race, store.racers, store.all = "", 0, make(chan struct{})
			target := storetest.Open(t, odds(url)).Targets[0]
			_, err := target.Prove(t.Context())
			if err == nil {
				err = target.ProveCreates(t.Context())
			}
			storetest.MustBe(t, err, chunkstore.ErrUnguarded)
			has(t, found, probe.Unsafe, "conditions", err.Error())
		})
	}
}

// bucketsOf makes two buckets.
func bucketsOf(t *testing.T, endpoint, name string) *s3.Config {
	t.Helper()
	for _, bucket := range []string{name + "-c", name + "-m"} {
		_, err := miniotest.Client(endpoint).CreateBucket(t.Context(),
			&awss3.CreateBucketInput{Bucket: &bucket})
		if err != nil {
			t.Fatal(err)
		}
	}
	return &s3.Config{Region: "minio", Endpoint: endpoint, ChunkBucket: name + "-c",
		ManifestBucket: name + "-m"}
}

// TestMinio: a bucket that is well, and each way to set one up badly.
func TestMinio(t *testing.T) {
	endpoint := miniotest.Start(t)
	client := miniotest.Client(endpoint)
	config := func(t *testing.T, name string) *s3.Config {
		return bucketsOf(t, endpoint, name)
	}
	t.Run("well", func(t *testing.T) { healthy(t, look(t, config(t, "well"), writing)) })
	t.Run("read only", func(t *testing.T) {
		c := config(t, "quiet")
		healthy(t, look(t, c, probe.Options{PatrolDays: 7}))
		if there := storetest.Listed(t, storetest.Open(t, c).Targets[0].Chunks, "",
			10); there != nil {
			t.Errorf("it has put %v", there)
		}
	})
	t.Run("missing", func(t *testing.T) {
		c := &s3.Config{Region: "minio", Endpoint: endpoint, Bucket: "missing"}
		has(t, look(t, c, writing), probe.Unsafe, "reach", chunkstore.ErrNoBucket.Error())
	})
	t.Run("versioned", func(t *testing.T) {
		c := config(t, "versioned")
		miniotest.EnableVersioning(t, endpoint, c.ChunkBucket)
		has(t, look(t, c, writing), probe.Warning, "versioning", "for ever")
		expire(t, client, c.ChunkBucket, 0, 3)
		has(t, look(t, c, writing), probe.OK, "versioning", "keeps")
	})
	t.Run("locked", func(t *testing.T) {
		miniotest.MakeLocked(t, endpoint, "locked")
		c := &s3.Config{Region: "minio", Endpoint: endpoint, Bucket: "locked"}
		has(t, look(t, c, writing), probe.Warning, "object lock", "COMPLIANCE")
		has(t, look(t, c, probe.Options{Write: true}), probe.OK, "object lock", "1 days")
	})
	t.Run("expiry", func(t *testing.T) {
		c := config(t, "expiry")
		expire(t, client, c.ChunkBucket, 30, 0)
		has(t, look(t, c, writing), probe.OK, "lifecycle", "30 days")
		has(t, look(t, c, probe.Options{}), probe.Unsafe, "lifecycle", "patrol_days is 0")
		has(t, look(t, c, probe.Options{PatrolDays: 15}), probe.Unsafe, "lifecycle", "within 30")
		has(t, look(t, c, probe.Options{Lives: true}), probe.Unsafe, "lifecycle", "live here")
		expire(t, client, c.ManifestBucket, 365, 0)
		has(t, look(t, c, writing), probe.Unsafe, "lifecycle", "is lost")
	})
	t.Run("public", func(t *testing.T) {
		c := config(t, "public")
		_, err := client.PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{
			Bucket: &c.ChunkBucket, Policy: aws.String(`{"Version":"2012-10-17","Statement":[` +
				`{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],` +
				`"Resource":["arn:aws:s3:::public-c/*"]}]}`)})
		if err != nil {
			t.Fatal(err)
		}
		healthyOnce := look(t, c, writing) // makes the marker, by which it shows
		has(t, append(healthyOnce, look(t, c, writing)...), probe.Unsafe, "access", "anybody")
	})
}

// TestRights: what the credentials may do, and what answers in the place of a store.
func TestRights(t *testing.T) {
	endpoint := miniotest.Start(t)
	config := func(t *testing.T, name string) *s3.Config {
		return bucketsOf(t, endpoint, name)
	}
	t.Run("credentials", func(t *testing.T) {
		c := config(t, "rights")
		has(t, look(t, c, writing), probe.Note, "rights", "may delete")
		for _, env := range miniotest.ReadOnly(t, endpoint, c.ChunkBucket, c.ManifestBucket) {
			name, value, _ := strings.Cut(env, "=")
			t.Setenv(name, value)
		}
		healthy(t, look(t, c, probe.Options{}))
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		has(t, look(t, c, writing), probe.Unsafe, "reach", "")
	})
	t.Run("a portal", func(t *testing.T) {
		proxy := faultproxy.Start(t, endpoint)
		proxy.Set(func(int, *http.Request) faultproxy.Fault { return faultproxy.Fault{Page: true} })
		c := config(t, "portal")
		c.Endpoint = proxy.URL
		has(t, look(t, c, writing), probe.Unsafe, "reach", "not an S3 store's")
	})
}

// expire gives a bucket a rule.
func expire(t *testing.T, client *awss3.Client, bucket string, days, noncurrent int32) {
	t.Helper()
	rule := types.LifecycleRule{ID: aws.String("old"), Status: types.ExpirationStatusEnabled,
		Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")}}
	if days > 0 {
		rule.Expiration = &types.LifecycleExpiration{Days: &days}
	}
	if noncurrent > 0 {
		rule.NoncurrentVersionExpiration = &types.NoncurrentVersionExpiration{
			NoncurrentDays: &noncurrent}
	}
	_, err := client.PutBucketLifecycleConfiguration(t.Context(),
		&awss3.PutBucketLifecycleConfigurationInput{Bucket: &bucket,
			LifecycleConfiguration: &types.BucketLifecycleConfiguration{
				Rules: []types.LifecycleRule{rule}}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVersity: nothing is wrong with a versitygw, before and after there are buckets.
func TestVersity(t *testing.T) {
	endpoint := miniotest.StartVersity(t, "us-east-1")
	c := odds(endpoint)
	c.CreateBucketsOnDemand = true
	has(t, look(t, c, writing), probe.Note, "reach", "no bucket yet")
	healthy(t, look(t, c, writing))
}

// TestDirectory: a directory keeps everything.
func TestDirectory(t *testing.T) {
	healthy(t, look(t, &dir.Config{Path: t.TempDir()}, writing))
}

// TestEnded: an ended context is an error, and no finding.
func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	_, err := probe.Target(ctx, target, writing)
	storetest.MustBe(t, err, context.Canceled)
}
