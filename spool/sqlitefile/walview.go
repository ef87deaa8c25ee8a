package sqlitefile

import (
	"cmp"
	"io"
	"slices"
)

// walSlackBytes is what SQLite allows in addition: the page with its lock bytes.
const walSlackBytes = 65536

// WALSizeMax returns how long a database can be at most if its file has fileBytes bytes and its WAL
// has that many frames: each page by which it grows has a frame, except the page with SQLite's lock
// bytes. A WAL whose commit claims more is damaged: SQLite does not checkpoint it, but returns
// SQLITE_CORRUPT (wal.c, walCheckpoint). We refuse it, too, before we make room for pages that do
// not exist.
func WALSizeMax(fileBytes int64, frames, pageBytes int) int64 {
	return fileBytes + walSlackBytes + int64(frames)*int64(pageBytes)
}

// WALView says where a WAL has the newest committed version of each page. It does not change once
// it is built. It takes 8 bytes of memory for each frame.
type WALView struct {
	PageBytes int
	Salts     uint64
	Frames    int    // in the view; the last one is a commit
	Pages     uint32 // size of the database at that commit
	newest    []walPlace
}

// walPlace is a page's newest frame.
type walPlace struct{ pgno, frame uint32 }

// NewWALView reads r up to its last commit, or up to frame framesMax (counted from 1; 0: no limit),
// whichever comes first. A WAL without a commit gives a view of no frames. The caller knows that
// framesMax frames are committed (see [WALReader.Committed]), and that nobody overwrites them
// meanwhile.
func NewWALView(r io.ReaderAt, framesMax int) (*WALView, error) {
	w, err := NewWALReader(r)
	if err != nil {
		return nil, err
	}
	w.Committed = framesMax
	v := &WALView{PageBytes: w.PageBytes, Salts: w.Salts}
	for {
		commit, err := w.NextCommit(cmp.Or(framesMax, AllFrames), func(f WALFrame) error {
			v.newest = append(v.newest, walPlace{f.Pgno, uint32(w.Frames())})
			return nil
		})
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		v.Frames, v.Pages = w.Frames(), commit.Commit
	}
	v.newest = v.newest[:v.Frames]
	slices.SortFunc(v.newest, func(a, b walPlace) int {
		return cmp.Or(cmp.Compare(a.pgno, b.pgno), cmp.Compare(b.frame, a.frame))
	})
	v.newest = slices.CompactFunc(v.newest, func(a, b walPlace) bool { return a.pgno == b.pgno })
	return v, nil
}

// Offset returns where in the WAL the bytes of page pgno begin, and false if the database file has
// the newest ones.
func (v *WALView) Offset(pgno uint32) (int64, bool) {
	i, ok := slices.BinarySearchFunc(v.newest, pgno, func(p walPlace, pgno uint32) int {
		return cmp.Compare(p.pgno, pgno)
	})
	if !ok {
		return 0, false
	}
	frameBytes := int64(walFrameBytes + v.PageBytes)
	return walHeaderBytes + int64(v.newest[i].frame)*frameBytes - int64(v.PageBytes), true
}
