/*
** The recorder's side of WAL mode: see "WAL" in spool/doc.go.
*/
#ifndef VERNEUIL_SPOOL_WAL_H
#define VERNEUIL_SPOOL_WAL_H
#include "spool_database.h"

/* Has any commit to the present WAL been published? A VFS above ours may have a wal-index of its own, which
** we never see. */
int walIsKnown(SpoolState *st);

/* The process's first connection opens the WAL: what is known is of an earlier one. */
void walOpened(Spool *p);

/* The WRITE lock was taken, or the wal-index is about to be deleted by the last
** connection: note what is committed, for walBeforeReset, and see that it goes on from what was published. */
void walNote(Spool *p, const volatile void *pIndex);

/* The WRITE lock is about to be released: publish what the wal-index says. pIndex
** is its first page (region 0 of the shared memory). Returns 1 if that was a commit. */
int walUnlock(Spool *p, const volatile void *pIndex);

/* A commit under locking EXCLUSIVE, where there is no shared wal-index; or
** none, and 0 is returned. */
int walCommitExclusive(Spool *p);

/* Something was written to the WAL: remember commit frames for walCommitExclusive. */
void walWrote(Spool *p, const void *pData, int n, int64_t iOfst);

/* A write to the WAL, or a sync of it, failed under locking EXCLUSIVE, where there is no
** shared wal-index: if a commit frame was written since the last commit, SQLite rolls
** that transaction back, but its frames may be valid until the next one writes over them. */
void walFailed(Spool *p);

/* A WAL of which no write was seen yet, all frames of which are committed: counts them. */
void walFound(Spool *p);

/* The WAL's frames are about to be lost: aHeader is the header that will be written
** over the old one, or NULL when the file is truncated or deleted. Copies what the
** replicator has not consumed into the changelog. */
void walBeforeReset(Spool *p, const unsigned char *aHeader);

/* They are lost. */
void walAfterReset(Spool *p, const unsigned char *aHeader);

#endif
