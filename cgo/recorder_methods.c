/*
** The writer VFS's methods of files. Every method forwards to the base VFS; what changes a main
** database is also recorded in its changelog (spool_log.c), as spool/doc.go specifies. No method
** enters Go but xClose and our pragma.
**
** While a call is forwarded the process may be forked, by a handler of the host's or by what lies
** below. The child has no spool then (recorder_file.c): so p->pSpool is looked at again.
**
** The recorder's files, each above the ones before it:
**
**   perf              counts and times of methods
**   recorder_settings what the configuration says, and why a database is not recorded
**   recorder_go       what is asked of Go
**   recorder_file     open files, and their list
**   recorder_attach   whether a database is recorded, and why not
**   recorder_txn      transactions and WAL checkpoints
**   recorder_durable  commits that wait for targets
**   recorder_letgo    letting a database go that the base VFS stores in its own way
**   recorder_wal      the handles of WALs
**   recorder_control  file controls, our pragma
**   recorder_methods  the methods of files
**   recorder_vfs      the methods of the VFS; registration
**   adopt             databases that were open before
**
** recorder.h is what all other files see of it.
*/
#include "recorder_control.h"
#include "recorder_durable.h"
#include "recorder_go.h"
#include "recorder_letgo.h"
#include "recorder_txn.h"
#include "recorder_wal.h"
#include "spool_wal.h"
#include "unreplicated.h"
SQLITE_EXTENSION_INIT3

int recorderClose(sqlite3_file *pFile) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  recorderEndTransaction(p);
  recorderEndCheckpoint(p);
  recorderEndHold(p);
  if (p->flushOnClose && p->pSpool) recorderFlush(p->pSpool);
  if (p->isMeant) isReplicated(p->zName);
  RecorderFile *pMain = p->isWal ? recorderAdopterOf(p) : 0;
  int deletes = pMain && !pRecorderHooked && p->pSpool && pMain->deletesWal &&
      pMain->eLock == SQLITE_LOCK_EXCLUSIVE;
  if (pMain) recorderSetWal(pMain, 0);
  if (deletes) walBeforeReset(p->pSpool, 0); /* recorderDelete will not hear of that */
  pFile->pMethods = p->pBase; /* the base may clear it */
  FORWARD(p, OP_CLOSE, rc, xClose(pFile));
  if (deletes && p->pSpool) walAfterReset(p->pSpool, 0);
  recorderLeaveSpool(p); /* tells Go, now that no lock is held */
  recorderForget(p);
  return rc;
}

static int recorderRead(sqlite3_file *pFile, void *pBuf, int n, sqlite3_int64 iOfst) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_READ, rc, xRead(pFile, pBuf, n, iOfst));
  if (p->pRaw && rc == SQLITE_OK && recorderReadsOther(p, pBuf, n, iOfst)) return rc;
  if (rc == SQLITE_OK && iOfst <= 24 && p->pSpool && !p->isWal && !p->txn.active) {
    const unsigned char *a = counterIn(pBuf, n, iOfst);
    if (a) recorderSawVersion(p, versionOf(a));
  }
  return rc;
}

/* A write to the WAL. At offset 0 it is a new header, with which the old frames are lost (wal.c,
** sqlite3WalFrames and walRestartLog). */
static int writeWal(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  int rc, isHeader = iOfst == 0 && n >= 32;
  if (isHeader) walBeforeReset(p->pSpool, pBuf);
  FORWARD(p, OP_WRITE, rc, xWrite(p->pFile, pBuf, n, iOfst));
  if (!p->pSpool) return rc;
  if (p->pRaw && rc == SQLITE_OK && recorderStoresOther(p, pBuf, n, iOfst)) return rc;
  if (isHeader) walAfterReset(p->pSpool, pBuf);
  walWrote(p->pSpool, pBuf, n, iOfst);
  if (rc != SQLITE_OK && !recorderHasIndex(p->pSpool)) walFailed(p->pSpool);
  return rc;
}

static int recorderWrite(sqlite3_file *pFile, const void *pBuf, int n, sqlite3_int64 iOfst) {
  RecorderFile *p = fileOf(pFile);
  if (p->isWal && p->pSpool) return writeWal(p, pBuf, n, iOfst);
  int rec = recorderRecords(p), rc;
  FORWARD(p, OP_WRITE, rc, xWrite(pFile, pBuf, n, iOfst));
  if (p->pRaw && rc == SQLITE_OK && recorderStoresOther(p, pBuf, n, iOfst)) return rc;
  if (!rec || !p->pSpool) return rc;
  const unsigned char *a = counterIn(pBuf, n, iOfst);
  if (a) p->version = versionOf(a);
  if (rc == SQLITE_OK && iOfst + n > p->size) p->size = iOfst + n;
  if (rc != SQLITE_OK) recorderFailed(p);
  spoolWrite(p->pSpool, &p->txn, pBuf, n, iOfst);
  return rc;
}

static int recorderTruncate(sqlite3_file *pFile, sqlite3_int64 size) {
  RecorderFile *p = fileOf(pFile);
  int rec = recorderRecords(p), rc, endsWal = p->isWal && p->pSpool && size == 0;
  if (endsWal) walBeforeReset(p->pSpool, 0);
  FORWARD(p, OP_TRUNCATE, rc, xTruncate(pFile, size));
  if (endsWal && p->pSpool) walAfterReset(p->pSpool, 0);
  recorderEndCheckpoint(p); /* a checkpoint truncates last */
  if (!rec || !p->pSpool) return rc;
  /* CHUNK_SIZE rounds up (os_unix.c, unixTruncate): the length that the file has now is what
  ** counts */
  if (rc != SQLITE_OK) recorderFailed(p);
  if (p->chunked || rc != SQLITE_OK) {
    sqlite3_int64 actual;
    if (p->pBase->xFileSize(p->pFile, &actual) == SQLITE_OK) size = actual;
  }
  p->size = size;
  if (p->pSpool) spoolTruncate(p->pSpool, &p->txn, size);
  return rc;
}

static int recorderSync(sqlite3_file *pFile, int flags) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_SYNC, rc, xSync(pFile, flags));
  if (rc != SQLITE_OK && p->isWal && p->pSpool && !recorderHasIndex(p->pSpool))
    walFailed(p->pSpool);
  return rc;
}

static int recorderFileSize(sqlite3_file *pFile, sqlite3_int64 *pSize) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_FILESIZE, rc, xFileSize(pFile, pSize));
  if (rc == SQLITE_OK && !p->txn.active && p->eLock >= SQLITE_LOCK_SHARED) p->size = *pSize;
  return rc;
}

static int recorderLock(sqlite3_file *pFile, int eLock) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (p->awaits) recorderAwaitedLock(p, eLock);
  FORWARD(p, OP_LOCK, rc, xLock(pFile, eLock));
  pRecorderLockedLast = p;
  if (rc != SQLITE_OK) return rc;
  /* its WAL, perhaps */
  int closes = eLock == SQLITE_LOCK_EXCLUSIVE && p->eLock == SQLITE_LOCK_SHARED;
  p->eLock = eLock;
  recorderBeginHold(p);
  if (closes && recorderLacksWal(p)) recorderAdoptWal(p);
  return rc;
}

static int recorderUnlock(sqlite3_file *pFile, int eLock) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  recorderEndCheckpoint(p);
  if (eLock < SQLITE_LOCK_RESERVED && p->txn.active) {
    if (recorderJournalIsHot(p) && p->pSpool) recorderFailed(p);
    recorderEndTransaction(p);
  }
  if (eLock < SQLITE_LOCK_SHARED) {
    p->version = 0;
    p->size = -1;
  }
  if (eLock < SQLITE_LOCK_RESERVED) recorderEndHold(p);
  p->eLock = eLock;
  FORWARD(p, OP_UNLOCK, rc, xUnlock(pFile, eLock));
  durableUnlocked(p, eLock);
  return rc;
}

static int recorderCheckReservedLock(sqlite3_file *pFile, int *pRes) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_CHECKRESERVED, rc, xCheckReservedLock(pFile, pRes));
  return rc;
}

static int recorderSectorSize(sqlite3_file *pFile) {
  return fileOf(pFile)->pBase->xSectorSize(pFile);
}

static int recorderDeviceCharacteristics(sqlite3_file *pFile) {
  return fileOf(pFile)->pBase->xDeviceCharacteristics(pFile);
}

static int recorderShmMap(sqlite3_file *pFile, int iRegion, int szRegion, int isWrite,
                          void volatile **pp) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_SHMMAP, rc, xShmMap(pFile, iRegion, szRegion, isWrite, pp));
  if (iRegion == 0) p->pIndex = rc == SQLITE_OK ? *pp : 0;
  return rc;
}

static int recorderShmLock(sqlite3_file *pFile, int iFirst, int n, int flags) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (p->awaits && flags & SQLITE_SHM_LOCK) recorderTrySpool(p, 0);
  /* slot 1 is the CKPT lock */
  if (iFirst <= 1 && iFirst + n > 1 && flags & SQLITE_SHM_UNLOCK) recorderEndCheckpoint(p);
  if (iFirst == 0 && p->pSpool && p->pIndex &&
      flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE)) { /* the WRITE lock, and still ours */
    durableBefore(p, p->pSpool->st, atomic_load(&p->pSpool->st->sequence) + 1);
    if (walUnlock(p->pSpool, p->pIndex)) {
      recorderValidate(p->pSpool);
      durableOwe(p);
    }
  }
  FORWARD(p, OP_SHMLOCK, rc, xShmLock(pFile, iFirst, n, flags));
  if (rc == SQLITE_OK && flags & SQLITE_SHM_EXCLUSIVE) {
    int mask = ((1 << n) - 1) << iFirst;
    p->shmLocks = flags & SQLITE_SHM_LOCK ? p->shmLocks | mask : p->shmLocks & ~mask;
  }
  if (iFirst <= 1 && rc == SQLITE_OK && flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) &&
      recorderLacksWal(p))
    recorderAdoptWal(p);
  if (iFirst == 0 && rc == SQLITE_OK && p->pSpool && p->pIndex &&
      flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE))
    walNote(p->pSpool, p->pIndex);
  return rc;
}

static void recorderShmBarrier(sqlite3_file *pFile) { fileOf(pFile)->pBase->xShmBarrier(pFile); }

static int recorderShmUnmap(sqlite3_file *pFile, int deleteFlag) {
  RecorderFile *p = fileOf(pFile);
  /* the last connection, which deletes the WAL next: it holds the database EXCLUSIVE */
  if (deleteFlag && p->pSpool && p->pIndex) walNote(p->pSpool, p->pIndex);
  p->pIndex = 0;
  return p->pBase->xShmUnmap(pFile, deleteFlag);
}

static int recorderFetch(sqlite3_file *pFile, sqlite3_int64 iOfst, int n, void **pp) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_FETCH, rc, xFetch(pFile, iOfst, n, pp));
  return rc;
}

static int recorderUnfetch(sqlite3_file *pFile, sqlite3_int64 iOfst, void *pPage) {
  return fileOf(pFile)->pBase->xUnfetch(pFile, iOfst, pPage);
}

const sqlite3_io_methods recorderMethods = {
  3, recorderClose, recorderRead, recorderWrite, recorderTruncate, recorderSync, recorderFileSize,
  recorderLock, recorderUnlock, recorderCheckReservedLock, recorderFileControl, recorderSectorSize,
  recorderDeviceCharacteristics, recorderShmMap, recorderShmLock, recorderShmBarrier,
  recorderShmUnmap, recorderFetch, recorderUnfetch,
};
