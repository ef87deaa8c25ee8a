package vfs

import (
	"errors"
	"strings"
	"testing"

	"verneuil/chunkstore"
)

// TestReplicaInStore: what SQLite calls /STORE/path is looked for in that store, and not as a file.
func TestReplicaInStore(t *testing.T) {
	c, err := ParseConfig(`{"stores": {"s": {"dir": {"path": "` + t.TempDir() + `"}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	log, err := NewLogger("off", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(c, nil, log)
	for name, want := range map[string]string{
		"/s/x.db": "file:///s/x.db", "/s/../x.db": `mean nothing in a store`,
		"/t/x.db": "file:///t/x.db",
	} {
		_, err := e.OpenReplica(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if name == "/s/x.db" && !errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(e.replicas.sets); n != 2 {
		t.Errorf("%d sets of replicas", n)
	}
	if _, err := e.NamedStore("t"); !errors.Is(err, ErrNoStore) {
		t.Errorf("a store that is not there: %v", err)
	}
}
