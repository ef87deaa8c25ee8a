/*
** Waking the replicator of a database, in this process or another, and waiting for it.
*/
#ifndef VERNEUIL_SPOOL_WAKE_H
#define VERNEUIL_SPOOL_WAKE_H
#include "spool_database.h"

/* Has the replicator look at the state, wherever it runs, armed or not: writes a byte into the
** FIFO, which is opened for that moment. Keeps errno. 0: that could not be done. */
int spoolCall(const char *zDir);

/* Wakes the replicator if it sleeps: in another process by the FIFO, in this one by the bell that
** all replicators share (wake.h). */
void spoolWake(Spool *p);

/* Does nobody replicate the database, as far as this process can tell? */
int spoolAlone(SpoolState *st);

/* For a process that cannot run Go: has the replicator, wherever it runs, push what is committed.
** 1: every target has it. Waits ms milliseconds at most. */
int spoolFlush(Spool *p, int ms);

#endif
