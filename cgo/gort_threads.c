/*
** Threads of ours, in a host that is not a Go program: on one of them the Go runtime is started,
** and so all of Go's are made by ours. What the host's threads call of Go runs there, too
** (gort_calls.c).
**
** So Go has no part of the host's threads. A thread that has called Go itself keeps a
** small signal stack of the runtime's, which the host's handlers then run on, as the
** runtime has marked them all; and a signal that arrives while Go code runs has its handler,
** whatever that needs, on a goroutine's stack of some KB. Both write over Go's heap. Nor do
** writes by us raise SIGPIPE or SIGXFSZ in the host: here they are blocked, like all others.
**
** The runtime makes a thread when one of its own waits for a file, and ends the process if
** it cannot: when the user's processes, or the control group's, are as many as may be, by
** whomever. So --wrap=pthread_create has it wait instead. Spare threads of ours help out; when
** there is none left Go stalls, in part or, from its next garbage collection, as a whole. Then
** calls to it are given up where the caller can bear that. Linked without that, into a Go program,
** whose threads are Go's own, nothing here is used.
**
** All of them have a table of descriptors of their own (descriptors.c): a thread inherits it
** from the one that makes it, so that only the first is made by a thread of the host's.
**
** No child has any of it: one that is forked from a process that runs Go never calls it.
*/
#define _GNU_SOURCE
#include "gort_threads.h"
#include "clock.h"
#include "descriptors.h"
#include "gort.h"
#include "gort_signals.h"
#include "log.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Threads that wait for work from the beginning. */
#define SPARE_THREADS 4

/* How long the runtime may wait for a thread until it is stalled, and how often it tries to
** make one. */
#define STALL_MS 2000
#define RETRY_MS 10

typedef struct Job Job;
struct Job {
  Job *pNext;
  void (*xRun)(void *);
  void *pArg;
  int done;
  int isOrphan; /* nobody waits for it: free it */
  pthread_cond_t finished;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static Job *pFirst, **ppLast = &pFirst; /* jobs that no thread has begun */
static int nJob;                        /* their number */
static int nIdle;                       /* threads that look for one */
static int nThread;                     /* threads that do, or will when they are done */
static _Atomic int nWanting;            /* threads that Go waits for */
static _Atomic int64_t wantedSince;     /* in ms, since when it does */
static _Thread_local int isOurs;

extern int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) __attribute__((weak));

static int64_t milliseconds(clockid_t clock) { return clockNs(clock) / 1000000; }

int threadsStalled(void) {
  return atomic_load_explicit(&nWanting, memory_order_relaxed) && milliseconds(CLOCK_MONOTONIC) - wantedSince > STALL_MS;
}

int threadIsOurs(void) { return isOurs; }

static int hireLocked(void *(*xServe)(void *));

static void *serve(void *unused) {
  (void)unused;
  isOurs = 1;
  pthread_mutex_lock(&mu);
  for (;;) {
    while (!pFirst) pthread_cond_wait(&work, &mu);
    Job *p = pFirst;
    if (!(pFirst = p->pNext)) ppLast = &pFirst;
    nJob--;
    nIdle--;
    while ((nIdle <= nJob || nThread < SPARE_THREADS) && hireLocked(serve)) continue; /* for the next job */
    pthread_mutex_unlock(&mu);
    p->xRun(p->pArg);
    pthread_mutex_lock(&mu);
    nIdle++;
    p->done = 1;
    if (p->isOrphan) free(p);
    else pthread_cond_signal(&p->finished);
  }
  return 0;
}

static void *serveFirst(void *unused) {
  descriptorsLeave();
  return serve(unused);
}

/* One more thread that serves. 0: there can be none. */
static int hireLocked(void *(*xServe)(void *)) {
  pthread_t t;
  if (makeThread(&t, xServe, 0)) return 0;
  pthread_detach(t);
  nThread++;
  nIdle++;
  return 1;
}

static void queueLocked(Job *p) {
  *ppLast = p;
  ppLast = &p->pNext;
  nJob++;
  pthread_cond_signal(&work);
}

/* What a thread of ours has to say goes through one that has the host's stderr. */
static int sayForOurs(const char *z, size_t n) {
  if (isOurs) descriptorsSay(z, n);
  return isOurs;
}

int onOurThread(void (*xRun)(void *), void *pArg) {
  Job job = {.xRun = xRun, .pArg = pArg, .finished = PTHREAD_COND_INITIALIZER};
  int state;
  pthread_mutex_lock(&mu);
  if (!nThread && (descriptorsScribe() || !hireLocked(serveFirst))) {
    pthread_mutex_unlock(&mu);
    return 0;
  }
  logThrough(sayForOurs);
  queueLocked(&job);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* the job is on this stack */
  while (!job.done) pthread_cond_wait(&job.finished, &mu);
  pthread_setcancelstate(state, 0);
  pthread_mutex_unlock(&mu);
  return 1;
}

/* ---- Go's threads ---- */

typedef struct Start {
  Job job;
  void *(*xRun)(void *);
  void *pArg;
} Start;

static void runStart(void *pArg) {
  Start *p = pArg;
  p->xRun(p->pArg);
  pthread_mutex_lock(&mu);
  nThread++;
  pthread_mutex_unlock(&mu);
}

/* Has a thread of ours become one of Go's, unless it is the last. */
static int lend(void *(*xRun)(void *), void *pArg) {
  Start *p = calloc(1, sizeof *p);
  pthread_mutex_lock(&mu);
  int ok = p && nIdle > nJob && nThread > 1;
  if (ok) {
    *p = (Start){.job = {.xRun = runStart, .pArg = p, .isOrphan = 1}, .xRun = xRun, .pArg = pArg};
    nThread--;
    queueLocked(&p->job);
  }
  pthread_mutex_unlock(&mu);
  if (!ok) free(p);
  return ok;
}

/* What the runtime calls (gcc_libinit.c, _cgo_try_pthread_create). It does not use the number. */
int __wrap_pthread_create(pthread_t *pThread, const pthread_attr_t *pAttributes, void *(*xRun)(void *), void *pArg) {
  static const struct timespec pause = {0, RETRY_MS * 1000000};
  if (!__real_pthread_create(pThread, pAttributes, xRun, pArg) || lend(xRun, pArg)) return 0;
  if (!nWanting) wantedSince = milliseconds(CLOCK_MONOTONIC);
  nWanting++;
  while (__real_pthread_create(pThread, pAttributes, xRun, pArg) && !lend(xRun, pArg)) nanosleep(&pause, 0);
  nWanting--;
  return 0;
}
