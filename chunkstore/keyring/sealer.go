package keyring

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"

	"verneuil/chunkstore"
)

const (
	nonceAt     = chunkstore.SealHeadBytes
	cipherAt    = nonceAt + chacha20poly1305.NonceSizeX
	tagBytes    = chacha20poly1305.Overhead
	lengthBytes = 8
)

// Sealer is a [chunkstore.Sealer] that encrypts.
type Sealer struct{ r *ring }

// ring is the keys of a Sealer, and where they come from.
type ring struct {
	source source // nil: they do not change
	name   string
	ids    hashers
	names  *nameSealer // nil: names are no secrets
	now    atomic.Pointer[opened]
}

// opened is keys that are ready for use. It does not change.
type opened struct {
	keys   *Keys
	newest *machine
	all    map[chunkstore.KeyName]*machine
}

// machine is what seals and opens with one key.
type machine struct {
	name   chunkstore.KeyName
	aead   cipher.AEAD
	nonces hashers
}

// New returns a Sealer of keys that do not change.
func New(k *Keys) Sealer {
	r := &ring{name: k.Ring(), ids: hashersOf(k.identity.derive("object ID", secretBytes))}
	if k.sealsNames {
		r.names = newNameSealer(k.identity)
	}
	r.now.Store(open(k))
	return Sealer{r}
}

func open(k *Keys) *opened {
	o := &opened{keys: k, all: make(map[chunkstore.KeyName]*machine)}
	for _, one := range k.keys {
		aead, err := chacha20poly1305.NewX(one.derive("cipher", chacha20poly1305.KeySize))
		if err != nil {
			panic(err) // the key has the right length
		}
		o.newest = &machine{one.name, aead, hashersOf(one.derive("nonce", secretBytes))}
		o.all[one.name] = o.newest
	}
	return o
}

// hashers are keyed hashers: each is of 8 KB, and does not depend on what it has hashed before.
type hashers struct{ pool *sync.Pool }

func hashersOf(key []byte) hashers {
	return hashers{&sync.Pool{New: func() any {
		h, err := blake3.NewKeyed(key)
		if err != nil {
			panic(err) // the key has the right length
		}
		return h
	}}}
}

// sum returns the hash of parts, one after the other.
func (h hashers) sum(parts ...[]byte) (sum [32]byte) {
	hasher := h.pool.Get().(*blake3.Hasher)
	defer h.pool.Put(hasher)
	hasher.Reset()
	for _, p := range parts {
		hasher.Write(p)
	}
	hasher.Sum(sum[:0])
	return sum
}

// Identify returns the keyed hash of plain: see [chunkstore.Sealer].
func (s Sealer) Identify(plain []byte) chunkstore.ID {
	if len(plain) == chunkstore.ChunkBytes && plain[0] == 0 &&
		bytes.Equal(plain[1:], plain[:len(plain)-1]) {
		return chunkstore.ZeroID
	}
	return s.r.ids.sum(plain)
}

// Overhead returns the room for the key's name and the nonce, and for the tag.
func (Sealer) Overhead() (before, after int) { return cipherAt, tagBytes }

// Wrap encrypts with the newest key: see [chunkstore.Sealer].
func (s Sealer) Wrap(about string, b []byte) {
	s.r.refresh()
	s.r.now.Load().newest.wrap(about, b)
}

func (m *machine) wrap(about string, b []byte) {
	plain := b[cipherAt : len(b)-tagBytes]
	var length [lengthBytes]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(about)))
	nonce := m.nonces.sum(length[:], []byte(about), plain) // K2
	chunkstore.PutSealHead(b, m.name)
	copy(b[nonceAt:cipherAt], nonce[:])
	m.aead.Seal(plain[:0], b[nonceAt:cipherAt], plain, associated(b, about))
}

// associated returns what is bound to sealed bytes.
func associated(b []byte, about string) []byte {
	return append(append(make([]byte, 0, 64), b[:nonceAt]...), about...)
}

// Unwrap decrypts: see [chunkstore.Sealer].
func (s Sealer) Unwrap(buf []byte, about string, stored []byte) ([]byte, error) {
	name, ok := chunkstore.SealedWith(stored)
	if !ok {
		if looksPlain(stored) {
			return nil, fmt.Errorf("%w: it is not encrypted, and the configuration has a key: it "+
				"was stored without one, or somebody else has put it there", chunkstore.ErrKey)
		}
		return nil, fmt.Errorf("%w: %d bytes that do not begin as what is encrypted does",
			chunkstore.ErrCorrupt, len(stored))
	}
	o := s.r.now.Load()
	m := o.all[name]
	if m == nil {
		if o = s.r.reload(); o.all[name] == nil { // K5
			return nil, fmt.Errorf("%w: it is encrypted with the key %s, which %s does not have: "+
				"it has %s; give it the key file that has it", chunkstore.ErrKey, name, s.r,
				o.keys.names())
		}
		m = o.all[name]
	}
	if len(stored) < cipherAt+tagBytes {
		return nil, fmt.Errorf("%w: it was cut short: %d bytes", chunkstore.ErrCorrupt, len(stored))
	}
	plain, err := m.aead.Open(buf[:0], stored[nonceAt:cipherAt], stored[cipherAt:],
		associated(stored, about))
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed since it was encrypted (key %s), or put in the "+
			"place of something else", chunkstore.ErrCorrupt, name)
	}
	return plain, nil
}

// Fresh reports whether stored is sealed with the newest key: see [chunkstore.Sealer].
func (s Sealer) Fresh(stored []byte) bool {
	name, ok := chunkstore.SealedWith(stored)
	return ok && name == s.r.now.Load().newest.name
}

// Ring returns the ring's name, and whether it has more than one key: see [chunkstore.Sealer].
func (s Sealer) Ring() (name string, older bool) {
	s.r.refresh()
	return s.r.name, len(s.r.now.Load().keys.keys) > 1
}

// String says where the keys are from.
func (r *ring) String() string {
	if r.source == nil {
		return "the ring " + r.name
	}
	return r.source.String()
}

// looksPlain reports whether stored is what [chunkstore.Plain] would have stored, as far as that
// can be told: not only damaged.
func looksPlain(stored []byte) bool {
	if bytes.HasPrefix(stored, []byte("VRNC")) || bytes.HasPrefix(stored, []byte("VRNL")) {
		return true
	}
	_, err := chunkstore.DecodeBody(stored)
	return err == nil
}
