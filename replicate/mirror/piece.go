package mirror

import (
	"sync"
	"sync/atomic"
)

// PieceBytes is how much a base copy reads at a time.
const PieceBytes = 256 << 10

// Piece is a part of the database that was copied. Its bytes go to another one when nobody needs
// them any more. Its methods are safe for concurrent use.
type Piece struct {
	buf   *[PieceBytes]byte
	users atomic.Int32
}

var pieceBuffers = sync.Pool{New: func() any { return new([PieceBytes]byte) }}

// newPiece returns one that has one user.
func newPiece() *Piece {
	p := &Piece{buf: pieceBuffers.Get().(*[PieceBytes]byte)}
	p.users.Store(1)
	return p
}

// Bytes returns the piece's buffer, which nobody may change. It may be longer than the piece.
func (p *Piece) Bytes() []byte { return p.buf[:] }

// Retain says that another user needs the bytes, until he releases them.
func (p *Piece) Retain() { p.users.Add(1) }

// Release says that one of its users needs the bytes no more.
func (p *Piece) Release() {
	if p.users.Add(-1) == 0 {
		pieceBuffers.Put(p.buf)
		p.buf = nil
	}
}
