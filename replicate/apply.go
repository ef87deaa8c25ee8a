package replicate

import (
	"log/slog"

	"verneuil/spool"
)

func (s *session) log() *slog.Logger { return s.r.o.Log }

// mirrorPoint is what the mirror includes.
func (s *session) mirrorPoint() spool.Point {
	generation, sequence := s.tracker.Point()
	return spool.Point{Generation: generation, Sequence: sequence}
}
