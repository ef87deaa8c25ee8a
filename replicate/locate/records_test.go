package locate_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	. "verneuil/replicate/locate"
	"verneuil/replicate/publishtest"
	"verneuil/replicate/versions"
)

// counted counts the requests of a publisher's target for manifests, and for records.
type counted struct{ manifests, records atomic.Int64 }

func count(p *publishtest.Publisher) *counted {
	c := &counted{}
	p.Hooks.Set(nil, func() error { c.manifests.Add(1); return nil })
	p.Hooks.OnRecord(func(string) error { c.records.Add(1); return nil })
	return c
}

// want compares how many there were since the last call.
func (c *counted) want(t *testing.T, when string, manifests, records int64) {
	t.Helper()
	m, r := c.manifests.Swap(0), c.records.Swap(0)
	if m != manifests || r != records {
		t.Errorf("%s: %d requests for manifests, %d for records; want %d and %d", when, m, r,
			manifests, records)
	}
}

func locator(t *testing.T, p *publishtest.Publisher, uri string) *Locator {
	t.Helper()
	l, err := Parse(uri, "", p.Store)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// next wants what FetchFrom finds to be p's newest version, whether it is news, and whether more is
// to be asked for.
func next(
	t *testing.T, l *Locator, p *publishtest.Publisher, prev Found, news, more bool,
) Found {
	t.Helper()
	f, n, err := l.FetchFrom(t.Context(), prev)
	if err != nil {
		t.Fatal(err)
	}
	if n != news || f.More != more || !more && f.Manifest.Cut != p.Newest.Cut {
		t.Errorf("version %d, news %t, more %t; want %d, %t, %t", f.Manifest.Sequence, n, f.More,
			p.Newest.Sequence, news, more)
	}
	return f
}

// TestFollowRecords: a poll costs one request, a new record one more, many are asked for at once.
func TestFollowRecords(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	publish := func(n int) {
		for range n {
			p.Publish(publishtest.Stamped(40, p.Newest.Sequence+1), 0)
		}
	}
	publish(8)
	l := locator(t, p, p.URI())
	c := count(p)
	f := next(t, l, p, Found{}, true, false)
	c.want(t, "open", 1, 16) // a fence among them, which is believed (T2)
	if f.From != p.Target || f.Bytes == 0 || f.Manifest.At.Number != 8 {
		t.Errorf("%+v", f)
	}
	old := f
	for range 3 {
		f = next(t, l, p, f, false, false)
		c.want(t, "nothing new", 0, 1)
	}
	publish(1)
	c.want(t, "publish", 0, 0)
	f = next(t, l, p, f, true, true)
	c.want(t, "one is new", 0, 1)
	f = next(t, l, p, f, false, false)
	c.want(t, "no more is new", 0, 1)
	publish(20)
	f = next(t, l, p, f, true, true)
	f = next(t, l, p, f, true, false)
	c.want(t, "twenty are new", 0, 1+1+4+16)
	// What was found before does not change.
	again := next(t, l, p, old, true, true)
	if again.Manifest.Sequence != old.Manifest.Sequence+1 {
		t.Errorf("after version %d comes %d", old.Manifest.Sequence, again.Manifest.Sequence)
	}
	next(t, l, p, again, true, false)

	publish(100)
	p.Checkpoint(false)
	publish(2)
	c.want(t, "publish", c.manifests.Load(), c.records.Load())
	f = next(t, l, p, f, true, true)
	f = next(t, l, p, f, true, false)
	c.want(t, "far behind", 1, 1+1+4+16+16)
	next(t, l, p, f, false, false)
}

// TestRoundTrips: how many requests a reader makes one after the other.
func TestRoundTrips(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	p.Publish(publishtest.Stamped(40, 1), 0)
	const latency = 10 * time.Millisecond
	wait := func() error { <-time.After(latency); return nil }
	trips := func(when string, want int, do func(*testing.T)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			p.Hooks.Set(nil, wait)
			p.Hooks.OnRecord(func(string) error { return wait() })
			began := time.Now()
			do(t)
			if got := int(time.Since(began) / latency); got != want {
				t.Errorf("%s: %d round trips, want %d", when, got, want)
			}
			p.Hooks.Set(nil, nil)
			p.Hooks.OnRecord(nil)
		})
	}
	l := locator(t, p, p.URI())
	var f Found
	open := func(t *testing.T) { f = next(t, l, p, Found{}, true, false) }
	trips("open, no record", 2, open)
	publish := func(n int) {
		for range n {
			p.Publish(publishtest.Stamped(40, p.Newest.Sequence+1), 0)
		}
	}
	poll := func(t *testing.T) { f = next(t, l, p, f, false, false) }
	trips("poll", 1, poll)
	publish(14) // and a fence
	trips("open, 15 records and a fence", 2, open)
	publish(51)
	trips("open, 65 records and a fence", 3, open)
	p.Checkpoint(false)
	trips("open at a checkpoint", 2, open)
	publish(15)
	trips("open, 15 records", 2, open)
	publish(1)
	trips("open, 16 records", 3, open)
	publish(63)
	trips("open, 79 records", 3, open)
	publish(1)
	trips("one is new", 1, func(t *testing.T) { f = next(t, l, p, f, true, true) })
}

// TestFollowObject: the newest checkpoint is followed where its history is; a manifest that is in
// none stays what it is.
func TestFollowObject(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	p.Publish(publishtest.Stamped(40, 1), 0)
	p.Publish(publishtest.Stamped(40, 2), 0)
	p.Checkpoint(false)
	served := encode(t, &p.Newest)
	etag, gets := `"1"`, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gets++
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(served)))
	}))
	defer server.Close()
	p.Publish(publishtest.Stamped(40, 3), 0)
	path := filepath.Join(t.TempDir(), "manifest")
	if err := os.WriteFile(path, served, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour) // a young file may have changed within its clock's resolution
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{path, server.URL} {
		l := locator(t, p, uri)
		f := next(t, l, p, Found{}, true, false)
		if f.From != p.Target {
			t.Errorf("%s: from %v", uri, f.From)
		}
		f = next(t, l, p, f, false, false)
		p.Publish(publishtest.Stamped(40, 4), 0)
		f = next(t, l, p, f, true, true)
		next(t, l, p, f, false, false)

		// Nobody has the history.
		alone, err := Parse(uri, "", publishtest.New(t).Store)
		if err != nil {
			t.Fatal(err)
		}
		f = Found{}
		for _, first := range []bool{true, false} {
			var news bool
			f, news, err = alone.FetchFrom(t.Context(), f)
			if err != nil || news != first || f.From != nil || f.Manifest.Sequence != 2 || f.More {
				t.Errorf("%s, alone: %+v, %t, %v", uri, f, news, err)
			}
		}
	}
	// The target fails: what stands there may be old.
	down := errors.New("down")
	p.Hooks.Set(nil, func() error { return down })
	l := locator(t, p, server.URL)
	if _, err := l.Fetch(t.Context()); !errors.Is(err, down) {
		t.Errorf("a target that is down: %v", err)
	}
	p.Hooks.Set(nil, nil)

	// Another object takes its place, of no history.
	f := next(t, l, p, Found{}, true, false)
	m := p.Newest
	m.At, m.Sequence = (&manifest.Manifest{}).At, 77
	served, etag, gets = encode(t, &m), `"2"`, 0
	f, news, err := l.FetchFrom(t.Context(), f)
	if err != nil || !news || f.From != nil || f.Manifest.Sequence != 77 {
		t.Errorf("%+v, %t, %v", f, news, err)
	}
	if f, news, err = l.FetchFrom(t.Context(), f); err != nil || news || gets != 2 || f.Bytes != 0 {
		t.Errorf("%+v, %t, %v, %d requests", f, news, err, gets)
	}
}

// TestDamagedRecord: the other target is asked, and else the reader is told.
func TestDamagedRecord(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	p.Publish(publishtest.Stamped(40, 1), 0)
	p.Publish(publishtest.Stamped(40, 2), 0)
	log := p.Histories().Log(p.ID().Lineage)
	if err := log.Append(t.Context(), p.ID().Number+1, []byte("no record")); err != nil {
		t.Fatal(err)
	}
	l := locator(t, p, p.URI())
	if _, err := l.Fetch(t.Context()); !errors.Is(err, chunkstore.ErrCorrupt) ||
		!strings.Contains(err.Error(), "record 3") {
		t.Errorf("%v", err)
	}
	other := publishtest.New(t)
	other.Records()
	other.Publish(publishtest.Stamped(40, 1), 0)
	l, err := Parse(p.URI(), "", chunkstore.NewStore(p.Target, other.Target))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := l.Fetch(t.Context()); err != nil || f.From != other.Target {
		t.Errorf("%+v, %v", f, err)
	}
	if f, failed, err := l.FetchNewest(t.Context()); err != nil || f.From != other.Target ||
		!errors.Is(failed, chunkstore.ErrCorrupt) {
		t.Errorf("%+v, %v, %v", f, failed, err)
	}
}

// stamped shows kept checkpoints as old as it is told.
type stamped struct {
	chunkstore.Bucket
	at map[string]time.Time
}

func (b stamped) List(
	ctx context.Context, prefix string, yield func(chunkstore.Object) bool,
) error {
	return b.Bucket.List(ctx, prefix, func(o chunkstore.Object) bool {
		if at, ok := b.at[o.Key]; ok {
			o.Modified = at
		}
		return yield(o)
	})
}

// TestPast: any record can be gone back to, by its ID and by its time.
func TestPast(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	stamps := stamped{p.Target.Chunks, map[string]time.Time{}}
	type version struct {
		id  versions.ID
		cut [16]byte
		at  time.Time
	}
	var all []version
	publish := func(n int) {
		for range n {
			m := p.Publish(publishtest.Stamped(40, p.Newest.Sequence+1), 0)
			all = append(all, version{p.ID(), m.Cut, m.Time})
		}
	}
	// A checkpoint is there half a second after its version was cut.
	kept := func() {
		stamps.at[versions.KeptKey(p.Key(), p.ID())] = p.Newest.Time.Add(time.Second / 2)
	}
	publish(1)
	kept()
	publish(9)
	p.Checkpoint(true)
	kept()
	publish(5)
	store := chunkstore.NewStore(chunkstore.NewTarget("t", stamps, p.Target.Manifests))
	l, err := Parse(p.URI(), "", store)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		f, err := l.FetchVersion(t.Context(), v.id.String())
		if err != nil || f.Manifest.Cut != v.cut || f.From != store.Targets[0] {
			t.Errorf("version %v: %+v, %v", v.id, f, err)
		}
		for _, d := range []time.Duration{time.Second / 2, time.Second - 1} {
			f, err := l.FetchAt(t.Context(), v.at.Add(d))
			if err != nil || f.Manifest.Cut != v.cut {
				t.Errorf("version %v, at %v: %+v, %v", v.id, v.at.Add(d), f, err)
			}
		}
	}
	_, err = l.FetchAt(t.Context(), all[0].at)
	if !errors.Is(err, ErrNoVersion) || !strings.Contains(err.Error(), "the oldest is from 2023-") {
		t.Errorf("before the first: %v", err)
	}
	none := versions.ID{Lineage: p.ID().Lineage, Number: 99}
	if _, err := l.FetchVersion(t.Context(), none.String()); !errors.Is(err, ErrNoVersion) {
		t.Errorf("a number beyond the last: %v", err)
	}
	if _, err := l.FetchVersion(t.Context(), "null"); !errors.Is(err, ErrNoVersion) {
		t.Errorf("of a bucket that keeps no versions: %v", err)
	}
	there, err := l.Versions(t.Context(), 0)
	if err != nil || len(there) != 2 || there[0].ID != all[9].id.String() ||
		there[1].ID != all[0].id.String() {
		t.Errorf("%+v, %v", there, err)
	}
	if there, err = l.Versions(t.Context(), 1); err != nil || len(there) != 1 ||
		there[0].ID != all[9].id.String() {
		t.Errorf("the newest: %+v, %v", there, err)
	}
	records, err := l.Records(t.Context())
	if err != nil || len(records) != 1 || records[0].From.Number != 1 ||
		records[0].To != p.ID() || records[0].Target == "" {
		t.Errorf("%+v, %v", records, err)
	}
}

// TestClockAhead: a writer whose clock is ahead of the store's has put checkpoints that are of
// later than the time that is asked for.
func TestClockAhead(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	stamps := stamped{p.Target.Chunks, map[string]time.Time{}}
	var cuts [][16]byte
	first := time.Unix(1700000001, 0) // when the first was cut, by its writer's clock
	for n := range 10 {
		m := p.Publish(publishtest.Stamped(40, uint64(n)))
		cuts = append(cuts, m.Cut)
		if n > 0 {
			p.Checkpoint(true)
		}
		stamps.at[versions.KeptKey(p.Key(), p.ID())] = m.Time.Add(-5 * time.Second)
	}
	store := chunkstore.NewStore(chunkstore.NewTarget("t", stamps, p.Target.Manifests))
	l, err := Parse(p.URI(), "", store)
	if err != nil {
		t.Fatal(err)
	}
	for n, cut := range cuts {
		f, err := l.FetchAt(t.Context(), first.Add(time.Duration(n)*time.Second))
		if err != nil || f.Manifest.Cut != cut {
			t.Errorf("version %d: %+v, %v", n+1, f, err)
		}
	}
}

// getsOnly is a bucket whose credentials may get objects, and do nothing else: what is absent is
// denied then, as AWS does it.
type getsOnly struct{ chunkstore.Bucket }

func (b getsOnly) Get(
	ctx context.Context, key string, o chunkstore.GetOptions,
) (chunkstore.Object, error) {
	object, err := b.Bucket.Get(ctx, key, o)
	if errors.Is(err, chunkstore.ErrAbsent) {
		err = chunkstore.ErrDenied
	}
	return object, err
}

func (b getsOnly) List(context.Context, string, func(chunkstore.Object) bool) error {
	return chunkstore.ErrDenied
}

// TestGetsOnly: the right to get objects is enough to follow a database.
func TestGetsOnly(t *testing.T) {
	p := publishtest.New(t)
	if _, err := chunkstore.Identify(t.Context(), p.Target.Chunks, chunkstore.Plain{}); err != nil {
		t.Fatal(err)
	}
	p.Records()
	p.Publish(publishtest.Stamped(40, 1), 0)
	store := chunkstore.NewStore(chunkstore.NewTarget("t", getsOnly{p.Target.Chunks},
		getsOnly{p.Target.Manifests}))
	l, err := Parse(p.URI(), "", store)
	if err != nil {
		t.Fatal(err)
	}
	c := count(p)
	f := next(t, l, p, Found{}, true, false)
	c.want(t, "open", 1, 16+2) // and what tells that denied is absent, once
	p.Publish(publishtest.Stamped(40, 2), 0)
	c.want(t, "publish, and look", 1, 0)
	f = next(t, l, p, f, false, true) // the fence
	f = next(t, l, p, f, true, false)
	f = next(t, l, p, f, false, false)
	p.Publish(publishtest.Stamped(40, 3), 0)
	f = next(t, l, p, f, true, true)
	next(t, l, p, f, false, false)
}
