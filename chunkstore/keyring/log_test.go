package keyring_test

import (
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/keyring"
	"verneuil/chunkstore/storetest"
)

// TestRecordsOfAnotherLog: a record cannot stand in the place of another, of its log or of another
// log, though it is sealed with the same key: it has no bytes there, and the others are read. One
// that is not encrypted, or with another key, is an error that says so.
func TestRecordsOfAnotherLog(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	target.Sealer = keyring.New(keyring.Generate(day, false))
	a, b := chunkstore.NewLog(target, "a"), chunkstore.NewLog(target, "b")
	for n, text := range []string{"one", "two", "three"} {
		for _, log := range []chunkstore.Log{a, b} {
			if err := log.Append(t.Context(), uint64(n+1), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(want string) {
		t.Helper()
		records, err := a.Read(t.Context(), 1, 9)
		var got []string
		for _, r := range records {
			got = append(got, string(r))
		}
		if is := strings.Join(got, ","); err != nil || is != want {
			t.Errorf("%q, %v; want %q", is, err, want)
		}
	}
	read("one,two,three")
	stored := func(key string) string {
		o, err := target.Chunks.Get(t.Context(), key, chunkstore.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(o.Body)
	}
	second := chunkstore.RecordKey("a", 2)
	was := stored(second)
	for _, key := range []string{chunkstore.RecordKey("a", 1), chunkstore.RecordKey("b", 2)} {
		storetest.MustPut(t, target.Chunks, second, stored(key), chunkstore.Condition{})
		read("one,,three")
	}
	other := keyring.New(keyring.Generate(day, false))
	for _, body := range []string{"VRNL, and no more",
		string(chunkstore.Wrapped(other, second, []byte("two")))} {
		storetest.MustPut(t, target.Chunks, second, body, chunkstore.Condition{})
		_, err := a.Read(t.Context(), 1, 9)
		storetest.MustBe(t, err, chunkstore.ErrKey)
	}
	storetest.MustPut(t, target.Chunks, second, was, chunkstore.Condition{})
	read("one,two,three")
}
