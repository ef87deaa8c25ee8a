/*
** The Go functions that the remote VFS calls (remote.go). Apart from remote.h, because cgo declares
** them itself. All that return an int return an SQLite result code, and have logged what it is
** for; a handle that has moved is in *pPlace, also after an error.
*/
#ifndef VERNEUIL_REMOTE_GOEXPORTS_H
#define VERNEUIL_REMOTE_GOEXPORTS_H
#include "remote.h"
#include "spill.h"

/* The names of the stores, malloc'd, as are its strings; NULL at the end. NULL: there are none. */
extern char **goRemoteStores(void);

/* What ceph_status() says, or, with *pIsError, why it cannot; malloc'd. */
extern char *goCephStatus(void *db, int *pIsError);

extern int goRemoteOpen(char *zName, RemoteMode *pMode, RemoteOpened *pOpened);
extern int goRemoteExists(char *zName, int *pRes);
extern void goRemoteClose(uintptr_t hConn);

extern int goRemoteRead(uintptr_t hConn, void *pBuf, int nByte, int64_t iOfst, void *ppDb);
extern void goRemoteAhead(uintptr_t hConn, uint32_t iChunk);

extern int goRemoteShare(uintptr_t hConn, int writes, void *ppDb, RemotePlace *pPlace);
extern void goRemoteAdopt(uintptr_t hConn, RemotePlace *pPlace);
extern int goRemoteReserve(uintptr_t hConn, void *ppDb, RemotePlace *pPlace);
extern int goRemoteCommit(uintptr_t hConn, RemoteChange *pChange, void *ppDb, RemotePlace *pPlace);
extern int goRemoteWait(uintptr_t hConn, void *ppDb, RemotePlace *pPlace);
extern void goRemoteUnreserve(uintptr_t hConn, RemotePlace *pPlace);

/* Pragmas. *pzErr is malloc'd. */
extern int goRemoteRefresh(uintptr_t hConn, void *ppDb, RemotePlace *pPlace, char **pzErr);
extern int goRemoteFlush(uintptr_t hConn, void *ppDb, char **pzErr);
extern int goRemoteRelease(uintptr_t hConn, void *ppDb, char **pzErr);

/* For spill.c. 0, or 1 after an error. */
extern int goSpillOpen(Spill *pSpill);
extern void goSpillClose(uintptr_t hFile);

#endif
