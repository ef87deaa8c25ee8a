// Package cephsqlite reads databases that Ceph's own SQLite VFS, libcephsqlite, keeps in RADOS, so
// that they can be imported. It never writes to them.
//
// # The layout
//
// A file is cut into objects NAME.K, K being 16 hex digits from 0 on, of object_size bytes (4 MiB)
// each. What is absent, or behind an object's end, is zeros. The first one has attributes, of
// which the numbers are decimal digits:
//
//	striper.size                 the file's length
//	striper.excl                 the address of the client that has it open for writing; empty
//	                             once that has given it back in order
//	striper.layout.object_size   4194304
//	striper.layout.stripe_count  1
//
// The database is such a file, and so are NAME-journal and NAME-wal.
//
// # The lock
//
// Who uses the database has the exclusive lock "striper.lock" of the database's first object, for
// 30 s at a time, and renews it. So do we, as long as we read.
//
// If the lock was free, and striper.excl is not empty, then the client of that address died, or
// has lost the lock without knowing: it may yet write. As libcephsqlite does, we have the cluster
// refuse it from then on (blocklist), before anything is read.
//
// # Invariants
//
//	C1  What Fetch returns are the three files as they stood at one moment.
//	C2  A journal of a transaction that spans several databases is not taken: the decision about
//	    it lies in another file.
//
// # Beliefs
//
//	nobody has written while we read
//	         the lock was renewed after the last read, by a request that fails if it has ever
//	         ended; and who had it before has given it back, or is refused.
//	         Who does not ask for the lock (rados put) defeats it
//	the file ends at striper.size
//	         libcephsqlite writes it when SQLite syncs the file, and what lies behind was never
//	         synced: SQLite does not count on that
package cephsqlite
