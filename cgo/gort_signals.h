/*
** Signals: those of the host stay the host's (gort_signals.c).
*/
#ifndef VERNEUIL_GORT_SIGNALS_H
#define VERNEUIL_GORT_SIGNALS_H
#include <pthread.h>
#include <signal.h>

/* A thread on which the host's handlers never run. The signals that Go's handlers are
** for, its own errors and its preemption, stay unblocked; threads that it makes inherit that. 0
** or an errno. */
int makeThread(pthread_t *pThread, void *(*xRun)(void *), void *pArg);

/* Before the runtime starts: has its threads leave SIGCHLD and SIGPROF blocked. 0: where that is
** decided was not found, and they will not. */
int signalsKeepBlocked(void);

/* How the host handles signals. */
typedef struct HostSignals {
  struct sigaction a[NSIG];
} HostSignals;

/* What it was before the start, and as it was again after it. */
void signalsNote(HostSignals *p);
void signalsRestore(const HostSignals *p);

/* Has the host a handler of that signal? */
int signalsHandled(const HostSignals *p, int signal);

#endif
