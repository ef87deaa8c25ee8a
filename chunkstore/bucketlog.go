package chunkstore

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// LogKeyPrefix begins the keys of records in a bucket of chunks. No chunk's begins so.
	LogKeyPrefix = "log-"
	// KeptKeyPrefix begins the keys of checkpoints that are kept, likewise: see package versions.
	KeptKeyPrefix = "kept-"
	// LeaseKeyPrefix begins the keys by which the holders of databases that live in a store show
	// that they are alive, and WantKeyPrefix those by which others ask them for one: see package
	// versions.
	LeaseKeyPrefix = "lease-"
	WantKeyPrefix  = "want-" // see LeaseKeyPrefix
	// RecordBytesMax bounds a record: 4 MiB. It is what a reader allocates for one.
	RecordBytesMax = 4 << 20

	// logReaders is how many records are asked for at a time.
	logReaders = 64
	// logLists is by how many prefixes at most one range of a log is listed.
	logLists = 8
	// logETags is of how many records the ETag is known, but for some.
	logETags = 8192
	// deleters is how many objects are deleted at a time.
	deleters = 16
)

// bucketLog is a log of which each record is an object: log-<name>-<number, 16 hex digits>.
type bucketLog struct {
	bucket Bucket
	name   string
	mu     sync.Mutex
	known  bool // whether absent objects are denied
	hidden bool // they are
	// etags are of the last records that were appended or read here: see [LogEntry].Other.
	etags map[uint64]string

	// beside takes a slot for a request beside the caller's: see [SlotIfFree]. nil: none is needed.
	beside func() (release func(), ok bool)
}

// Peeker is a [Bucket] that can tell whether an object is there at no cost, beside that of a Put.
type Peeker interface {
	// Peek reports whether there is an object of that key. It takes no token.
	Peek(key string) (there bool, err error)
}

// Dated is a [Bucket] that tells when the store has answered.
type Dated interface {
	// PutDated is Put, and returns when the store has said that it has the object, by its clock,
	// and not before it had; zero: it has not said.
	PutDated(ctx context.Context, key string, body []byte, cond Condition) (
		etag string, at time.Time, err error)
}

// PutDated is b's, or its Put if b is not [Dated].
func PutDated(ctx context.Context, b Bucket, key string, body []byte, cond Condition) (
	etag string, at time.Time, err error,
) {
	if d, ok := b.(Dated); ok {
		return d.PutDated(ctx, key, body, cond)
	}
	etag, err = b.Put(ctx, key, body, cond)
	return etag, time.Time{}, err
}

// Logger is a [Bucket] of chunks that keeps the records of logs in another way than one object for
// each. To the methods of Bucket they are objects all the same, under [RecordKey], but that a Put
// must have the condition that there is none.
type Logger interface {
	Bucket
	// OpenLog returns the log called name. It asks nobody.
	OpenLog(name string) Log
}

// NewBucketLog returns the log called name, of letters and digits, in a bucket of chunks. It asks
// nobody. Append fails with [ErrUnguarded] if the bucket is known not to keep conditions.
func NewBucketLog(b Bucket, name string) Log {
	if l, ok := b.(Logger); ok {
		return l.OpenLog(name)
	}
	return NewObjectLog(b, name)
}

// NewObjectLog is NewBucketLog for a bucket that is no [Logger], or has none here: each record is
// an object.
func NewObjectLog(b Bucket, name string) Log { return &bucketLog{bucket: b, name: name} }

func (l *bucketLog) String() string { return fmt.Sprintf("log %s in %v", l.name, l.bucket) }

func (l *bucketLog) prefix() string { return LogKeyPrefix + l.name + "-" }

func (l *bucketLog) key(n uint64) string { return RecordKey(l.name, n) }

// RecordKey returns the key of record n of the log called name.
func RecordKey(name string, n uint64) string {
	return fmt.Sprintf("%s%s-%016x", LogKeyPrefix, name, n)
}

// ParseRecordKey is the inverse of RecordKey; ok is false of the keys of others.
func ParseRecordKey(key string) (name string, n uint64, ok bool) {
	rest, ok := strings.CutPrefix(key, LogKeyPrefix)
	at := strings.LastIndexByte(rest, '-')
	if !ok || at <= 0 {
		return "", 0, false
	}
	name = rest[:at]
	n, err := strconv.ParseUint(rest[at+1:], 16, 64)
	return name, n, err == nil && RecordKey(name, n) == key
}

// number returns which record has the key.
func (l *bucketLog) number(key string) (n uint64, ok bool) {
	name, n, ok := ParseRecordKey(key)
	return n, ok && name == l.name
}

func (l *bucketLog) Append(ctx context.Context, n uint64, record []byte) error {
	_, err := l.AppendDated(ctx, n, record)
	return err
}

// AppendDated: see [DatedLog].
func (l *bucketLog) AppendDated(
	ctx context.Context, n uint64, record []byte,
) (at time.Time, err error) {
	if len(record) > RecordBytesMax {
		return at, fmt.Errorf("append record %d of %v: %d bytes, more than %d",
			n, l, len(record), RecordBytesMax)
	}
	if c, ok := l.bucket.(Conditional); ok && c.Unguarded() {
		return at, fmt.Errorf("append record %d of %v: %w", n, l, ErrUnguarded)
	}
	if p, ok := l.bucket.(Peeker); ok && n > 1 {
		if err := l.follows(p, n); err != nil {
			return at, err
		}
	}
	etag, at, err := PutDated(ctx, l.bucket, l.key(n), record, Condition{IfNone: true})
	if err == nil {
		l.has(n, etag)
	}
	return at, err
}

// has notes that there is record n.
func (l *bucketLog) has(n uint64, etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.etags == nil {
		l.etags = make(map[uint64]string)
	}
	l.etags[n] = BareETag(etag)
	if len(l.etags) >= 2*logETags {
		maps.DeleteFunc(l.etags, func(k uint64, _ string) bool { return k+logETags < n })
	}
}

// Tag: see [Tagged].
func (l *bucketLog) Tag(n uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.etags[n]
}

// Know: see [Tagged].
func (l *bucketLog) Know(n uint64, etag string, record []byte) {
	if etag == "" {
		sum := md5.Sum(record)
		etag = hex.EncodeToString(sum[:])
	}
	if l.Tag(n) == "" { // what was read here is known better
		l.has(n, etag)
	}
}

// other is [LogEntry].Other.
func (l *bucketLog) other(n uint64, etag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.etags[n]
	return etag != "" && (!ok || known != BareETag(etag))
}

// BareETag is an ETag without its quotes, with which not all stores list one, or compare it.
func BareETag(etag string) string { return strings.Trim(etag, `"`) }

// follows fails with ErrAbsent if there is no record before n, and no n: a fence may stay alone.
func (l *bucketLog) follows(p Peeker, n uint64) error {
	for _, k := range []uint64{n - 1, n} {
		if there, err := p.Peek(l.key(k)); there || err != nil {
			return err
		}
	}
	return fmt.Errorf("append record %d of %v: there is none before it: %w", n, l, ErrAbsent)
}

// Read asks for all of them at once, up to 64 at a time, as far as there are slots.
func (l *bucketLog) Read(ctx context.Context, from uint64, limit int) (all [][]byte, err error) {
	for len(all) < limit {
		n := min(logReaders, limit-len(all))
		records, err := l.read(ctx, from+uint64(len(all)), n)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
		if len(records) < n {
			break
		}
	}
	return all, nil
}

// read asks for n records at once, and returns those before the first that is missing. For those
// without a slot of their own the caller's is used, one after the other.
func (l *bucketLog) read(ctx context.Context, from uint64, n int) ([][]byte, error) {
	records := make([][]byte, n)
	group, ctx := errgroup.WithContext(ctx)
	for i := range records {
		release, ok := func() {}, i < n-1
		if ok && l.beside != nil {
			release, ok = l.beside()
		}
		get := func() (err error) {
			defer recovered(&err)
			records[i], err = l.get(ctx, from+uint64(i))
			return err
		}
		if ok {
			group.Go(func() error { defer release(); return get() })
		} else if err := get(); err != nil {
			group.Go(func() error { return err })
			break
		} else if records[i] == nil {
			break
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if missing := slices.IndexFunc(records, func(r []byte) bool { return r == nil }); missing >= 0 {
		records = records[:missing]
	}
	return records, nil
}

// get returns record n; nil: there is none.
func (l *bucketLog) get(ctx context.Context, n uint64) ([]byte, error) {
	o, err := l.bucket.Get(ctx, l.key(n), GetOptions{BytesMax: RecordBytesMax})
	switch {
	case errors.Is(err, ErrDenied):
		return nil, l.denied(ctx, err)
	case errors.Is(err, ErrAbsent):
		return nil, nil
	case err != nil:
		return nil, err
	}
	l.has(n, o.ETag)
	if o.Body == nil {
		return []byte{}, nil
	}
	return o.Body, nil
}

// denied is what is known of a record of which the store has said no more than denied: nil if
// that means that it is absent. So it is if the bucket's marker may be read, and an object that is
// absent for sure is denied, too: that is asked once.
func (l *bucketLog) denied(ctx context.Context, denied error) error {
	l.mu.Lock() // all who are denied wait for the first
	defer l.mu.Unlock()
	if !l.known {
		_, err := l.bucket.Get(ctx, MarkerKey, GetOptions{BytesMax: markerBytesMax})
		if err != nil {
			return denied
		}
		_, err = l.bucket.Get(ctx, l.key(math.MaxUint64), GetOptions{BytesMax: RecordBytesMax})
		l.known = errors.Is(err, ErrDenied) || errors.Is(err, ErrAbsent)
		l.hidden = errors.Is(err, ErrDenied)
	}
	if !l.hidden {
		return denied
	}
	return nil
}

// Chains: see [Chained].
func (l *bucketLog) Chains(context.Context) bool {
	_, ok := l.bucket.(Peeker)
	return ok
}

// List lists by prefixes that have 256 numbers each, or 16 times more, so that there are few.
func (l *bucketLog) List(
	ctx context.Context, from, to uint64, yield func(LogEntry) bool,
) error {
	shift := 8
	for shift < 64 && to>>shift-from>>shift >= logLists {
		shift += 4
	}
	goOn := true
	for block := from >> shift; goOn && from <= to && block <= to>>shift; block++ {
		prefix := l.prefix()
		if shift < 64 {
			prefix += fmt.Sprintf("%0*x", 16-shift/4, block)
		}
		err := l.bucket.List(ctx, prefix, func(o Object) bool {
			if n, ok := l.number(o.Key); ok && from <= n && n <= to {
				goOn = yield(LogEntry{Number: n, Bytes: o.Bytes, Appended: o.Modified,
					Other: l.other(n, o.ETag)})
			}
			return goOn
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *bucketLog) Trim(ctx context.Context, before uint64, keep []uint64) error {
	var old []string
	err := l.List(ctx, 0, math.MaxUint64, func(e LogEntry) bool {
		if e.Number < before && !slices.Contains(keep, e.Number) {
			old = append(old, l.key(e.Number))
		}
		return e.Number < before
	})
	if err == nil {
		err = DeleteAll(ctx, l.bucket, old)
	}
	if err != nil {
		return fmt.Errorf("trim %v: %w", l, err)
	}
	return nil
}

// DeleteAll removes objects from b, several at a time: a busy database makes 86,400 records a day.
// An error leaves some of them.
func DeleteAll(ctx context.Context, b Bucket, keys []string) error {
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(deleters)
	for _, key := range keys {
		if each.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			defer recovered(&err)
			return b.Delete(each, key)
		})
	}
	return cmp.Or(group.Wait(), ctx.Err())
}
