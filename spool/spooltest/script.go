package spooltest

import (
	"bytes"
	"fmt"
	"os"
	"slices"
)

// Script is what the recorder of a database in WAL mode will do, step by step, so that a replicator
// can work between the steps. It is not safe for concurrent use.
type Script struct {
	WAL       *WAL
	Steps     []func() error // that are left
	Committed [][]byte       // the database before all steps, and after each commit, in order
	Published int            // index in Committed of the last one that is published
}

// The databases of scripts are small.
const (
	ScriptPageBytes = 512
	ScriptPages     = 8
)

// NewScript puts w's database into WAL mode, with ScriptPages pages, and returns a script without
// steps.
func NewScript(w *Writer) (*Script, error) {
	image := bytes.Repeat([]byte{0xa5}, ScriptPages*ScriptPageBytes)
	copy(image, "SQLite format 3\x00")
	image[16], image[17] = ScriptPageBytes>>8, ScriptPageBytes&0xff
	image[18], image[19] = 2, 2 // WAL mode
	if err := os.WriteFile(w.Spool.Path(), image, 0o600); err != nil {
		return nil, err
	}
	return &Script{WAL: NewWAL(w, ScriptPageBytes), Committed: [][]byte{image}}, nil
}

// Commit adds the two steps of a transaction that fills pages with a byte: the commit, and its
// publication.
func (s *Script) Commit(fill byte, pgnos ...uint32) {
	s.Steps = append(s.Steps, func() error {
		image := slices.Clone(s.Committed[len(s.Committed)-1])
		var frames []WALFrame
		for _, pgno := range pgnos {
			page := bytes.Repeat([]byte{fill}, ScriptPageBytes)
			copy(image[int(pgno-1)*ScriptPageBytes:], page)
			frames = append(frames, WALFrame{Pgno: pgno, Page: page})
		}
		s.Committed = append(s.Committed, image)
		return s.WAL.Append(ScriptPages, frames...)
	}, func() error {
		s.WAL.Publish()
		s.Published = len(s.Committed) - 1
		return nil
	})
}

// Begin adds the two steps by which the first WAL begins.
func (s *Script) Begin() { s.Steps = append(s.Steps, s.WAL.Restart, s.WAL.Renew) }

// Reset adds the four steps by which the next WAL begins.
func (s *Script) Reset() {
	s.Steps = append(s.Steps, s.WAL.Checkpoint, func() error { s.WAL.Copy(); return nil })
	s.Begin()
}

// Step does the next n steps, or fewer if fewer are left.
func (s *Script) Step(n int) error {
	for ; n > 0 && len(s.Steps) > 0; n-- {
		step := s.Steps[0]
		s.Steps = s.Steps[1:]
		if err := step(); err != nil {
			return fmt.Errorf("script: %w", err)
		}
	}
	return nil
}

// All does all steps that are left.
func (s *Script) All() error { return s.Step(len(s.Steps)) }

// Find reports whether image is the database after commit number least or a later one. Number 0 is
// the database before all commits.
func (s *Script) Find(image []byte, least int) bool {
	return slices.ContainsFunc(s.Committed[least:], func(b []byte) bool {
		return bytes.Equal(b, image)
	})
}
