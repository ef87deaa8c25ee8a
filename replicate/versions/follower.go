package versions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
)

// Options are those of all who read or write histories.
func Options() history.Options { return history.Options{Grace: history.Grace, Now: boottime} }

// boottime is a clock that goes on while the machine sleeps, and is not set.
func boottime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(t.Nano())
}

// Follower reads the newest version of one database in one target, and goes on to the next ones.
type Follower struct {
	sealer chunkstore.Sealer
	store  history.Store
	reader *history.Reader // nil: it begins anew
	newest *manifest.Manifest
	fence  *history.Record // the last one that was read since the checkpoint; nil: none
	read   int64           // bytes

	doubt bool                           // see Doubt
	ahead bool                           // as history's Options have it
	each  func(*manifest.Manifest) error // is asked of each version before it is; nil: all may be
}

// Open reads the newest checkpoint of the database whose manifest has that key in t; Next reads
// what comes after it. It fails with [chunkstore.ErrAbsent] if there is none, and with ErrCorrupt.
func Open(ctx context.Context, t *chunkstore.Target, key string) (*Follower, error) {
	return OpenIn(ctx, t.Sealer, NewStore(t, key))
}

// OpenIn is Open of a store as [NewStore] makes it, all of which s has sealed.
func OpenIn(ctx context.Context, s chunkstore.Sealer, store history.Store) (*Follower, error) {
	f := &Follower{sealer: s, store: store}
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// OpenNewest is Open and Next: it reads the newest version.
func OpenNewest(ctx context.Context, t *chunkstore.Target, key string) (*Follower, error) {
	return openNewest(ctx, &Follower{sealer: t.Sealer, store: NewStore(t, key)})
}

// OpenToRead is [OpenNewest] for who waits for it: it takes fewer round trips, and more requests.
// begun, which may be nil, is told the checkpoint before records are asked for. It does not wait.
func OpenToRead(
	ctx context.Context, t *chunkstore.Target, key string, begun func(*manifest.Manifest),
) (*Follower, error) {
	f := &Follower{sealer: t.Sealer, store: NewStore(t, key), ahead: true}
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	if begun != nil {
		begun(f.newest)
	}
	return goOn(ctx, f)
}

func openNewest(ctx context.Context, f *Follower) (*Follower, error) {
	if err := f.open(ctx); err != nil {
		return nil, err
	}
	return goOn(ctx, f)
}

func goOn(ctx context.Context, f *Follower) (*Follower, error) {
	_, err := f.Next(ctx)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Follower) open(ctx context.Context) error {
	o := Options()
	o.Ahead = f.ahead
	r, c, err := history.Open(ctx, f.store, o)
	if err == nil {
		err = f.take(c)
	}
	if err == nil {
		f.reader = r
		r.Expect(recordsSince(f.newest.Time, time.Now()))
	}
	return err
}

// recordsSince returns how many records follow a checkpoint of that time, if its database is
// written to all the time, and has a record a second, as hosts make them where nothing else is
// configured. One that is older has fewer.
func recordsSince(checkpoint, now time.Time) int {
	const late = 10 * time.Second // it takes until the next one is there
	age := now.Sub(checkpoint)
	if age < 0 || age > CheckpointRecords*time.Second+late {
		return 0
	}
	return int(age/time.Second) + 2
}

// Newest returns the newest version that was read. It must not be changed.
func (f *Follower) Newest() *manifest.Manifest { return f.newest }

// Fence returns the last takeover that was read since the newest checkpoint; nil: there was none.
func (f *Follower) Fence() *history.Record { return f.fence }

// Read returns how many bytes of checkpoints and records were read.
func (f *Follower) Read() int64 { return f.read }

// Reader returns what reads the history, for a writer, who owns it from then on: the follower is of
// no more use. It is not to be asked for after an error.
func (f *Follower) Reader() *history.Reader { return f.reader }

// Next goes on to the newest version, and reports whether it is another than before. After an error
// the follower may be at a version in between.
func (f *Follower) Next(ctx context.Context) (news bool, err error) {
	was := f.newest
	defer func() { news = !same(was, f.newest) }()
	for {
		end, err := f.next(ctx)
		if err != nil || end {
			return false, err
		}
	}
}

// Doubt has the next call ask whether what was read is still there: the checkpoint, and, if nothing
// comes after it, the last record. Else it reads anew what stands there. Without it, that there is
// another checkpoint is found out within [history.Grace], and that records are gone, or have made
// place for others, once a checkpoint is beyond them: a store may be put back to an older copy.
func (f *Follower) Doubt() { f.doubt = true }

// next takes over some of what is new, and reports whether that is all.
func (f *Follower) next(ctx context.Context) (end bool, err error) {
	doubt := f.doubt && f.newest.At.Lineage != [16]byte{} // else it is asked anyway
	f.doubt = false
	var step history.Step
	if f.reader != nil {
		if doubt {
			step, err = f.reader.LookAndNext(ctx)
		} else {
			step, err = f.reader.Next(ctx)
		}
		if doubt && err == nil && step.Empty() { // else what is new says that the last one stands
			err = f.reader.Stand(ctx, f.reader.At())
		}
		if errors.Is(err, history.ErrBehind) || errors.Is(err, history.ErrLost) {
			f.reader = nil
		}
	}
	if f.reader == nil {
		if err := f.open(ctx); err != nil {
			return false, err
		}
		step, err = f.reader.Next(ctx)
	}
	if err != nil || step.Empty() {
		return true, err
	}
	if err := f.fold(step); err != nil {
		f.reader = nil // it has read what we have not
		return false, err
	}
	return step.End, nil
}

// Some is Next that takes over what one round of requests brings: there may be more, unless end.
func (f *Follower) Some(ctx context.Context) (news, end bool, err error) {
	was := f.newest
	end, err = f.next(ctx)
	return !same(was, f.newest), end, err
}

// same reports whether two are one version, and what they name stands in the same places: where
// something was lost, it is put elsewhere.
func same(a, b *manifest.Manifest) bool {
	return a.Cut == b.Cut && a.Sequence == b.Sequence && slices.Equal(a.Top, b.Top) &&
		slices.Equal(a.Patches, b.Patches)
}

// Clone returns a follower that is where f is, and goes on by itself.
func (f *Follower) Clone() *Follower {
	c := *f
	if f.reader != nil {
		c.reader = f.reader.Clone()
	}
	return &c
}

// fold makes step's version the newest.
func (f *Follower) fold(step history.Step) error {
	if step.Checkpoint != nil {
		if err := f.take(step.Checkpoint); err != nil {
			return err
		}
	}
	for _, r := range step.Records {
		m, err := Fold(f.newest, r)
		if err != nil {
			return err
		}
		if err := f.put(m, len(r.Body)); err != nil {
			return err
		}
		if r.Fence {
			f.fence = r
		}
	}
	return nil
}

// put makes m, which so many bytes made, the newest version, unless each says otherwise.
func (f *Follower) put(m *manifest.Manifest, bytes int) error {
	if f.each != nil {
		if err := f.each(m); err != nil {
			return err
		}
	}
	f.newest, f.read = m, f.read+int64(bytes)
	return nil
}

// take makes a checkpoint the newest version.
func (f *Follower) take(c *history.Checkpoint) error {
	m, err := manifest.Decode(f.sealer, c.Body)
	if err != nil {
		return err
	}
	f.fence = nil
	return f.put(m, len(c.Body))
}

// Fold returns the version that the history has with r, the record after those that m has: m with
// another At, if r is a fence, or says nothing new. It fails with [chunkstore.ErrCorrupt].
func Fold(m *manifest.Manifest, r *history.Record) (*manifest.Manifest, error) {
	at, err := m.At.After(r)
	if err != nil {
		return nil, err
	}
	next := *m
	if !r.Fence && len(r.Body) > 0 {
		step, err := manifest.DecodeStep(r.Body)
		var made *manifest.Manifest
		if err == nil {
			made, err = m.Apply(step)
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Number, err)
		}
		next = *made
	}
	next.At = at
	return &next, nil
}
