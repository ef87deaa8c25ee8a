/*
** Whether a database is recorded, from when on, and why it is not.
*/
#ifndef VERNEUIL_RECORDER_ATTACH_H
#define VERNEUIL_RECORDER_ATTACH_H
#include "recorder_file.h"

/* Takes note of why a database is not replicated: zErr is sqlite3_malloc'd, or NULL without
** memory. p owns it. */
void recorderNoteWhy(RecorderFile *p, char *zErr);

/* Finds the spool of a database that the base VFS has opened, if it is to be recorded: a reference.
** NULL: it is not, and p says why, or it may become a copy, and is recorded later (p->awaits). flags are
** those that it was opened with, outFlags what the base has made of them. byDefault: by the default VFS. */
Spool *recorderAttach(RecorderFile *p, int flags, int outFlags, int byDefault);

/* It is no copy, or no longer: from here on it is recorded. */
void recorderAttachLate(RecorderFile *p);

/* It is made as a copy: zHow says by what. */
void recorderMarkCopy(RecorderFile *p, const char *zHow);

/* The database, which p->awaits, is about to be locked. */
void recorderAwaitedLock(RecorderFile *p, int eLock);

/* Likewise, written to. */
void recorderAwaitedWrite(RecorderFile *p);

/* Why what is committed by this handle goes nowhere, sqlite3_malloc'd; NULL: it does not. */
char *recorderWhyNot(RecorderFile *p);

#endif
