package proof_test

import (
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/storetest"
	"verneuil/manifest"
	"verneuil/replicate/proof"
)

// TestProof: what was kept is there for who has the Sealer, in its place; damage and absence are
// told apart.
func TestProof(t *testing.T) {
	target := storetest.Open(t, &dir.Config{Path: t.TempDir()}).Targets[0]
	target.Sealer = storetest.Keyed()
	key := manifest.PlainName("host", "/srv/a.db")
	_, err := proof.Last(t.Context(), target, key)
	storetest.MustBe(t, err, chunkstore.ErrAbsent)
	want := proof.Proof{Time: time.Unix(1e9, 7).UTC(), Epoch: 2, Sequence: 3,
		VersionTime: time.Unix(1e8, 0).UTC(), FileBytes: 4, Seconds: 0.5, Host: "h", Program: "p"}
	for range 2 {
		if err := proof.Keep(t.Context(), target, key, want); err != nil {
			t.Fatal(err)
		}
		got, err := proof.Last(t.Context(), target, key)
		if err != nil || got != want {
			t.Errorf("kept %+v, got %+v, %v", want, got, err)
		}
		want.Sequence++
	}
	if _, ok := manifest.ParseName(chunkstore.Plain{}, proof.Key(key)); ok ||
		!proof.IsKey(proof.Key(key)) || proof.IsKey(key) {
		t.Error("a proof's key and a manifest's are not told apart")
	}
	target.Sealer = storetest.Keyed()
	_, err = proof.Last(t.Context(), target, key)
	storetest.MustBe(t, err, chunkstore.ErrKey)
	target.Sealer = chunkstore.Plain{}
	for _, body := range []string{"", "{}", "[]", `{"verneuil_proof":2}`} {
		storetest.MustPut(t, target.Manifests, proof.Key(key),
			string(chunkstore.EncodeBody([]byte(body))), chunkstore.Condition{})
		_, err = proof.Last(t.Context(), target, key)
		storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	}
}
