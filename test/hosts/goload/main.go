// Command goload is a Go program that loads the extension: two Go runtimes in a process.
//
// Usage: goload LIBRARY DATABASE JOURNAL_MODE
package main

import (
	"database/sql"
	"log"
	"os"

	"github.com/mattn/go-sqlite3"

	"verneuil/test/hosts/gowork"
)

func main() {
	sql.Register("loader", &sqlite3.SQLiteDriver{Extensions: []string{os.Args[1]}})
	db, err := sql.Open("loader", ":memory:")
	if err == nil {
		err = db.Ping()
	}
	if err != nil {
		log.Fatal(err)
	}
	gowork.Run("sqlite3", os.Args[2], os.Args[3])
}
