package replica

import (
	"bytes"
	"testing"
)

// TestMemory: a piece is zeros, however it was used before, and is not given out twice.
func TestMemory(t *testing.T) {
	var m memory
	defer m.close()
	sizes := []int{1, 100, pieceBytes, pieceBytes + 1, 5000, 1 << 16, pieceMax, pieceMax + 1}
	for round := range 3 {
		var pieces [][]byte
		for k := range 40 {
			n := sizes[k%len(sizes)]
			piece, err := m.get(n)
			if err != nil {
				t.Fatal(err)
			}
			if len(piece) != n || !bytes.Equal(piece, make([]byte, n)) {
				t.Fatalf("round %d: %d bytes, no zeros or not %d", round, len(piece), n)
			}
			pieces = append(pieces, piece)
			for i := range piece {
				piece[i] = byte(k + 1)
			}
		}
		for k, piece := range pieces {
			if piece[0] != byte(k+1) || piece[len(piece)-1] != byte(k+1) {
				t.Fatalf("round %d: piece %d is another one's, too", round, k)
			}
			m.put(piece)
		}
	}
	blocks := len(m.all)
	if _, err := m.get(1); err != nil || len(m.all) != blocks {
		t.Errorf("%d blocks, which were %d: nothing was used again (%v)", len(m.all), blocks, err)
	}
}
