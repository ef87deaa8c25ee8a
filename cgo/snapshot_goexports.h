/*
** The Go functions that the replica VFS calls (snapshot.go). Apart from snapshot.h, because
** cgo declares them itself.
*/
#ifndef VERNEUIL_SNAPSHOT_GOEXPORTS_H
#define VERNEUIL_SNAPSHOT_GOEXPORTS_H
#include "snapshot.h"

/* Those with zErr return 0, or 1 with a message there, of at most nErr bytes; a
** reader that moved on is in *pOpened. */
extern int goSnapshotOpen(char *zUri, SnapshotOpened *pOpened, char *zErr, int nErr);
extern void goSnapshotClose(uintptr_t hReader);
extern int goSnapshotRead(uintptr_t hReader, void *pBuf, int nByte, int64_t iOfst, void *ppDb); /* an SQLite result code */
extern void goSnapshotAhead(uintptr_t hReader, uint32_t iChunk);
extern void *goSnapshotAdopt(uintptr_t hReader);
extern int goSnapshotRefresh(uintptr_t hReader, int bForce, void *ppDb, SnapshotOpened *pOpened, char *zErr, int nErr);
extern void goSnapshotRequest(uintptr_t hReader);
extern void goSnapshotAuto(uintptr_t hReader, int bAuto);
extern void goSnapshotTimes(uintptr_t hReader, int bCtime, int64_t *pSeconds, int *pNanoseconds);

#endif
