/*
** What the base VFS does with what it is given. SQLite's own stores it. Another may store
** something else (a cipher, a checksum, an offset, several files): then what the recorder sees
** is not what the file has, and must not be recorded (spool/doc.go, I8).
*/
#ifndef VERNEUIL_BELOW_H
#define VERNEUIL_BELOW_H
#include "verneuil.h"

/* Is it SQLite's own VFS for files, in whatever locking style? */
int belowIsOwn(const sqlite3_vfs *pVfs);

/* The VFS to record above, given the one that is the default: below those of
** SQLite3MultipleCiphers, which must stand above ours. */
sqlite3_vfs *belowCiphers(sqlite3_vfs *pVfs);

/* Is the VFS one of SQLite3MultipleCiphers? */
int belowIsCipher(const sqlite3_vfs *pVfs);
int belowIsCipherName(const char *zVfs);

/* SQLite3MultipleCiphers' VFS above ours, made if need be; NULL: it makes none. */
sqlite3_vfs *belowAboveOurs(void);

/* Opens the file that stands at a name, as it is, below any other VFS: flags say whether
** it is a database or a WAL. NULL: that cannot be done. Locks of the process are kept when
** it is closed, as by any connection (os_unix.c, setPendingFd). */
sqlite3_file *belowOpen(const char *zName, int flags);
void belowClose(sqlite3_file *pRaw);

/* Has the file these bytes there? */
int belowHas(sqlite3_file *pRaw, const void *pBuf, int n, sqlite3_int64 iOfst);

/* Has it that size? */
int belowSized(sqlite3_file *pRaw, sqlite3_int64 size);

/* Why a database that a VFS other than SQLite's own has opened must not be recorded, as far as
** can be told before anything was read; NULL: nothing is known against it. sqlite3_malloc'd. */
char *belowRefuses(sqlite3_file *pFile, sqlite3_file *pRaw, const char *zVfs);

#endif
