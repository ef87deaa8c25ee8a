package replica

import (
	"math/bits"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is anonymous memory outside the Go heap, where C reads tables, in pieces that are used
// again: what a small commit needs costs no system call. A forked child keeps what was there. It
// is safe for concurrent use.
type memory struct {
	mu   sync.Mutex
	free [pieceClasses][][]byte
	all  [][]byte // to be unmapped
}

const (
	pieceBytes   = 2 << 10 // of the smallest class; each is twice the one before
	pieceClasses = 8
	pieceMax     = pieceBytes << (pieceClasses - 1) // what is larger is mapped by itself
)

// get returns n bytes, all of them 0, whose capacity is their class's.
func (m *memory) get(n int) ([]byte, error) {
	if n > pieceMax {
		return anonymous(n, unix.MAP_PRIVATE)
	}
	class := classOf(n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free[class]) == 0 {
		block, err := anonymous(4*pieceMax, unix.MAP_PRIVATE)
		if err != nil {
			return nil, err
		}
		m.all = append(m.all, block)
		for size := pieceBytes << class; len(block) > 0; block = block[size:] {
			m.free[class] = append(m.free[class], block[:size:size])
		}
	}
	last := len(m.free[class]) - 1
	piece := m.free[class][last]
	m.free[class] = m.free[class][:last]
	clear(piece[:n])
	return piece[:n], nil
}

// classOf returns the smallest class that has n bytes, which are pieceMax at most.
func classOf(n int) int { return bits.Len(uint(max(n, 1)-1) / pieceBytes) }

// put gives back what get has returned.
func (m *memory) put(piece []byte) {
	if piece = piece[:cap(piece)]; len(piece) > pieceMax {
		unix.Munmap(piece)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	class := classOf(len(piece))
	m.free[class] = append(m.free[class], piece)
}

// close unmaps everything.
func (m *memory) close() {
	for _, block := range m.all {
		unix.Munmap(block)
	}
}

// at returns what lies at an offset of a piece of memory.
func at[T any](piece []byte, off int) *T { return (*T)(unsafe.Pointer(&piece[off])) }

// address is where C finds a piece of memory; 0: there is none.
func address(piece []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(piece))) }
