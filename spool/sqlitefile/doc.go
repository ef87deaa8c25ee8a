// Package sqlitefile knows what SQLite's files look like: the database's header and b-tree pages,
// the rollback journal, the WAL and its wal-index, and the bytes that SQLite locks. Each of these
// facts stands here once, with the place in SQLite that it is from.
//
// The package turns bytes into facts. It opens no file and takes no lock: what it reads, it reads
// from an [io.ReaderAt] that the caller has opened, and whether the caller may look at a live file,
// and when, is the caller's business. It imports nothing of this module.
//
// Two documents are cited by section: "Database File Format" (sqlite.org/fileformat2.html; "file
// format" below) and "WAL-mode File Format" (sqlite.org/walformat.html).
//
// # Invariants
//
//	I1  Any bytes may be given: nothing panics, and no length or count in them is believed before
//	    it is checked. What is allocated is bounded by the bytes that are there.
//	I2  Nothing is cached: facts describe the bytes as they were read.
//
// # Concurrency
//
// Functions may be called by any number of goroutines. A value of a type that reads on, such as
// [WALReader], is one goroutine's at a time; one that is built and then only asked, such as
// [WALView], may be shared.
package sqlitefile
