// Package restore writes a version of a database to a file, and gives the file its name only
// when it is whole and flushed.
//
// [To] fetches what a manifest names, many objects at a time, and writes it wherever the caller
// wants it. [File] does so beside the file that is wanted, and then puts it in place. Neither
// knows a target: the caller says how an object is fetched, and that checks its hash.
//
// # Invariants
//
//	R1  A path has its old file or the whole new one, also after a crash of the machine.
//	R2  A file is replaced only if it is empty, or the caller said so, and nobody has it open.
//	R3  No rollback journal or WAL stands beside a file that is put in place: SQLite would
//	    replay it.
//	R4  Memory does not grow with the database.
//
// # Beliefs
//
// A file may be replaced by a restore. Witness: it is empty, or the caller said so; and no lease
// is refused, and no journal or WAL stands beside it. Defeated by: who makes it meanwhile (then
// renameat2 refuses, where the file system can), and who opens it in the last moment.
package restore
