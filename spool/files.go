package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// WriteFile makes b the contents of the file called name in the spool, whole or
// not at all. Like everything in a spool it is not fsynced.
func (s *Spool) WriteFile(name string, b []byte) error { return writeFile(s.dir, name, b) }

// ReadFile reads the file called name in the spool, of at most bytesMax bytes.
func (s *Spool) ReadFile(name string, bytesMax int64) ([]byte, error) {
	return readFile(s.dir, name, bytesMax)
}

func writeFile(dir, name string, b []byte) error {
	temp := filepath.Join(dir, name+".new")
	f, err := openOrReplace(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	return putInPlace(f, filepath.Join(dir, name), b)
}

// putInPlace writes b to f, a new file, and closes and renames it.
func putInPlace(f *os.File, name string, b []byte) error {
	_, err := f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// a rename over a file makes ext4 begin to write the new one out, for the sake of who does not
	// fsync (ext4_rename); an exchange does not
	if unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, name, unix.RENAME_EXCHANGE) == nil {
		_ = os.RemoveAll(f.Name()) // it is in place, whatever becomes of what stood there
		return nil
	}
	err = os.Rename(f.Name(), name)
	if replaceable(name, err) {
		err = os.Rename(f.Name(), name)
	}
	return err
}

func readFile(dir, name string, bytesMax int64) ([]byte, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > bytesMax) {
		err = fmt.Errorf("%s: %w: not a file of at most %d bytes", f.Name(), chunkstore.ErrCorrupt, bytesMax)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// ResetIfOld empties the replicator's files if they are of another boot: nothing
// of them was fsynced. The caller holds the lock, and has them not open.
func (s *Spool) ResetIfOld() error {
	boot := bootID()
	if b, err := s.ReadFile("boot", 64); err == nil && string(b) == string(boot[:]) {
		return nil
	}
	s.state.MirrorGeneration.Store(NoMirror)
	names := []string{"mirror", "dirty", "cut", cutsName, "tree", "targets.json", "copied.json"}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("reset spool: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), putPrefix) {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("reset spool: %w", err)
		}
	}
	if err := s.WriteFile("boot", boot[:]); err != nil {
		return fmt.Errorf("reset spool: %w", err)
	}
	return nil
}

// Complete reports whether the files are there that a successor needs, or who asks for a
// flush.
func (s *Spool) Complete() bool {
	for _, name := range []string{"source.json", "boot", "tree"} {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// KeepBoot says again which boot the replicator's files are of: this one. The caller holds the
// lock since [Spool.ResetIfOld].
func (s *Spool) KeepBoot() error {
	boot := bootID()
	return s.WriteFile("boot", boot[:])
}

const (
	cutsName = "cuts"
	// cutsKept is how many cuts are known again: those of more than an hour, at one each second.
	cutsKept = 4096
	sumBytes = int64(len(chunkstore.ID{}))
)

// CutFiles keep the last cut: its manifest in the file cut, and the leaves and
// nodes of its tree under their IDs in the directory tree. The file cuts has the BLAKE3-256 of each
// of the last 4,096, as stored: at 32 times its sequence modulo 4,096. The rename of cut is
// what makes a cut saved: before it the mirror's chunks without a byte in dirty
// are as the old manifest says, after it as the new one says.
type CutFiles struct {
	dir  string
	have map[chunkstore.ID]bool
}

// OpenCut returns the cut files in the spool's directory.
func (s *Spool) OpenCut() (*CutFiles, error) {
	c := &CutFiles{dir: s.dir, have: make(map[chunkstore.ID]bool)}
	if err := os.Mkdir(c.tree(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open cut: %w", err)
	}
	entries, err := os.ReadDir(c.tree())
	if err != nil {
		return nil, fmt.Errorf("open cut: %w", err)
	}
	for _, e := range entries {
		if id, err := chunkstore.ParseID(e.Name()); err == nil {
			c.have[id] = true
		}
	}
	return c, nil
}

func (c *CutFiles) tree() string { return filepath.Join(c.dir, "tree") }

// Restore makes the directory tree anew if somebody has removed it. What was in it, the next
// [CutFiles.Save] saves again.
func (c *CutFiles) Restore() error {
	err := os.Mkdir(c.tree(), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	clear(c.have)
	return err
}

// note adds a cut, which nobody has put yet, to those that Wrote knows.
func (c *CutFiles) note(sequence uint64, encoded []byte) error {
	f, err := openOrReplace(filepath.Join(c.dir, cutsName), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	sum := chunkstore.Sum(encoded)
	_, err = f.WriteAt(sum[:], int64(sequence%cutsKept)*sumBytes)
	return errors.Join(err, f.Close())
}

// Wrote reports whether this very object, a manifest of that sequence, was saved here as a cut,
// or adopted as one. It is not known of those that 4,096 have followed.
func (c *CutFiles) Wrote(sequence uint64, encoded []byte) bool {
	f, err := os.OpenFile(filepath.Join(c.dir, cutsName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var sum chunkstore.ID
	_, err = f.ReadAt(sum[:], int64(sequence%cutsKept)*sumBytes)
	return err == nil && sum == chunkstore.Sum(encoded)
}

// Load returns the saved cut and its tree, loaded. It fails with fs.ErrNotExist
// if there is none, and with [chunkstore.ErrCorrupt] if it is of no use, or is not known to Wrote:
// then nobody could tell what else was written here.
func (c *CutFiles) Load(ctx context.Context) (*manifest.Manifest, *manifest.Tree, error) {
	b, err := readFile(c.dir, "cut", 2*manifest.BytesMax)
	if err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	m, err := manifest.Decode(b)
	if err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	if !c.Wrote(m.Sequence, b) {
		return nil, nil, fmt.Errorf("load cut: %w: %s does not have it", chunkstore.ErrCorrupt, cutsName)
	}
	tree := m.Tree()
	if err := tree.Load(ctx, c.Object); err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	return m, tree, nil
}

// Object is a [manifest.Fetch] of the leaves and nodes of the saved cut; it fails
// with [chunkstore.ErrAbsent] for others. It is safe for concurrent use, also with
// Save.
func (c *CutFiles) Object(_ context.Context, id chunkstore.ID) ([]byte, error) {
	b, err := readFile(c.tree(), id.String(), chunkstore.ChunkBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("object %v: %w: %w", id, chunkstore.ErrAbsent, err)
	case err != nil:
		return nil, fmt.Errorf("object %v: %w", id, err)
	case chunkstore.Sum(b) != id:
		return nil, fmt.Errorf("object %v: %w", id, chunkstore.ErrCorrupt)
	}
	return b, nil
}

// Save makes encoded, the manifest of that sequence, with the leaves and nodes that it names, the saved cut.
func (c *CutFiles) Save(sequence uint64, encoded []byte, objects iter.Seq2[chunkstore.ID, []byte]) error {
	stale := c.have
	have := make(map[chunkstore.ID]bool, len(stale))
	for id, plain := range objects {
		if !stale[id] {
			if err := writeFile(c.tree(), id.String(), plain); err != nil {
				return fmt.Errorf("save cut: %w", err)
			}
			stale[id] = true // it is there, should the rest fail
		}
		have[id] = true
	}
	if err := c.note(sequence, encoded); err != nil {
		return fmt.Errorf("save cut: %w", err)
	}
	if err := writeFile(c.dir, "cut", encoded); err != nil {
		return fmt.Errorf("save cut: %w", err)
	}
	for id := range stale {
		if !have[id] {
			if os.Remove(filepath.Join(c.tree(), id.String())) != nil {
				have[id] = true // another time
			}
		}
	}
	c.have = have
	return nil
}
