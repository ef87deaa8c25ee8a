/*
** What the recorder does in WAL mode: see "WAL" in spool/doc.go. But for walIsKnown() and
** walOpened(), the caller holds the WRITE lock of the wal-index, or the database is locked
** exclusively.
*/
#ifndef VERNEUIL_SPOOL_WAL_H
#define VERNEUIL_SPOOL_WAL_H
#include "spool_database.h"

/* Has any commit to the present WAL been published? A VFS above ours may have a wal-index of its
** own, which we never see: then none has. */
int walIsKnown(SpoolState *st);

/* The first connection of this process has opened the WAL: forgets what is known of an earlier
** one. */
void walOpened(Spool *p);

/* The WRITE lock was taken, or the last connection is about to delete the wal-index. Notes what is
** committed, for walBeforeReset(), and checks that it goes on from what was published. */
void walNote(Spool *p, const volatile void *pIndex);

/* The WRITE lock is about to be released: publishes what the wal-index says. pIndex is its first
** page (region 0 of the shared memory). Returns 1 if there was a commit. */
int walUnlock(Spool *p, const volatile void *pIndex);

/* The same under locking EXCLUSIVE, where there is no shared wal-index. */
int walCommitExclusive(Spool *p);

/* Something was written to the WAL: remembers commit frames, for walCommitExclusive(). */
void walWrote(Spool *p, const void *pData, int n, int64_t iOfst);

/* A write to the WAL, or a sync of it, failed under locking EXCLUSIVE, where there is no shared
** wal-index. If a commit frame was written since the last commit, SQLite rolls that transaction
** back. But its frames may look valid until the next transaction writes over them. */
void walFailed(Spool *p);

/* Counts the frames of a WAL that was written before we saw it, all of which are committed. */
void walFound(Spool *p);

/* The WAL's frames are about to be lost. aHeader is the header that will be written over the old
** one; NULL: the file will be truncated or deleted. Copies the frames that the replicator has not
** consumed into the changelog. */
void walBeforeReset(Spool *p, const unsigned char *aHeader);

/* They are lost now. */
void walAfterReset(Spool *p, const unsigned char *aHeader);

#endif
