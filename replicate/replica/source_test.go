package replica_test

import (
	"context"
	"fmt"
	"testing"

	"verneuil/replicate/publishtest"
	. "verneuil/replicate/replica"
)

const testPage = publishtest.PageBytes

// source is a database that is published, for a test to follow.
type source struct {
	*publishtest.Publisher
	t testing.TB
}

func newSource(t testing.TB) *source { return &source{publishtest.New(t), t} }

// follow makes a set of replicas that read from the publisher's store.
func (p *source) follow(o Options) *Set {
	p.t.Helper()
	o.Store, o.TempDir = p.Store, p.t.TempDir()
	all, err := NewSet(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := all.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return all
}

// open opens a reader, which is closed before its set is.
func (p *source) open(all *Set) *Reader {
	p.t.Helper()
	r, err := all.Open(context.Background(), p.URI())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Close)
	return r
}

// readAll reads all of r's version, so many bytes at a time.
func readAll(r *Reader, step int) ([]byte, error) {
	file := make([]byte, r.Size())
	for off := 0; off < len(file); off += step {
		part := file[off:min(off+step, len(file))]
		if err := r.Read(context.Background(), part, int64(off)); err != nil {
			return nil, fmt.Errorf("at %d: %w", off, err)
		}
	}
	return file, nil
}

// same compares all but what a replica changes in the header.
func same(got, want []byte) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] && !(i >= 18 && i < 20 || i >= 24 && i < 28 || i >= 92 && i < 96) {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}
