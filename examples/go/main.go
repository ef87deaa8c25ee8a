// A program that replicates app.db: VERNEUIL_CONFIG=@verneuil.json ./app
package main

import (
	"database/sql"
	"fmt"
	"log"

	_ "verneuil"
)

func main() {
	// The driver links the extension, and uses the SQLite that go-sqlite3 brings. It opens no
	// database that would not be replicated.
	db, err := sql.Open("verneuil", "app.db")
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
