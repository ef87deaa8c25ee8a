package courier

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"verneuil/spool"
)

// Want is what a flush wants of every target.
type Want struct {
	Point  spool.Point // what it has to include
	Serial uint64      // when the flush was asked for: what failed later, it is told
	Since  time.Time   // what is believed of a target must not be older
	Chain  time.Time   // nor that all records are there that lead to the newest version
	// Records, if not 0, is how many records there may not be after the newest checkpoint, unless
	// one has failed since the flush was asked for.
	Records int
}

// Outcome reports whether a flush has ended (I6), and how: with an error only when every target
// either includes what is wanted, or has failed since it was asked for.
func (o *Office) Outcome(w Want) (done bool, err error) {
	var failed []string
	var first error
	for _, c := range o.couriers {
		done, err := c.outcome(w)
		if !done {
			return false, nil
		}
		if err != nil {
			failed = append(failed, c.Name)
			first = errors.Join(first, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	if len(failed) > 0 {
		return true, fmt.Errorf("%d of %d targets failed (%s): %w",
			len(failed), len(o.couriers), strings.Join(failed, ", "), first)
	}
	return true, nil
}

// outcome is that of one target.
func (c *Courier) outcome(w Want) (done bool, err error) {
	has := c.stock.point.Covers(w.Point) && c.state != Asking && c.state != Doubted
	switch {
	case has && c.belief.covers(w):
		return !c.saver.untidy(w), nil
	case has && c.state.Known() && c.belief.failed > w.Serial:
		return true, c.belief.err
	case c.state == Stopped:
		return true, c.trouble.err
	case c.trouble.err != nil && c.trouble.since > w.Serial && !c.state.Busy():
		return true, c.trouble.err
	}
	return false, nil
}

// LookAgain begins looks at targets of which a flush wants to know more than we do, and at those
// that did not answer the last one.
func (o *Office) LookAgain(wants []Want) {
	for _, c := range o.couriers {
		if !c.state.Known() || c.belief.looking || o.cutter.Last() == nil {
			continue
		}
		var since, chain time.Time
		for _, w := range wants {
			if c.belief.covers(w) || c.belief.failed > w.Serial {
				continue
			}
			if w.Since.After(since) {
				since = w.Since
			}
			if w.Chain.After(chain) {
				chain = w.Chain
			}
		}
		if at, ok := c.belief.again(); ok && since.IsZero() && !o.now().Before(at) {
			since = o.now()
		}
		if !since.IsZero() {
			c.belief.lookFor(since, chain)
		}
	}
}
