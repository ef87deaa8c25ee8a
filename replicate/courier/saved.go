package courier

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
	"verneuil/spool"
)

// diary is the file history.<16 hex digits> of the spool, which keeps how far we have come in a
// target's history, so that the next process goes on there without a request. It is named by the
// BLAKE3-256 of the target's name, is written before a record is appended and after that, and
// consists of notes:
//
//	offset size
//	0      4    length of the JSON, big-endian
//	4      4    length of what follows that
//	8      32   BLAKE3-256 of all but these 32 bytes
//	40     …    JSON: an entry
//	…      …    the version that the history has, if the entry says so, as a manifest that is not
//	            compressed, but for its At
//	…      …    the record that is not settled, if there is one
//
// The first note has a version. What the others have is that of the note before, and if they are
// one record further, with the record that was not settled there. What was cut short while it was
// written does not count.
//
// An old one is a copy of our writer: such ones do no harm (T4 of package manifest/history).
type diary struct {
	sp     *spool.Spool
	log    *slog.Logger
	name   string
	chunks chunkstore.Identity // of the bucket that has the log

	// What the file has: the last note is of record number, where the history has the version
	// before, and then after. nil: there is no such file, or it is not known.
	number        uint64
	before, after *manifest.Manifest
	bytes, most   int64 // how long it is, and may be with another note
}

const (
	// diaryBytesMax bounds the file.
	diaryBytesMax = 2 * (chunkstore.RecordBytesMax + manifest.BytesMax)
	// diaryRoom is how much longer the file may be at least than its first note, before it is
	// written anew: as long as the records between two checkpoints.
	diaryRoom = 2 * versions.CheckpointBytes
	noteBytes = 40
)

// entry is what a note says.
type entry struct {
	Chunks   chunkstore.Identity `json:"chunks"` // of the bucket that has the log
	Lineage  []byte              `json:"lineage"`
	Number   uint64              `json:"number"`
	Epoch    uint64              `json:"epoch"`
	Digest   []byte              `json:"digest"`
	Released bool                `json:"released,omitempty"`
	Fences   []uint64            `json:"fences,omitempty"`
	Name     []byte              `json:"name"`
	ETag     string              `json:"etag"`
	Seen     uint64              `json:"seen"`
	Version  int                 `json:"version_bytes,omitempty"`
	Pending  int                 `json:"pending_bytes,omitempty"`
}

// diaryOf returns c's. It is of who uses the writer.
func diaryOf(c *Courier) *diary {
	if c.diary == nil || c.diary.chunks != c.ids.Chunks {
		sum := chunkstore.Sum([]byte(c.id))
		c.diary = &diary{
			sp: c.office.o.Spool, log: c.log(), chunks: c.ids.Chunks,
			name: spool.HistoryPrefix + hex.EncodeToString(sum[:8]),
		}
	}
	return c.diary
}

// note is write, which may fail.
func (d *diary) note(w *history.Writer, before, after *manifest.Manifest) {
	if err := d.write(w, before, after); err != nil {
		d.log.Warn("journal", "error", err)
	}
}

// write keeps where w stands. The history has the version before there, and after, which is the
// same if it is no other, once what is pending is settled. nil, or what is too long for a manifest:
// nothing can be kept. Where somebody else may own the history, nothing is.
func (d *diary) write(w *history.Writer, before, after *manifest.Manifest) error {
	saved, ok := w.Save()
	if !ok || before == nil {
		return d.forget()
	}
	e := entry{
		Chunks: d.chunks, Lineage: saved.Lineage[:], Number: saved.Number, Epoch: saved.Epoch,
		Digest: saved.Digest[:], Released: saved.Released, Fences: saved.Fences,
		Name: saved.Name[:], ETag: saved.ETag, Seen: saved.Seen,
	}
	added, err := d.add(e, saved.Pending, before)
	if err == nil && !added {
		err = d.begin(e, saved.Pending, before)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("note the history: %w", err), d.forget())
	}
	d.number, d.before, d.after = saved.Number, before, after
	return nil
}

// add adds a note to the file, if that has what the note is of, and there is room.
func (d *diary) add(e entry, pending []byte, before *manifest.Manifest) (added bool, err error) {
	switch {
	case d.before == nil:
		return false, nil
	case e.Number == d.number && before == d.before, e.Number == d.number+1 && before == d.after:
	default:
		return false, nil
	}
	b, err := e.encode(nil, pending)
	if err != nil || d.bytes+int64(len(b)) > d.most {
		return false, err
	}
	f, err := os.OpenFile(filepath.Join(d.sp.Dir(), d.name),
		os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, nil // somebody has removed it, say
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != d.bytes || !info.Mode().IsRegular() {
		return false, nil
	}
	n, err := f.Write(b)
	d.bytes += int64(n)
	return err == nil, err
}

// begin writes the file anew.
func (d *diary) begin(e entry, pending []byte, before *manifest.Manifest) error {
	version, err := before.EncodeLocal(nil)
	if errors.Is(err, manifest.ErrTooLong) {
		return d.forget()
	} else if err != nil {
		return err
	}
	b, err := e.encode(version, pending)
	if err != nil {
		return err
	}
	d.bytes, d.most = int64(len(b)), int64(len(b)+max(len(b), diaryRoom))
	return d.sp.WriteFile(d.name, b)
}

// encode returns the note of e.
func (e *entry) encode(version, pending []byte) ([]byte, error) {
	e.Version, e.Pending = len(version), len(pending)
	head, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := make([]byte, noteBytes, noteBytes+len(head)+len(version)+len(pending))
	binary.BigEndian.PutUint32(b, uint32(len(head)))
	binary.BigEndian.PutUint32(b[4:], uint32(len(version)+len(pending)))
	b = append(append(append(b, head...), version...), pending...)
	sum := noteSum(b)
	copy(b[8:], sum[:])
	return b, nil
}

// noteSum returns the digest that the note b has.
func noteSum(b []byte) chunkstore.Digest {
	rest := chunkstore.Sum(b[noteBytes:])
	return chunkstore.Sum(append(bytes.Clone(b[:8]), rest[:]...))
}

// drop is forget, which may fail.
func (d *diary) drop() {
	if err := d.forget(); err != nil {
		d.log.Warn("journal", "error", err)
	}
}

// forget removes what is kept.
func (d *diary) forget() error {
	d.before, d.after = nil, nil
	err := os.RemoveAll(filepath.Join(d.sp.Dir(), d.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the history: %w", err)
	}
	return nil
}

// kept is what a diary says.
type kept struct {
	entry
	pending []byte             // the record that is not settled; nil: there is none
	version *manifest.Manifest // without that
}

// read returns the writer that was kept, and the version that the history has once that is
// settled, if the log is in the bucket where it was.
func (d *diary) read(shelf *shelf) (*history.Writer, *manifest.Manifest, error) {
	b, err := d.sp.ReadFile(d.name, diaryBytesMax)
	if err != nil {
		return nil, nil, err
	}
	k, err := d.last(b, shelf.key)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", d.name, err)
	}
	w, err := history.Resume(shelf, versions.Options(), history.Saved{
		Position: history.Position{
			Lineage: [16]byte(k.Lineage), Number: k.Number, Epoch: k.Epoch,
			Digest: history.Digest(k.Digest), Released: k.Released, Fences: k.Fences,
		},
		Name: [16]byte(k.Name), Pending: bytes.Clone(k.pending), ETag: k.ETag, Seen: k.Seen,
	})
	return w, k.version, err
}

// last returns what the last note of b says, with the record that is not settled.
func (d *diary) last(b []byte, key string) (k kept, err error) {
	for {
		next, rest, ok := nextNote(b)
		if !ok {
			break
		}
		if k.version == nil {
			k.version, err = versions.Decode(chunkstore.Plain{}, key, next.stored)
		} else if next.Number == k.Number+1 {
			k.version, err = d.settle(k)
		} else if next.Number != k.Number {
			err = fmt.Errorf("%w: record %d after %d", chunkstore.ErrCorrupt, next.Number, k.Number)
		}
		if err != nil {
			return kept{}, err
		}
		k.entry, k.pending, b = next.entry, next.pending, rest
	}
	switch {
	case k.version == nil:
		return kept{}, fmt.Errorf("%w: it is torn", chunkstore.ErrCorrupt)
	case k.Chunks != d.chunks || d.chunks == (chunkstore.Identity{}):
		return kept{}, fmt.Errorf("%w: it is of another bucket", chunkstore.ErrCorrupt)
	case len(k.Lineage) != 16 || len(k.Digest) != 32 || len(k.Name) != 16:
		return kept{}, chunkstore.ErrCorrupt
	}
	k.version, err = d.settle(k)
	return k, err
}

// settle returns k's version with the record that is not settled.
func (d *diary) settle(k kept) (*manifest.Manifest, error) {
	if k.pending == nil {
		return k.version, nil
	}
	r, err := history.Decode(k.Number+1, k.pending)
	if err != nil || r.Fence || len(r.Body) == 0 {
		return k.version, err
	}
	step, err := manifest.DecodeStep(r.Body)
	if err != nil {
		return nil, err
	}
	return k.version.Apply(step)
}

// savedNote is a note that was read.
type savedNote struct {
	entry
	stored, pending []byte
}

// nextNote returns the first note of b, and what follows it; none, if that is cut short, or
// damaged.
func nextNote(b []byte) (n savedNote, rest []byte, ok bool) {
	if len(b) < noteBytes {
		return n, nil, false
	}
	head := int64(binary.BigEndian.Uint32(b))
	end := noteBytes + head + int64(binary.BigEndian.Uint32(b[4:]))
	if end > int64(len(b)) || noteSum(b[:end]) != chunkstore.Digest(b[8:noteBytes]) ||
		json.Unmarshal(b[noteBytes:noteBytes+head], &n.entry) != nil {
		return n, nil, false
	}
	body := b[noteBytes+head : end]
	if n.Version < 0 || n.Pending < 0 || n.Version+n.Pending != len(body) {
		return n, nil, false
	}
	n.stored = body[:n.Version]
	if n.Pending > 0 {
		n.pending = body[n.Version:]
	}
	return n, b[end:], true
}

// resume begins where the last process was in the target's history.
func resume(c *Courier) {
	if !c.ack.keepLogs() {
		return
	}
	w, m, err := diaryOf(c).read(c.shelf)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log().Info("what was noted of a target's history is of no use",
				"target", c.Name, "error", err)
		}
		return
	}
	s := &c.stock
	s.exists, s.etag, s.version, s.tree = true, w.Reader().ETag(), m, m.Tree(c.Sealer)
	s.writer, s.current = w, w.At().Lineage
}
