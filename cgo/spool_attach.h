/*
** The spools that this process has attached, one for each database.
*/
#ifndef VERNEUIL_SPOOL_ATTACH_H
#define VERNEUIL_SPOOL_ATTACH_H
#include "spool_database.h"

/* Finds or makes the spool of a database, and maps its state. patient: waits for two seconds, and
** not only for some milliseconds, while others do. The caller owns a reference. NULL: that cannot
** be done, and *pzErr, sqlite3_malloc'd, says why. */
Spool *spoolAttach(const char *zPath, const FileIdentity *pId, int patient, char **pzErr);

/* Takes another reference to an attached spool. */
void spoolRetain(Spool *p);

/* Gives a reference back. The last one frees the Spool. */
void spoolRelease(Spool *p);

/* Is the state lost? It was deleted, or another file stands at the path by now. */
static inline int spoolLost(const Spool *p) { return spoolStateLost(p->st); }

/* The state to record in. If it is lost, it is attached anew, without waiting for anybody. NULL:
** that cannot be done now, or never, because another file stands at the path. The caller holds
** SQLite's write lock. */
SpoolState *spoolState(Spool *p);

/* Why what the handles of this Spool commit is not recorded, sqlite3_malloc'd; NULL: it is. A state
** that is lost is attached anew. Not in a commit. */
char *spoolStray(Spool *p);

/* The databases of this process that have handles of which that is so, as objects {"path",
** "reason"} of a JSON array; sqlite3_malloc'd, NULL: there are none. Not in a commit. */
char *spoolStrays(void);

#endif
