/*
** Durable commits: COMMIT returns once the targets have it. It is the one way in which replication
** makes a commit wait, and the application has chosen it.
**
** A commit is in the database's file, or its WAL, before any target can have it, and SQLite cannot
** take it back. An error at that point would be a lie: SQLite and the application would go on as if
** the transaction had been rolled back, and of a transaction on several databases SQLite would
** leave the others uncommitted. So COMMIT says SQLITE_OK, and after its deadline it has not waited
** any longer: how it has ended, pragma verneuil_durable_outcome says, and the log.
**
** The wait comes where other connections are not kept from the database:
**
**   WAL          in SQLITE_FCNTL_COMMIT_PHASETWO, which follows the release of WAL_WRITE_LOCK
**                (pager.c, pager_end_transaction). The lock of a reader is held, so the WAL is
**                not begun anew meanwhile
**   rollback     after the xUnlock to NONE, which ends the transaction (btree.c,
**                unlockBtreeIfUnused). Another statement of the connection that still reads keeps
**                that from coming: then after the xUnlock to SHARED
**   locking      EXCLUSIVE gives up no lock: the wait is in COMMIT_PHASETWO, and locks out others,
**                who are locked out anyway. The VFS is told of the mode only by the pragma that
**                sets it. A commit that was waiting for an unlock that never came is "pending",
**                and those after it do not wait for one
*/
#ifndef VERNEUIL_RECORDER_DURABLE_H
#define VERNEUIL_RECORDER_DURABLE_H
#include "recorder_file.h"

/* A transaction of that sequence is about to be published. */
static inline void durableBefore(RecorderFile *p, SpoolState *st, uint64_t sequence) {
  if (p->durable.mode) spoolWant(st, sequence);
}

/* A commit was published, and its lock is still held. */
void durableOwe(RecorderFile *p);

/* What is owed: waits for it. */
void durableWait(RecorderFile *p);

/* Has the connection given up no lock since a locking mode was last set? Then it may keep them. */
static inline int durableKeepsLocks(const RecorderFile *p) {
  return !__atomic_load_n(&p->durable.unlocks, __ATOMIC_RELAXED);
}

/* COMMIT_PHASETWO, in a mode in which no write lock is held any more (isFree), or in which it is
** given up next, perhaps. */
void durablePhaseTwo(RecorderFile *p, int isFree);

/* The lock was lowered to eLock. */
void durableUnlocked(RecorderFile *p, int eLock);

/* A connection sets its locking mode, for all of its databases, perhaps. */
void durableLocking(void);

/* pragma verneuil_durable_outcome: how the last commit stands now; sqlite3_malloc'd. */
char *durableOutcome(RecorderFile *p);

/* Counts of this process, as a JSON object; sqlite3_malloc'd. */
char *durableCounts(void);

#endif
