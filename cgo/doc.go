// Package cgo is the only one with import "C", but for cgo/librados below it. It has the writer
// VFS, the replica VFS, that of databases that live in a store, the SQL functions, the late start
// of the Go runtime, and the few Go functions that C calls.
//
// C forwards and records, Go decides. Nothing on the writer VFS's commit path, or on the path of a
// cached read, enters Go. Every exported Go function recovers: no panic crosses into the host.
//
// # The C files
//
// They call downwards in this list, and nothing calls upwards (TestCFilesCallDownwards):
//
//	init                         the entry point
//	functions, adopt, ceph       the SQL functions, and Ceph's; databases that were open before
//	bypass                       databases that are opened without us
//	recorder*                    the writer VFS (recorder_methods.c lists its files)
//	snapshot                     the replica VFS
//	remote*                      the VFS of databases that live in a store
//	versiontable                 reads a version, without Go
//	overlay                      what a transaction has written on top of one
//	spill                        what of that does not fit into memory
//	spool*                       the recorder's side of the protocol of package spool
//	below, selection, children   the VFS below; which databases; what forked children tell
//	unreplicated                 what is not replicated, and why
//	gort*, descriptors           Go's start, its threads, limits, signals and descriptors
//	wake, config, log            the ground: it knows nothing of what is above
//	pragma, perf, files, crc32c
//	base, process
//
// SQLite is reached only through the sqlite3_api table, also when linked into a
// Go program next to mattn/go-sqlite3: there is no second SQLite.
//
// # Go in a host that is not a Go program
//
// Go starts with the first database that needs it, and runs only on threads of ours
// (gort_threads.c), while the host's threads wait in C (gort_calls.c). What the start changes in
// the host is put back (gort_signals.c, gort_limits.c).
//
// These threads have a table of descriptors of their own (descriptors.c). A host may close all of
// its descriptors, or pass them to a child: none of ours is among them. If one of the host's
// threads needs a file that Go has open, it opens the file again, through /proc, and checks at each
// use that it is that file.
//
// librados has threads that run on while exit() destroys what they use. So once it is opened, what
// is done at the process's end is registered anew, by which it comes first, and ends them. Who
// connects meanwhile is waited for, and nobody begins to. That is bounded: a monitor that does not
// answer for so long defeats it, and the process may end by a signal.
//
// A child that is forked from a process that runs Go can never run it. It records on handles of its
// own, and tells that process through a pipe what it has open (children.c).
//
// A handler of the host's signals may interrupt us anywhere, and call fork() or exit(). Locks that
// fork() takes are held with signals blocked, and for moments only: no file is looked at meanwhile
// (quiet.h). What exit() does allocates nothing, takes no lock, and is bounded (wake.c).
package cgo
