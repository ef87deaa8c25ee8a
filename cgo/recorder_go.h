/*
** Where the recorder asks Go: for the settings, and for what a replicator does. Nothing else of the
** recorder enters Go: its methods do so only in xOpen, xClose, our pragma, and under
** VERNEUIL_VALIDATE.
*/
#ifndef VERNEUIL_RECORDER_GO_H
#define VERNEUIL_RECORDER_GO_H
#include "goexports_types.h"
#include "spool_database.h"

/* What the configuration says, from recorderConfigure() on; it never changes again. */
extern VerneuilSettings recorderSettings;

/* Reads the settings when the first database is opened; a forked child has its parent's. */
void recorderConfigure(void);

/* Remembers zErr, of which a copy is made, as the last reason for which a database was opened
** without replication: recorderProblem() in recorder.h. NULL: there was no memory to say it. */
void recorderNoteProblem(const char *zErr);

/* A handle of the database was opened (n is 1), or closed (-1). */
void recorderCountHandle(Spool *p, int n);

/* Pushes what is committed: here, or from a forked child by whoever replicates. 1: every target
** has it. Waits for store_timeout_ms at most. */
int recorderFlush(Spool *p);

/* Asks Go whether the mirror is the database. */
void recorderAskValid(const Spool *p);

/* VERNEUIL_VALIDATE=1: after each commit, and before its lock is given up, the mirror must be
** the database. Otherwise nothing. */
static inline void recorderValidate(const Spool *p) {
  if (recorderSettings.validate) recorderAskValid(p);
}

#endif
