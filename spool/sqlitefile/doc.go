// Package sqlitefile knows what SQLite's files look like: the database's header and b-tree pages,
// the rollback journal, the WAL and its wal-index, and the bytes that SQLite locks. Each of these
// facts stands here once, with the place in SQLite that it comes from.
//
// The package turns bytes into facts. It opens no file and takes no lock: it reads from an
// [io.ReaderAt] that the caller has opened. The caller decides whether and when it may look at a
// live file. The package imports nothing from this module.
//
// Two documents are cited by section: "Database File Format" (sqlite.org/fileformat2.html; "file
// format" below) and "WAL-mode File Format" (sqlite.org/walformat.html).
//
// # Invariants
//
//	I1  Any bytes are accepted: nothing panics, and we believe no length or count in them before
//	    we have checked it. The bytes that are there bound what is allocated.
//	I2  Nothing is cached: facts describe the bytes as they were read.
//
// # Concurrency
//
// Any number of goroutines may call functions. Only one goroutine at a time may use a value that
// keeps reading, such as a [WALReader]. A value that does not change once it is built, such as a
// [WALView], may be shared.
package sqlitefile
