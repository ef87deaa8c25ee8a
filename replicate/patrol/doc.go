// Package patrol lets a chunk bucket have a rule by which objects expire, as the cheapest
// way to be rid of those that no version names any more. It makes young what the newest version
// in a target does name, packs of chunks, leaves and nodes, once in each round. What it finds gone
// it reports, and the replicator puts again what stood there.
//
// A [Patrol] is one target's. It needs the target, the time, which its caller tells it, and the
// tree of the newest version there ([Version]). It does no I/O but in [Slice.Run].
//
// Rounds follow the wall clock, and the name of a pack says when in a round it is due:
// so the work is spread evenly, whatever the database does meanwhile, and all that has
// to be remembered of a target is one time, until which everything that was due is done ([Note]).
// If that is lost, the time of the target's manifest stands for it, or the round
// before now, whichever is later: no pack waits longer than two rounds.
//
// The patrol is in no hurry: it sends one request at a time, only while no push is under
// way, and only what others leave of the rate ([chunkstore.Patient]). When it is late, it
// takes its turn like a push. It must not starve: objects would be lost.
//
// Where a policy denies replacing objects nothing can be touched: then it only looks whether what
// is due is there, and says so once.
//
// # Invariants
//
//	P1  While the target answers, and the rate suffices, no pack that its newest version
//	    names gets older there than the period, or if the note was lost, than two. Nor does a
//	    record after the newest checkpoint, or a fence that no log may lose.
//	P2  A target from which something is gone has the note of before that, until it is put
//	    again: a successor finds it.
//	P3  A patient slice never holds up a push: it ends after the request that is under way.
//
// # Concurrency
//
// A Patrol belongs to one goroutine. A slice of it runs in another, and shares nothing with it
// that changes but the wish that it step aside.
package patrol
