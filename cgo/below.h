/*
** What the base VFS does with the bytes that it is given. SQLite's own stores them. Another may
** store something else (encrypted, with checksums, at other offsets, in several files). Then the
** recorder does not see what the file has, and must not record it (spool/doc.go, I8).
*/
#ifndef VERNEUIL_BELOW_H
#define VERNEUIL_BELOW_H
#include "verneuil.h"

/* Is pVfs one of SQLite's own VFSes for files, in whatever locking style? */
int belowIsOwn(const sqlite3_vfs *pVfs);

/* The VFS that ours is to stand above, if pVfs is the default: below SQLite3MultipleCiphers, whose
** VFSes must stand above ours. */
sqlite3_vfs *belowCiphers(sqlite3_vfs *pVfs);

/* Is the VFS one of SQLite3MultipleCiphers? */
int belowIsCipher(const sqlite3_vfs *pVfs);
int belowIsCipherName(const char *zVfs);

/* SQLite3MultipleCiphers' VFS above ours, made if need be. NULL: there is none. */
sqlite3_vfs *belowAboveOurs(void);

/* Opens the file of that name by SQLite's own VFS, to see what is really in it. flags say whether
** it is a database or a WAL. NULL: that cannot be done. Closing it drops no lock of this process,
** as with any connection (os_unix.c, setPendingFd). */
sqlite3_file *belowOpen(const char *zName, int flags);
void belowClose(sqlite3_file *pRaw);

/* Does the file have these n bytes at iOfst? */
int belowHas(sqlite3_file *pRaw, const void *pBuf, int n, sqlite3_int64 iOfst);

/* Does it have that size? */
int belowSized(sqlite3_file *pRaw, sqlite3_int64 size);

/* Why a database must not be recorded that another VFS than SQLite's own has opened, as far as that
** can be told before anything is read; sqlite3_malloc'd. NULL: nothing is known against it. */
char *belowRefuses(sqlite3_file *pFile, sqlite3_file *pRaw, const char *zVfs);

#endif
