/*
** The handles of WALs: see recorder_wal.h.
**
** An adopted database was opened before the extension was loaded, by SQLite's own VFS. Its
** connection uses that VFS for its other files, too: unless it is hooked, they are opened without
** us. Of those files only the WAL matters. So it is looked for before it can be changed, and its
** deletion is inferred from its close (wal.c, sqlite3WalClose).
*/
#include "recorder_wal.h"
#include "below.h"
#include "bytes.h"
#include "recorder_attach.h"
#include "spool_attach.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>

/* In a rollback mode SQLITE_FCNTL_JOURNAL_POINTER gives the rollback journal: the header tells them
** apart. */
void recorderAdoptWal(RecorderFile *p) {
  sqlite3_file *pFile = 0;
  unsigned char a[4];
  if (sqlite3_file_control(p->db, p->zSchema, SQLITE_FCNTL_JOURNAL_POINTER, &pFile) != SQLITE_OK ||
      !pFile || !pFile->pMethods)
    return;
  if (pFile->pMethods->xRead(pFile, a, 4, 0) == SQLITE_OK ? (get4(a) & ~1u) != 0x377f0682u
      : p->eLock == SQLITE_LOCK_EXCLUSIVE)
    return; /* an empty file may become a WAL if the wal-index is locked */
  RecorderFile *pWal = recorderHook(pFile, sqlite3_filename_wal(p->zName), 1);
  /* its frames go unseen, which the next header's salts, or its end, will show */
  if (!pWal) return;
  pWal->pMain = p;
  if (p->pSpool) spoolRetain(p->pSpool);
  recorderUseHook(pWal, p->pSpool);
  recorderSetWal(p, pWal);
}

/* Records a WAL that the base has opened, of a database that is recorded. */
int recorderOpenWal(const char *zName, sqlite3_file *pFile) {
  RecorderFile *pMain = recorderDatabaseOf(zName);
  /* in WAL mode no lock of the database tells who writes */
  if (pMain && pMain->awaits && pMain->awaits != AWAITS_SPOOL) recorderAttachLate(pMain);
  if (pMain && pMain->pRaw && !pMain->pSpool) { /* see letGo */
    recorderUnhook(pMain);
    return SQLITE_OK;
  }
  Spool *pSpool = recorderSpoolOfWal(zName);
  if (!pSpool && !(pMain && pMain->awaits == AWAITS_SPOOL)) return SQLITE_OK;
  RecorderFile *p = recorderHook(pFile, zName, 1);
  if (p) p->pMain = pMain;
  if (p && !recorderBaseIsOwn) p->pRaw = belowOpen(zName, SQLITE_OPEN_WAL);
  if (p && (recorderBaseIsOwn || p->pRaw)) {
    recorderUseHook(p, pSpool);
    return SQLITE_OK;
  }
  free(p);
  if (!pSpool) return SQLITE_OK; /* it stays as it is until it is opened again: mayBegin() */
  spoolRelease(pSpool);
  pFile->pMethods->xClose(pFile); /* no frame may be written unseen */
  pFile->pMethods = 0;
  return SQLITE_NOMEM;
}
