package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
)

// Bucket is the conformance test of one bucket, which is empty; key(i) are keys that it takes.
func Bucket(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	t.Run("absent", func(t *testing.T) {
		_, err := b.Get(t.Context(), key(1), chunkstore.GetOptions{})
		MustBe(t, err, chunkstore.ErrAbsent)
		if !strings.Contains(err.Error(), b.String()) {
			t.Errorf("error %q does not name the bucket %q", err, b)
		}
		_, err = b.Stat(t.Context(), key(1))
		MustBe(t, err, chunkstore.ErrAbsent)
		if err := b.Delete(t.Context(), key(1)); err != nil {
			t.Errorf("delete: %v", err)
		}
		if keys := Listed(t, b, "", 100); len(keys) != 0 {
			t.Errorf("list: %v", keys)
		}
	})
	t.Run("put, get, stat", func(t *testing.T) { testPutGet(t, b, key) })
	t.Run("parts", func(t *testing.T) { testParts(t, b, key(60)) })
	t.Run("conditions", func(t *testing.T) { testConditions(t, b, key) })
	t.Run("one winner", func(t *testing.T) { testOneWinner(t, b, key(4)) })
	t.Run("list", func(t *testing.T) { testList(t, b, key) })
	t.Run("ended context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Get(ctx, key(2), chunkstore.GetOptions{})
		MustBe(t, err, context.Canceled)
		_, err = b.Put(ctx, key(6), []byte("x"), chunkstore.Condition{})
		MustBe(t, err, context.Canceled)
	})
	for _, o := range Listed(t, b, "", 100000) {
		if err := b.Delete(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
	}
	if keys := Listed(t, b, "", 100); len(keys) != 0 {
		t.Errorf("list after delete: %v", keys)
	}
}

func testPutGet(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	for _, body := range []string{"", "one", "two", string(Noise(1, 300_000))} {
		etag := MustPut(t, b, key(2), body, chunkstore.Condition{})
		o, err := b.Get(t.Context(), key(2), chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if string(o.Body) != body || o.Key != key(2) || o.Bytes != int64(len(body)) ||
			o.ETag != etag || o.Modified.IsZero() {
			t.Errorf("put %d bytes, ETag %s; got %d bytes: %+.200v", len(body), etag, len(o.Body),
				o)
		}
		stat, err := b.Stat(t.Context(), key(2))
		if err != nil {
			t.Fatal(err)
		}
		if stat.Body != nil || stat.Bytes != o.Bytes || stat.ETag != o.ETag || stat.Key != o.Key ||
			stat.Modified.IsZero() {
			t.Errorf("stat %+v", stat)
		}
		_, err = b.Get(t.Context(), key(2), chunkstore.GetOptions{IfNoneMatch: etag})
		MustBe(t, err, chunkstore.ErrUnmodified)
		if len(body) == 0 {
			continue
		}
		_, err = b.Get(t.Context(), key(2), chunkstore.GetOptions{BytesMax: int64(len(body)) - 1})
		MustBe(t, err, chunkstore.ErrCorrupt)
		if _, err = b.Get(t.Context(), key(2),
			chunkstore.GetOptions{BytesMax: int64(len(body)), IfNoneMatch: `"x"`}); err != nil {
			t.Errorf("get with BytesMax of the object's size: %v", err)
		}
	}
}

func testConditions(t *testing.T, b chunkstore.Bucket, key func(i int) string) {
	_, err := b.Put(t.Context(), key(3), []byte("a"),
		chunkstore.Condition{IfMatch: `"0123456789abcdef0123456789abcdef"`})
	MustBe(t, err, chunkstore.ErrConflict)
	first := MustPut(t, b, key(3), "a", chunkstore.Condition{IfNone: true})
	_, err = b.Put(t.Context(), key(3), []byte("b"), chunkstore.Condition{IfNone: true})
	MustBe(t, err, chunkstore.ErrConflict)
	second := MustPut(t, b, key(3), "b", chunkstore.Condition{IfMatch: first})
	_, err = b.Put(t.Context(), key(3), []byte("c"), chunkstore.Condition{IfMatch: first})
	MustBe(t, err, chunkstore.ErrConflict)
	o, err := b.Get(t.Context(), key(3), chunkstore.GetOptions{IfNoneMatch: first})
	if err != nil || string(o.Body) != "b" || o.ETag != second {
		t.Errorf("got %q, %s, %v; want b, %s", o.Body, o.ETag, err, second)
	}
	if err := b.Delete(t.Context(), key(3)); err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), key(3), []byte("d"), chunkstore.Condition{IfMatch: second})
	MustBe(t, err, chunkstore.ErrConflict)
	MustPut(t, b, key(3), "d", chunkstore.Condition{IfNone: true})
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
				etag, err := b.Put(t.Context(), key,
					fmt.Appendf(nil, "round %d, writer %d", round, i), cond)
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
		MustPut(t, b, key(i), "body", chunkstore.Condition{})
		want = append(want, key(i))
	}
	slices.Sort(want)
	var got []string
	for _, o := range Listed(t, b, "", 1000) {
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
	if got := Listed(t, b, want[7], 1000); len(got) != 1 || got[0].Key != want[7] {
		t.Errorf("prefix %q: listed %v", want[7], got)
	}
	for _, o := range Listed(t, b, want[7][:2], 1000) {
		if !strings.HasPrefix(o.Key, want[7][:2]) {
			t.Errorf("prefix %q: listed %q", want[7][:2], o.Key)
		}
	}
	if got := Listed(t, b, "", 3); len(got) != 3 {
		t.Errorf("listed %d objects after the third was the last wanted", len(got))
	}
}

// Versions holds whether or not an S3 bucket has versioning: the newest version is
// the present object, each that is listed can be had, others' keys have none of them.
func Versions(t *testing.T, b chunkstore.Versioned) {
	const key = "0000-key"
	bodies := []string{"first", "second", "third"}
	for _, body := range bodies {
		MustPut(t, b, key, body, chunkstore.Condition{})
	}
	MustPut(t, b, key+"-longer", "another", chunkstore.Condition{})
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
		if !slices.Contains(bodies, string(o.Body)) || i == 0 && string(o.Body) != "third" ||
			o.Bytes != v.Bytes || o.Key != key || o.Version != v.Version {
			t.Errorf("version %d %+v is %+v: %q", i, v, o, o.Body)
		}
		_, err = b.GetVersion(t.Context(), key, v.Version,
			chunkstore.GetOptions{IfNoneMatch: o.ETag})
		MustBe(t, err, chunkstore.ErrUnmodified)
		_, err = b.GetVersion(t.Context(), key, v.Version, chunkstore.GetOptions{BytesMax: 4})
		MustBe(t, err, chunkstore.ErrCorrupt)
	}
	never := func(o chunkstore.Object) bool {
		t.Errorf("listed %+v", o)
		return true
	}
	if err := b.ListVersions(t.Context(), "0000-ke", never); err != nil {
		t.Error(err)
	}
	if _, err := b.GetVersion(t.Context(), key, "../../chunks/x",
		chunkstore.GetOptions{}); err == nil {
		t.Error("a version that is a path was found")
	}
	for _, key := range []string{key, key + "-longer"} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

// LongKeys: a manifest's name may have 1,000 bytes.
func LongKeys(t *testing.T, b chunkstore.Bucket) {
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
		MustPut(t, b, key, key, chunkstore.Condition{IfNone: true})
	}
	slices.Sort(want)
	var got []string
	for _, o := range Listed(t, b, "", 100) {
		got = append(got, o.Key)
		full, err := b.Get(t.Context(), o.Key, chunkstore.GetOptions{})
		if err != nil || string(full.Body) != o.Key {
			t.Errorf("got %q, %v; want the key %q", full.Body, err, o.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q\nwant %q", got, want)
	}
	if got := Listed(t, b, strings.Repeat("a", 300), 100); len(got) != 2 {
		t.Errorf("prefix of 300 bytes: listed %d, want 2", len(got))
	}
	for _, key := range want {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}

func testParts(t *testing.T, b chunkstore.Bucket, key string) {
	part := func(off, n int64) (string, error) {
		opts := chunkstore.GetOptions{Offset: off, Length: n}
		o, err := b.Get(t.Context(), key, opts)
		if err == nil && (o.ETag != "" || o.Bytes != 10) {
			t.Errorf("part of %d bytes has ETag %q", o.Bytes, o.ETag)
		}
		return string(o.Body), err
	}
	_, err := part(0, 1)
	MustBe(t, err, chunkstore.ErrAbsent)
	MustPut(t, b, key, "0123456789", chunkstore.Condition{})
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, 1, "0"}, {3, 4, "3456"}, {9, 1, "9"}, {0, 10, "0123456789"}} {
		if got, err := part(c.off, c.n); err != nil || got != c.want {
			t.Errorf("%d bytes from %d: %q, %v", c.n, c.off, got, err)
		}
	}
	for _, off := range []int64{6, 10, 11, 1 << 40} {
		_, err := part(off, 5)
		MustBe(t, err, chunkstore.ErrCorrupt)
	}
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}
