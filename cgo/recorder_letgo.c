/*
** Letting a database go: see recorder_letgo.h.
*/
#include "recorder_letgo.h"
#include "below.h"
#include "recorder_txn.h"
SQLITE_EXTENSION_INIT3

/* How many reads of pages are compared with the file. All writes are. */
#define COMPARE_READS 16

const char zRecorderStoresOther[] = "the VFS below verneuil does not store the bytes that it is given: put it "
                                    "above verneuil";

/* Stops recording, and leaves nothing of ours between SQLite and the base, which may encrypt a WAL
** only where the database's methods are its own. Frees p, and the connection's other file, WAL or
** database. */
static void letGo(RecorderFile *p) {
  RecorderFile *pOther = recorderOtherOf(p);
  recorderStop(p, zRecorderStoresOther);
  recorderUnhook(p);
  if (!pOther) return;
  recorderStop(pOther, zRecorderStoresOther);
  recorderUnhook(pOther);
}

int recorderReadsOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  if (n < 512 || p->nCompared >= COMPARE_READS) return 0;
  p->nCompared++;
  if (belowHas(p->pRaw, pBuf, n, iOfst)) return 0;
  letGo(p);
  return 1;
}

int recorderStoresOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  if (!p->pSpool || belowHas(p->pRaw, pBuf, n, iOfst)) return 0;
  letGo(p);
  return 1;
}
