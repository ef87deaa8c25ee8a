/*
** The writer VFS "verneuil": the base VFS, and a record of every committed
** change of a main database in its spool.
*/
#ifndef VERNEUIL_RECORDER_H
#define VERNEUIL_RECORDER_H
#include "verneuil.h"

/* Registers the VFS above verneuilBase; makeDefault: as the default. If it is registered already,
** it moves in SQLite's list. */
int recorderRegister(int makeDefault);

/* Has what the default VFS opens go through the recorder, though it stays the default. To be called
** before recorderRegister(). 0: it is not one of SQLite's own VFSes, and cannot be treated so. */
int recorderHookDefault(void);

/* Is pVfs the VFS below ours, hooked or not? */
int recorderOpens(const sqlite3_vfs *pVfs);

/* Is pVfs our VFS? */
int recorderIs(const sqlite3_vfs *pVfs);

/* A question to the recorder of a database, and the answer. */
typedef struct RecorderQuestion {
  int flush;                       /* push what is committed, too */
  int settle;                      /* decide now whether it is recorded, if its first lock would */
  int answered;                    /* there is one */
  int isSent;                      /* flush: every target has everything */
  char *zWhy;                      /* why it is not replicated, sqlite3_malloc'd; NULL: it is */
} RecorderQuestion;

/* Asks the recorder of the connection's database zSchema, also if there is another VFS above ours.
** 0: it has none, or there is no such database. */
int recorderAsk(sqlite3 *db, const char *zSchema, RecorderQuestion *p);

/* Counts and times of each method, as a JSON object; sqlite3_malloc'd, NULL: no memory. */
char *recorderPerf(void);

/* Why a database was opened without replication, the latest reason; sqlite3_malloc'd. NULL: none
** was. */
char *recorderProblem(void);

/* May a connection of this process hold a lock of SQLite's that others wait for? Waits for nobody,
** and allocates nothing. */
int recorderExcludes(void);

#endif
