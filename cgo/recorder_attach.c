/*
** Whether a database is recorded: see recorder_attach.h. It is not recorded if SQLite's locks do
** not tell of its transactions, if the configuration leaves it out, or while it is being made as a
** copy (selection.h). Whether it is a copy shows only when it is locked or written to. If its spool
** cannot be had, that is tried again from time to time, where the handle is in no transaction that
** writes: recording can begin there, as with a database that was open before (adopt.c).
*/
#include "recorder_attach.h"
#include "base.h"
#include "clock.h"
#include "log.h"
#include "recorder_go.h"
#include "selection.h"
#include "spool_attach.h"
#include "spool_dir.h"
#include "spool_wal.h"
#include "unreplicated.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

/* How far apart the tries are of a handle to get its spool. Each is a few system calls. */
#define TRY_NS (INT64_C(10) * 1000000000)

static const char zNoTargets[] = "replication_targets in VERNEUIL_CONFIG names no s3 or dir "
                                 "target: commits are recorded, but not sent";

void recorderNoteWhy(RecorderFile *p, char *zErr) {
  notReplicated(p->zName, zErr ? zErr : "out of memory");
  recorderNoteProblem(zErr);
  sqlite3_free(p->zWhy);
  p->zWhy = zErr;
}

/* Does the path lead to another file by now, or to none? */
static int hasMoved(RecorderFile *p) {
  int moved = 0;
  p->pBase->xFileControl(p->pFile, SQLITE_FCNTL_HAS_MOVED, &moved);
  return moved;
}

/* Is the connection in no transaction? Under locking mode EXCLUSIVE its locks do not tell. */
static int isIdle(const RecorderFile *p) {
  return p->ppDb && *p->ppDb && sqlite3_libversion_number() >= 3034000 &&
         sqlite3_txn_state(*p->ppDb, 0) == SQLITE_TXN_NONE;
}

/* May the handle be recorded from here on? It must hold no lock of one who writes, or be between
** two transactions (isBetween), and if its WAL is open, that must be hooked, or be one that
** recorderLacksWal() tells of. */
static int mayBegin(const RecorderFile *p, int isBetween) {
  return (isBetween || (p->eLock < SQLITE_LOCK_RESERVED && !p->shmLocks)) &&
         (!p->pIndex || p->db || recorderOtherOf(p));
}

char *recorderWhyNot(RecorderFile *p) {
  if (p->awaits == AWAITS_SQL || (p->awaits == AWAITS_SPOOL && mayBegin(p, isIdle(p))))
    recorderAttachLate(p);
  if (p->pInherited)
    return sqlite3_mprintf("this connection was opened before fork(): open a new one in this process");
  if (!p->pSpool) return sqlite3_mprintf("%s", p->zWhy ? p->zWhy : "out of memory");
  char *zStray = spoolStray(p->pSpool);
  if (zStray) return zStray;
  return recorderSettings.targets ? 0 : sqlite3_mprintf("%s", zNoTargets);
}

/* ---- a database that was just opened ---- */

/* Why a database that is opened with these flags cannot be recorded, sqlite3_malloc'd; NULL: it
** can. */
static char *refusal(const char *zPath, int flags) {
  if (recorderSettings.zError) return sqlite3_mprintf("%s", recorderSettings.zError);
  if (uriSays(zPath, flags, "immutable", 0))
    return sqlite3_mprintf("it was opened with immutable=1, and cannot be written to");
  if (uriSays(zPath, flags, "nolock", 0))
    return sqlite3_mprintf("it was opened with nolock=1, and only SQLite's locks show its "
                           "transactions: open it without nolock");
  return 0;
}

/* Does its URI name our VFS? Then it is replicated, whatever the patterns say. */
static int isNamed(const char *zPath, int flags) {
  const char *z = flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(zPath, "vfs") : 0;
  return z && !strcmp(z, "verneuil");
}

/* May the database become a copy? It is empty, it was never replicated, and neither its URI nor a
** pattern asks for replication. */
static int mayBeCopy(RecorderFile *p, int flags) {
  sqlite3_int64 size;
  return recorderBaseIsOwn && !isNamed(p->zName, flags) && !selectionIncludes(p->zName) &&
         p->pBase->xFileSize(p->pFile, &size) == SQLITE_OK && size == 0 && !spoolExists(p->zName);
}

/* The database is left out on purpose; p owns the reason zWhy, which is sqlite3_malloc'd. */
static void meant(RecorderFile *p, char *zWhy) {
  if (zWhy) notReplicatedAt(VERNEUIL_INFO, p->zName, zWhy);
  p->isMeant = 1;
  p->zWhy = zWhy;
}

/* Finds the spool of a database that the base VFS has opened. patient: waits for others that are
** about to make it. If there is none to be had, it is awaited; but not above another VFS than
** SQLite's own, whose bytes were to be compared from the first one on. */
static Spool *attachNow(RecorderFile *p, int patient) {
  char *zErr = 0;
  FileIdentity id;
  Spool *pSpool = 0;
  int rc = fileIdentity(p->zName, &id);
  if (rc) zErr = sqlite3_mprintf("%s", strerror(rc));
  else if (hasMoved(p))
    zErr = sqlite3_mprintf("another file took its place while it was being opened: reopen it");
  else pSpool = spoolAttach(p->zName, &id, patient, &zErr);
  if (!pSpool && recorderBaseIsOwn) {
    p->awaits = AWAITS_SPOOL;
    zErr = sqlite3_mprintf("%z; it is tried again every 10 s while the database is in use", zErr);
  }
  p->tried = clockCoarse();
  if (!pSpool) recorderNoteWhy(p, zErr);
  else if (recorderSettings.targets) isReplicated(p->zName);
  else notReplicated(p->zName, zNoTargets);
  return pSpool;
}

/* Why the user does not want the database recorded, sqlite3_malloc'd; NULL: he does. byDefault: the
** default VFS opened it, perhaps because the URI named that. (If the URI names another VFS, that
** one stands above the default, and the database is treated as if nothing had been named.) */
static char *unwanted(RecorderFile *p, int flags, int byDefault) {
  const char *zVfs = byDefault && flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(p->zName, "vfs")
      : 0;
  if (zVfs && pRecorderHooked && !strcmp(zVfs, ((sqlite3_vfs *)pRecorderHooked)->zName))
    return sqlite3_mprintf("it was opened with vfs=%s", zVfs);
  return byDefault && !isNamed(p->zName, flags) ? selectionExcludes(p->zName) : 0;
}

Spool *recorderAttach(RecorderFile *p, int flags, int outFlags, int byDefault) {
  char *zErr = refusal(p->zName, flags);
  /* nobody writes */
  if (zErr && (outFlags & SQLITE_OPEN_READONLY || uriSays(p->zName, flags, "immutable", 0)))
    p->zWhy = zErr;
  else if (zErr) recorderNoteWhy(p, zErr);
  else if ((zErr = unwanted(p, flags, byDefault))) meant(p, zErr);
  else if (mayBeCopy(p, flags)) p->awaits = AWAITS_SQL;
  else return attachNow(p, 1);
  return 0;
}

/* ---- later ---- */

void recorderAttachLate(RecorderFile *p) {
  char *zWas = p->zWhy;
  int again = p->awaits == AWAITS_SPOOL;
  if (p->isMeant) isReplicated(p->zName);
  p->zWhy = 0;
  p->isMeant = 0;
  p->awaits = AWAITS_NOTHING;
  p->version = 0; /* nobody has kept them */
  p->size = -1;
  Spool *pSpool = attachNow(p, !again);
  if (pSpool && again) {
    recorderForgetProblem(zWas);
    verneuilLogOf(VERNEUIL_WARN, p->zName, "commits are recorded from now on: the spool could be made");
  }
  sqlite3_free(zWas);
  RecorderFile *pWal = pSpool ? recorderOtherOf(p) : 0;
  if (pWal && !pWal->pSpool) {
    spoolRetain(pSpool);
    recorderSetSpool(pWal, pSpool);
    if (!p->pIndex) walFound(pSpool); /* no other file tells how far it goes */
  }
  recorderSetSpool(p, pSpool);
  recorderBeginHold(p);
}

void recorderTrySpool(RecorderFile *p, int isBetween) {
  if (p->awaits == AWAITS_SPOOL && clockCoarse() - p->tried >= TRY_NS && mayBegin(p, isBetween))
    recorderAttachLate(p);
}

void recorderMarkCopy(RecorderFile *p, const char *zHow) {
  p->awaits = AWAITS_COPY;
  meant(p, sqlite3_mprintf("it is a copy made by %s, and is not replicated until a statement "
                           "writes to it or it is reopened: to replicate it now, name it in "
                           "make_default's include", zHow));
}

/* Before SHARED: is the file still empty, or has somebody else written to it? Before RESERVED, and
** before a write under locking EXCLUSIVE, where no lock is taken any more: who writes? */
void recorderAwaitedLock(RecorderFile *p, int eLock) {
  sqlite3_int64 size;
  if (p->awaits == AWAITS_SPOOL) recorderTrySpool(p, 0);
  else if (p->awaits == AWAITS_SQL && eLock == SQLITE_LOCK_SHARED &&
      p->pBase->xFileSize(p->pFile, &size) == SQLITE_OK && size > 0)
    recorderAttachLate(p);
  else if (eLock == SQLITE_LOCK_RESERVED && (!p->ppDb || selectionRunsSql(*p->ppDb))) {
    if (p->awaits == AWAITS_SQL || !selectionVacuums(*p->ppDb)) recorderAttachLate(p);
  } else if (eLock == SQLITE_LOCK_RESERVED && p->awaits == AWAITS_SQL)
    recorderMarkCopy(p, "the backup API");
}

void recorderAwaitedWrite(RecorderFile *p) {
  if (p->eLock >= SQLITE_LOCK_RESERVED) recorderAwaitedLock(p, SQLITE_LOCK_RESERVED);
}
