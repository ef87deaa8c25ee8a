package replicate

import (
	"time"

	"verneuil/spool"
)

// pace says when the next version may be made. Versions keep a distance, which is the database's:
// the state page has the time of the last one, so that neither a close nor another process begins
// it anew.
type pace struct {
	st       *spool.State
	interval time.Duration
	last     time.Time // what the interval counts from; zero: nothing
	wanted   time.Time // since when a version is; zero: none is
}

// newPace returns one that goes on where the last process was. After the clock was set back, it
// counts from now.
func newPace(st *spool.State, interval time.Duration, now time.Time) pace {
	p := pace{st: st, interval: interval}
	if at := st.CutAt.Load(); at != 0 {
		p.last = now.Add(-max(now.Sub(time.Unix(0, at)), 0))
	}
	return p
}

// early is how long before its interval is over a version may come, an eighth of it at most; the
// next one waits the longer for it. Else an application that commits once in each interval would
// wait for a timer each time, for as long as its latest commit was late.
const early = time.Second

// due is when the next version may be made.
func (p *pace) due() time.Time { return p.over().Add(-min(p.interval/8, early)) }

// over is when the interval that runs is over.
func (p *pace) over() time.Time { return p.last.Add(p.interval) }

// want notes that a version is to be made.
func (p *pace) want(now time.Time) {
	if p.wanted.IsZero() {
		p.wanted = now
	}
}

// made notes that a version was begun at that time, if it turned out to be a new one.
func (p *pace) made(began time.Time, anew bool) {
	if anew {
		p.last = p.slot(began)
		p.st.CutAt.Store(p.last.UnixNano())
	}
	p.wanted = time.Time{}
}

// slot returns what the next version's interval counts from, after one that began at
// now. If that one was early, or something waited for it when it was due, it counts from when the
// last interval was over: so they are no shorter on average, and what hashing, timers and slow
// pushes cost does not make them longer.
func (p *pace) slot(now time.Time) time.Time {
	over := p.over()
	late := now.Sub(over)
	if now.Before(p.due()) || late >= p.interval || late >= 0 && p.wanted.After(over) {
		return now // for one that was hurried, too
	}
	return over
}
