/*
** The transactions and WAL checkpoints of a database, as one handle makes them. But for
** recorderSawVersion(), the caller holds SQLite's write lock.
*/
#ifndef VERNEUIL_RECORDER_TXN_H
#define VERNEUIL_RECORDER_TXN_H
#include "bytes.h"
#include "recorder_attach.h"

/* The version that a change counter stands for: never 0. */
static inline uint64_t versionOf(const unsigned char *aCounter) {
  return (uint64_t)1 << 32 | get4(aCounter);
}

/* The four bytes of the change counter, if the range covers them; else NULL. */
static inline const unsigned char *counterIn(const void *pBuf, int n, sqlite3_int64 iOfst) {
  return iOfst <= 24 && iOfst + n >= 28 ? (const unsigned char *)pBuf + (24 - iOfst) : 0;
}

/* SQLite has read the database's header, and this version in it. */
void recorderSawVersion(RecorderFile *p, uint64_t version);

/* A WAL checkpoint begins to write to the database. */
void recorderBeginCheckpoint(RecorderFile *p);

/* It has ended, and still holds the lock under which it wrote. */
void recorderLeaveCheckpoint(RecorderFile *p);
static inline void recorderEndCheckpoint(RecorderFile *p) {
  if (p->pCheckpoint) recorderLeaveCheckpoint(p);
}

/* The first write of a transaction is about to come. */
void recorderBeginTransaction(RecorderFile *p);

/* A write to the database is about to come: is it to be recorded? While the WAL is open, writes to
** the database are those of checkpoints. What a forked child writes by a handle that it has
** inherited, which SQLite forbids, is not recorded: its parent may be in the middle of a record. */
static inline int recorderRecords(RecorderFile *p) {
  if (p->awaits) recorderAwaitedWrite(p);
  if (p->pInherited) spoolRaise(p->pInherited->st, SPOOL_CAUSE_FOREIGN);
  if (!p->pSpool || p->isWal) return 0;
  if (atomic_load_explicit(&p->pSpool->nWal, memory_order_relaxed)) {
    if (!p->pCheckpoint) recorderBeginCheckpoint(p);
    return 0;
  }
  if (!p->txn.active) recorderBeginTransaction(p);
  return 1;
}

/* A write to the database failed, and part of it may be in the file. */
void recorderFailed(RecorderFile *p);

/* The transaction ends, by COMMIT or ROLLBACK: publishes what was recorded of it. */
void recorderPublish(RecorderFile *p);
static inline void recorderEndTransaction(RecorderFile *p) {
  if (p->txn.active) recorderPublish(p);
}

/* RESERVED is about to be given up. */
static inline void recorderEndHold(RecorderFile *p) {
  if (p->pHeld) atomic_store(&p->pHeld->holder, 0);
  p->pHeld = 0;
}

/* Is there a journal that the next reader will roll back? (isHotJournal in pager.c asks more, but
** we hold the lock.) */
int recorderJournalIsHot(RecorderFile *p);

/* Nothing of the database is recorded from now on, because of what the base VFS stores: zWhy says
** so. What was written in this transaction is not published. */
void recorderStop(RecorderFile *p, const char *zWhy);

#endif
