/*
** Stamps of the database's file: see spool_stamp.h. A stamp is a number made of an fstat(2).
** spool.Stamp in Go must make the same number.
*/
#define _GNU_SOURCE
#include "spool_stamp.h"
#include "process.h"
#include "spool_wake.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int isFile(const struct stat *s, const FileIdentity *pId) {
  return s->st_ino == pId->ino && ((uint64_t)major(s->st_dev) << 32 | minor(s->st_dev)) == pId->dev;
}

int stampOpen(const char *zPath, const FileIdentity *pId) {
  struct stat s;
  int fd = fdAboveStdio(open(zPath, O_PATH | O_CLOEXEC));
  if (fd < 0 || (!fstat(fd, &s) && isFile(&s, pId))) return fd;
  close(fd); /* another file stands there by now */
  return -1;
}

/* A host may have closed a descriptor that it does not know, and have a file of its own there. */
void stampClose(int fd, const FileIdentity *pId) {
  struct stat s;
  int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
  if (flags >= 0 && flags & O_PATH && !fstat(fd, &s) && isFile(&s, pId)) close(fd);
}

static int look(const Spool *p, struct stat *s) {
  if (p->lookFd >= 0 && !fstat(p->lookFd, s) && isFile(s, &p->id)) return 1;
  return !stat(p->zPath, s) && isFile(s, &p->id);
}

static int64_t ns(struct timespec t) { return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec; }

/* Never 0. */
static uint64_t stampOf(const struct stat *s) {
  const uint64_t a[] = {s->st_ino, (uint64_t)s->st_size, (uint64_t)ns(s->st_mtim),
                        (uint64_t)ns(s->st_ctim)};
  uint64_t h = 0;
  for (int i = 0; i < 4; i++) {
    h = (h ^ a[i]) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
  }
  return h ? h : 1;
}

int stampForeign(Spool *p, SpoolState *st) {
  struct stat s;
  uint64_t left = atomic_load(&st->stamp);
  if (!left && atomic_load(&st->mirrorGeneration) != atomic_load(&st->generation)) return 0;
  return !look(p, &s) || stampOf(&s) != left;
}

void stampLeave(Spool *p, SpoolState *st) {
  struct stat s;
  atomic_store_explicit(&st->stamp, look(p, &s) ? stampOf(&s) : 0, memory_order_relaxed);
  atomic_store_explicit(&st->stampedBy, verneuilToken(), memory_order_relaxed);
}

void stampOpened(Spool *p) {
  struct stat s;
  SpoolState *st = p->st;
  uint64_t left = atomic_load(&st->stamp), by = atomic_load(&st->stampedBy);
  /* the first write will say so */
  if (!left || !look(p, &s) || s.st_ctim.tv_nsec || stampOf(&s) != left) return;
  if (atomic_load(&st->stampSettled) == left || (by && by != verneuilToken() && processIsAlive(by)))
    return;
  spoolRaise(st, SPOOL_CAUSE_TIMES);
  spoolWake(p);
}

void stampClosed(Spool *p) {
  uint64_t own = verneuilToken();
  atomic_compare_exchange_strong(&((SpoolState *)p->st)->stampedBy, &own, 0);
}
