package dir

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

// objects are the files of a bucket: where they are, and what is in them. It changes none.
type objects struct {
	root   string
	chunks bool // keys are packs' names, spread over 256 directories
}

// MayPut asks the kernel. A directory that is not there is made.
func (b *objects) MayPut() error {
	err := unix.Faccessat(unix.AT_FDCWD, b.root, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	for _, no := range []error{unix.EACCES, unix.EPERM, unix.EROFS} {
		if errors.Is(err, no) {
			return fmt.Errorf("write to directory %s: %w (%w)", b.root, chunkstore.ErrDenied, err)
		}
	}
	return nil
}

// etag is a function of the bytes, so that copying the directory keeps it. A
// manifest is guarded by it. A chunk is what its key says, whatever its ETag:
// a checksum does, at 1/10 of a hash's cost.
func (b *objects) etag(body []byte) string {
	sum := b.newSum()
	sum.Write(body)
	return b.etagOf(sum, int64(len(body)))
}

func (b *objects) newSum() hash.Hash {
	if b.chunks {
		return crc32.New(castagnoli)
	}
	return blake3.New()
}

// etagOf returns the ETag of n bytes that were written to sum.
func (b *objects) etagOf(sum hash.Hash, n int64) string {
	if b.chunks {
		return fmt.Sprintf(`"%x-%x"`, sum.Sum(nil), n)
	}
	return fmt.Sprintf(`"%x"`, sum.Sum(nil))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readObject reads the file called name, which nobody changes in place (I5).
func (b *objects) readObject(name string, bytesMax int64) (chunkstore.Object, error) {
	f, info, err := objectfile.Open(name)
	if err != nil {
		return chunkstore.Object{}, err
	}
	defer f.Close()
	if info.Size() > bytesMax {
		return chunkstore.Object{}, fmt.Errorf("%w: %d bytes, more than %d", chunkstore.ErrCorrupt,
			info.Size(), bytesMax)
	}
	body := chunkstore.NewBody(info.Size())[:info.Size()]
	if _, err := io.ReadFull(f, body); err != nil {
		return chunkstore.Object{}, err
	}
	return chunkstore.Object{Body: body, Bytes: info.Size(), ETag: b.etag(body),
		Modified: info.ModTime()}, nil
}

// statObject is readObject without the body, of which there may be any number of bytes.
// What is no regular file is as good as absent: a Put replaces it.
func (b *objects) statObject(name string) (chunkstore.Object, error) {
	f, info, err := objectfile.Open(name)
	if errors.Is(err, chunkstore.ErrCorrupt) {
		return chunkstore.Object{}, chunkstore.ErrAbsent
	} else if err != nil {
		return chunkstore.Object{}, err
	}
	defer f.Close()
	sum := b.newSum()
	n, err := io.Copy(sum, f)
	if err != nil {
		return chunkstore.Object{}, err
	}
	return chunkstore.Object{Bytes: n, ETag: b.etagOf(sum, n), Modified: info.ModTime()}, nil
}

// present is statObject of what is to be replaced; nil: there is nothing.
func (b *objects) present(name string) (*chunkstore.Object, error) {
	o, err := b.statObject(name)
	if errors.Is(err, chunkstore.ErrAbsent) {
		return nil, nil
	}
	return &o, err
}

// Peek reports whether there is such a file.
func (b *objects) Peek(key string) (there bool, err error) {
	name, err := b.place(key)
	if err == nil {
		_, err = os.Lstat(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
