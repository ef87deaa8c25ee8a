package vfs

import (
	"sync"

	"verneuil/spool"
)

// children holds the processes that were forked from this one and have replicated databases open.
// They record what they commit, but cannot run Go. They tell us which databases they have open
// (cgo, children.h), and we serve these as if this process had them open. If a child has died, we
// serve them until we notice. It is safe for concurrent use; its mutex is taken before that of
// services.
type children struct {
	services *services

	mu sync.Mutex
	of map[spool.Token]openings
}

// openings counts a child's connections, by the directory of the spool.
type openings map[string]int

// note records that child has opened or closed a connection to the database of the spool dir.
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

// forgetDead closes what dead children had open.
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
