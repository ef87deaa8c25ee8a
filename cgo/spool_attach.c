/*
** The list of attached spools: see spool_attach.h. A Spool is found by path and file. While the
** list's mutex is held, no file is looked at, and nobody is waited for.
*/
#define _GNU_SOURCE
#include "spool_attach.h"
#include "log.h"
#include "quiet.h"
#include "spool_dir.h"
#include "spool_segment.h"
#include "spool_stamp.h"
#include "spool_state.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* How many descriptors a replicated database takes while there is something to do: lock, wake,
** mirror, dirty, database, -wal, -shm, and the recorder's own, to look at the database. */
#define SPOOL_FDS 8

/* A process that is stopped while it holds the attach lock must not stop others for long. After so
** many tries, 1 ms apart, they go on without replication. */
#define ATTACH_TRIES 2000

/* And so many where an open database tries again. */
#define ATTACH_TRIES_LATE 20

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* pSpools and nRef */
static Spool *pSpools;
static atomic_int nSpool; /* read without mu, too */

/* p->st becomes st, unless they are the same page. Handles that still use the old one find it lost.
** Takes over st. 0: no memory. The caller holds p->attaching. */
static int replaceState(Spool *p, SpoolState *st, uint64_t ino) {
  SpoolState *old = p->st;
  if (old && p->stateIno == ino && !spoolStateLost(old)) {
    munmap(st, SPOOL_STATE_BYTES);
    return 1;
  }
  if (old) { /* stays mapped until the last handle is closed, as other threads may look at it */
    struct SpoolOld *pOld = malloc(sizeof *pOld);
    if (!pOld) {
      munmap(st, SPOOL_STATE_BYTES);
      return 0;
    }
    pOld->st = old;
    pOld->pNext = p->pOld;
    p->pOld = pOld;
    atomic_fetch_or(&old->flags, SPOOL_LOST);
  }
  p->stateIno = ino;
  p->st = st;
  return 1;
}

/* Finds p's state, and makes it p->st. Another process may keep us waiting, and be stopped itself:
** no mutex is held meanwhile, so that another thread that opens this database waits as long as this
** one, and no longer. */
static int findState(Spool *p, const FileIdentity *pId, int nTry, const char **pzWhy) {
  SpoolFound found;
  int state, ok = 0;
  /* a cancelled thread gives no lock back */
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  if (spoolFindState(p->zDir, p->zPath, pId, nTry, &found)) {
    pthread_mutex_lock(&p->attaching);
    ok = replaceState(p, found.st, found.ino);
    pthread_mutex_unlock(&p->attaching);
    spoolUnlockAttach(found.attachFd);
    *pzWhy = "out of memory";
  } else {
    *pzWhy = found.zWhy;
  }
  pthread_setcancelstate(state, 0);
  return ok;
}

static Spool *newSpool(const char *zPath, const FileIdentity *pId) {
  Spool *p = calloc(1, sizeof *p);
  if (!p) return 0;
  pthread_mutex_init(&p->attaching, 0);
  p->id = *pId;
  p->zPath = strdup(zPath);
  p->zDir = spoolDirOf(zPath);
  p->lookFd = stampOpen(zPath, pId);
  if (p->zPath && p->zDir) return p;
  stampClose(p->lookFd, pId);
  free(p->zPath);
  free(p->zDir);
  free(p);
  return 0;
}

static void freeSpool(Spool *p) {
  spoolUnmap(p);
  for (struct SpoolOld *pOld = p->pOld, *pNext; pOld; pOld = pNext) {
    pNext = pOld->pNext;
    munmap(pOld->st, SPOOL_STATE_BYTES);
    free(pOld);
  }
  if (p->st) munmap(p->st, SPOOL_STATE_BYTES);
  stampClose(p->lookFd, &p->id);
  free(p->zPath);
  free(p->zDir);
  free(p);
}

/* Why one more database must not be replicated, or NULL. The process shall be able to open all that
** it could open without us. So replication has at most half of the descriptors, and takes no more
** of them when three quarters are in use. */
static char *descriptorsShort(void) {
  struct rlimit r;
  if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY) return 0;
  int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3); /* the lowest that is free */
  int rc = errno;
  if (fd >= 0) close(fd);
  int isShort = fd < 0 ? rc == EMFILE || rc == EINVAL : (rlim_t)fd > r.rlim_cur / 4 * 3;
  if (!isShort && (rlim_t)(nSpool + 1) * SPOOL_FDS <= r.rlim_cur / 2) return 0;
  return sqlite3_mprintf("%d databases are replicated, and too few of the process's %lld "
                         "descriptors (RLIMIT_NOFILE) are left for another: raise the limit "
                         "(ulimit -n)", nSpool, (sqlite3_int64)r.rlim_cur);
}

/* The Spool of a file, with one more reference. If there is none: pNew, which is added to the list,
** or NULL. The caller holds mu. */
static Spool *findLocked(const char *zPath, const FileIdentity *pId, Spool *pNew) {
  Spool *p = pSpools;
  while (p && (strcmp(p->zPath, zPath) || !fileIs(pId, p->id.dev, p->id.ino, p->id.birth)))
    p = p->pNext;
  if (p) {
    p->nRef++;
  } else if (pNew) {
    pNew->nRef = 1;
    pNew->pNext = pSpools;
    pSpools = pNew;
    nSpool++;
  }
  return p ? p : pNew;
}

/* The Spool of a file, new if need be, with one more reference. NULL: *pzErr says why. */
static Spool *findSpool(const char *zPath, const FileIdentity *pId, char **pzErr) {
  Quiet q = quietLock(&mu);
  Spool *p = findLocked(zPath, pId, 0);
  quietUnlock(&mu, q);
  if (p || (*pzErr = descriptorsShort())) return p;
  Spool *pNew = newSpool(zPath, pId); /* looks at the file */
  if (!pNew) {
    *pzErr = sqlite3_mprintf("out of memory");
    return 0;
  }
  q = quietLock(&mu);
  p = findLocked(zPath, pId, pNew);
  quietUnlock(&mu, q);
  if (p != pNew) freeSpool(pNew); /* another thread was faster */
  return p;
}

Spool *spoolAttach(const char *zPath, const FileIdentity *pId, int patient, char **pzErr) {
  const char *zWhy;
  Spool *p;
  if (strlen(zPath) > SPOOL_PATH_MAX - 1) {
    *pzErr = sqlite3_mprintf("its path is longer than %d bytes", SPOOL_PATH_MAX - 1);
    return 0;
  }
  if (!(p = findSpool(zPath, pId, pzErr))) return 0;
  if (findState(p, pId, patient ? ATTACH_TRIES : ATTACH_TRIES_LATE, &zWhy)) return p;
  *pzErr = sqlite3_mprintf("spool %s: %s", p->zDir, zWhy);
  spoolRelease(p);
  return 0;
}

void spoolRetain(Spool *p) {
  Quiet q = quietLock(&mu);
  p->nRef++;
  quietUnlock(&mu, q);
}

/* Without a reference, no thread of this process uses the spool. */
void spoolRelease(Spool *p) {
  Quiet q = quietLock(&mu);
  int last = --p->nRef == 0;
  Spool **pp = &pSpools;
  while (last && *pp && *pp != p) pp = &(*pp)->pNext;
  if (last && *pp) { /* it is not in the list if a handler has forked while we were attaching */
    *pp = p->pNext;
    nSpool--;
  }
  quietUnlock(&mu, q);
  if (last) freeSpool(p);
}

static const char zMoved[] = "the file of this connection was deleted, renamed or replaced: reopen "
                             "the database";

/* Is another file at the path by now, or none? */
static int hasMoved(const Spool *p) {
  FileIdentity now;
  return fileIdentity(p->zPath, &now) || !fileIs(&now, p->id.dev, p->id.ino, p->id.birth);
}

SpoolState *spoolState(Spool *p) {
  const char *zWhy = zMoved;
  if (!spoolStateLost(p->st)) return p->st;
  errno = 0;
  if (!hasMoved(p)) findState(p, &p->id, 1, &zWhy);
  int isBusy = errno == EWOULDBLOCK; /* another process attaches: the next commit tries again */
  if (!spoolStateLost(p->st)) {
    if (p->strayTold) verneuilLogOf(VERNEUIL_WARN, p->zPath, "commits are recorded again");
    p->strayTold = 0;
    return p->st;
  }
  if (!p->strayTold && !isBusy)
    verneuilLogOf(VERNEUIL_WARN, p->zPath, "commits are not recorded: spool %s was lost: %s",
                  p->zDir, zWhy);
  p->strayTold |= !isBusy;
  return 0;
}

/* Is the state that we map still the one at its path? If not, it is marked as lost. */
static int isThere(Spool *p) {
  char *z = sqlite3_mprintf("%s/%s", p->zDir, SPOOL_FILE_STATE);
  struct stat found;
  if (!z) return 1;
  int rc = stat(z, &found) ? errno : 0;
  sqlite3_free(z);
  pthread_mutex_lock(&p->attaching);
  int there = rc ? rc != ENOENT && rc != ENOTDIR : (uint64_t)found.st_ino == p->stateIno;
  if (!there) atomic_fetch_or(&p->st->flags, SPOOL_LOST);
  there = !spoolStateLost(p->st);
  pthread_mutex_unlock(&p->attaching);
  return there;
}

char *spoolStray(Spool *p) {
  FileIdentity now;
  const char *zWhy = 0;
  int rc = fileIdentity(p->zPath, &now);
  if (rc == ENOENT || rc == ENOTDIR || (!rc && !fileIs(&now, p->id.dev, p->id.ino, p->id.birth)))
    return sqlite3_mprintf("%s", zMoved);
  if (rc) zWhy = strerror(rc); /* whoever may not look at it any more goes on in the state he has */
  if (isThere(p) || (!rc && findState(p, &p->id, ATTACH_TRIES, &zWhy))) return 0;
  return sqlite3_mprintf("spool %s was lost, and cannot be made again: %s", p->zDir, zWhy);
}

/* The next Spool after p, the first after NULL, with a reference; gives that of p back. One without
** a state has no handle yet: another thread is attaching it, or has tried in vain. */
static Spool *nextSpool(Spool *p) {
  Quiet q = quietLock(&mu);
  Spool *pNext = p ? p->pNext : pSpools;
  while (pNext && !pNext->st) pNext = pNext->pNext;
  if (pNext) pNext->nRef++;
  quietUnlock(&mu, q);
  if (p) spoolRelease(p);
  return pNext;
}

char *spoolStrays(void) {
  char *zList = 0;
  for (Spool *p = nextSpool(0); p; p = nextSpool(p)) {
    char *z = spoolStray(p), *zPath = z ? verneuilQuote(p->zPath) : 0;
    char *zReason = z ? verneuilQuote(z) : 0;
    if (zPath && zReason)
      zList = sqlite3_mprintf("%z%s{\"path\":%s,\"reason\":%s}", zList, zList ? "," : "", zPath,
                              zReason);
    free(zPath);
    free(zReason);
    sqlite3_free(z);
  }
  return zList;
}

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void afterFork(void) { quietUnlock(&mu, forking); }

/* A child's handles have Spools of their own. It must not use those that it inherits: it would
** never learn that its parent has closed them. They stay in memory, as other threads were about to
** use them. */
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  for (Spool *p = pSpools; p; p = p->pNext) {
    stampClose(p->lookFd, &p->id);
  }
  pSpools = 0;
  nSpool = 0;
  quietEnd(forking);
}
/* Registered before recorder_file.c's: what is registered first is prepared for last, and the
** recorder takes our mutex while it holds its own (recorderSpoolOfWal). */
__attribute__((constructor(101))) static void attachLoad(void) {
  pthread_atfork(beforeFork, afterFork, childOfFork);
}
