/*
** File controls of a database in a store, and its pragmas.
*/
#include "remote_file.h"
#include "pragma.h"
#include "remote_goexports.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>

/* sqlite3_txn_state() came with 3.34, sqlite3_db_name() with 3.39. */
#define HAS_DB_NAME 3039000

/* The index of the database "temp" in a connection. */
#define TEMP_SCHEMA 1

/* Is this the only database that the connection's transaction has written to? If another one fails,
** this one is to be rolled back after its SYNC (vdbeaux.c, vdbeCommit). */
static int isAlone(const RemoteFile *p) {
  sqlite3 *db = p->ppDb ? *p->ppDb : 0;
  const char *zSchema;
  int nWriting = 0;
  if (!db || sqlite3_libversion_number() < HAS_DB_NAME) return 0;
  for (int i = 0; (zSchema = sqlite3_db_name(db, i)) != 0; i++)
    if (i != TEMP_SCHEMA && sqlite3_txn_state(db, zSchema) == SQLITE_TXN_WRITE) nWriting++;
  return nWriting <= 1;
}

/* All pages are written: the transaction commits, or was rolled back (M3, M4). Others may write on
** top of it before it is durable if SQLite is going to unlock, whatever happens: not under
** locking_mode=exclusive, of which an attached database hears only by not being unlocked. */
static int syncAny(RemoteFile *p, const char *zSuper) {
  if (p->eFailure) { /* M4 */
    int rc = p->eFailure == FAILURE_FAILED ? SQLITE_IOERR_FSYNC : SQLITE_OK;
    p->eFailure = FAILURE_DROPPED;
    return rc;
  }
  if (p->pWal || !p->pOverlay || !overlayIsUsed(p->pOverlay)) return SQLITE_OK;
  if (p->pPlayed) { /* J3 */
    remoteDrop(p);
    return SQLITE_OK;
  }
  return remoteCommit(p, !zSuper && p->hasUnlocked && !p->hasLockingMode && isAlone(p));
}

/* Pragmas of ours change no open transaction. */
static char *heldBy(const RemoteFile *p) {
  if (p->isPinned) return sqlite3_mprintf("the database is open with immutable=1 or nolock=1, and stays at its version");
  if (p->eLock != SQLITE_LOCK_NONE) return sqlite3_mprintf("a transaction is open on the database, or locking_mode=exclusive keeps its lock");
  return 0;
}

static int pragmaOurs(RemoteFile *p, int pragma, char **pzOut) {
  RemotePlace place = {0};
  char *z = 0;
  int rc, flushes = pragma == PRAGMA_FLUSH; /* which moves to no other version */
  if (!flushes && (*pzOut = heldBy(p)) != 0) return SQLITE_LOCKED;
  if (!remoteGo(p)) return SQLITE_ERROR;
  if (flushes) {
    rc = goRemoteFlush(p->hConn, p->ppDb, &z);
    if (rc == SQLITE_OK && p->eOutcome == OUTCOME_PENDING) p->eOutcome = OUTCOME_LATE;
  }
  else if (pragma == PRAGMA_REMOTE_REFRESH) rc = goRemoteRefresh(p->hConn, p->ppDb, &place, &z);
  else rc = goRemoteRelease(p->hConn, p->ppDb, &z);
  remoteMoved(p, &place);
  if (z || rc == SQLITE_OK) *pzOut = sqlite3_mprintf("%s", z ? z : flushes ? "1" : "ok");
  free(z);
  return *pzOut || rc != SQLITE_OK ? rc : SQLITE_NOMEM;
}

/* PRAGMA verneuil_durable: a COMMIT waits for the store, whatever is asked for, but with
** synchronous=OFF, which is for another pragma to change. */
static int pragmaDurable(const RemoteFile *p, char **azArg) {
  const char *z = azArg[2];
  int mode = z ? durableMode(z) : DURABLE_OFF;
  if (mode < 0) {
    azArg[0] = durableRefusal(z);
    return SQLITE_ERROR;
  }
  if (mode != DURABLE_OFF && p->isUnsynced) {
    azArg[0] = sqlite3_mprintf("verneuil_durable: with synchronous=OFF a COMMIT does not wait for the store: set synchronous=NORMAL");
    return SQLITE_ERROR;
  }
  azArg[0] = sqlite3_mprintf("%s", durableName(p->isUnsynced ? DURABLE_OFF : DURABLE_ALL));
  return SQLITE_OK;
}

/* PRAGMA verneuil_durable_outcome. What a flush has not waited for, nobody here knows to be stored. */
static char *outcome(const RemoteFile *p) {
  static const char *const az[] = {
    [OUTCOME_NONE] = OUTCOME_NONE_TEXT, [OUTCOME_STORED] = OUTCOME_STORED_TEXT, [OUTCOME_LATE] = OUTCOME_LATE_TEXT,
    [OUTCOME_PENDING] = "pending: with synchronous=OFF a COMMIT does not wait; pragma verneuil_flush_replication_data does",
    [OUTCOME_FAILED] = "failed: the last COMMIT was an error, which says what became of it",
  };
  return sqlite3_mprintf("%s", az[p->eOutcome]);
}

static int pragmaAny(RemoteFile *p, char **azArg) {
  int pragma = pragmaOf(azArg[1], BY_REMOTE);
  switch (pragma) {
    case PRAGMA_OTHER: break;
    case PRAGMA_DURABLE: return pragmaDurable(p, azArg);
    case PRAGMA_DURABLE_OUTCOME: azArg[0] = outcome(p); return SQLITE_OK;
    default: return pragmaOurs(p, pragma, &azArg[0]);
  }
  if (azArg[2] && !sqlite3_stricmp(azArg[1], "locking_mode")) p->hasLockingMode = 1;
  if (azArg[2] && !sqlite3_stricmp(azArg[1], "synchronous")) p->isUnsynced = booleanOf(azArg[2]) == 0;
  return SQLITE_NOTFOUND;
}

/* A flag that a file control sets, if it is not negative, and then tells. */
static int flagAny(int *pFlag, int *pArg) {
  if (*pArg >= 0) *pFlag = *pArg != 0;
  *pArg = *pFlag;
  return SQLITE_OK;
}

static int controlAny(RemoteFile *p, int op, void *pArg) {
  int one = 1;
  switch (op) {
    case SQLITE_FCNTL_SYNC:
      return syncAny(p, pArg);
    case SQLITE_FCNTL_PRAGMA:
      return pragmaAny(p, pArg);
    case SQLITE_FCNTL_VFSNAME:
      *(char **)pArg = sqlite3_mprintf("verneuil_remote");
      return *(char **)pArg ? SQLITE_OK : SQLITE_NOMEM;
    case SQLITE_FCNTL_LOCKSTATE:
      *(int *)pArg = p->eLock;
      return SQLITE_OK;
    case SQLITE_FCNTL_LAST_ERRNO:
      *(int *)pArg = 0;
      return SQLITE_OK;
    case SQLITE_FCNTL_PDB: /* once, from sqlite3BtreeOpen(): where the connection is found, also in a shared cache */
      p->ppDb = pArg;
      return SQLITE_OK;
    case SQLITE_FCNTL_BUSYHANDLER: /* likewise */
      p->xBusy = (int (*)(void *))((void **)pArg)[0];
      p->pBusy = ((void **)pArg)[1];
      return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
    case SQLITE_FCNTL_EXTERNAL_READER:
      *(int *)pArg = 0;
      return SQLITE_OK;
    case SQLITE_FCNTL_PERSIST_WAL:
      return flagAny(&p->persistsWal, pArg);
    case SQLITE_FCNTL_POWERSAFE_OVERWRITE: /* which it is, whoever says otherwise */
      *(int *)pArg = -1;
      return flagAny(&one, pArg);
    case SQLITE_FCNTL_SIZE_HINT:
    case SQLITE_FCNTL_CHUNK_SIZE:
      return SQLITE_OK;
  }
  return SQLITE_NOTFOUND;
}

int remoteFileControl(sqlite3_file *pFile, int op, void *pArg) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_FILECONTROL], 1, rc, controlAny(p, op, pArg));
  return rc;
}
