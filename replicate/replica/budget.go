package replica

import "sync"

// What is fetched before it is asked for must pay. So it is counted whether SQLite reads it: each
// such chunk is marked, and who comes to it says so once ([Reader.Ahead]).
const (
	// guessFree is how many chunks may be there in vain whatever was read.
	guessFree = 8
	// guessShare of what was read may be there in vain besides: 3 of 10.
	guessShare = 0.3
)

// guesses are the chunks that were fetched for one reader because it might need them. It is
// safe for concurrent use.
type guesses struct {
	mu     sync.Mutex
	read   int          // chunks that were needed: missed, or guessed rightly
	right  int          // chunks that were guessed rightly
	unread map[int]bool // chunks that were guessed, and not needed yet
	kept   int          // that are to be guessed when others have come
}

// needed notes that chunk i was missed, or is come to. It reports whether it was guessed.
func (g *guesses) needed(i int, missed bool) (guessed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	guessed = g.unread[i]
	delete(g.unread, i)
	if missed || guessed {
		g.read++
	}
	if guessed {
		g.right++
	}
	return guessed
}

// room is how many more chunks may be guessed now, if none of them is right.
func (g *guesses) room() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.vain()) - len(g.unread) - g.kept
}

// hope is how many more may be guessed if as many are right as were before.
func (g *guesses) hope() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	wrong := 1.0
	if all := g.right + len(g.unread); all > 0 {
		wrong = float64(len(g.unread)) / float64(all)
	}
	return int(g.vain()/max(wrong, guessShare)) - len(g.unread) - g.kept
}

// vain is how many chunks may be there in vain.
func (g *guesses) vain() float64 { return guessFree + guessShare*float64(g.read) }

// keep sets room aside for n chunks, or gives it back if n is negative.
func (g *guesses) keep(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kept += n
}

// guess notes that chunk i is guessed.
func (g *guesses) guess(i int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unread == nil {
		g.unread = map[int]bool{}
	}
	g.unread[i] = true
}

// has reports whether chunk i is guessed, and was not needed yet.
func (g *guesses) has(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unread[i]
}

// drop takes back that chunk i is guessed.
func (g *guesses) drop(i int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.unread, i)
}

// forget begins anew, with another version.
func (g *guesses) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unread = nil
}
