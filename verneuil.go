// Package verneuil is a database/sql driver whose databases are replicated: mattn/go-sqlite3 with
// the extension linked in.
//
//	import _ "verneuil"
//	…
//	db, err := sql.Open("verneuil", "app.db")
//
// VERNEUIL_CONFIG names the targets, as for the loadable extension (docs/configuration.md). A
// database that would not be replicated is not opened: the error says why.
package verneuil

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/mattn/go-sqlite3"

	"verneuil/cgo"
)

func init() { sql.Register("verneuil", &Driver{}) }

// Driver is a [sqlite3.SQLiteDriver], with its hooks, that replicates what it opens. Register one
// of your own, under another name, to set them. It is safe for concurrent use.
type Driver struct{ sqlite3.SQLiteDriver }

// Open opens a database by a path, or by a URI, with go-sqlite3's parameters. It goes through
// the VFS verneuil, unless dsn names a VFS: a replica (vfs=verneuil_snapshot), a database in a
// store (vfs=verneuil_remote), or one of SQLite's own. A database in memory has no VFS.
func (d *Driver) Open(dsn string) (driver.Conn, error) {
	if err := cgo.Register(); err != nil {
		return nil, err
	}
	named := throughVerneuil(dsn)
	conn, err := d.SQLiteDriver.Open(named)
	if err != nil || named == dsn {
		return conn, err
	}
	if _, err := conn.(*sqlite3.SQLiteConn).Exec("select verneuil_replicated()", nil); err != nil {
		conn.Close()
		return nil, fmt.Errorf("open %s: %w", dsn, err)
	}
	return conn, nil
}

// throughVerneuil makes a name a URI with vfs=verneuil, where that makes sense.
func throughVerneuil(dsn string) string {
	name, parameters, _ := strings.Cut(dsn, "?")
	if strings.Contains(name, ":memory:") || name == "" || name == "file:" {
		return dsn
	}
	for p := range strings.SplitSeq(parameters, "&") {
		if strings.HasPrefix(p, "vfs=") || p == "mode=memory" {
			return dsn
		}
	}
	if !strings.HasPrefix(name, "file:") {
		name = "file:" + strings.NewReplacer("%", "%25", "#", "%23").Replace(name)
	}
	if parameters != "" {
		parameters += "&"
	}
	return name + "?" + parameters + "vfs=verneuil"
}
