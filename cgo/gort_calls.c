/*
** Go functions that C calls, in a host that is not a Go program: a goroutine runs them, on any of
** Go's threads, while the host's thread waits in C (gort_threads.c says why).
**
** Every exported function's C part calls crosscall2 (_cgo_export.c), and the linker's
** --wrap=crosscall2 has it call this file. To let a thread of ours do the real one is dearer: that
** goroutine is tied to its thread, so that each time it waits for another one, or for the network,
** the runtime goes on with another thread, and later wakes this one.
**
** A goroutine waits for calls in C, with the thread that it has. Whoever takes a call when nobody
** else waits for the next one has another goroutine do so first: a call may take as long as a store
** does, and even then the next one finds somebody. Who has run one waits again, unless enough do.
**
** Who waits keeps one of the runtime's processors (P) for some 10 ms. So two take turns: while one
** waits for a store, the other one was called a moment ago, and has one. If all were idle the
** runtime's monitor would sleep, each system call would wake it, and then it looks every 20 us.
*/
#define _GNU_SOURCE
#include "gort_calls.h"
#include "gort.h"
#include "gort_threads.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Goroutines that wait for calls, at most. More of them keep more processors, and threads. */
#define SERVERS 2

/* How often somebody who may give a call up looks whether Go is stalled. */
#define LOOK_MS 200

enum { CALL_UNDER_WAY, CALL_DONE, CALL_ORPHAN };

typedef struct Call Call;
struct Call {
  GoCall go;
  Call *pNext;
  _Atomic uint32_t state;          /* CALL_ORPHAN: nobody waits for it any more: free it */
};

/* A goroutine that waits for a call. */
typedef struct Server Server;
struct Server {
  Server *pNext;
  Call *pCall;
  _Atomic uint32_t isCalled;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static Call *pFirst, **ppLast = &pFirst; /* calls that nobody has taken: nobody waits */
static Server *pWaiting, **ppLastWaiting = &pWaiting; /* the one that came first first */
static int nWaiting;
static _Thread_local int isImpatient;

int threadsImpatient(int yes) {
  int was = isImpatient;
  isImpatient = yes;
  return was;
}

/* errno is the host's. */
static void futex(_Atomic uint32_t *p, int op, uint32_t v, const struct timespec *pTime) {
  int e = errno;
  syscall(SYS_futex, p, op, v, pTime, 0, 0);
  errno = e;
}

static void futexWait(_Atomic uint32_t *p, uint32_t v, const struct timespec *pTime) { futex(p, FUTEX_WAIT_PRIVATE, v, pTime); }

/* What is there may be another's by now: who waits looks again. */
static void futexWake(_Atomic uint32_t *p) { futex(p, FUTEX_WAKE_PRIVATE, 1, 0); }

static void post(Call *p) {
  pthread_mutex_lock(&mu);
  Server *pServer = pWaiting;
  if (pServer) {
    if (!(pWaiting = pServer->pNext)) ppLastWaiting = &pWaiting;
    nWaiting--;
    p->go.isLast = !nWaiting;
    pServer->pCall = p;
  } else {
    *ppLast = p;
    ppLast = &p->pNext;
  }
  pthread_mutex_unlock(&mu);
  if (!pServer) return;
  atomic_store(&pServer->isCalled, 1);
  futexWake(&pServer->isCalled);
}

GoCall *gortTake(void) {
  Server me = {0};
  pthread_mutex_lock(&mu);
  Call *p = pFirst;
  int waits = !p && nWaiting < SERVERS;
  if (p) {
    if (!(pFirst = p->pNext)) ppLast = &pFirst;
    p->go.isLast = !nWaiting;
  } else if (waits) {
    *ppLastWaiting = &me;
    ppLastWaiting = &me.pNext;
    nWaiting++;
  }
  pthread_mutex_unlock(&mu);
  if (!waits) return p ? &p->go : 0;
  while (!atomic_load(&me.isCalled)) futexWait(&me.isCalled, 0, 0);
  return &me.pCall->go;
}

void gortDone(GoCall *pGo) {
  Call *p = (Call *)pGo;
  if (atomic_exchange(&p->state, CALL_DONE) == CALL_ORPHAN) free(p);
  else futexWake(&p->state);
}

/* Has a goroutine run the call. 0: it was given up, and is an orphan. */
static int employ(Call *p, int mayGiveUp) {
  static const struct timespec look = {0, LOOK_MS * 1000000};
  uint32_t state = CALL_UNDER_WAY;
  int cancel;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel); /* the call may be on this stack */
  post(p);
  while (atomic_load(&p->state) == CALL_UNDER_WAY && !(mayGiveUp && threadsStalled()))
    futexWait(&p->state, CALL_UNDER_WAY, mayGiveUp ? &look : 0);
  int done = !atomic_compare_exchange_strong(&p->state, &state, CALL_ORPHAN);
  pthread_setcancelstate(cancel, 0);
  return done;
}

/* runtime/cgo, and known outside of it: its callbacks.go. */
extern void __real_crosscall2(GoEntry xGo, void *pArg, int n, size_t context) __attribute__((weak));

/* n bytes of arguments and results. A call that may be given up has them in memory of its own. The
** thread on which the runtime was started calls it itself, before there is a goroutine for it. */
void __wrap_crosscall2(GoEntry xGo, void *pArg, int n, size_t context) {
  if (threadIsOurs()) {
    __real_crosscall2(xGo, pArg, n, context);
    return;
  }
  Call call = {.go = {.xGo = xGo, .pArg = pArg}};
  Call *p = isImpatient ? calloc(1, sizeof *p + n) : 0;
  if (!p) {
    employ(&call, 0);
    return;
  }
  *p = call;
  p->go.pArg = memcpy(p + 1, pArg, n);
  if (!employ(p, 1)) return; /* its results are zeros */
  memcpy(pArg, p->go.pArg, n);
  free(p);
}
