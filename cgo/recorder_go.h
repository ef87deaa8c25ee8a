/*
** What the recorder asks of Go: the settings, and what a replicator does. No other file of the
** recorder enters Go, and its methods get here only in xOpen, xClose and our pragma, and under
** VERNEUIL_VALIDATE.
*/
#ifndef VERNEUIL_RECORDER_GO_H
#define VERNEUIL_RECORDER_GO_H
#include "goexports_types.h"
#include "spool_database.h"

/* What the configuration says. It is set by recorderConfigure(), and never changes after that. */
extern VerneuilSettings recorderSettings;

/* Reads the settings when the first database is opened; a forked child has its parent's. */
void recorderConfigure(void);

/* Remembers a copy of zErr as the latest reason why a database was opened without replication:
** recorderProblem() in recorder.h returns it. NULL: there was no memory for the reason. */
void recorderNoteProblem(const char *zErr);

/* That reason has gone; if it is not the latest, nothing changes. */
void recorderForgetProblem(const char *zErr);

/* A handle of the database was opened (n is 1) or closed (n is -1). */
void recorderCountHandle(Spool *p, int n);

/* Has what is committed pushed, in a forked child by whoever replicates. 1: every target has it.
** Waits for store_timeout_ms at most. */
int recorderFlush(Spool *p);

/* Asks Go whether the mirror is the database. */
void recorderAskValid(const Spool *p);

/* VERNEUIL_VALIDATE=1: after each commit, and before its lock is given up, the mirror must be
** the database. Otherwise nothing. */
static inline void recorderValidate(const Spool *p) {
  if (recorderSettings.validate) recorderAskValid(p);
}

#endif
