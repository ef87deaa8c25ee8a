/*
** What the database's file is like, and whether it is as the last recorder left it: see
** "Foreign writes" in spool/doc.go. All that a recorder believes of the file comes from here.
*/
#ifndef VERNEUIL_SPOOL_STAMP_H
#define VERNEUIL_SPOOL_STAMP_H
#include "spool_database.h"

/* A descriptor by which the file that was opened at zPath can be looked at, and nothing
** else: closing it drops no lock of SQLite's. -1 without one: then its path will do. */
int stampOpen(const char *zPath, const FileIdentity *pId);
void stampClose(int fd, const FileIdentity *pId);

/* Somebody has written without a recorder since the last one did, or that cannot be told. Of a
** new state nothing is known, and nothing need be: there is no mirror yet. */
int stampForeign(Spool *p, SpoolState *st);

/* A recorder has written, and still holds the lock: the file is to be like this. */
void stampLeave(Spool *p, SpoolState *st);

/* This process's first handle is opened, before it has any lock: if the times of the file are so
** coarse that a write after the last recorder's may not show, the file is compared. */
void stampOpened(Spool *p);

/* Its last one is closed. */
void stampClosed(Spool *p);

#endif
