package s3_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

func s3Target(endpoint string) *s3.Config {
	return &s3.Config{
		Region: "minio", Endpoint: endpoint,
		ChunkBucket: "chunks", ManifestBucket: "manifests",
		CreateBucketsOnDemand: true,
	}
}

func TestS3(t *testing.T) {
	endpoint := miniotest.Start(t)
	t.Run("conformance", func(t *testing.T) {
		target := storetest.Open(t, s3Target(endpoint)).Targets[0]
		storetest.Target(t, target)
		storetest.Log(t, func(name string) chunkstore.Log {
			return chunkstore.NewLog(target, name)
		})
	})
	t.Run("one bucket", func(t *testing.T) { testOneBucket(t, endpoint) })
	t.Run("missing bucket", func(t *testing.T) { testMissingBucket(t, endpoint) })
	t.Run("buckets made by several at once", func(t *testing.T) { testMakeBuckets(t, endpoint) })
	t.Run("wrong credentials", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-at-all")
		_, err := storetest.Open(t, s3Target(endpoint)).Targets[0].Manifests.Get(t.Context(), "k",
			chunkstore.GetOptions{})
		storetest.MustSay(t, err, "get k in s3 bucket manifests at "+endpoint,
			"SignatureDoesNotMatch (HTTP 403)")
		if strings.Contains(err.Error(), "not-the-secret-at-all") {
			t.Error("the secret is in the message")
		}
		for _, kind := range []error{chunkstore.ErrAbsent, chunkstore.ErrCorrupt,
			chunkstore.ErrConflict, chunkstore.ErrNoBucket} {
			if errors.Is(err, kind) {
				t.Errorf("%v is %v", err, kind)
			}
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		_, err := storetest.Open(t, s3Target(endpoint)).Targets[0].Manifests.Get(t.Context(), "k",
			chunkstore.GetOptions{})
		storetest.MustSay(t, err, "s3 bucket manifests at "+endpoint, "no AWS credentials")
	})
}

// TestOtherS3Conformance runs on the server at VERNEUIL_TEST_S3, with the
// credentials in the environment, in empty buckets: versitygw, or S3 itself.
func TestOtherS3Conformance(t *testing.T) {
	endpoint := os.Getenv("VERNEUIL_TEST_S3")
	if endpoint == "" {
		t.Skip("VERNEUIL_TEST_S3 names no endpoint")
	}
	cfg := s3Target(endpoint)
	cfg.Region = cmp.Or(os.Getenv("AWS_REGION"), "us-east-1")
	cfg.ChunkBucket, cfg.ManifestBucket = "verneuil-test-chunks", "verneuil-test-manifests"
	target := storetest.Open(t, cfg).Targets[0]
	storetest.Target(t, target)
	storetest.Log(t, func(name string) chunkstore.Log {
		return chunkstore.NewLog(target, name)
	})
	testOneBucket(t, endpoint)
	testMissingBucket(t, endpoint)
}

func testMissingBucket(t *testing.T, endpoint string) {
	cfg := s3Target(endpoint)
	cfg.Region = cmp.Or(os.Getenv("AWS_REGION"), "us-east-1")
	cfg.ChunkBucket, cfg.ManifestBucket = "nobody-made-this", "nor-this"
	empty := storetest.Open(t, cfg).Targets[0] // would be made on demand: an empty one
	existing := *cfg
	existing.CreateBucketsOnDemand = false
	missing := storetest.Open(t, &existing).Targets[0]
	calls := map[string]func(b chunkstore.Bucket) error{
		"get": func(b chunkstore.Bucket) error {
			_, err := b.Get(t.Context(), "k", chunkstore.GetOptions{})
			return err
		},
		"stat": func(b chunkstore.Bucket) error {
			_, err := b.Stat(t.Context(), "k")
			return err
		},
		"list":   func(b chunkstore.Bucket) error { return b.List(t.Context(), "", nil) },
		"delete": func(b chunkstore.Bucket) error { return b.Delete(t.Context(), "k") },
	}
	for name, call := range calls {
		err := call(missing.Chunks)
		if !errors.Is(err, chunkstore.ErrNoBucket) || errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: error %v; want ErrNoBucket and not ErrAbsent", name, err)
		}
		storetest.MustSay(t, err, "nobody-made-this", endpoint)
		err = call(empty.Chunks)
		if wantAbsent := name == "get" || name == "stat"; errors.Is(err,
			chunkstore.ErrAbsent) != wantAbsent || !wantAbsent && err != nil {
			t.Errorf("%s on demand: error %v", name, err)
		}
	}
	_, err := missing.Chunks.Put(t.Context(), "k", nil, chunkstore.Condition{})
	storetest.MustBe(t, err, chunkstore.ErrNoBucket)
}

// testOneBucket: in one bucket, and under prefixes in it, chunks and manifests keep apart, and so
// do targets whose prefixes begin alike or contain each other; what a console leaves there is none
// of ours.
func testOneBucket(t *testing.T, endpoint string) {
	configs := []s3.Config{
		{Bucket: "all-in-one"},
		{Bucket: "all-in-one", Prefix: "app"},
		{ChunkBucket: "all-in-one", ManifestBucket: "all-in-one", Prefix: "app/two words, 100%+/"},
		{ChunkBucket: "all-in-one", ManifestBucket: "manifests-apart", Prefix: "chunks/app2"},
	}
	var targets []*chunkstore.Target
	for i, c := range configs {
		c.Region, c.Endpoint, c.CreateBucketsOnDemand = "us-east-1", endpoint, true
		target := storetest.Open(t, &c).Targets[0]
		if i == 2 { // with the oddest prefix
			storetest.Target(t, target)
		}
		targets = append(targets, target)
	}
	raw, err := s3.NewBucket(s3.Config{Region: "us-east-1", Endpoint: endpoint, Prefix: "ignored"},
		"all-in-one",
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"chunks/", "manifests/", "app/", "app/chunks/",
		"app/manifests/", "app/manifests/x/y"} {
		storetest.MustPut(t, raw, folder, "", chunkstore.Condition{})
	}
	var packs []chunkstore.Digest
	for i, target := range targets {
		packs = append(packs, storetest.PutObjects(t, target, []byte{byte(i)})[0].Place.Pack)
		storetest.MustPut(t, target.Manifests, fmt.Sprint("manifest-", i), "m",
			chunkstore.Condition{})
		if _, err := target.Chunks.Put(t.Context(), "only-a-chunk", nil,
			chunkstore.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, target := range targets {
		keys := func(b chunkstore.Bucket) (keys []string) {
			for _, o := range storetest.Listed(t, b, "", 1000) {
				keys = append(keys, o.Key)
			}
			return keys
		}
		want := []string{packs[i].String(), "only-a-chunk"}
		if got := keys(target.Chunks); !slices.Contains(got, want[0]) ||
			!slices.Contains(got, want[1]) ||
			slices.ContainsFunc(got, func(k string) bool {
				return k == "" || strings.Contains(k, "/") || strings.HasPrefix(k, "manifest-")
			}) {
			t.Errorf("%s: chunks %q, want %q among them, and no manifest", target.Name, got, want)
		}
		if got := keys(target.Manifests); !slices.Contains(got, fmt.Sprint("manifest-", i)) ||
			len(got) != 1+otherManifests(got) ||
			slices.ContainsFunc(got, func(k string) bool { return strings.Contains(k, "/") }) {
			t.Errorf("%s: manifests %q", target.Name, got)
		}
		_, err := target.Manifests.Get(t.Context(), "only-a-chunk", chunkstore.GetOptions{})
		storetest.MustBe(t, err, chunkstore.ErrAbsent)
	}
	// What a URI names is the whole key.
	o, err := raw.Get(t.Context(), "app/two words, 100%+/manifests/manifest-2",
		chunkstore.GetOptions{})
	if err != nil || string(o.Body) != "m" {
		t.Errorf("by its whole key: %q, %v", o.Body, err)
	}
}

// otherManifests counts the keys that the conformance test leaves behind.
func otherManifests(keys []string) (n int) {
	for _, k := range keys {
		if !strings.HasPrefix(k, "manifest-") {
			n++
		}
	}
	return n
}

func testMakeBuckets(t *testing.T, endpoint string) {
	cfg := s3Target(endpoint)
	cfg.ChunkBucket, cfg.ManifestBucket = "many-make-this", "and-this"
	var all sync.WaitGroup
	for range 3 {
		target := storetest.Open(t, cfg).Targets[0]
		for i := range 4 {
			all.Go(func() {
				if _, err := target.Chunks.Put(t.Context(), fmt.Sprint(i), nil,
					chunkstore.Condition{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
}

// TestOtherRecord: a record that was lost, and whose place another one has taken, is listed as
// another.
func TestOtherRecord(t *testing.T) {
	target := storetest.Open(t, s3Target(miniotest.Start(t))).Targets[0]
	log := chunkstore.NewLog(target, "others")
	for n := range uint64(4) {
		if err := log.Append(t.Context(), n+1, []byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
	}
	key := chunkstore.RecordKey("others", 3)
	if err := target.Chunks.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	storetest.MustPut(t, target.Chunks, key, "another's", chunkstore.Condition{IfNone: true})
	others := func() (all []uint64) {
		if err := log.List(t.Context(), 1, 9, func(e chunkstore.LogEntry) bool {
			if e.Other {
				all = append(all, e.Number)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := others(); !slices.Equal(got, []uint64{3}) {
		t.Errorf("listed as others: %d", got)
	}
	mine := log
	log = chunkstore.NewLog(target, "others") // it has read none
	if got := others(); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("not read, and listed as others: %d", got)
	}
	known := log.(chunkstore.Tagged)
	known.Know(1, "", []byte{0})
	known.Know(2, mine.(chunkstore.Tagged).Tag(2), nil)
	known.Know(4, "", []byte("something else"))
	if got := others(); !slices.Equal(got, []uint64{3, 4}) {
		t.Errorf("known from elsewhere, and listed as others: %d", got)
	}
	log = mine
	if _, err := log.Read(t.Context(), 3, 1); err != nil {
		t.Fatal(err)
	}
	if got := others(); got != nil {
		t.Errorf("read, and listed as others: %d", got)
	}
}
