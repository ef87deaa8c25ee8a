package vfs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// calmPeriod is the shortest time after which the log says the same about the same thing again.
const calmPeriod = time.Minute

// calmMost bounds how many things are remembered; beyond that, all are forgotten.
const calmMost = 4096

// calm is a handler that keeps repeated warnings and errors from filling the log. It lets a message
// about one database, target, spool or source pass once in calmPeriod; the next one says how many
// were held back. At level info or debug, all of them pass.
type calm struct {
	slog.Handler
	now    func() time.Time
	of     string // what the records are about: of attributes given to With
	passed *passed
}

// passed is what a calm handler and those derived from it share.
type passed struct {
	mu sync.Mutex
	of map[string]*repeated
}

type repeated struct {
	last time.Time
	held int
}

func newCalm(h slog.Handler, now func() time.Time) slog.Handler {
	return calm{Handler: h, now: now, passed: &passed{of: make(map[string]*repeated)}}
}

// about returns what identifies the thing that an attribute names; empty: it names none.
func about(a slog.Attr) string {
	switch a.Key {
	case "database", "target", "spool", "source", "in":
		return fmt.Sprintf("\x00%s=%v", a.Key, a.Value)
	}
	return ""
}

func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		c.of += about(a)
	}
	c.Handler = c.Handler.WithAttrs(attrs)
	return c
}

func (c calm) Handle(ctx context.Context, r slog.Record) error {
	key := r.Level.String() + r.Message + c.of
	r.Attrs(func(a slog.Attr) bool {
		key += about(a)
		return true
	})
	held, passes := c.passed.passes(key, c.now())
	if !passes {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", held))
	}
	return c.Handler.Handle(ctx, r)
}

func (p *passed) passes(key string, now time.Time) (held int, passes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.of[key]
	if seen == nil {
		if len(p.of) >= calmMost {
			clear(p.of)
		}
		p.of[key] = &repeated{last: now}
		return 0, true
	}
	if now.Sub(seen.last) < calmPeriod {
		seen.held++
		return 0, false
	}
	held = seen.held
	*seen = repeated{last: now}
	return held, true
}
