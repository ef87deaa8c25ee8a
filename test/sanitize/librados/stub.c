/*
** A librados that stores nothing, and answers in every odd way: late, before the call has returned,
** with any error, with nothing, after a cancellation, and in no order. Threads of its own call back.
** What it was given it uses until it has answered, and not after that, so that a sanitizer sees who
** has freed it too early.
*/
#include "../../../cgo/librados/api.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define X(result, name, arguments) result rados_##name arguments;
RADOS_FUNCTIONS(X)
#undef X

#define EXPORT __attribute__((visibility("default")))
#define THREADS 3
#define UNUSED(x) ((void)(x))

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER; /* what mu guards */
static uint64_t state = 1;

static unsigned chanceLocked(unsigned n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(state >> 33) % n;
}

static unsigned chance(unsigned n) {
  pthread_mutex_lock(&mu);
  unsigned i = chanceLocked(n);
  pthread_mutex_unlock(&mu);
  return i;
}

/* What an operation may end with. */
static int anyRc(void) {
  static const int a[] = {0, 0, 0, 0, 1, 1 << 30, -ENOENT, -EIO, -ECANCELED, -ESHUTDOWN, -ETIMEDOUT, -ERANGE, -4095, -4096, -2000000};
  return a[chance(sizeof a / sizeof *a)];
}

/* ---- completions ---- */

typedef struct Completion {
  rados_callback_t xDone;
  void *pArg;
  int refs, done, rc;
} Completion;

EXPORT int rados_aio_create_completion2(void *pArg, rados_callback_t x, rados_completion_t *pp) {
  if (!chance(64)) return -ENOMEM;
  Completion *p = calloc(1, sizeof *p);
  *p = (Completion){.xDone = x, .pArg = pArg, .refs = 1};
  *pp = p;
  return 0;
}

static void unref(Completion *p) {
  pthread_mutex_lock(&mu);
  int last = !--p->refs;
  pthread_mutex_unlock(&mu);
  if (last) free(p);
}

EXPORT void rados_aio_release(rados_completion_t p) { unref(p); }

EXPORT int rados_aio_wait_for_complete(rados_completion_t pCompletion) {
  Completion *p = pCompletion;
  pthread_mutex_lock(&mu);
  while (!p->done) pthread_cond_wait(&changed, &mu);
  pthread_mutex_unlock(&mu);
  return 0;
}

EXPORT int rados_aio_get_return_value(rados_completion_t pCompletion) {
  pthread_mutex_lock(&mu);
  int rc = ((Completion *)pCompletion)->rc;
  pthread_mutex_unlock(&mu);
  return rc;
}

EXPORT uint64_t rados_aio_get_version(rados_completion_t p) {
  UNUSED(p);
  return chance(1000);
}

/* ---- operations ---- */

typedef struct Iterator {
  int n, i; /* n < 0: it fails */
  char key[16], value[16];
} Iterator;

static Iterator *iterator(void) {
  Iterator *p = calloc(1, sizeof *p);
  p->n = (int)chance(6) - 1;
  return p;
}

typedef struct ReadOp {
  uint64_t *pnObject;
  time_t *pTime;
  int *apRc[4];
  char *pData;
  size_t nData, *pnData;
  unsigned char *pMore;
} ReadOp;

typedef struct WriteOp {
  int *apRc[64];
  int n;
} WriteOp;

typedef struct Watch {
  struct Watch *pNext;
  uint64_t handle;
  rados_watchcb2_t xHeard;
  rados_watcherrcb_t xBroken;
  void *pArg;
  int ended; /* nothing begins any more */
  int busy;  /* how many are being told */
} Watch;

/* Who waits for an answer. */
typedef struct Pending {
  struct Pending *pNext;
  Completion *pCompletion;
  ReadOp *pRead;
  WriteOp *pWrite;
  char **ppReply;
  size_t *pnReply;
  uint64_t *pHandle, handle;
  Watch *pBegins, *pEnds;
  int flushes, cancelled;
} Pending;

static Pending *pFirst;
static Watch *pWatches;
static uint64_t nHandle;
static int nThread, isOver;
static pthread_t aThread[THREADS];

static void set(int *p, int rc) {
  if (p) *p = rc;
}

static void fillRead(ReadOp *p) {
  for (int i = 0; i < 4; i++) set(p->apRc[i], anyRc());
  if (p->pnObject && chance(2)) *p->pnObject = (uint64_t)-chance(3);
  if (p->pTime && chance(2)) *p->pTime = (time_t)-1;
  if (p->pData && chance(4)) memset(p->pData, 'd', *p->pnData = chance((unsigned)p->nData + 1));
  if (p->pMore) *p->pMore = (unsigned char)chance(3);
}

/* Answers, in any thread, without mu. */
static void answer(Pending *p) {
  int rc = p->cancelled ? -ECANCELED : anyRc();
  if (!p->cancelled && p->pRead) fillRead(p->pRead);
  if (p->pWrite)
    for (int i = 0; i < p->pWrite->n; i++) set(p->pWrite->apRc[i], anyRc());
  if (p->ppReply && chance(4)) { /* also of those that fail */
    *p->pnReply = chance(3) * 4;
    *p->ppReply = *p->pnReply || chance(2) ? calloc(1, *p->pnReply + 1) : 0;
  }
  if (p->pHandle) *p->pHandle = p->handle;
  pthread_mutex_lock(&mu);
  if (p->pBegins && rc < 0) p->pBegins->ended = 1;
  if (p->pEnds) p->pEnds->ended = 1;
  while (p->flushes) { /* nobody who has ended is being told any more */
    p->flushes = 0;
    for (Watch *w = pWatches; w; w = w->pNext) p->flushes |= w->ended && w->busy;
    if (p->flushes) pthread_cond_wait(&changed, &mu);
  }
  Completion *c = p->pCompletion;
  c->rc = rc;
  c->done = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mu);
  if (c->xDone) c->xDone(c, c->pArg);
  unref(c);
  free(p);
}

/* Tells a watch that lives something, or a few things. */
static void tellOne(void) {
  static char word[] = "heard";
  pthread_mutex_lock(&mu);
  Watch *w = pWatches;
  while (w && (w->ended || chanceLocked(2))) w = w->pNext;
  if (w) w->busy++;
  pthread_mutex_unlock(&mu);
  if (!w) return;
  unsigned n = chance(4);
  if (n == 3) w->xBroken(w->pArg, w->handle, anyRc());
  else w->xHeard(w->pArg, 1, w->handle, 2, n ? word : 0, n == 1 ? sizeof word : 0);
  pthread_mutex_lock(&mu);
  w->busy--;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mu);
}

static void *work(void *unused) {
  pthread_mutex_lock(&mu);
  for (;;) {
    while (!pFirst && !isOver) pthread_cond_wait(&changed, &mu);
    if (!pFirst) break;
    Pending **pp = &pFirst;
    while ((*pp)->pNext && chanceLocked(3)) pp = &(*pp)->pNext;
    Pending *p = *pp;
    *pp = p->pNext;
    unsigned late = chanceLocked(4);
    pthread_mutex_unlock(&mu);
    if (!late) usleep(50);
    tellOne();
    answer(p);
    pthread_mutex_lock(&mu);
  }
  pthread_mutex_unlock(&mu);
  return unused;
}

/* Has an operation be answered; or refuses it, or answers before it returns. */
static int submit(Pending one, rados_completion_t c) {
  unsigned how = chance(16);
  if (how == 0) return -EINVAL;
  Pending *p = malloc(sizeof *p);
  *p = one;
  p->pCompletion = c;
  pthread_mutex_lock(&mu);
  p->pCompletion->refs++;
  if (how > 2) {
    p->pNext = pFirst;
    pFirst = p;
    pthread_cond_broadcast(&changed);
  }
  pthread_mutex_unlock(&mu);
  if (how <= 2) answer(p);
  return 0;
}

EXPORT int rados_aio_cancel(rados_ioctx_t io, rados_completion_t c) {
  UNUSED(io);
  int rc = -ENOENT;
  pthread_mutex_lock(&mu);
  for (Pending *p = pFirst; p; p = p->pNext) {
    if (p->pCompletion != c || p->pBegins || p->pEnds || p->flushes) continue;
    p->cancelled = 1;
    rc = 0;
  }
  pthread_mutex_unlock(&mu);
  return rc;
}

EXPORT rados_write_op_t rados_create_write_op(void) { return calloc(1, sizeof(WriteOp)); }
EXPORT void rados_release_write_op(rados_write_op_t p) { free(p); }
EXPORT rados_read_op_t rados_create_read_op(void) { return calloc(1, sizeof(ReadOp)); }
EXPORT void rados_release_read_op(rados_read_op_t p) { free(p); }

EXPORT int rados_aio_write_op_operate(rados_write_op_t op, rados_ioctx_t io, rados_completion_t c, const char *zObject, time_t *p, int f) {
  UNUSED(io), UNUSED(p), UNUSED(f);
  return strlen(zObject) ? submit((Pending){.pWrite = op}, c) : -EINVAL;
}
EXPORT int rados_aio_read_op_operate(rados_read_op_t op, rados_ioctx_t io, rados_completion_t c, const char *zObject, int f) {
  UNUSED(io), UNUSED(f);
  return strlen(zObject) ? submit((Pending){.pRead = op}, c) : -EINVAL;
}

/* Reads what it is given, as who copies it does. */
static void look(const char *p, size_t n) {
  static char last;
  for (size_t i = 0; i < n; i++) __atomic_store_n(&last, p[i], __ATOMIC_RELAXED);
}
static void step(rados_write_op_t op, int *pRc) {
  WriteOp *p = op;
  if (pRc && p->n < 64) p->apRc[p->n++] = pRc;
}

EXPORT void rados_write_op_assert_exists(rados_write_op_t op) { step(op, 0); }
EXPORT void rados_write_op_assert_version(rados_write_op_t op, uint64_t v) { UNUSED(v), step(op, 0); }
EXPORT void rados_write_op_cmpext(rados_write_op_t op, const char *p, size_t n, uint64_t off, int *pRc) {
  UNUSED(off), look(p, n), step(op, pRc);
}
EXPORT void rados_write_op_cmpxattr(rados_write_op_t op, const char *z, uint8_t how, const char *p, size_t n) {
  UNUSED(how), look(z, strlen(z)), look(p, n), step(op, 0);
}
EXPORT void rados_write_op_omap_cmp2(rados_write_op_t op, const char *z, uint8_t how, const char *p, size_t nKey, size_t n, int *pRc) {
  UNUSED(how), look(z, nKey), look(p, n), step(op, pRc);
}
EXPORT void rados_write_op_create(rados_write_op_t op, int x, const char *z) { UNUSED(x), UNUSED(z), step(op, 0); }
EXPORT void rados_write_op_write(rados_write_op_t op, const char *p, size_t n, uint64_t off) { UNUSED(off), look(p, n), step(op, 0); }
EXPORT void rados_write_op_write_full(rados_write_op_t op, const char *p, size_t n) { look(p, n), step(op, 0); }
EXPORT void rados_write_op_append(rados_write_op_t op, const char *p, size_t n) { look(p, n), step(op, 0); }
EXPORT void rados_write_op_truncate(rados_write_op_t op, uint64_t n) { UNUSED(n), step(op, 0); }
EXPORT void rados_write_op_zero(rados_write_op_t op, uint64_t off, uint64_t n) { UNUSED(off), UNUSED(n), step(op, 0); }
EXPORT void rados_write_op_remove(rados_write_op_t op) { step(op, 0); }
EXPORT void rados_write_op_setxattr(rados_write_op_t op, const char *z, const char *p, size_t n) { look(z, strlen(z)), look(p, n), step(op, 0); }
EXPORT void rados_write_op_rmxattr(rados_write_op_t op, const char *z) { look(z, strlen(z)), step(op, 0); }
EXPORT void rados_write_op_omap_set2(rados_write_op_t op, char const *const *azKey, char const *const *ap, const size_t *anKey, const size_t *an, size_t n) {
  for (size_t i = 0; i < n; i++) look(azKey[i], anKey[i]), look(ap[i], an[i]);
  step(op, 0);
}
EXPORT void rados_write_op_omap_rm_keys2(rados_write_op_t op, char const *const *azKey, const size_t *anKey, size_t n) {
  for (size_t i = 0; i < n; i++) look(azKey[i], anKey[i]);
  step(op, 0);
}
EXPORT void rados_write_op_exec(rados_write_op_t op, const char *zClass, const char *zMethod, const char *p, size_t n, int *pRc) {
  look(zClass, strlen(zClass)), look(zMethod, strlen(zMethod)), look(p, n), step(op, pRc);
}

EXPORT void rados_read_op_assert_version(rados_read_op_t op, uint64_t v) { UNUSED(op), UNUSED(v); }
EXPORT void rados_read_op_cmpxattr(rados_read_op_t op, const char *z, uint8_t how, const char *p, size_t n) {
  UNUSED(op), UNUSED(how), look(z, strlen(z)), look(p, n);
}
EXPORT void rados_read_op_stat(rados_read_op_t op, uint64_t *pn, time_t *pTime, int *pRc) {
  ReadOp *p = op;
  p->pnObject = pn;
  p->pTime = pTime;
  p->apRc[0] = pRc;
}
EXPORT void rados_read_op_read(rados_read_op_t op, uint64_t off, size_t n, char *pData, size_t *pn, int *pRc) {
  ReadOp *p = op;
  UNUSED(off);
  p->pData = pData;
  p->nData = n;
  p->pnData = pn;
  p->apRc[1] = pRc;
}
/* Ceph's has the iterator before the operation has begun, whatever becomes of that. */
EXPORT void rados_read_op_getxattrs(rados_read_op_t op, rados_xattrs_iter_t *pp, int *pRc) {
  if (chance(8)) *pp = iterator();
  ((ReadOp *)op)->apRc[2] = pRc;
}
EXPORT void rados_read_op_omap_get_vals2(rados_read_op_t op, const char *zAfter, const char *zPrefix, uint64_t n, rados_omap_iter_t *pp, unsigned char *pMore,
                                         int *pRc) {
  UNUSED(n), look(zAfter, strlen(zAfter)), look(zPrefix, strlen(zPrefix));
  if (chance(8)) *pp = iterator();
  ((ReadOp *)op)->pMore = pMore;
  ((ReadOp *)op)->apRc[3] = pRc;
}
EXPORT void rados_read_op_omap_get_vals_by_keys2(rados_read_op_t op, char const *const *azKey, size_t n, const size_t *anKey, rados_omap_iter_t *pp, int *pRc) {
  for (size_t i = 0; i < n; i++) look(azKey[i], anKey[i]);
  if (chance(8)) *pp = iterator();
  ((ReadOp *)op)->apRc[3] = pRc;
}
EXPORT int rados_getxattrs_next(rados_xattrs_iter_t pIterator, const char **pzName, const char **pp, size_t *pn) {
  Iterator *p = pIterator;
  if (p->n < 0) return -ENOMEM;
  int is = p->i++ < p->n;
  *pzName = is ? p->key : 0;
  *pn = is ? chance(sizeof p->value) : 0;
  *pp = *pn ? p->value : 0;
  return 0;
}
EXPORT void rados_getxattrs_end(rados_xattrs_iter_t p) { free(p); }
EXPORT int rados_omap_get_next2(rados_omap_iter_t pIterator, char **pzKey, char **pp, size_t *pnKey, size_t *pn) {
  Iterator *p = pIterator;
  if (p->n < 0) return -ENOMEM;
  int is = p->i++ < p->n;
  *pzKey = is ? p->key : 0;
  *pnKey = is ? chance(sizeof p->key) : 0;
  *pn = is ? chance(sizeof p->value) : 0;
  *pp = *pn ? p->value : 0;
  return 0;
}
EXPORT void rados_omap_get_end(rados_omap_iter_t p) { free(p); }

EXPORT int rados_aio_notify(rados_ioctx_t io, const char *zObject, rados_completion_t c, const char *p, int n, uint64_t ms, char **ppReply, size_t *pnReply) {
  UNUSED(io), UNUSED(ms), look(zObject, strlen(zObject)), look(p, (size_t)n);
  return submit((Pending){.ppReply = ppReply, .pnReply = pnReply}, c);
}
EXPORT int rados_notify_ack(rados_ioctx_t io, const char *zObject, uint64_t notify, uint64_t handle, const char *p, int n) {
  UNUSED(io), UNUSED(notify), UNUSED(handle), UNUSED(p), UNUSED(n), look(zObject, strlen(zObject));
  return anyRc();
}

/* ---- watches ---- */

EXPORT int rados_aio_watch2(rados_ioctx_t io, const char *zObject, rados_completion_t c, uint64_t *pHandle, rados_watchcb2_t xHeard, rados_watcherrcb_t xBroken,
                            uint32_t timeout, void *pArg) {
  UNUSED(io), UNUSED(timeout), look(zObject, strlen(zObject));
  Watch *w = calloc(1, sizeof *w);
  pthread_mutex_lock(&mu);
  *w = (Watch){.pNext = pWatches, .handle = ++nHandle, .xHeard = xHeard, .xBroken = xBroken, .pArg = pArg};
  pWatches = w; /* it may be told something before it has begun */
  pthread_mutex_unlock(&mu);
  int rc = submit((Pending){.pHandle = pHandle, .handle = w->handle, .pBegins = w}, c);
  if (rc >= 0) return rc;
  pthread_mutex_lock(&mu);
  w->ended = 1;
  while (w->busy) pthread_cond_wait(&changed, &mu);
  pthread_mutex_unlock(&mu);
  return rc;
}
EXPORT int rados_aio_unwatch(rados_ioctx_t io, uint64_t handle, rados_completion_t c) {
  UNUSED(io);
  pthread_mutex_lock(&mu);
  Watch *w = pWatches;
  while (w && w->handle != handle) w = w->pNext;
  pthread_mutex_unlock(&mu);
  return w ? submit((Pending){.pEnds = w}, c) : -ENOTCONN;
}
EXPORT int rados_aio_watch_flush(rados_t h, rados_completion_t c) {
  UNUSED(h);
  return submit((Pending){.flushes = 1}, c);
}

/* ---- the client ---- */

EXPORT int rados_connect(rados_t h) {
  UNUSED(h);
  while (nThread < THREADS && !pthread_create(&aThread[nThread], 0, work, 0)) nThread++;
  return nThread == THREADS ? 0 : -EAGAIN;
}
/* Answers whatever has no answer yet, and ends. */
EXPORT void rados_shutdown(rados_t h) {
  UNUSED(h);
  pthread_mutex_lock(&mu);
  isOver = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mu);
  while (nThread) pthread_join(aThread[--nThread], 0);
  while (pWatches) {
    Watch *w = pWatches;
    pWatches = w->pNext;
    free(w);
  }
}
EXPORT int rados_create2(rados_t *p, const char *zCluster, const char *zName, uint64_t f) {
  UNUSED(zCluster), UNUSED(f);
  state = strtoull(zName, 0, 10) + 1; /* the seed */
  *p = &state;
  return 0;
}
EXPORT int rados_ioctx_create2(rados_t h, int64_t pool, rados_ioctx_t *p) {
  UNUSED(pool);
  *p = h;
  return 0;
}
EXPORT void rados_ioctx_destroy(rados_ioctx_t io) { UNUSED(io); }
EXPORT void rados_ioctx_set_namespace(rados_ioctx_t io, const char *z) { UNUSED(io), UNUSED(z); }
EXPORT void rados_set_pool_full_try(rados_ioctx_t io) { UNUSED(io); }
EXPORT void rados_buffer_free(char *p) { free(p); }

/* ---- what nobody calls here ---- */

EXPORT void rados_version(int *a, int *b, int *c) { *a = *b = *c = 0; }
EXPORT int rados_conf_read_file(rados_t h, const char *z) { return UNUSED(h), UNUSED(z), -ENOENT; }
EXPORT int rados_conf_set(rados_t h, const char *z, const char *zValue) { return UNUSED(h), UNUSED(z), UNUSED(zValue), -ENOENT; }
EXPORT int rados_conf_get(rados_t h, const char *z, char *p, size_t n) { return UNUSED(h), UNUSED(z), UNUSED(p), UNUSED(n), -ENOENT; }
EXPORT int rados_cluster_fsid(rados_t h, char *p, size_t n) { return UNUSED(h), UNUSED(p), UNUSED(n), -ERANGE; }
EXPORT int rados_getaddrs(rados_t h, char **p) { return UNUSED(h), UNUSED(p), -ENOTCONN; }
EXPORT uint64_t rados_get_instance_id(rados_t h) { return UNUSED(h), 0; }
EXPORT int rados_wait_for_latest_osdmap(rados_t h) { return UNUSED(h), -ENOTCONN; }
EXPORT int64_t rados_pool_lookup(rados_t h, const char *z) { return UNUSED(h), UNUSED(z), -ENOENT; }
EXPORT int rados_pool_reverse_lookup(rados_t h, int64_t i, char *p, size_t n) { return UNUSED(h), UNUSED(i), UNUSED(p), UNUSED(n), -ENOENT; }
EXPORT int rados_mon_command(rados_t h, const char **az, size_t n, const char *p, size_t nIn, char **pp, size_t *pn, char **pz, size_t *pnStatus) {
  return UNUSED(h), UNUSED(az), UNUSED(n), UNUSED(p), UNUSED(nIn), UNUSED(pp), UNUSED(pn), UNUSED(pz), UNUSED(pnStatus), -ENOTCONN;
}
EXPORT int rados_nobjects_list_open(rados_ioctx_t io, rados_list_ctx_t *p) { return UNUSED(io), UNUSED(p), -ENOENT; }
EXPORT int rados_nobjects_list_next(rados_list_ctx_t p, const char **a, const char **b, const char **c) {
  return UNUSED(p), UNUSED(a), UNUSED(b), UNUSED(c), -ENOENT;
}
EXPORT void rados_nobjects_list_close(rados_list_ctx_t p) { UNUSED(p); }
EXPORT int rados_lock_exclusive(rados_ioctx_t io, const char *z, const char *zName, const char *zCookie, const char *zText, struct timeval *t, uint8_t f) {
  return UNUSED(io), UNUSED(z), UNUSED(zName), UNUSED(zCookie), UNUSED(zText), UNUSED(t), UNUSED(f), -EBUSY;
}
EXPORT int rados_unlock(rados_ioctx_t io, const char *z, const char *zName, const char *zCookie) {
  return UNUSED(io), UNUSED(z), UNUSED(zName), UNUSED(zCookie), -ENOENT;
}
EXPORT ssize_t rados_list_lockers(rados_ioctx_t io, const char *z, const char *zName, int *pExclusive, char *zTag, size_t *pnTag, char *pClients, size_t *pnClients,
                                  char *pCookies, size_t *pnCookies, char *pAddrs, size_t *pnAddrs) {
  UNUSED(io), UNUSED(z), UNUSED(zName), UNUSED(pExclusive), UNUSED(zTag), UNUSED(pnTag), UNUSED(pClients), UNUSED(pnClients);
  return UNUSED(pCookies), UNUSED(pnCookies), UNUSED(pAddrs), UNUSED(pnAddrs), -ERANGE;
}
EXPORT int rados_break_lock(rados_ioctx_t io, const char *z, const char *zName, const char *zClient, const char *zCookie) {
  return UNUSED(io), UNUSED(z), UNUSED(zName), UNUSED(zClient), UNUSED(zCookie), -ENOENT;
}
