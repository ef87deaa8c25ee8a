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
** ours has made, it reads what is not there. */
RemoteFile *remoteFileOf(const char *zName, const char *zEnd) {
  size_t n = strlen(zName) - strlen(zEnd);
  RemoteFile *pWriting = 0;
  int nWriting = 0;
  Quiet q = quietLock(&mu);
  for (RemoteFile *p = pFiles; p; p = p->pNext) {
    if (strlen(p->zName) != n || memcmp(p->zName, zName, n)) continue;
    if (p->mayWrite && p->eLock >= SQLITE_LOCK_RESERVED) pWriting = p, nWriting++;
  }
  quietUnlock(&mu, q);
  return nWriting == 1 ? pWriting : 0;
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
