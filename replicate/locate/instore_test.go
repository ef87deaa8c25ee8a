package locate_test

import (
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/replicate/locate"
)

func isStore(name string) bool { return name == "s" || name == "a.b_c-1" }

// TestAddress: names and URIs of databases in stores mean to us what they mean to SQLite; what is
// in no store is not ours to judge.
var plain chunkstore.Plain // sealer

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		uri, store, path string // no store: a file
		wrong            string // what the error says
	}{
		{"file:///s/app.db", "s", "/app.db", ""},
		{"file:/s/app.db", "s", "/app.db", ""},
		{"file://localhost/s/app.db", "s", "/app.db", ""},
		{"file:///a.b_c-1/any/path.db?vfs=verneuil_remote&mode=ro", "a.b_c-1", "/any/path.db", ""},
		{"file:////s//x///y.db#z", "s", "/x/y.db", ""},
		{"file:///s/a%20b%3F%25.db", "s", "/a b?%.db", ""},
		{"file:///s/%C3%BC..db", "s", "/ü..db", ""},
		{"file:///%73/x.db", "s", "/x.db", ""},
		{"file:///s", "", "", "names no database: want file:///s/any/path.db"},
		{"file:///s//", "", "", "names no database"},
		{"file:///s/../etc/passwd", "", "", `"." and ".." mean nothing in a store`},
		{"file:///s/x/%2e%2E/y", "", "", `"." and ".." mean nothing in a store`},
		{"file:///s/./x", "", "", `"." and ".."`},
		{"file:///s/x/", "", "", "ends in a slash"},
		{"file:///s/a%00b", "", "", "zero byte"},
		{"file:///s/a%zzb", "", "", "%25"},
		{"file:///s/" + strings.Repeat("x", 4097), "", "", "longer than 4096 bytes"},
		{"file:///t/../s/x", "", "", ""},
		{"file:///S/x.db", "", "", ""},
		{"file://s/x.db", "", "", ""},
		{"file:s/x.db", "", "", ""},
		{"verneuil:///s/x.db", "", "", ""},
		{"/s/x.db", "", "", ""},
		{"", "", "", ""},
	} {
		a, ok, err := locate.ParseAddressURI(c.uri, isStore)
		if c.wrong != "" {
			if !ok || err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%.60s: %v, %v, want %q", c.uri, ok, err, c.wrong)
			}
			continue
		}
		want := locate.Address{Store: c.store, Path: c.path}
		if ok != (c.store != "") || err != nil || a != want {
			t.Errorf("%s: %+v, %v, %v", c.uri, a, ok, err)
		}
		if !ok {
			continue
		}
		if again, ok, err := locate.ParseAddressURI(a.String(), isStore); again != a || !ok ||
			err != nil {
			t.Errorf("%v: %+v, %v, %v", a, again, ok, err)
		}
		if again, ok, err := locate.ParseAddress(a.Name(), isStore); again != a || !ok ||
			err != nil {
			t.Errorf("%s: %+v, %v, %v", a.Name(), again, ok, err)
		}
		if s, ok := manifest.ParseName(plain, a.Key(plain)); !ok || s.Host != "" ||
			s.Path != a.Path {
			t.Errorf("the key of %v says %+v, %v", a, s, ok)
		}
	}
}

// TestInStore: a database in a store is located like a host's, under no host's name.
func TestInStore(t *testing.T) {
	store, err := chunkstore.Open(t.Context(),
		[]chunkstore.TargetConfig{&dir.Config{Path: t.TempDir()}}, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := locate.Address{Store: "s", Path: "/a b.db"}
	l := locate.InStore(a, store)
	if l.URI() != "file:///s/a%20b.db" || !l.Named() ||
		l.Key() != manifest.PlainName("", "/a b.db") || len(l.Targets()) != 1 {
		t.Errorf("%s: %v, %s, %d targets", l.URI(), l.Named(), l.Key(), len(l.Targets()))
	}
	_, _, err = l.FetchNewest(t.Context())
	if err == nil || !strings.Contains(err.Error(), "file:///s/a%20b.db") {
		t.Errorf("a database that is not there: %v", err)
	}
}
