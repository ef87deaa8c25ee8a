package rados

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"verneuil/cgo/librados"
	"verneuil/chunkstore"
)

const (
	// what the names of objects begin with: see doc.go
	chunksPrefix    = "chunks/"
	manifestsPrefix = "manifests/"

	etagXattr    = "verneuil.etag"
	touchedXattr = "verneuil.touched"

	// firstBytes are read of an object of which the caller has not said how long it is.
	firstBytes = 64 << 10
	// changes bounds how often an object is read again as it changes meanwhile.
	changes = 16
	// stats is how many objects of a list are asked for at once.
	stats = 64
)

// bucket is one of the two of a target: the objects whose names begin with prefix.
type bucket struct {
	*pool
	prefix string
}

func (b *bucket) String() string { return strings.Trim(b.prefix, "/") + " in " + b.name }

func (b *bucket) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %v: %w", verb, key, b, err)
}

// etagOf is a function of the bytes, so that copying objects keeps it, and touching them.
func etagOf(body []byte) string {
	sum := blake3.Sum256(body)
	return fmt.Sprintf(`"%x"`, sum[:16])
}

func (b *bucket) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o := chunkstore.Object{Key: key}
	var err error
	if opts.Length > 0 {
		err = b.part(ctx, &o, opts)
	} else {
		_, err = b.whole(ctx, &o, opts)
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("get", key, err)
	}
	return o, nil
}

func (b *bucket) part(ctx context.Context, o *chunkstore.Object,
	opts chunkstore.GetOptions) error {
	if opts.Length > librados.ReadMax {
		return fmt.Errorf("a part of %d bytes", opts.Length)
	}
	got, err := b.read(ctx, o.Key, opts.Length, &librados.ReadOp{Stat: true,
		Off: uint64(opts.Offset), Len: int(opts.Length)})
	if err != nil {
		return err
	}
	if int64(len(got.Data)) < opts.Length {
		return fmt.Errorf("%w: %d bytes, which end before %d", chunkstore.ErrCorrupt, got.Bytes,
			opts.Offset+opts.Length)
	}
	o.Body, o.Bytes, o.Modified = got.Data, got.Bytes, since1970(got.Modified)
	return nil
}

// whole fills o with the object, and returns its version.
func (b *bucket) whole(ctx context.Context, o *chunkstore.Object, opts chunkstore.GetOptions) (
	version uint64, err error,
) {
	for range changes {
		version, err = b.tryWhole(ctx, o, opts)
		if !errors.Is(err, syscall.ERANGE) && !errors.Is(err, syscall.EOVERFLOW) {
			break
		}
	}
	return version, err
}

func (b *bucket) tryWhole(ctx context.Context, o *chunkstore.Object,
	opts chunkstore.GetOptions) (version uint64, err error) {
	limit := min(opts.Limit(), librados.ReadMax)
	r := &librados.ReadOp{Stat: true, Len: int(min(max(opts.About, firstBytes), limit+1))}
	if opts.IfNoneMatch != "" {
		r.DifferXattr = map[string][]byte{etagXattr: []byte(opts.IfNoneMatch)}
	}
	got, err := b.read(ctx, o.Key, int64(r.Len), r)
	if errors.Is(err, syscall.ECANCELED) {
		return 0, chunkstore.ErrUnmodified
	} else if err != nil {
		return 0, err
	}
	if got.Bytes > limit {
		return 0, fmt.Errorf("%w: %d bytes, more than %d", chunkstore.ErrCorrupt, got.Bytes, limit)
	}
	body := got.Data
	if rest := got.Bytes - int64(len(body)); rest > 0 {
		more, err := b.read(ctx, o.Key, rest, &librados.ReadOp{AssertVersion: got.Version,
			Off: uint64(len(body)), Len: int(rest)})
		if err != nil {
			return 0, err
		}
		body = append(body, more.Data...)
	}
	o.Body, o.Bytes, o.Modified = body, got.Bytes, since1970(got.Modified)
	if o.ETag = etagOf(body); o.ETag == opts.IfNoneMatch { // it was put by somebody else
		return 0, chunkstore.ErrUnmodified
	}
	return got.Version, nil
}

func (b *bucket) read(ctx context.Context, key string, bytes int64, r *librados.ReadOp) (
	got *librados.Result, err error,
) {
	err = b.do(ctx, b, "get "+key, bytes, func(ctx context.Context, io *opened) (err error) {
		got, err = io.Read(ctx, b.prefix+key, r)
		return err
	})
	return got, err
}

func (b *bucket) write(ctx context.Context, request, key string, bytes int64,
	w *librados.WriteOp) error {
	return b.do(ctx, b, request+" "+key, bytes, func(ctx context.Context, io *opened) error {
		_, err := io.Write(ctx, b.prefix+key, w)
		return err
	})
}

// Put is durable when the cluster answers, on as many disks as the pool wants (I3).
func (b *bucket) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	etag := etagOf(body)
	if err := b.put(ctx, key, body, etag, cond); err != nil {
		return "", b.wrap("put", key, err)
	}
	return etag, nil
}

func (b *bucket) put(ctx context.Context, key string, body []byte, etag string,
	cond chunkstore.Condition) error {
	w := new(librados.WriteOp)
	switch {
	case cond.IfNone:
		w.Create(true)
	case cond.IfMatch != "":
		w.CompareXattr(etagXattr, []byte(cond.IfMatch))
	}
	fill := func(w *librados.WriteOp) *librados.WriteOp {
		return w.WriteFull(body).SetXattr(etagXattr, []byte(etag))
	}
	err := b.write(ctx, "put", key, int64(len(body)), fill(w))
	switch {
	case cond.IfNone && errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%w: there is an object already", chunkstore.ErrConflict)
	case cond.IfMatch != "" && errors.Is(err, chunkstore.ErrAbsent):
		return fmt.Errorf("%w: there is no object", chunkstore.ErrConflict)
	case cond.IfMatch == "" || !errors.Is(err, syscall.ECANCELED):
		return err
	}
	// Another object, or one that somebody else has put, without our attribute.
	present := chunkstore.Object{Key: key}
	version, err := b.whole(ctx, &present, chunkstore.GetOptions{})
	switch {
	case errors.Is(err, chunkstore.ErrAbsent):
		err = cond.Check(nil)
	case err == nil:
		err = cond.Check(&present)
	}
	if err != nil {
		return err
	}
	err = b.write(ctx, "put", key, int64(len(body)),
		fill(new(librados.WriteOp).AssertVersion(version)))
	if errors.Is(err, syscall.ERANGE) || errors.Is(err, syscall.EOVERFLOW) ||
		errors.Is(err, chunkstore.ErrAbsent) {
		return fmt.Errorf("%w: there is another object by now", chunkstore.ErrConflict)
	}
	return err
}

func (b *bucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	o, err := b.stat(ctx, key)
	if err == nil && o.ETag == "" { // somebody else has put it
		_, err = b.whole(ctx, &o, chunkstore.GetOptions{BytesMax: librados.ReadMax})
		o.Body = nil
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("stat", key, err)
	}
	return o, nil
}

// stat leaves ETag empty if the object has no attribute that says it.
func (b *bucket) stat(ctx context.Context, key string) (o chunkstore.Object, err error) {
	got, err := b.read(ctx, key, 0, &librados.ReadOp{Stat: true, Xattrs: true})
	if err != nil {
		return o, err
	}
	return chunkstore.Object{Key: key, Bytes: got.Bytes, ETag: string(got.Xattrs[etagXattr]),
		Modified: since1970(got.Modified)}, nil
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	err := b.write(ctx, "delete", key, 0, new(librados.WriteOp).Remove())
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil
	}
	return b.wrap("delete", key, err)
}

// Touch sets an attribute, which sets the object's time.
func (b *bucket) Touch(ctx context.Context, key string) error {
	return b.wrap("touch", key, b.write(ctx, "touch", key, 0,
		new(librados.WriteOp).AssertExists().SetXattr(touchedXattr, []byte("1"))))
}

// List asks for the names of all objects of the namespace, as RADOS has no other list, and for the
// lengths and times of those that it lists.
func (b *bucket) List(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	keys, err := b.names(ctx, func(name string) bool {
		return strings.HasPrefix(name, b.prefix+prefix)
	})
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], b.prefix)
	}
	slices.Sort(keys)
	if err == nil {
		_, err = b.each(ctx, keys, yield)
	}
	return b.wrap("list", prefix+"*", err)
}

// names returns the names of the objects for which want says yes, in no order.
func (b *bucket) names(ctx context.Context, want func(string) bool) (names []string, err error) {
	err = b.do(ctx, b, "list", 0, func(ctx context.Context, io *opened) (err error) {
		names, err = io.List(ctx, want)
		return err
	})
	return names, err
}

// each calls yield for the objects that have keys, until it returns false; go on says that it
// did not.
func (b *bucket) each(ctx context.Context, keys []string, yield func(chunkstore.Object) bool) (
	goOn bool, err error,
) {
	for len(keys) > 0 {
		some := keys[:min(len(keys), stats)]
		keys = keys[len(some):]
		objects := make([]chunkstore.Object, len(some))
		group, ctx := errgroup.WithContext(ctx)
		for i, key := range some {
			if key == chunkstore.MarkerKey {
				continue
			}
			group.Go(func() (err error) {
				defer recovered(&err)
				objects[i], err = b.stat(ctx, key)
				if errors.Is(err, chunkstore.ErrAbsent) { // it was deleted meanwhile
					return nil
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return false, err
		}
		for _, o := range objects {
			if o.Key != "" && !yield(o) {
				return false, nil
			}
		}
	}
	return true, nil
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// ListVersions lists the present object alone: RADOS keeps no other. Its ETag is its version.
func (b *bucket) ListVersions(ctx context.Context, key string,
	yield func(chunkstore.Object) bool) error {
	o, err := b.Stat(ctx, key)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil
	}
	if err == nil {
		o.Version = o.ETag
		yield(o)
	}
	return err
}

// GetVersion is Get, if the present object is that version.
func (b *bucket) GetVersion(ctx context.Context, key, version string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	o, err := b.Get(ctx, key, opts)
	if err == nil && o.ETag != version {
		return chunkstore.Object{}, b.wrap("get", key, fmt.Errorf("%w: version %s",
			chunkstore.ErrAbsent, version))
	}
	o.Version = version
	return o, err
}
