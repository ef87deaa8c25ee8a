package keyring

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
)

const (
	header       = "verneuil keys 1"
	namesWord    = "names" // after an identity that seals names
	secretBytes  = 32
	keysBytesMax = 64 << 10
)

// Keys are those of one ring: what a key file holds. They do not change; their methods return
// others.
type Keys struct {
	identity   secret
	sealsNames bool  // names of databases are sealed, too
	keys       []key // in the order in which they were made
}

type secret [secretBytes]byte

// key is one that seals, or has sealed.
type key struct {
	secret
	name chunkstore.KeyName
	made time.Time
}

// derive returns n bytes that depend on s, and on what they are for.
func (s secret) derive(purpose string, n int) []byte {
	b := make([]byte, n)
	blake3.DeriveKey("verneuil 2026-11-29 "+purpose, s[:], b)
	return b
}

func newSecret() (s secret) {
	rand.Read(s[:]) // never fails: crypto/rand
	return s
}

func keyOf(s secret, made time.Time) key {
	name := chunkstore.KeyName(s.derive("key name", len(chunkstore.KeyName{})))
	return key{s, name, made.UTC().Truncate(time.Second)}
}

// Generate returns the keys of a new ring. names: it seals names of databases, too (K7).
func Generate(now time.Time, names bool) *Keys {
	return &Keys{newSecret(), names, []key{keyOf(newSecret(), now)}}
}

// Rotate returns k with a new key, which seals from then on.
func (k *Keys) Rotate(now time.Time) *Keys {
	return &Keys{k.identity, k.sealsNames, append(slices.Clip(k.keys), keyOf(newSecret(), now))}
}

// ErrNewest: a key is the newest, which seals: it cannot be dropped.
var ErrNewest = errors.New("it is the newest key, which seals: rotate first")

// Drop returns k without the key of that name. What it has sealed cannot be opened any more. It
// fails if there is none, and with [ErrNewest].
func (k *Keys) Drop(name string) (*Keys, error) {
	at := slices.IndexFunc(k.keys, func(k key) bool { return k.name.String() == name })
	switch {
	case at < 0:
		return nil, fmt.Errorf("no key %q: the keys are %s", name, k.names())
	case at == len(k.keys)-1:
		return nil, fmt.Errorf("key %s: %w", name, ErrNewest)
	}
	return &Keys{k.identity, k.sealsNames, slices.Delete(slices.Clone(k.keys), at, at+1)}, nil
}

// Ring names the keys as a whole: it does not change when they are rotated.
func (k *Keys) Ring() string {
	purpose := "ring name"
	if k.sealsNames {
		purpose = "ring name, names sealed" // K7
	}
	return hex.EncodeToString(k.identity.derive(purpose, 8))
}

// SealsNames reports whether names of databases are sealed, too.
func (k *Keys) SealsNames() bool { return k.sealsNames }

// Info is what may be told of a key.
type Info struct {
	Name   string    `json:"key"`
	Made   time.Time `json:"made"`
	Newest bool      `json:"seals"` // it seals; the others only open
}

// Infos returns what may be told of the keys, in the order in which they were made.
func (k *Keys) Infos() (all []Info) {
	for i, one := range k.keys {
		all = append(all, Info{one.name.String(), one.made, i == len(k.keys)-1})
	}
	return all
}

func (k *Keys) names() string {
	names := make([]string, len(k.keys))
	for i, one := range k.keys {
		names[i] = one.name.String()
	}
	return strings.Join(names, ", ")
}

// Encode returns the text of a key file.
func (k *Keys) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, header)
	fmt.Fprintln(&b, "# Keep this file, and a copy elsewhere: without it nobody can read what was")
	fmt.Fprintln(&b, "# stored with it. Whoever has it can.")
	names := ""
	if k.sealsNames {
		names = " " + namesWord
	}
	fmt.Fprintf(&b, "identity %s %x%s\n", k.Ring(), k.identity[:], names)
	for _, one := range k.keys {
		fmt.Fprintf(&b, "key %s %x %s\n", one.name, one.secret[:], one.made.Format(time.RFC3339))
	}
	return b.Bytes()
}

// Parse is the inverse of [Keys.Encode]. Its errors name the line, and tell no secret.
func Parse(text []byte) (*Keys, error) {
	if len(text) > keysBytesMax {
		return nil, fmt.Errorf("longer than %d bytes: it has too many keys, drop older ones",
			keysBytesMax)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, keysBytesMax+1)
	k, identified, begun := &Keys{}, false, false
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		var err error
		switch {
		case !begun && strings.TrimSpace(lines.Text()) == header:
			begun = true
		case !begun:
			err = fmt.Errorf("no key file: it must begin with %q (make one by verneuilctl key new)",
				header)
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case fields[0] == "identity" && !identified && (len(fields) == 3 ||
			len(fields) == 4 && fields[3] == namesWord):
			k.sealsNames = len(fields) == 4
			k.identity, err = parseSecret(fields[2])
			if identified = true; err == nil && k.Ring() != fields[1] {
				err = errors.New("the identity was changed: its name does not fit")
			}
		case fields[0] == "key" && len(fields) == 4:
			err = k.parseKey(fields[1:])
		default:
			err = errors.New("want one identity, with its name and secret, " +
				"or a key, with its name, secret and time")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case !begun:
		return nil, errors.New("empty")
	case !identified || len(k.keys) == 0:
		return nil, errors.New("it lacks an identity, or a key: it is not whole")
	}
	return k, nil
}

func (k *Keys) parseKey(fields []string) error {
	s, err := parseSecret(fields[1])
	if err != nil {
		return err
	}
	made, err := time.Parse(time.RFC3339, fields[2])
	if err != nil {
		return errors.New("want the time at which the key was made, as 2026-11-29T12:00:00Z")
	}
	one := keyOf(s, made)
	switch {
	case one.name.String() != fields[0]:
		return errors.New("the key was changed: its name does not fit")
	case slices.ContainsFunc(k.keys, func(k key) bool { return k.name == one.name }):
		return fmt.Errorf("key %s: it is there already", one.name)
	}
	k.keys = append(k.keys, one)
	return nil
}

func parseSecret(text string) (s secret, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != secretBytes {
		return secret{}, fmt.Errorf("want a secret of %d hex digits", 2*secretBytes)
	}
	return secret(b), nil
}
