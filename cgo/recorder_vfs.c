/*
** The writer VFS itself: what it opens and deletes, and how it is registered.
**
** Files that are no databases (journals, temporary and in-memory files) are left to the base VFS. A
** database is hooked even if it is not recorded: then our pragma says why.
*/
#include "base.h"
#include "below.h"
#include "log.h"
#include "pragma.h"
#include "recorder.h"
#include "recorder_attach.h"
#include "recorder_durable.h"
#include "recorder_go.h"
#include "recorder_letgo.h"
#include "recorder_wal.h"
#include "snapshot.h"
#include "spool_attach.h"
#include "spool_wal.h"
#include "unreplicated.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>

/* What the URI says of durable commits: DURABLE_..; -1: no such word. */
static int durableOf(const char *zName, int flags) {
  const char *z = flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(zName, "verneuil_durable") : 0;
  int mode = z ? durableMode(z) : DURABLE_OFF;
  if (mode < 0)
    verneuilLogOf(VERNEUIL_ERROR, zName, "the URI says verneuil_durable=%s, and that is none of on, off, all and any", z);
  return mode;
}

/* Hooks a database that the base has opened, and records it if it may be. */
static void recordMain(const char *zName, sqlite3_file *pFile, int flags, int outFlags,
                       int byDefault, int durable) {
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
    p->durable.mode = durable;
    recorderUseHook(p, pSpool);
    return;
  }
  belowClose(pRaw);
  notReplicated(zName, zWhy ? zWhy : "out of memory");
  sqlite3_free(zWhy);
}

static int openFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags,
                    int byDefault) {
  int isMain = zName && (flags & SQLITE_OPEN_MAIN_DB) && !(flags & SQLITE_OPEN_MEMORY);
  int outFlags = 0, durable = isMain ? durableOf(zName, flags) : DURABLE_OFF;
  if (durable < 0) {
    pFile->pMethods = 0;
    return SQLITE_CANTOPEN;
  }
  if (isMain) recorderConfigure();
  int rc = verneuilBase->xOpen(verneuilBase, zName, pFile, flags, &outFlags);
  if (pOutFlags) *pOutFlags = outFlags;
  if (rc != SQLITE_OK || !pFile->pMethods) return rc;
  if (isMain && recorderSettings.replicaFiles && snapshotIsReplicaFile(pFile)) {
    pFile->pMethods->xClose(pFile);
    return snapshotOpenReplicaFile(zName, pFile, flags, pOutFlags);
  }
  if (isMain) recordMain(zName, pFile, flags, outFlags, byDefault, durable);
  if (!zName || !(flags & SQLITE_OPEN_WAL)) return rc;
  return recorderOpenWal(zName, pFile);
}

static _Atomic int isDefault;    /* the VFS called verneuil is the process's default */

static int recorderOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags,
                        int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, isDefault);
}

/* The last connection closes the WAL and then deletes it, while it still holds the database's
** EXCLUSIVE lock (wal.c, sqlite3WalClose). */
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

static sqlite3_vfs recorderVfs = {
  .iVersion = 3, .zName = "verneuil", .xOpen = recorderOpen, .xDelete = recorderDelete,
};

int recorderRegister(int makeDefault) {
  sqlite3_vfs *p = &recorderVfs;
  if (!p->szOsFile) {
    p->szOsFile = snapshotFileBytes(); /* a replica file is opened in the same place */
    baseComplete(p);
    recorderBaseIsOwn = belowIsOwn(verneuilBase);
  }
  isDefault = isDefault || makeDefault;
  return sqlite3_vfs_register(p, makeDefault);
}

int recorderIs(const sqlite3_vfs *pVfs) { return pVfs == &recorderVfs; }

int recorderOpens(const sqlite3_vfs *pVfs) {
  return pVfs && (pVfs == pRecorderHooked || pVfs == verneuilBase);
}

/* ---- the default VFS, where it stands ---- */

/* SQLite finds a shared cache by the file's name and the pointer to its VFS (sqlite3BtreeOpen),
** also for databases in memory, of which no VFS is told. Another default VFS would split those that
** are shared. So the default VFS stays what it was, and only its xOpen and xDelete lead to us. */
static sqlite3_vfs asItWas;

static int hookedOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags,
                      int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, 1);
}

/* SQLite's own VFS for files does not care where its structure lies, so a copy of that serves as
** the base. Of other VFSes we do not know that. */
int recorderHookDefault(void) {
  sqlite3_vfs *pVfs = verneuilBase;
  if (pRecorderHooked) return 1;
  if (!belowIsOwn(pVfs) || pVfs->szOsFile < snapshotFileBytes()) return 0;
  recorderBaseIsOwn = 1;
  asItWas = *pVfs;
  verneuilBase = &asItWas;
  pRecorderHooked = pVfs;
  /* other threads may be calling them */
  __atomic_store_n(&pVfs->xDelete, recorderDelete, __ATOMIC_RELEASE);
  __atomic_store_n(&pVfs->xOpen, hookedOpen, __ATOMIC_RELEASE);
  return 1;
}
