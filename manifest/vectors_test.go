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
// what released ones before it wrote, and refuse the rest, which is all of version
// 1. -write-vectors adds those that do not exist yet.
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
	for _, id := range m.Top {
		fmt.Fprintf(&b, "top: %s\n", id)
	}
	for _, p := range m.Patches {
		fmt.Fprintf(&b, "patch: %d %s\n", p.Index, p.ID)
	}
	for _, p := range m.Inline {
		fmt.Fprintf(&b, "inline: %d bytes at %d, BLAKE3 %s\n", len(p.Data), p.Offset,
			chunkstore.Sum(p.Data))
	}
	return b.String()
}

// vectorObjects returns the objects that the vectors of version 2 were made of.
func vectorObjects(t *testing.T) map[string][]byte {
	encode := func(m *Manifest) []byte {
		stored, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	seal := func(body []byte) []byte {
		sum := chunkstore.Sum(body)
		return append(append([]byte("VRNM\x02\x00\x00\x00"), sum[:]...), body...)
	}
	small := sample()
	small.FileBytes, small.Levels, small.Top = 65537, 0,
		[]chunkstore.ID{testID(3), chunkstore.ZeroID}
	small.Patches, small.Inline = nil, nil
	big := sample()
	big.FileBytes, big.Levels = 100<<30, 2
	big.Top = nil
	for k := range 7 { // of 16 GiB each
		big.Top = append(big.Top, testID(k))
	}
	continued := sample()
	continued.Continuity = 1<<63 + 5
	stores := sample()
	stores.Stores = []chunkstore.Identity{{1, 2}, {1, 3, 15: 9}}
	stores.Patches, stores.Inline = nil, nil
	stored := encode(sample())
	change := func(at int, to byte) []byte {
		b := bytes.Clone(stored)
		b[at] = to
		return b
	}
	emptyBody := encode(&Manifest{})[40:]
	return map[string][]byte{
		"v2-empty":      encode(&Manifest{}),
		"v2-levels-0":   encode(small),
		"v2-levels-1":   stored,
		"v2-levels-2":   encode(big),
		"v2-continuity": encode(continued),
		"v2-stores":     encode(stores),
		"v2-store-of-1-byte": seal(
			protowire.AppendBytes(protowire.AppendTag(bytes.Clone(emptyBody), 21,
				protowire.BytesType), []byte{1})),
		"v2-magic":     change(0, 'v'),
		"v2-version-3": change(4, 3),
		"v2-codec-2":   change(5, 2),
		"v2-reserved":  change(7, 1),
		"v2-checksum":  change(8, stored[8]^1),
		"v2-cut":       stored[:39],
		"v2-unknown-field": seal(
			protowire.AppendVarint(protowire.AppendTag(bytes.Clone(emptyBody), 16,
				protowire.VarintType), 1)),
		"v2-negative-file": seal(
			protowire.AppendVarint(protowire.AppendTag(bytes.Clone(emptyBody), 9,
				protowire.VarintType), 1<<63)),
		"v2-patch-of-nothing": seal(
			protowire.AppendBytes(protowire.AppendTag(bytes.Clone(emptyBody), 14,
				protowire.BytesType), protowire.AppendBytes([]byte{0x12}, make([]byte, 32)))),
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
	if err != nil || len(files) < 25 {
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
		if strings.HasPrefix(want, "refused") || strings.HasPrefix(filepath.Base(file), "v1-") {
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
		sum := chunkstore.Sum(body)
		stored := append(append([]byte("VRNM\x02\x00\x00\x00"), sum[:]...), body...)
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
