package versions_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
	"verneuil/replicate/publishtest"
	. "verneuil/replicate/versions"
)

func TestID(t *testing.T) {
	id := ID{[16]byte{0xab, 15: 1}, 0x1234}
	const text = "ab000000000000000000000000000001-0000000000001234"
	if got, ok := ParseID(text); id.String() != text || !ok || got != id {
		t.Errorf("%v, %v, %v", id, got, ok)
	}
	for _, bad := range []string{"", "-", text[:32], text[1:], text + "0", strings.ToUpper(text),
		text[:33] + "123", "00000000001700000000-0123456789abcdef", "null"} {
		if got, ok := ParseID(bad); ok {
			t.Errorf("%q is %v", bad, got)
		}
	}
	prefix, got, ok := ParseKept(KeptKey("k", id))
	if !ok || got != id || prefix+text != KeptKey("k", id) ||
		!strings.HasPrefix(prefix, chunkstore.KeptKeyPrefix) {
		t.Errorf("%q, %v, %v", prefix, got, ok)
	}
	if KeptKey("k", id) == KeptKey("l", id) {
		t.Error("two databases have one key")
	}
	for _, bad := range []string{"", "kept-", "kept-" + text, "log-" + text,
		KeptKey("k", id) + "0"} {
		if _, _, ok := ParseKept(bad); ok {
			t.Errorf("%q is a kept checkpoint's", bad)
		}
	}
}

func TestKept(t *testing.T) {
	p := publishtest.New(t)
	p.Records()
	p.Publish(publishtest.Stamped(40, 1))
	first := p.ID()
	for n := range uint64(5) {
		p.Publish(publishtest.Stamped(40, n+2))
	}
	p.Checkpoint(true)
	second := p.ID()
	p.Records() // another history
	p.Publish(publishtest.Stamped(3, 9))
	all, err := ListKept(t.Context(), p.Target, p.Key())
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	kept := map[ID]bool{}
	for _, k := range all {
		kept[k.ID] = true
		m, err := GetKept(t.Context(), p.Target, p.Key(), k.ID)
		if err != nil || IDOf(m.At) != k.ID || k.Bytes == 0 || k.Stored.IsZero() {
			t.Errorf("%+v: %v, %v", k, m, err)
		}
	}
	if !kept[first] || !kept[second] || !kept[p.ID()] {
		t.Errorf("%v, want %v, %v and %v", kept, first, second, p.ID())
	}
	if other, err := ListKept(t.Context(), p.Target, "other"); err != nil || other != nil {
		t.Errorf("of another database: %v, %v", other, err)
	}
	_, err = GetKept(t.Context(), p.Target, p.Key(), ID{first.Lineage, 99})
	if !errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("no checkpoint: %v", err)
	}
	// What stands there must be what the key says.
	body, err := p.Target.Chunks.Get(t.Context(), KeptKey(p.Key(), first), chunkstore.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := history.Position{Lineage: first.Lineage, Number: 3}
	if err := Keep(context.Background(), p.Target, p.Key(), at, body.Body); err != nil {
		t.Fatal(err)
	}
	_, err = GetKept(t.Context(), p.Target, p.Key(), IDOf(at))
	if !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("another version's checkpoint: %v", err)
	}
}
