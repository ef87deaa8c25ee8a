/*
** The writer VFS "verneuil": the base VFS, and a record of every committed
** change of a main database in its spool.
*/
#ifndef VERNEUIL_RECORDER_H
#define VERNEUIL_RECORDER_H
#include "verneuil.h"

/* Registers the VFS over verneuilBase, or moves it to the front of SQLite's list. */
int recorderRegister(int makeDefault);

/* Has what the default VFS opens go through the recorder, while it stays the default: before
** recorderRegister(). 0: it is none of SQLite's own, and cannot be treated so. */
int recorderHookDefault(void);

/* Is that the VFS below ours, hooked or not? */
int recorderOpens(const sqlite3_vfs *pVfs);

/* Is that our VFS? */
int recorderIs(const sqlite3_vfs *pVfs);

/* A question to the recorder of a database, and the answer. */
typedef struct RecorderQuestion {
  int flush;                       /* push what is committed, too */
  int answered;                    /* there is one */
  int isSent;                      /* flush: every target has everything */
  char *zWhy;                      /* why it is not replicated, sqlite3_malloc'd; NULL: it is */
} RecorderQuestion;

/* Asks the recorder of the connection's database of that name, also through a VFS that another
** has put above ours. 0: none stands there, or there is no such database. */
int recorderAsk(sqlite3 *db, const char *zSchema, RecorderQuestion *p);

/* Per-method counts and times, as a JSON object; sqlite3_malloc'd. */
char *recorderPerf(void);

/* Why databases are opened without replication, NULL if they are not; sqlite3_malloc'd. */
char *recorderProblem(void);

/* Does a connection of this process hold a lock of SQLite's that others wait for, or may it? Waits
** for nobody, and allocates nothing. */
int recorderExcludes(void);

#endif
