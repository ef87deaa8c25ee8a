package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// Seen is what a database's files were like at some moment. The file copied.json keeps one: the
// files that the mirror was equal to.
type Seen struct {
	DB  spool.Stamp  `json:"db"`
	WAL *spool.Stamp `json:"wal,omitempty"` // nil: no WAL, or an empty one
	At  int64        `json:"at"`            // Unix ns
}

const (
	seenName     = "copied.json"
	seenBytesMax = 1 << 20
)

// See looks at the files of the database at path. Whoever begins a read transaction after
// it reads what they hold, as long as they stay so. In WAL mode others go on to commit: what
// is seen later may be the files with commits that the transaction does not show.
func See(path string) (Seen, error) { return seeAt(path, time.Now()) }

func seeAt(path string, now time.Time) (Seen, error) {
	s, err := seeFiles(path)
	if err != nil {
		return Seen{}, fmt.Errorf("look at database: %w", err)
	}
	s.At = now.UnixNano()
	return s, nil
}

func seeFiles(path string) (s Seen, err error) {
	if s.DB, err = spool.StampOf(path); err != nil {
		return s, err
	}
	wal, err := spool.StampOf(path + "-wal")
	switch {
	case err == nil && wal.Bytes > 0:
		s.WAL = &wal
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	return s, nil
}

// same reports whether the files look as they did.
func (s Seen) same(now Seen) bool {
	if s.WAL == nil || now.WAL == nil {
		return s.DB == now.DB && s.WAL == now.WAL
	}
	return s.DB == now.DB && *s.WAL == *now.WAL
}

// covers reports whether the files are surely still what they were: one whose times are close to
// the moment at which they were read may have changed after it without new ones.
func (s Seen) covers(now Seen) bool {
	at := time.Unix(0, s.At)
	old := func(stamp spool.Stamp) bool { return stamp.Age(at) > stamp.Grain() }
	return s.same(now) && old(s.DB) && (s.WAL == nil || old(*s.WAL))
}

// see looks at the database's files as they are now.
func (g *ground) see() (Seen, error) { return seeAt(g.sp.Path(), g.now()) }

// Lags reports whether there may be commits, of others, that a caller with a read transaction
// does not see, as it began before them.
func (t *Tracker) Lags() bool {
	if !t.stable() {
		return false
	}
	now, err := t.see()
	return err != nil || !t.o.Still.same(now)
}

// copiedBefore reports whether the mirror is known to be the copy of the database's files as they
// are. Who finds that they may change has it forgotten: what others do to the mirror, copied.json
// does not know.
func (g *ground) copiedBefore() (bool, error) {
	if !g.stable() {
		err := os.Remove(filepath.Join(g.sp.Dir(), seenName))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	now, err := g.see()
	if err != nil {
		return false, err
	}
	var was Seen
	b, err := g.sp.ReadFile(seenName, seenBytesMax)
	return err == nil && json.Unmarshal(b, &was) == nil && was.covers(now), nil
}

// leave notes, where the database does not change, what the mirror is the copy of: the files, if
// they are still what they were before the caller's transaction. A mirror of a WAL database is of
// no use to a tracker that reads the log.
func (g *ground) leave(current bool) {
	now, err := g.see()
	if err == nil && current && g.o.Still.same(now) {
		var b []byte
		if b, err = json.Marshal(now); err == nil {
			err = g.sp.WriteFile(seenName, b)
		}
		if err == nil {
			_, err = g.publishLying(func(spool.WALEnd) bool { return true })
		}
	} else {
		err = os.Remove(filepath.Join(g.sp.Dir(), seenName))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.o.Log.Warn("it is not noted what the database was copied from", "error", err)
	}
	if sqlitefile.ReadHeader(g.mirror).WAL() || now.WAL != nil {
		g.st.MirrorGeneration.Store(spool.NoMirror)
	}
}
