/*
** Adoption: see adopt.h. Recording can begin whenever the database's connection is in no
** transaction. What was committed before is in the file, and the base copy has it, as it has what
** processes write that do not load the extension.
**
** The base's structure stays where it is, with its locks and mappings; only its methods become
** ours. So neither the connection nor others are disturbed. But the recorder has to learn what it
** would have seen: which lock is held, and the WAL, if it is open.
*/
#include "adopt.h"
#include "base.h"
#include "below.h"
#include "config.h"
#include "recorder.h"
#include "recorder_attach.h"
#include "recorder_go.h"
#include "recorder_wal.h"
#include "snapshot.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

/* SQLite maps the wal-index in pieces of this size (wal.c, WALINDEX_PGSZ). */
#define WAL_INDEX_REGION 32768

/* Is the connection in a transaction on that database? */
static int inTransaction(sqlite3 *db, const char *zSchema) {
  if (sqlite3_libversion_number() >= 3034000)
    return sqlite3_txn_state(db, zSchema) != SQLITE_TXN_NONE;
  for (sqlite3_stmt *p = sqlite3_next_stmt(db, 0); p; p = sqlite3_next_stmt(db, p))
    if (sqlite3_stmt_busy(p)) return 1;
  return !sqlite3_get_autocommit(db);
}

/* May connections of other threads use the very same file handle? */
static int isShared(sqlite3 *db, const char *zName) {
  int used = 0, share = 0, high;
  const char *z = sqlite3_uri_parameter(zName, "cache");
  if (z && !sqlite3_stricmp(z, "shared")) return 1;
  sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_USED, &used, &high, 0);
  sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_USED_SHARED, &share, &high, 0);
  return share < used;
}

/* Why the database must not be adopted now; NULL: it may be. *pLock becomes the lock that it
** holds. */
static const char *why(sqlite3 *db, const char *zSchema, const char *zName, int *pLock) {
  sqlite3_file *pWal = 0;
  if (inTransaction(db, zSchema))
    return "the extension was loaded in a transaction: load it before one, or reopen the database";
  if (isShared(db, zName)) return "it is in a shared cache: open it after you load the extension";
  if (sqlite3_file_control(db, zSchema, SQLITE_FCNTL_LOCKSTATE, pLock) != SQLITE_OK ||
      *pLock > SQLITE_LOCK_SHARED)
    return "locking_mode=EXCLUSIVE was in force when the extension was loaded: reopen the database";
  if (*pLock == SQLITE_LOCK_SHARED &&
      (sqlite3_file_control(db, zSchema, SQLITE_FCNTL_JOURNAL_POINTER, &pWal) != SQLITE_OK ||
       !pWal || !pWal->pMethods))
    return "it was locked when the extension was loaded: reopen the database";
  return 0;
}

/* Hooks a database that SQLite's own VFS has opened. If zWhy is NULL it is recorded from now on:
** its connection is in no transaction, and holds SHARED, if its WAL is open, or no lock. Otherwise
** our pragma says zWhy. */
static void adoptFile(sqlite3 *db, const char *zSchema, const char *zName, sqlite3_file *pFile,
                      int eLock, const char *zWhy) {
  recorderConfigure();
  if (recorderSettings.replicaFiles && snapshotIsReplicaFile(pFile)) return;
  RecorderFile *p = recorderHook(pFile, zName, 0);
  if (!p || !(p->zSchema = strdup(zSchema))) {
    free(p);
    return;
  }
  p->db = db;
  p->ppDb = &p->db;
  p->eLock = eLock;
  p->chunked = p->mapped = 1; /* perhaps: file controls may have come before us */
  Spool *pSpool = 0;
  if (zWhy) recorderNoteWhy(p, sqlite3_mprintf("%s", zWhy));
  else pSpool = recorderAttach(p, SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_URI,
                               sqlite3_db_readonly(db, zSchema) ? SQLITE_OPEN_READONLY : 0, 1);
  recorderUseHook(p, pSpool);
  if ((!pSpool && p->awaits != AWAITS_SPOOL) || eLock != SQLITE_LOCK_SHARED) return;
  void volatile *pIndex = 0; /* it is mapped */
  if (p->pBase->xShmMap(pFile, 0, WAL_INDEX_REGION, 0, &pIndex) == SQLITE_OK) p->pIndex = pIndex;
  recorderAdoptWal(p);
}

static void adopt(sqlite3 *db, const char *zSchema) {
  const char *zName = sqlite3_db_filename(db, zSchema);
  sqlite3_vfs *pVfs = 0;
  sqlite3_file *pFile = 0;
  int eLock = SQLITE_LOCK_NONE;
  /* a URI that names a VFS means it */
  if (!zName || !*zName || sqlite3_uri_parameter(zName, "vfs")) return;
  if (sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFS_POINTER, &pVfs) != SQLITE_OK ||
      !recorderOpens(pVfs))
    return;
  if (sqlite3_file_control(db, zSchema, SQLITE_FCNTL_FILE_POINTER, &pFile) != SQLITE_OK || !pFile ||
      !pFile->pMethods)
    return;
  if (pFile->pMethods->xClose == recorderClose) return;
  const char *zWhy = why(db, zSchema, zName, &eLock);
  adoptFile(db, zSchema, zName, pFile, eLock, zWhy);
}

void adoptAll(sqlite3 *db) {
  sqlite3_stmt *pStmt = 0;
  /* SQLite's own VFS does not look at its files' methods; of others we do not know that (I8) */
  if (!verneuilConfig.makeDefault || !belowIsOwn(verneuilBase) ||
      sqlite3_libversion_number() < 3031000)
    return;
  sqlite3_mutex_enter(sqlite3_db_mutex(db));
  adopt(db, "main");
  if (sqlite3_prepare_v2(db, "PRAGMA database_list", -1, &pStmt, 0) == SQLITE_OK) {
    while (sqlite3_step(pStmt) == SQLITE_ROW) {
      const char *zSchema = (const char *)sqlite3_column_text(pStmt, 1);
      if (zSchema && sqlite3_column_int(pStmt, 0) > 1) adopt(db, zSchema);
    }
  }
  sqlite3_finalize(pStmt);
  sqlite3_mutex_leave(sqlite3_db_mutex(db));
}
