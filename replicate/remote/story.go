package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/backoff"
	"verneuil/replicate/versions"
)

// story is how far this process has come in the history. It is used with the pen.
type story struct {
	d  *database
	w  *history.Writer    // nil: it begins at the newest checkpoint
	m  *manifest.Manifest // the version at w.At()
	by [16]byte           // whose the last record is; zero: not known
	// owner is who has appended the last fence; nil: not known.
	owner *manifest.Owner
	// cuts are those of versions that were read by the last call of read.
	cuts   map[[16]byte]bool
	jumped bool // that call has read a checkpoint
	// last is the stored form of the record at w.At(), if it is ours, and short.
	last []byte
	sign time.Duration // when our last sign of life began
	kept kept

	fresh bool // it was made by an Open, of which the handle has not seen it yet
	lost  loss // what was read, if the store has lost some of it
	// remained is when the store was last asked whether what was read is there.
	remained time.Duration
	// begun is told the checkpoint that is begun with, before records are asked for; nil: nobody.
	begun func(*manifest.Manifest)

	seen atomic.Pointer[sight]
}

// loss is how far a story had come in a store that has lost some of that; zero: none has.
type loss struct {
	at history.Position
	m  *manifest.Manifest
	// pack is what is lost, if it is not the last record.
	pack error
}

// kept is what note has put into the machine's file last, where it need not be decoded. It does not
// change.
type kept struct {
	stored []byte
	state  *state
}

// sight is what the status shows of a story.
type sight struct {
	m      *manifest.Manifest
	holder bool
	sign   time.Duration
	lost   error // nil: the store has what was read, as far as is known
}

// promisedMax bounds how far ahead a promise may be. It is a power of two.
const promisedMax = 1 << 20

// lastBytesMax bounds the record that is passed on to the next process of the machine.
const lastBytesMax = 64 << 10

// open reads the newest version, if none was read yet.
func (s *story) open(ctx context.Context) error {
	if s.w != nil {
		return nil
	}
	r, c, err := history.Open(ctx, s.d.histories, s.d.set.o.History)
	if err != nil {
		return err
	}
	if err := s.begin(c); err != nil {
		return err
	}
	s.w, s.remained = history.NewWriter(r), s.d.now()
	if s.begun != nil {
		s.begun(s.m)
	}
	err = s.read(ctx, 0)
	if s.lost.m == nil {
		return err
	} else if err != nil {
		s.w = nil // it is compared with what was lost once all was read
		return err
	}
	at, lost := s.w.At(), s.lost
	if at.Lineage != lost.at.Lineage { // readers follow to another history
		s.w, s.lost = nil, loss{}
		return fmt.Errorf("%w: it had record %d, and another one has begun a new history with "+
			"what was left. The next transaction goes on with that", ErrRolledBack, lost.at.Number)
	}
	why := lost.pack
	// Readers of this process have versions that are newer, and follow forwards only.
	if at.Number < lost.at.Number || lost.m.Head().Supersedes(s.m.Head()) {
		why = fmt.Errorf("it has %d records, and had %d", at.Number, lost.at.Number)
	}
	if why != nil {
		err := fmt.Errorf("%w: %w. Close all connections of this process to the database, to go "+
			"on with what is there", ErrRolledBack, why)
		s.w = nil
		s.seen.Store(&sight{m: lost.m, lost: err})
		return err
	}
	s.lost = loss{}
	return nil
}

// begin makes c's version the one that was read.
func (s *story) begin(c *history.Checkpoint) error {
	m, err := versions.Decode(s.d.shop.t.Sealer, s.d.key, c.Body)
	if err == nil && c.Lineage == [16]byte{} {
		err = fmt.Errorf("the manifest is in no history, as of a store that keeps no conditions: "+
			"import it anew: %w", chunkstore.ErrCorrupt)
	}
	if err != nil {
		return err
	}
	s.m, s.by, s.owner, s.last = m, [16]byte{}, nil, nil
	return nil
}

// create begins a history with m.
func (s *story) create(ctx context.Context, m *manifest.Manifest) error {
	r, err := versions.Begin(ctx, s.d.shop.t, s.d.key, s.d.histories, s.d.set.o.History, m, "")
	if errors.Is(err, chunkstore.ErrConflict) { // somebody else was faster
		return s.open(ctx)
	} else if err != nil {
		return err
	}
	s.w, s.m = history.NewWriter(r), m
	s.show()
	return nil
}

// show has the status show where s is.
func (s *story) show() {
	s.seen.Store(&sight{s.m, s.w != nil && s.w.State() == history.Owning, s.sign, nil})
}

// newest reads on to the end of the history, or proves that it is there.
func (s *story) newest(ctx context.Context) error {
	if s.w == nil {
		return s.open(ctx) // to the end
	}
	d := s.d
	if s.w.State() == history.Unsettled {
		return ErrUnknown // who has left it so is about to give it up
	}
	if d.current(s.w.At()) {
		return nil
	}
	if err := d.lease.file.Renew(); err != nil { // else who only reads stays with a deleted one
		return err
	}
	page := d.lease.file.Page()
	if s.w.State() == history.Owning {
		// Another process of this machine goes on, or our lease is over.
		local := page.Alone(d.now()) // before the number
		if number := page.Number(); !local || number == 0 || number == stamp(s.w.At()) {
			if end, err := ends(ctx, s); end || err != nil {
				return err
			}
		}
		s.w.Abandon()
	}
	at := s.w.At()
	promised, named := s.promised()
	if named != 0 && promised == at.Number { // others have put theirs in its place
		s.remained, promised = d.now()-d.set.o.LeaseTimeout, 0
	}
	err := s.read(ctx, promised)
	if err == nil && promised > 0 && s.w.At().Number >= promised {
		if s.w.At().Number > promised || stamp(s.w.At()) == named {
			return nil
		}
		err = s.read(ctx, 0)
	}
	if err != nil {
		return err
	}
	return remains(ctx, s, at)
}

// ends asks whether what s has read is the end of the history, and all of it there.
func ends(ctx context.Context, s *story) (bool, error) {
	err := s.w.Reader().Check(ctx, s.w.At())
	switch {
	case errors.Is(err, history.ErrLost):
		return false, rolledBack(s, err)
	case errors.Is(err, history.ErrBehind):
		return false, nil
	}
	return err == nil, err
}

// promised returns the number of the record that the machine's page promises to be the newest, and
// what the page has of it; 0: it promises nothing, or what was read. If another one than it names
// has that number, the store was put back, and who has promised it, or who has read the other one,
// does not know.
func (s *story) promised() (number, named uint64) {
	page, at := s.d.lease.file.Page(), s.w.At()
	alone := page.Alone(s.d.now()) // before the number, which may be of a promise that is long over
	named = page.Number()
	if !alone || named == 0 || named == stamp(at) {
		return 0, 0
	}
	return at.Number + (named-at.Number)%promisedMax, named
}

// read reads what others have appended: up to the record upTo, if that is not 0, or to the end.
func (s *story) read(ctx context.Context, upTo uint64) error {
	s.cuts, s.jumped = make(map[[16]byte]bool), false
	if upTo == s.w.At().Number+1 {
		if err := s.readLast(); err != nil {
			return err
		}
	}
	return readUntil(ctx, s, func() bool { return upTo != 0 && s.w.At().Number >= upTo })
}

// readUntil is read until there, which is asked before each request, or to the end.
func readUntil(ctx context.Context, s *story, there func() bool) error {
	defer s.show()
	for !there() {
		step, err := s.w.Next(ctx)
		if err != nil {
			return err
		}
		if err := s.fold(step); err != nil {
			s.w = nil // it has read what we have not
			return err
		}
		if step.Empty() || step.End {
			return nil
		}
	}
	return nil
}

// readLast reads the next record, if it is the one at which the machine's writer stands, and the
// file has it. Nobody is asked. What the file says of that writer he has been told, and a promise
// that he gave after that has made us look (package machine): so the record is in the history.
func (s *story) readLast() error {
	b, ok := s.d.lease.file.Peek()
	if !ok || s.w.State() != history.Following {
		return nil
	}
	n := s.decode(b)
	if n == nil {
		return nil
	}
	r := n.last(s.w.At())
	if r == nil {
		return nil
	}
	if err := s.foldRecord(r); err != nil {
		return err
	}
	if err := s.w.Known(r); err != nil { // it was checked
		s.w = nil
		return err
	}
	history.Know(s.w, n.Tag)
	return nil
}

// last returns the record at which n stands, if n has it and it is the next one after at; else nil.
func (n *state) last(at history.Position) *history.Record {
	if n.Last == nil || n.Lineage != at.Lineage || n.Number != at.Number+1 {
		return nil
	}
	r, err := history.Decode(n.Number, n.Last)
	if err != nil {
		return nil
	}
	if after, err := at.After(r); err != nil || after.Digest != n.Digest {
		return nil
	}
	return r
}

// fold makes step's version the one that was read.
func (s *story) fold(step history.Step) error {
	if step.Checkpoint != nil {
		s.jumped = true
		if err := s.begin(step.Checkpoint); err != nil {
			return err
		}
	}
	for _, r := range step.Records {
		if err := s.foldRecord(r); err != nil {
			return err
		}
	}
	return nil
}

// foldRecord makes the version of r, the next record, the one that was read.
func (s *story) foldRecord(r *history.Record) error {
	m, err := versions.Fold(s.m, r)
	if err != nil {
		return err
	}
	if r.Fence {
		s.owner = nil
		if o, err := manifest.DecodeOwner(r.Body); err == nil {
			s.owner = &o
		}
	}
	s.m, s.by, s.last = m, r.Writer, nil
	s.cuts[m.Cut] = true
	return nil
}

// settling is the appending of what was prepared.
type settling struct {
	began time.Duration
	until time.Time // then it is given up
	saved history.Saved
}

// settle appends what was prepared, asks again while the answer is lost, and gives up when the
// deadline has passed: then the error wraps ErrUnsettled, and the history is given up. What is
// prepared is noted in the machine's file before, and what came of it after that.
//
// A record that gives the history back takes the promise back before: who reads it need not wait
// for the lease's timeout.
func (s *story) settle(ctx context.Context, release bool) error {
	one := s.beginSettling(release)
	ctx, cancel := context.WithDeadline(ctx, one.until)
	defer cancel()
	return s.endSettling(ctx, one, s.w.Settle(ctx))
}

// settleFence is settle of a fence, but that it gives up at once where the store refuses it to
// these credentials: no transaction depends on what came of it.
func settleFence(ctx context.Context, s *story) error {
	one := s.beginSettling(false)
	ctx, cancel := context.WithDeadline(ctx, one.until)
	defer cancel()
	err := s.w.Settle(ctx)
	if errors.Is(err, chunkstore.ErrDenied) {
		cancel()
	}
	return s.endSettling(ctx, one, err)
}

// beginSettling is what comes before the writer's Settle.
func (s *story) beginSettling(release bool) settling {
	d := s.d
	if release && !d.set.broken.leavesPromise {
		d.lease.file.Page().Withdraw()
	}
	s.note()
	one := settling{began: d.now(), until: time.Now().Add(d.set.o.Deadline)}
	if one.saved, _ = s.w.Save(); len(one.saved.Pending) > lastBytesMax {
		one.saved.Pending = nil
	}
	return one
}

// endSettling is what comes after it, which has returned err. ctx ends when it is to be given up.
func (s *story) endSettling(ctx context.Context, one settling, err error) error {
	d := s.d
	pause := backoff.Backoff{First: 20 * time.Millisecond, Most: 2 * time.Second}
	for errors.Is(err, history.ErrUnsettled) && ctx.Err() == nil {
		d.log.Info("the store has not answered; asking again", "error", err)
		if rest(ctx, pause.Next()) {
			err = s.w.Settle(ctx)
		}
	}
	if err != nil {
		s.w.Abandon()
		s.last = nil
		s.note()
		s.show()
		return err
	}
	s.by, s.last, s.sign = s.w.Name(), one.saved.Pending, one.began
	return nil
}

// alive promises, after a record or a heartbeat that began then, that the version is the newest, or
// if COMMIT has answered for more, that what this process knows is.
func (s *story) alive() {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	page, number := d.lease.file.Page(), stamp(s.w.At())
	if d.queue.unsure() != nil {
		number = 0
	}
	if s.w.State() == history.Owning {
		page.Promise(number, s.sign+d.set.o.LeaseTimeout)
	} else {
		page.Withdraw()
	}
	s.show()
}

// state is what the machine's file holds: the writer, for the next process.
type state struct {
	history.Saved
	Last  []byte        // the stored form of the record at the position; nil: it is in the log only
	Tag   string        // its ETag; empty: it is not known
	Sign  time.Duration // when the last sign of life began
	Asked time.Duration // when it was last asked whether the store has what was appended
}

// head is what stands in the first line of an encoded state, as JSON. The two records follow.
type head struct {
	State        state
	PendingBytes int
	LastBytes    int
}

// encode is called for every commit, and JSON of records takes its time.
func (n *state) encode() ([]byte, error) {
	h := head{*n, len(n.Pending), len(n.Last)}
	h.State.Pending, h.State.Last = nil, nil
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return slices.Concat(line, []byte{'\n'}, n.Pending, n.Last), nil
}

func decodeState(b []byte) (*state, error) {
	line, records, _ := bytes.Cut(b, []byte{'\n'})
	var h head
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, err
	}
	if h.PendingBytes < 0 || h.LastBytes < 0 || h.LastBytes > len(records) ||
		h.PendingBytes != len(records)-h.LastBytes {
		return nil, fmt.Errorf("%d bytes of records, want %d and %d", len(records),
			h.PendingBytes, h.LastBytes)
	}
	if h.PendingBytes > 0 {
		h.State.Pending = records[:h.PendingBytes:h.PendingBytes]
	}
	if h.LastBytes > 0 {
		h.State.Last = records[h.PendingBytes:]
	}
	return &h.State, nil
}

// note keeps the writer in the machine's file, whose lock is held; nothing, if it does not own the
// history.
func (s *story) note() {
	saved, ok := s.w.Save()
	if s.d.set.broken.staysReleased {
		saved.Released = false
	}
	if !ok || saved.Released && saved.Pending == nil {
		s.d.lease.file.Page().Withdraw()
		s.d.lease.file.Clear()
		return
	}
	s.d.mu.Lock()
	asked := s.d.lease.keeper.traced.asked
	s.d.mu.Unlock()
	n := &state{saved, s.last, history.Tag(s.w), s.sign, asked}
	b, err := n.encode()
	if err == nil {
		err = s.d.lease.file.Store(b)
	}
	s.kept = kept{b, n}
	if err != nil {
		s.d.lease.file.Clear()
		s.d.log.Info("the lease is not passed on to other processes", "error", err)
	}
}

// noted returns what the machine's file holds; nil: nothing, or nothing of use.
func (s *story) noted() *state {
	b, ok := s.d.lease.file.Load()
	if !ok {
		return nil
	}
	if bytes.Equal(b, s.kept.stored) {
		return s.kept.state
	}
	return s.decode(b)
}

// decode returns nil for what is of no use.
func (s *story) decode(b []byte) *state {
	n, err := decodeState(b)
	if err != nil {
		s.d.log.Info("what the machine's file holds is of no use", "error", err)
		return nil
	}
	return n
}

// goneOn reports whether another process of this machine has written since s's writer did, or may
// have.
func (s *story) goneOn() bool {
	n := s.noted()
	return n != nil && !n.is(s.w) || n == nil && s.estranged()
}

// estranged reports whether the machine's file is a new one, and somebody has written, or may have,
// by the old one since s's writer did.
func (s *story) estranged() bool {
	b, left := s.d.lease.file.Left()
	if !left || s.d.set.broken.trustsNewFiles {
		return false
	}
	n := s.decode(b)
	return n == nil || !n.is(s.w)
}

// is reports whether nobody of this machine has written since w did.
func (n *state) is(w *history.Writer) bool {
	return w.State() == history.Owning && n.Name == w.Name() && n.Pending == nil &&
		n.Position.Is(w.At())
}

// resume goes on as the writer n, which another process of this machine has been. ok is false if
// the history has gone on without it.
func (s *story) resume(ctx context.Context, n *state) (ok bool, err error) {
	if s.w.State() == history.Owning {
		s.w.Abandon()
	}
	if ok, err = s.reach(ctx, n); !ok || err != nil {
		return false, err
	}
	w, err := history.ResumeSure(s.d.histories, s.d.set.o.History, n.Saved)
	if err != nil {
		s.w = nil
		return false, err
	}
	history.Know(w, n.Tag)
	s.w, s.by, s.last, s.sign = w, n.Name, n.Last, n.Sign
	s.d.mu.Lock()
	s.d.lease.keeper.traced.asked = n.Asked
	s.d.mu.Unlock()
	if n.Pending == nil {
		s.show()
		return true, nil
	}
	// It died, and has told nobody how that ended.
	r, err := history.Decode(n.Number+1, n.Pending)
	if err == nil {
		err = s.settle(ctx, r.Release)
	}
	switch {
	case errors.Is(err, history.ErrFenced), errors.Is(err, history.ErrBehind):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := s.foldRecord(r); err != nil {
		s.w = nil
		return false, err
	}
	s.note()
	s.alive()
	return s.w.State() == history.Owning, nil
}

// reach reads on to where n is. ok is false if the history is not there any more.
func (s *story) reach(ctx context.Context, n *state) (ok bool, err error) {
	if r := n.last(s.w.At()); r != nil {
		return true, s.foldRecord(r)
	}
	short := func() bool { return s.w.At().Lineage == n.Lineage && s.w.At().Number < n.Number }
	if err := s.read(ctx, n.Number); err != nil {
		return false, err
	}
	if short() { // or what is lacking was trimmed, while our clock stood still
		err := s.w.Reader().Look(ctx)
		if errors.Is(err, history.ErrBehind) && !errors.Is(err, chunkstore.ErrAbsent) {
			err = s.read(ctx, n.Number)
		}
		if err != nil && !errors.Is(err, chunkstore.ErrAbsent) {
			return false, err
		}
	}
	if at := s.w.At(); short() {
		return false, rolledBack(s, fmt.Errorf("this machine has appended record %d, and the last "+
			"one is %d: the next transaction goes on with what is there", n.Number, at.Number))
	}
	return n.Position.Is(s.w.At()), nil
}
