/*
** The list of the recorder's open files: how a file enters and leaves it, and what is looked up in
** it. While its mutex is held, nothing is called that waits.
*/
#define _GNU_SOURCE
#include "recorder_file.h"
#include "below.h"
#include "quiet.h"
#include "recorder.h"
#include "recorder_durable.h"
#include "recorder_go.h"
#include "spool_attach.h"
#include "spool_wal.h"
SQLITE_EXTENSION_INIT3
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* WAL_WRITE_LOCK, WAL_CKPT_LOCK and WAL_RECOVER_LOCK (wal.c). */
#define SHM_EXCLUDES 7

/* How often a process that ends tries to get the list's mutex, which is held for moments only. */
#define EXCLUDES_TRIES 1000

_Atomic int recorderBaseIsOwn;
sqlite3_vfs *_Atomic pRecorderHooked;
_Thread_local const RecorderFile *pRecorderLockedLast;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* the list, and what is marked (L) */
static RecorderFile *pFiles;
static Perf aClosed[OP_N]; /* sums of the files that were closed */

RecorderFile *recorderFind(const sqlite3_file *pFile) {
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && p->pFile != pFile) p = p->pNext;
  quietUnlock(&mu, q);
  return p;
}

/* ---- a file's way into the list, and out of it ---- */

/* Offers exactly the methods that the base's file has: without xShm for nolock, say. */
static void offerMethods(RecorderFile *p) {
  const sqlite3_io_methods *pBase = p->pBase;
  p->methods = recorderMethods;
  if (pBase->iVersion < p->methods.iVersion) p->methods.iVersion = pBase->iVersion;
  if (!pBase->xSectorSize) p->methods.xSectorSize = 0;
  if (pBase->iVersion >= 2 && !pBase->xShmMap) {
    p->methods.xShmMap = 0;
    p->methods.xShmLock = 0;
    p->methods.xShmBarrier = 0;
    p->methods.xShmUnmap = 0;
  }
  if (pBase->iVersion >= 3 && !pBase->xFetch) {
    p->methods.xFetch = 0;
    p->methods.xUnfetch = 0;
  }
}

RecorderFile *recorderHook(sqlite3_file *pFile, const char *zName, int isWal) {
  RecorderFile *p = calloc(1, sizeof *p);
  if (!p) return 0;
  p->pFile = pFile;
  p->pBase = pFile->pMethods;
  p->size = -1;
  p->isWal = isWal;
  p->zName = zName;
  offerMethods(p);
  return p;
}

/* p is about to be recorded in pSpool, if it is a WAL. */
static void countWal(const RecorderFile *p, Spool *pSpool) {
  if (p->isWal && pSpool && !atomic_fetch_add(&pSpool->nWal, 1)) walOpened(pSpool);
}

void recorderUseHook(RecorderFile *p, Spool *pSpool) {
  p->pSpool = pSpool;
  countWal(p, pSpool);
  Quiet q = quietLock(&mu);
  p->pNext = pFiles;
  p->ppPrev = &pFiles;
  if (pFiles) pFiles->ppPrev = &p->pNext;
  pFiles = p;
  quietUnlock(&mu, q);
  p->pFile->pMethods = &p->methods;
  if (!p->isWal && pSpool) recorderCountHandle(pSpool, 1);
}

void recorderSetSpool(RecorderFile *p, Spool *pSpool) {
  countWal(p, pSpool);
  Quiet q = quietLock(&mu); /* others look for it (recorderSpoolOfWal) */
  p->pSpool = pSpool;
  quietUnlock(&mu, q);
  if (!p->isWal && pSpool) recorderCountHandle(pSpool, 1);
}

void recorderLeaveSpool(RecorderFile *p) {
  Spool *pSpool = p->pSpool;
  if (!pSpool) return;
  Quiet q = quietLock(&mu); /* others look for it (recorderSpoolOfWal) */
  p->pSpool = 0;
  quietUnlock(&mu, q);
  if (p->isWal) atomic_fetch_sub(&pSpool->nWal, 1);
  else recorderCountHandle(pSpool, -1);
  spoolRelease(pSpool);
}

void recorderForget(RecorderFile *p) {
  Quiet q = quietLock(&mu);
  *p->ppPrev = p->pNext;
  if (p->pNext) p->pNext->ppPrev = p->ppPrev;
  perfAdd(aClosed, p->aPerf, OP_N);
  quietUnlock(&mu, q);
  belowClose(p->pRaw);
  sqlite3_free(p->zWhy);
  free(p->zSchema);
  free(p);
}

void recorderUnhook(RecorderFile *p) {
  p->pFile->pMethods = p->pBase;
  recorderForget(p);
}

/* ---- which file belongs to which ---- */

RecorderFile *recorderOtherOf(const RecorderFile *p) {
  if (p->isWal) return p->pMain;
  Quiet q = quietLock(&mu);
  RecorderFile *pOther = pFiles;
  while (pOther && !(pOther->isWal && pOther->pMain == p)) pOther = pOther->pNext;
  quietUnlock(&mu, q);
  return pOther;
}

RecorderFile *recorderAdopterOf(const RecorderFile *pWal) {
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && p->pWal != pWal) p = p->pNext;
  quietUnlock(&mu, q);
  return p;
}

void recorderSetWal(RecorderFile *p, RecorderFile *pWal) {
  pthread_mutex_lock(&mu);
  p->pWal = pWal;
  pthread_mutex_unlock(&mu);
}

int recorderHasIndex(const Spool *pSpool) {
  int found = 0;
  Quiet q = quietLock(&mu);
  for (RecorderFile *p = pFiles; p && !found; p = p->pNext)
    found = p->pSpool == pSpool && p->pIndex;
  quietUnlock(&mu, q);
  return found;
}

static int isWalOf(const char *zWal, const RecorderFile *p) {
  size_t n = strlen(p->zName);
  return !strncmp(zWal, p->zName, n) && !strcmp(zWal + n, "-wal");
}

/* After a database was replaced, both files may have handles here. SQLite opens a WAL just after
** the same thread has locked the database (pager.c, sqlite3PagerSharedLock and
** sqlite3PagerOpenWal): that handle's spool is the one. Failing that, it is the spool of the file
** that stands at the path. (SQLite could tell by the name's address, sqlite3_filename_database().
** But another shim may have made the name, and that function reads what lies before it.) */
Spool *recorderSpoolOfWal(const char *zWal) {
  size_t n = strlen(zWal);
  Spool *pSpool = 0;
  if (n <= 4 || strcmp(zWal + n - 4, "-wal")) return 0;
  Quiet q = quietLock(&mu);
  for (RecorderFile *p = pFiles; p; p = p->pNext) {
    /* not recorded */
    if (p == pRecorderLockedLast && !p->isWal && !p->pSpool && isWalOf(zWal, p)) {
      pSpool = 0;
      break;
    }
    if (p->isWal || !p->pSpool || atomic_load(&p->pSpool->isRefused)) continue;
    if (strncmp(p->pSpool->zPath, zWal, n - 4) || p->pSpool->zPath[n - 4]) continue;
    if (!pSpool || spoolLost(pSpool)) pSpool = p->pSpool;
    if (p != pRecorderLockedLast) continue;
    pSpool = p->pSpool;
    break;
  }
  if (pSpool) spoolRetain(pSpool);
  quietUnlock(&mu, q);
  return pSpool;
}

RecorderFile *recorderDatabaseOf(const char *zWal) {
  size_t n = strlen(zWal);
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && (p != pRecorderLockedLast || p->isWal)) p = p->pNext;
  quietUnlock(&mu, q);
  return p && n > 4 && !strncmp(p->zName, zWal, n - 4) && !p->zName[n - 4] ? p : 0;
}

/* ---- what all files together are asked ---- */

/* In WAL mode only the locks to write, to checkpoint and to recover keep others waiting; else every
** lock. */
static int excludes(const RecorderFile *p) {
  if (__atomic_load_n(&p->shmLocks, __ATOMIC_RELAXED) & SHM_EXCLUDES) return 1;
  return __atomic_load_n(&p->eLock, __ATOMIC_RELAXED) >= (p->pIndex ? SQLITE_LOCK_RESERVED
                                                          : SQLITE_LOCK_SHARED);
}

int recorderExcludes(void) {
  int nTry = 0, found = 0;
  while (pthread_mutex_trylock(&mu))
    if (++nTry == EXCLUDES_TRIES || sched_yield()) return 1;
  for (RecorderFile *p = pFiles; p && !found; p = p->pNext) found = !p->isWal && excludes(p);
  pthread_mutex_unlock(&mu);
  return found;
}

/* Whose connection it is need not be known: a handle learns anew that it gives up its locks. */
void durableLocking(void) {
  Quiet q = quietLock(&mu);
  for (RecorderFile *p = pFiles; p; p = p->pNext) __atomic_store_n(&p->durable.unlocks, 0, __ATOMIC_RELAXED);
  quietUnlock(&mu, q);
}

char *recorderPerf(void) {
  Perf a[OP_N] = {{0}};
  Quiet q = quietLock(&mu);
  perfAdd(a, aClosed, OP_N);
  for (RecorderFile *p = pFiles; p; p = p->pNext) perfAdd(a, p->aPerf, OP_N);
  quietUnlock(&mu, q);
  return perfJson(a, 0, OP_N);
}

/* ---- fork(): in a child, what a handle of its parent does is not recorded ---- */

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void afterFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
  for (RecorderFile *p = pFiles; p; p = p->pNext) {
    if (p->pSpool) p->pInherited = p->pSpool;
    p->pSpool = 0;
    if (p->awaits == AWAITS_SPOOL) p->awaits = AWAITS_NOTHING;
    p->txn.active = 0;
    p->pHeld = p->pCheckpoint = 0;
  }
}
__attribute__((constructor)) static void recorderFileLoad(void) {
  pthread_atfork(beforeFork, afterFork, childOfFork);
}
