/*
** The writer VFS itself: what it opens and deletes, and how it is registered.
**
** Files that are no databases (journals, temporary and in-memory files) are the base VFS's own. A database
** that is not recorded is hooked, too, to say why.
*/
#include "recorder.h"
#include "below.h"
#include "log.h"
#include "recorder_attach.h"
#include "recorder_letgo.h"
#include "recorder_go.h"
#include "recorder_wal.h"
#include "snapshot.h"
#include "spool_wal.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>

/* Records a database that the base has opened, if it may be. */
static void recordMain(const char *zName, sqlite3_file *pFile, int flags, int outFlags, int byDefault) {
  sqlite3_file *pRaw = recorderBaseIsOwn ? 0 : belowOpen(zName, SQLITE_OPEN_MAIN_DB);
  char *zWhy = recorderBaseIsOwn ? 0 : belowRefuses(pFile, pRaw, verneuilBase->zName);
  RecorderFile *p = zWhy ? 0 : recorderHook(pFile, zName, 0);
  Spool *pSpool = p ? recorderAttach(p, flags, outFlags, byDefault) : 0;
  if (pSpool && atomic_load(&pSpool->isRefused)) { /* another handle has found out */
    spoolRelease(pSpool);
    free(p);
    p = 0;
    zWhy = sqlite3_mprintf("%s", zRecorderStoresOther);
  }
  if (p) {
    p->pRaw = pRaw;
    recorderUseHook(p, pSpool);
    return;
  }
  belowClose(pRaw);
  notReplicated(zName, zWhy ? zWhy : "out of memory");
  sqlite3_free(zWhy);
}

static int openFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags, int byDefault) {
  int isMain = zName && (flags & SQLITE_OPEN_MAIN_DB) && !(flags & SQLITE_OPEN_MEMORY), outFlags = 0;
  if (isMain) recorderConfigure();
  int rc = verneuilBase->xOpen(verneuilBase, zName, pFile, flags, &outFlags);
  if (pOutFlags) *pOutFlags = outFlags;
  if (rc != SQLITE_OK || !pFile->pMethods) return rc;
  if (isMain && recorderSettings.replicaFiles && snapshotIsReplicaFile(pFile)) {
    pFile->pMethods->xClose(pFile);
    return snapshotOpenReplicaFile(zName, pFile, flags, pOutFlags);
  }
  if (isMain) recordMain(zName, pFile, flags, outFlags, byDefault);
  if (!zName || !(flags & SQLITE_OPEN_WAL)) return rc;
  return recorderOpenWal(zName, pFile);
}

static _Atomic int isDefault;    /* the VFS called verneuil is the process's default */

static int recorderOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, isDefault);
}

/* The last connection deletes the WAL, after it has closed it, while it still
** holds the database's EXCLUSIVE lock (wal.c, sqlite3WalClose). */
static int recorderDelete(sqlite3_vfs *pVfs, const char *zName, int syncDir) {
  (void)pVfs;
  Spool *pSpool = recorderSpoolOfWal(zName);
  if (pSpool) walBeforeReset(pSpool, 0);
  int rc = verneuilBase->xDelete(verneuilBase, zName, syncDir);
  if (pSpool) {
    walAfterReset(pSpool, 0);
    spoolRelease(pSpool);
  }
  return rc;
}
static int recorderAccess(sqlite3_vfs *pVfs, const char *zName, int flags, int *pRes) {
  (void)pVfs;
  return verneuilBase->xAccess(verneuilBase, zName, flags, pRes);
}
static int recorderFullPathname(sqlite3_vfs *pVfs, const char *zName, int n, char *zOut) {
  (void)pVfs;
  return verneuilBase->xFullPathname(verneuilBase, zName, n, zOut);
}
static void *recorderDlOpen(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xDlOpen(verneuilBase, zName);
}
static void recorderDlError(sqlite3_vfs *pVfs, int n, char *zMsg) {
  (void)pVfs;
  verneuilBase->xDlError(verneuilBase, n, zMsg);
}
static void (*recorderDlSym(sqlite3_vfs *pVfs, void *p, const char *zSym))(void) {
  (void)pVfs;
  return verneuilBase->xDlSym(verneuilBase, p, zSym);
}
static void recorderDlClose(sqlite3_vfs *pVfs, void *p) {
  (void)pVfs;
  verneuilBase->xDlClose(verneuilBase, p);
}
static int recorderRandomness(sqlite3_vfs *pVfs, int n, char *z) {
  (void)pVfs;
  return verneuilBase->xRandomness(verneuilBase, n, z);
}
static int recorderSleep(sqlite3_vfs *pVfs, int us) {
  (void)pVfs;
  return verneuilBase->xSleep(verneuilBase, us);
}
static int recorderCurrentTime(sqlite3_vfs *pVfs, double *p) {
  (void)pVfs;
  return verneuilBase->xCurrentTime(verneuilBase, p);
}
static int recorderGetLastError(sqlite3_vfs *pVfs, int n, char *z) {
  (void)pVfs;
  return verneuilBase->xGetLastError ? verneuilBase->xGetLastError(verneuilBase, n, z) : 0;
}
static int recorderCurrentTimeInt64(sqlite3_vfs *pVfs, sqlite3_int64 *p) {
  (void)pVfs;
  return verneuilBase->xCurrentTimeInt64(verneuilBase, p);
}
static int recorderSetSystemCall(sqlite3_vfs *pVfs, const char *zName, sqlite3_syscall_ptr pCall) {
  (void)pVfs;
  return verneuilBase->xSetSystemCall(verneuilBase, zName, pCall);
}
static sqlite3_syscall_ptr recorderGetSystemCall(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xGetSystemCall(verneuilBase, zName);
}
static const char *recorderNextSystemCall(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xNextSystemCall(verneuilBase, zName);
}

static sqlite3_vfs recorderVfs = {
  .iVersion = 3, .zName = "verneuil", .xOpen = recorderOpen, .xDelete = recorderDelete,
  .xAccess = recorderAccess, .xFullPathname = recorderFullPathname, .xDlOpen = recorderDlOpen,
  .xDlError = recorderDlError, .xDlSym = recorderDlSym, .xDlClose = recorderDlClose,
  .xRandomness = recorderRandomness, .xSleep = recorderSleep, .xCurrentTime = recorderCurrentTime,
  .xGetLastError = recorderGetLastError, .xCurrentTimeInt64 = recorderCurrentTimeInt64,
  .xSetSystemCall = recorderSetSystemCall, .xGetSystemCall = recorderGetSystemCall,
  .xNextSystemCall = recorderNextSystemCall,
};

int recorderRegister(int makeDefault) {
  sqlite3_vfs *p = &recorderVfs;
  if (!p->szOsFile) {
    if (verneuilBase->iVersion < p->iVersion) p->iVersion = verneuilBase->iVersion;
    if (p->iVersion >= 2 && !verneuilBase->xCurrentTimeInt64) p->xCurrentTimeInt64 = 0;
    if (p->iVersion >= 3 && !verneuilBase->xSetSystemCall) p->xSetSystemCall = 0;
    if (p->iVersion >= 3 && !verneuilBase->xGetSystemCall) p->xGetSystemCall = 0;
    if (p->iVersion >= 3 && !verneuilBase->xNextSystemCall) p->xNextSystemCall = 0;
    p->mxPathname = verneuilBase->mxPathname;
    p->szOsFile = verneuilBase->szOsFile < snapshotFileBytes() ? snapshotFileBytes() : verneuilBase->szOsFile;
    recorderBaseIsOwn = belowIsOwn(verneuilBase);
  }
  isDefault = isDefault || makeDefault;
  return sqlite3_vfs_register(p, makeDefault);
}

int recorderIs(const sqlite3_vfs *pVfs) { return pVfs == &recorderVfs; }

int recorderOpens(const sqlite3_vfs *pVfs) { return pVfs && (pVfs == pRecorderHooked || pVfs == verneuilBase); }

/* ---- the default VFS, where it stands ---- */

/* SQLite finds a shared cache by its file's name and the pointer to its VFS (sqlite3BtreeOpen), also
** of databases in memory, of which no VFS is told: another default VFS would split those that are shared. So
** the default VFS stays the one that it was, and only its way to open and to delete files leads to us. */
static sqlite3_vfs asItWas;

static int hookedOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, 1);
}

/* SQLite's own VFS for files does not look at where its structure lies, so that a copy does. Of
** another one nobody knows. */
int recorderHookDefault(void) {
  sqlite3_vfs *pVfs = verneuilBase;
  if (pRecorderHooked) return 1;
  if (!belowIsOwn(pVfs) || pVfs->szOsFile < snapshotFileBytes()) return 0;
  recorderBaseIsOwn = 1;
  asItWas = *pVfs;
  verneuilBase = &asItWas;
  pRecorderHooked = pVfs;
  __atomic_store_n(&pVfs->xDelete, recorderDelete, __ATOMIC_RELEASE); /* other threads may be about to call them */
  __atomic_store_n(&pVfs->xOpen, hookedOpen, __ATOMIC_RELEASE);
  return 1;
}
