/*
** Whether a database is recorded, from when on, and why it is not.
*/
#ifndef VERNEUIL_RECORDER_ATTACH_H
#define VERNEUIL_RECORDER_ATTACH_H
#include "process.h"
#include "recorder_file.h"

/* The database is not replicated: logs why, and remembers it. zErr is sqlite3_malloc'd, and p owns
** it from now on; NULL: there was no memory for it. */
void recorderNoteWhy(RecorderFile *p, char *zErr);

/* Attaches the spool of a database that the base VFS has opened, if it is to be recorded; the
** caller owns a reference. NULL: it is not recorded (p->zWhy), or not yet (p->awaits). flags are
** those that it was opened with, and outFlags what the base made of them. byDefault: it was opened
** by the default VFS. */
Spool *recorderAttach(RecorderFile *p, int flags, int outFlags, int byDefault);

/* The database that p awaited is no copy, or no longer, or its spool may be had by now: it is
** recorded from here on, or awaits its spool. */
void recorderAttachLate(RecorderFile *p);

/* If p awaits its spool, and the last try was some time ago, it is tried again. isBetween: a
** transaction has just ended, under locks that may be kept; otherwise nothing is done in a
** transaction that writes. */
void recorderTrySpool(RecorderFile *p, int isBetween);

/* The database is being made as a copy; zHow names what makes it. */
void recorderMarkCopy(RecorderFile *p, const char *zHow);

/* If the database is RESERVED, says in the state that we hold it: so a base copy need not ask who
** does. */
static inline void recorderBeginHold(RecorderFile *p) {
  if (p->eLock < SQLITE_LOCK_RESERVED || !p->pSpool || p->pHeld) return;
  p->pHeld = p->pSpool->st;
  atomic_store_explicit(&p->pHeld->holder, verneuilToken(), memory_order_relaxed);
}

/* p->awaits is not AWAITS_NOTHING, and the database is about to be locked. */
void recorderAwaitedLock(RecorderFile *p, int eLock);

/* Likewise, and it is about to be written to. */
void recorderAwaitedWrite(RecorderFile *p);

/* Why commits of this handle are not replicated, sqlite3_malloc'd; NULL: they are. */
char *recorderWhyNot(RecorderFile *p);

#endif
