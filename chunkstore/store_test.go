package chunkstore_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/faultbucket"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

func dirTarget(path string) chunkstore.TargetConfig { return &dir.Config{Path: path} }

func s3Target() *s3.Config {
	return &s3.Config{Region: "minio", Endpoint: "http://127.0.0.1:1", ChunkBucket: "chunks",
		ManifestBucket: "manifests"}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		cfg  chunkstore.TargetConfig
		want string
	}{
		{&dir.Config{}, "replication_targets[1].dir.path: missing"},
		{dirTarget("/x/y/.."),
			"replication_targets[1]: is the same place as replication_targets[0]"},
		{&cache.Local{NumShards: 1, Capacity: 1},
			"replication_targets[1].local.directory: missing"},
		{&cache.Local{Directory: "d", NumShards: -1, Capacity: 1},
			"replication_targets[1].local.num_shards: -1"},
		{&cache.Local{Directory: "d", NumShards: 1}, "replication_targets[1].local.capacity: 0"},
		{&cache.Local{Directory: "d", NumShards: 8, Capacity: 7},
			"replication_targets[1].local.capacity: 7"},
		{&cache.ReadOnly{}, "replication_targets[1].read_only.directory: missing"},
		{&cache.ReadOnly{Directory: "d", NumShards: 1 << 20},
			"replication_targets[1].read_only.num_shards: 1048576"},
	}
	for _, c := range cases {
		_, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget("/x"), c.cfg},
			chunkstore.Options{})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("error %v\nwant  %s…", err, c.want)
		}
	}
}

// TestSamePlace: targets that would take each other for another writer, or each other's chunks for
// manifests, are refused; those that only share a bucket are not.
func TestSamePlace(t *testing.T) {
	two := func(endpoint, chunks, manifests, prefix string) chunkstore.TargetConfig {
		return &s3.Config{Region: "r", Endpoint: endpoint, ChunkBucket: chunks,
			ManifestBucket: manifests, Prefix: prefix}
	}
	one := func(bucket, prefix string) chunkstore.TargetConfig {
		return &s3.Config{Region: "r", Endpoint: "http://h", Bucket: bucket, Prefix: prefix}
	}
	for _, c := range []struct {
		a, b chunkstore.TargetConfig
		want string
	}{
		{two("http://h", "c", "m", ""), two("http://h", "c", "m", ""), "is the same place"},
		{two("http://h", "c", "m", "p"), two("http://H/", "c2", "m", "p/"), "is the same place"},
		{one("b", ""), two("http://h", "b", "b", ""), "is the same place"},
		{two("http://h", "c", "m", ""), two("http://h", "c2", "c", ""),
			"keeps its manifests where replication_targets[0] has its chunks"},
		{two("http://h", "c", "m", ""), two("http://h", "m", "m2", ""),
			"keeps its chunks where replication_targets[0] has its manifests"},
		{one("b", ""), one("b", "p"), ""},
		{one("b", "p"), one("b", "pp"), ""},
		{two("http://h", "c", "m", ""), two("http://h", "c", "m2", ""), ""},
		{two("http://h", "c", "m", ""), two("http://other", "c", "m", ""), ""},
	} {
		_, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{c.a, c.b},
			chunkstore.Options{})
		if (err == nil) != (c.want == "") || err != nil &&
			!strings.Contains(err.Error(), "replication_targets[1]: "+c.want) {
			t.Errorf("%+v and %+v: %v, want %q", c.a, c.b, err, c.want)
		}
	}
}

func TestOpenTouchesNothing(t *testing.T) {
	root := t.TempDir()
	s := storetest.Open(t, dirTarget(root+"/dir"), s3Target(),
		&cache.Local{Directory: root + "/cache", NumShards: 1, Capacity: 10},
		&cache.ReadOnly{Directory: root + "/ro"})
	if len(s.Targets) != 2 || s.Calls() != 0 {
		t.Errorf("%d targets, %d calls", len(s.Targets), s.Calls())
	}
	if got := storetest.FilesIn(t, root); len(got) != 0 {
		t.Errorf("files made: %v", got)
	}
}

func TestStoreWithoutTargets(t *testing.T) {
	s := storetest.Open(t)
	zeros := chunkstore.Ref{ID: chunkstore.ZeroID}
	if got, err := s.GetObject(t.Context(), nil, zeros); err != nil ||
		len(got) != chunkstore.ChunkBytes {
		t.Errorf("zeros: %d bytes, %v", len(got), err)
	}
	somewhere := chunkstore.Ref{Place: chunkstore.Place{Offset: 44, Bytes: 8}}
	_, err := s.GetObject(t.Context(), nil, somewhere)
	storetest.MustSay(t, err, "no target")
	_, _, err = s.GetManifest(t.Context(), "k", chunkstore.GetOptions{}, whole)
	storetest.MustSay(t, err, "no target")
}

// twoTargets returns a Store on two directories, the first one's plan of faults,
// and the first one's file of the pack called name.
func twoTargets(t *testing.T,
	name chunkstore.Digest) (s *chunkstore.Store, plan *faultbucket.Plan, file string) {
	t.Helper()
	root, key := t.TempDir(), name.String()
	inner := storetest.Open(t, dirTarget(root+"/1"), dirTarget(root+"/2"))
	plan = &faultbucket.Plan{}
	s = chunkstore.NewStore(plan.Target(inner.Targets[0]), inner.Targets[1])
	return s, plan, filepath.Join(root, "1", "chunks", key[:2], key)
}

// bypassed is an object that tests put to targets, damage, and get from a store.
type bypassed struct {
	*testing.T
	plain []byte
	ref   chunkstore.Ref
}

// bypass returns an object to put.
func bypass(t *testing.T) bypassed {
	plain := storetest.Text(1, 5000)
	p, refs := storetest.PackOf(chunkstore.Plain{}, plain)
	_, _, places := p.Encode(chunkstore.Plain{})
	refs[0].Place = places[0]
	return bypassed{t, plain, refs[0]}
}

func (b bypassed) put(target *chunkstore.Target) {
	b.Helper()
	if refs := storetest.PutObjects(b, target, b.plain); refs[0] != b.ref {
		b.Fatalf("put at %v, not %v", refs[0], b.ref)
	}
}

func (b bypassed) damage(file string) {
	b.Helper()
	if err := os.WriteFile(file, []byte("VRNC"), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b bypassed) get(s *chunkstore.Store) error {
	b.Helper()
	got, err := s.GetObject(b.Context(), nil, b.ref)
	if err == nil && !bytes.Equal(got, b.plain) {
		b.Errorf("got %d other bytes", len(got))
	}
	return err
}

func TestStoreBypassesTargets(t *testing.T) {
	run := func(name string, test func(t bypassed)) {
		t.Run(name, func(t *testing.T) { test(bypass(t)) })
	}
	run("absent in the first", func(t bypassed) {
		s, _, _ := twoTargets(t.T, t.ref.Place.Pack)
		t.put(s.Targets[1])
		if err := t.get(s); err != nil {
			t.Error(err)
		}
	})
	run("damaged in the first", func(t bypassed) {
		s, _, file := twoTargets(t.T, t.ref.Place.Pack)
		t.put(s.Targets[0])
		t.put(s.Targets[1])
		t.damage(file)
		if err := t.get(s); err != nil {
			t.Error(err)
		}
	})
	run("first fails", func(t bypassed) {
		s, plan, _ := twoTargets(t.T, t.ref.Place.Pack)
		t.put(s.Targets[1])
		plan.At, plan.ForGood = 1, true
		if err := t.get(s); err != nil {
			t.Error(err)
		}
	})
	run("absent everywhere", func(t bypassed) {
		s, _, _ := twoTargets(t.T, t.ref.Place.Pack)
		err := t.get(s)
		storetest.MustBe(t.T, err, chunkstore.ErrAbsent)
		storetest.MustSay(t.T, err, t.ref.ID.String(), s.Targets[0].Name, s.Targets[1].Name)
	})
	run("damaged, and absent", func(t bypassed) {
		s, _, file := twoTargets(t.T, t.ref.Place.Pack)
		t.put(s.Targets[0])
		t.damage(file)
		err := t.get(s)
		storetest.MustBe(t.T, err, chunkstore.ErrCorrupt)
		if errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%v is ErrAbsent", err)
		}
		storetest.MustSay(t.T, err, t.ref.ID.String(), s.Targets[0].Name, s.Targets[1].Name)
	})
	run("unknown, and absent", func(t bypassed) {
		s, plan, _ := twoTargets(t.T, t.ref.Place.Pack)
		plan.At, plan.ForGood = 1, true
		err := t.get(s)
		storetest.MustBe(t.T, err, faultbucket.ErrInjected)
		if errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%v is ErrAbsent, but the first target might have it", err)
		}
	})
}

// A target that does not answer, or fails, is bypassed, and not asked first again at once.
func TestStoreBypassesFailing(t *testing.T) {
	for _, how := range []string{"hangs", "fails"} {
		object := bypass(t)
		inner, plan, _ := twoTargets(t, object.ref.Place.Pack)
		for _, target := range inner.Targets {
			object.put(target)
			storetest.MustPut(t, target.Manifests, "k", "content", chunkstore.Condition{})
		}
		first := inner.Targets[0]
		asked := plan.Calls()
		if how == "fails" {
			plan.At, plan.ForGood = 1, true
		} else { // the plan counts its calls, too
			first = chunkstore.NewTarget("first", hanging{first.Chunks}, hanging{first.Manifests})
		}
		s := chunkstore.NewStore(first, inner.Targets[1])
		s.SlowAfter(time.Hour)
		if how == "hangs" {
			s.SlowAfter(1)
		}
		for range 10 {
			if err := object.get(s); err != nil {
				t.Errorf("first %s: %v", how, err)
			}
			s.SlowAfter(time.Hour) // it is known now; from here on it would be waited for
			if o, target, err := s.GetManifest(t.Context(), "k", chunkstore.GetOptions{},
				whole); err != nil || string(o.Body) != "content" || target != inner.Targets[1] {
				t.Errorf("first %s: %q from %v, %v", how, o.Body, target, err)
			}
		}
		if n := plan.Calls() - asked; how == "fails" && n != 1 {
			t.Errorf("the first target, which fails, was asked %d times, want once", n)
		}
	}
}

// A clock that was set back does not make a target suspect for as long.
func TestStoreClockSetBack(t *testing.T) {
	inner, _, _ := twoTargets(t, chunkstore.Sum(nil))
	for _, target := range inner.Targets {
		storetest.MustPut(t, target.Manifests, "k", "content", chunkstore.Condition{})
	}
	for ago, want := range map[time.Duration]int{time.Second: 1, -time.Hour: 0} {
		inner.Targets[0].Failed(time.Now().Add(-ago))
		if _, target, err := inner.GetManifest(t.Context(), "k", chunkstore.GetOptions{},
			whole); err != nil || target != inner.Targets[want] {
			t.Errorf("the first failed %v ago: %v answers, %v; want the one at %d", ago, target,
				err, want)
		}
	}
}

// hanging is a Bucket whose Gets do not answer.
type hanging struct{ chunkstore.Bucket }

func (hanging) Get(ctx context.Context, _ string,
	_ chunkstore.GetOptions) (chunkstore.Object, error) {
	<-ctx.Done()
	return chunkstore.Object{}, ctx.Err()
}

func TestGetManifest(t *testing.T) {
	s, plan, _ := twoTargets(t, chunkstore.Sum(nil))
	_, _, err := s.GetManifest(t.Context(), "k", chunkstore.GetOptions{}, whole)
	storetest.MustBe(t, err, chunkstore.ErrAbsent)
	storetest.MustPut(t, s.Targets[1].Manifests, "k", "second", chunkstore.Condition{})
	o, target, err := s.GetManifest(t.Context(), "k", chunkstore.GetOptions{}, whole)
	if err != nil || string(o.Body) != "second" || target != s.Targets[1] {
		t.Errorf("got %q from %v, %v", o.Body, target, err)
	}
	etag := storetest.MustPut(t, s.Targets[0].Manifests, "k", "first", chunkstore.Condition{})
	o, target, err = s.GetManifest(t.Context(), "k", chunkstore.GetOptions{}, whole)
	if err != nil || string(o.Body) != "first" || target != s.Targets[0] {
		t.Errorf("got %q from %v, %v", o.Body, target, err)
	}
	_, target, err = s.GetManifest(t.Context(), "k", chunkstore.GetOptions{IfNoneMatch: etag},
		whole)
	if !errors.Is(err, chunkstore.ErrUnmodified) || target != s.Targets[0] {
		t.Errorf("from %v, %v; want ErrUnmodified from the first", target, err)
	}
	plan.At, plan.ForGood = 1, true
	if o, _, err = s.GetManifest(t.Context(), "k", chunkstore.GetOptions{}, whole); err != nil ||
		string(o.Body) != "second" {
		t.Errorf("got %q, %v; want the second's", o.Body, err)
	}
}

func TestDirIsCountedNotPaced(t *testing.T) {
	root := t.TempDir()
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(root + "/1"),
		dirTarget(root + "/2")},
		chunkstore.Options{CallsPerSecond: 1e-9, Burst: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		storetest.MustPut(t, s.Targets[i%2].Manifests, "k", "x", chunkstore.Condition{})
	}
	if s.Calls() != 5 {
		t.Errorf("%d calls", s.Calls())
	}
}

func TestLimit(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"e"`)
	}))
	defer server.Close()
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{&s3.Config{
		Region: "test", Endpoint: server.URL, ChunkBucket: "c", ManifestBucket: "m",
	}}, chunkstore.Options{CallsPerSecond: 1e-9, Burst: 3})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Targets[0].Manifests.Get(t.Context(), "k",
			chunkstore.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if s.Calls() != 3 {
		t.Errorf("%d calls", s.Calls())
	}
	// The next token comes in 30 years: whoever has a deadline need not wait for it.
	ctx, cancel := context.WithTimeout(t.Context(), 1<<40)
	defer cancel()
	calls := map[string]error{}
	_, calls["get"] = s.Targets[0].Manifests.Get(ctx, "k", chunkstore.GetOptions{})
	_, calls["put"] = s.Targets[0].Chunks.Put(ctx, chunkstore.Sum(nil).String(), nil,
		chunkstore.Condition{})
	_, calls["stat"] = s.Targets[0].Manifests.Stat(ctx, "k")
	calls["delete"] = s.Targets[0].Manifests.Delete(ctx, "k")
	calls["list"] = s.Targets[0].Manifests.List(ctx, "", nil)
	for name, err := range calls {
		storetest.MustSay(t, err, name, "limit of calls")
	}
	if s.Calls() != 3 {
		t.Errorf("%d calls", s.Calls())
	}
}

// whole takes anything for a manifest.
func whole([]byte) error { return nil }

// TestFromBest: of all targets the best answer counts; one that fails, or hangs, keeps nobody from
// it, and is asked only once until it is well, or nobody else has an answer.
func TestFromBest(t *testing.T) {
	inner, _, _ := twoTargets(t, chunkstore.Sum(nil))
	targets := inner.Targets
	var asked [2]atomic.Int32
	get := func(answers [2]int) func(context.Context, *chunkstore.Target) (int, error) {
		hung := make(chan struct{})
		return func(ctx context.Context, target *chunkstore.Target) (int, error) {
			i := slices.Index(targets, target)
			asked[i].Add(1)
			if answers[1-i] == hangs {
				<-hung
			}
			switch answers[i] {
			case hangs:
				close(hung)
				<-ctx.Done()
				return 0, ctx.Err()
			case fails:
				return 0, faultbucket.ErrInjected
			case lacks:
				return 0, chunkstore.ErrAbsent
			}
			return answers[i], nil
		}
	}
	for name, c := range map[string]struct {
		answers [2]int
		want    int // 0: an error
		absent  bool
		again   [2]int32 // who is asked when it is asked again
	}{
		"the first":      {[2]int{7, 5}, 7, false, [2]int32{1, 1}},
		"the other":      {[2]int{5, 7}, 7, false, [2]int32{1, 1}},
		"they are equal": {[2]int{5, 5}, 5, false, [2]int32{1, 1}},
		"one lacks it":   {[2]int{lacks, 5}, 5, false, [2]int32{1, 1}},
		"one fails":      {[2]int{fails, 5}, 5, false, [2]int32{0, 1}},
		"one hangs":      {[2]int{5, hangs}, 5, false, [2]int32{1, 0}},
		"fails or lacks": {[2]int{lacks, fails}, 0, false, [2]int32{1, 1}},
		"both lack it":   {[2]int{lacks, lacks}, 0, true, [2]int32{1, 1}},
		"both fail":      {[2]int{fails, fails}, 0, false, [2]int32{1, 1}},
	} {
		s := chunkstore.NewStore(targets...)
		s.SlowAfter(time.Hour)
		if slices.Contains(c.answers[:], hangs) {
			s.SlowAfter(time.Millisecond)
		}
		answer := get(c.answers)
		for range 2 {
			asked[0].Store(0)
			asked[1].Store(0)
			got, target, err := chunkstore.FromBest(t.Context(), s, answer,
				func(a, b int) bool { return a > b })
			switch {
			case c.want == 0:
				if err == nil || errors.Is(err, chunkstore.ErrAbsent) != c.absent {
					t.Errorf("%s: %v", name, err)
				}
			case err != nil || got != c.want || target != targets[slices.Index(c.answers[:], got)]:
				t.Errorf("%s: %d of %v, %v; want %d", name, got, target, err, c.want)
			}
		}
		if again := [2]int32{asked[0].Load(), asked[1].Load()}; again != c.again {
			t.Errorf("%s: %v were asked, want %v", name, again, c.again)
		}
		for _, target := range targets {
			target.Failed(time.Now().Add(-time.Hour))
		}
	}
}

// What a target does in TestFromBest, in place of an answer.
const (
	hangs = -1 - iota
	fails
	lacks
)
