/*
** A database's transactions and WAL checkpoints, as its handle sees them. The caller holds SQLite's
** write lock, and has not given it up yet.
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

/* SQLite has read the database's header, with this version. */
void recorderSawVersion(RecorderFile *p, uint64_t version);

/* A WAL checkpoint writes to the database, perhaps for the first time. */
void recorderBeginCheckpoint(RecorderFile *p);

/* It does so no more, and still has the lock under which it did. */
void recorderLeaveCheckpoint(RecorderFile *p);
static inline void recorderEndCheckpoint(RecorderFile *p) {
  if (p->pCheckpoint) recorderLeaveCheckpoint(p);
}

/* The first write of a transaction comes. */
void recorderBeginTransaction(RecorderFile *p);

/* A write to the database comes: record it? Page writes while the WAL is open are checkpoints. What a
** forked child does with a handle that it has inherited, which SQLite forbids, is not recorded: the parent
** may be in the middle of a record. */
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

/* A write to the database failed: part of it may be there. */
void recorderFailed(RecorderFile *p);

/* The transaction ends: what was recorded of it, if anything was, is published. */
void recorderPublish(RecorderFile *p);
static inline void recorderEndTransaction(RecorderFile *p) {
  if (p->txn.active) recorderPublish(p);
}

/* RESERVED is given up. */
static inline void recorderEndHold(RecorderFile *p) {
  if (p->pHeld) atomic_store(&p->pHeld->holder, 0);
  p->pHeld = 0;
}

/* Does a journal lie there whose header would have it rolled back? (Not all that isHotJournal in
** pager.c asks: the lock is ours.) */
int recorderJournalIsHot(RecorderFile *p);

/* Nothing more of this handle is recorded. What it wrote in this transaction is not published. */
void recorderStop(RecorderFile *p, const char *zWhy);

#endif
