// Command noload answers as the sqlite3 shell does that was built without the loading of
// extensions, as it is built with the tag sqlite_omit_load_extension.
//
// Usage: noload [FLAG]... DATABASE STATEMENTS
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"strings"

	_ "github.com/mattn/go-sqlite3"
)

func main() {
	db, err := sql.Open("sqlite3", os.Args[len(os.Args)-2])
	if err != nil {
		log.Fatal(err)
	}
	for statement := range strings.SplitSeq(os.Args[len(os.Args)-1], ";") {
		if err := printRows(db, statement); err != nil {
			log.Fatal(err)
		}
	}
}

// printRows prints the first column.
func printRows(db *sql.DB, statement string) error {
	rows, err := db.Query(statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		fmt.Println(text)
	}
	return rows.Err()
}
