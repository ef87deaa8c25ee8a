/*
** Letting a database go, of which the base VFS stores other bytes than it is given: see recorder_letgo.h.
*/
#include "recorder_letgo.h"
#include "below.h"
#include "recorder_txn.h"
SQLITE_EXTENSION_INIT3

/* So many reads of pages are compared with the file; all writes are. */
#define COMPARE_READS 16

const char zRecorderStoresOther[] = "the VFS below stores other bytes than it is given: put it above verneuil";

/* Likewise, and nothing of ours stays between SQLite and the base: it may encrypt a WAL only
** where the database's methods are its own. p is no more, nor is the other handle, the WAL's or the database's. */
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
