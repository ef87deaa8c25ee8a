/*
** Is the database's file as the last recorder left it? See "Foreign writes" in spool/doc.go. All
** that a recorder believes of the file comes from here.
*/
#ifndef VERNEUIL_SPOOL_STAMP_H
#define VERNEUIL_SPOOL_STAMP_H
#include "spool_database.h"

/* A descriptor that only serves to look at the file that was opened at zPath: closing it drops no
** lock of SQLite's. -1: there is none, and the path has to do. */
int stampOpen(const char *zPath, const FileIdentity *pId);
void stampClose(int fd, const FileIdentity *pId);

/* Has somebody written without a recorder since the last one did? Also 1 if that cannot be told. Of
** a new state nothing is known, and nothing need be: there is no mirror yet, and this is 0. */
int stampForeign(Spool *p, SpoolState *st);

/* A recorder has written, and still holds the lock: stores what the file is like now. */
void stampLeave(Spool *p, SpoolState *st);

/* This process's first handle was opened, and has no lock yet. If the file's times are so coarse
** that a write after the last recorder's may not show, the file will be compared. */
void stampOpened(Spool *p);

/* Its last handle was closed. */
void stampClosed(Spool *p);

#endif
