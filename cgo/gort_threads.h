/*
** Threads of ours, by which Go's are made (gort_threads.c).
*/
#ifndef VERNEUIL_GORT_THREADS_H
#define VERNEUIL_GORT_THREADS_H

/* On a thread of the host's: runs xRun(pArg) on one of ours, with the host's signals blocked, and
** waits for it. 0: no thread could be made, and nothing was run. */
int onOurThread(void (*xRun)(void *), void *pArg);

/* 1: this is one of them. */
int threadIsOurs(void);

/* Go waits for a thread that cannot be made, and has for a while: it may not answer. */
int threadsStalled(void);

#endif
