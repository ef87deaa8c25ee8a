package chunkstore

import (
	"context"
	"time"
)

// Log is a sequence of numbered records, 1, 2, 3 and so on, each created once and never
// changed. Implementations are safe for concurrent use, and take a token of the limiter for
// each request that they send (I4).
//
// A log does not remember what was trimmed: after that, Append may create such a number
// again. Who relies on order must know that (package history does).
type Log interface {
	// Append creates record n, whole or not at all, durably when it returns nil. The caller
	// has seen n-1. It fails with ErrConflict if there is an n, also if its bytes are the same,
	// and, where the log can tell at no cost, with ErrAbsent if there is no n-1: it was there, so
	// the store is not what it was, and nobody would come to read n.
	// After an error that is none of the kinds, n may have been created all the same, or
	// may yet be. record is not retained.
	Append(ctx context.Context, n uint64, record []byte) error
	// Read returns the records from on, in order, up to the first one that is missing, and at
	// most limit of them. None is no error. It finds every record whose Append returned before
	// Read began, and which was not trimmed.
	Read(ctx context.Context, from uint64, limit int) (records [][]byte, err error)
	// List calls yield for each record from one number to another that is there, in order, until
	// yield returns false. Numbers may be missing, where they were trimmed. To list some hundred
	// records of a long log takes few requests.
	List(ctx context.Context, from, to uint64, yield func(LogEntry) bool) error
	// Trim removes the records below before, but for those in keep. The last one is never below.
	// An error leaves some of them, and is no harm.
	Trim(ctx context.Context, before uint64, keep []uint64) error
	// String names the log in messages, without secrets.
	String() string
}

// Batching is a [Log] that may read several records by one request.
type Batching interface {
	// Batches reports whether it does: then Read with a limit of two costs what one of one does.
	Batches(ctx context.Context) bool
}

// Chained is a [Log] whose Append may be able to tell that there is no record before the one that
// it is to create.
type Chained interface {
	// Chains reports whether it is: then Append fails with ErrAbsent.
	Chains(ctx context.Context) bool
}

// Tagged is a [Log] that knows records by their ETags: see [LogEntry].Other.
type Tagged interface {
	// Tag returns the ETag of record n, as this Log has appended or read it, or was told by Know;
	// empty: it is not known.
	Tag(n uint64) string
	// Know notes that record n is the one with that ETag, as somebody says who has appended or read
	// it; or if etag is empty, one that was not read, and has the ETag that most stores make of
	// such a record, its MD5 sum: where they make another one, it is listed as Other.
	Know(n uint64, etag string, record []byte)
}

// DatedLog is a [Log] that may tell when the store has answered.
type DatedLog interface {
	// AppendDated is Append, and returns when the store has said that it has created the record, by
	// its clock, and not before it has; zero: it has not said.
	AppendDated(ctx context.Context, n uint64, record []byte) (time.Time, error)
}

// AppendDated is l's, or its Append if l is no [DatedLog].
func AppendDated(ctx context.Context, l Log, n uint64, record []byte) (time.Time, error) {
	if d, ok := l.(DatedLog); ok {
		return d.AppendDated(ctx, n, record)
	}
	return time.Time{}, l.Append(ctx, n, record)
}

// LogEntry is what a [Log] tells of a record without reading it.
type LogEntry struct {
	Number   uint64
	Bytes    int64
	Appended time.Time // by the store's clock
	// Other: it may be another one than this Log has appended or read last, or was told of
	// ([Tagged]), or none of these is so. Not all logs can tell.
	Other bool
}
