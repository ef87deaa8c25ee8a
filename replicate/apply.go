package replicate

import (
	"log/slog"

	"verneuil/spool"
)

func (s *session) log() *slog.Logger { return s.r.o.Log }

// mirrorPoint is what the mirror includes.
func (s *session) mirrorPoint() point {
	generation, sequence := s.tracker.Point()
	return point{generation, sequence}
}

// pushed is the point that every target has.
func pushed(st *spool.State) point {
	return point{st.PushedGeneration.Load(), st.PushedSequence.Load()}
}

// published is the point that a flush now has to reach.
func published(st *spool.State) point {
	return point{st.Generation.Load(), st.Sequence.Load()}
}
