/*
** The Go runtime in this process, for the rest of the C side.
*/
#ifndef VERNEUIL_GORT_H
#define VERNEUIL_GORT_H

/* Starts the Go runtime if need be. Returns 1 if Go may be called by this
** process now, 0 if it may not: a child forked from a process that runs Go, or
** limits under which the start would kill the host. */
int verneuilGo(void);

/* Which limit it is that verneuilGo() returns 0 for; NULL: none. */
const char *verneuilRefused(void);

/* Returns 1 if Go runs in this process and may be called; starts nothing. */
int verneuilGoRuns(void);

/* What is done at the process's end is done before what was registered for it until now. */
int exitFirst(void);

/* Returns 1 in a child that was forked from a process that runs Go: it never can. */
int verneuilForked(void);

/* What helps there. */
#define VERNEUIL_FORKED_REMEDY "let the first process open none before it forks, or start processes anew (spawn, exec)"

/* Whether Go's functions that this thread calls may be given up if Go waits for a thread that
** cannot be made. Then they return zeros, and run later, or never. The value before. */
int threadsImpatient(int yes);

#endif
