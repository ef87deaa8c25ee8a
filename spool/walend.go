package spool

// WALEnd is where the committed frames of a WAL end.
type WALEnd struct {
	Salts  uint64 // salt-1<<32 | salt-2; 0: there is no WAL, or one without a valid header
	Frames int
	Sum    uint64 // running checksum in the last of them; 0: there is none, or it is unknown
}

// WALPosition is a position in a WAL as the state has it: salt-1<<32 | frames.
func WALPosition(salts uint64, frames int) uint64 {
	return salts>>32<<32 | uint64(uint32(frames))
}

// WALEnd returns what is published of the WAL. It is whole unless a recorder is about to change it,
// or has died while it did.
func (s *State) WALEnd() (end WALEnd, whole bool) {
	end.Salts = s.WALSalts.Load()
	published := s.WALPublished.Load()
	whole = published>>32 == end.Salts>>32
	if end.Frames = int(uint32(published)); !whole {
		end.Frames = 0
	}
	if end.Frames > 0 {
		end.Sum = s.WALSum.Load()
	}
	return end, whole
}

// FindWAL publishes that now is the WAL that lies there, and not was, which is what WALEnd has
// returned: the mirror has it. Only the holder of the spool's lock may call it, if no recorder has
// held a lock that it writes to the WAL under since then. One that is faster wins.
func (s *State) FindWAL(was, now WALEnd) bool {
	published := s.WALPublished.Load()
	if end, _ := s.WALEnd(); end != was || !s.WALSalts.CompareAndSwap(was.Salts, now.Salts) {
		return false
	}
	if !s.WALPublished.CompareAndSwap(published, WALPosition(now.Salts, now.Frames)) {
		return false
	}
	s.WALSum.Store(now.Sum)
	if was.Salts != now.Salts {
		s.Flags.And(^uint32(FlagUndone)) // it was about the other WAL
	}
	return true
}
