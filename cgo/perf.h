/*
** How often each method of a file is called, and how long that takes: verneuil_perf().
**
** All calls are counted; of those that are quick one in PERF_SAMPLE is timed, and stands for all.
** Only the thread that uses a file counts, so that no counter needs a locked instruction; any
** thread may read them.
*/
#ifndef VERNEUIL_PERF_H
#define VERNEUIL_PERF_H
#include "clock.h"
#include <stdatomic.h>
#include <stdint.h>

#define PERF_SAMPLE 32

enum {
  OP_CLOSE, OP_READ, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_FILESIZE, OP_LOCK, OP_UNLOCK,
  OP_CHECKRESERVED, OP_FILECONTROL, OP_SHMMAP, OP_SHMLOCK, OP_FETCH, OP_N,
  /* of verneuil_remote */
  OP_OPEN = OP_N, OP_SECTORSIZE, OP_DEVICECHARACTERISTICS, OP_REMOTE_N,
  /* of the VFS itself */
  OP_DELETE = OP_REMOTE_N, OP_ACCESS, OP_FULLPATHNAME, OP_CURRENTTIME, OP_ALL_N
};

typedef struct Perf {
  _Atomic uint64_t n, nTimed, ns;
} Perf;
#define PERF_GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define PERF_ADD(x, k) atomic_store_explicit(&(x), PERF_GET(x) + (k), memory_order_relaxed)

/* Counts a call, and times one in nSample. The compiler sees one increment and one test on the
** way of every call. */
#define PERF_CALL(pCounter, nSample, rc, call)        \
  do {                                                \
    Perf *pPerf = pCounter;                           \
    uint64_t nBefore = PERF_GET(pPerf->n);            \
    PERF_ADD(pPerf->n, 1);                            \
    if (nBefore % (nSample)) {                        \
      rc = call;                                      \
    } else {                                          \
      int64_t t0 = clockMonotonic();                  \
      rc = call;                                      \
      PERF_ADD(pPerf->ns, (uint64_t)(clockMonotonic() - t0)); \
      PERF_ADD(pPerf->nTimed, 1);                     \
    }                                                 \
  } while (0)

/* Counts and times a call, of a method that several threads may be in. */
#define PERF_SHARED_CALL(pCounter, rc, call)                                                  \
  do {                                                                                        \
    Perf *pPerf = pCounter;                                                                   \
    int64_t t0 = clockMonotonic();                                                            \
    rc = call;                                                                                \
    atomic_fetch_add_explicit(&pPerf->n, 1, memory_order_relaxed);                            \
    atomic_fetch_add_explicit(&pPerf->nTimed, 1, memory_order_relaxed);                       \
    atomic_fetch_add_explicit(&pPerf->ns, (uint64_t)(clockMonotonic() - t0), memory_order_relaxed); \
  } while (0)

/* Forwards a call of the file p to the base's method, counted and now and then timed. */
#define FORWARD(p, op, rc, call) PERF_CALL(&(p)->aPerf[op], PERF_SAMPLE, rc, (p)->pBase->call)

/* Adds n counters to those of aSum. The caller keeps others from adding to aSum. */
void perfAdd(Perf *aSum, Perf *a, int n);

/* The counters of n methods, by their numbers, as a JSON object; sqlite3_malloc'd, NULL without
** memory. aOp: which methods; NULL: the first n. */
char *perfJson(Perf *a, const int *aOp, int n);

#endif
