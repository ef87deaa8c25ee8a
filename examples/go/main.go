// A program that replicates app.db: VERNEUIL_CONFIG=@verneuil.json ./app
package main

import (
	"database/sql"
	"fmt"
	"log"

	_ "github.com/mattn/go-sqlite3"

	"verneuil/cgo"
)

func main() {
	// Once in a process, and before the database is opened. The package stands for the loadable
	// extension: it uses the SQLite that go-sqlite3 brings.
	check(cgo.Register())

	db, err := sql.Open("sqlite3", "app.db")
	check(err)
	defer db.Close()
	_, err = db.Exec("create table if not exists visits(at text); " +
		"insert into visits values(datetime('now'))")
	check(err)
	var visits, safe int
	check(db.QueryRow("select count(*) from visits").Scan(&visits))
	fmt.Println(visits, "visits")

	// Not needed: commits go out by themselves. It waits until all of them are out.
	check(db.QueryRow("select verneuil_flush()").Scan(&safe))
	fmt.Println("safe:", safe)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
