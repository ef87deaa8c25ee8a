/*
** Waking a replicator, and waiting for it: see spool_wake.h, and "armed" in spool/doc.go.
*/
#define _GNU_SOURCE
#include "spool_wake.h"
#include "process.h"
#include "spool_dir.h"
#include "wake.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

/* A flush by another process: how often we look for its answer, how often we wake it, and how long
** we wait for somebody to take over from a replicator that is gone. */
#define FLUSH_POLL_MS 5
#define FLUSH_WAKE_MS 100
#define FLUSH_ALONE_MS 2000

int spoolCall(const char *zDir) {
  struct stat s;
  int rc = errno;
  /* for reading, too: a FIFO that has a reader raises no SIGPIPE */
  int fd = spoolOpen(zDir, SPOOL_FILE_WAKE, O_RDWR | O_NONBLOCK);
  if (fd < 0) {
    errno = rc;
    return 0;
  }
  int ok = !fstat(fd, &s) && S_ISFIFO(s.st_mode) && s.st_uid == geteuid();
  ssize_t n;
  do n = ok ? write(fd, "", 1) : 0;
  while (n < 0 && errno == EINTR);
  ok = ok && (n == 1 || errno == EAGAIN); /* full: of wakes */
  close(fd);
  errno = rc;
  return ok;
}

void spoolWake(Spool *p) {
  SpoolState *st = p->st;
  uint32_t armed = atomic_load(&st->armed);
  if (!armed) return;
  if (atomic_load(&st->replicator) == verneuilToken() && bellHeard()) {
    /* before the bell: Go looks which are disarmed, and dies with us */
    atomic_store(&st->armed, 0);
    bellRing();
  } else if (spoolCall(p->zDir)) {
    /* after the byte: if we die in between, somebody is woken twice, rather than never */
    atomic_compare_exchange_strong(&st->armed, &armed, 0);
  }
}

int spoolAlone(SpoolState *st) {
  uint64_t token = atomic_load(&st->replicator);
  pid_t pid = (pid_t)verneuilPid(token);
  return !token || (pid && kill(pid, 0) && errno == ESRCH);
}

int spoolFlush(Spool *p, int ms) {
  SpoolState *st = p->st;
  uint64_t ticket = atomic_fetch_add(&st->flushDrawn, 1) + 1;
  for (int waited = 0, alone = 0; waited < ms && alone < FLUSH_ALONE_MS &&
       !spoolStateLost(st); waited += FLUSH_POLL_MS) {
    if (atomic_load(&st->flushAnswered) >= ticket) return atomic_load(&st->flushDone) >= ticket;
    if (waited % FLUSH_WAKE_MS == 0) spoolCall(p->zDir); /* a replicator may have come since */
    alone = spoolAlone(st) ? alone + FLUSH_POLL_MS : 0;
    usleep(FLUSH_POLL_MS * 1000);
  }
  return 0;
}
