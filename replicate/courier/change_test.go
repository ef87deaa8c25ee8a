package courier

import (
	"encoding/binary"
	"slices"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// TestParcels: chunks that stand together go into one pack, which begins at a multiple of the
// number that a pack has; what is left over is gathered.
func TestParcels(t *testing.T) {
	const chunks, most = 300, 64
	span := func(from, to int) (all []int) {
		for i := from; i < to; i++ {
			all = append(all, i)
		}
		return all
	}
	every := func(n int) (some []int) {
		for i := 0; i < chunks; i += n {
			some = append(some, i)
		}
		return some
	}
	without := func(all []int, i int) []int {
		return slices.DeleteFunc(all, func(k int) bool { return k == i })
	}
	for _, test := range []struct {
		name    string
		zeros   []int // of the last version
		missing []int
		want    [][]int // the first chunks of what each pack has
	}{
		{"nothing", nil, nil, nil},
		{"one", nil, []int{77}, [][]int{{77}}},
		{"all", nil, span(0, 300), [][]int{span(0, 64), span(64, 128), span(128, 192),
			span(192, 256), span(256, 300)}},
		{"all, some of zeros", []int{5, 64}, without(without(span(0, 300), 5), 64),
			[][]int{without(span(0, 64), 5), span(65, 128), span(128, 192), span(192, 256),
				span(256, 300)}},
		{"a part", nil, span(10, 200), [][]int{span(64, 128), span(128, 192),
			slices.Concat(span(10, 64), span(192, 200))}},
		{"most, but not all, of each", nil, slices.Concat(span(1, 64), span(65, 128)),
			[][]int{slices.Concat(span(1, 64), []int{65}), span(66, 128)}},
		{"few, as all else is zeros", without(span(1, 300), 150), []int{0, 150},
			[][]int{{0, 150}}},
		{"scattered", nil, every(4), [][]int{every(4)[:64], every(4)[64:]}},
	} {
		last := manifest.NewTree(chunkstore.Plain{}, chunks)
		for i := range chunks {
			if !slices.Contains(test.zeros, i) {
				last.Set(i, chunkstore.Ref{ID: testID(i)})
			}
		}
		s := stock{missing: make(map[int]chunkstore.ID)}
		for _, i := range test.missing {
			s.missing[i] = testID(i)
		}
		var got [][]int
		for _, parcel := range s.parcels(last, most) {
			var first []int
			for _, m := range parcel {
				first = append(first, m.indexes[0])
			}
			got = append(got, first)
		}
		if !slices.EqualFunc(got, test.want, slices.Equal[[]int]) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func testID(n int) chunkstore.ID {
	return chunkstore.Plain{}.Identify(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

// TestParcelsPutEqualChunksOnce: an object that several chunks have is put once.
func TestParcelsPutEqualChunksOnce(t *testing.T) {
	last := manifest.NewTree(chunkstore.Plain{}, 200)
	s := stock{missing: make(map[int]chunkstore.ID)}
	for i := range 200 {
		s.missing[i] = testID(i % 70)
		last.Set(i, chunkstore.Ref{ID: s.missing[i]})
	}
	seen := make(map[chunkstore.ID]bool)
	chunks := 0
	for _, parcel := range s.parcels(last, 64) {
		for _, m := range parcel {
			if seen[m.id] || len(parcel) > 64 {
				t.Errorf("%v is put twice, or among %d", m.id, len(parcel))
			}
			seen[m.id] = true
			for _, i := range m.indexes {
				if s.missing[i] != m.id {
					t.Errorf("chunk %d is not %v", i, m.id)
				}
				chunks++
			}
		}
	}
	if chunks != 200 || len(seen) != 70 {
		t.Errorf("%d chunks and %d objects", chunks, len(seen))
	}
}
