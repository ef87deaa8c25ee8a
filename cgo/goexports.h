/*
** The Go functions that C calls (cgo.go), and what passes between. None panics,
** none keeps a pointer that it was given, none is called before verneuilGo() said 1.
*/
#ifndef VERNEUIL_GOEXPORTS_H
#define VERNEUIL_GOEXPORTS_H

#include "goexports_types.h"

/* Returns when all of Go is initialized. */
extern void goReady(void);

/* Reads VERNEUIL_CONFIG. Always fills *p. */
extern void goConfigure(VerneuilSettings *p);

/* Under VERNEUIL_VALIDATE, with the write lock still held: mirror == database? */
extern int goValidate(char *zSpool);

/* These free the strings that they are given, and may be given up (threads.h). */

/* The first handle was opened of a database whose spool is zSpool: see that somebody
** replicates it. */
extern void goOpened(char *zSpool);

/* The process's last handle on that database was closed. */
extern void goClosed(char *zSpool);

/* Push what is committed. Returns 1 when every target has it all, 0 otherwise. */
extern int goFlush(char *zSpool, int ms);

/* verneuil_status(), as JSON; malloc'd. zSQLite: its version, or NULL; zProblem: why databases were opened without
** replication, or NULL; zList: which are not, as notReplicatedList() has it, or NULL;
** zDurable: as durableCounts() has it, or NULL. */
extern char *goStatus(char *zSQLite, char *zProblem, char *zList, char *zDurable);

#endif
