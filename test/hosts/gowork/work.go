// Package gowork is what the Go hosts of the tests do: goroutines write a database, while
// the program uses its runtime in the ways that a second one in the process could break.
package gowork

import (
	"cmp"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	writers = 4
	commits = 25
	signals = 50
)

// Run writes the database through driver and the VFS that the variable VFS names, or verneuil,
// prints what came of it, and ends the process with code 4.
func Run(driver, path, journal string) {
	vfs := cmp.Or(os.Getenv("VFS"), "verneuil")
	db, err := sql.Open(driver, "file:"+path+"?vfs="+vfs+"&_busy_timeout=60000&_journal_mode="+
		journal+"&_txlock=immediate")
	check(err)
	_, err = db.Exec("create table t(a integer primary key, b text, c blob)")
	check(err)
	check(pprof.StartCPUProfile(io.Discard)) // SIGPROF
	spinning := spin()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { write(db, w) })
	}
	all.Go(signalMyself)
	all.Go(func() {
		for range 20 {
			runtime.GC() // stops the world, the spinning goroutine too: by SIGURG
			faultAndRecover()
			check(exec.Command("true").Run()) // SIGCHLD
		}
	})
	all.Wait()
	spinning.Store(false)
	pprof.StopCPUProfile()
	var rows, flushed int
	check(db.QueryRow("select count(*) from t").Scan(&rows))
	if vfs == "verneuil" {
		check(db.QueryRow("pragma verneuil_flush_replication_data").Scan(&flushed))
		check(db.Close())
		fmt.Printf("%d rows, flush %d\n", rows, flushed)
	} else {
		check(db.Close())
		fmt.Printf("%d rows\n", rows)
	}
	os.Exit(4)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func write(db *sql.DB, writer int) {
	for i := range commits {
		tx, err := db.Begin()
		check(err)
		_, err = tx.Exec("insert into t(b, c) values(?, randomblob(2000))",
			fmt.Sprint(writer, "/", i))
		check(err)
		check(tx.Commit())
	}
}

// spin starts a goroutine that never calls anything.
func spin() *atomic.Bool {
	var on atomic.Bool
	on.Store(true)
	go func() {
		for on.Load() {
		}
	}()
	return &on
}

func signalMyself() {
	got := make(chan os.Signal, signals)
	signal.Notify(got, syscall.SIGUSR1)
	for range signals {
		check(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
		<-got
	}
	signal.Stop(got)
}

// faultAndRecover: a nil pointer is a panic of this runtime's, and not the end.
func faultAndRecover() {
	defer func() {
		if recover() == nil {
			log.Fatal("no panic")
		}
	}()
	var p *[1 << 10]int
	p[7]++
}
