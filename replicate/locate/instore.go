package locate

import (
	"errors"
	"fmt"
	neturl "net/url"
	pathpkg "path"
	"slices"
	"strings"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// Address names a database that lives in a store.
type Address struct {
	Store string // as the configuration calls it
	Path  string // of the database in it, which begins with a slash
}

// addressBytesMax bounds a name: more than SQLite and Linux have for a path.
const addressBytesMax = 4096

// ParseAddress returns the address whose name SQLite has: /STORE/any/path.db. ok is false if the
// first element is no store, by has: then it is the path of a file. It fails if it is one, and what
// follows cannot be the path of a database. Slashes that follow each other are one.
func ParseAddress(name string, has func(store string) bool) (a Address, ok bool, err error) {
	store, path, _ := strings.Cut(strings.TrimLeft(name, "/"), "/")
	if !strings.HasPrefix(name, "/") || !has(store) {
		return Address{}, false, nil
	}
	parts := strings.Split(path, "/")
	a = Address{store, pathpkg.Join("/", path)}
	switch {
	case strings.Trim(path, "/") == "":
		err = errors.New("names no database: want file:///" + store + "/any/path.db")
	case slices.Contains(parts, "..") || slices.Contains(parts, "."):
		err = errors.New(`"." and ".." mean nothing in a store`)
	case strings.HasSuffix(path, "/"):
		err = errors.New("ends in a slash, as no database's path does")
	case strings.ContainsRune(path, 0):
		err = errors.New("contains a zero byte")
	case len(name) > addressBytesMax:
		err = fmt.Errorf("longer than %d bytes", addressBytesMax)
	}
	if err != nil {
		return Address{}, true, fmt.Errorf("%.200q: %w", name, err)
	}
	return a, true, nil
}

// ParseAddressURI is [ParseAddress] of a URI as SQLite reads it: file:///STORE/any/path.db, in
// which percent signs stand before hex digits, and what follows a question mark is no part of the
// name. ok is false for everything else, too.
func ParseAddressURI(uri string, has func(store string) bool) (a Address, ok bool, err error) {
	name, isURI := strings.CutPrefix(uri, "file:")
	if !isURI {
		return Address{}, false, nil
	}
	if rest, ok := strings.CutPrefix(name, "//"); ok {
		name = strings.TrimPrefix(rest, "localhost")
	}
	if end := strings.IndexAny(name, "?#"); end >= 0 {
		name = name[:end]
	}
	decoded, escapeErr := neturl.PathUnescape(name)
	if escapeErr != nil {
		decoded = name
	}
	a, ok, err = ParseAddress(decoded, has)
	if ok && err == nil && escapeErr != nil {
		err = fmt.Errorf("%q: write %%25 for a percent sign", uri)
	}
	return a, ok, err
}

// Name is SQLite's name of the database.
func (a Address) Name() string { return "/" + a.Store + a.Path }

// String is the database's URI.
func (a Address) String() string {
	return "file://" + (&neturl.URL{Path: a.Name()}).EscapedPath()
}

// Key returns the manifest's key in the store, which s seals. No host has the database.
func (a Address) Key(s chunkstore.Sealer) string { return manifest.Name(s, "", a.Path) }

// InStore returns the locator of the database at a, whose store is given. It asks nobody.
func InStore(a Address, store *chunkstore.Store) *Locator {
	l := named(a.String(), a.Key(store.Sealer()), store)
	l.sealer, l.store = store.Sealer(), store
	return l
}
