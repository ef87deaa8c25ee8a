package rados

import (
	"context"
	"errors"
	"syscall"
	"time"

	"verneuil/cgo/librados"
	"verneuil/chunkstore"
)

const (
	bellsPrefix = "bells/"
	// notifyTimeout is how long it is waited for one who watches and does not answer: a process
	// that was killed watches for half a minute more.
	notifyTimeout = time.Second
)

// Tell notifies an object: see [chunkstore.Messenger].
func (b *chunks) Tell(ctx context.Context, name string, body []byte) (heard bool, err error) {
	err = b.do(ctx, b, "notify "+name, 0, func(ctx context.Context, io *opened) error {
		n, err := io.Notify(ctx, bellsPrefix+name, body, notifyTimeout)
		heard = n > 0
		switch {
		case errors.Is(err, syscall.ENOENT) && !errors.Is(err, librados.ErrNoPool):
			return nil // nobody has ever listened
		case errors.Is(err, syscall.ETIMEDOUT) && ctx.Err() == nil:
			heard = true // by others
			return nil
		}
		return err
	})
	return heard, b.wrap("tell", name, err)
}

// Listen watches an object: see [chunkstore.Messenger]. That takes the right to write.
func (b *chunks) Listen(ctx context.Context, name string, hear func(body []byte)) error {
	var w *librados.Watch
	broken := make(chan error, 1)
	err := b.do(ctx, b, "watch "+name, 0, func(ctx context.Context, io *opened) (err error) {
		watch := func() error {
			w, err = io.Watch(ctx, bellsPrefix+name, 0, hear, func(err error) { broken <- err })
			return err
		}
		if err := watch(); !errors.Is(err, syscall.ENOENT) {
			return err
		}
		if _, err := io.Write(ctx, bellsPrefix+name,
			new(librados.WriteOp).Create(false)); err != nil {
			return err
		}
		return watch()
	})
	if err != nil {
		return b.wrap("listen to", name, err)
	}
	defer w.Close()
	hear(nil)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-broken:
		return b.wrap("listen to", name, err)
	}
}

var _ chunkstore.Messenger = (*chunks)(nil)
