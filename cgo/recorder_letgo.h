/*
** A base VFS that is not SQLite's own may store other bytes than it is given (spool/doc.go, I8). What
** it has stored is compared with the file; where it differs, the database is let go.
*/
#ifndef VERNEUIL_RECORDER_LETGO_H
#define VERNEUIL_RECORDER_LETGO_H
#include "recorder_file.h"

/* What is said then. */
extern const char zRecorderStoresOther[];

/* Was a page read that the file has not? Then p is no more. p->pRaw is not NULL. */
int recorderReadsOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst);

/* Was something written that the file has not? Then p is no more. p->pRaw is not NULL. */
int recorderStoresOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst);

#endif
