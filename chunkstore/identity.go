package chunkstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// MarkerKey is the key of the object that gives a bucket its [Identity]. It is no part of
// what the bucket holds: List does not show it.
const MarkerKey = "verneuil-bucket.json"

const (
	markerFormat   = 1
	markerBytesMax = 4096
)

// Identity tells buckets apart that bear, or have borne, one name: a random UUID that is made
// with the first version in a bucket. What is known of one bucket says nothing of another,
// nor of one that was emptied: its marker went with the rest. Zero is no identity.
type Identity [16]byte

// String returns the UUID's text, empty for zero.
func (id Identity) String() string {
	if id == (Identity{}) {
		return ""
	}
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText makes an Identity a string in JSON.
func (id Identity) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *Identity) UnmarshalText(text []byte) error {
	*id = Identity{}
	if len(text) == 0 {
		return nil
	}
	var digits []byte
	for _, c := range text {
		if c != '-' {
			digits = append(digits, c)
		}
	}
	if len(digits) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("identity %q is not a UUID", text)
	}
	if _, err := hex.Decode(id[:], digits); err != nil {
		return fmt.Errorf("identity %q is not a UUID", text)
	}
	return nil
}

func newIdentity() (id Identity) {
	rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// marker is what the object of an identity holds, as JSON.
type marker struct {
	Format int      `json:"verneuil_bucket"`
	ID     Identity `json:"id"`
	// Ring names the keys of all that is sealed in the bucket: see [Sealer].
	Ring string `json:"keys,omitempty"`
}

func encodeMarker(id Identity, s Sealer) ([]byte, error) {
	ring, _ := s.Ring()
	body, err := json.Marshal(marker{markerFormat, id, ring})
	return append(body, '\n'), err
}

// ErrNewerStore: a later program has written to the bucket, in a form that this one does not know.
var ErrNewerStore = errors.New("the bucket of a newer program")

// ReadIdentity returns the identity of b; zero if it has none. A marker that is damaged is an error
// that wraps [ErrCorrupt].
func ReadIdentity(ctx context.Context, b Bucket) (Identity, error) {
	m, _, err := readMarker(ctx, b)
	return m.ID, err
}

func readMarker(ctx context.Context, b Bucket) (m marker, etag string, err error) {
	o, err := GetWhole(ctx, b, MarkerKey, GetOptions{BytesMax: markerBytesMax},
		func(body []byte) error {
			if err := json.Unmarshal(body, &m); err != nil || m.Format < 1 || m.ID == (Identity{}) {
				return fmt.Errorf("%w: no marker of a bucket", ErrCorrupt)
			}
			return nil
		})
	switch {
	case errors.Is(err, ErrAbsent):
		return marker{}, "", nil
	case err != nil:
		return marker{}, o.ETag, fmt.Errorf("identity of %v: %w", b, err)
	case m.Format > markerFormat:
		err := fmt.Errorf("identity of %v: %w: format %d, this program knows %d",
			b, ErrNewerStore, m.Format, markerFormat)
		return marker{}, o.ETag, err
	}
	return m, o.ETag, nil
}

// fits fails with [ErrKey] unless what lies in m's bucket is sealed as s does it.
func (m marker) fits(s Sealer) error {
	ring, _ := s.Ring()
	switch {
	case m.Ring == ring:
		return nil
	case m.Ring == "":
		return fmt.Errorf("%w: what lies there is not encrypted, and the configuration has a key: "+
			"give it another bucket or prefix, or take key_file (or key_command) out", ErrKey)
	case ring == "":
		return fmt.Errorf("%w: what lies there is encrypted with the keys %s, and the "+
			"configuration has none: give it the key_file (or key_command) that others have who "+
			"use it",
			ErrKey, m.Ring)
	}
	return fmt.Errorf("%w: what lies there is encrypted with the keys %s, and those of the "+
		"configuration are %s: give it the key file that others have who use it, or another "+
		"bucket or prefix", ErrKey, m.Ring, ring)
}

// ErrForeign: what answers in a store's place is none, as a portal, or a server of web pages.
var ErrForeign = errors.New("something else answers in the store's place")

// Reach asks b for an object that nobody stores. It fails if b does not answer, and with
// [ErrForeign] if it has that object. AWS denies absent objects to who may not list: if b has a
// marker, that tells.
func Reach(ctx context.Context, b Bucket) error {
	key := ZeroID.String()
	_, err := b.Get(ctx, key, GetOptions{}) // the answer to a Stat says less
	switch {
	case err == nil:
		return fmt.Errorf("get %s in %v: %w: nobody stores this object, and here it is", key, b,
			ErrForeign)
	case errors.Is(err, ErrAbsent):
		return nil
	case errors.Is(err, ErrDenied):
		if id, readErr := ReadIdentity(ctx, b); readErr == nil && id != (Identity{}) {
			return nil
		}
	}
	return err
}

// CheckRing fails with [ErrKey] if b has a marker of other keys than s's. It is also for who does
// not find what would be there under his keys, as the ring may decide under which name. It is one
// request; a marker that is absent, or cannot be read, says nothing.
func CheckRing(ctx context.Context, b Bucket, s Sealer) error {
	m, _, err := readMarker(ctx, b)
	if err != nil || m.ID == (Identity{}) {
		return nil
	}
	if err := m.fits(s); err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	return nil
}

// identifyTries bounds how often Identify begins anew as others make and remove the marker.
const identifyTries = 3

// Identify returns the identity of b, and gives it one if it has none, or a damaged marker: of
// several who do so at once, all get the same. The marker is durable on return. It is for who will
// put there what s has sealed: it fails with [ErrKey] if others do with other keys, or none.
func Identify(ctx context.Context, b Bucket, s Sealer) (id Identity, err error) {
	stands := ErrConflict // instead of a marker, when it was read last
	for range identifyTries {
		m, etag, err := readMarker(ctx, b)
		if err == nil && m.ID != (Identity{}) {
			err = m.fits(s)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return Identity{}, fmt.Errorf("%v: %w", b, err)
		} else if err == nil && m.ID != (Identity{}) {
			return m.ID, nil
		}
		if err != nil {
			stands = fmt.Errorf("%w; %v", ErrConflict, err)
		}
		if err != nil && etag == "" { // it is too long to be read
			o, statErr := b.Stat(ctx, MarkerKey)
			if statErr != nil && !errors.Is(statErr, ErrAbsent) {
				return Identity{}, fmt.Errorf("identity of %v: %w", b, statErr)
			}
			etag = o.ETag
		}
		body, err := encodeMarker(newIdentity(), s)
		if err != nil {
			return Identity{}, err
		}
		_, err = b.Put(ctx, MarkerKey, body, Condition{IfMatch: etag, IfNone: etag == ""})
		if err != nil && !errors.Is(err, ErrConflict) {
			return Identity{}, fmt.Errorf("make the identity of %v: %w", b, err)
		}
		// Read again: somebody may have been faster, also where conditions are not kept.
	}
	return Identity{}, fmt.Errorf("identity of %v: again and again %w", b, stands)
}
