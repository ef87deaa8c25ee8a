package manifest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/manifest/manifestpb"
)

const (
	magic       = "VRNM"
	version     = 3
	headerBytes = 5 // magic and version; the rest is the Sealer's
	idBytes     = len(chunkstore.ID{})
)

// ErrNewer: a newer program wrote the manifest. It may be whole: whoever cannot
// read it must not replace it.
var ErrNewer = errors.New("written by a newer program")

// ErrTooLong: what is to be stored is longer than a manifest, or a record, may be.
var ErrTooLong = errors.New("too long")

// aboutManifest is what a sealed manifest is bound to. Whose it is, and which version, it says
// itself: whoever asks for a certain one checks that.
const aboutManifest = "manifest"

// Encode returns the object that stores m, which s seals. Equal manifests give equal bytes (I4)
// where s does. It fails if m breaks one of the package's rules, and with [ErrTooLong] if it is
// longer than [BytesMax].
func (m *Manifest) Encode(s chunkstore.Sealer) ([]byte, error) {
	body, err := m.body()
	if err != nil {
		return nil, err
	}
	return append(header(), chunkstore.Wrapped(s, aboutManifest, chunkstore.EncodeBody(body))...),
		nil
}

func header() []byte { return append([]byte(magic), version) }

// Fresh reports whether a stored manifest, of which [FreshBytes] are enough, is sealed as s would
// do it now.
func Fresh(s chunkstore.Sealer, stored []byte) bool {
	return len(stored) >= headerBytes && s.Fresh(stored[headerBytes:])
}

// FreshBytes is how many bytes of a manifest Fresh has to see.
const FreshBytes = headerBytes + chunkstore.SealHeadBytes

// EncodeLocal returns before, and then what Encode makes for what stays on this machine, beside the
// database itself: it is neither encrypted nor compressed. [Decode] with [chunkstore.Plain] is its
// inverse. It copies little: it is called for each version.
func (m *Manifest) EncodeLocal(before []byte) ([]byte, error) {
	body, err := m.body()
	if err != nil {
		return nil, err
	}
	return slices.Concat(before, header(), chunkstore.RawBodyHead(body), body), nil
}

func (m *Manifest) body() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return marshal(m.message(), "manifest")
}

// Decode is the inverse of [Manifest.Encode] (I3). Any object that Encode cannot
// have made is refused with an error that wraps [chunkstore.ErrCorrupt], or else
// [chunkstore.ErrKey]; there are no others. One of a later format version also wraps [ErrNewer].
// The manifest does not refer to stored.
func Decode(s chunkstore.Sealer, stored []byte) (*Manifest, error) {
	var msg manifestpb.Manifest
	err := checkHeader(stored)
	if err == nil {
		var body []byte
		if body, err = s.Unwrap(nil, aboutManifest, stored[headerBytes:]); err == nil {
			err = open(body, &msg) // I2
		}
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := fromMessage(&msg)
	if err == nil {
		err = m.validate() // I1
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %s: %w", err, chunkstore.ErrCorrupt)
	}
	return m, nil
}

func checkHeader(stored []byte) error {
	corrupt := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, chunkstore.ErrCorrupt)...)
	}
	switch {
	case len(stored) < headerBytes || string(stored[:4]) != magic:
		return corrupt("%d bytes that do not begin as a manifest", len(stored))
	case len(stored) > BytesMax:
		return corrupt("%d bytes, at most %d are allowed", len(stored), BytesMax)
	case stored[4] > version:
		return corrupt("format version %d, this program reads %d: %w", stored[4], version,
			ErrNewer)
	case stored[4] != version:
		return corrupt("format version %d, this program reads %d", stored[4], version)
	}
	return nil
}

func (m *Manifest) message() *manifestpb.Manifest {
	msg := &manifestpb.Manifest{
		Host:          m.Host,
		Path:          []byte(m.Path),
		Program:       m.Program,
		Lineage:       m.Lineage[:],
		Epoch:         m.Epoch,
		Sequence:      m.Sequence,
		TimeNs:        toNanoseconds(m.Time),
		SourceCtimeNs: toNanoseconds(m.SourceCtime),
		FileBytes:     uint64(m.FileBytes),
		PageBytes:     uint32(m.PageBytes),
		ChangeCounter: m.ChangeCounter,
		Levels:        uint32(m.Levels),
		Continuity:    m.Continuity,
		Cut:           m.Cut[:],
	}
	if m.Earlier != nil {
		msg.Earlier = &manifestpb.Extent{
			Chunks: uint64(m.Earlier.Chunks), Valid: uint64(m.Earlier.Valid),
		}
	}
	if m.At.Lineage != [16]byte{} {
		msg.At = &manifestpb.Position{
			Lineage: m.At.Lineage[:], Number: m.At.Number, Epoch: m.At.Epoch,
			Digest: m.At.Digest[:], Released: m.At.Released, Fences: m.At.Fences,
		}
	}
	isPlaced, _ := m.placed() // the caller has validated m
	var packs table
	for _, ref := range m.Top {
		msg.Top = append(msg.Top, ref.ID[:]...)
		if isPlaced {
			msg.TopPlaces = packs.append(msg.TopPlaces, ref)
		}
	}
	for _, id := range m.Stores {
		msg.Stores = append(msg.Stores, id[:])
	}
	for _, p := range m.Patches {
		patch := &manifestpb.Patch{ChunkIndex: uint64(p.Index), Id: p.ID[:]}
		if isPlaced {
			patch.Place = packs.append(nil, p.Ref)
		}
		msg.Patches = append(msg.Patches, patch)
	}
	msg.Packs = packs.names
	for _, p := range m.Inline {
		msg.InlinePages = append(msg.InlinePages,
			&manifestpb.InlinePage{Offset: uint64(p.Offset), Data: p.Data})
	}
	return msg
}

// fromMessage is the inverse of message; the caller validates the result.
func fromMessage(msg *manifestpb.Manifest) (*Manifest, error) {
	if len(msg.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("unknown fields")
	}
	if len(msg.Lineage) != 16 || len(msg.Cut) != 16 {
		return nil, fmt.Errorf("lineage of %d bytes, cut of %d", len(msg.Lineage), len(msg.Cut))
	}
	if msg.FileBytes > math.MaxInt64 {
		return nil, fmt.Errorf("file of %d bytes", msg.FileBytes)
	}
	m := &Manifest{
		Host:          msg.Host,
		Path:          string(msg.Path),
		Program:       msg.Program,
		Lineage:       [16]byte(msg.Lineage),
		Epoch:         msg.Epoch,
		Sequence:      msg.Sequence,
		Cut:           [16]byte(msg.Cut),
		Time:          fromNanoseconds(msg.TimeNs),
		SourceCtime:   fromNanoseconds(msg.SourceCtimeNs),
		FileBytes:     int64(msg.FileBytes),
		PageBytes:     int(msg.PageBytes),
		ChangeCounter: msg.ChangeCounter,
		Levels:        int(msg.Levels),
		Continuity:    msg.Continuity,
	}
	for _, id := range msg.Stores {
		if len(id) != len(chunkstore.Identity{}) {
			return nil, fmt.Errorf("store's identity of %d bytes", len(id))
		}
		m.Stores = append(m.Stores, chunkstore.Identity(id))
	}
	if err := m.takePosition(msg); err != nil {
		return nil, err
	}
	if err := m.takeRefs(msg); err != nil {
		return nil, err
	}
	for _, p := range msg.InlinePages {
		if p.Offset > fileBytesMax || len(p.ProtoReflect().GetUnknown()) > 0 {
			return nil, fmt.Errorf("malformed inline page at %d", p.Offset)
		}
		m.Inline = append(m.Inline, Page{Offset: int64(p.Offset), Data: p.Data})
	}
	return m, nil
}

// takePosition fills in Earlier and At.
func (m *Manifest) takePosition(msg *manifestpb.Manifest) error {
	if e := msg.Earlier; e != nil {
		if e.Chunks > fileBytesMax || e.Valid > e.Chunks ||
			len(e.ProtoReflect().GetUnknown()) > 0 {
			return fmt.Errorf("%d of %d earlier chunks", e.Valid, e.Chunks)
		}
		m.Earlier = &Extent{int(e.Chunks), int(e.Valid)}
	}
	at := msg.At
	if at == nil {
		return nil
	}
	if len(at.Lineage) != 16 || [16]byte(at.Lineage) == [16]byte{} || len(at.Digest) != 32 ||
		!slices.IsSorted(at.Fences) || len(at.ProtoReflect().GetUnknown()) > 0 {
		return errors.New("malformed position in the history")
	}
	m.At = history.Position{
		Lineage: [16]byte(at.Lineage), Number: at.Number, Epoch: at.Epoch,
		Digest: history.Digest(at.Digest), Released: at.Released, Fences: at.Fences,
	}
	return nil
}

// takeRefs fills in top and patches.
func (m *Manifest) takeRefs(msg *manifestpb.Manifest) error {
	isPlaced := len(msg.Packs) > 0
	packs, err := newTableReader(msg.Packs)
	if err != nil {
		return err
	}
	ref := func(id, place []byte) (ref chunkstore.Ref, err error) {
		ref.ID = chunkstore.ID(id)
		if isPlaced {
			ref.Place, err = packs.read(ref.ID, place)
		} else if len(place) > 0 {
			err = errors.New("a place without packs")
		}
		return ref, err
	}
	n := len(msg.Top) / idBytes
	if len(msg.Top) != n*idBytes || isPlaced && len(msg.TopPlaces) != n*placeBytes ||
		!isPlaced && len(msg.TopPlaces) > 0 {
		return fmt.Errorf("top of %d bytes, its places of %d", len(msg.Top), len(msg.TopPlaces))
	}
	for k := range n {
		var place []byte
		if isPlaced {
			place = msg.TopPlaces[k*placeBytes:][:placeBytes]
		}
		r, err := ref(msg.Top[k*idBytes:][:idBytes], place)
		if err != nil {
			return fmt.Errorf("top entry %d: %w", k, err)
		}
		m.Top = append(m.Top, r)
	}
	for _, p := range msg.Patches {
		if len(p.Id) != idBytes || p.ChunkIndex > fileBytesMax ||
			len(p.ProtoReflect().GetUnknown()) > 0 {
			return fmt.Errorf("malformed patch of chunk %d", p.ChunkIndex)
		}
		r, err := ref(p.Id, p.Place)
		if err != nil {
			return fmt.Errorf("patch of chunk %d: %w", p.ChunkIndex, err)
		}
		m.Patches = append(m.Patches, Patch{int(p.ChunkIndex), r})
	}
	return packs.end()
}

func toNanoseconds(t time.Time) int64 {
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return 0 // the zero Time, and a source's clock that is centuries off
	}
	return t.UnixNano()
}

func fromNanoseconds(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
