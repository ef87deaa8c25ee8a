package chunkstore

// Sealer makes what is stored of the plain bytes of objects, and makes plain bytes of it. A
// configuration chooses it ([Options].Sealer); whoever names, stores or reads objects has it from
// the [Store] or the [Target]: no other code knows how an ID is computed, or what stored bytes look
// like.
//
// Implementations are comparable, and safe for concurrent use. Equal ones do the same.
type Sealer interface {
	// Identify returns the ID of plain, which is at most [ChunkBytes] long. Equal bytes have equal
	// IDs, others have others. [ChunkBytes] zeros have [ZeroID].
	Identify(plain []byte) ID
	// Seal appends to dst, which may be nil, what is stored of plain under id: at least one byte,
	// and at most BytesMax. It need not check that id is plain's.
	Seal(dst []byte, id ID, plain []byte) []byte
	// Open returns the plain bytes of what is stored under id. It fails with [ErrCorrupt] if stored
	// is no such object (I1). The result is never longer than [ChunkBytes], whatever stored
	// claims. It may lie in stored, or else in buf, if that has a capacity of [ChunkBytes], or
	// better [OpenBytes]; a nil buf is for who wants to keep it.
	Open(buf []byte, id ID, stored []byte) (plain []byte, err error)
	// BytesMax bounds what Seal appends.
	BytesMax() int64

	// SealBody returns what is stored of a body that has a name and no ID, such as a manifest's,
	// in a buffer of its own. It is at most [BodyBytesMax] long.
	SealBody(body []byte) (stored []byte)
	// OpenBody is the inverse of SealBody. It fails with [ErrCorrupt] for what SealBody cannot
	// have made. The result may share its memory with stored.
	OpenBody(stored []byte) (body []byte, err error)
}

// Hashed is bytes and their ID, which nobody need check again. The bytes must not
// change while it is used.
type Hashed struct {
	id    ID
	plain []byte
}

// Hash has s compute the ID of plain, which it retains; at most [ChunkBytes] of it. Only targets
// with that Sealer may be given the result.
func Hash(s Sealer, plain []byte) Hashed { return Hashed{s.Identify(plain), plain} }

// HashChunk hashes what a tree has for a chunk: zeros of any length are a whole chunk of them. Any
// goroutine may call it. It keeps b where [Hash] does.
func HashChunk(s Sealer, b []byte) Hashed {
	for _, c := range b {
		if c != 0 {
			return Hash(s, b)
		}
	}
	return Zeros
}

// Zeros is the chunk of zero bytes, which needs no hash.
var Zeros = Hashed{ZeroID, make([]byte, ChunkBytes)}

// ID returns the ID.
func (h Hashed) ID() ID { return h.id }
