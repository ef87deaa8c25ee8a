// Command goload is a Go program that loads the extension: two Go runtimes in a process.
//
// Usage: goload LIBRARY DATABASE JOURNAL_MODE, or status in place of that, which it prints
package main

import (
	"database/sql"
	"fmt"
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
	if os.Args[3] == "status" {
		printStatus(os.Args[2])
		return
	}
	gowork.Run("sqlite3", os.Args[2], os.Args[3])
}

func printStatus(path string) {
	db, err := sql.Open("loader", "file:"+path+"?vfs=verneuil")
	if err == nil {
		_, err = db.Exec("create table if not exists t(a)")
	}
	var status string
	if err == nil {
		err = db.QueryRow("select verneuil_status()").Scan(&status)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status)
}
