package remote_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
)

// file is a database of which each block is known.
type file [][]byte

// change makes a random change of f, and returns it.
func (f *file) change(r *rand.Rand, v uint64) compose.Change {
	const least, most = 16, 1024
	size := len(*f)
	if r.IntN(8) == 0 || size == 0 {
		size = least + r.IntN(most-least)
	}
	blocks := map[int]bool{0: true}
	few := 1 + r.IntN(8)
	if r.IntN(10) == 0 {
		few = 100
	}
	for range few {
		blocks[r.IntN(size)] = true
	}
	for k := len(*f); k < size; k++ {
		blocks[k] = true // as SQLite does
	}
	next := slices.Clone(*f)
	for len(next) < size {
		next = append(next, nil)
	}
	next = next[:size]
	var ch compose.Change
	for k := range size {
		if !blocks[k] {
			continue
		}
		b := page(0, v)
		if k == 0 {
			binary.BigEndian.PutUint32(b[28:], uint32(size))
		} else {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		}
		next[k] = b
		ch.Offsets = append(ch.Offsets, int64(k)*compose.BlockBytes)
	}
	ch.Bytes = int64(size) * compose.BlockBytes
	ch.Read = func(k int, block []byte) error {
		copy(block, next[ch.Offsets[k]/compose.BlockBytes])
		return nil
	}
	*f = next
	return ch
}

func (f file) mustBe(t *testing.T, c *remote.Conn) {
	t.Helper()
	if err := c.Share(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if c.Size() != int64(len(f))*compose.BlockBytes {
		t.Fatalf("%d bytes, want %d blocks", c.Size(), len(f))
	}
	got := make([]byte, c.Size())
	if err := c.Read(t.Context(), got, 0); err != nil {
		t.Fatal(err)
	}
	for k, want := range f {
		b := got[k*compose.BlockBytes:][:compose.BlockBytes]
		if k == 0 { // readers are shown another counter
			b, want = b[200:], want[200:]
		}
		if !bytes.Equal(b, want) {
			t.Fatalf("block %d differs", k)
		}
	}
}

// TestLong: many transactions of all sizes, with checkpoints and foldings between them, are read
// as they were written, also from the newest checkpoint on.
func TestLong(t *testing.T) {
	root, temp := t.TempDir(), t.TempDir()
	c := open(t, machineOf(t, root, temp, silent), remote.Mode{Create: true})
	r := rand.New(rand.NewPCG(1, 2))
	reader := open(t, machineOf(t, root, t.TempDir(), silent), remote.Mode{ReadOnly: true})
	var f file
	for n := range 300 {
		mustShareToWrite(t, c)
		ch := f.change(r, uint64(n+2))
		early := r.IntN(3) == 0 // as with synchronous=OFF
		way := remote.Way{Pass: true, Early: early}
		if _, err := c.Commit(t.Context(), ch, way); err != nil {
			t.Fatal(err)
		}
		if !early {
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.Unreserve()
		f.mustBe(t, c)
		if n%60 == 59 {
			mustShareToWrite(t, c)
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Unreserve()
			f.mustBe(t, reader)
			o := machineOf(t, root, t.TempDir(), silent)
			f.mustBe(t, open(t, o, remote.Mode{ReadOnly: true}))
		}
	}
}

func mustShareToWrite(t *testing.T, c *remote.Conn) {
	t.Helper()
	err := c.Share(t.Context(), false)
	if err == nil {
		err = c.Reserve(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
