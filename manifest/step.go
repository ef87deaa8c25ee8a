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
// does not change once it is encoded or decoded.
type Step struct {
	// Next is the next version, but for what it has in common with the one before: of patches and
	// inline pages it has those only that are new, and neither Host nor Path, Levels, Top, Earlier
	// nor At. If Whole, it is all of the next version but At.
	Next  *Manifest
	Whole bool

	Unpatched []int   // chunks whose patches the next version does not have; ascending
	Uninlined []int64 // offsets of inline pages that it does not have as they were; ascending
}

// StepTo returns the step from m to next. [Manifest.Apply] is its inverse, but for At, which next
// need not have.
func (m *Manifest) StepTo(next *Manifest) *Step {
	n := *next
	n.At = history.Position{}
	s := &Step{Next: &n}
	if m.Host != next.Host || m.Path != next.Path || m.Levels != next.Levels ||
		!slices.Equal(m.Top, next.Top) || m.extent().Chunks != next.extent().Chunks ||
		m.afterResize(next.FileBytes).extent() != next.extent() {
		s.Whole = true
		return s
	}
	n.Host, n.Path, n.Levels, n.Top, n.Earlier = "", "", 0, nil, nil
	from := m.afterResize(next.FileBytes)
	s.Unpatched, n.Patches = difference(from.Patches, next.Patches,
		func(p Patch) int { return p.Index }, func(a, b Patch) bool { return a == b })
	s.Uninlined, n.Inline = difference(m.Inline, next.Inline,
		func(p Page) int64 { return p.Offset },
		func(a, b Page) bool { return a.Offset == b.Offset && bytes.Equal(a.Data, b.Data) })
	return s
}

// Apply returns the version that s makes of m. It shares memory with both. It fails with
// [chunkstore.ErrCorrupt] if s is no step from m.
func (m *Manifest) Apply(s *Step) (*Manifest, error) {
	n := *s.Next
	if !s.Whole {
		from := m.afterResize(n.FileBytes)
		n.Host, n.Path = m.Host, m.Path
		n.Levels, n.Top, n.Earlier = m.Levels, m.Top, from.Earlier
		n.Patches = apply(from.Patches, s.Unpatched, n.Patches,
			func(p Patch) int { return p.Index })
		n.Inline = apply(m.Inline, s.Uninlined, n.Inline,
			func(p Page) int64 { return p.Offset })
		if n.Earlier != nil && n.packed() {
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

// afterResize returns m with another length and without the patches beyond it. Its inline pages
// stay.
func (m *Manifest) afterResize(fileBytes int64) *Manifest {
	n := *m
	e := m.extent()
	n.FileBytes = fileBytes
	e.Valid = min(e.Valid, n.Chunks())
	n.Earlier = &e
	if at, _ := findPatch(m.Patches, n.Chunks()); at < len(m.Patches) {
		n.Patches = m.Patches[:at:at]
	}
	return &n
}

// difference returns the keys of what is in from and not in to, or is not equal there, and has no
// new one of its key; and what is in to and not equal in from. Both are ascending by key.
func difference[T any, K cmp.Ordered](
	from, to []T, key func(T) K, equal func(a, b T) bool,
) (gone []K, fresh []T) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && key(from[0]) < key(to[0]):
			gone, from = append(gone, key(from[0])), from[1:]
		case len(from) == 0 || key(to[0]) < key(from[0]):
			fresh, to = append(fresh, to[0]), to[1:]
		default:
			if !equal(from[0], to[0]) {
				fresh = append(fresh, to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return gone, fresh
}

// apply is the inverse of difference.
func apply[T any, K cmp.Ordered](from []T, gone []K, fresh []T, key func(T) K) (to []T) {
	if len(gone) == 0 && len(fresh) == 0 {
		return from
	}
	for len(from) > 0 || len(fresh) > 0 {
		switch {
		case len(fresh) == 0 || len(from) > 0 && key(from[0]) < key(fresh[0]):
			if _, found := slices.BinarySearch(gone, key(from[0])); !found {
				to = append(to, from[0])
			}
			from = from[1:]
		default:
			if len(from) > 0 && key(from[0]) == key(fresh[0]) {
				from = from[1:]
			}
			to, fresh = append(to, fresh[0]), fresh[1:]
		}
	}
	return to
}

// Encode returns the body of the record that holds s, which sl seals. With [chunkstore.Plain],
// equal steps give equal bytes (I4). It fails if it is longer than [chunkstore.BodyBytesMax].
func (s *Step) Encode(sl chunkstore.Sealer) ([]byte, error) {
	msg := &manifestpb.Step{Next: s.Next.message(), Whole: s.Whole}
	for _, i := range s.Unpatched {
		msg.Unpatched = append(msg.Unpatched, uint64(i))
	}
	for _, off := range s.Uninlined {
		msg.Uninlined = append(msg.Uninlined, uint64(off))
	}
	return seal(sl, msg, "step")
}

// DecodeStep is the inverse of [Step.Encode] (I3). It fails with [chunkstore.ErrCorrupt].
func DecodeStep(sl chunkstore.Sealer, body []byte) (*Step, error) {
	var msg manifestpb.Step
	if err := open(sl, body, &msg); err != nil {
		return nil, fmt.Errorf("step: %w", err)
	}
	s := &Step{Whole: msg.Whole}
	var err error
	if msg.Next == nil {
		err = errors.New("no version")
	} else {
		s.Next, err = fromMessage(msg.Next)
	}
	for _, i := range msg.Unpatched {
		s.Unpatched = append(s.Unpatched, int(min(i, math.MaxInt)))
	}
	for _, off := range msg.Uninlined {
		s.Uninlined = append(s.Uninlined, int64(min(off, math.MaxInt64)))
	}
	if err == nil && !(ascending(s.Unpatched) && ascending(s.Uninlined)) {
		err = errors.New("out of order")
	}
	if err != nil {
		return nil, fmt.Errorf("step: %s: %w", err, chunkstore.ErrCorrupt)
	}
	return s, nil
}

func ascending[K cmp.Ordered](keys []K) bool {
	for k := range keys {
		if k > 0 && keys[k-1] >= keys[k] {
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

// Encode returns the body of the fence that holds o, which sl seals. It fails as [Step.Encode].
func (o Owner) Encode(sl chunkstore.Sealer) ([]byte, error) {
	return seal(sl, &manifestpb.Owner{
		Host: o.Host, Program: o.Program, Pid: uint64(o.PID), SinceNs: toNanoseconds(o.Since),
	}, "owner")
}

// DecodeOwner is the inverse of [Owner.Encode]. It fails with [chunkstore.ErrCorrupt].
func DecodeOwner(sl chunkstore.Sealer, body []byte) (Owner, error) {
	var msg manifestpb.Owner
	if err := open(sl, body, &msg); err != nil {
		return Owner{}, fmt.Errorf("owner: %w", err)
	}
	return Owner{msg.Host, msg.Program, int(msg.Pid), fromNanoseconds(msg.SinceNs)}, nil
}

// seal encodes the body of a record.
func seal(sl chunkstore.Sealer, msg proto.Message, noun string) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err == nil && len(body) > chunkstore.BodyBytesMax {
		err = fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLong, len(body),
			chunkstore.BodyBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", noun, err)
	}
	return sl.SealBody(body), nil
}

// open is the inverse of seal. It fails with [chunkstore.ErrCorrupt].
func open(sl chunkstore.Sealer, stored []byte, msg proto.Message) error {
	body, err := sl.OpenBody(stored)
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
