package cephsqlite

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Scheme begins the URI of a database: what libcephsqlite's begins with "file".
const Scheme = "cephsqlite"

// Name names a database as libcephsqlite's URI does.
type Name struct {
	Pool      string // its name, or "*" and its number
	Namespace string // may be empty
	File      string
}

// path is what libcephsqlite takes for a name.
var path = regexp.MustCompile(`^/*(\*[0-9]+|[A-Za-z0-9._-]+):([A-Za-z0-9._-]*)/([A-Za-z0-9._-]+)$`)

// Parse parses cephsqlite:///POOL:NAMESPACE/NAME. ok is false if uri is of another scheme.
func Parse(uri string) (n Name, ok bool, err error) {
	rest, ok := strings.CutPrefix(uri, Scheme+"://")
	if !ok {
		return Name{}, false, nil
	}
	rest, _, _ = strings.Cut(rest, "?")
	part := path.FindStringSubmatch(rest)
	if part == nil {
		return Name{}, true, fmt.Errorf("%s: want %s:///POOL:NAMESPACE/NAME or "+
			"%s:///*POOLID:NAMESPACE/NAME, with letters, digits, dots, dashes and underscores",
			uri, Scheme, Scheme)
	}
	return Name{part[1], part[2], part[3]}, true, nil
}

// String is the database's URI.
func (n Name) String() string {
	return Scheme + ":///" + n.Pool + ":" + n.Namespace + "/" + n.File
}

// id returns the pool's number, if it is named by it.
func (n Name) id() (id int64, ok bool) {
	digits, ok := strings.CutPrefix(n.Pool, "*")
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	return id, err == nil
}

// object returns the name of the k-th object of a file.
func object(file string, k int64) string { return fmt.Sprintf("%s.%016x", file, k) }
