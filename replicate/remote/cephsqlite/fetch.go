package cephsqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"verneuil/cgo/librados"
)

// ErrMultiple: the database is in the middle of a transaction that wrote several databases.
var ErrMultiple = errors.New("its last transaction wrote several databases, and ended in the " +
	"middle: open them with libcephsqlite once, which decides about it")

const (
	// journalMagic begins the header of a journal, and ends the name of a super-journal at the end
	// of one (pager.c, writeSuperJournal).
	journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
	// superBytes is what stands behind that name: its length, a checksum, the magic.
	superBytes = 16
)

// readers is how many objects are read at a time.
const readers = 4

// Options refine [Fetch].
type Options struct {
	// Cluster says which; the zero value is what Ceph's tools take.
	Cluster librados.Options
	// Patience is how long another's lock is waited for; 0: 40 s, in which a lock ends that
	// nobody renews.
	Patience time.Duration
	// Blocked is told the address of a client that was refused; nil: nobody.
	Blocked func(address string)
	// Progress is told how many bytes are there, and how many there will be; nil: nobody. It is
	// called by several goroutines.
	Progress func(done, total int64)
}

// suffixes are what the names of a database's files end in, and those of our copies.
var suffixes = []string{"", "-journal", "-wal"}

// Fetch writes a copy of the database, and of its journal and WAL if there are any, to the files
// called file, file-journal and file-wal, which must not be there. SQLite recovers it as it would
// have in RADOS. An error wraps [syscall.ENOENT] if there is no such database, and [syscall.EBUSY]
// if somebody uses it for longer than the patience.
func Fetch(ctx context.Context, n Name, file string, o Options) (err error) {
	cluster, err := librados.Connect(ctx, o.Cluster)
	if err != nil {
		return err
	}
	defer cluster.Close()
	place, err := n.open(ctx, cluster)
	if err != nil {
		return err
	}
	if _, err := readHeader(ctx, place, n.File); err != nil { // there is none to be locked
		return err
	}
	hold, err := take(ctx, place, n, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hold.release()) }()
	if err := refuse(hold.ctx, cluster, place, n, o); err != nil {
		return err
	}
	if err := hold.read(n, file, o); err != nil {
		return err
	}
	if err := hold.confirm(ctx); err != nil { // C1
		return err
	}
	return whole(file + "-journal")
}

// read copies the files. If the lock is lost meanwhile, the error says so.
func (h *hold) read(n Name, file string, o Options) (err error) {
	defer func() {
		if err != nil && h.ctx.Err() != nil {
			err = context.Cause(h.ctx)
		}
	}()
	c := copier{place: h.place, progress: o.Progress}
	for i, suffix := range suffixes {
		part, err := readHeader(h.ctx, h.place, n.File+suffix)
		if i > 0 && (errors.Is(err, syscall.ENOENT) || err == nil && part.size == 0) {
			continue
		} else if err != nil {
			return err
		}
		part.to = file + suffix
		c.files = append(c.files, part)
		c.total += part.size
	}
	return c.run(h.ctx)
}

// open returns the pool and namespace.
func (n Name) open(ctx context.Context, cluster *librados.Cluster) (*librados.IO, error) {
	id, ok := n.id()
	if !ok {
		var err error
		if id, err = cluster.PoolID(ctx, n.Pool); err != nil {
			return nil, fmt.Errorf("pool %q: %w", n.Pool, err)
		}
	}
	place, err := cluster.IO(ctx, id, n.Namespace)
	if err != nil {
		return nil, fmt.Errorf("pool %q: %w", n.Pool, err)
	}
	return place, nil
}

// refuse has the cluster refuse the client that has not given the database back, if there is one.
func refuse(ctx context.Context, cluster *librados.Cluster, place *librados.IO, n Name,
	o Options) error {
	h, err := readHeader(ctx, place, n.File)
	if err != nil || h.excl == "" {
		return err
	}
	// what looks like a whole number is refused as expire
	const form = `{"prefix":"osd blocklist","blocklistop":"add","addr":%q,"expire":3600.0}`
	command := fmt.Sprintf(form, h.excl)
	_, status, err := cluster.MonCommand(ctx, command, nil)
	if err == nil {
		err = cluster.WaitForLatestMap(ctx)
	}
	if err != nil {
		return fmt.Errorf("its last user, at %s, has not given it back, and may yet write to it; "+
			"the cluster cannot be told to refuse it: %w %s (ceph osd blocklist add %s does, for "+
			"who may)", h.excl, err, status, h.excl)
	}
	if o.Blocked != nil {
		o.Blocked(h.excl)
	}
	return nil
}

// whole fails if the journal is one of a transaction that spans databases (C2).
func whole(journal string) error {
	f, err := os.Open(journal)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < 2*superBytes {
		return err
	}
	var head, tail [len(journalMagic)]byte
	for _, part := range []struct {
		b   []byte
		off int64
	}{{head[:], 0}, {tail[:], info.Size() - int64(len(tail))}} {
		if _, err := f.ReadAt(part.b, part.off); err != nil && err != io.EOF {
			return err
		}
	}
	if bytes.Equal(head[:], []byte(journalMagic)) && bytes.Equal(tail[:], []byte(journalMagic)) {
		return ErrMultiple
	}
	return nil
}

// copier writes files to this machine.
type copier struct {
	place    *librados.IO
	files    []*header
	total    int64
	done     atomic.Int64
	progress func(done, total int64)
}

func (c *copier) run(ctx context.Context) error {
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, h := range c.files {
		f, err := os.OpenFile(h.to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Truncate(h.size); err != nil {
			return err
		}
		for k := int64(0); k*h.objectBytes < h.size; k++ {
			if each.Err() != nil {
				break
			}
			group.Go(func() error { return c.object(each, h, f, k) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// object copies the k-th object of a file.
func (c *copier) object(ctx context.Context, h *header, f *os.File, k int64) error {
	off := k * h.objectBytes
	n := min(h.objectBytes, h.size-off)
	got, err := c.place.Read(ctx, object(h.file, k), &librados.ReadOp{Len: int(n)})
	if errors.Is(err, syscall.ENOENT) {
		got, err = &librados.Result{}, nil // zeros
	}
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(got.Data, off); err != nil {
		return err
	}
	if done := c.done.Add(n); c.progress != nil {
		c.progress(done, c.total)
	}
	return nil
}
