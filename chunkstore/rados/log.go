package rados

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/cgo/librados"
	"verneuil/chunkstore"
)

const (
	logsPrefix = "logs/"

	// segmentRecords is how many numbers a segment has. More would make an object's map large, of
	// which Ceph warns at 200,000 entries or 1 GiB; fewer, more entries of the index.
	segmentRecords = 1024
	// readRecords is how many records are read at once: they may have 4 MiB each.
	readRecords = 64
	// listRecords is how many entries of a map are listed at once, which is the cluster's limit.
	listRecords = 1024

	recordKey = "r" // before the number, 16 hex digits
	metaKey   = "m"
)

// log is a log of which up to 1,024 records are entries of the map of one object: see doc.go. In a
// pool whose objects have no maps it is the one of chunkstore's of which each record is an object.
type log struct {
	b       *chunks
	name    string
	objects chunkstore.Log
}

// OpenLog returns the log called name: see [chunkstore.Logger].
func (b *chunks) OpenLog(name string) chunkstore.Log {
	return &log{b: b, name: name, objects: chunkstore.NewObjectLog(&b.bucket, name)}
}

func (l *log) String() string { return fmt.Sprintf("log %s in %v", l.name, l.b) }

func segmentOf(n uint64) uint64 { return n / segmentRecords }

func (l *log) index() string { return logsPrefix + l.name }

func (l *log) segment(s uint64) string { return fmt.Sprintf("%s%s/%016x", logsPrefix, l.name, s) }

func hexOf(n uint64) string { return fmt.Sprintf("%016x", n) }

// maps reports whether the log is in maps.
func (l *log) maps(ctx context.Context) (yes bool, err error) { return l.b.maps(ctx) }

// maps reports whether objects of the pool may have maps.
func (p *pool) maps(ctx context.Context) (yes bool, err error) {
	io, err := p.io(ctx)
	if err == nil {
		yes, err = io.maps(ctx)
	}
	if err != nil {
		return false, p.translate(err)
	}
	return yes, nil
}

// meta is what is told of a record without reading it.
func encodeMeta(bytes int) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	return binary.BigEndian.AppendUint64(b, uint64(bytes))
}

func (l *log) entry(n uint64, meta []byte) (chunkstore.LogEntry, error) {
	if len(meta) != 16 {
		return chunkstore.LogEntry{}, fmt.Errorf("record %d of %v: %w: an entry of %d bytes", n, l,
			chunkstore.ErrCorrupt, len(meta))
	}
	return chunkstore.LogEntry{Number: n, Bytes: int64(binary.BigEndian.Uint64(meta[8:])),
		Appended: time.Unix(0, int64(binary.BigEndian.Uint64(meta)))}, nil
}

func (l *log) write(ctx context.Context, request, object string, bytes int,
	w *librados.WriteOp) error {
	return l.b.do(ctx, l.b, request, int64(bytes), func(ctx context.Context, io *opened) error {
		_, err := io.Write(ctx, object, w)
		return err
	})
}

func (l *log) read(ctx context.Context, object string, r *librados.ReadOp) (
	got *librados.Result, err error,
) {
	err = l.b.do(ctx, l.b, "read "+object, 0, func(ctx context.Context, io *opened) (err error) {
		got, err = io.Read(ctx, object, r)
		return err
	})
	return got, err
}

// Append is one compound write: the segment's map gets the record if it has none of that number,
// and has the one before. The index gets the segment first, which is another write for each 1,024
// records; then the record before is read.
func (l *log) Append(ctx context.Context, n uint64, record []byte) error {
	return l.create(ctx, n, record, n > 1)
}

// create is Append; chained: that fails if there is no record before it.
func (l *log) create(ctx context.Context, n uint64, record []byte, chained bool) error {
	maps, err := l.maps(ctx)
	switch {
	case err != nil:
	case !maps:
		return l.objects.Append(ctx, n, record)
	case len(record) > chunkstore.RecordBytesMax:
		err = fmt.Errorf("%d bytes, more than %d", len(record), chunkstore.RecordBytesMax)
	default:
		err = l.append(ctx, n, record, chained)
	}
	if err != nil {
		return fmt.Errorf("append record %d of %v: %w", n, l, err)
	}
	return nil
}

func (l *log) append(ctx context.Context, n uint64, record []byte, chained bool) error {
	s := segmentOf(n)
	if err := l.announce(ctx, s); err != nil {
		return err
	}
	number := hexOf(n)
	w := new(librados.WriteOp).Create(false).CompareOmap(metaKey+number, nil)
	if chained && segmentOf(n-1) == s {
		w.RequireOmap(metaKey + hexOf(n-1))
	} else if chained {
		if _, _, err := l.stat(ctx, n-1); err != nil {
			return fmt.Errorf("the record before it: %w", err)
		}
	}
	w.SetOmap(metaKey+number, encodeMeta(len(record))).
		SetOmap(recordKey+number, record)
	err := l.b.do(ctx, l.b, "append "+number, int64(len(record)),
		func(ctx context.Context, io *opened) error {
			_, err := io.WriteHere(ctx, l.segment(s), w)
			return err
		})
	if !errors.Is(err, syscall.ECANCELED) {
		return err
	}
	if _, _, err = l.stat(ctx, n); err == nil {
		return fmt.Errorf("%w: there is such a record", chunkstore.ErrConflict)
	} else if !errors.Is(err, chunkstore.ErrAbsent) {
		return err
	}
	if _, _, err = l.stat(ctx, n-1); chained && err != nil {
		return fmt.Errorf("the record before it: %w", err)
	}
	return errors.New("somebody changes the log") // it is tried again
}

// Chains: see [chunkstore.Chained].
func (l *log) Chains(ctx context.Context) bool {
	maps, err := l.maps(ctx)
	return err == nil && maps
}

// announce has the index have segment s.
func (l *log) announce(ctx context.Context, s uint64) error {
	if last, ok := l.b.indexed.Load(l.name); ok && last == s {
		return nil
	}
	err := l.write(ctx, "index "+hexOf(s), l.index(), 0,
		new(librados.WriteOp).Create(false).SetOmap(hexOf(s), nil))
	if err == nil {
		l.b.indexed.Store(l.name, s)
	}
	return err
}

// Batches: see [chunkstore.Batching].
func (l *log) Batches(ctx context.Context) bool {
	maps, err := l.maps(ctx)
	return err == nil && maps
}

// Read asks for up to 64 records at once.
func (l *log) Read(ctx context.Context, from uint64, limit int) (all [][]byte, err error) {
	maps, err := l.maps(ctx)
	if err == nil && !maps {
		return l.objects.Read(ctx, from, limit)
	}
	for more := true; more && err == nil && len(all) < limit; {
		var some [][]byte
		some, more, err = l.readSome(ctx, from+uint64(len(all)), limit-len(all))
		all = append(all, some...)
	}
	if err != nil {
		return nil, fmt.Errorf("read record %d of %v: %w", from+uint64(len(all)), l, err)
	}
	return all, nil
}

// readSome reads records of one segment. more says that the one after them may be there.
func (l *log) readSome(ctx context.Context, from uint64, limit int) (
	records [][]byte, more bool, err error,
) {
	s := segmentOf(from)
	r := &librados.ReadOp{Omap: &librados.OmapRange{Prefix: recordKey,
		Most: min(limit, readRecords)}}
	if from > 0 {
		r.Omap.After = recordKey + hexOf(from-1)
	}
	got, err := l.read(ctx, l.segment(s), r)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	for _, e := range got.Omap {
		if e.Key != recordKey+hexOf(from+uint64(len(records))) {
			return records, false, nil
		}
		records = append(records, e.Value)
	}
	next := from + uint64(len(records))
	return records, len(records) > 0 && (got.More || segmentOf(next) != s), nil
}

// List lists the entries of the segments that the index has.
func (l *log) List(
	ctx context.Context, from, to uint64, yield func(chunkstore.LogEntry) bool,
) error {
	maps, err := l.maps(ctx)
	if err == nil && !maps {
		return l.objects.List(ctx, from, to, yield)
	}
	var segments []uint64
	if err == nil {
		segments, err = l.segments(ctx, segmentOf(from))
	}
	for i := 0; err == nil && i < len(segments) && segments[i] <= segmentOf(to); i++ {
		var entries []chunkstore.LogEntry
		entries, err = l.entries(ctx, segments[i], from)
		for _, e := range entries {
			if e.Number > to || !yield(e) {
				return nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("list %v: %w", l, err)
	}
	return nil
}

// keys returns what an object's map has, from the key after on; none if there is no such object.
func (l *log) keys(ctx context.Context, object, after, prefix string) (
	all []librados.OmapEntry, err error,
) {
	for more := true; more; {
		got, err := l.read(ctx, object, &librados.ReadOp{
			Omap: &librados.OmapRange{After: after, Prefix: prefix, Most: listRecords}})
		if errors.Is(err, chunkstore.ErrAbsent) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, got.Omap...)
		if more = got.More && len(got.Omap) > 0; more {
			after = all[len(all)-1].Key
		}
	}
	return all, nil
}

// segments returns the numbers of those that the index has, from one on, ascending.
func (l *log) segments(ctx context.Context, from uint64) (all []uint64, err error) {
	after := ""
	if from > 0 {
		after = hexOf(from - 1)
	}
	keys, err := l.keys(ctx, l.index(), after, "")
	for _, e := range keys {
		s, err := strconv.ParseUint(e.Key, 16, 64)
		if err == nil && s <= segmentOf(math.MaxUint64) {
			all = append(all, s)
		}
	}
	return all, err
}

// entries returns those of segment s, from a number on, ascending.
func (l *log) entries(ctx context.Context, s, from uint64) (all []chunkstore.LogEntry, err error) {
	after := ""
	if from > 0 {
		after = metaKey + hexOf(from-1)
	}
	keys, err := l.keys(ctx, l.segment(s), after, metaKey)
	if err != nil {
		return nil, err
	}
	for _, e := range keys {
		n, err := strconv.ParseUint(strings.TrimPrefix(e.Key, metaKey), 16, 64)
		if err != nil || segmentOf(n) != s {
			continue // it is none of ours
		}
		entry, err := l.entry(n, e.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, entry)
	}
	return all, nil
}

// Trim removes whole segments where it can, several at once.
func (l *log) Trim(ctx context.Context, before uint64, keep []uint64) error {
	maps, err := l.maps(ctx)
	if err == nil && !maps {
		return l.objects.Trim(ctx, before, keep)
	}
	var segments []uint64
	if err == nil {
		segments, err = l.segments(ctx, 0)
	}
	if err == nil {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(stats / 4)
		for _, s := range segments {
			if s > segmentOf(before) {
				break
			}
			group.Go(func() (err error) {
				defer recovered(&err)
				return l.trim(ctx, s, before, keep)
			})
		}
		err = group.Wait()
	}
	if err != nil {
		return fmt.Errorf("trim %v: %w", l, err)
	}
	return nil
}

// trim removes what is to go of segment s.
func (l *log) trim(ctx context.Context, s, before uint64, keep []uint64) error {
	whole := s < segmentOf(before) &&
		!slices.ContainsFunc(keep, func(n uint64) bool { return segmentOf(n) == s })
	if whole {
		err := l.write(ctx, "remove", l.segment(s), 0, new(librados.WriteOp).Remove())
		if err == nil || errors.Is(err, chunkstore.ErrAbsent) {
			err = l.write(ctx, "index", l.index(), 0, new(librados.WriteOp).RemoveOmap(hexOf(s)))
		}
		return err
	}
	entries, err := l.entries(ctx, s, 0)
	if err != nil {
		return err
	}
	w, n := new(librados.WriteOp).AssertExists(), 0
	for _, e := range entries {
		if e.Number < before && !slices.Contains(keep, e.Number) {
			remove(w, e.Number)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	err = l.write(ctx, "trim", l.segment(s), 0, w)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil
	}
	return err
}

func remove(w *librados.WriteOp, n uint64) {
	w.RemoveOmap(metaKey + hexOf(n)).RemoveOmap(recordKey + hexOf(n))
}

// stat returns what is told of record n. It fails with ErrAbsent.
func (l *log) stat(ctx context.Context, n uint64) (e chunkstore.LogEntry, meta []byte, err error) {
	got, err := l.read(ctx, l.segment(segmentOf(n)), &librados.ReadOp{OmapKey: metaKey + hexOf(n)})
	if err != nil {
		return e, nil, err
	}
	if len(got.Omap) == 0 {
		return e, nil, chunkstore.ErrAbsent
	}
	meta = got.Omap[0].Value
	e, err = l.entry(n, meta)
	return e, meta, err
}

// touch makes record n young.
func (l *log) touch(ctx context.Context, n uint64) error {
	for range changes {
		e, meta, err := l.stat(ctx, n)
		if err != nil {
			return err
		}
		key := metaKey + hexOf(n)
		err = l.write(ctx, "touch", l.segment(segmentOf(n)), 0, new(librados.WriteOp).
			CompareOmap(key, meta).SetOmap(key, encodeMeta(int(e.Bytes))))
		if !errors.Is(err, syscall.ECANCELED) { // somebody else has touched or removed it
			return err
		}
	}
	return chunkstore.ErrConflict
}

// delete removes record n.
func (l *log) delete(ctx context.Context, n uint64) error {
	w := new(librados.WriteOp).AssertExists()
	remove(w, n)
	err := l.write(ctx, "delete", l.segment(segmentOf(n)), 0, w)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil
	}
	return err
}
