/*
** WAL mode: see spool_wal.h. The WAL is a log already: a commit only publishes how far it goes.
** Frames are copied only if they would be lost before the replicator has read them
** (spool_wal_reset.c).
**
** As whoever calls holds a lock that excludes all others, one thread of one process at most is in
** here for a database. The layout of the wal-index is from sqlite.org/walformat.html, section 4.
*/
#include "spool_wal.h"
#include "clock.h"
#include "spool_attach.h"
#include "spool_wake.h"
#include "spool_wal_file.h"
#include <string.h>
#include <unistd.h>

/* The wal-index begins with two copies of it. */
#define WAL_INDEX_HEADER 48

int walIsKnown(SpoolState *st) {
  uint64_t published = atomic_load(&st->walPublished);
  return WAL_FRAMES(published) && published >> 32 == atomic_load(&st->walSalts) >> 32;
}

void walOpened(Spool *p) {
  p->walPage = p->walFrames = 0;
  p->walFollows = 0;
}

/* Publishes nFrame frames; walSum is the running checksum of the last. 0: they were published
** already. */
static int publish(Spool *p, SpoolState *st, uint64_t salts, uint32_t nFrame, uint64_t walSum) {
  uint64_t position = WAL_POSITION(salts, nFrame);
  if (atomic_load(&st->walSalts) != salts) {
    /* frames that we did not see begin: the WAL of somebody who does not use us */
    spoolRaise(st, SPOOL_CAUSE_FOREIGN);
    atomic_store(&st->walSalts, salts);
  } else if (atomic_load(&st->walPublished) == position) {
    return 0;
  } else if (WAL_FRAMES(atomic_load(&st->walPublished)) > nFrame) {
    spoolRaise(st, SPOOL_CAUSE_WAL);
  }
  atomic_store_explicit(&st->publishedAt, clockRealtime(), memory_order_relaxed);
  atomic_store(&st->walSum, walSum);
  atomic_store(&st->walPublished, position);
  walAllDone(st);
  atomic_fetch_add(&st->published, 1);
  atomic_fetch_add(&st->sequence, 1); /* after the position: whoever sees it sees that */
  spoolWake(p);
  return 1;
}

/* The running checksum of the last frame that a wal-index's header counts. */
static uint64_t indexSum(const unsigned char *a) {
  uint32_t s1, s2;
  memcpy(&s1, a + 24, 4);
  memcpy(&s2, a + 28, 4);
  return (uint64_t)s1 << 32 | s2;
}

/* Is the WAL, which has the salts that are published, the one that we know? An older copy of it
** that was put back has the same salts. So the last published frame must be where it was, and the
** nFrame frames that are committed, the last with the checksum walSum, must not be fewer. */
static int walGoesOn(Spool *p, SpoolState *st, uint32_t nFrame, uint64_t walSum) {
  uint64_t published = atomic_load(&st->walPublished), known = atomic_load(&st->walSum);
  uint32_t n = WAL_FRAMES(published);
  if (!n || published >> 32 != atomic_load(&st->walSalts) >> 32) return 1;
  if (nFrame < n) return 0;
  return !known || known == (nFrame == n ? walSum : walFrameSum(p, n));
}

/* If it is not, publishes what it has now. */
static void mustGoOn(Spool *p, SpoolState *st, uint64_t salts, uint32_t nFrame, uint64_t walSum) {
  if (salts != atomic_load(&st->walSalts) || walGoesOn(p, st, nFrame, walSum)) return;
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  atomic_store(&st->walSum, walSum);
  atomic_store(&st->walPublished, WAL_POSITION(salts, nFrame));
  spoolWake(p);
}

/* Only the wal-index says which frames are committed: a writer that was killed after it wrote its
** commit frame leaves a valid frame, which the next writer overwrites. When the WAL is reset, the
** wal-index has been reset before (wal.c, walRestartHdr). So we note its contents while the lock is
** new. */
void walNote(Spool *p, const volatile void *pIndex) {
  SpoolState *st = p->st;
  unsigned char a[2 * WAL_INDEX_HEADER];
  for (int i = 0; i < 2 * WAL_INDEX_HEADER; i++) a[i] = ((const volatile unsigned char *)pIndex)[i];
  p->noteSalts = 0;
  /* the copies differ, or there are none: SQLite will recover it, from all that is valid */
  if (!a[12] || memcmp(a, a + WAL_INDEX_HEADER, WAL_INDEX_HEADER)) return;
  p->noteSalts = get8(a + 32);
  memcpy(&p->noteFrames, a + 16, 4);
  mustGoOn(p, st, p->noteSalts, p->noteFrames, indexSum(a));
}

int walUnlock(Spool *p, const volatile void *pIndex) {
  int isNoted = p->noteSalts != 0;
  p->noteSalts = 0;
  unsigned char a[48];
  for (int i = 0; i < 48; i++) a[i] = ((const volatile unsigned char *)pIndex)[i];
  uint32_t nFrame;
  memcpy(&nFrame, a + 16, 4); /* native order, but for the salts */
  if (!a[12]) return 0; /* not initialised */
  SpoolState *st = spoolState(p);
  uint64_t salts = get8(a + 32);
  if (st && !isNoted) mustGoOn(p, st, salts, nFrame, indexSum(a)); /* it was recovered */
  if (st && nFrame) return publish(p, st, salts, nFrame, indexSum(a));
  if (st && atomic_load(&st->walSalts) == salts && WAL_FRAMES(atomic_load(&st->walPublished))) {
    /* recovery found that no committed frame is valid (WALReader.Committed) */
    spoolRaise(st, SPOOL_CAUSE_WAL);
    atomic_store(&st->walPublished, WAL_POSITION(salts, 0));
    spoolWake(p);
  }
  return 0;
}

int walCommitExclusive(Spool *p) {
  if (!p->walFrames) return 0;
  SpoolState *st = spoolState(p);
  uint64_t salts = st ? atomic_load(&st->walSalts) : 0;
  if (st && !salts) salts = walFileSalts(p); /* a state that is newer than the WAL */
  if (!salts) return 0;
  if (!p->walFollows && !walGoesOn(p, st, p->walFrames, p->walSum))
    spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  p->walFollows = 1; /* from now on nobody else can write */
  return publish(p, st, salts, p->walFrames, p->walSum);
}

void walWrote(Spool *p, const void *pData, int n, int64_t iOfst) {
  const unsigned char *a = pData;
  if (iOfst == 0 && n >= WAL_HEADER) {
    p->walPage = get4(a + 8);
    p->walFrames = 0;
    return;
  }
  if (!p->walPage) {
    unsigned char aHeader[WAL_HEADER];
    int fd = walOpenFile(p);
    if (fd < 0) return;
    p->walPage = walReadHeader(fd, aHeader);
    close(fd);
    if (!p->walPage) return;
  }
  int64_t szFrame = WAL_FRAME + p->walPage, i = (iOfst - WAL_HEADER) / szFrame;
  /* where the commit's database size stands in pData */
  int64_t iSize = WAL_HEADER + i * szFrame + 4 - iOfst;
  if (iSize < 0 || iSize + 4 > n || !get4(a + iSize)) return;
  p->walFrames = (uint32_t)i + 1;
  p->walSum = iSize + 20 <= n ? get8(a + iSize + 12) : 0;
}

void walFailed(Spool *p) {
  SpoolState *st = p->st;
  uint32_t nFrame = p->walFrames;
  p->walFrames = 0;
  if (!nFrame || nFrame == WAL_FRAMES(atomic_load(&st->walPublished))) return;
  atomic_fetch_or(&st->flags, SPOOL_UNDONE);
  /* after the mark: a replicator may have taken it, and looks again */
  spoolRaise(st, SPOOL_CAUSE_IO);
  spoolWake(p);
}

void walFound(Spool *p) {
  unsigned char aHeader[WAL_HEADER];
  int fd = walOpenFile(p);
  p->walPage = fd >= 0 ? walReadHeader(fd, aHeader) : 0;
  p->walFrames = p->walPage ? walLastCommit(fd, aHeader, p->walPage, 0) : 0;
  if (fd >= 0) close(fd);
  p->walSum = p->walFrames ? walFrameSum(p, p->walFrames) : 0;
}
