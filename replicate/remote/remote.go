package remote

import (
	"context"
	"errors"
	"log/slog"
	"time"
	"unsafe"

	"verneuil/chunkstore"
	"verneuil/replicate/remote/compose"
)

// What a [Conn] answers; test with errors.Is. All messages name the database.
var (
	// ErrBusy: another connection, process or machine writes. Who that is stands in the message.
	ErrBusy = errors.New("another one writes")
	// ErrStale: the version that is read is not the newest, so that nothing can be written on it.
	ErrStale = errors.New("the version that is read is not the newest any more")
	// ErrReadOnly: the database was opened for reading.
	ErrReadOnly = errors.New("opened for reading only")
	// ErrLost: another one has taken over. Nothing of the transaction is in the store.
	ErrLost = errors.New("another one has taken the database over")
	// ErrUnknown: the store has not said whether it has the transaction. The next one finds out.
	ErrUnknown = errors.New("it is not known whether the store has the transaction")
)

// Options are the settings of a [Set].
type Options struct {
	// Open returns the store of that name, which has one target. It is called once for each.
	Open func(ctx context.Context, store string) (*chunkstore.Store, error)
	Has  func(store string) bool // there is one of that name

	TempDir string // of slot files, and of the files that processes share; absolute
	Host    string // of this machine, for others to read
	Program string // with its version

	LeaseTimeout   time.Duration // a holder that shows no sign of life for so long is dead
	LeaseRenewal   time.Duration // a holder that has nothing to write shows one so often
	LeaseLinger    time.Duration // a holder gives the lease back so long after its last commit
	Deadline       time.Duration // of a commit that the store does not answer
	CommitInterval time.Duration // at synchronous=OFF, what was committed is appended so often
	Log            *slog.Logger  // nil: silent
}

// Mode is how a database is opened.
type Mode struct {
	ReadOnly bool
	Create   bool // if it is not there
	// Follow: new versions are looked for in the background, and not before each transaction.
	Follow bool
	// Staleness: what was the newest version so long ago needs no new look.
	Staleness time.Duration
}

// Set is the databases in stores that a process has open. It is safe for concurrent use.
type Set struct{ o Options }

// NewSet makes an empty set. It asks nobody.
func NewSet(o Options) (*Set, error) { return &Set{o}, nil }

// Has reports whether there is a store of that name.
func (s *Set) Has(store string) bool { return s.o.Has(store) }

// Open opens the database name, which is /STORE/any/path.db. It fails with
// [chunkstore.ErrAbsent] if it is not there, unless it is to be created.
func (s *Set) Open(ctx context.Context, name string, m Mode) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// Exists reports whether the database name is there.
func (s *Set) Exists(ctx context.Context, name string) (bool, error) {
	return false, errors.ErrUnsupported
}

// Exit appends what is not durable yet, and gives leases back, until ctx ends.
func (s *Set) Exit(ctx context.Context) {}

// Status describes one database.
type Status struct {
	Store string `json:"store"`
	Path  string `json:"path"`
}

// Status lists the databases that are open, by store and path.
func (s *Set) Status() []Status { return nil }

// Conn is one open handle on a database, at one version. It is used by one goroutine at a time.
type Conn struct{}

// Table is what C reads: the address of the table of the version that c reads. It stays valid until
// c moves on or closes.
func (c *Conn) Table() unsafe.Pointer { return nil }

// Newest is the address of an atomic uint32: the change counter of the newest version that is
// known and durable. It stays valid until c closes.
func (c *Conn) Newest() unsafe.Pointer { return nil }

// Number is that of the record by which the version that c reads became durable; 0: it is not, or
// not known to be.
func (c *Conn) Number() uint64 { return 0 }

// Lease is the address of a machine.Page: before its time is over, the version with its number is
// the newest, and nobody need be asked. It stays valid until c closes.
func (c *Conn) Lease() unsafe.Pointer { return nil }

// Checked is the address of an atomic uint64: the time, by CLOCK_BOOTTIME in nanoseconds, at which
// the last look began that found the newest known version to be the newest. It stays valid until c
// closes.
func (c *Conn) Checked() unsafe.Pointer { return nil }

// Share moves c to the newest version, as a read transaction begins. It may ask the store.
func (c *Conn) Share(ctx context.Context) error { return errors.ErrUnsupported }

// Reserve has c write, alone, until Unreserve. It fails with [ErrBusy], [ErrStale] and
// [ErrReadOnly], at once; only the lease itself may be waited for, where it is free.
func (c *Conn) Reserve(ctx context.Context) error { return errors.ErrUnsupported }

// Commit has the change that was made to the version that c reads become the next version, which
// c reads from then on, if moved: else there was no change. The version is durable when Wait says
// so. pass: c's owner calls Unreserve before it writes again, so that others of this process may
// write on top of it at once. After an error nothing is committed.
func (c *Conn) Commit(ctx context.Context, ch compose.Change, pass bool) (moved bool, err error) {
	return false, errors.ErrUnsupported
}

// Wait waits until what c has committed is durable. It fails with [ErrLost] and [ErrUnknown]: then
// c is back at a version that is.
func (c *Conn) Wait(ctx context.Context) error { return errors.ErrUnsupported }

// Unreserve ends what Reserve has begun.
func (c *Conn) Unreserve() {}

// Read fills p with the bytes at off, all of which lie in the file, fetching what is not there.
func (c *Conn) Read(ctx context.Context, p []byte, off int64) error { return errors.ErrUnsupported }

// Ahead is called by a reader that comes to a marked chunk: time to fetch more.
func (c *Conn) Ahead(i int) {}

// Adopt moves on to the newest version that is known, and reports whether that is another one. It
// never waits for the store.
func (c *Conn) Adopt() bool { return false }

// Release gives the lease back now, if nobody of this process writes.
func (c *Conn) Release(ctx context.Context) error { return errors.ErrUnsupported }

// Refresh asks the store for the newest version, also where none need be asked, and moves on.
func (c *Conn) Refresh(ctx context.Context) error { return errors.ErrUnsupported }

// Close gives up the version, and what was reserved.
func (c *Conn) Close() {}
