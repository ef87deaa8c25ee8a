/*
** File controls: those of SQLite that tell the recorder something, our pragma, and a question of
** ours.
*/
#include "recorder_control.h"
#include "pragma.h"
#include "recorder.h"
#include "recorder_durable.h"
#include "recorder_go.h"
#include "recorder_txn.h"
#include "recorder_wal.h"
#include "selection.h"
#include "spool_wal.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

/* SQLITE_FCNTL_CKPT_DONE, of SQLite 3.31 and later. */
#define FCNTL_CKPT_DONE 37

/* PRAGMA verneuil_flush_replication_data: none, now, force or 2 push and answer
** 1 or 0; a boolean sets flush on close and answers what it was. Where there is nobody to push,
** it is an error. */
static int pragmaFlush(RecorderFile *p, char **azArg) {
  const char *z = azArg[2];
  int pushes = !z || !*z || !sqlite3_stricmp(z, "now") || !sqlite3_stricmp(z, "force") ||
      !strcmp(z, "2");
  int value = pushes ? 1 : booleanOf(z), result;
  if (value < 0) {
    azArg[0] = sqlite3_mprintf("verneuil_flush_replication_data: \"%s\" is neither now nor force "
                               "nor a boolean", z);
    return SQLITE_ERROR;
  }
  char *zWhy = value ? recorderWhyNot(p) : 0;
  if (zWhy) {
    azArg[0] = sqlite3_mprintf("%s is not replicated: %z", p->zName, zWhy);
    return SQLITE_ERROR;
  }
  if (pushes) {
    result = recorderFlush(p->pSpool);
  } else {
    result = p->flushOnClose;
    p->flushOnClose = value;
  }
  azArg[0] = sqlite3_mprintf("%d", result);
  return SQLITE_OK;
}

/* PRAGMA verneuil_durable: sets whether commits wait for targets, and answers the mode. */
static int pragmaDurable(RecorderFile *p, char **azArg) {
  const char *z = azArg[2];
  int mode = z ? durableMode(z) : p->durable.mode;
  if (mode < 0) {
    azArg[0] = durableRefusal(z);
    return SQLITE_ERROR;
  }
  char *zWhy = z && mode ? recorderWhyNot(p) : 0;
  if (zWhy) {
    azArg[0] = sqlite3_mprintf("%s is not replicated: %z", p->zName, zWhy);
    return SQLITE_ERROR;
  }
  p->durable.mode = mode;
  azArg[0] = sqlite3_mprintf("%s", durableName(mode));
  return SQLITE_OK;
}

static int answerPragma(RecorderFile *p, char **azArg, int *pRc) {
  *pRc = SQLITE_OK;
  switch (pragmaOf(azArg[1], BY_RECORDER)) {
    case PRAGMA_FLUSH: *pRc = pragmaFlush(p, azArg); return 1;
    case PRAGMA_DURABLE: *pRc = pragmaDurable(p, azArg); return 1;
    case PRAGMA_DURABLE_OUTCOME: azArg[0] = durableOutcome(p); return 1;
  }
  if (!sqlite3_stricmp(azArg[1], "locking_mode") && azArg[2]) durableLocking();
  return 0;
}

/* The file control by which the SQL functions reach a recorder. SQLite leaves numbers above 100
** to others, and a VFS above ours passes on what it does not know. */
#define RECORDER_QUESTION 0x56724e51

static void answer(RecorderFile *p, RecorderQuestion *q) {
  q->answered = 1;
  if (!q->flush && !q->settle && (p->awaits == AWAITS_SQL || p->awaits == AWAITS_COPY)) return;
  q->zWhy = recorderWhyNot(p);
  if (q->flush && !q->zWhy) q->isSent = recorderFlush(p->pSpool);
}

int recorderAsk(sqlite3 *db, const char *zSchema, RecorderQuestion *p) {
  p->answered = 0;
  return sqlite3_file_control(db, zSchema, RECORDER_QUESTION, p) == SQLITE_OK && p->answered;
}

int recorderFileControl(sqlite3_file *pFile, int op, void *pArg) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (op == SQLITE_FCNTL_PRAGMA && !p->isWal) {
    if (answerPragma(p, pArg, &rc)) return rc;
  } else if (op == RECORDER_QUESTION && !p->isWal) {
    answer(p, pArg);
    return SQLITE_OK;
  }
  if (op == SQLITE_FCNTL_PDB && !p->isWal) {
    p->ppDb = pArg;
    if (p->awaits == AWAITS_SQL && *p->ppDb && selectionVacuums(*p->ppDb)) recorderMarkCopy(p, "VACUUM INTO");
  }
  if (op == SQLITE_FCNTL_MMAP_SIZE && *(sqlite3_int64 *)pArg > 0) p->mapped = 1;
  /* os_unix.c, fcntlSizeHint, makes the file longer before a transaction's, or a checkpoint's,
  ** first write */
  int sized = op == SQLITE_FCNTL_SIZE_HINT && (p->chunked || p->mapped);
  if (sized && p->eLock >= SQLITE_LOCK_SHARED) recorderRecords(p);
  FORWARD(p, OP_FILECONTROL, rc, xFileControl(pFile, op, pArg));
  if (op == SQLITE_FCNTL_VFSNAME && rc == SQLITE_OK) {
    char **pz = pArg;
    *pz = sqlite3_mprintf("verneuil/%z", *pz);
  } else if (op == SQLITE_FCNTL_CHUNK_SIZE) {
    p->chunked = 1;
  } else if (op == SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE) {
    if (p->txn.active) recorderFailed(p); /* writes that we have recorded never came to be */
  } else if (sized) {
    p->sizeUncertain = 1;
  } else if (op == FCNTL_CKPT_DONE) {
    recorderEndCheckpoint(p);
  } else if (op == SQLITE_FCNTL_PERSIST_WAL) {
    p->deletesWal = *(int *)pArg != 1; /* sqlite3WalClose has asked, if it holds EXCLUSIVE */
  } else if (op == SQLITE_FCNTL_COMMIT_PHASETWO) {
    int wrote = p->txn.active;
    recorderEndTransaction(p);
    if (wrote) durableOwe(p);
    recorderEndCheckpoint(p);
    /* locking EXCLUSIVE: no lock will be taken any more */
    if (p->awaits && p->eLock == SQLITE_LOCK_EXCLUSIVE && durableKeepsLocks(p))
      recorderTrySpool(p, 1);
    if (!wrote && p->eLock == SQLITE_LOCK_EXCLUSIVE && recorderLacksWal(p)) {
      recorderAdoptWal(p);
      if (p->pWal) walFound(p->pSpool);
    }
    if (p->pSpool && p->eLock == SQLITE_LOCK_EXCLUSIVE && atomic_load(&p->pSpool->nWal)) {
      /* locking EXCLUSIVE: no xShmLock came, and the wal-index may lie on the heap */
      durableBefore(p, p->pSpool->st, atomic_load(&p->pSpool->st->sequence) + 1);
      if (p->pIndex ? walUnlock(p->pSpool, p->pIndex) : walCommitExclusive(p->pSpool)) {
        recorderValidate(p->pSpool);
        durableOwe(p);
      }
    }
    durablePhaseTwo(p, p->pSpool && atomic_load(&p->pSpool->nWal));
  }
  return rc;
}
