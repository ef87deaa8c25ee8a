/*
** WALs, and how they come to be recorded.
*/
#ifndef VERNEUIL_RECORDER_WAL_H
#define VERNEUIL_RECORDER_WAL_H
#include "recorder_file.h"

/* Records a WAL that the base has opened, if its database is recorded, or as soon as it has the
** spool that it awaits. SQLITE_OK; or SQLITE_NOMEM,
** and the file is closed. */
int recorderOpenWal(const char *zName, sqlite3_file *pFile);

/* Looks for the WAL of an adopted database, and records it from here on. Called in a method of the
** database: so this thread holds the connection's mutex, if there is one. */
void recorderAdoptWal(RecorderFile *p);

/* Is it an adopted database in use whose WAL is not hooked? */
static inline int recorderLacksWal(const RecorderFile *p) {
  return p->db && !pRecorderHooked && p->pSpool && !p->pWal;
}

#endif
