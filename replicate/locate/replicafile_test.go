package locate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verneuil/chunkstore"
)

func TestReplicaFile(t *testing.T) {
	on, off := true, false
	for _, f := range []ReplicaFile{
		{Source: "verneuil://host/a.db"},
		{Source: "verneuil:///srv/with space/%25.db", AutoRefresh: &on},
		{Source: "verneuil://host/a.db", AutoRefresh: &off},
	} {
		text, err := f.Encode()
		if err != nil {
			t.Errorf("%+v: %v", f, err)
			continue
		}
		back, err := parseReplicaFile(text)
		if err != nil || back.Source != f.Source ||
			(back.AutoRefresh == nil) != (f.AutoRefresh == nil) ||
			f.AutoRefresh != nil && *back.AutoRefresh != *f.AutoRefresh {
			t.Errorf("%q: %+v, %v", text, back, err)
		}
	}
	const magic = "verneuil replica\n"
	for _, text := range []string{
		"", "verneuil", magic, magic + "source verneuil://h/a",
		"verneuil replica\r\nsource verneuil://h/a\n",
		magic + "source http://h/a\n", magic + "source s3://b.r/k\n",
		magic + "source /a.db\n", magic + "source verneuil://h\n",
		magic + "source verneuil://h/\n",
		magic + "source verneuil://h/a\nsource verneuil://h/b\n",
		magic + "source verneuil://h/a\x00\n",
		magic + "source verneuil://h/a\nauto_refresh yes\n",
		magic + "source verneuil://h/a\nauto_refresh 1\nauto_refresh 1\n",
		magic + "source verneuil://h/a\n\n", magic + "source verneuil://h/a\nelse\n",
		magic + "source verneuil://h/" + strings.Repeat("a", replicaFileMax) + "\n",
	} {
		if f, err := parseReplicaFile(text); !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("%.80q: %+v, %v", text, f, err)
		}
	}
	if _, err := (ReplicaFile{Source: "verneuil://h/a\nauto_refresh 1"}).Encode(); err == nil {
		t.Error("a source of two lines was encoded")
	}
}

func TestLocateReplicaFile(t *testing.T) {
	store := chunkstore.NewStore(chunkstore.NewTarget("t", nil, nil))
	path := filepath.Join(t.TempDir(), "replica.db")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(replicaFileMagic + "source verneuil:///a.db\nauto_refresh 1\n")
	for _, uri := range []string{path, "file://" + path} {
		l, err := Parse(uri, "here", store)
		if err != nil || l.String() != "verneuil://here/a.db" || !l.Named() ||
			l.autoRefresh == nil || !*l.autoRefresh {
			t.Errorf("%s: %v, %v", uri, l, err)
		}
	}
	if _, err := Parse(path, "here", nil); err == nil ||
		!strings.Contains(err.Error(), "no replication target") {
		t.Errorf("without a store: %v", err)
	}
	write(replicaFileMagic + "source http://127.0.0.1/\n")
	if l, err := Parse(path, "here", store); !errors.Is(err, chunkstore.ErrCorrupt) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("a source elsewhere: %v, %v", l, err)
	}
	write("something else")
	if l, err := Parse(path, "here", store); err != nil || l.Named() {
		t.Errorf("another file: %v, %v", l, err)
	}
}

func FuzzReplicaFile(f *testing.F) {
	f.Add(replicaFileMagic + "source verneuil://h/a\nauto_refresh 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseReplicaFile(text)
		if err != nil {
			return
		}
		again, err := file.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseReplicaFile(again); err != nil || back.Source != file.Source {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}
