package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// NewLog returns the log called name, of letters and digits, in t's bucket of chunks, whose records
// t's Sealer seals, each about its key: none can stand in the place of another. It asks nobody.
// Append fails with [ErrUnguarded] if the bucket is known not to keep conditions, and Read with
// [ErrKey]. Of a record that is damaged as it is stored, Read returns no bytes, which no reader
// takes for a record.
func NewLog(t *Target, name string) Log {
	l := NewBucketLog(t.Chunks, name)
	if b, ok := l.(*bucketLog); ok {
		b.beside = func() (release func(), ok bool) { return SlotIfFree(t) }
	}
	return sealedLog{l, t.Sealer, name}
}

// sealedLog is a log whose records a Sealer seals.
type sealedLog struct {
	Log
	sealer Sealer
	name   string
}

// Batches is that of the log below: see [Batching].
func (l sealedLog) Batches(ctx context.Context) bool {
	b, ok := l.Log.(Batching)
	return ok && b.Batches(ctx)
}

// Chains is that of the log below: see [Chained].
func (l sealedLog) Chains(ctx context.Context) bool {
	c, ok := l.Log.(Chained)
	return ok && c.Chains(ctx)
}

// Tag is that of the log below: see [Tagged].
func (l sealedLog) Tag(n uint64) string {
	if t, ok := l.Log.(Tagged); ok {
		return t.Tag(n)
	}
	return ""
}

// Know is that of the log below: see [Tagged].
func (l sealedLog) Know(n uint64, etag string, record []byte) {
	t, ok := l.Log.(Tagged)
	if !ok {
		return
	}
	if etag == "" { // else nobody looks at the record
		record = Wrapped(l.sealer, RecordKey(l.name, n), record)
	}
	t.Know(n, etag, record)
}

func (l sealedLog) Append(ctx context.Context, n uint64, record []byte) error {
	_, err := l.AppendDated(ctx, n, record)
	return err
}

// AppendDated is that of the log below: see [DatedLog].
func (l sealedLog) AppendDated(
	ctx context.Context, n uint64, record []byte,
) (time.Time, error) {
	return AppendDated(ctx, l.Log, n, Wrapped(l.sealer, RecordKey(l.name, n), record))
}

func (l sealedLog) Read(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	records, err := l.Log.Read(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	for k, stored := range records {
		n := from + uint64(k)
		record, err := l.sealer.Unwrap(nil, RecordKey(l.name, n), stored)
		switch {
		case errors.Is(err, ErrCorrupt):
			record = []byte{}
		case err != nil:
			return nil, fmt.Errorf("record %d of %v: %w", n, l, err)
		}
		records[k] = record
	}
	return records, nil
}
