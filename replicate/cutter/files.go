package cutter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/spool"
)

const (
	cutName  = "cut"
	cutsName = "cuts"
	treeName = "tree"
	// cutsKept is how many cuts are known again: those of more than an hour, at one each second.
	cutsKept   = 4096
	drawnBytes = 16 // manifest.Manifest.Cut
)

// Files keep the last cut: the ID of "cut", and its manifest, not compressed, in the file cut (so a
// cut whose IDs other keys have given is known from one of ours); and the leaves and
// nodes of its tree under their IDs in the directory tree, all without places. The file cuts has
// [manifest.Manifest.Cut] of each of the last 4,096: at 16 times its sequence modulo 4,096. Zeros
// there are none. The rename of cut is
// what makes a cut saved: before it the mirror's chunks without a byte in dirty
// are as the old manifest says, after it as the new one says.
type Files struct {
	sp     *spool.Spool
	sealer chunkstore.Sealer
	have   map[chunkstore.ID]bool
}

// OpenFiles returns the files of the last cut in a spool, whose lock the caller holds. The IDs of
// leaves and nodes are s's.
func OpenFiles(sp *spool.Spool, s chunkstore.Sealer) (*Files, error) {
	c := &Files{sp: sp, sealer: s, have: make(map[chunkstore.ID]bool)}
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

func (c *Files) tree() string { return filepath.Join(c.sp.Dir(), treeName) }

// Restore makes the directory tree anew if somebody has removed it. What was in it, the next
// [Files.Save] saves again.
func (c *Files) Restore() error {
	err := os.Mkdir(c.tree(), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	clear(c.have)
	return err
}

// note adds a cut, which nobody has put yet, to those that Wrote knows.
func (c *Files) note(m *manifest.Manifest) error {
	f, err := c.sp.OpenFile(cutsName, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(m.Cut[:], int64(m.Sequence%cutsKept)*drawnBytes)
	return errors.Join(err, f.Close())
}

// Wrote reports whether the cut of that sequence for which [manifest.Manifest.Cut] was drawn so was
// saved here, or adopted. It is not known of those that 4,096 have followed.
func (c *Files) Wrote(sequence uint64, cut [16]byte) bool {
	flags := os.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(filepath.Join(c.sp.Dir(), cutsName), flags, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var drawn [drawnBytes]byte
	_, err = f.ReadAt(drawn[:], int64(sequence%cutsKept)*drawnBytes)
	return err == nil && drawn == cut && cut != [drawnBytes]byte{}
}

// Load returns the saved cut and its tree, loaded. It fails with fs.ErrNotExist
// if there is none, and with [chunkstore.ErrCorrupt] if it is of no use, or is not known to Wrote:
// then nobody could tell what else was written here.
func (c *Files) Load(ctx context.Context) (*manifest.Manifest, *manifest.Tree, error) {
	b, err := c.sp.ReadFile(cutName, 2*manifest.BytesMax)
	if err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	ours := c.keyed()
	if !bytes.HasPrefix(b, ours) {
		return nil, nil, fmt.Errorf("load cut: %w: its IDs are of other keys",
			chunkstore.ErrCorrupt)
	}
	m, err := manifest.Decode(chunkstore.Plain{}, b[len(ours):])
	if err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	if !c.Wrote(m.Sequence, m.Cut) {
		return nil, nil, fmt.Errorf("load cut: %w: %s does not have it",
			chunkstore.ErrCorrupt, cutsName)
	}
	tree := m.Tree(c.sealer)
	if err := tree.Load(ctx, c.objects); err != nil {
		return nil, nil, fmt.Errorf("load cut: %w", err)
	}
	return m, tree, nil
}

// keyed is how the file cut begins.
func (c *Files) keyed() []byte {
	id := c.sealer.Identify([]byte(cutName))
	return id[:]
}

// objects is a [manifest.Fetch] of the leaves and nodes of the saved cut; it fails
// with [chunkstore.ErrAbsent] for others.
func (c *Files) objects(_ context.Context, refs []chunkstore.Ref) (plain [][]byte, err error) {
	for _, ref := range refs {
		b, err := c.object(ref.ID)
		if err != nil {
			return nil, err
		}
		plain = append(plain, b)
	}
	return plain, nil
}

func (c *Files) object(id chunkstore.ID) ([]byte, error) {
	b, err := c.sp.ReadFile(filepath.Join(treeName, id.String()), chunkstore.ChunkBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("object %v: %w: %w", id, chunkstore.ErrAbsent, err)
	case err != nil:
		return nil, fmt.Errorf("object %v: %w", id, err)
	case c.sealer.Identify(b) != id:
		return nil, fmt.Errorf("object %v: %w", id, chunkstore.ErrCorrupt)
	}
	return b, nil
}

// Save makes m, with the leaves and nodes that it names, the saved cut.
func (c *Files) Save(m *manifest.Manifest, objects iter.Seq2[chunkstore.Ref, []byte]) error {
	encoded, err := m.EncodeLocal(c.keyed())
	if err != nil {
		return fmt.Errorf("save cut: %w", err)
	}
	stale := c.have
	have := make(map[chunkstore.ID]bool, len(stale))
	for ref, plain := range objects {
		id := ref.ID
		if !stale[id] {
			if err := c.sp.WriteFile(filepath.Join(treeName, id.String()), plain); err != nil {
				return fmt.Errorf("save cut: %w", err)
			}
			stale[id] = true // it is there, should the rest fail
		}
		have[id] = true
	}
	if err := c.note(m); err != nil {
		return fmt.Errorf("save cut: %w", err)
	}
	if err := c.sp.RewriteFile(cutName, encoded); err != nil {
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
