/*
** Waking whoever replicates a database, in this process or another, and waiting for it.
*/
#ifndef VERNEUIL_SPOOL_WAKE_H
#define VERNEUIL_SPOOL_WAKE_H
#include "spool_database.h"

/* Has the replicator, wherever it runs, armed or not, look at the state: writes a byte into the
** FIFO, which is opened for that moment. Keeps errno. 0: it could not be. */
int spoolCall(const char *zDir);

/* Wakes the replicator if it sleeps: in another process by the FIFO, in this one by a bell that all
** its replicators share. */
void spoolWake(Spool *p);

/* In a process that cannot run Go: has the replicator, wherever it runs, push what is committed. 1:
** every target has it. Waits at most ms milliseconds. */
int spoolFlush(Spool *p, int ms);

#endif
