package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/replica"
)

// entry is a commit on its way into the log.
type entry struct {
	draft  *compose.Draft
	step   *manifest.Step     // to the version from the one before
	m      *manifest.Manifest // the version
	serial uint64             // which one of this process; not 0
	early  bool               // COMMIT answers before it is durable, at synchronous=OFF
	done   chan struct{}      // closed when err is set
	err    error              // nil: it is durable

	v *replica.Version // guarded by database.mu; nil: nobody else will read it
}

// ended reports whether e has ended, and how.
func (e *entry) ended() (bool, error) {
	select {
	case <-e.done:
		return true, e.err
	default:
		return false, nil
	}
}

// queueMax bounds what is committed and not durable; then Commit waits.
const queueMax = 1024

// queue is what was committed and is not durable yet, in order. It is guarded by database.mu.
type queue struct {
	d       *database
	entries []*entry
	flush   flushing
	serial  uint64 // of the last one that was pushed
	failed  error  // what the last commit failed with; nil: it did not
}

// flushing is the appending of what is queued. It is guarded by database.mu.
type flushing struct {
	running bool
	last    *entry      // of that record
	due     *time.Timer // starts it, at synchronous=OFF
	crowd   crowd
}

// crowd is who waits for commits at once: those of the last record, and those that had queued up
// behind it. They are about to commit again.
type crowd struct {
	n        int
	took     time.Duration // from when the store was asked to when it had the last record
	answered time.Time
	here     chan struct{} // closed when as many have queued up; nil: nobody gathers them
}

// gatherShare is which share of the time that a record takes the next one waits for those whom the
// last one has answered. Without that they miss it: of many threads one half commits, while the
// other waits until that is durable.
const gatherShare = 4

// gatherLeast is the shortest moment that is waited: to make a commit takes some 100 us of
// processor time, so that in less time few come, and the record is only later.
const gatherLeast = 2 * time.Millisecond

// tip returns the last entry of the queue; nil: there is none. It is called with mu.
func (q *queue) tip() *entry {
	if len(q.entries) == 0 {
		return nil
	}
	return q.entries[len(q.entries)-1]
}

// push puts e at the end of the queue. It is called with mu.
func (q *queue) push(e *entry) {
	d := q.d
	if was := q.tip(); was != nil && was.v != nil && was != q.flush.last {
		was.v.Release() // the next version is read instead
		was.v = nil
	}
	q.serial++
	e.serial = q.serial
	q.entries = append(q.entries, e)
	if c := &q.flush.crowd; c.here != nil && len(q.entries) >= c.n {
		close(c.here)
		c.here = nil
	}
	d.newest.Store(e.serial)
	if e.early { // other handles must ask before they take what they read for the newest
		d.lease.file.Page().Hide()
	}
	if q.flush.due == nil && !q.flush.running {
		q.flush.due = time.AfterFunc(d.set.o.CommitInterval, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			q.start()
		})
	}
}

// unsure returns the last commit that was answered, and is not durable; nil: there is none. It is
// called with mu.
func (q *queue) unsure() *entry {
	for _, e := range slices.Backward(q.entries) {
		if e.early {
			return e
		}
	}
	return nil
}

// reveal waits until all that COMMIT has answered in this process is durable, or has failed, or
// ctx ends: another handle reads it then.
func (q *queue) reveal(ctx context.Context) {
	d := q.d
	d.mu.Lock()
	e := q.unsure()
	if e != nil {
		q.start()
	}
	d.mu.Unlock()
	if e != nil {
		select {
		case <-e.done:
		case <-ctx.Done():
		}
	}
}

// start begins to append what is queued, in the background. It is called with mu.
func (q *queue) start() {
	if q.begin() {
		q.d.set.run("append to a log", q.d, q.appendAll)
	}
}

// begin reports whether the caller is to append what is queued: there is something, and nobody does
// yet. It is called with mu.
func (q *queue) begin() bool {
	if q.flush.due != nil {
		q.flush.due.Stop()
		q.flush.due = nil
	}
	if q.flush.running || len(q.entries) == 0 {
		return false
	}
	q.flush.running = true
	return true
}

// gather waits until those who commit at once have queued up, or a moment has passed since the last
// record was answered.
func (q *queue) gather(ctx context.Context) {
	d := q.d
	c := &q.flush.crowd
	d.mu.Lock()
	moment := c.took / gatherShare
	pause := moment - time.Since(c.answered)
	if len(q.entries) >= c.n || moment < gatherLeast || pause <= 0 {
		d.mu.Unlock()
		return
	}
	here := make(chan struct{})
	c.here = here
	d.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-here:
	case <-timer.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	c.here = nil
	d.mu.Unlock()
}

// join returns how much of the queue fits in a record, the packs that were put for it, which step
// it is, and its body. What was folded meanwhile goes with it.
func (q *queue) join() (
	batch []*entry, packs []compose.Put, step *manifest.Step, body []byte, err error,
) {
	d := q.d
	var first *compose.Draft
	d.mu.Lock()
	if folded := d.saver.folded; folded != nil {
		d.saver.folded = nil
		if first = folded.Onto(d.story.m); first != nil {
			err = q.rebase(first.Version)
		}
	}
	batch = slices.Clone(q.entries)
	q.flush.last = batch[len(batch)-1]
	d.mu.Unlock()
	for err == nil {
		joined := first
		for _, e := range batch {
			joined = compose.Join(joined, e.draft)
		}
		packs, step = joined.Packs, joined.Step(d.story.m)
		body, err = step.Encode()
		if !errors.Is(err, manifest.ErrTooLong) || len(batch) == 1 && first == nil {
			break
		}
		err = nil
		if len(batch) > 1 {
			batch = batch[:len(batch)/2]
		} else { // what was folded does not fit: another time
			first = nil
			d.mu.Lock()
			err = q.rebase(d.story.m)
			d.mu.Unlock()
		}
	}
	return batch, packs, step, body, err
}

// rebase makes what is queued anew, on base: a version that is the same as the one before the
// queue, and has it in other places. It is called with mu.
func (q *queue) rebase(base *manifest.Manifest) error {
	for _, e := range q.entries {
		m, err := base.Apply(e.step)
		if err != nil {
			return err
		}
		draft := *e.draft
		draft.Version, e.m, base = m, m, m
		e.draft = &draft
	}
	return nil
}

// appended takes note that batch is in the log, as one record, of that step and so many bytes.
func (q *queue) appended(
	batch []*entry, step *manifest.Step, bytes int, took time.Duration,
) error {
	d := q.d
	s := &d.story
	m, err := s.m.Apply(step)
	if err != nil { // it was made a moment ago
		s.w = nil
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	q.publish(batch, took) // before the page says that there is a newer version
	s.moved(m)
	answer(batch) // after it has
	d.saver.appended(bytes)
	return nil
}

// answer tells who waits that batch is durable.
func answer(batch []*entry) {
	for _, e := range batch {
		close(e.done)
	}
}

// publish takes batch, which is durable, and took that long, from the queue, and has readers find
// its version.
func (q *queue) publish(batch []*entry, took time.Duration) {
	d := q.d
	last := batch[len(batch)-1]
	d.mu.Lock()
	v := last.v
	for _, e := range batch {
		if e != last && e.v != nil {
			e.v.Release()
		}
		e.v, e.draft = nil, nil
	}
	c := crowd{took: took, answered: time.Now()}
	for _, e := range q.entries {
		if !e.early {
			c.n++
		}
	}
	q.flush.crowd = c
	q.entries, q.failed = slices.Clone(q.entries[len(batch):]), nil
	if len(q.entries) == 0 {
		d.newest.Store(0)
	}
	d.mu.Unlock()
	if v != nil {
		v.Publish()
		v.Release()
	}
	d.checked.Store(uint64(d.story.sign))
}

// explain says what became of batch, of which the append has failed with err: nil if it is in the
// log nevertheless.
func (q *queue) explain(ctx context.Context, batch []*entry, err error) error {
	d := q.d
	s := &d.story
	d.lease.file.Page().Withdraw()
	if errors.Is(err, history.ErrUnsettled) && !d.set.broken.lostIsRefused {
		return fmt.Errorf("%w: no answer within %v: %w", ErrUnknown, d.set.o.Deadline, err)
	}
	if errors.Is(err, history.ErrLost) {
		return rolledBack(s, err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.set.o.Deadline)
	defer cancel()
	behind := errors.Is(err, history.ErrBehind)
	readErr := s.read(ctx, 0)
	stray := false
	if errors.Is(err, history.ErrFenced) && readErr == nil && len(s.cuts) == 0 {
		stray, _ = s.w.Reader().Astray(ctx) // else the next one finds out
	}
	switch {
	case behind && readErr == nil && s.cuts[batch[len(batch)-1].m.Cut]:
		return nil // a copy of this writer, or a request of ours that slept, has appended it
	case behind && (readErr != nil || s.jumped):
		return fmt.Errorf("%w: the history has gone on", errors.Join(ErrUnknown, ErrLost))
	case stray:
		return fmt.Errorf("%w: record %d stands on one that is gone. The next transaction goes on "+
			"in a new history", ErrRolledBack, s.w.At().Number+1)
	case errors.Is(err, history.ErrFenced), behind, d.set.broken.lostIsRefused:
		return fmt.Errorf("%w: %s", ErrLost, s.taker())
	}
	return err
}

// rolledBack is lose of who writes.
func rolledBack(s *story, lost error) error {
	s.fall()
	return lose(s, lost)
}

// taker says who has taken the history over.
func (s *story) taker() string {
	if s.owner == nil {
		return "another process or machine"
	}
	return s.owner.String()
}

// fail ends all that is queued with err.
func (q *queue) fail(err error) {
	d := q.d
	d.mu.Lock()
	defer d.mu.Unlock()
	q.failed = err
	d.newest.Store(0)
	if len(q.entries) > 0 {
		d.log.Error("commits have failed", "count", len(q.entries), "error", err)
	}
	for _, e := range q.entries {
		if e.v != nil {
			e.v.Release()
			e.v = nil
		}
		e.err = err
		close(e.done)
	}
	q.entries = nil
}

// drain appends what is queued, until ctx ends.
func (q *queue) drain(ctx context.Context) error {
	d := q.d
	d.mu.Lock()
	e := q.tip()
	q.start()
	d.mu.Unlock()
	if e == nil {
		return nil
	}
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
