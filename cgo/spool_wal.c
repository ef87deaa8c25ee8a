/*
** WAL mode. The WAL is a log already: a commit only publishes how far it goes.
** Copying happens when frames would be lost that the replicator has not read.
**
** Everything here runs with the WRITE lock of the wal-index held, or with the
** database locked exclusively; so at most one thread of one process is in here
** for a database. The layout of WAL and wal-index is from
** sqlite.org/walformat.html, sections 2 and 4.
*/
#define _GNU_SOURCE
#include "bytes.h"
#include "spool_stamp.h"
#include "spool_wal.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WAL_HEADER 32
#define WAL_FRAME 24
#define WAL_INDEX_HEADER 48 /* it stands there twice */
#define WAL_POSITION(salts, nFrame) ((salts) >> 32 << 32 | (uint32_t)(nFrame))
#define WAL_FRAMES(position) ((uint32_t)(position))

int walIsKnown(SpoolState *st) {
  uint64_t published = atomic_load(&st->walPublished);
  return WAL_FRAMES(published) && published >> 32 == atomic_load(&st->walSalts) >> 32;
}

void walOpened(Spool *p) {
  p->walPage = p->walFrames = 0;
  p->walFollows = 0;
}

/* No frame is left that only looks committed. */
static void allDone(SpoolState *st) {
  if (atomic_load(&st->flags) & SPOOL_UNDONE) atomic_fetch_and(&st->flags, ~SPOOL_UNDONE);
}

/* Returns 0 if all of it is published already. walSum is the running checksum of frame nFrame. */
static int publish(Spool *p, SpoolState *st, uint64_t salts, uint32_t nFrame, uint64_t walSum) {
  uint64_t position = WAL_POSITION(salts, nFrame);
  struct timespec now;
  if (atomic_load(&st->walSalts) != salts) {
    /* frames that we did not see begin: the WAL of somebody who does not use us */
    spoolRaise(st, SPOOL_CAUSE_FOREIGN);
    atomic_store(&st->walSalts, salts);
  } else if (atomic_load(&st->walPublished) == position) {
    return 0;
  } else if (WAL_FRAMES(atomic_load(&st->walPublished)) > nFrame) {
    spoolRaise(st, SPOOL_CAUSE_WAL);
  }
  clock_gettime(CLOCK_REALTIME, &now);
  atomic_store_explicit(&st->publishedAt, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, memory_order_relaxed);
  atomic_store(&st->walSum, walSum);
  atomic_store(&st->walPublished, position);
  allDone(st);
  atomic_fetch_add(&st->published, 1);
  atomic_fetch_add(&st->sequence, 1); /* after the position: whoever sees it sees that */
  spoolWake(p);
  return 1;
}

static uint32_t readHeader(int fd, unsigned char a[WAL_HEADER]);
static int openWal(Spool *p);

/* The running checksum of the last frame that a wal-index's header counts. */
static uint64_t indexSum(const unsigned char *a) {
  uint32_t s1, s2;
  memcpy(&s1, a + 24, 4);
  memcpy(&s2, a + 28, 4);
  return (uint64_t)s1 << 32 | s2;
}

/* The running checksum that stands in frame iFrame of the WAL's file; 0 if there is no such frame. */
static uint64_t frameSum(Spool *p, uint32_t iFrame) {
  unsigned char a[WAL_HEADER], aSum[8];
  int fd = openWal(p);
  uint32_t szPage = fd >= 0 ? readHeader(fd, a) : 0;
  int64_t at = WAL_HEADER + (int64_t)(iFrame - 1) * (WAL_FRAME + szPage) + 16;
  uint64_t walSum = szPage && pread(fd, aSum, 8, at) == 8 ? get8(aSum) : 0;
  if (fd >= 0) close(fd);
  return walSum;
}

/* Is the WAL, of the salts that are published, the one that we know? An older one that was put back
** in place has the same salts. So the last published frame must stand where it stood, and what is
** committed, nFrame with that checksum, must not be less. */
static int walGoesOn(Spool *p, SpoolState *st, uint32_t nFrame, uint64_t walSum) {
  uint64_t published = atomic_load(&st->walPublished), known = atomic_load(&st->walSum);
  uint32_t n = WAL_FRAMES(published);
  if (!n || published >> 32 != atomic_load(&st->walSalts) >> 32) return 1;
  if (nFrame < n) return 0;
  return !known || known == (nFrame == n ? walSum : frameSum(p, n));
}

/* It is not: what is published is what stands there now. */
static void mustGoOn(Spool *p, SpoolState *st, uint64_t salts, uint32_t nFrame, uint64_t walSum) {
  if (salts != atomic_load(&st->walSalts) || walGoesOn(p, st, nFrame, walSum)) return;
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  atomic_store(&st->walSum, walSum);
  atomic_store(&st->walPublished, WAL_POSITION(salts, nFrame));
  spoolWake(p);
}

/* Only the wal-index says which frames are committed: a writer that was killed after
** it wrote its commit frame leaves a valid one, which the next writer overwrites. When
** the WAL is reset the wal-index is already (wal.c, walRestartHdr), so this is noted before. */
void walNote(Spool *p, const volatile void *pIndex) {
  SpoolState *st = p->st;
  unsigned char a[2 * WAL_INDEX_HEADER];
  for (int i = 0; i < 2 * WAL_INDEX_HEADER; i++) a[i] = ((const volatile unsigned char *)pIndex)[i];
  p->noteSalts = 0;
  /* copies that differ, or none: it will be recovered, from whatever is valid */
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
    /* recovery found none of the frames valid that were committed (WALReader.Committed) */
    spoolRaise(st, SPOOL_CAUSE_WAL);
    atomic_store(&st->walPublished, WAL_POSITION(salts, 0));
    spoolWake(p);
  }
  return 0;
}

/* The page size and salts of the WAL as it is in the file. 0 if there is none. */
static uint32_t readHeader(int fd, unsigned char a[WAL_HEADER]) {
  if (pread(fd, a, WAL_HEADER, 0) != WAL_HEADER || (get4(a) & ~1u) != 0x377f0682u) return 0;
  uint32_t szPage = get4(a + 8);
  return szPage >= 512 && szPage <= 65536 && !(szPage & (szPage - 1)) ? szPage : 0;
}

static int openWal(Spool *p) {
  char *z;
  if (asprintf(&z, "%s-wal", p->zPath) < 0) return -1;
  int fd = fdAboveStdio(open(z, O_RDONLY | O_CLOEXEC));
  free(z);
  return fd;
}

/* The salts in the WAL's file; 0 if there is none. */
static uint64_t fileSalts(Spool *p) {
  unsigned char a[WAL_HEADER];
  int fd = openWal(p);
  uint64_t salts = fd >= 0 && readHeader(fd, a) ? get8(a + 16) : 0;
  if (fd >= 0) close(fd);
  return salts;
}

int walCommitExclusive(Spool *p) {
  if (!p->walFrames) return 0;
  SpoolState *st = spoolState(p);
  uint64_t salts = st ? atomic_load(&st->walSalts) : 0;
  if (st && !salts) salts = fileSalts(p); /* a state that is newer than the WAL */
  if (!salts) return 0;
  if (!p->walFollows && !walGoesOn(p, st, p->walFrames, p->walSum)) spoolRaise(st, SPOOL_CAUSE_FOREIGN);
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
    int fd = openWal(p);
    if (fd < 0) return;
    p->walPage = readHeader(fd, aHeader);
    close(fd);
    if (!p->walPage) return;
  }
  int64_t szFrame = WAL_FRAME + p->walPage, i = (iOfst - WAL_HEADER) / szFrame;
  int64_t iSize = WAL_HEADER + i * szFrame + 4 - iOfst; /* where the commit's database size stands in pData */
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
  spoolRaise(st, SPOOL_CAUSE_IO); /* after the mark: a replicator may have taken it, and looks again */
  spoolWake(p);
}

/* The running checksum of the frames, so that only what recovery would accept is
** copied. Words are in the order that the magic says; the sums never leave it. */
typedef struct WalSum {
  uint32_t s1, s2;
  int big;
} WalSum;

static void addSum(WalSum *p, const unsigned char *a, uint32_t n) {
  for (; n >= 8; n -= 8, a += 8) {
    uint32_t x, y;
    memcpy(&x, a, 4);
    memcpy(&y, a + 4, 4);
    if (p->big) {
      x = __builtin_bswap32(x);
      y = __builtin_bswap32(y);
    }
    p->s1 += x + p->s2;
    p->s2 += y + p->s1;
  }
}

static int frameValid(WalSum *p, const unsigned char *a, uint32_t szPage, uint64_t salts) {
  if (!get4(a) || get8(a + 8) != salts) return 0;
  addSum(p, a, 8);
  addSum(p, a + WAL_FRAME, szPage);
  return p->s1 == get4(a + 16) && p->s2 == get4(a + 20);
}

/* The last commit among the valid frames from iFirst+1 on; iFirst if there is none. */
static uint32_t lastCommit(int fd, const unsigned char *aHeader, uint32_t szPage, uint32_t iFirst) {
  WalSum sum = {get4(aHeader + 24), get4(aHeader + 28), get4(aHeader) & 1};
  uint32_t szFrame = WAL_FRAME + szPage, last = iFirst;
  unsigned char *aFrame = malloc(szFrame);
  int ok = aFrame != 0;
  if (ok && iFirst) { /* the sum goes on from the one that stands in frame iFirst */
    ok = pread(fd, aFrame, WAL_FRAME, WAL_HEADER + (int64_t)(iFirst - 1) * szFrame) == WAL_FRAME;
    if (ok) sum.s1 = get4(aFrame + 16), sum.s2 = get4(aFrame + 20);
  }
  for (uint32_t i = iFirst; ok; i++) {
    if (pread(fd, aFrame, szFrame, WAL_HEADER + (int64_t)i * szFrame) != (ssize_t)szFrame) break;
    if (!frameValid(&sum, aFrame, szPage, get8(aHeader + 16))) break;
    if (get4(aFrame + 4)) last = i + 1;
  }
  free(aFrame);
  return last;
}

void walFound(Spool *p) {
  unsigned char aHeader[WAL_HEADER];
  int fd = openWal(p);
  p->walPage = fd >= 0 ? readHeader(fd, aHeader) : 0;
  p->walFrames = p->walPage ? lastCommit(fd, aHeader, p->walPage, 0) : 0;
  if (fd >= 0) close(fd);
  p->walSum = p->walFrames ? frameSum(p, p->walFrames) : 0;
}

/* Pages that were met: a hash table of their numbers, at most half full. */
typedef struct PageSet {
  uint32_t *a, mask;
} PageSet;

static int newPages(PageSet *p, uint32_t nMax) {
  uint32_t n = 64;
  while (n / 2 < nMax && n < 1u << 31) n *= 2;
  p->mask = n - 1;
  p->a = calloc(n, sizeof *p->a);
  return p->a != 0;
}

/* Returns 1 if page pgno was not met before. */
static int meetPage(PageSet *p, uint32_t pgno) {
  uint32_t i = pgno * 0x9e3779b1u & p->mask;
  while (p->a[i] && p->a[i] != pgno) i = (i + 1) & p->mask;
  int isNew = !p->a[i];
  p->a[i] = pgno;
  return isNew;
}

/* Frames that are read at once have about this many bytes. */
#define COPY_BYTES (128u << 10)

/* Appends what frames iFirst+1 .. iLast make of the database to a transaction: from the
** last one back, so that of each page only the newest version is copied. aBuf is for
** nBlock frames. Returns 0 if these are not the frames. */
static int copyPages(Spool *p, SpoolTxn *t, int fd, uint32_t szPage, uint64_t salts, uint32_t iFirst, uint32_t iLast,
                     unsigned char *aBuf, uint32_t nBlock, PageSet *pMet, int64_t *pSize) {
  uint32_t szFrame = WAL_FRAME + szPage;
  *pSize = 0;
  while (iLast > iFirst && !t->lost) {
    uint32_t n = iLast - iFirst < nBlock ? iLast - iFirst : nBlock;
    iLast -= n;
    ssize_t want = (ssize_t)n * szFrame;
    if (pread(fd, aBuf, want, WAL_HEADER + (int64_t)iLast * szFrame) != want) return 0;
    while (n-- > 0) {
      const unsigned char *a = aBuf + (size_t)n * szFrame;
      uint32_t pgno = get4(a);
      if (!*pSize) *pSize = (int64_t)get4(a + 4) * szPage; /* the last frame is a commit */
      /* without salts: their checksums were forgotten (WALReader.Committed, in spool/wal.go) */
      if (!pgno || !*pSize || (get8(a + 8) != salts && get8(a + 8))) return 0;
      int64_t iOfst = (int64_t)(pgno - 1) * szPage;
      if (meetPage(pMet, pgno) && iOfst < *pSize) spoolWrite(p, t, a + WAL_FRAME, (int)szPage, iOfst);
    }
  }
  return 1;
}

/* Copies frames iFirst+1 .. iLast, as one transaction. Returns 0 if that cannot be done. */
static int copyFrames(Spool *p, SpoolState *st, int fd, uint32_t szPage, uint64_t salts, uint32_t iFirst, uint32_t iLast) {
  uint32_t szFrame = WAL_FRAME + szPage, nBlock = COPY_BYTES / szFrame + 1;
  struct stat s; /* a wal-index may say any number, for which there would be room made */
  if (fstat(fd, &s) || s.st_size < WAL_HEADER + (int64_t)iLast * szFrame) return 0;
  unsigned char *aBuf = malloc((size_t)nBlock * szFrame);
  PageSet met = {0};
  SpoolTxn t;
  int64_t size;
  spoolBeginCopy(st, &t);
  t.before = WAL_POSITION(salts, iLast);
  int ok = aBuf && newPages(&met, iLast - iFirst) &&
           copyPages(p, &t, fd, szPage, salts, iFirst, iLast, aBuf, nBlock, &met, &size);
  free(met.a);
  free(aBuf);
  if (!ok) {
    spoolUnmap(p); /* segments beyond head: whoever writes there next makes them anew */
    return 0;      /* head was not moved: there is no such transaction */
  }
  spoolEnd(p, &t, 0, size);
  atomic_store(&st->dbSize, -1); /* the size of the file is not that of the database until a checkpoint */
  return 1;
}

/* How many frames of the WAL of these salts are committed. Without a note, what
** is published; *pExact is 0 then, as somebody may have committed more. */
static uint32_t committed(Spool *p, SpoolState *st, uint64_t salts, int *pExact) {
  uint32_t n = WAL_FRAMES(atomic_load(&st->walPublished));
  *pExact = salts && p->noteSalts == salts;
  return *pExact && p->noteFrames > n ? p->noteFrames : n;
}

/* The frames of the file up to nCommitted, from the first one that the replicator has
** not consumed. 0 if they are not there, or others that nobody can tell about. What the
** wal-index calls committed (exact), readers take without a look at checksums; so do we. */
static int copyOnReset(Spool *p, SpoolState *st, int fd, const unsigned char *aOld, uint32_t szPage, uint32_t nCommitted,
                       int exact) {
  uint64_t consumed = atomic_load(&st->walConsumed), salts = get8(aOld + 16);
  uint32_t iFirst = consumed >> 32 == salts >> 32 ? WAL_FRAMES(consumed) : 0;
  if (!exact && lastCommit(fd, aOld, szPage, iFirst) != nCommitted) return 0;
  return iFirst >= nCommitted || copyFrames(p, st, fd, szPage, salts, iFirst, nCommitted);
}

void walBeforeReset(Spool *p, const unsigned char *aHeader) {
  SpoolState *st = spoolState(p);
  if (!st) return; /* whatever is attached next begins with a base copy */
  uint64_t salts = atomic_load(&st->walSalts);
  unsigned char aOld[WAL_HEADER];
  int exact;
  uint32_t nCommitted = committed(p, st, salts, &exact);
  if (!nCommitted) {
    /* nothing of ours can be lost: the first commit of this WAL comes, perhaps after
    ** rollbacks that wrote a header too, or it ends without any. Or somebody else has used it meanwhile. */
    int theirs = p->noteSalts && p->noteSalts != salts && p->noteFrames;
    if (stampForeign(p, st) || theirs) spoolRaise(st, SPOOL_CAUSE_FOREIGN);
    return;
  }
  int fd = openWal(p);
  uint32_t szPage = fd >= 0 ? readHeader(fd, aOld) : 0;
  if (!szPage || get8(aOld + 16) != salts || (aHeader && get4(aHeader + 16) != (uint32_t)(salts >> 32) + 1))
    spoolRaise(st, SPOOL_CAUSE_FOREIGN); /* not the WAL that we know, or not its successor */
  else if (!copyOnReset(p, st, fd, aOld, szPage, nCommitted, exact))
    spoolRaise(st, SPOOL_CAUSE_WAL);
  if (fd >= 0) close(fd);
}

void walAfterReset(Spool *p, const unsigned char *aHeader) {
  SpoolState *st = p->st; /* of a lost one nobody reads it */
  uint64_t salts = aHeader ? get8(aHeader + 16) : 0;
  atomic_store(&st->walPublished, WAL_POSITION(salts, 0));
  atomic_store(&st->walSalts, salts);
  allDone(st);
  atomic_store(&st->dbVersion, 0); /* the change counter moves at checkpoints, unseen */
  atomic_store(&st->dbSize, -1);
  p->noteSalts = 0;
  if (aHeader) return; /* a commit comes, or nothing that matters */
  p->walPage = p->walFrames = 0;
  spoolWake(p); /* if generation was raised, nobody else will say so */
}
