package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/manifest/manifestpb"
)

// Step is how one version of a database becomes the next: what a record of its history holds. It
// does not depend on how the tree of the version before is described: by a checkpoint, or by an
// older one and patches. It does not change once it is encoded or decoded.
type Step struct {
	// Next is the next version, but for what it has in common with the one before: as patches it
	// has the chunks whose object has changed, as inline pages those that are new, and neither Host
	// nor Path, Levels, Top, Earlier nor At. If Whole, it is all of the next version but At.
	Next  *Manifest
	Whole bool

	// Shortest is the least number of chunks that the database has had since the version before.
	// Chunks from there on are zeros in the next version, but for its patches.
	Shortest int
	// Uninlined are the offsets of inline pages that are gone, and not replaced; ascending.
	Uninlined []int64
}

// StepTo returns the step from m to next, of which changed are all chunks whose object has changed,
// ascending, and shortest is the least number of chunks meanwhile. It uses neither version's tree.
func (m *Manifest) StepTo(next *Manifest, changed []Patch, shortest int) *Step {
	n := *next
	n.Host, n.Path, n.Levels, n.Top, n.Earlier = "", "", 0, nil, nil
	n.At, n.Patches = history.Position{}, changed
	s := &Step{Next: &n, Shortest: min(shortest, n.Chunks(), m.Chunks())}
	s.Uninlined, n.Inline = difference(m.Inline, next.Inline)
	return s
}

// WholeStep returns the step to m from any version of its database.
func (m *Manifest) WholeStep() *Step {
	n := *m
	n.At = history.Position{}
	return &Step{Next: &n, Whole: true}
}

// Apply returns the version that s makes of m. It shares memory with both. It fails with
// [chunkstore.ErrCorrupt] if s is no step from m.
func (m *Manifest) Apply(s *Step) (*Manifest, error) {
	n := *s.Next
	if !s.Whole {
		if s.Shortest > min(m.Chunks(), n.Chunks()) {
			return nil, fmt.Errorf("version %d: at least %d chunks, between %d and %d: %w",
				n.Sequence, s.Shortest, m.Chunks(), n.Chunks(), chunkstore.ErrCorrupt)
		}
		e := m.extent()
		e.Valid = min(e.Valid, s.Shortest)
		n.Host, n.Path, n.Levels, n.Top, n.Earlier = m.Host, m.Path, m.Levels, m.Top, &e
		at, _ := findPatch(m.Patches, s.Shortest)
		n.Patches = merge(m.Patches[:at:at], n.Patches)
		n.Inline = apply(m.Inline, s.Uninlined, n.Inline)
		if n.packed() {
			n.Earlier = nil
		}
	}
	if err := n.validate(); err != nil {
		return nil, fmt.Errorf("version %d: %s: %w", n.Sequence, err, chunkstore.ErrCorrupt)
	}
	return &n, nil
}

// extent returns how far the top goes.
func (m *Manifest) extent() Extent {
	if m.Earlier != nil {
		return *m.Earlier
	}
	return Extent{m.Chunks(), m.Chunks()}
}

// packed reports whether the top is that of a version of its own.
func (m *Manifest) packed() bool {
	return m.extent() == Extent{m.Chunks(), m.Chunks()} && (m.Levels > 0 || len(m.Patches) == 0)
}

// difference returns the offsets of the pages of from that are not in to, where there is none of
// that offset either; and the pages of to that are not in from.
func difference(from, to []Page) (gone []int64, fresh []Page) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].Offset < to[0].Offset:
			gone, from = append(gone, from[0].Offset), from[1:]
		case len(from) == 0 || to[0].Offset < from[0].Offset:
			fresh, to = append(fresh, to[0]), to[1:]
		default:
			if !bytes.Equal(from[0].Data, to[0].Data) {
				fresh = append(fresh, to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return gone, fresh
}

// apply is the inverse of difference.
func apply(from []Page, gone []int64, fresh []Page) (to []Page) {
	kept := make([]Page, 0, len(from)+len(fresh))
	for _, p := range from {
		if _, found := slices.BinarySearch(gone, p.Offset); !found {
			kept = append(kept, p)
		}
	}
	return override(kept, fresh, func(p Page) int64 { return p.Offset })
}

// merge returns patches with others in their place.
func merge(patches, others []Patch) []Patch {
	return override(patches, others, func(p Patch) int { return p.Index })
}

// override returns from and over, both ascending by key, with those of over where both have a key.
// It has no more room than it has elements, unless it is empty.
func override[T any, K cmp.Ordered](from, over []T, key func(T) K) (to []T) {
	if len(over) == 0 {
		return slices.Clip(from)
	}
	to = make([]T, 0, len(from)+len(over))
	for len(over) > 0 {
		n := 0
		for n < len(from) && key(from[n]) < key(over[0]) {
			n++
		}
		if to, from = append(to, from[:n]...), from[n:]; len(from) > 0 &&
			key(from[0]) == key(over[0]) {
			from = from[1:]
		}
		to, over = append(to, over[0]), over[1:]
	}
	return slices.Clip(append(to, from...))
}

// Encode returns the body of the record that holds s. The log seals records as a whole. Equal
// steps give equal bytes (I4). It fails if it is longer than [chunkstore.BodyBytesMax].
func (s *Step) Encode() ([]byte, error) {
	msg := &manifestpb.Step{
		Next: s.Next.message(), Whole: s.Whole, Shortest: uint64(s.Shortest),
	}
	for _, off := range s.Uninlined {
		msg.Uninlined = append(msg.Uninlined, uint64(off))
	}
	return encode(msg, "step")
}

// DecodeStep is the inverse of [Step.Encode] (I3). It fails with [chunkstore.ErrCorrupt].
func DecodeStep(body []byte) (*Step, error) {
	var msg manifestpb.Step
	if err := open(body, &msg); err != nil {
		return nil, fmt.Errorf("step: %w", err)
	}
	s := &Step{Whole: msg.Whole, Shortest: int(min(msg.Shortest, math.MaxInt))}
	var err error
	if msg.Next == nil {
		err = errors.New("no version")
	} else {
		s.Next, err = fromMessage(msg.Next)
	}
	for _, off := range msg.Uninlined {
		s.Uninlined = append(s.Uninlined, int64(min(off, math.MaxInt64)))
	}
	if err == nil && !ascending(s) {
		err = errors.New("out of order")
	}
	if err != nil {
		return nil, fmt.Errorf("step: %s: %w", err, chunkstore.ErrCorrupt)
	}
	return s, nil
}

// ascending reports whether s is in order. What it makes of a version is validated.
func ascending(s *Step) bool {
	for k := range s.Next.Patches {
		if k > 0 && s.Next.Patches[k-1].Index >= s.Next.Patches[k].Index {
			return false
		}
	}
	for k := range s.Uninlined {
		if k > 0 && s.Uninlined[k-1] >= s.Uninlined[k] {
			return false
		}
	}
	return true
}

// Owner is who has taken a history over: what its fence holds.
type Owner struct {
	Host    string
	Program string // with its version
	PID     int
	Since   time.Time // by its clock
}

// String says who it is: "pid 12 on a.example (verneuil 1.2), since 2026-01-02T15:04:05Z".
func (o Owner) String() string {
	return fmt.Sprintf("pid %d on %s (%s), since %s", o.PID, o.Host, o.Program,
		o.Since.UTC().Format(time.RFC3339))
}

// Encode returns the body of the fence that holds o. It fails as [Step.Encode].
func (o Owner) Encode() ([]byte, error) {
	return encode(&manifestpb.Owner{
		Host: o.Host, Program: o.Program, Pid: uint64(o.PID), SinceNs: toNanoseconds(o.Since),
	}, "owner")
}

// DecodeOwner is the inverse of [Owner.Encode]. It fails with [chunkstore.ErrCorrupt].
func DecodeOwner(body []byte) (Owner, error) {
	var msg manifestpb.Owner
	if err := open(body, &msg); err != nil {
		return Owner{}, fmt.Errorf("owner: %w", err)
	}
	return Owner{msg.Host, msg.Program, int(msg.Pid), fromNanoseconds(msg.SinceNs)}, nil
}

// encode returns the body of a record.
func encode(msg proto.Message, noun string) ([]byte, error) {
	body, err := marshal(msg, noun)
	if err != nil {
		return nil, err
	}
	return chunkstore.EncodeBody(body), nil
}

func marshal(msg proto.Message, noun string) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err == nil && len(body) > chunkstore.BodyBytesMax {
		err = fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLong, len(body),
			chunkstore.BodyBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", noun, err)
	}
	return body, nil
}

// open is the inverse of encode. It fails with [chunkstore.ErrCorrupt].
func open(stored []byte, msg proto.Message) error {
	body, err := chunkstore.DecodeBody(stored)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(body, msg); err != nil {
		return fmt.Errorf("%s: %w", err, chunkstore.ErrCorrupt)
	}
	if len(msg.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("unknown fields: %w", chunkstore.ErrCorrupt)
	}
	return nil
}
