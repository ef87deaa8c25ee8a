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
	// putBytesMax is the ledger of 2 TiB of database.
	putBytesMax = 1 << 30
	// putBlockMax bounds a block, which is read into memory: it is one run (64 KiB), and perhaps
	// more of an upload that was interrupted.
	putBlockMax = 1 << 20
)

// ledger notes which objects a target has durably although it has no manifest
// yet that names them, so that an upload of many that was interrupted goes on where
// it was. Its methods are safe for concurrent use.
//
// The file put.<16 hex digits> is named by the BLAKE3-256 of the name of the target, with its chunk
// bucket's identity. It is a sequence of
//
//	0   4  magic "VPUT"
//	4   4  number of IDs
//	8   8  when they were durable, Unix ns
//	16  4  CRC-32C of all of it but these four bytes
//	20  4  zero
//	24  …  IDs, 32 bytes each
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

// Load returns the IDs that were noted in the last 24 hours, nil if there are none.
func (l *ledger) Load(now time.Time) (map[chunkstore.ID]bool, error) {
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
	var ids map[chunkstore.ID]bool
	good, r := int64(0), bufio.NewReader(f)
	for {
		block, err := readPutBlock(r, st.Size()-good)
		if err != nil {
			return nil, fmt.Errorf("load journal of puts: %w", err)
		}
		if block == nil {
			break
		}
		good += int64(len(block))
		noted := time.Unix(0, int64(binary.LittleEndian.Uint64(block[8:])))
		if age := now.Sub(noted); age < 0 || age >= putTrust {
			continue
		}
		for at := putHeaderBytes; at < len(block); at += len(chunkstore.ID{}) {
			if ids == nil {
				ids = make(map[chunkstore.ID]bool)
			}
			ids[chunkstore.ID(block[at:])] = true
		}
	}
	if good < st.Size() { // or nobody would see what is noted behind it
		if err := os.Truncate(l.name, good); err != nil {
			return nil, fmt.Errorf("load journal of puts: %w", err)
		}
	}
	return ids, nil
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
	n := int64(binary.LittleEndian.Uint32(header[4:]))*int64(len(chunkstore.ID{})) + putHeaderBytes
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

// Note adds ids, which are durable in the target. Load comes first.
func (l *ledger) Note(ids []chunkstore.ID, now time.Time) (err error) {
	if len(ids) == 0 {
		return nil
	}
	b := make([]byte, putHeaderBytes, putHeaderBytes+len(ids)*len(chunkstore.ID{}))
	copy(b, putMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(ids)))
	binary.LittleEndian.PutUint64(b[8:], uint64(now.UnixNano()))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
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
