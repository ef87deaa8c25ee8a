package manifest_test

import (
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	. "verneuil/manifest"
)

// plain is of buckets whose names are no secrets.
var plain = chunkstore.Plain{}

func TestName(t *testing.T) {
	for _, c := range []struct{ host, path, want string }{
		{"pk-m2-mba", "/home/pkhuong/open-sauce/verneuil/test.db",
			"f3b8-verneuil%3Apk-m2-mba%3Ac84d%2F%2Fhome%2Fpkhuong%2Fopen-sauce%2Fverneuil%2Ftest.db"},
		{"h", "/a%20b", "c3af-verneuil%3Ah%3A20c6%2F%2Fa%2520b"},
		{"hé", "/ü", "a97d-verneuil%3Ah%C3%A9%3A471d%2F%2F%C3%BC"},
		{"a:b", "/x y!-_.*'()~", "9f48-verneuil%3Aa%3Ab%3A4ad9%2F%2Fx%20y!-_.*'()%7E"},
		{"", "", "af13-verneuil%3A%3Aaf13%2F"},
		// 30 bytes of prefix, 240 bytes in all: not cut; one more: cut.
		{"h", "/" + strings.Repeat("d", 210),
			"c3af-verneuil%3Ah%3A5c73%2F%2F" + strings.Repeat("d", 210)},
		{"h", "/" + strings.Repeat("d", 211),
			"c3af-verneuil%3Ah%3A6b47%2F%2F" + strings.Repeat("d", 178) +
				"da3bc58dfadf6e4b17e2260626cfef81"},
	} {
		got := Name(plain, c.host, c.path)
		if got != c.want {
			t.Errorf("Name(%q, %q):\n got %s\nwant %s", c.host, c.path, got, c.want)
		}
		if len(got) > 240 {
			t.Errorf("%d bytes", len(got))
		}
	}
	long := "/" + strings.Repeat("é", 100)
	if a, b := Name(plain, "h", long+"a"), Name(plain, "h", long+"b"); a == b || len(a) != 240 {
		t.Errorf("names of long paths: %s, %s", a, b)
	}
}

// TestParseName: a key says what it was made of, or, if it was too long, how that begins.
func TestParseName(t *testing.T) {
	long, longer := "/"+strings.Repeat("é/", 60), strings.Repeat("h", 255)
	for _, c := range []struct {
		host, path string
		whole      bool
	}{
		{"h", "/a%20b", true}, {"hé", "/ü", true}, {"a:b", "/x y!-_.*'()~:/", true}, {"", "", true},
		{"h", "/" + strings.Repeat("d", 210), true}, {"h", "/" + strings.Repeat("d", 211), false},
		{"a:b", long, false}, {"abc", long, false}, {"abcd", long, false}, {"abcde", long, false},
	} {
		got, ok := ParseName(plain, Name(plain, c.host, c.path))
		if !ok || got.Host != c.host || got.Whole != c.whole || c.whole && got.Path != c.path ||
			len(got.Path) < min(len(c.path), 50) || !strings.HasPrefix(c.path, got.Path) {
			t.Errorf("ParseName of %q, %q: %+v, %v", c.host, c.path, got, ok)
		}
		if !strings.HasPrefix(Name(plain, c.host, c.path), NamePrefix(plain, c.host)) {
			t.Errorf("%q is not the beginning of %q", NamePrefix(plain, c.host),
				Name(plain, c.host, c.path))
		}
	}
	if got, ok := ParseName(plain, Name(plain, longer, "/x")); !ok || got != (Source{}) {
		t.Errorf("ParseName of a long host: %+v, %v", got, ok)
	}
	for _, key := range []string{"", "x", "marker.json", "c3af-verneuil%3Ah%3A20c6%2F%2Fa",
		"0000-verneuil%3Ah%3A20c6%2F%2Fa%2520b",
		"c3af-verneuil%3Ah%3A20c6%2F%2Fa%2520b%2", strings.Repeat("a", 240),
		strings.Repeat("a", 241)} {
		if got, ok := ParseName(plain, key); ok {
			t.Errorf("ParseName(%q): %+v", key, got)
		}
	}
}

// TestSealedNames: a sealed name opens with the identity that has sealed it, as far as there was
// room; it tells nothing, is found again after a rotation, and is another one for others.
func TestSealedNames(t *testing.T) {
	keys := keyring.Generate(time.Now(), true)
	s, rotated := keyring.New(keys), keyring.New(keys.Rotate(time.Now()))
	others := []chunkstore.Sealer{plain, keyring.New(keyring.Generate(time.Now(), true)),
		keyring.New(keyring.Generate(time.Now(), false))}
	seen := make(map[string]bool)
	for _, c := range []struct {
		host, path string
		bytes      int
		whole      bool
	}{
		{"", "", 135, true}, {"", "/a.db", 135, true}, {"h", "/a.db", 135, true},
		{"ha", "/.db", 135, true}, {"h", "/" + strings.Repeat("d", 60), 135, true},
		{"h", "/" + strings.Repeat("d", 61), 238, true},
		{"h", "/" + strings.Repeat("d", 124), 238, true},
		{"h", "/" + strings.Repeat("d", 125), 238, false},
		{"h", "/" + strings.Repeat("d", 126), 238, false},
		{"h", "/" + strings.Repeat("é", 300), 238, false},
		{strings.Repeat("h", 200), "/a.db", 238, false},
	} {
		key := Name(s, c.host, c.path)
		if len(key) != c.bytes || seen[key] || key != Name(rotated, c.host, c.path) {
			t.Errorf("%q, %.20q: the key has %d bytes, want %d, or is not its own: %s", c.host,
				c.path, len(key), c.bytes, key)
		}
		seen[key] = true
		if !strings.HasPrefix(key, NamePrefix(s, c.host)) || strings.ToLower(key) != key {
			t.Errorf("%s begins otherwise than %s, or is not of lower case", key,
				NamePrefix(s, c.host))
		}
		got, ok := ParseName(rotated, key)
		if !ok || got.Whole != c.whole || got.Foreign ||
			c.whole && (got.Host != c.host || got.Path != c.path) ||
			!strings.HasPrefix(c.path, got.Path) || got.Host != "" && got.Host != c.host {
			t.Errorf("ParseName of %q, %.20q: %+v, %v", c.host, c.path, got, ok)
		}
		for _, other := range others {
			if got, ok := ParseName(other, key); !ok || got != (Source{Foreign: true}) {
				t.Errorf("with other keys: %+v, %v", got, ok)
			}
			if Name(other, c.host, c.path) == key {
				t.Errorf("other keys give the same key %s", key)
			}
		}
		tampered := []byte(key)
		for at := len(NamePrefix(s, "")); at < len(key); at += 7 {
			if tampered[at] = 'a'; key[at] == 'a' {
				tampered[at] = 'b'
			}
			if got, ok := ParseName(s, string(tampered)); ok && !got.Foreign {
				t.Errorf("a name with another letter at %d opens: %+v", at, got)
			}
			tampered[at] = key[at]
		}
	}
	for _, key := range []string{"sealed-", "sealed-a", "sealed-" + strings.Repeat("a", 127),
		"sealed-" + strings.Repeat("A", 128), "sealed-" + strings.Repeat("1", 128)} {
		if got, ok := ParseName(s, key); ok {
			t.Errorf("ParseName(%q): %+v", key, got)
		}
	}
}
