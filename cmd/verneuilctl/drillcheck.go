package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"verneuil/manifest"
	"verneuil/replicate/mirror"
	"verneuil/spool/sqlitefile"
)

// checked is what SQLite says of a restored database.
type checked struct {
	integrity  string // ok, or what is wrong
	violations int    // rows whose foreign keys refer to nothing
	unreadable bool   // it is no database to stock SQLite: encrypted, as a rule
}

// faultsTold bounds how many faults of one database are told.
const faultsTold = 5

// checkDatabase has SQLite check the database in file, of which nobody writes: pages, indexes,
// constraints and foreign keys. It fails if something is wrong, but for foreign keys.
func checkDatabase(ctx context.Context, file string) (c checked, err error) {
	db, err := sql.Open("sqlite3", databaseURI(file, "ro")+"&immutable=1")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	own, err := ownFile(file, sqlitefile.OwnDatabase)
	if err != nil {
		return c, err
	}
	if !own {
		c.unreadable, c.integrity = true, "unreadable"
		return c, fmt.Errorf("%w: it is proven only where its source is: run the drill there",
			errEncrypted)
	}
	faults, err := oneColumn(ctx, db, "PRAGMA integrity_check(100)")
	switch {
	case err != nil && ctx.Err() == nil && wantsApplication(err):
		// an index that only its application can compute: all but its order can be checked
		c.integrity = "ok but for " + err.Error()
		faults, err = oneColumn(ctx, db, "PRAGMA quick_check(100)")
	default:
		c.integrity = "ok"
	}
	if err != nil {
		return c, fmt.Errorf("integrity_check: %w", err)
	}
	if len(faults) != 1 || faults[0] != "ok" {
		c.integrity = strings.Join(faults[:min(len(faults), faultsTold)], "; ")
		if more := len(faults) - faultsTold; more > 0 {
			c.integrity += fmt.Sprintf("; and %d more", more)
		}
		return c, fmt.Errorf("integrity_check: %s", c.integrity)
	}
	rows, err := db.QueryContext(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return c, fmt.Errorf("foreign_key_check: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c.violations++
	}
	return c, rows.Err()
}

// wantsApplication: SQLite lacks a collation or a function that the schema names.
func wantsApplication(err error) bool {
	text := err.Error()
	return strings.Contains(text, "no such collation sequence") ||
		strings.Contains(text, "no such function") || strings.Contains(text, "unknown function")
}

// oneColumn returns the lines of a query's only column: SQLite's checks put many into one row.
func oneColumn(ctx context.Context, db *sql.DB, query string) (all []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, strings.Split(text, "\n")...)
	}
	return all, rows.Err()
}

// How a restored version compares with its source, where that is on this host.
const (
	sourceEqual = "equal"
	sourceNewer = "newer" // it was written to since that version was cut
	sourceGone  = "gone"
)

// errSource: the source has not been written to since the version was cut, and is not the same.
var errSource = errors.New("the restored database differs from its source, which has not been " +
	"written to since that version")

// timesGrain is longer than the steps in which files' times advance, and grainOfSeconds where they
// advance in seconds (ext4 with inodes of 128 bytes, FAT).
const (
	timesGrain     = 20 * time.Millisecond
	grainOfSeconds = 2 * time.Second
)

// compareSource compares the restored version m in file with the database at its path, as of a
// moment during the call. Nothing is concluded from bytes that differ unless the source was last
// written before m was cut: the ctimes of its files say so, which nobody can set. What cannot be
// read has no result.
func compareSource(ctx context.Context, file string, m *manifest.Manifest) (string, error) {
	if _, err := os.Stat(m.Path); errors.Is(err, fs.ErrNotExist) {
		return sourceGone, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	p, err := pin(ctx, m.Path)
	if err != nil {
		return compareLoose(ctx, f, m)
	}
	defer p.Close()
	same, err := sameBytes(ctx, f, p, m.FileBytes)
	if err != nil {
		return "", fmt.Errorf("compare with %s: %w", m.Path, err)
	}
	if same {
		return sourceEqual, nil
	}
	written := p.seen.DB.Ctime
	if p.seen.WAL != nil {
		written = max(written, p.seen.WAL.Ctime)
	}
	grain := timesGrain
	if written%int64(time.Second) == 0 {
		grain = grainOfSeconds
	}
	if time.Unix(0, written).Add(grain).After(m.Time) {
		return sourceNewer, nil
	}
	return "differs", errSource
}

// compareLoose compares f with the file at m's path where stock SQLite cannot hold that still, as
// it is encrypted: only that they are equal says something. What is in a WAL is not looked at.
func compareLoose(ctx context.Context, f *os.File, m *manifest.Manifest) (string, error) {
	s, err := mirror.OpenSourceFile(m.Path)
	if err != nil {
		return "", ctx.Err()
	}
	defer s.Close()
	if same, err := sameBytes(ctx, f, s, m.FileBytes); err != nil || !same {
		return "", ctx.Err()
	}
	return sourceEqual, nil
}

// sameBytes reports whether f has the n bytes of p, and p no more.
func sameBytes(ctx context.Context, f io.ReaderAt, p mirror.Source, n int64) (bool, error) {
	if size, err := p.Size(); err != nil || size != n {
		return false, err
	}
	const step = 1 << 20
	a, b := make([]byte, step), make([]byte, step)
	for off := int64(0); off < n; off += step {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		k := int(min(step, n-off))
		if _, err := p.ReadAt(a[:k], off); err != nil && err != io.EOF {
			return false, err
		}
		if _, err := f.ReadAt(b[:k], off); err != nil && err != io.EOF {
			return false, err
		}
		if !bytes.Equal(a[:k], b[:k]) {
			return false, nil
		}
	}
	return true, nil
}
