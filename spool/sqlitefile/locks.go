package sqlitefile

// The bytes of a database file that SQLite locks (os.h, PENDING_BYTE and what follows). Readers
// lock the shared range for reading, and whoever holds EXCLUSIVE locks it for writing. The page
// that they are in is never used (file format, section 1.4).
const (
	PendingByte  = 0x40000000
	ReservedByte = PendingByte + 1
	SharedFirst  = PendingByte + 2
	SharedBytes  = 510
	LockBytes    = SharedFirst + SharedBytes - PendingByte // all of them
)

// The bytes of a wal-index that SQLite locks, from WAL_WRITE_LOCK to the one that each connection
// locks shared as long as it has the file open (os_unix.c, UNIX_SHM_BASE and UNIX_SHM_DMS).
const (
	WALIndexLockFirst = 120
	WALIndexLockBytes = 9
)
