package chunkstore_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"verneuil/chunkstore"
)

// TestErrorKind: what differs from one request to the next is no other kind of error.
func TestErrorKind(t *testing.T) {
	for _, c := range []struct{ a, b error }{
		{fmt.Errorf("put %d: %w", 1, syscall.ECONNREFUSED),
			fmt.Errorf("put %d: %w", 2, syscall.ECONNREFUSED)},
		{fmt.Errorf("a: %w", errors.Join(errors.New("x"), fmt.Errorf("b: %w", syscall.EIO))),
			syscall.EIO},
	} {
		if chunkstore.ErrorKind(c.a) != chunkstore.ErrorKind(c.b) {
			t.Errorf("%v and %v: %q and %q", c.a, c.b, chunkstore.ErrorKind(c.a),
				chunkstore.ErrorKind(c.b))
		}
	}
	if chunkstore.ErrorKind(syscall.EIO) == chunkstore.ErrorKind(syscall.ENOSPC) {
		t.Error("all errors are of one kind")
	}
}
