/*
** The C of cgo/librados over a librados that answers in every odd way (stub.c), used by several
** threads as Go uses it (cgo/librados/calls.go).
**
** Usage: binding LIBRARY SEED STEPS
*/
#include "../../../cgo/librados/functions.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4

/* A call that is under way: Go's call. */
typedef struct One {
  struct One *pNext;
  uint64_t id;
  Call *p;
  int over;  /* it has ended */
  int given; /* nobody waits for it: who finds that it has ended frees it */
} One;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static One *pFirst;
static uint64_t lastId;
static long nHeard, nBroken, nEnded, nGiven, nRefused;

static rados_t cluster;
static rados_ioctx_t io;
static int steps;

static void fail(const char *z) {
  fprintf(stderr, "%s\n", z);
  exit(1);
}

/* Takes what is queued, until a call without a number and all others have ended. */
static void *dispatch(void *unused) {
  for (int isLast = 0, isEmpty = 0; !isLast || !isEmpty;) {
    for (Call *pNext, *p = callsTake(); p; p = pNext) {
      pNext = p->pNext;
      pthread_mutex_lock(&mu);
      if (p->kind == CALL_ENDED && !p->id) {
        isLast = 1;
        callFree(p);
      } else if (p->kind == CALL_ENDED) {
        One **pp = &pFirst;
        while (*pp && (*pp)->id != p->id) pp = &(*pp)->pNext;
        if (!*pp || (*pp)->p != p) fail("a call has ended that nobody made");
        One *pOne = *pp;
        *pp = pOne->pNext;
        nEnded++;
        if (pOne->given) {
          callFree(p);
          free(pOne);
        } else {
          pOne->over = 1;
          pthread_cond_broadcast(&changed);
        }
      } else {
        if (p->kind == CALL_HEARD) nHeard++;
        else nBroken++;
        if (p->nData && memcmp(p->pData, "heard", 5)) fail("heard what nobody said");
        callFree(p);
      }
      isEmpty = !pFirst;
      pthread_mutex_unlock(&mu);
    }
  }
  return unused;
}

typedef struct Step Step;
struct Step {
  int (*xStart)(Step *, Call *);
  unsigned *pSeed;
  Watch *pWatch;
};

static unsigned any(Step *s, unsigned n) { return (unsigned)rand_r(s->pSeed) % n; }

/* An object's name, in memory that ends with it. The caller frees it. */
static char *object(Step *s) {
  char z[64];
  snprintf(z, sizeof z, "logs/%u", any(s, 10));
  return strdup(z);
}

/* Begins a call. NULL: it was refused. */
static One *launch(Step *s) {
  One *pOne = calloc(1, sizeof *pOne);
  pthread_mutex_lock(&mu);
  pOne->id = ++lastId;
  pOne->pNext = pFirst;
  pFirst = pOne;
  pOne->p = callNew(pOne->id);
  pthread_mutex_unlock(&mu);
  if (pOne->p && s->xStart(s, pOne->p) >= 0) return pOne;
  pthread_mutex_lock(&mu);
  One **pp = &pFirst;
  while (*pp != pOne) pp = &(*pp)->pNext;
  *pp = pOne->pNext;
  nRefused++;
  pthread_mutex_unlock(&mu);
  callFree(pOne->p);
  free(pOne);
  return 0;
}

static void drop(One *pOne) {
  callFree(pOne->p);
  free(pOne);
}

/* Looks at all that a call has read. */
static void results(Call *p) {
  static unsigned long sum;
  unsigned long seen = 0;
  const char *zName, *pValue;
  char *zKey, *pOmap;
  size_t nKey, n;
  for (size_t i = 0; i < p->nData; i++) seen += (unsigned char)p->pData[i];
  while (p->xattrs && nextXattr(p, &zName, &pValue, &n) >= 0 && zName)
    for (size_t i = 0; i < n; i++) seen += (unsigned char)pValue[i];
  while (p->omap && nextOmap(p, &zKey, &pOmap, &nKey, &n) >= 0 && zKey) {
    for (size_t i = 0; i < nKey; i++) seen += (unsigned char)zKey[i];
    for (size_t i = 0; i < n; i++) seen += (unsigned char)pOmap[i];
  }
  for (size_t i = 0; i < p->nReply; i++) seen += (unsigned char)p->pReply[i];
  __atomic_add_fetch(&sum, seen + p->nObject + (unsigned long)p->modified, __ATOMIC_RELAXED);
}

/* Waits for a call; or gives it up, and cancels it. NULL: it was given up. */
static One *await(Step *s, One *pOne, int patient) {
  pthread_mutex_lock(&mu);
  if (!patient && !any(s, 3)) {
    pthread_mutex_unlock(&mu);
    radosCancel(io, pOne->p->completion);
    pthread_mutex_lock(&mu);
    if (!pOne->over) {
      pOne->given = 1;
      nGiven++;
      pOne = 0;
    }
  }
  while (pOne && !pOne->over) pthread_cond_wait(&changed, &mu);
  pthread_mutex_unlock(&mu);
  return pOne;
}

static void call(Step *s, int (*xStart)(Step *, Call *)) {
  s->xStart = xStart;
  One *pOne = launch(s);
  if (!pOne || !(pOne = await(s, pOne, 0))) return;
  if (pOne->p->rc >= 0) results(pOne->p);
  drop(pOne);
}

static int startWrite(Step *s, Call *p) {
  char *z = object(s), *pData = malloc(100);
  memset(pData, 'w', 100);
  writeBegin(p);
  for (unsigned n = any(s, 6); n; n--) switch (any(s, 15)) {
    case 0: writeCreate(p, (int)any(s, 2)); break;
    case 1: writeAssertExists(p); break;
    case 2: writeAssertVersion(p, 1); break;
    case 3: writeCompareBytes(p, pData, any(s, 101), 0); break;
    case 4: writeCompareXattr(p, z, pData, any(s, 101)); break;
    case 5: writeCompareOmap(p, z, strlen(z), pData, any(s, 101)); break;
    case 6: writeData(p, pData, any(s, 101), 1); break;
    case 7: writeFull(p, pData, any(s, 101)); break;
    case 8: writeAppend(p, pData, any(s, 101)); break;
    case 9: writeTruncate(p, 0); break;
    case 10: writeZero(p, 0, 1); break;
    case 11: writeRemove(p); break;
    case 12: writeSetXattr(p, z, pData, any(s, 101)), writeRemoveXattr(p, z); break;
    case 13: writeSetOmap(p, z, strlen(z), pData, any(s, 101)), writeRemoveOmap(p, z, strlen(z)); break;
    case 14: writeExec(p, z, z, pData, any(s, 101)); break;
    }
  int rc = callWrite(p, io, z);
  free(z);
  free(pData);
  return rc;
}

static int startRead(Step *s, Call *p) {
  char *z = object(s);
  readBegin(p);
  if (any(s, 2)) readAssertVersion(p, 1);
  if (any(s, 2)) readCompareXattr(p, z, LIBRADOS_CMPXATTR_OP_NE, z, any(s, 2));
  if (any(s, 2)) readStat(p);
  if (any(s, 2)) readXattrs(p);
  int ok = !any(s, 2) || readData(p, 0, 1 + any(s, 5000));
  if (any(s, 2)) readOmap(p, "", z, 10);
  else if (any(s, 2)) readOmapKey(p, z, strlen(z));
  int rc = ok ? callRead(p, io, z) : -ENOMEM;
  free(z);
  return rc;
}

static int startNotify(Step *s, Call *p) {
  char *z = object(s);
  int rc = callNotify(p, io, z, z, (int)any(s, 2), 10);
  free(z);
  return rc;
}

static int startWatch(Step *s, Call *p) { return callWatch(p, s->pWatch, 1); }
static int startUnwatch(Step *s, Call *p) { return callUnwatch(p, io, s->pWatch->handle); }
static int startFlush(Step *s, Call *p) { return s->pWatch ? callFlush(p, cluster) : -EINVAL; }

/* Runs one to its end. 1: it was begun, and has said that it succeeded. */
static int whole(Step *s, int (*xStart)(Step *, Call *), int again) {
  One *pOne;
  s->xStart = xStart;
  while (!(pOne = launch(s)))
    if (!again) return 0;
  await(s, pOne, 1);
  int ok = pOne->p->rc >= 0;
  drop(pOne);
  return ok;
}

/* A watch, which may not begin. It is freed after a flush. */
static void watch(Step *s) {
  char *z = object(s);
  s->pWatch = watchNew(1, io, z);
  free(z);
  if (whole(s, startWatch, 0)) {
    usleep(any(s, 300));
    whole(s, startUnwatch, 1);
  }
  whole(s, startFlush, 1);
  free(s->pWatch);
}

static void *cancel(void *pArg) {
  radosCancel(io, ((Call *)pArg)->completion);
  return 0;
}

/* A write that this thread waits for, and another one cancels. */
static void here(Step *s) {
  Call *p = callNewHere();
  pthread_t t;
  if (p && startWrite(s, p) >= 0) {
    int is = !any(s, 2) && !pthread_create(&t, 0, cancel, p);
    callAwait(p);
    if (is) pthread_join(t, 0);
  }
  callFree(p);
}

static void *work(void *pArg) {
  Step s = {.pSeed = pArg};
  for (int i = 0; i < steps; i++) switch (any(&s, 6)) {
    case 0: here(&s); break;
    case 1: watch(&s); break;
    case 2: call(&s, startNotify); break;
    case 3: call(&s, startRead); break;
    default: call(&s, any(&s, 2) ? startWrite : startRead);
    }
  return 0;
}

/* A library that is not there, and one that is none. */
static void refuse(const char *zLibrary, int wantMissing) {
  int missing;
  char *z = radosLoad(zLibrary, &missing);
  if (!z || missing != wantMissing) fail("a library was loaded that is none");
  free(z);
}

int main(int argc, char **argv) {
  pthread_t aThread[THREADS], dispatcher;
  unsigned aSeed[THREADS];
  int missing;
  if (argc != 4) fail("binding LIBRARY SEED STEPS");
  steps = atoi(argv[3]);
  refuse("/nowhere/librados.so.2", 1);
  refuse("libm.so.6", 0);
  char *z = radosLoad(argv[1], &missing);
  if (z) fail(z);
  if (radosCreate(&cluster, "ceph", argv[2]) < 0 || radosIOCreate(cluster, 1, &io) < 0 || radosConnect(cluster) < 0) fail("no client");
  pthread_create(&dispatcher, 0, dispatch, 0);
  for (int i = 0; i < THREADS; i++) {
    aSeed[i] = (unsigned)atoi(argv[2]) * 100 + (unsigned)i;
    pthread_create(&aThread[i], 0, work, &aSeed[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(aThread[i], 0);
  Call *pLast = callNew(0);
  while (!pLast || callNotify(pLast, io, "end", "", 0, 1) < 0) callFree(pLast), pLast = callNew(0);
  radosShutdown(cluster); /* answers what was given up, and the last one */
  pthread_join(dispatcher, 0);
  if (steps >= 40 && (!nHeard || !nBroken || !nEnded || !nGiven || !nRefused)) fail("nothing odd has happened");
  printf("rados, seed %s, %d steps: done\n", argv[2], steps);
  return 0;
}
