/*
** Whether a database is recorded, from when on, and why it is not.
*/
#ifndef VERNEUIL_RECORDER_ATTACH_H
#define VERNEUIL_RECORDER_ATTACH_H
#include "recorder_file.h"

/* The database is not replicated: logs why, and remembers it. zErr is sqlite3_malloc'd, and p owns
** it from now on; NULL: there was no memory for it. */
void recorderNoteWhy(RecorderFile *p, char *zErr);

/* Attaches the spool of a database that the base VFS has opened, if it is to be recorded; the
** caller owns a reference. NULL: it is not recorded (p->zWhy), or not yet, as it may become a copy
** (p->awaits). flags are those that it was opened with, and outFlags what the base made of them.
** byDefault: it was opened by the default VFS. */
Spool *recorderAttach(RecorderFile *p, int flags, int outFlags, int byDefault);

/* The database that p awaited is no copy, or no longer: it is recorded from here on. */
void recorderAttachLate(RecorderFile *p);

/* The database is being made as a copy; zHow names what makes it. */
void recorderMarkCopy(RecorderFile *p, const char *zHow);

/* p->awaits is not AWAITS_NOTHING, and the database is about to be locked. */
void recorderAwaitedLock(RecorderFile *p, int eLock);

/* Likewise, and it is about to be written to. */
void recorderAwaitedWrite(RecorderFile *p);

/* Why commits of this handle are not replicated, sqlite3_malloc'd; NULL: they are. */
char *recorderWhyNot(RecorderFile *p);

#endif
