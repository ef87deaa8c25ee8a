package rados

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"verneuil/chunkstore"
)

// chunks is the bucket of chunks, of which the records of logs stand in maps.
type chunks struct {
	bucket
	indexed sync.Map // of a log's name: the segment that was last put into its index, a uint64
}

// record returns the log and the number of the record of that key; nil: it is none, or one that is
// an object.
func (b *chunks) record(ctx context.Context, key string) (l *log, n uint64, err error) {
	name, n, ok := chunkstore.ParseRecordKey(key)
	if !ok {
		return nil, 0, nil
	}
	maps, err := b.maps(ctx)
	if err != nil || !maps {
		return nil, 0, err
	}
	return b.OpenLog(name).(*log), n, nil
}

// Get of a record takes its time and length from an entry of its own.
func (b *chunks) Get(ctx context.Context, key string,
	opts chunkstore.GetOptions) (chunkstore.Object, error) {
	l, n, err := b.record(ctx, key)
	if err == nil && l == nil {
		return b.bucket.Get(ctx, key, opts)
	}
	o := chunkstore.Object{Key: key}
	if err == nil {
		err = l.get(ctx, n, &o, opts)
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("get", key, err)
	}
	return o, nil
}

// get fills o with record n.
func (l *log) get(ctx context.Context, n uint64, o *chunkstore.Object,
	opts chunkstore.GetOptions) error {
	e, _, err := l.stat(ctx, n)
	if err != nil {
		return err
	}
	if e.Bytes > opts.Limit() {
		return fmt.Errorf("%w: %d bytes, more than %d", chunkstore.ErrCorrupt, e.Bytes,
			opts.Limit())
	}
	records, err := l.Read(ctx, n, 1)
	if err == nil && len(records) == 0 {
		err = chunkstore.ErrAbsent
	}
	if err != nil {
		return err
	}
	o.Body, o.Bytes, o.Modified = records[0], int64(len(records[0])), e.Appended
	if opts.Length > 0 {
		if opts.Offset > o.Bytes-opts.Length {
			return fmt.Errorf("%w: %d bytes, which end before %d", chunkstore.ErrCorrupt, o.Bytes,
				opts.Offset+opts.Length)
		}
		o.Body = o.Body[opts.Offset:][:opts.Length]
		return nil
	}
	if o.ETag = etagOf(o.Body); o.ETag == opts.IfNoneMatch {
		return chunkstore.ErrUnmodified
	}
	return nil
}

// Put of a record is an Append, to which it is the same whether there is one before: its condition
// must be that there is none.
func (b *chunks) Put(ctx context.Context, key string, body []byte,
	cond chunkstore.Condition) (string, error) {
	l, n, err := b.record(ctx, key)
	switch {
	case err != nil:
		return "", b.wrap("put", key, err)
	case l == nil:
		return b.bucket.Put(ctx, key, body, cond)
	case !cond.IfNone:
		return "", b.wrap("put", key, errors.New("records of logs are not replaced"))
	}
	return etagOf(body), l.create(ctx, n, body, false)
}

// Stat of a record reads it, for its ETag.
func (b *chunks) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	l, n, err := b.record(ctx, key)
	if err == nil && l == nil {
		return b.bucket.Stat(ctx, key)
	}
	o := chunkstore.Object{Key: key}
	if err == nil {
		err = l.get(ctx, n, &o, chunkstore.GetOptions{})
	}
	if err != nil {
		return chunkstore.Object{}, b.wrap("stat", key, err)
	}
	o.Body = nil
	return o, nil
}

func (b *chunks) Delete(ctx context.Context, key string) error {
	l, n, err := b.record(ctx, key)
	if err == nil && l == nil {
		return b.bucket.Delete(ctx, key)
	}
	if err == nil {
		err = l.delete(ctx, n)
	}
	return b.wrap("delete", key, err)
}

// Touch of a record changes its time alone.
func (b *chunks) Touch(ctx context.Context, key string) error {
	l, n, err := b.record(ctx, key)
	if err == nil && l == nil {
		return b.bucket.Touch(ctx, key)
	}
	if err == nil {
		err = l.touch(ctx, n)
	}
	return b.wrap("touch", key, err)
}

// List goes over the objects and, where they belong, the records of logs.
func (b *chunks) List(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	return b.wrap("list", prefix+"*", b.list(ctx, prefix, yield))
}

func (b *chunks) list(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	maps, err := b.maps(ctx)
	if err != nil {
		return err
	}
	logs := maps && (strings.HasPrefix(prefix, chunkstore.LogKeyPrefix) ||
		strings.HasPrefix(chunkstore.LogKeyPrefix, prefix))
	var keys, names []string
	if name, ok := wholeLog(prefix); ok && logs { // the names of objects need not be listed
		names = []string{name}
	} else if keys, names, err = b.both(ctx, prefix, logs); err != nil {
		return err
	}
	for _, name := range names {
		first := chunkstore.LogKeyPrefix + name + "-"
		at, _ := slices.BinarySearch(keys, first)
		goOn, err := b.each(ctx, keys[:at], yield)
		keys = keys[at:]
		if err != nil || !goOn {
			return err
		}
		l := b.OpenLog(name).(*log)
		if err = l.List(ctx, 0, math.MaxUint64, func(e chunkstore.LogEntry) bool {
			key := chunkstore.RecordKey(name, e.Number)
			if strings.HasPrefix(key, prefix) {
				goOn = yield(chunkstore.Object{Key: key, Bytes: e.Bytes, Modified: e.Appended})
			}
			return goOn
		}); err != nil || !goOn {
			return err
		}
	}
	_, err = b.each(ctx, keys, yield)
	return err
}

// wholeLog returns the name of the log of which alone keys begin with prefix, if it is so.
func wholeLog(prefix string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(prefix, chunkstore.LogKeyPrefix)
	name, _, found := strings.Cut(rest, "-")
	return name, ok && found
}

// both returns the keys that begin with prefix of what are objects, and, if wanted, the names of
// the logs of which records' keys may, in order.
func (b *chunks) both(ctx context.Context, prefix string, logs bool) (
	keys, names []string, err error,
) {
	found, err := b.names(ctx, func(name string) bool {
		return strings.HasPrefix(name, b.prefix+prefix) ||
			logs && strings.HasPrefix(name, logsPrefix) &&
				strings.Count(name, "/") == strings.Count(logsPrefix, "/")
	})
	for _, name := range found {
		if log, ok := strings.CutPrefix(name, logsPrefix); ok {
			if strings.HasPrefix(chunkstore.LogKeyPrefix+log+"-", prefix) {
				names = append(names, log)
			}
		} else {
			keys = append(keys, strings.TrimPrefix(name, b.prefix))
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a+"-", b+"-") })
	slices.Sort(keys)
	return keys, names, err
}
