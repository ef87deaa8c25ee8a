/*
** The list of the open handles of databases in a store. While its mutex is held, nothing is called
** that waits.
*/
#define _GNU_SOURCE
#include "remote_file.h"
#include "quiet.h"
SQLITE_EXTENSION_INIT3
#include <pthread.h>
#include <string.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static RemoteFile *pFiles;
static Perf aClosed[OP_REMOTE_N];  /* sums of the handles that were closed */

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void parentOfFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
}

__attribute__((constructor)) static void remoteFileLoad(void) {
  pthread_atfork(beforeFork, parentOfFork, childOfFork);
}

void remoteFileAdd(RemoteFile *p) {
  Quiet q = quietLock(&mu);
  p->pNext = pFiles;
  p->ppPrev = &pFiles;
  if (pFiles) pFiles->ppPrev = &p->pNext;
  pFiles = p;
  quietUnlock(&mu, q);
}

void remoteFileRemove(RemoteFile *p) {
  Quiet q = quietLock(&mu);
  *p->ppPrev = p->pNext;
  if (p->pNext) p->pNext->ppPrev = p->ppPrev;
  perfAdd(aClosed, p->aPerf, OP_REMOTE_N);
  quietUnlock(&mu, q);
}

/* Journals and WALs are opened by who writes (pager.c, pager_open_journal and pagerOpenWal). For a
** moment that may seem to be two, as one commits and another one goes on; then it is unknown. SQLite
** would tell by sqlite3_database_file_object(), but only of a name of its own: of one that a VFS above
** ours has made, it reads what is not there.
**
** Who opens a journal has RESERVED, or more: if he is the only one, it is his. But he may have passed
** the right to write on, and have kept his lock: then somebody else may write, whose it is not. Who
** opens a WAL has just got that right. */
RemoteFile *remoteFileOf(const char *zName, const char *zEnd, int isWal) {
  size_t n = strlen(zName) - strlen(zEnd);
  RemoteFile *pOpening = 0;
  int nOpening = 0;
  Quiet q = quietLock(&mu);
  for (RemoteFile *p = pFiles; p; p = p->pNext) {
    if (strlen(p->zName) != n || memcmp(p->zName, zName, n)) continue;
    if (p->eLock >= SQLITE_LOCK_RESERVED && (p->mayWrite || !isWal)) pOpening = p, nOpening++;
  }
  quietUnlock(&mu, q);
  return nOpening == 1 ? pOpening : 0;
}

Perf remoteVfsPerf[OP_ALL_N];

void remotePerfSum(Perf *a) {
  perfAdd(a, remoteVfsPerf, OP_ALL_N);
  Quiet q = quietLock(&mu);
  perfAdd(a, aClosed, OP_REMOTE_N);
  for (RemoteFile *p = pFiles; p; p = p->pNext) perfAdd(a, p->aPerf, OP_REMOTE_N);
  quietUnlock(&mu, q);
}

char *remotePerf(void) {
  Perf a[OP_ALL_N] = {{0}};
  remotePerfSum(a);
  return perfJson(a, 0, OP_ALL_N);
}
