package courier

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool"
)

const (
	putMagic       = "VPUT"
	putHeaderBytes = 24

	// putTrust is how long a target is trusted to keep an object that no manifest
	// of its names. Whoever collects garbage spares what is younger than twice that.
	putTrust = 24 * time.Hour
	// putBytesMax is the ledger of 1.6 TiB of database.
	putBytesMax = 1 << 30
	// putBlockMax bounds a block, which is read into memory: it is one run (some 80 KiB), and
	// perhaps more where packs are small.
	putBlockMax = 1 << 20

	putPackBytes   = 36
	putObjectBytes = 40
)

// ledger notes which objects a target has durably, and where, although it has no manifest
// yet that names them, so that an upload of many that was interrupted goes on where
// it was. Its methods are safe for concurrent use.
//
// The file put.<16 hex digits> is named by the BLAKE3-256 of the name of the target, with its chunk
// bucket's identity. It is a sequence of
//
//	0   4  magic "VPUT"
//	4   4  how many bytes follow the header
//	8   8  when they were durable, Unix ns
//	16  4  CRC-32C of all of it but these four bytes
//	20  4  zero
//	24  …  packs, each with some of its objects:
//	       32    the pack's name
//	       4     how many objects, n
//	       40*n  each object's ID, offset in the pack (4 bytes), and length there (4 bytes)
//
// in little endian. What follows something else, which is how a kill leaves it, is ignored.
type ledger struct {
	name string

	mu   sync.Mutex
	file *os.File // nil: not open
}

// ledgerOf returns the ledger of the target of that name.
func ledgerOf(sp *spool.Spool, target string) *ledger {
	sum := chunkstore.Sum([]byte(target))
	return &ledger{name: filepath.Join(sp.Dir(), spool.PutPrefix+hex.EncodeToString(sum[:8]))}
}

// Load returns the objects that were noted in the last 24 hours, nil if there are none.
func (l *ledger) Load(now time.Time) (map[chunkstore.ID]chunkstore.Place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("load journal of puts: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > putBytesMax) {
		err = fmt.Errorf("%w: not a file of at most %d bytes", chunkstore.ErrCorrupt, putBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("load journal of puts: %w", err)
	}
	var put map[chunkstore.ID]chunkstore.Place
	good, r := int64(0), bufio.NewReader(f)
	for {
		block, err := readPutBlock(r, st.Size()-good)
		if err != nil {
			return nil, fmt.Errorf("load journal of puts: %w", err)
		}
		refs, ok := parsePutBlock(block)
		if !ok {
			break
		}
		good += int64(len(block))
		noted := time.Unix(0, int64(binary.LittleEndian.Uint64(block[8:])))
		if age := now.Sub(noted); age < 0 || age >= putTrust {
			continue
		}
		for _, ref := range refs {
			if put == nil {
				put = make(map[chunkstore.ID]chunkstore.Place)
			}
			put[ref.ID] = ref.Place
		}
	}
	if good < st.Size() { // or nobody would see what is noted behind it
		if err := os.Truncate(l.name, good); err != nil {
			return nil, fmt.Errorf("load journal of puts: %w", err)
		}
	}
	return put, nil
}

// readPutBlock reads a block from r, which has so many bytes left. It is nil if there is none, or
// something else.
func readPutBlock(r *bufio.Reader, left int64) ([]byte, error) {
	header, err := r.Peek(putHeaderBytes)
	if err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(header[4:])) + putHeaderBytes
	if string(header[:4]) != putMagic || n > min(left, putBlockMax) {
		return nil, nil
	}
	block := make([]byte, n)
	if _, err := io.ReadFull(r, block); err != nil {
		return nil, err
	}
	if putSum(block) != binary.LittleEndian.Uint32(block[16:]) {
		return nil, nil
	}
	return block, nil
}

// parsePutBlock returns the objects of a block. It is not ok if there is no block, or it is none
// that Note makes.
func parsePutBlock(block []byte) (refs []chunkstore.Ref, ok bool) {
	if block == nil {
		return nil, false
	}
	for b := block[putHeaderBytes:]; len(b) > 0; {
		if len(b) < putPackBytes {
			return nil, false
		}
		pack, n := chunkstore.Digest(b[:32]), int64(binary.LittleEndian.Uint32(b[32:]))
		if b = b[putPackBytes:]; n == 0 || n*putObjectBytes > int64(len(b)) {
			return nil, false
		}
		for range n {
			refs = append(refs, chunkstore.Ref{ID: chunkstore.ID(b[:32]), Place: chunkstore.Place{
				Pack:   pack,
				Offset: binary.LittleEndian.Uint32(b[32:]),
				Bytes:  binary.LittleEndian.Uint32(b[36:]),
			}})
			b = b[putObjectBytes:]
		}
	}
	return refs, true
}

// Note adds objects, which are durable in the target where refs say, and were put since then; those
// of a pack stand together in refs. Load comes first.
func (l *ledger) Note(refs []chunkstore.Ref, since time.Time) (err error) {
	if len(refs) == 0 {
		return nil
	}
	b := make([]byte, putHeaderBytes, putHeaderBytes+len(refs)*(putPackBytes+putObjectBytes))
	copy(b, putMagic)
	for len(refs) > 0 {
		pack := refs[0].Place.Pack
		n := slices.IndexFunc(refs, func(r chunkstore.Ref) bool { return r.Place.Pack != pack })
		if n < 0 {
			n = len(refs)
		}
		b = binary.LittleEndian.AppendUint32(append(b, pack[:]...), uint32(n))
		for _, r := range refs[:n] {
			b = binary.LittleEndian.AppendUint32(append(b, r.ID[:]...), r.Place.Offset)
			b = binary.LittleEndian.AppendUint32(b, r.Place.Bytes)
		}
		refs = refs[n:]
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-putHeaderBytes))
	binary.LittleEndian.PutUint64(b[8:], uint64(since.UnixNano()))
	binary.LittleEndian.PutUint32(b[16:], putSum(b))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
		l.file, err = os.OpenFile(l.name, flags, 0o600)
	}
	if err == nil {
		_, err = l.file.Write(b)
	}
	if err != nil {
		return fmt.Errorf("note puts: %w", err)
	}
	return nil
}

// Remove forgets all: a manifest names them now.
func (l *ledger) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.close()
	if removeErr := os.Remove(l.name); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// Close closes the file.
func (l *ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

func (l *ledger) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

func putSum(block []byte) uint32 {
	sum := crc32.Update(0, putTable, block[:16])
	return crc32.Update(sum, putTable, block[20:])
}

var putTable = crc32.MakeTable(crc32.Castagnoli)
