/*
** Calls of librados that are under way (calls.h).
*/
#include "calls.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queued = PTHREAD_COND_INITIALIZER;
static Call *pFirst, **ppLast = &pFirst;

static void enqueue(Call *p) {
  p->pNext = 0;
  pthread_mutex_lock(&mu);
  *ppLast = p;
  ppLast = &p->pNext;
  pthread_cond_signal(&queued);
  pthread_mutex_unlock(&mu);
}

Call *callsTake(void) {
  pthread_mutex_lock(&mu);
  while (!pFirst) pthread_cond_wait(&queued, &mu);
  Call *p = pFirst;
  pFirst = 0;
  ppLast = &pFirst;
  pthread_mutex_unlock(&mu);
  return p;
}

static void ended(rados_completion_t completion, void *pArg) {
  Call *p = pArg;
  p->rc = rados.aio_get_return_value(completion);
  p->version = rados.aio_get_version(completion);
  enqueue(p);
}

Call *callNew(uint64_t id) {
  Call *p = calloc(1, sizeof *p);
  if (p && rados.aio_create_completion2(p, ended, &p->completion) < 0) {
    free(p);
    p = 0;
  }
  if (p) p->id = id;
  return p;
}

Call *callNewHere(void) {
  Call *p = calloc(1, sizeof *p);
  if (p && rados.aio_create_completion2(0, 0, &p->completion) < 0) {
    free(p);
    p = 0;
  }
  return p;
}

void callAwait(Call *p) {
  rados.aio_wait_for_complete(p->completion);
  p->rc = rados.aio_get_return_value(p->completion);
  p->version = rados.aio_get_version(p->completion);
}

void callFree(Call *p) {
  if (!p) return;
  if (p->xattrs) rados.getxattrs_end(p->xattrs);
  if (p->omap) rados.omap_get_end(p->omap);
  if (p->write) rados.release_write_op(p->write);
  if (p->read) rados.release_read_op(p->read);
  if (p->completion) rados.aio_release(p->completion);
  if (p->pReply) rados.buffer_free(p->pReply);
  free(p->pData);
  free(p);
}

int callWrite(Call *p, rados_ioctx_t io, const char *zObject) {
  return rados.aio_write_op_operate(p->write, io, p->completion, zObject, 0, 0);
}

int callRead(Call *p, rados_ioctx_t io, const char *zObject) {
  return rados.aio_read_op_operate(p->read, io, p->completion, zObject, 0);
}

int callNotify(Call *p, rados_ioctx_t io, const char *zObject, const char *pData, int nData, uint64_t ms) {
  return rados.aio_notify(io, zObject, p->completion, pData, nData, ms, &p->pReply, &p->nReply);
}

int callUnwatch(Call *p, rados_ioctx_t io, uint64_t handle) { return rados.aio_unwatch(io, handle, p->completion); }

int callFlush(Call *p, rados_t cluster) { return rados.aio_watch_flush(cluster, p->completion); }

Watch *watchNew(uint64_t id, rados_ioctx_t io, const char *zObject) {
  size_t n = strlen(zObject) + 1;
  Watch *p = calloc(1, sizeof *p + n);
  if (!p) return 0;
  p->id = id;
  p->io = io;
  memcpy(p->zObject, zObject, n);
  return p;
}

static void tell(Watch *p, int kind, int rc, const void *pData, size_t nData) {
  Call *pCall = calloc(1, sizeof *pCall);
  if (!pCall) return; /* who polls finds out */
  pCall->id = p->id;
  pCall->kind = kind;
  pCall->rc = rc;
  if (nData && (pCall->pData = malloc(nData))) {
    memcpy(pCall->pData, pData, nData);
    pCall->nData = nData;
  }
  enqueue(pCall);
}

/* Who notifies waits for the acknowledgement: it means that it was heard, not what became of it. */
static void heard(void *pArg, uint64_t notify, uint64_t handle, uint64_t notifier, void *pData, size_t nData) {
  Watch *p = pArg;
  (void)notifier;
  rados.notify_ack(p->io, p->zObject, notify, handle, 0, 0);
  tell(p, CALL_HEARD, 0, pData, nData);
}

static void broken(void *pArg, uint64_t cookie, int err) {
  (void)cookie;
  tell(pArg, CALL_BROKEN, err, 0, 0);
}

int callWatch(Call *p, Watch *pWatch, uint32_t timeout) {
  return rados.aio_watch2(pWatch->io, pWatch->zObject, p->completion, &pWatch->handle, heard, broken, timeout, pWatch);
}
