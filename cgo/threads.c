/*
** Threads of ours, in a host that is not a Go program: on them the Go runtime is started,
** and on them run the Go functions that C calls, while the host's thread waits in C.
**
** So Go has no part of the host's threads. A thread that has called Go itself keeps a
** small signal stack of the runtime's, which the host's handlers then run on, as the
** runtime has marked them all; and a signal that arrives while Go code runs has its handler,
** whatever that needs, on a goroutine's stack of some KB. Both write over Go's heap. Nor do
** writes by us raise SIGPIPE or SIGXFSZ in the host: here they are blocked, like all others.
**
** Every exported function's C part calls crosscall2 (_cgo_export.c), and the linker's
** --wrap=crosscall2 has it call this file. Linked without that, into a Go program, whose
** threads are Go's own, nothing here is used.
**
** No child has any of it: one that is forked from a process that runs Go never calls it.
*/
#define _GNU_SOURCE
#include "threads.h"
#include <signal.h>
#include <stddef.h>

typedef struct Job Job;
struct Job {
  Job *pNext;
  void (*xRun)(void *);
  void *pArg;
  int done;
  pthread_cond_t finished;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static Job *pFirst, **ppLast = &pFirst; /* jobs that no thread has begun */
static int nJob;                        /* their number */
static int nIdle;                       /* threads that look for one */
static int nThread;
static _Thread_local int isOurs;

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
    pthread_mutex_unlock(&mu);
    p->xRun(p->pArg);
    pthread_mutex_lock(&mu);
    nIdle++;
    p->done = 1;
    pthread_cond_signal(&p->finished);
  }
  return 0;
}

int makeThread(pthread_t *pThread, void *(*xRun)(void *), void *pArg) {
  static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGURG};
  sigset_t all, old;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) sigdelset(&all, kept[i]);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(pThread, 0, xRun, pArg);
  pthread_sigmask(SIG_SETMASK, &old, 0);
  return rc;
}

int onOurThread(void (*xRun)(void *), void *pArg) {
  Job job = {.xRun = xRun, .pArg = pArg, .finished = PTHREAD_COND_INITIALIZER};
  pthread_t t;
  int state;
  if (isOurs) {
    xRun(pArg);
    return 1;
  }
  pthread_mutex_lock(&mu);
  if (nIdle <= nJob && !makeThread(&t, serve, 0)) {
    pthread_detach(t);
    nThread++;
    nIdle++;
  }
  if (!nThread) {
    pthread_mutex_unlock(&mu);
    return 0;
  }
  *ppLast = &job;
  ppLast = &job.pNext;
  nJob++;
  pthread_cond_signal(&work);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* the job is on this stack */
  while (!job.done) pthread_cond_wait(&job.finished, &mu);
  pthread_setcancelstate(state, 0);
  pthread_mutex_unlock(&mu);
  return 1;
}

/* runtime/cgo, and known outside of it: its callbacks.go. */
typedef void (*GoEntry)(void *);
extern void __real_crosscall2(GoEntry xGo, void *pArg, int n, size_t context) __attribute__((weak));

typedef struct Crossing {
  GoEntry xGo;
  void *pArg;
  int n;
  size_t context;
} Crossing;

static void cross(void *pArg) {
  Crossing *p = pArg;
  __real_crosscall2(p->xGo, p->pArg, p->n, p->context);
}

void __wrap_crosscall2(GoEntry xGo, void *pArg, int n, size_t context) {
  Crossing crossing = {xGo, pArg, n, context};
  onOurThread(cross, &crossing); /* there is one: it has started the runtime */
}
