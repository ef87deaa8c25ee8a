package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

// Names that begin with a dot are the directory's own: no key begins with one.
const (
	lockName    = ".lock"
	tempsName   = ".put"
	historyName = ".history"
)

// shelves are the directories of the chunk bucket that hold something else than packs, in the order
// of the keys, which come after all packs'. No pack's directory is called so. A key is the shelf's
// prefix, the name of a directory, a dash, and the name of a file; of a flat one, the prefix and
// the name of a file.
var shelves = []struct {
	prefix, name string
	flat         bool
}{
	{chunkstore.KeptKeyPrefix, "kept", false},
	{chunkstore.LeaseKeyPrefix, "leases", true},
	{chunkstore.LogKeyPrefix, "logs", false},
	{chunkstore.PinKeyPrefix, "pins", false},
	{chunkstore.WantKeyPrefix, "wants", true},
}

const (
	// keyBytesMax is S3's limit.
	keyBytesMax = 1024
	// pieceBytes is how much of a key goes into one file name: Linux allows 255.
	pieceBytes = 200

	// historyMax is how many replaced versions of a key are kept whatever their
	// age: some 17 minutes of constant writing. Of those before, keepVersions
	// keeps the last of each hour, and when they are historyHours old, of each day.
	historyMax   = 1000
	historyHours = 30 * 24
	// tidyEvery puts, the history and the left-over temp files are looked at.
	tidyEvery = 64
	// tempAgeMax is far more than a Put takes.
	tempAgeMax = 24 * time.Hour
)

// place returns the file that holds key, always inside root.
func (b *objects) place(key string) (string, error) {
	name, err := relativePlace(key)
	if err != nil {
		return "", err
	}
	if !b.chunks {
		return filepath.Join(b.root, name), nil
	}
	if key == chunkstore.MarkerKey {
		return filepath.Join(b.root, key), nil
	}
	for _, shelf := range shelves {
		if rest, ok := strings.CutPrefix(key, shelf.prefix); ok {
			if shelf.flat && rest != "" && !strings.Contains(rest, "-") && len(rest) < pieceBytes {
				return filepath.Join(b.root, shelf.name, rest), nil
			}
			dir, file, ok := strings.Cut(rest, "-")
			if shelf.flat || !ok || dir == "" || file == "" {
				return "", fmt.Errorf("key %q of the chunk bucket is not that of a record", key)
			}
			return filepath.Join(b.root, shelf.name, dir, file), nil
		}
	}
	if name, err := chunkstore.ParseDigest(key); err != nil || name.String() != key {
		return "", fmt.Errorf("key %q of the chunk bucket is not the name of a pack", key)
	}
	return filepath.Join(b.root, key[:2], key), nil
}

// relativePlace spreads a key over file names of at most pieceBytes: all but
// the last are directories and end in "~", all but the first begin with "~". So
// the order of names is the order of keys.
func relativePlace(key string) (string, error) {
	switch {
	case key == "" || len(key) > keyBytesMax:
		return "", fmt.Errorf("key of %d bytes: want 1 to %d", len(key), keyBytesMax)
	case key[0] == '.' || strings.ContainsAny(key, "/\x00"):
		return "", fmt.Errorf("key %q cannot be the name of a file", key)
	}
	var path strings.Builder
	for len(key) > pieceBytes {
		path.WriteString(key[:pieceBytes] + "~/~")
		key = key[pieceBytes:]
	}
	path.WriteString(key)
	return path.String(), nil
}

// walk calls yield for the objects whose keys begin with prefix, in their order.
func (b *objects) walk(ctx context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	if !b.chunks {
		_, err := walkDir(ctx, b.root, "", prefix, yield)
		return err
	}
	shards, err := os.ReadDir(b.root)
	if err != nil {
		return objectfile.IgnoreAbsent(err)
	}
	for _, shard := range shards {
		name := shard.Name()
		if len(name) != 2 || !samePath(name, prefix) {
			continue
		}
		if more, err := walkDir(ctx, filepath.Join(b.root, name), "", prefix, yield); !more ||
			err != nil {
			return err
		}
	}
	for _, shelf := range shelves {
		if !samePath(shelf.prefix, prefix) {
			continue
		}
		walk := walkShelf
		if shelf.flat {
			walk = walkFiles
		}
		more, err := walk(ctx, filepath.Join(b.root, shelf.name), shelf.prefix, prefix, yield)
		if !more || err != nil {
			return err
		}
	}
	return nil
}

// walkShelf is walk for one of the shelves, whose keys begin with head. It says whether yield
// wants more.
func walkShelf(
	ctx context.Context, shelf, head, prefix string, yield func(chunkstore.Object) bool,
) (more bool, err error) {
	dirs, err := os.ReadDir(shelf)
	if err != nil {
		return true, objectfile.IgnoreAbsent(err)
	}
	// A name that another begins with sorts before it, and its keys after the other's digits.
	slices.SortFunc(dirs, func(a, b fs.DirEntry) int {
		return cmp.Compare(a.Name()+"-", b.Name()+"-")
	})
	for _, dir := range dirs {
		begin := head + dir.Name() + "-"
		if !dir.IsDir() || !samePath(begin, prefix) {
			continue
		}
		more, err := walkFiles(ctx, filepath.Join(shelf, dir.Name()), begin, prefix, yield)
		if !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

// walkFiles is walkDir for a directory whose files' names are the rest of a key.
func walkFiles(
	ctx context.Context, dir, head, prefix string, yield func(chunkstore.Object) bool,
) (more bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true, objectfile.IgnoreAbsent(err)
	}
	for _, e := range entries {
		key := head + e.Name()
		if e.Name()[0] == '.' || e.IsDir() || !strings.HasPrefix(key, prefix) {
			continue
		}
		if more, err = yieldFile(key, e, yield); err != nil || !more || ctx.Err() != nil {
			return false, cmp.Or(err, ctx.Err())
		}
	}
	return true, nil
}

// samePath: keys that begin with head may begin with prefix.
func samePath(head, prefix string) bool {
	return strings.HasPrefix(head, prefix) || strings.HasPrefix(prefix, head)
}

// walkDir is walk for a directory whose objects' keys begin with head. It says
// whether yield wants more.
func walkDir(ctx context.Context, dir, head, prefix string,
	yield func(chunkstore.Object) bool) (more bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true, objectfile.IgnoreAbsent(err)
	}
	for _, e := range entries {
		name := e.Name()
		if head != "" {
			name = strings.TrimPrefix(name, "~")
		}
		if e.IsDir() {
			name = strings.TrimSuffix(name, "~")
		}
		key := head + name
		if e.Name()[0] == '.' || key == chunkstore.MarkerKey || !samePath(key, prefix) {
			continue
		}
		if e.IsDir() {
			more, err = walkDir(ctx, filepath.Join(dir, e.Name()), key, prefix, yield)
		} else if strings.HasPrefix(key, prefix) {
			more, err = yieldFile(key, e, yield)
		} else {
			continue
		}
		if err = cmp.Or(err, ctx.Err()); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func yieldFile(key string, e fs.DirEntry,
	yield func(chunkstore.Object) bool) (more bool, err error) {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // deleted while we list
	} else if err != nil {
		return false, err
	}
	return yield(chunkstore.Object{Key: key, Bytes: info.Size(), Modified: info.ModTime()}), nil
}

// remember keeps the present object, in the file called name, in the history of key, if
// there are both. The caller holds the directory's lock. A crash before the object is
// replaced leaves it in both places, which does no harm.
func (b *bucket) remember(key, name string, present *chunkstore.Object) error {
	if !b.history || present == nil {
		return nil
	}
	if err := b.keep(key, name, versionName(*present)); err != nil {
		return fmt.Errorf("keep the version before: %w", err)
	}
	return nil
}

func (b *bucket) keep(key, name, version string) error {
	dir := b.historyDir(key)
	if err := b.dirs.ensure(dir); err != nil {
		return err
	}
	err := os.Link(name, filepath.Join(dir, version))
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	// No hard links here: a copy, which has the time in its name only.
	present, err := b.readObject(name, chunkstore.GetOptions{}.Limit())
	if err != nil {
		return err
	}
	temp, err := b.dirs.writeTemp(dir, present.Body)
	if err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, version))
}

func (b *objects) historyDir(key string) string {
	place, _ := relativePlace(key) // the caller has placed key already
	return filepath.Join(b.root, historyName, place)
}

// tidy removes what a crashed Put left in dir, and thins out key's history. It is
// best effort: a later Put tries again.
func (b *bucket) tidy(key, dir string) {
	err := removeOldTemps(dir)
	if b.history {
		err = errors.Join(err, trimHistory(b.historyDir(key)))
	}
	if err != nil {
		b.log.Warn("tidy target", "bucket", b.String(), "error", err)
	}
}

func trimHistory(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return objectfile.IgnoreAbsent(err)
	}
	var versions []string // in the order of time: names begin with it
	for _, e := range entries {
		if _, ok := versionTime(e.Name()); ok {
			versions = append(versions, e.Name())
		}
	}
	for _, version := range expiredVersions(versions, time.Now()) {
		err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(filepath.Join(dir, version))))
	}
	return errors.Join(err, removeOldTemps(dir))
}

// expiredVersions returns those of versions, oldest first, that need not be kept.
func expiredVersions(versions []string, now time.Time) []string {
	const hour, day = time.Hour, 24 * time.Hour
	var expired []string
	for i := 0; i < len(versions)-historyMax; i++ {
		t, _ := versionTime(versions[i])
		period := hour
		if now.Sub(t) > historyHours*hour {
			period = day
		}
		if next, _ := versionTime(versions[i+1]); t.Truncate(period).Equal(next.Truncate(period)) {
			expired = append(expired, versions[i])
		}
	}
	return expired
}

// removeOldTemps lists what is under way only: dir may have millions of records.
func removeOldTemps(dir string) error {
	temps := filepath.Join(dir, tempsName)
	entries, err := os.ReadDir(temps)
	if err != nil {
		return objectfile.IgnoreAbsent(err)
	}
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr == nil && time.Since(info.ModTime()) > tempAgeMax {
			name := filepath.Join(temps, e.Name())
			err = errors.Join(err, objectfile.IgnoreAbsent(os.Remove(name)))
		}
	}
	return err
}
