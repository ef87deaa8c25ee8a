/*
** Threads of ours, on which Go runs (gort_threads.c).
*/
#ifndef VERNEUIL_GORT_THREADS_H
#define VERNEUIL_GORT_THREADS_H

/* Runs xRun(pArg) on a thread of ours, with the host's signals blocked, and waits for
** it. 0: no thread could be made, and nothing was run; never again after the first 1. */
int onOurThread(void (*xRun)(void *), void *pArg);

/* Go waits for a thread that cannot be made, and has for a while: it may not answer. */
int threadsStalled(void);

#endif
