/*
** The writer VFS "verneuil": the base VFS, and a record of every committed
** change of a main database in its spool.
*/
#ifndef VERNEUIL_RECORDER_H
#define VERNEUIL_RECORDER_H
#include "verneuil.h"

/* Registers the VFS over verneuilBase, or moves it to the front of SQLite's list. */
int recorderRegister(int makeDefault);

/* Is that our VFS? */
int recorderIs(const sqlite3_vfs *pVfs);

/* Per-method counts and times, as a JSON object; sqlite3_malloc'd. */
char *recorderPerf(void);

/* Why databases are opened without replication, NULL if they are not; sqlite3_malloc'd. */
char *recorderProblem(void);

#endif
