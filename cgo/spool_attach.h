/*
** The spools that this process has attached, one for each database.
*/
#ifndef VERNEUIL_SPOOL_ATTACH_H
#define VERNEUIL_SPOOL_ATTACH_H
#include "spool_database.h"

/* Finds or makes the spool of a database and maps its state. NULL, with a reason in *pzErr
** (sqlite3_malloc'd), where that cannot be done. The caller owns a reference. */
Spool *spoolAttach(const char *zPath, const FileIdentity *pId, char **pzErr);

/* Takes another reference to an attached spool. */
void spoolRetain(Spool *p);

/* Gives a reference back. After the process's last one there is no such Spool. */
void spoolRelease(Spool *p);

/* Is the state lost: deleted, or of a file that does not stand at the path any more? */
static inline int spoolLost(const Spool *p) { return spoolStateLost(p->st); }

/* The state to record in; a lost one is attached anew, without waiting for anybody. NULL: not now,
** or never, because another file stands at the path. The caller holds SQLite's write lock. */
SpoolState *spoolState(Spool *p);

#endif
