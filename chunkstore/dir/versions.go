package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/objectfile"
)

// versionName is the ID of the version o, and its file's name in the history.
func versionName(o chunkstore.Object) string {
	return fmt.Sprintf("%020d-%.16s", o.Modified.UnixNano(), strings.Trim(o.ETag, `"`))
}

// versionTime returns when the version called name was put, and whether name is the
// name of a version at all. What it says yes to names a file in the directory.
func versionTime(name string) (time.Time, bool) {
	digits, tag, ok := strings.Cut(name, "-")
	if !ok || len(digits) != 20 || strings.Trim(tag, "0123456789abcdef") != "" {
		return time.Time{}, false
	}
	ns, err := strconv.ParseInt(digits, 10, 64)
	return time.Unix(0, ns), err == nil
}

// ListVersions of the manifests; the bucket of chunks keeps none but the present.
//
// A Put that runs meanwhile puts the present version into the history first, so
// that whoever looks at the present first, and then there, misses none.
func (b *bucket) ListVersions(ctx context.Context, key string,
	yield func(chunkstore.Object) bool) error {
	return b.wrap("list versions of", key, b.listVersions(ctx, key, yield))
}

func (b *bucket) listVersions(ctx context.Context, key string,
	yield func(chunkstore.Object) bool) error {
	var versions []chunkstore.Object
	switch present, err := b.stat(ctx, key); {
	case err == nil:
		present.Version = versionName(present)
		versions = append(versions, present)
	case !errors.Is(err, chunkstore.ErrAbsent):
		return err
	}
	entries, err := os.ReadDir(b.historyDir(key))
	if objectfile.IgnoreAbsent(err) != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		modified, ok := versionTime(e.Name())
		if !ok || len(versions) > 0 && versions[0].Version == e.Name() {
			continue
		}
		info, err := e.Info()
		if objectfile.IgnoreAbsent(err) != nil {
			return err
		} else if err == nil {
			versions = append(versions, chunkstore.Object{Key: key, Bytes: info.Size(),
				Modified: modified, Version: e.Name()})
		}
	}
	for _, version := range versions {
		if !yield(version) {
			break
		}
	}
	return nil
}

func (b *bucket) GetVersion(ctx context.Context, key, version string,
	opts chunkstore.GetOptions) (o chunkstore.Object, err error) {
	defer func() {
		if err != nil {
			o, err = chunkstore.Object{}, b.wrap("get version "+version+" of", key, err)
		}
	}()
	modified, ok := versionTime(version)
	if !ok {
		return chunkstore.Object{}, fmt.Errorf(
			"%w: a version's name is 20 digits, a dash and up to 16 hex digits",
			chunkstore.ErrAbsent)
	}
	o, presentErr := b.read(ctx, key, chunkstore.GetOptions{BytesMax: opts.BytesMax})
	if presentErr != nil && !errors.Is(presentErr, chunkstore.ErrAbsent) &&
		!errors.Is(presentErr, chunkstore.ErrCorrupt) {
		return chunkstore.Object{}, presentErr
	}
	if presentErr != nil || versionName(o) != version {
		o, err = b.readObject(filepath.Join(b.historyDir(key), version), opts.Limit())
		if errors.Is(err, chunkstore.ErrAbsent) && presentErr != nil {
			err = presentErr // which it may have been
		}
		if err != nil {
			return chunkstore.Object{}, err
		}
	}
	o.Key, o.Version, o.Modified = key, version, modified
	if opts.IfNoneMatch != "" && opts.IfNoneMatch == o.ETag {
		return chunkstore.Object{}, chunkstore.ErrUnmodified
	}
	return o, nil
}

// ForgetVersion removes the version from the history: the present object has a file of its own.
func (b *bucket) ForgetVersion(ctx context.Context, key, version string) error {
	_, ended, err := b.beginAt(ctx, "forget a version of", key)
	if err != nil {
		return b.wrap("forget version "+version+" of", key, err)
	}
	defer ended()
	if _, ok := versionTime(version); ok {
		err = objectfile.IgnoreAbsent(os.Remove(filepath.Join(b.historyDir(key), version)))
	}
	return b.wrap("forget version "+version+" of", key, err)
}
