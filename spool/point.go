package spool

// Point is a moment in a database's history. Both numbers only grow: whoever has reached a point
// has every transaction that was published before it. The zero Point is before all of them.
type Point struct{ Generation, Sequence uint64 }

// Covers reports whether whoever has reached p has also reached q.
func (p Point) Covers(q Point) bool {
	return p.Generation >= q.Generation && p.Sequence >= q.Sequence
}

// PublishedPoint returns the point that a flush has to reach now.
func (s *State) PublishedPoint() Point { return Point{s.Generation.Load(), s.Sequence.Load()} }

// PushedPoint returns the point that every target has.
func (s *State) PushedPoint() Point {
	return Point{s.PushedGeneration.Load(), s.PushedSequence.Load()}
}

// SetPushed notes the point that every target has. Only the holder of the spool's lock may call it.
func (s *State) SetPushed(p Point) {
	s.PushedSequence.Store(p.Sequence)
	s.PushedGeneration.Store(p.Generation)
}

// ForgetPushed notes that we do not know what the targets have. Only the holder of the spool's lock
// may call it.
func (s *State) ForgetPushed() {
	s.PushedGeneration.Store(0)
	s.PushedSequence.Store(0)
}
