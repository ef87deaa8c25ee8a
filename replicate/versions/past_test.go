package versions_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/versions"
)

// past is a database with a past, of which a test knows every version.
type past struct {
	*publishtest.Publisher
	t    *testing.T
	rng  *rand.Rand
	all  map[ID]string // what each version is
	time map[ID]time.Time
}

func newPast(t *testing.T) *past {
	p := &past{publishtest.New(t), t, rand.New(rand.NewPCG(1, 2)), map[ID]string{},
		map[ID]time.Time{}}
	p.Records()
	return p
}

// content says what m is: the same of one version, whatever its tree is made of.
func (p *past) content(m *manifest.Manifest) string {
	p.t.Helper()
	tree := m.Tree(p.Target.Sealer)
	text := fmt.Sprintf("%d: %d bytes, %v", m.Sequence, m.FileBytes, m.Inline)
	for i := range m.Chunks() {
		ref, err := tree.Lookup(p.t.Context(), i, p.Target.GetObjects)
		if err != nil {
			p.t.Fatal(err)
		}
		text += " " + ref.ID.String()
	}
	return text
}

// publish makes n versions, of files of other lengths.
func (p *past) publish(n int) {
	p.t.Helper()
	for range n {
		number := p.Newest.Sequence + 1
		file := publishtest.Stamped(10+p.rng.IntN(80), number)
		m := p.Publish(file, 0)
		p.all[p.ID()], p.time[p.ID()] = p.content(m), m.Time
	}
}

// want compares what can be gone back to with what is there: the numbers of a lineage.
func (p *past) want(lineage [16]byte, numbers ...uint64) {
	p.t.Helper()
	there, err := OpenPast(p.t.Context(), p.Target, p.Key())
	if err != nil {
		p.t.Fatal(err)
	}
	for n := range uint64(40) {
		id := ID{lineage, n}
		m, err := there.Version(p.t.Context(), id)
		switch {
		case !slices.Contains(numbers, n):
			if !errors.Is(err, chunkstore.ErrAbsent) {
				p.t.Errorf("record %d: %v, want none", n, err)
			}
		case err != nil:
			p.t.Errorf("record %d: %v", n, err)
		case IDOf(m.At) != id || p.all[id] != "" && p.content(m) != p.all[id]:
			p.t.Errorf("record %d: it is %v: %v", n, IDOf(m.At), p.content(m))
		}
	}
}

// until wants the version that was cut at a time to be the record number, from each of the
// checkpoints on.
func (p *past) until(lineage [16]byte, at time.Time, number uint64, from ...uint64) {
	p.t.Helper()
	there, err := OpenPast(p.t.Context(), p.Target, p.Key())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, n := range from {
		m, err := GetKept(p.t.Context(), p.Target, p.Key(), ID{lineage, n})
		if err == nil {
			m, err = there.Until(p.t.Context(), m, at)
		}
		if err != nil || m.At.Number != number {
			p.t.Errorf("from %d: %v, %v, want record %d", n, m, err, number)
		}
	}
}

func (p *past) ranges(want ...string) {
	p.t.Helper()
	there, err := OpenPast(p.t.Context(), p.Target, p.Key())
	if err != nil {
		p.t.Fatal(err)
	}
	all, err := there.Ranges(p.t.Context())
	var got []string
	for _, r := range all {
		if r.First.IsZero() || r.Last.Before(r.First) || r.Bytes == 0 ||
			r.From.Lineage != r.To.Lineage {
			p.t.Errorf("%+v", r)
		}
		got = append(got, fmt.Sprintf("%d-%d", r.From.Number, r.To.Number))
	}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		p.t.Errorf("ranges %v, %v; want %v", got, err, want)
	}
}

func numbers(from, to uint64) (all []uint64) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestPast(t *testing.T) {
	p := newPast(t)
	p.publish(11) // the first at 0, a fence, and ten more
	p.Checkpoint(true)
	p.publish(5)
	p.Checkpoint(false)
	p.publish(3)
	lineage := p.ID().Lineage
	if p.ID().Number != 19 {
		t.Fatalf("%v", p.ID())
	}
	p.want(lineage, numbers(0, 19)...)
	p.want([16]byte{1})
	p.ranges("1-19")
	for n := range uint64(20) {
		if n == 1 { // the fence
			continue
		}
		from := []uint64{0, 11}
		last := n
		if n == 0 {
			last = 1 // the fence, which is no other version
		}
		if n < 11 {
			from = from[:1]
		}
		at := p.time[ID{lineage, n}]
		p.until(lineage, at, last, from...)
		p.until(lineage, at.Add(time.Second/2), last, from...)
	}
	p.until(lineage, time.Unix(1<<40, 0), 19, 0, 11)

	// What is trimmed can be had no more, but for what is kept.
	p.Trim(12)
	p.want(lineage, append([]uint64{0}, numbers(11, 19)...)...)
	p.ranges("12-19")
	p.until(lineage, p.time[ID{lineage, 5}], 0, 0)
	p.until(lineage, p.time[ID{lineage, 15}], 15, 11)

	// Another history: the end of the old one stays.
	p.Records()
	p.publish(2)
	p.want(lineage, append([]uint64{0}, numbers(11, 19)...)...)
	p.want(p.ID().Lineage, numbers(0, 2)...)
	p.ranges("1-2", "12-19")
	p.until(lineage, time.Unix(1<<40, 0), 19, 11)
	p.until(lineage, p.time[ID{lineage, 17}], 17, 11)
}

// TestPastIsProved: records that a writer created again where they had been trimmed are no past.
func TestPastIsProved(t *testing.T) {
	p := newPast(t)
	p.publish(6)
	p.Checkpoint(true)
	p.publish(2)
	lineage := p.ID().Lineage
	p.Trim(7)
	log := p.Histories().Log(lineage)
	at := history.Position{Lineage: lineage, Released: true}
	for n := uint64(1); n <= 5; n++ {
		r := &history.Record{Number: n, Epoch: 1, Before: at.Digest, Fence: n == 1}
		if err := log.Append(context.Background(), n, r.Encode()); err != nil {
			t.Fatal(err)
		}
		var err error
		if at, err = at.After(r); err != nil {
			t.Fatal(err)
		}
		p.want(lineage, 0, 6, 7, 8)
		p.until(lineage, time.Unix(1<<40, 0), 0, 0)
	}
}

// TestPastFails: what cannot be read is an error, and not taken for the end.
func TestPastFails(t *testing.T) {
	p := newPast(t)
	p.publish(4)
	p.Checkpoint(true)
	p.publish(2)
	down := errors.New("down")
	there, err := OpenPast(t.Context(), p.Target, p.Key())
	if err != nil {
		t.Fatal(err)
	}
	id := ID{p.ID().Lineage, 2}
	for _, n := range []uint64{2, p.ID().Number} {
		id.Number = n
		p.Hooks.OnRecord(func(string) error { return down })
		if _, err := there.Version(t.Context(), id); !errors.Is(err, down) {
			t.Errorf("record %d: %v", n, err)
		}
		p.Hooks.OnRecord(nil)
		if _, err := there.Version(t.Context(), id); err != nil {
			t.Errorf("record %d: %v", n, err)
		}
	}
}
