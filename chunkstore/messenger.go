package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Messenger is a [Bucket] through which those who use it can tell each other something at once.
// What is told may be lost: it is for who would else find out later, by asking.
type Messenger interface {
	Bucket
	// Tell has all who listen to name, of letters and digits, hear body, and reports whether there
	// is anybody who may have. It may wait a second for one who does not answer any more.
	Tell(ctx context.Context, name string, body []byte) (heard bool, err error)
	// Listen calls hear with what is told to name, also by this process, until ctx ends, or until
	// it fails; and first with nil, once it hears. It may need the right to write. hear must not
	// block.
	Listen(ctx context.Context, name string, hear func(body []byte)) error
}

// listenPause is how long Listen rests after it could not.
const listenPause = 2 * time.Second

// Listen calls hear with what is told to name in b, until ctx ends; with nil, whenever something
// may have been missed. If b is no [Messenger], or does not let us listen, it returns at once.
func Listen(ctx context.Context, b Bucket, name string, hear func(body []byte)) (err error) {
	defer recovered(&err)
	m, ok := b.(Messenger)
	if !ok {
		return fmt.Errorf("listen in %v: %w", b, errors.ErrUnsupported)
	}
	for {
		err := m.Listen(ctx, name, hear)
		if ctx.Err() != nil || errors.Is(err, ErrDenied) {
			return err
		}
		select {
		case <-time.After(listenPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
