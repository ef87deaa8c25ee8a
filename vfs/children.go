package vfs

import (
	"sync"

	"verneuil/spool"
)

// children are those that were forked from this process and have replicated databases open. They
// record what they commit, but cannot run Go. They say which databases they have open (cgo,
// children.h), and those are served here as if this process had them open; those of a child that
// has died, until that is noticed. It is safe for concurrent use; its mutex is taken before that
// of services.
type children struct {
	services *services

	mu sync.Mutex
	of map[spool.Token]openings
}

// openings counts a child's connections, by the directory of the spool.
type openings map[string]int

// note takes down that child has opened a connection to the database of the spool dir, or closed
// one.
func (c *children) note(child spool.Token, dir string, opened bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch of := c.of[child]; {
	case opened:
		if of == nil {
			of = make(openings)
			c.of[child] = of
		}
		of[dir]++
		c.services.open(dir)
	case of[dir] > 0:
		of[dir]--
		c.services.closed(dir)
		if of[dir] == 0 {
			delete(of, dir)
		}
		if len(of) == 0 {
			delete(c.of, child)
		}
	}
}

// forgetDead closes what children had open that are dead.
func (c *children) forgetDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for child, of := range c.of {
		if child.Alive() {
			continue
		}
		for dir, n := range of {
			for range n {
				c.services.closed(dir)
			}
		}
		delete(c.of, child)
	}
}
