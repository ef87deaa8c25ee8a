/*
** The writer VFS "verneuil": the base VFS, and a record of every committed
** change of a main database in its spool.
*/
#ifndef VERNEUIL_RECORDER_H
#define VERNEUIL_RECORDER_H
#include "verneuil.h"

/* Registers the VFS over verneuilBase. */
int recorderRegister(int makeDefault);

/* Per-method counts and times, as a JSON object; sqlite3_malloc'd. */
char *recorderPerf(void);

/* Why databases are opened without replication, NULL if they are not; sqlite3_malloc'd. */
char *recorderProblem(void);

#endif
