package manifest_test

import (
	"strings"
	"testing"

	. "verneuil/manifest"
)

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
		got := Name(c.host, c.path)
		if got != c.want {
			t.Errorf("Name(%q, %q):\n got %s\nwant %s", c.host, c.path, got, c.want)
		}
		if len(got) > 240 {
			t.Errorf("%d bytes", len(got))
		}
	}
	long := "/" + strings.Repeat("é", 100)
	if a, b := Name("h", long+"a"), Name("h", long+"b"); a == b || len(a) != 240 {
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
		got, ok := ParseName(Name(c.host, c.path))
		if !ok || got.Host != c.host || got.Whole != c.whole || c.whole && got.Path != c.path ||
			len(got.Path) < min(len(c.path), 50) || !strings.HasPrefix(c.path, got.Path) {
			t.Errorf("ParseName of %q, %q: %+v, %v", c.host, c.path, got, ok)
		}
		if !strings.HasPrefix(Name(c.host, c.path), NamePrefix(c.host)) {
			t.Errorf("%q is not the beginning of %q", NamePrefix(c.host), Name(c.host, c.path))
		}
	}
	if got, ok := ParseName(Name(longer, "/x")); !ok || got != (Source{}) {
		t.Errorf("ParseName of a long host: %+v, %v", got, ok)
	}
	for _, key := range []string{"", "x", "marker.json", "c3af-verneuil%3Ah%3A20c6%2F%2Fa",
		"0000-verneuil%3Ah%3A20c6%2F%2Fa%2520b",
		"c3af-verneuil%3Ah%3A20c6%2F%2Fa%2520b%2", strings.Repeat("a", 240),
		strings.Repeat("a", 241)} {
		if got, ok := ParseName(key); ok {
			t.Errorf("ParseName(%q): %+v", key, got)
		}
	}
}
