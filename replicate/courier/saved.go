package courier

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/versions"
	"verneuil/spool"
)

// diary is the file history.<16 hex digits> of the spool, which keeps how far we have come in a
// target's history, so that the next process goes on there without a request. It is named by the
// BLAKE3-256 of the target's name, is written before a record is appended and after that, and
// holds the BLAKE3-256 of what follows, 32 bytes, and JSON. It is one goroutine's.
//
// An old one is a copy of our writer: such ones do no harm (T4 of package manifest/history).
type diary struct {
	sp     *spool.Spool
	log    *slog.Logger
	name   string
	chunks chunkstore.Identity // of the bucket that has the log
}

// diaryBytesMax bounds the file: a record, and a manifest, in base64.
const diaryBytesMax = 2 * (chunkstore.RecordBytesMax + manifest.BytesMax)

// entry is what a diary holds.
type entry struct {
	Chunks   chunkstore.Identity `json:"chunks"` // of the bucket that has the log
	Lineage  []byte              `json:"lineage"`
	Number   uint64              `json:"number"`
	Epoch    uint64              `json:"epoch"`
	Digest   []byte              `json:"digest"`
	Released bool                `json:"released,omitempty"`
	Fences   []uint64            `json:"fences,omitempty"`
	Name     []byte              `json:"name"`
	Pending  []byte              `json:"pending,omitempty"` // the record that is not settled
	ETag     string              `json:"etag"`
	Seen     uint64              `json:"seen"`
	Version  []byte              `json:"version"` // with Pending, as stored, but for its At
}

func diaryOf(c *Courier) diary {
	sum := chunkstore.Sum([]byte(c.id))
	name := spool.HistoryPrefix + hex.EncodeToString(sum[:8])
	return diary{c.office.o.Spool, c.log(), name, c.ids.Chunks}
}

// note is write, which may fail.
func (d diary) note(w *history.Writer, version []byte) {
	if err := d.write(w, version); err != nil {
		d.log.Warn("journal", "error", err)
	}
}

// write keeps where w stands; version, encoded, is what the history has once what is pending is
// settled; nil: it is too long to be kept. Where somebody else may own the history, nothing is.
func (d diary) write(w *history.Writer, version []byte) error {
	saved, ok := w.Save()
	if !ok || version == nil {
		return d.forget()
	}
	b, err := json.Marshal(entry{
		Chunks: d.chunks, Lineage: saved.Lineage[:], Number: saved.Number, Epoch: saved.Epoch,
		Digest: saved.Digest[:], Released: saved.Released, Fences: saved.Fences,
		Name: saved.Name[:], Pending: saved.Pending, ETag: saved.ETag, Seen: saved.Seen,
		Version: version,
	})
	if err == nil {
		sum := chunkstore.Sum(b)
		err = d.sp.WriteFile(d.name, append(sum[:], b...))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("note the history: %w", err), d.forget())
	}
	return nil
}

// drop is forget, which may fail.
func (d diary) drop() {
	if err := d.forget(); err != nil {
		d.log.Warn("journal", "error", err)
	}
}

// forget removes what is kept.
func (d diary) forget() error {
	err := os.RemoveAll(filepath.Join(d.sp.Dir(), d.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the history: %w", err)
	}
	return nil
}

// read returns the writer that was kept, and the version that the history has once that is
// settled, if the log is in the bucket where it was.
func (d diary) read(shelf *shelf, s chunkstore.Sealer) (
	*history.Writer, *manifest.Manifest, error,
) {
	b, err := d.sp.ReadFile(d.name, diaryBytesMax)
	if err != nil {
		return nil, nil, err
	}
	var e entry
	if n := len(chunkstore.Digest{}); len(b) < n || chunkstore.Sum(b[n:]) != [32]byte(b[:n]) {
		return nil, nil, fmt.Errorf("%w: %s is torn", chunkstore.ErrCorrupt, d.name)
	} else if err := json.Unmarshal(b[n:], &e); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", chunkstore.ErrCorrupt, d.name, err)
	}
	if e.Chunks != d.chunks || d.chunks == (chunkstore.Identity{}) {
		return nil, nil, fmt.Errorf("%w: %s is of another bucket", chunkstore.ErrCorrupt, d.name)
	}
	if len(e.Lineage) != 16 || len(e.Digest) != 32 || len(e.Name) != 16 {
		return nil, nil, fmt.Errorf("%w: %s", chunkstore.ErrCorrupt, d.name)
	}
	m, err := versions.Decode(s, shelf.key, e.Version)
	if err != nil {
		return nil, nil, err
	}
	w, err := history.Resume(shelf, versions.Options(), history.Saved{
		Position: history.Position{
			Lineage: [16]byte(e.Lineage), Number: e.Number, Epoch: e.Epoch,
			Digest: history.Digest(e.Digest), Released: e.Released, Fences: e.Fences,
		},
		Name: [16]byte(e.Name), Pending: bytes.Clone(e.Pending), ETag: e.ETag, Seen: e.Seen,
	})
	return w, m, err
}

// resume begins where the last process was in the target's history.
func resume(c *Courier) {
	if !c.ack.keepLogs() {
		return
	}
	w, m, err := diaryOf(c).read(c.shelf, c.Sealer)
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
