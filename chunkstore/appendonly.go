package chunkstore

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// PinKeyPrefix begins the keys of pins, in a bucket of chunks: see [RenewPack].
const PinKeyPrefix = "pin-"

// PutOnce stores body under key in t's bucket of chunks, where no object of its kind ever changes:
// what is there already is as good, if whole likes it. It puts unconditionally, which replaces what
// is damaged. Where a policy denies that, it creates the object on the condition that there is
// none, and then this process asks the target in no other way; what is there is read. If that is
// damaged, nothing can be done here, and the error says so.
func PutOnce(
	ctx context.Context, t *Target, key string, body []byte, whole func(stored []byte) error,
) error {
	return putOnce(ctx, t, key, body, func(ctx context.Context, key string, body []byte) error {
		_, err := t.Chunks.Put(ctx, key, body, Condition{})
		return err
	}, whole)
}

// putOnce is PutOnce where put puts unconditionally.
func putOnce(
	ctx context.Context, t *Target, key string, body []byte,
	put func(ctx context.Context, key string, body []byte) error, whole func(stored []byte) error,
) error {
	var denied error
	if !t.createsOnly.Load() {
		if denied = put(ctx, key, body); !errors.Is(denied, ErrDenied) {
			return denied
		}
	}
	_, err := t.Chunks.Put(ctx, key, body, Condition{IfNone: true})
	switch {
	case errors.Is(err, ErrDenied) && denied != nil:
		return denied // it is not only replacing that is
	case err == nil || errors.Is(err, ErrConflict):
		t.createsOnly.Store(true)
	}
	if !errors.Is(err, ErrConflict) {
		return err
	}
	_, err = GetWhole(ctx, t.Chunks, key, GetOptions{About: int64(len(body))}, whole)
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s in %v is damaged (%v), and a policy denies replacing it: "+
			"delete it with credentials that may", key, t.Chunks, err)
	}
	return err
}

// CreatesOnly reports whether t was seen to deny replacing packs: what is there cannot be touched.
func CreatesOnly(t *Target) bool { return t.createsOnly.Load() }

// PinPrefix begins the keys of the pins of the pack called name.
func PinPrefix(name Digest) string { return PinKeyPrefix + name.String() + "-" }

// ParsePin returns which pack a pin pins.
func ParsePin(key string) (name Digest, ok bool) {
	const from, to = len(PinKeyPrefix), len(PinKeyPrefix) + 2*len(name)
	if len(key) <= to || key[:from] != PinKeyPrefix || key[to] != '-' {
		return Digest{}, false
	}
	name, err := ParseDigest(key[from:to])
	return name, err == nil
}

// pin puts a pin of the pack called name: an object whose age counts for the pack's to whoever
// collects garbage. There is one for each day.
func pin(ctx context.Context, t *Target, name Digest) error {
	day := binary.BigEndian.AppendUint32(nil, uint32(time.Now().Unix()/(24*60*60)))
	_, err := t.Chunks.Put(ctx, PinPrefix(name)+hex.EncodeToString(day), []byte("pin\n"),
		Condition{IfNone: true})
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("pin pack %v: %w", name, err)
	}
	return nil
}

// RenewPack keeps the pack of t called name from whoever collects garbage, as if it had just been
// put: it touches it, or, where a policy denies that, pins it, and looks whether it is there. It
// fails as [Target.TouchPack]. A pin does not help against a rule by which objects expire.
func RenewPack(ctx context.Context, t *Target, name Digest) error {
	if !CreatesOnly(t) {
		if err := t.TouchPack(ctx, name); !errors.Is(err, ErrDenied) {
			return err
		}
	}
	err := pin(ctx, t, name)
	if err == nil {
		// After the pin: who collects asks for pins, and deletes then.
		_, err = t.StatPack(ctx, name, 0)
	}
	return err
}
