package manifest_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"verneuil/chunkstore"
	. "verneuil/manifest"
)

// Vectors are never changed or deleted: every version of this package must read
// what released ones before it wrote, and refuse the rest: versions 1 and 2 were never released.
// -write-vectors adds those that do not exist yet.
var writeVectors = flag.Bool("write-vectors", false, "write the vectors that testdata lacks")

// describe states all that a decoder must find in an object, or why it must
// refuse it. It is what a vector's file carries before the object.
func describe(m *Manifest, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "refused: %v\n", err)
		return b.String()
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return "unknown"
		}
		return t.Format(time.RFC3339Nano)
	}
	fmt.Fprintf(&b, "host: %q\npath: %q\nprogram: %q\n", m.Host, m.Path, m.Program)
	fmt.Fprintf(&b, "lineage: %x\nepoch: %d\nsequence: %d\n", m.Lineage, m.Epoch, m.Sequence)
	fmt.Fprintf(&b, "cut: %x\n", m.Cut)
	fmt.Fprintf(&b, "time: %s\nsource ctime: %s\n", moment(m.Time), moment(m.SourceCtime))
	fmt.Fprintf(&b, "file bytes: %d\npage bytes: %d\nchange counter: %d\n", m.FileBytes,
		m.PageBytes, m.ChangeCounter)
	if m.Continuity != 0 {
		fmt.Fprintf(&b, "continuity: %d\n", m.Continuity)
	}
	for _, id := range m.Stores {
		fmt.Fprintf(&b, "store: %s\n", id)
	}
	fmt.Fprintf(&b, "levels: %d\n", m.Levels)
	for _, ref := range m.Top {
		fmt.Fprintf(&b, "top: %s\n", describeRef(ref))
	}
	for _, p := range m.Patches {
		fmt.Fprintf(&b, "patch: %d %s\n", p.Index, describeRef(p.Ref))
	}
	for _, p := range m.Inline {
		fmt.Fprintf(&b, "inline: %d bytes at %d, BLAKE3 %s\n", len(p.Data), p.Offset,
			chunkstore.Sum(p.Data))
	}
	return b.String()
}

func describeRef(ref chunkstore.Ref) string {
	if ref.Place == (chunkstore.Place{}) {
		return ref.ID.String()
	}
	return fmt.Sprintf("%s, %d bytes at %d of %s", ref.ID, ref.Place.Bytes, ref.Place.Offset,
		ref.Place.Pack)
}

// vectorObjects returns the objects that the vectors of version 3 were made of.
func vectorObjects(t *testing.T) map[string][]byte {
	encode := func(m *Manifest) []byte {
		stored, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	small := sample()
	small.FileBytes, small.Levels, small.Top = 65537, 0, []chunkstore.Ref{testRef(3), zeroRef}
	small.Patches, small.Inline = nil, nil
	big := sample()
	big.FileBytes, big.Levels = 100<<30, 2
	big.Top = nil
	for k := range 7 { // of 16 GiB each
		big.Top = append(big.Top, testRef(40*k))
	}
	continued := sample()
	continued.Continuity = 1<<63 + 5
	stores := sample()
	stores.Stores = []chunkstore.Identity{{1, 2}, {1, 3, 15: 9}}
	stores.Patches, stores.Inline = nil, nil
	zeros := sample()
	zeros.Top[0], zeros.Patches, zeros.Inline = zeroRef, nil, nil
	stored := encode(sample())
	change := func(at int, to byte) []byte {
		b := bytes.Clone(stored)
		b[at] = to
		return b
	}
	objects := map[string][]byte{
		"v3-empty":      encode(&Manifest{}),
		"v3-levels-0":   encode(small),
		"v3-levels-1":   stored,
		"v3-levels-2":   encode(big),
		"v3-unplaced":   encode(unplacedSample()),
		"v3-zeros":      encode(zeros),
		"v3-continuity": encode(continued),
		"v3-stores":     encode(stores),
		"v3-magic":      change(0, 'v'),
		"v3-version-4":  change(4, 4),
		"v3-codec-2":    change(5, 2),
		"v3-reserved":   change(7, 1),
		"v3-checksum":   change(8, stored[8]^1),
		"v3-cut":        stored[:39],
	}
	for name, body := range malformedBodies(t) {
		objects["v3-"+name] = sealedBody(body)
	}
	return objects
}

// sealedBody returns a manifest with that plain body.
func sealedBody(body []byte) []byte {
	sum := chunkstore.Sum(body)
	return append(append([]byte("VRNM\x03\x00\x00\x00"), sum[:]...), body...)
}

// malformedBodies returns plain bodies that are well-formed protobuf, and no manifests.
func malformedBodies(t *testing.T) map[string][]byte {
	field := func(b []byte, field protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
	}
	number := func(b []byte, field protowire.Number, value uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
	}
	body := func() []byte { // of an empty file's
		return field(field(nil, 4, make([]byte, 16)), 22, make([]byte, 16))
	}
	// two chunks, and so two entries of top, in the packs 1 and 2
	two := func(packs, places []byte) []byte {
		b := number(number(body(), 9, 65537), 10, 512)
		one, other := testID(1), testID(2)
		b = field(b, 13, append(one[:], other[:]...))
		return field(field(b, 23, packs), 24, places)
	}
	place := func(pack, size byte) []byte { return []byte{0, pack, 0, 0, 0, 80, 0, 0, 0, size} }
	places := func(a, b byte) []byte { return append(place(a, 9), place(b, 9)...) }
	if _, err := Decode(chunkstore.Plain{}, sealedBody(two(names(2), places(0, 1)))); err != nil {
		t.Fatal(err) // what the others are derived from
	}
	return map[string][]byte{
		"store-of-1-byte":     field(body(), 21, []byte{1}),
		"cut-of-1-byte":       field(body(), 22, []byte{1}),
		"unknown-field":       number(body(), 16, 1),
		"negative-file":       number(body(), 9, 1<<63),
		"patch-of-nothing":    field(body(), 14, field(nil, 2, make([]byte, 32))),
		"packs-disordered":    two(names(2), places(1, 0)),
		"packs-repeated":      two(append(names(1), names(1)...), places(0, 1)),
		"packs-unused":        two(names(3), places(0, 1)),
		"packs-missing":       two(names(1), places(0, 1)),
		"packs-odd":           two(names(2)[:63], places(0, 1)),
		"packs-without-place": two(names(2), nil),
		"places-without-pack": two(nil, places(0, 1)),
		"places-short":        two(names(2), places(0, 1)[:19]),
		"place-of-no-bytes":   two(names(2), append(place(0, 9), place(1, 0)...)),
		"patch-without-place": field(two(names(2), places(0, 1)), 14, field(nil, 2, names(1))),
	}
}

func TestVectors(t *testing.T) {
	if *writeVectors {
		for name, object := range vectorObjects(t) {
			file := filepath.Join("testdata", name+".vector")
			if _, err := os.Stat(file); err == nil {
				continue
			}
			text := describe(Decode(chunkstore.Plain{}, object)) + "\n" +
				base64.StdEncoding.EncodeToString(object) + "\n"
			if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.vector")
	if err != nil || len(files) < 29 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, encoded, _ := strings.Cut(string(text), "\n\n")
		object, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m, err := Decode(chunkstore.Plain{}, object)
		if strings.HasPrefix(want, "refused") || !strings.HasPrefix(filepath.Base(file), "v3-") {
			// The reason's words may change
			if !errors.Is(err, chunkstore.ErrCorrupt) {
				t.Errorf("%s: %v, want %s", file, err, want)
			}
		} else if got := describe(m, err); got != want+"\n" {
			t.Errorf("%s:\n got %s\nwant %s", file, got, want)
		}
	}
}

// The densest hostile body is one of patches without content.
func TestI2DecodeIsBounded(t *testing.T) {
	for name, field := range map[string]protowire.Number{"patches": 14, "inline pages": 15} {
		unit := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), nil)
		body := bytes.Repeat(unit, (BytesMax-40)/len(unit))
		stored := sealedBody(body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(chunkstore.Plain{}, stored)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, chunkstore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 128*BytesMax {
			t.Errorf("%s: %d MiB allocated for a body of %d", name, n>>20, len(body))
		} else {
			t.Logf("%s: %d MiB", name, n>>20)
		}
	}
}
