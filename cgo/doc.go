// Package cgo is the only one with import "C": the writer VFS (recorder.c, which
// lists its files; which databases it records: selection.c; of which it is told that they are not: unreplicated.c, bypass.c), the
// replica VFS (snapshot.c), the SQL functions, the lazy start of the Go runtime
// (gort.c), and the few Go functions that C calls.
//
// In a host that is no Go program, Go runs on threads of ours only (threads.c): the host's
// wait in C meanwhile. What the runtime's start changes in the host is put back (gort.c).
//
// These threads have a table of descriptors of their own (descriptors.c). A host may close, or
// hand on to a child, all that it has: none of ours is among it. Where threads of the host's need a
// file that Go has open, they open it anew, by /proc, and prove that it is that file at each use.
//
// A child that is forked from a process that runs Go cannot run it, ever. It records on
// handles of its own, and tells the process by a pipe what it has open (children.c).
//
// A handler of the host's signals may interrupt us anywhere, and call fork() or exit(). What fork()
// takes is held with signals blocked, and for moments only: no file is looked at under it (quiet.h). What
// exit() does allocates nothing, takes no lock, and is bounded (gort.c).
//
// C forwards and records, Go decides. Nothing on the commit path or on the path of a
// cached read enters Go. Every exported Go function recovers: no panic crosses
// into the host.
//
// SQLite is reached only through the sqlite3_api table, also when linked into a
// Go program next to mattn/go-sqlite3: there is no second SQLite.
package cgo
