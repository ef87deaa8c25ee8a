/*
** A base VFS that is not SQLite's own may store other bytes than it is given (spool/doc.go, I8). So
** what it reads and writes is compared with the file. Where they differ, the database is let go: it
** is not recorded any more.
*/
#ifndef VERNEUIL_RECORDER_LETGO_H
#define VERNEUIL_RECORDER_LETGO_H
#include "recorder_file.h"

/* What is said of such a database. */
extern const char zRecorderStoresOther[];

/* Did the base read a page that the file does not have? Then p is let go, and freed. p->pRaw must
** not be NULL. */
int recorderReadsOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst);

/* Did the base write something that the file does not have now? Likewise. */
int recorderStoresOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst);

#endif
