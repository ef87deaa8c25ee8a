/*
** Threads of ours (threads.c).
*/
#ifndef VERNEUIL_THREADS_H
#define VERNEUIL_THREADS_H
#include <pthread.h>

/* A thread on which the host's handlers never run. The signals that Go's handlers are
** for, its own errors and its preemption, stay unblocked; threads that it makes inherit that. 0
** or an errno. */
int makeThread(pthread_t *pThread, void *(*xRun)(void *), void *pArg);

/* Runs xRun(pArg) on a thread of ours, with the host's signals blocked, and waits for
** it. 0: no thread could be made, and nothing was run; never again after the first 1. */
int onOurThread(void (*xRun)(void *), void *pArg);

/* Is this thread one of ours? Only of those that serve, not of Go's own. */
int threadIsOurs(void);

/* Go waits for a thread that cannot be made, and has for a while: it may not answer. */
int threadsStalled(void);

/* Whether Go's functions that this thread calls may be given up if that happens. Then they
** return zeros, and run later, or never. The value before. */
int threadsImpatient(int yes);

#endif
