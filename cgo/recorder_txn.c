/*
** Transactions and WAL checkpoints: see recorder_txn.h.
**
** When a transaction ends:
**
**   xFileControl(COMMIT_PHASETWO)   commit; also comes when nothing was written,
**                                   and is all that comes under locking EXCLUSIVE
**   xUnlock(below RESERVED)         a rollback after a spill, and the recovery of a
**                                   hot journal: no COMMIT_PHASETWO comes (pager.c,
**                                   pager_playback and sqlite3PagerRollback). If either
**                                   fails, the journal stays hot, and what the file
**                                   holds then was never committed: it is not recorded
**
** The database's version (change counter) and size before a transaction are
** those that SQLite itself read when it took its SHARED lock (pager.c,
** sqlite3PagerSharedLock and pagerPagecount), so that looking costs nothing.
*/
#define _GNU_SOURCE
#include "recorder_txn.h"
#include "below.h"
#include "process.h"
#include "recorder_durable.h"
#include "recorder_go.h"
#include "spool_attach.h"
#include "spool_stamp.h"
#include "spool_wake.h"
#include "spool_wal.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the database's version and size ---- */

/* SQLite read the header under its SHARED lock, so nobody is writing. Unless the version is the one
** that the last recorder left, somebody has written without us. */
void recorderSawVersion(RecorderFile *p, uint64_t version) {
  SpoolState *st = p->pSpool->st;
  uint64_t known = atomic_load_explicit(&st->dbVersion, memory_order_relaxed);
  p->version = version;
  if (!known || known == version || p->eLock != SQLITE_LOCK_SHARED || atomic_load(&p->pSpool->nWal))
    return;
  /* the next writer will say so */
  if (atomic_load(&st->walSalts) || atomic_load(&st->writing)) return;
  if (spoolLost(p->pSpool) || !atomic_compare_exchange_strong(&st->dbVersion, &known, version))
    return;
  atomic_store(&st->dbSize, -1);
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  spoolWake(p->pSpool);
}

/* Before the first write: finds out the version and size, if SQLite has not. */
static void lookBefore(RecorderFile *p) {
  unsigned char a[4];
  sqlite3_int64 size;
  if (p->size < 0) {
    p->sizeUncertain = p->pBase->xFileSize(p->pFile, &size) != SQLITE_OK;
    if (!p->sizeUncertain) p->size = size;
  }
  if (p->version) return;
  if (p->size >= 28 && p->pBase->xRead(p->pFile, a, 4, 24) == SQLITE_OK) p->version = versionOf(a);
  else p->version = (uint64_t)1 << 32; /* an empty file: as if the counter were 0 */
}

/* ---- checkpoints ---- */

/* Do the frames belong to commits that were published, and is the file as the last recorder left
** it? */
void recorderBeginCheckpoint(RecorderFile *p) {
  SpoolState *st = p->pCheckpoint = p->pSpool->st;
  atomic_store(&st->checkpointing, verneuilToken());
  if (!stampForeign(p->pSpool, st) && walIsKnown(st)) return;
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  spoolWake(p->pSpool);
}

void recorderLeaveCheckpoint(RecorderFile *p) {
  SpoolState *st = p->pCheckpoint;
  p->pCheckpoint = 0;
  stampLeave(p->pSpool, st);
  atomic_store(&st->checkpointing, 0);
}

/* ---- transactions ---- */

void recorderBeginTransaction(RecorderFile *p) {
  lookBefore(p);
  if (!p->pSpool) return; /* forked meanwhile: recorder_methods.c */
  spoolBegin(p->pSpool, &p->txn, p->version, p->size);
  p->pHeld = p->txn.st;
}

void recorderFailed(RecorderFile *p) {
  p->sizeUncertain = 1;
  spoolFailed(p->pSpool, &p->txn);
}

void recorderPublish(RecorderFile *p) {
  sqlite3_int64 size;
  if (p->sizeUncertain && p->pBase->xFileSize(p->pFile, &size) != SQLITE_OK) {
    size = -1; /* a size that is not known must not be recorded as if it were */
    if (p->pSpool) spoolFailed(p->pSpool, &p->txn);
  }
  if (p->sizeUncertain) p->size = size;
  p->sizeUncertain = 0;
  if (p->pRaw && p->size >= 0 && !belowSized(p->pRaw, p->size)) {
    recorderStop(p, "the VFS below verneuil keeps more than the database in its file: put it above verneuil");
    return;
  }
  if (!p->pSpool) return; /* forked meanwhile */
  durableBefore(p, p->txn.st, p->txn.sequence);
  spoolEnd(p->pSpool, &p->txn, p->version, p->size);
  recorderValidate(p->pSpool);
}

int recorderJournalIsHot(RecorderFile *p) {
  char c = 0;
  char *z;
  if (asprintf(&z, "%s-journal", p->pSpool->zPath) < 0) z = 0;
  int fd = z ? open(z, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
  int absent = z && fd < 0 && errno == ENOENT;
  ssize_t n = fd >= 0 ? pread(fd, &c, 1, 0) : -1;
  if (fd >= 0) close(fd);
  free(z);
  return !absent && (n < 0 || (n == 1 && c)); /* PERSIST leaves zeros, TRUNCATE nothing */
}

void recorderStop(RecorderFile *p, const char *zWhy) {
  Spool *pSpool = p->pSpool;
  if (!pSpool) return;
  atomic_store(&pSpool->isRefused, 1);
  if (!p->isWal) recorderNoteWhy(p, sqlite3_mprintf("%s", zWhy));
  if (p->txn.active) {
    recorderFailed(p);
    spoolEnd(pSpool, &p->txn, 0, -1);
  } else {
    spoolRaise(pSpool->st, SPOOL_CAUSE_FOREIGN);
  }
  /* the stamp is what it was before */
  if (p->pCheckpoint) atomic_store(&p->pCheckpoint->checkpointing, 0);
  p->pCheckpoint = 0;
  recorderEndHold(p);
  recorderLeaveSpool(p);
}
