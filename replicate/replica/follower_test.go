package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

func random(n int, seed byte) []byte {
	file := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(file)
	copy(file, publishtest.Header(1, 7))
	return file
}

func TestReads(t *testing.T) {
	const chunk = chunkstore.ChunkBytes
	for _, c := range []struct {
		name   string
		bytes  int
		inline []int64
	}{
		{"empty", 0, nil},
		{"one page", testPage, nil},
		{"one inline page", testPage, []int64{0}},
		{"one chunk", chunk, nil},
		{"short second chunk", chunk + testPage, []int64{0, chunk}},
		{"top of chunks", 20*chunk + 3*testPage, []int64{0, testPage, 5 * chunk, 20 * chunk}},
		{"leaves", 70 * chunk, []int64{0, 69*chunk + 15*testPage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSource(t)
			file := random(c.bytes, 1)
			clear(file[min(len(file), 3*chunk):min(len(file), 4*chunk)])
			if c.bytes == 0 {
				p.Newest.PageBytes = 0
			}
			p.Publish(file, c.inline...)
			all := p.follow(Options{})
			for _, step := range []int{testPage, 512, 3000, chunk + 1, max(1, c.bytes)} {
				r := p.open(all)
				got, err := readAll(r, step)
				if err != nil {
					t.Fatal(err)
				}
				if err := same(got, file); err != nil {
					t.Errorf("in steps of %d: %v", step, err)
				}
			}
			beyond := int64(c.bytes + chunk)
			if err := p.open(all).Read(t.Context(), make([]byte, 1), beyond); err == nil {
				t.Error("a read beyond the file is no error")
			}
		})
	}
}

// SQLite sees a rollback-mode database whose counter changes exactly with the version.
func TestShowsHeader(t *testing.T) {
	p := newSource(t)
	all := p.follow(Options{})
	shown := func(r *Reader) (version uint16, counter, validFor uint32) {
		t.Helper()
		h := make([]byte, 100)
		if err := r.Read(context.Background(), h, 0); err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.Uint16(
				h[18:],
			), binary.BigEndian.Uint32(h[24:]), binary.BigEndian.Uint32(
				h[92:],
			)
	}
	file := publishtest.Stamped(20, 1) // WAL, as stamped writes it
	p.Publish(file)
	r := p.open(all)
	version, counter, valid := shown(r)
	if version != 0x0101 || counter != valid {
		t.Errorf("version %#x, counter %d, valid for %d", version, counter, valid)
	}
	if _, again, _ := shown(p.open(all)); again != counter {
		t.Errorf("two readers of one version see counters %d and %d", counter, again)
	}
	if err := r.Refresh(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	if _, again, _ := shown(r); again != counter {
		t.Errorf("the counter moved from %d to %d without a new version", counter, again)
	}
	// The same counter in the source's header, as under locking_mode=EXCLUSIVE; and a
	// size in the header that is not valid must stay so.
	binary.BigEndian.PutUint32(file[92:], 99)
	file[200] = 1
	p.Publish(file, 0)
	if err := r.Refresh(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	_, next, valid := shown(r)
	if next == counter || next == valid {
		t.Errorf("counter %d after %d, valid for %d", next, counter, valid)
	}
	file[18], file[19] = 3, 3
	p.Publish(file, 0)
	if err := r.Refresh(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if version, _, _ := shown(r); version != 0x0303 {
		t.Errorf("an unknown version is shown as %#x", version)
	}
}

// Page 1 travels inline: the first reads of a query need no chunk. A commit whose
// pages travel inline costs loaded chunks nothing either.
func TestFetchesLittle(t *testing.T) {
	p := newSource(t)
	file := publishtest.Stamped(100, 1)
	p.Publish(file, 0)
	r := p.open(p.follow(Options{}))
	if err := r.Read(context.Background(), make([]byte, testPage), 0); err != nil {
		t.Fatal(err)
	}
	if n := p.Hooks.Objects(); n != 0 {
		t.Errorf("page 1 cost %d chunks", n)
	}
	if _, err := readAll(r, testPage); err != nil {
		t.Fatal(err)
	}
	before := p.Hooks.Objects()
	for i := range 3 {
		binary.BigEndian.PutUint64(file[128:], uint64(i)+2)
		binary.BigEndian.PutUint64(file[50*testPage+128:], uint64(i)+2)
		file = append(file, bytes.Repeat([]byte{byte(i)}, testPage)...) // the last chunk grows
		inline := []int64{0, 50 * testPage}
		for off := 100 * testPage; off < len(file); off += testPage {
			inline = append(inline, int64(off))
		}
		p.Publish(file, inline...)
		if err := r.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(r, testPage)
		if err != nil {
			t.Fatal(err)
		}
		if err := same(got, file); err != nil {
			t.Errorf("version %d: %v", r.Sequence(), err)
		}
	}
	if n := p.Hooks.Objects() - before; n != 0 {
		t.Errorf("three small commits cost %d objects", n)
	}
	// Pages that cool: one chunk is stored anew, and only that is fetched.
	p.Publish(file, 0)
	if err := r.Refresh(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(r, testPage); err != nil || same(got, file) != nil {
		t.Errorf("after cooling: %v, %v", err, same(got, file))
	}
	if n := p.Hooks.Objects() - before; n < 1 || n > 2 {
		t.Errorf("two cooled chunks cost %d objects", n)
	}
}

// A chunk that many want at once is fetched once.
func TestSharesFetches(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(100, 1), 0)
	all := p.follow(Options{})
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	p.Hooks.Set(func(string) error { asked <- struct{}{}; <-answer; return nil }, nil)
	var group sync.WaitGroup
	for range 5 {
		r := p.open(all)
		group.Go(func() {
			if err := r.Read(t.Context(), make([]byte, 100), 3*chunkstore.ChunkBytes); err != nil {
				t.Error(err)
			}
		})
	}
	<-asked
	close(answer)
	group.Wait()
	if n := p.Hooks.Objects(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestFailures(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(100, 1), 0)
	all := p.follow(Options{Deadline: 2 * time.Second})
	r := p.open(all)
	read := func(chunk int64) error {
		return r.Read(context.Background(), make([]byte, 100), chunk*chunkstore.ChunkBytes)
	}
	if err := read(1); err != nil {
		t.Fatal(err)
	}
	var failures atomic.Int32
	p.Hooks.Set(func(string) error {
		if failures.Add(1) <= 2 {
			return errors.New("connection reset")
		}
		return nil
	}, nil)
	if err := read(5); err != nil {
		t.Errorf("two failures, then success: %v", err)
	}
	p.Hooks.Set(func(string) error { return errors.New("no route to host") }, nil)
	err := read(3)
	if err == nil || !strings.Contains(err.Error(), "chunk 3") ||
		!strings.Contains(err.Error(), "version 1 of verneuil://h/db") ||
		!strings.Contains(err.Error(), "no route to host") {
		t.Errorf("an unreachable store: %v", err)
	}
	if s := all.Status(); len(s) != 1 || !strings.Contains(s[0].LastError, "no route") {
		t.Errorf("status %+v: want the last error", s)
	}
	if err := read(1); err != nil {
		t.Errorf("a chunk that is there, store unreachable: %v", err)
	}
	p.Hooks.Set(func(string) error { return chunkstore.ErrAbsent }, nil)
	if err := read(3); !errors.Is(err, chunkstore.ErrAbsent) ||
		!strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired chunk: %v", err)
	}
	p.Hooks.Set(func(string) error { panic("ouch") }, nil)
	if err := read(3); err == nil {
		t.Error("a panic is no error")
	}
	p.Hooks.Set(nil, nil)
	if err := read(3); err != nil {
		t.Errorf("after recovery: %v", err)
	}
	if s := all.Status(); s[0].LastError != "" || s[0].ChunksPresent != 3 || s[0].Chunks != 7 ||
		s[0].Sequence != 1 || s[0].Readers != 1 {
		t.Errorf("status %+v", s)
	}
}

// A refresh that fails leaves readers where they are; the next one works.
func TestRefreshFails(t *testing.T) {
	p := newSource(t)
	all := p.follow(Options{})
	if _, err := all.Open(context.Background(), p.URI()); !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("a source that is not there: %v", err)
	}
	p.Publish(publishtest.Stamped(50, 1), 0)
	r := p.open(all)
	p.Publish(publishtest.Stamped(50, 2), 0)
	p.Hooks.Set(nil, func() error { return errors.New("timeout") })
	if err := r.Refresh(context.Background(), true); err == nil ||
		!strings.Contains(err.Error(), "timeout") || r.Sequence() != 1 {
		t.Errorf("refresh: %v, at version %d", err, r.Sequence())
	}
	p.Hooks.Set(nil, nil)
	if err := r.Refresh(context.Background(), false); err != nil || r.Sequence() != 2 {
		t.Errorf("refresh: %v, at version %d", err, r.Sequence())
	}
	if got := r.SourceCtime(); !got.Equal(time.Unix(1600000000, 123456789)) {
		t.Errorf("ctime %v", got)
	}
}

// A forced refresh is answered by a fetch that began after it; another one joins
// the fetch under way.
func TestForcedRefresh(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(20, 1), 0)
	all := p.follow(Options{})
	a, b, c := p.open(all), p.open(all), p.open(all)
	asked, answer := make(chan struct{}), make(chan struct{})
	p.Hooks.Set(nil, func() error { asked <- struct{}{}; <-answer; return nil })
	a.Request()
	<-asked // a's fetch is under way, and has not read anything yet
	endB, endC := b.BeginRefresh(false), c.BeginRefresh(true)
	p.Publish(publishtest.Stamped(20, 2), 0)
	answer <- struct{}{}
	<-asked // so another one follows: c's
	if err := endB(); err != nil || b.Sequence() != 2 {
		t.Errorf("refresh: %v, at version %d", err, b.Sequence())
	}
	p.Publish(publishtest.Stamped(20, 3), 0)
	answer <- struct{}{}
	if err := endC(); err != nil || c.Sequence() != 3 {
		t.Errorf("forced refresh: %v, at version %d", err, c.Sequence())
	}
	if b.Sequence() != 2 {
		t.Errorf("a reader moved by itself to version %d", b.Sequence())
	}
	p.Hooks.Set(nil, nil)
}

// A source's line of versions is followed forwards only; another line is followed.
func TestOrder(t *testing.T) {
	p := newSource(t)
	first := p.Publish(publishtest.Stamped(20, 1), 0)
	p.Publish(publishtest.Stamped(20, 2), 0)
	r := p.open(p.follow(Options{}))
	p.Put(first)
	if err := r.Refresh(context.Background(), true); err == nil || r.Sequence() != 2 {
		t.Errorf("refresh to a target that was put back: %v, at version %d, want an error, 2", err,
			r.Sequence())
	}
	other := *first
	other.Lineage = [16]byte{2}
	p.Put(&other)
	if err := r.Refresh(context.Background(), true); err != nil || r.Sequence() != 1 {
		t.Errorf("refresh to a source made anew: %v, at version %d, want 1", err, r.Sequence())
	}
}

// A clock that was set back does not make what is known fresh for as long.
func TestClockSetBack(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(20, 1), 0)
	all := p.follow(Options{})
	p.open(all).Check(time.Now().Add(time.Hour))
	p.Publish(publishtest.Stamped(20, 2), 0)
	if r := p.open(all); r.Sequence() != 2 {
		t.Errorf("opened at version %d, want 2", r.Sequence())
	}
}

func TestAutoRefresh(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(20, 1), 0)
	r := p.open(p.follow(Options{PollInterval: time.Millisecond}))
	polls := make(chan struct{})
	p.Hooks.Set(nil, func() error { polls <- struct{}{}; return nil })
	r.SetAuto(true)
	<-polls
	p.Publish(publishtest.Stamped(20, 2), 0)
	<-polls
	<-polls // the one before has ended
	if r.Sequence() != 1 {
		t.Errorf("a reader moved by itself to version %d", r.Sequence())
	}
	if !r.Adopt() || r.Sequence() != 2 {
		t.Errorf("at version %d, want 2", r.Sequence())
	}
	r.SetAuto(false)
	p.Hooks.Set(nil, nil)
	select {
	case <-polls: // one may wait in the hook
	default:
	}
}

// Point reads fetch what they touch. A scan is prefetched, and no more than it needs.
func TestReadAhead(t *testing.T) {
	const chunks = 70
	file := publishtest.Stamped(chunks*16, 1)
	for i := range chunks { // no two alike
		file[i*chunkstore.ChunkBytes+200] = byte(i)
	}
	gets := 0 // requests of the last run
	run := func(least int, read func(r *Reader) error) (brought int) {
		t.Helper()
		p := newSource(t)
		p.Publish(file, 0)
		all, err := NewSet(Options{Store: p.Store, TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := all.Open(context.Background(), p.URI())
		if err != nil {
			t.Fatal(err)
		}
		if err := read(r); err != nil {
			t.Error(err)
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range 10000 { // read-ahead begins after the read that it is for has ended
			if p.Hooks.Objects()-1 >= least { // without the leaf
				break
			}
			<-tick.C
		}
		r.Close()
		all.Close() // waits for all that is under way
		gets = p.Hooks.Gets() - 1
		t.Logf("%d chunks in %d requests", p.Hooks.Objects()-1, gets)
		return p.Hooks.Objects() - 1
	}
	at := func(r *Reader, chunks ...int64) error {
		for _, i := range chunks {
			if err := r.Read(t.Context(), make([]byte, 100), i*chunkstore.ChunkBytes); err != nil {
				return err
			}
		}
		return nil
	}
	if n := run(5, func(r *Reader) error { return at(r, 60, 30, 50, 10, 64) }); n != 5 {
		t.Errorf("five point reads fetched %d chunks", n)
	}
	if n := run(3, func(r *Reader) error { return at(r, 5, 6) }); n < 3 || n > 4 {
		t.Errorf("two sequential reads fetched %d chunks", n)
	}
	if n := run(chunks, func(r *Reader) error {
		var got []byte
		for page := range uint32(chunks * 16) {
			p, _, err := r.ReadPage(t.Context(), page+1)
			if err != nil {
				return err
			}
			got = append(got, p...)
		}
		return same(got, file)
	}); n != chunks {
		t.Errorf("a scan of %d chunks fetched %d", chunks, n)
	}
	// By itself, 1, 1, 2, 4, 8 and 16 more, and the rest in two packs.
	if gets > 10 {
		t.Errorf("a scan of %d chunks took %d requests", chunks, gets)
	}
}

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		loading Loading
		want    int
	}{
		{Loading{}, 0},
		{Loading{Eager: true}, 70},
		{Loading{Partial: true}, 9},
		{Loading{Partial: true, Max: 4}, 4},
		{Loading{Partial: true, Min: 20}, 20},
		{Loading{Partial: true, Min: 100}, 70},
	} {
		p := newSource(t)
		file := random(70*chunkstore.ChunkBytes, 1)
		p.Publish(file, 0)
		all := p.follow(Options{Loading: c.loading})
		r := p.open(all)
		if n := all.Status()[0].ChunksPresent; n != int64(c.want) {
			t.Errorf("%+v: %d chunks loaded, want %d", c.loading, n, c.want)
		}
		file[60*chunkstore.ChunkBytes] ^= 1
		p.Publish(file, 0)
		if err := r.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		if n := all.Status()[0].ChunksPresent; n != int64(c.want) {
			t.Errorf("%+v: %d chunks loaded after a refresh, want %d", c.loading, n, c.want)
		}
	}
}

// A source outlives its last reader for a while, and one that cannot be reached can
// be opened meanwhile.
func TestLingers(t *testing.T) {
	p := newSource(t)
	p.Publish(publishtest.Stamped(50, 1), 0)
	all := p.follow(Options{Linger: time.Hour})
	r, err := all.Open(context.Background(), p.URI())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(r, testPage); err != nil {
		t.Fatal(err)
	}
	r.Close()
	p.Hooks.Set(func(string) error { return errors.New("gone") },
		func() error { return errors.New("gone") })
	if _, err := readAll(p.open(all), testPage); err != nil {
		t.Error(err)
	}
	if n := all.SlotsInUse(); n != 4 {
		t.Errorf("%d slots in use, want 4", n)
	}
}

// What a refresh changes of what was loaded is fetched in the background, and a small
// commit fetches no chunk.
func TestReplacesLoaded(t *testing.T) {
	p := newSource(t)
	file := random(70*chunkstore.ChunkBytes, 1)
	p.Publish(file, 0)
	all := p.follow(Options{})
	r := p.open(all)
	for _, chunk := range []int64{3, 40, 60} {
		if err := r.Read(t.Context(), make([]byte, 100), chunk*chunkstore.ChunkBytes); err != nil {
			t.Fatal(err)
		}
	}
	for _, chunk := range []int{40, 41, 60} {
		file[chunk*chunkstore.ChunkBytes] ^= 1
	}
	p.Publish(file, 0)
	before := p.Hooks.Gets()
	if err := r.Refresh(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10000 {
		if all.Status()[0].ChunksPresent == 3 {
			break
		}
		<-tick.C
	}
	// What one version has put lies in one pack; its leaf is the other request.
	if n := p.Hooks.Gets() - before; n > 2 {
		t.Errorf("%d requests for what was replaced, want 2", n)
	}
	p.Hooks.Set(func(string) error { return errors.New("no more") }, nil)
	for _, chunk := range []int64{3, 40, 60} {
		got := make([]byte, 100)
		if err := r.Read(context.Background(), got, chunk*chunkstore.ChunkBytes); err != nil {
			t.Error(err)
		} else if err := same(got, file[chunk*chunkstore.ChunkBytes:][:100]); err != nil {
			t.Errorf("chunk %d: %v", chunk, err)
		}
	}
	if n := all.Status()[0].ChunksPresent; n != 3 {
		t.Errorf("%d chunks present, want 3", n)
	}
}
