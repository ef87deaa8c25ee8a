package courier

import "time"

// Deadlines returns when something is due at targets by the clock. current says that the mirror is
// up to date, and cut when the next version may be made, if one is due. What would be due but for
// something else that comes first is not among them: its timer would end at once, again and again.
func (o *Office) Deadlines(current, due bool, cut time.Time) (at []time.Time) {
	for _, c := range o.couriers {
		failed := c.trouble.err != nil
		switch {
		case c.state == Strange && failed:
			at = append(at, c.trouble.retry)
		case c.state != Idle || !current:
		case due && cut.Before(c.trouble.retry): // which is past, or zero, unless it has failed
			at = append(at, c.trouble.retry)
		case due:
			at = append(at, cut)
		case failed && (c.Behind() || len(c.stock.moved) > 0):
			at = append(at, c.trouble.retry)
		}
		if next, ok := c.belief.again(); ok && c.office.now().Before(next) {
			at = append(at, next)
		}
		if next, ok := c.saver.due(0); ok {
			at = append(at, next)
		}
		if len(c.repack.moves) > 0 && c.office.now().Before(c.repack.retry) {
			at = append(at, c.repack.retry)
		}
		if next, ok := c.PatrolDue(); ok {
			at = append(at, next)
		}
	}
	return at
}
