// Command golink is a Go program that links the packages.
//
// Usage: golink DATABASE JOURNAL_MODE
package main

import (
	"log"
	"os"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/cgo"
	"verneuil/test/hosts/gowork"
)

func main() {
	if err := cgo.Register(); err != nil {
		log.Fatal(err)
	}
	gowork.Run("sqlite3", os.Args[1], os.Args[2])
}
