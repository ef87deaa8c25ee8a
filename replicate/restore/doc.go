// Package restore writes a version of a database to a file, and gives the file its name only
// when it is whole and flushed.
//
// [To] fetches what a manifest names, and writes it wherever the caller wants it. [File] does so
// beside the file that is wanted, in a part file, and then puts it in place.
//
// # How
//
// The file is gone through from its beginning, in windows. Of a window's chunks, those that stand
// in one pack are fetched together: in one request for the whole pack where half of it or more is
// of use, else in ranges ([chunkstore.Store.GetObjects]). Packs are fetched in the order in which
// the file begins to need them, many at a time. As many as there are processors are opened at
// once; neighbouring chunks are written by one system call, past the page cache if the file is
// large. Chunks of zeros are not written: they are holes.
//
// # Part files
//
// The part file of DIR/NAME is DIR/.verneuil-restore-KEY-RANDOM, where KEY is the first 16 hex
// digits of the digest of NAME. It is locked (flock(2)) for as long as a restore writes it. One
// that ends early leaves it, unless it has little, or could not be written. The next restore to
// the same NAME, of whatever version, goes on with it: a chunk in it that has the ID that the
// version names is not fetched again, and everything else in it is written over. There is no
// list of what is in it: the bytes are their own witness. What is a day old, and of another NAME,
// is removed by any restore in DIR.
//
// # Invariants
//
//	R1  A path has its old file or the whole new one, also after a crash of the machine.
//	R2  A file is replaced only if it is empty, or the caller said so, and nobody has it open.
//	R3  No rollback journal or WAL stands beside a file that is put in place: SQLite would
//	    replay it.
//	R4  Memory does not grow with the database: what is fetched and not yet written is at most
//	    fetchedBytesMax, beside one window's references and leaves.
//	R5  Every byte that is put in place was checked in this very restore: it is of an object that
//	    has the ID that the version names, or of the manifest, or zero.
//
// # Beliefs
//
// A file may be replaced by a restore. Witness: it is empty, or the caller said so; and no lease
// is refused, and no journal or WAL stands beside it. Defeated by: who makes it meanwhile (then
// renameat2 refuses, where the file system can), and who opens it in the last moment.
//
// A part file is ours, and nobody else writes it. Witness: it is a regular file with one name,
// which it still has once it is locked; we own it, and nobody else may open it. Defeated by: a
// program of the same user that writes it without a lock. One that has another owner, name or
// mode is left alone, and a new one is made.
package restore
