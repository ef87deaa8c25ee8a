package vfs

import (
	"path/filepath"

	"verneuil/spool"
)

// Children that were forked from this process record what they commit, but cannot run Go.
// They say which databases they have open (cgo, children.h), and those are served here as
// if this process had them open; of a child that has died, until that is noticed.

// openings counts a child's connections, by the directory of the spool.
type openings map[string]int

// Child notes that a connection to the database whose spool has that name was opened, or
// closed, by the forked child that token names.
func (e *Engine) Child(token uint64, name string, opened bool) {
	child := spool.Token(token)
	e.mu.Lock()
	defer e.mu.Unlock()
	root, err := filepath.Abs(e.cfg.ReplicationSpoolingDir)
	if err != nil || name != filepath.Base(name) || name == "." || name == ".." {
		return
	}
	dir := filepath.Join(root, name)
	switch of := e.children[child]; {
	case opened:
		if of == nil {
			of = make(openings)
			e.children[child] = of
		}
		of[dir]++
		e.serveLocked(dir).opens++
	case of[dir] > 0:
		of[dir]--
		e.closedLocked(dir)
		if of[dir] == 0 {
			delete(of, dir)
		}
		if len(of) == 0 {
			delete(e.children, child)
		}
	}
}

// forgetDead closes what children had open that are dead.
func (e *Engine) forgetDead() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for child, of := range e.children {
		if child.Alive() {
			continue
		}
		for dir, n := range of {
			for range n {
				e.closedLocked(dir)
			}
		}
		delete(e.children, child)
	}
}
