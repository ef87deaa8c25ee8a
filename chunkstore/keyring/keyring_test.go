package keyring_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/chunkstore/storetest"
)

var update = flag.Bool("update", false, "write vectors that are not there")

var day = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// abouts are of all kinds.
var abouts = []string{"manifest", "object " + strings.Repeat("x", 32), "list y", "log-a-1", ""}

// TestK1Opens: what was sealed opens to the same bytes, whatever their length, into a buffer or
// not.
func TestK1Opens(t *testing.T) {
	s := keyring.New(keyring.Generate(day, false))
	for _, about := range abouts {
		for _, n := range []int{0, 1, 63, 1024, chunkstore.ChunkBytes, 1 << 20} {
			plain := storetest.Noise(uint64(n), n)
			stored := chunkstore.Wrapped(s, about, plain)
			if len(stored) != n+chunkstore.Overhead(s) {
				t.Fatalf("%d bytes of %d", len(stored), n)
			}
			if n >= 1024 && bytes.Contains(stored, plain[:64]) {
				t.Errorf("%d bytes of %q are there plainly", n, about)
			}
			for _, buf := range [][]byte{nil, make([]byte, 0, n+16)} {
				was := bytes.Clone(stored)
				got, err := s.Unwrap(buf, about, stored)
				if err != nil || !bytes.Equal(got, plain) || !bytes.Equal(stored, was) {
					t.Errorf("%q, %d bytes: %v", about, n, err)
				}
			}
		}
	}
}

// TestK1Tampered: no byte of what is sealed can be changed, nor any be missing or added, nor can it
// stand for something else, be it of the same kind.
func TestK1Tampered(t *testing.T) {
	s := keyring.New(keyring.Generate(day, false))
	stored := chunkstore.Wrapped(s, "log-a-1", storetest.Text(1, 300))
	refused := func(what, about string, stored []byte) {
		t.Helper()
		plain, err := s.Unwrap(nil, about, stored)
		if plain != nil || !chunkstore.IsFault(err) || errors.Is(err, chunkstore.ErrKey) {
			t.Errorf("%s: %q, %v", what, plain, err)
		}
	}
	for i := range stored {
		for bit := range 8 {
			bad := bytes.Clone(stored)
			bad[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, i), "log-a-1", bad)
		}
		refused(fmt.Sprintf("cut at %d", i), "log-a-1", stored[:i])
	}
	refused("longer", "log-a-1", append(bytes.Clone(stored), 0))
	for _, about := range append(abouts, "log-a-2", "log-b-1", "lease-a-1", "log-a-11", "log-a-") {
		if about != "log-a-1" {
			refused("in the place of "+about, about, stored)
		}
	}
}

// TestK1AnotherKey: other keys, none, and keys where nothing was encrypted are errors that say so,
// and no damage: nobody may replace what he cannot read.
func TestK1AnotherKey(t *testing.T) {
	keys := keyring.Generate(day, false)
	ours, other := keyring.New(keys), keyring.New(keyring.Generate(day, false))
	id := ours.Identify([]byte("text"))
	object := chunkstore.SealObject(ours, nil, id, []byte("text"))
	plain := chunkstore.SealObject(chunkstore.Plain{}, nil, id, []byte("text"))
	for what, err := range map[string]error{
		"another ring": second(chunkstore.OpenObject(other, nil, id, object)),
		"no key":       second(chunkstore.OpenObject(chunkstore.Plain{}, nil, id, object)),
		"not sealed":   second(chunkstore.OpenObject(ours, nil, id, plain)),
		"plain body":   second(ours.Unwrap(nil, "manifest", chunkstore.EncodeBody([]byte("b")))),
		"sealed body": second(chunkstore.Plain{}.Unwrap(nil, "manifest",
			chunkstore.Wrapped(ours, "manifest", chunkstore.EncodeBody([]byte("b"))))),
	} {
		if !errors.Is(err, chunkstore.ErrKey) || chunkstore.IsFault(err) {
			t.Errorf("%s: %v", what, err)
		}
		t.Log(err)
	}
}

func second(_ []byte, err error) error { return err }

// TestObjectsOfAnother: an object cannot stand for another one, even one that was sealed with the
// same key; and an object whose sealed bytes have another ID is refused, whoever sealed it (I1).
func TestObjectsOfAnother(t *testing.T) {
	s := keyring.New(keyring.Generate(day, false))
	for _, text := range [][]byte{storetest.Text(1, 5000), storetest.Noise(1, 5000)} {
		id, other := s.Identify(text), s.Identify(text[1:])
		stored := chunkstore.SealObject(s, nil, id, text)
		if got, err := chunkstore.OpenObject(s, nil, id, stored); !bytes.Equal(got, text) {
			t.Fatal(err)
		}
		_, err := chunkstore.OpenObject(s, nil, other, stored)
		storetest.MustBe(t, err, chunkstore.ErrCorrupt)
		_, err = chunkstore.OpenObject(s, nil, other, chunkstore.SealObject(s, nil, other, text))
		storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	}
}

// TestK2Nonces: equal bytes about the same thing are stored equally; other bytes, about another
// thing, or with another key, under another nonce.
func TestK2Nonces(t *testing.T) {
	keys := keyring.Generate(day, false)
	seen := make(map[string]string)
	for _, k := range []*keyring.Keys{keys, keys.Rotate(day)} {
		s := keyring.New(k)
		for _, about := range abouts {
			for _, text := range []string{"", "a", "b", "aa"} {
				stored := chunkstore.Wrapped(s, about, []byte(text))
				again := chunkstore.Wrapped(s, about, []byte(text))
				if !bytes.Equal(again, stored) {
					t.Errorf("%q about %q is stored in two ways", text, about)
				}
				nonce, is := string(stored[16:40]), fmt.Sprintf("%q about %q", text, about)
				if was, ok := seen[nonce]; ok {
					t.Errorf("%s has the nonce of %s", is, was)
				}
				seen[nonce] = is
			}
		}
	}
}

// TestK3IDs: IDs are equal for equal bytes and one ring, whatever its keys, and no others'; zeros
// are known to everyone, only where they are a whole chunk.
func TestK3IDs(t *testing.T) {
	keys := keyring.Generate(day, false)
	s, rotated := keyring.New(keys), keyring.New(keys.Rotate(day))
	other := keyring.New(keyring.Generate(day, false))
	for n := range 3000 {
		b := storetest.Noise(uint64(n), n)
		id := s.Identify(b)
		if id != s.Identify(b) || id != rotated.Identify(b) || id == other.Identify(b) ||
			id == chunkstore.ID(chunkstore.Sum(b)) {
			t.Fatalf("%d bytes: %v", n, id)
		}
	}
	zeros := make([]byte, chunkstore.ChunkBytes)
	if s.Identify(zeros) != chunkstore.ZeroID || s.Identify(zeros[1:]) == chunkstore.ZeroID {
		t.Error("zeros")
	}
	zeros[len(zeros)-1] = 1
	if s.Identify(zeros) == chunkstore.ZeroID {
		t.Error("a chunk that ends in 1 is zeros")
	}
}

// TestK4Rotation: what older keys have sealed opens, is not fresh, and sealed anew has its length.
// A key that was dropped opens nothing; the newest cannot be dropped.
func TestK4Rotation(t *testing.T) {
	first := keyring.Generate(day, false)
	both := first.Rotate(day.Add(time.Hour))
	was, s := keyring.New(first), keyring.New(both)
	if _, older := was.Ring(); older {
		t.Error("one key has older ones")
	}
	if ring, older := s.Ring(); !older || ring != first.Ring() {
		t.Error(ring, older)
	}
	stored := chunkstore.Wrapped(was, "a", []byte("text"))
	again, err := chunkstore.Rewrapped(s, "a", stored)
	if err != nil || s.Fresh(stored) || !s.Fresh(again) || len(again) != len(stored) {
		t.Fatalf("%v: %q", err, again)
	}
	_, err = was.Unwrap(nil, "a", again) // its process has not read the new file
	storetest.MustBe(t, err, chunkstore.ErrKey)
	infos := both.Infos()
	if _, err := both.Drop(infos[1].Name); !errors.Is(err, keyring.ErrNewest) {
		t.Error(err)
	}
	if _, err := both.Drop("0123456789abcdef"); err == nil {
		t.Error("a key that is not there was dropped")
	}
	dropped, err := both.Drop(infos[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	s = keyring.New(dropped)
	if plain, err := s.Unwrap(nil, "a", again); err != nil || string(plain) != "text" {
		t.Errorf("%q, %v", plain, err)
	}
	_, err = s.Unwrap(nil, "a", stored)
	storetest.MustBe(t, err, chunkstore.ErrKey)
}

// TestPackOfTwoKeys: a pack whose objects were sealed before a rotation, and which is put after it,
// is of the newest key in all its bytes, and its places are those that were told before.
func TestPackOfTwoKeys(t *testing.T) {
	keys := keyring.Generate(day, false)
	was, s := keyring.New(keys), keyring.New(keys.Rotate(day))
	var p chunkstore.Pack
	for n := range 5 {
		sealer := []chunkstore.Sealer{was, s}[n%2]
		p.Seal(sealer, chunkstore.Hash(sealer, storetest.Text(uint64(n), 1000)))
	}
	name, places := p.Places()
	stored, encodedName, encodedPlaces := p.Encode(s)
	pieces, err := chunkstore.DecodePack(s, name, stored)
	if err != nil || name != encodedName || len(pieces) != 5 {
		t.Fatal(err)
	}
	for k, piece := range pieces {
		if piece.Place != places[k] || piece.Place != encodedPlaces[k] || !s.Fresh(piece.Stored) {
			t.Errorf("object %d stands at %v, fresh: %v", k, piece.Place, s.Fresh(piece.Stored))
		}
		if _, err := chunkstore.OpenObject(s, nil, piece.ID, piece.Stored); err != nil {
			t.Error(err)
		}
	}
	if !s.Fresh(stored[len(stored)-chunkstore.Overhead(s):]) {
		t.Error("the list is sealed with an older key")
	}
	if bytes.Contains(stored, pieces[0].ID[:]) {
		t.Error("an ID stands in the pack plainly")
	}
}

// TestKeyFile: a key file is read as it was written; each line that is damaged is named, and no
// secret is told (K6).
func TestKeyFile(t *testing.T) {
	keys := keyring.Generate(day, false).Rotate(day.Add(time.Hour))
	text := keys.Encode()
	again, err := keyring.Parse(text)
	if err != nil || !bytes.Equal(again.Encode(), text) {
		t.Fatal(err)
	}
	var secrets []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == "key" || fields[0] == "identity" {
			secrets = append(secrets, fields[2])
		}
	}
	if len(secrets) != 3 {
		t.Fatal("secrets", len(secrets))
	}
	fails := func(text string) {
		t.Helper()
		_, err := keyring.Parse([]byte(text))
		if err == nil {
			t.Errorf("accepted:\n%s", text)
			return
		}
		for _, s := range secrets {
			if strings.Contains(err.Error(), s[:16]) {
				t.Errorf("the error tells a secret: %v", err)
			}
		}
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	for k, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.HasPrefix(line, "key") {
			fails(strings.Join(append(append([]string{}, lines[:k]...), lines[k+1:]...), ""))
		}
		fails(string(text) + "\n" + line)
		for i := range strings.Join(strings.Fields(line)[:3], " ") {
			bad := []byte(line)
			bad[i] ^= 1
			fails(strings.Join(lines[:k], "") + string(bad) + strings.Join(lines[k+1:], ""))
		}
	}
	fails("")
	fails(strings.Repeat("#\n", 40000))
}

// TestK5KeyFileChanges: a Sealer seals with a key that was added to its file, opens what another
// process has sealed with one, and does not take another ring's file for its own.
func TestK5KeyFileChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(k *keyring.Keys) {
		t.Helper()
		err := os.WriteFile(path+".new", k.Encode(), 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keys := keyring.Generate(day, false)
	_, err := keyring.Open(keyring.Source{File: path}, slog.Default())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "key_file "+path) {
		t.Error(err)
	}
	write(keys)
	s, err := keyring.Open(keyring.Source{File: path}, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if same, err := keyring.Open(keyring.Source{File: path}, nil); same != s || err != nil {
		t.Error("the same keys are another Sealer", err)
	}
	rotated := keys.Rotate(day)
	stored := chunkstore.Wrapped(keyring.New(rotated), "a", []byte("text"))
	_, err = s.Unwrap(nil, "a", stored)
	storetest.MustBe(t, err, chunkstore.ErrKey)
	if !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the key file: %v", err)
	}
	write(rotated)
	if plain, err := s.Unwrap(nil, "a", stored); err != nil || string(plain) != "text" {
		t.Fatal(err)
	}
	if !s.Fresh(chunkstore.Wrapped(s, "a", nil)) || !s.Fresh(stored) {
		t.Error("it seals with an older key")
	}
	other := keyring.Generate(day, false)
	write(other)
	_, err = s.Unwrap(nil, "a", chunkstore.Wrapped(keyring.New(other), "a", nil))
	storetest.MustBe(t, err, chunkstore.ErrKey)
	if _, err := s.Unwrap(nil, "a", stored); err != nil {
		t.Error(err)
	}
	now, err := keyring.Open(keyring.Source{File: path}, nil)
	if now == s || err != nil {
		t.Error("another ring is the same Sealer", err)
	}
	write(other.Rotate(day)) // who has no log is told nothing
	stored = chunkstore.Wrapped(keyring.New(other), "a", []byte("text"))
	if _, err := keyring.Open(keyring.Source{File: path}, nil); err != nil {
		t.Error(err)
	}
	if plain, err := now.Unwrap(nil, "a", stored); err != nil || string(plain) != "text" {
		t.Errorf("%q, %v", plain, err)
	}
}

// vector is a golden form: keys of which these are sealed.
type vector struct {
	Keys    string            `json:"keys"`
	Ring    string            `json:"ring"`
	About   string            `json:"about"`
	Plain   []byte            `json:"plain"`
	ID      string            `json:"id"`
	Wrapped map[string][]byte `json:"wrapped"` // by the key's name
	Object  []byte            `json:"object"`  // of Plain, under ID
	// Sealed is what SealName makes of About; nil where names are not sealed.
	Sealed []byte `json:"sealed_name,omitempty"`
}

// TestVectors: what was sealed by any version opens, and this one seals in the same way.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.vector")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		writeVectors(t)
	}
	if len(files) < 2 {
		t.Fatal("no vectors")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v vector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		keys, err := keyring.Parse([]byte(v.Keys))
		if err != nil {
			t.Fatal(err)
		}
		s := keyring.New(keys)
		id := s.Identify(v.Plain)
		if id.String() != v.ID || keys.Ring() != v.Ring || string(keys.Encode()) != v.Keys {
			t.Errorf("%s: ID %v, ring %s", name, id, keys.Ring())
		}
		if plain, err := chunkstore.OpenObject(s, nil, id, v.Object); !bytes.Equal(plain, v.Plain) {
			t.Errorf("%s: object: %v", name, err)
		}
		if sealed := s.SealName([]byte(v.About)); !bytes.Equal(sealed, v.Sealed) {
			t.Errorf("%s: the name is %x", name, sealed)
		}
		if plain, ok := s.OpenName(v.Sealed); ok != keys.SealsNames() || string(plain) !=
			map[bool]string{true: v.About}[ok] {
			t.Errorf("%s: the sealed name opens as %q, %v", name, plain, ok)
		}
		newest := keys.Infos()[len(keys.Infos())-1].Name
		if !bytes.Equal(chunkstore.Wrapped(s, v.About, v.Plain), v.Wrapped[newest]) {
			t.Errorf("%s: it is sealed in another way", name)
		}
		for key, stored := range v.Wrapped {
			if plain, err := s.Unwrap(nil, v.About, stored); !bytes.Equal(plain, v.Plain) {
				t.Errorf("%s: key %s: %v", name, key, err)
			}
		}
	}
}

// writeVectors writes those that are not there.
func writeVectors(t *testing.T) {
	for file, names := range map[string]bool{"v1": false, "v1-names": true} {
		file = "testdata/" + file + ".vector"
		if _, err := os.Stat(file); err != nil {
			writeVector(t, file, names)
		}
	}
}

func writeVector(t *testing.T, file string, names bool) {
	first := keyring.Generate(day, names)
	keys := first.Rotate(day.Add(time.Hour))
	was, s := keyring.New(first), keyring.New(keys)
	v := vector{Keys: string(keys.Encode()), Ring: keys.Ring(), About: "log-x-0000000000000001",
		Plain: storetest.Text(1, 200)}
	v.Sealed = s.SealName([]byte(v.About))
	id := s.Identify(v.Plain)
	v.ID, v.Object = id.String(), chunkstore.SealObject(s, nil, id, v.Plain)
	v.Wrapped = map[string][]byte{
		keys.Infos()[0].Name: chunkstore.Wrapped(was, v.About, v.Plain),
		keys.Infos()[1].Name: chunkstore.Wrapped(s, v.About, v.Plain),
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.MkdirAll("testdata", 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzUnwrap: whatever is stored, there is no panic, and what opens was sealed so.
func FuzzUnwrap(f *testing.F) {
	s := keyring.New(keyring.Generate(day, false))
	f.Add("a", chunkstore.Wrapped(s, "a", []byte("text")))
	f.Add("", chunkstore.Wrapped(s, "", nil))
	f.Fuzz(func(t *testing.T, about string, stored []byte) {
		plain, err := s.Unwrap(nil, about, stored)
		if err == nil && !bytes.Equal(chunkstore.Wrapped(s, about, plain), stored) {
			t.Errorf("%q about %q opens, but is sealed in another way", stored, about)
		}
	})
}

// FuzzParse: whatever a key file holds, there is no panic, and what is accepted is written again.
func FuzzParse(f *testing.F) {
	f.Add(keyring.Generate(day, false).Rotate(day).Encode())
	f.Add(keyring.Generate(day, true).Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := keyring.Parse(text)
		if err != nil {
			return
		}
		again, err := keyring.Parse(keys.Encode())
		if err != nil || !bytes.Equal(again.Encode(), keys.Encode()) {
			t.Errorf("%v:\n%s", err, text)
		}
	})
}

func BenchmarkSealObject(b *testing.B) {
	plain := storetest.Text(1, chunkstore.ChunkBytes)
	for name, s := range map[string]chunkstore.Sealer{
		"plain": chunkstore.Plain{}, "keyed": keyring.New(keyring.Generate(day, false)),
	} {
		id := s.Identify(plain)
		stored := chunkstore.SealObject(s, nil, id, plain)
		b.Run("seal/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			buf := make([]byte, 0, 2*chunkstore.ChunkBytes)
			for b.Loop() {
				s.Identify(plain)
				chunkstore.SealObject(s, buf, id, plain)
			}
		})
		b.Run("open/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			buf := make([]byte, 0, chunkstore.OpenBytes)
			for b.Loop() {
				if _, err := chunkstore.OpenObject(s, buf, id, stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
