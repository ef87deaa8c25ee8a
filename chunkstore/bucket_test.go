package chunkstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
)

func open(t testing.TB, cfgs ...chunkstore.TargetConfig) *chunkstore.Store {
	t.Helper()
	s, err := chunkstore.Open(t.Context(), cfgs, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dirTarget(t testing.TB, path string) chunkstore.TargetConfig {
	t.Helper()
	return chunkstore.TargetConfig{Dir: &chunkstore.DirConfig{Path: path}}
}

// testTarget is the conformance test: what every target's buckets do alike.
func testTarget(t *testing.T, target *chunkstore.Target) {
	t.Run("chunks", func(t *testing.T) {
		testBucket(t, target.Chunks, func(i int) string { return chunkstore.Sum([]byte{byte(i)}).String() })
	})
	t.Run("manifests", func(t *testing.T) {
		testBucket(t, target.Manifests, func(i int) string { return fmt.Sprintf("%04x-verneuil%%3Ahost%%3A%%2F%%2Fa+b(c)*'!~", i) })
	})
	t.Run("versions", func(t *testing.T) { testVersions(t, target.Manifests.(chunkstore.Versioned)) })
	t.Run("target", func(t *testing.T) { testPutGetChunk(t, target) })
	t.Run("batch", func(t *testing.T) { testBatch(t, target) })
	t.Run("touch", func(t *testing.T) { testTouch(t, target) })
}

func mustPut(t *testing.T, b chunkstore.Bucket, key, body string, cond chunkstore.Condition) string {
	t.Helper()
	etag, err := b.Put(t.Context(), key, []byte(body), cond)
	if err != nil {
		t.Fatal(err)
	}
	return etag
}

func mustBe(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v; want one that is %q", err, kind)
	}
}

func testBucket(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	t.Run("absent", func(t *testing.T) {
		_, err := b.Get(t.Context(), key(1), chunkstore.GetOptions{})
		mustBe(t, err, chunkstore.ErrAbsent)
		if !strings.Contains(err.Error(), b.String()) {
			t.Errorf("error %q does not name the bucket %q", err, b)
		}
		_, err = b.Stat(t.Context(), key(1))
		mustBe(t, err, chunkstore.ErrAbsent)
		if err := b.Delete(t.Context(), key(1)); err != nil {
			t.Errorf("delete: %v", err)
		}
		if keys := listed(t, b, "", 100); len(keys) != 0 {
			t.Errorf("list: %v", keys)
		}
	})
	t.Run("put, get, stat", func(t *testing.T) { testPutGet(t, b, key) })
	t.Run("conditions", func(t *testing.T) { testConditions(t, b, key) })
	t.Run("one winner", func(t *testing.T) { testOneWinner(t, b, key(4)) })
	t.Run("list", func(t *testing.T) { testList(t, b, key) })
	t.Run("ended context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Get(ctx, key(2), chunkstore.GetOptions{})
		mustBe(t, err, context.Canceled)
		_, err = b.Put(ctx, key(6), []byte("x"), chunkstore.Condition{})
		mustBe(t, err, context.Canceled)
	})
	for _, o := range listed(t, b, "", 100000) {
		if err := b.Delete(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
	}
	if keys := listed(t, b, "", 100); len(keys) != 0 {
		t.Errorf("list after delete: %v", keys)
	}
}

// testVersions holds whether or not an S3 bucket has versioning: the newest version is
// the present object, each that is listed can be had, others' keys have none of them.
func testVersions(t *testing.T, b chunkstore.Versioned) {
	const key = "0000-key"
	bodies := []string{"first", "second", "third"}
	for _, body := range bodies {
		mustPut(t, b, key, body, chunkstore.Condition{})
	}
	mustPut(t, b, key+"-longer", "another", chunkstore.Condition{})
	var versions []chunkstore.Object
	err := b.ListVersions(t.Context(), key, func(o chunkstore.Object) bool {
		versions = append(versions, o)
		return true
	})
	if err != nil || len(versions) == 0 {
		t.Fatalf("%d versions, %v", len(versions), err)
	}
	for i, v := range versions {
		o, err := b.GetVersion(t.Context(), key, v.Version, chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(bodies, string(o.Body)) || i == 0 && string(o.Body) != "third" || o.Bytes != v.Bytes || o.Key != key || o.Version != v.Version {
			t.Errorf("version %d %+v is %+v: %q", i, v, o, o.Body)
		}
		_, err = b.GetVersion(t.Context(), key, v.Version, chunkstore.GetOptions{IfNoneMatch: o.ETag})
		mustBe(t, err, chunkstore.ErrUnmodified)
		_, err = b.GetVersion(t.Context(), key, v.Version, chunkstore.GetOptions{BytesMax: 4})
		mustBe(t, err, chunkstore.ErrCorrupt)
	}
	never := func(o chunkstore.Object) bool {
		t.Errorf("listed %+v", o)
		return true
	}
	if err := b.ListVersions(t.Context(), "0000-ke", never); err != nil {
		t.Error(err)
	}
	if _, err := b.GetVersion(t.Context(), key, "../../chunks/x", chunkstore.GetOptions{}); err == nil {
		t.Error("a version that is a path was found")
	}
	for _, key := range []string{key, key + "-longer"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

func testPutGet(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	for _, body := range []string{"", "one", "two", string(noise(1, 300_000))} {
		etag := mustPut(t, b, key(2), body, chunkstore.Condition{})
		o, err := b.Get(t.Context(), key(2), chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if string(o.Body) != body || o.Key != key(2) || o.Bytes != int64(len(body)) || o.ETag != etag || o.Modified.IsZero() {
			t.Errorf("put %d bytes, ETag %s; got %d bytes: %+.200v", len(body), etag, len(o.Body), o)
		}
		stat, err := b.Stat(t.Context(), key(2))
		if err != nil {
			t.Fatal(err)
		}
		if stat.Body != nil || stat.Bytes != o.Bytes || stat.ETag != o.ETag || stat.Key != o.Key || stat.Modified.IsZero() {
			t.Errorf("stat %+v", stat)
		}
		_, err = b.Get(t.Context(), key(2), chunkstore.GetOptions{IfNoneMatch: etag})
		mustBe(t, err, chunkstore.ErrUnmodified)
		if len(body) == 0 {
			continue
		}
		_, err = b.Get(t.Context(), key(2), chunkstore.GetOptions{BytesMax: int64(len(body)) - 1})
		mustBe(t, err, chunkstore.ErrCorrupt)
		if _, err = b.Get(t.Context(), key(2), chunkstore.GetOptions{BytesMax: int64(len(body)), IfNoneMatch: `"x"`}); err != nil {
			t.Errorf("get with BytesMax of the object's size: %v", err)
		}
	}
}

func testConditions(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	_, err := b.Put(t.Context(), key(3), []byte("a"), chunkstore.Condition{IfMatch: `"0123456789abcdef0123456789abcdef"`})
	mustBe(t, err, chunkstore.ErrConflict)
	first := mustPut(t, b, key(3), "a", chunkstore.Condition{IfNone: true})
	_, err = b.Put(t.Context(), key(3), []byte("b"), chunkstore.Condition{IfNone: true})
	mustBe(t, err, chunkstore.ErrConflict)
	second := mustPut(t, b, key(3), "b", chunkstore.Condition{IfMatch: first})
	_, err = b.Put(t.Context(), key(3), []byte("c"), chunkstore.Condition{IfMatch: first})
	mustBe(t, err, chunkstore.ErrConflict)
	o, err := b.Get(t.Context(), key(3), chunkstore.GetOptions{IfNoneMatch: first})
	if err != nil || string(o.Body) != "b" || o.ETag != second {
		t.Errorf("got %q, %s, %v; want b, %s", o.Body, o.ETag, err, second)
	}
	if err := b.Delete(t.Context(), key(3)); err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), key(3), []byte("d"), chunkstore.Condition{IfMatch: second})
	mustBe(t, err, chunkstore.ErrConflict)
	mustPut(t, b, key(3), "d", chunkstore.Condition{IfNone: true})
}

// testOneWinner: of several conditional Puts against the same state, one holds.
func testOneWinner(t *testing.T, b chunkstore.Bucket, key string) {
	cond := chunkstore.Condition{IfNone: true}
	for round := range 5 {
		var winners atomic.Int64
		var won atomic.Pointer[string]
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				etag, err := b.Put(t.Context(), key, fmt.Appendf(nil, "round %d, writer %d", round, i), cond)
				if err == nil {
					winners.Add(1)
					won.Store(&etag)
				} else if !errors.Is(err, chunkstore.ErrConflict) {
					t.Errorf("error %v; want ErrConflict", err)
				}
			})
		}
		all.Wait()
		if winners.Load() != 1 {
			t.Fatalf("round %d: %d winners", round, winners.Load())
		}
		cond = chunkstore.Condition{IfMatch: *won.Load()}
	}
}

func testList(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	var want []string
	for i := 10; i < 30; i++ {
		mustPut(t, b, key(i), "body", chunkstore.Condition{})
		want = append(want, key(i))
	}
	slices.Sort(want)
	var got []string
	for _, o := range listed(t, b, "", 1000) {
		if slices.Contains(want, o.Key) {
			got = append(got, o.Key)
			if o.Bytes != 4 || o.Modified.IsZero() || o.Body != nil {
				t.Errorf("listed %+v", o)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q\nwant %q", got, want)
	}
	if got := listed(t, b, want[7], 1000); len(got) != 1 || got[0].Key != want[7] {
		t.Errorf("prefix %q: listed %v", want[7], got)
	}
	for _, o := range listed(t, b, want[7][:2], 1000) {
		if !strings.HasPrefix(o.Key, want[7][:2]) {
			t.Errorf("prefix %q: listed %q", want[7][:2], o.Key)
		}
	}
	if got := listed(t, b, "", 3); len(got) != 3 {
		t.Errorf("listed %d objects after the third was the last wanted", len(got))
	}
}

func listed(t *testing.T, b chunkstore.Bucket, prefix string, most int) []chunkstore.Object {
	t.Helper()
	var objects []chunkstore.Object
	err := b.List(t.Context(), prefix, func(o chunkstore.Object) bool {
		objects = append(objects, o)
		return len(objects) < most
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// testLongKeys: a manifest's name may have 1,000 bytes.
func testLongKeys(t *testing.T, b chunkstore.Bucket) {
	want := []string{
		strings.Repeat("a", 200),
		strings.Repeat("a", 200) + ".",
		strings.Repeat("a", 200) + "..%2F",
		strings.Repeat("a", 201),
		strings.Repeat("a", 400) + ".",
		strings.Repeat("a", 1000),
		strings.Repeat("a", 199) + "b",
		strings.Repeat("a", 199) + "~~",
		strings.Repeat("%2F", 300),
	}
	for _, key := range want {
		mustPut(t, b, key, key, chunkstore.Condition{IfNone: true})
	}
	slices.Sort(want)
	var got []string
	for _, o := range listed(t, b, "", 100) {
		got = append(got, o.Key)
		full, err := b.Get(t.Context(), o.Key, chunkstore.GetOptions{})
		if err != nil || string(full.Body) != o.Key {
			t.Errorf("got %q, %v; want the key %q", full.Body, err, o.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q\nwant %q", got, want)
	}
	if got := listed(t, b, strings.Repeat("a", 300), 100); len(got) != 2 {
		t.Errorf("prefix of 300 bytes: listed %d, want 2", len(got))
	}
	for _, key := range want {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

func testPutGetChunk(t *testing.T, target *chunkstore.Target) {
	ctx := t.Context()
	for _, plain := range [][]byte{{}, []byte("x"), text(9, chunkstore.ChunkBytes), noise(9, chunkstore.ChunkBytes)} {
		id := chunkstore.Sum(plain)
		if has, err := target.HasChunk(ctx, id); has || err != nil {
			t.Errorf("has %v before put: %v, %v", id, has, err)
		}
		_, err := target.GetChunk(ctx, id)
		mustBe(t, err, chunkstore.ErrAbsent)
		n, err := target.PutChunk(ctx, id, plain)
		if err != nil || n < 8 || n > len(plain)+8 {
			t.Errorf("put chunk of %d bytes: %d, %v", len(plain), n, err)
		}
		if has, err := target.HasChunk(ctx, id); !has || err != nil {
			t.Errorf("has %v after put: %v, %v", id, has, err)
		}
		got, err := target.GetChunk(ctx, id)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(plain))
		}
	}
	// I2, and the chunk that is never stored.
	if _, err := target.PutChunk(ctx, chunkstore.Sum([]byte("a")), []byte("b")); err == nil {
		t.Error("put bytes under another's ID")
	}
	if n, err := target.PutChunk(ctx, chunkstore.ZeroID, make([]byte, chunkstore.ChunkBytes)); n != 0 || err != nil {
		t.Errorf("put zeros: %d, %v", n, err)
	}
	if has, err := target.HasChunk(ctx, chunkstore.ZeroID); !has || err != nil {
		t.Errorf("has zeros: %v, %v", has, err)
	}
	if got, err := target.GetChunk(ctx, chunkstore.ZeroID); err != nil || !bytes.Equal(got, make([]byte, chunkstore.ChunkBytes)) {
		t.Errorf("get zeros: %d bytes, %v", len(got), err)
	}
	if _, err := target.Chunks.Stat(ctx, chunkstore.ZeroID.String()); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("the chunk of zeros was stored: %v", err)
	}
}

// untouchable hides all but [chunkstore.Bucket] of a bucket.
type untouchable struct{ chunkstore.Bucket }

// testTouch: a touch makes an object newer, and nothing else; also where the bucket
// cannot do it.
func testTouch(t *testing.T, target *chunkstore.Target) {
	ctx, end := context.WithTimeout(t.Context(), 20*time.Minute)
	defer end()
	plain := text(11, chunkstore.ChunkBytes)
	id := chunkstore.Sum(plain)
	if _, ok := target.Chunks.(chunkstore.Toucher); !ok {
		t.Fatalf("%v cannot touch", target.Chunks)
	}
	for _, target := range []*chunkstore.Target{target, chunkstore.NewTarget("bare", untouchable{target.Chunks}, nil)} {
		mustBe(t, target.TouchChunk(ctx, id), chunkstore.ErrAbsent)
		if _, err := target.Chunks.Stat(ctx, id.String()); !errors.Is(err, chunkstore.ErrAbsent) {
			t.Fatalf("there is an object because it was touched: %v", err)
		}
		if _, err := target.PutChunk(ctx, id, plain); err != nil {
			t.Fatal(err)
		}
		put, err := target.Chunks.Stat(ctx, id.String())
		if err != nil {
			t.Fatal(err)
		}
		touched := put
		for !touched.Modified.After(put.Modified) { // S3 tells time by seconds; versitygw needs s3CopyMax
			if err := target.TouchChunk(ctx, id); err != nil {
				t.Fatal(err)
			}
			if touched, err = target.Chunks.Stat(ctx, id.String()); err != nil {
				t.Fatal(err)
			}
		}
		if touched.ETag != put.ETag || touched.Bytes != put.Bytes {
			t.Errorf("touched %+v; it was %+v", touched, put)
		}
		if got, err := target.GetChunk(ctx, id); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("after a touch: %d bytes, %v", len(got), err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		mustBe(t, target.TouchChunk(ended, id), context.Canceled)
		if err := target.Chunks.Delete(ctx, id.String()); err != nil {
			t.Fatal(err)
		}
	}
	if err := target.TouchChunk(ctx, chunkstore.ZeroID); err != nil {
		t.Errorf("touch the chunk of zeros: %v", err)
	}
}
