package remote_test

import (
	"context"
	"testing"

	"verneuil/replicate/remote"
	"verneuil/replicate/remote/compose"
)

// BenchmarkCommit: what a commit of two blocks costs this process, if it is not waited for.
func BenchmarkCommit(b *testing.B) {
	o := machineOf(nil, b.TempDir(), b.TempDir(), silent)
	set, err := remote.NewSet(o)
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	defer set.Exit(context.Background())
	c, err := set.Open(b.Context(), name, remote.Mode{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	v := uint64(0)
	for b.Loop() {
		v++
		if p := c.Place(); p.Onto == 0 { // else C asks nobody
			if err := c.Share(b.Context(), false); err != nil {
				b.Fatal(err)
			}
			if err := c.Reserve(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		_, err := c.Commit(b.Context(), compose.Change{
			Bytes: blocks * compose.BlockBytes, Offsets: []int64{0, 4096},
			Read: func(k int, block []byte) error { copy(block, page(k, v)); return nil },
		}, remote.Way{Pass: true, Early: true})
		if err != nil {
			b.Fatal(err)
		}
	}
}
