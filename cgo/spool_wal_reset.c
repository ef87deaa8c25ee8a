/*
** When a WAL's frames are about to be lost, those that the replicator has not read are copied into
** the changelog, as one transaction: see spool_wal.h. One thread at most is in here for a database.
*/
#include "spool_attach.h"
#include "spool_log.h"
#include "spool_segment.h"
#include "spool_stamp.h"
#include "spool_wake.h"
#include "spool_wal.h"
#include "spool_wal_file.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A set of page numbers: a hash table, at most half full. */
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

/* Adds page pgno. 1: it is new. */
static int meetPage(PageSet *p, uint32_t pgno) {
  uint32_t i = pgno * 0x9e3779b1u & p->mask;
  while (p->a[i] && p->a[i] != pgno) i = (i + 1) & p->mask;
  int isNew = !p->a[i];
  p->a[i] = pgno;
  return isNew;
}

/* About how many bytes of frames are read at once. */
#define COPY_BYTES (128u << 10)

/* Appends the pages of frames iFirst+1 .. iLast to a transaction, beginning with the last frame, so
** that only the newest version of each page is copied. *pSize becomes the database's size. aBuf has
** room for nBlock frames. 0: these are not the WAL's frames. */
static int copyPages(Spool *p, SpoolTxn *t, int fd, uint32_t szPage, uint64_t salts,
                     uint32_t iFirst, uint32_t iLast,
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
      /* without salts: their checksums were forgotten (spool/sqlitefile, WALReader.Committed) */
      if (!pgno || !*pSize || (get8(a + 8) != salts && get8(a + 8))) return 0;
      int64_t iOfst = (int64_t)(pgno - 1) * szPage;
      if (meetPage(pMet, pgno) && iOfst < *pSize)
        spoolWrite(p, t, a + WAL_FRAME, (int)szPage, iOfst);
    }
  }
  return 1;
}

/* Copies frames iFirst+1 .. iLast, as one transaction. 0: that cannot be done. */
static int copyFrames(Spool *p, SpoolState *st, int fd, uint32_t szPage, uint64_t salts,
                      uint32_t iFirst, uint32_t iLast) {
  uint32_t szFrame = WAL_FRAME + szPage, nBlock = COPY_BYTES / szFrame + 1;
  /* a wal-index may claim any number of frames: no memory is allocated for more than there are */
  struct stat s;
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
    spoolUnmap(p); /* what was written beyond head: the next writer makes those segments anew */
    return 0;      /* head has not moved, so there is no such transaction */
  }
  spoolEnd(p, &t, 0, size);
  /* until a checkpoint the file has another size than the database */
  atomic_store(&st->dbSize, -1);
  return 1;
}

/* How many frames of the WAL of these salts are committed. Without a note it is what was published,
** and *pExact becomes 0, as somebody may have committed more. */
static uint32_t committed(Spool *p, SpoolState *st, uint64_t salts, int *pExact) {
  uint32_t n = WAL_FRAMES(atomic_load(&st->walPublished));
  *pExact = salts && p->noteSalts == salts;
  return *pExact && p->noteFrames > n ? p->noteFrames : n;
}

/* Copies the file's frames up to nCommitted, from the first that the replicator has not consumed.
** 0: they are not all there, or there may be more that are committed. If the wal-index says how
** many are (exact), readers do not look at checksums, and neither do we. */
static int copyOnReset(Spool *p, SpoolState *st, int fd, const unsigned char *aOld, uint32_t szPage,
                       uint32_t nCommitted,
                       int exact) {
  uint64_t consumed = atomic_load(&st->walConsumed), salts = get8(aOld + 16);
  uint32_t iFirst = consumed >> 32 == salts >> 32 ? WAL_FRAMES(consumed) : 0;
  if (!exact && walLastCommit(fd, aOld, szPage, iFirst) != nCommitted) return 0;
  return iFirst >= nCommitted || copyFrames(p, st, fd, szPage, salts, iFirst, nCommitted);
}

void walBeforeReset(Spool *p, const unsigned char *aHeader) {
  SpoolState *st = spoolState(p);
  if (!st) return; /* the next state to be attached begins with a base copy */
  uint64_t salts = atomic_load(&st->walSalts);
  unsigned char aOld[WAL_HEADER];
  int exact;
  uint32_t nCommitted = committed(p, st, salts, &exact);
  if (!nCommitted) {
    /* Nothing of ours can be lost: this WAL has no commit yet, though rollbacks may have written
    ** headers, and gets its first now, or ends. Unless somebody else has used it meanwhile. */
    int theirs = p->noteSalts && p->noteSalts != salts && p->noteFrames;
    if (stampForeign(p, st) || theirs) spoolRaise(st, SPOOL_CAUSE_FOREIGN);
    return;
  }
  int fd = walOpenFile(p);
  uint32_t szPage = fd >= 0 ? walReadHeader(fd, aOld) : 0;
  if (!szPage || get8(aOld + 16) != salts || (aHeader &&
                                              get4(aHeader + 16) != (uint32_t)(salts >> 32) + 1))
    /* it is not the WAL that we know, or what follows is not its successor */
    spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  else if (!copyOnReset(p, st, fd, aOld, szPage, nCommitted, exact))
    spoolRaise(st, SPOOL_CAUSE_WAL);
  if (fd >= 0) close(fd);
}

void walAfterReset(Spool *p, const unsigned char *aHeader) {
  SpoolState *st = p->st; /* nobody reads a lost one */
  uint64_t salts = aHeader ? get8(aHeader + 16) : 0;
  atomic_store(&st->walPublished, WAL_POSITION(salts, 0));
  atomic_store(&st->walSalts, salts);
  walAllDone(st);
  atomic_store(&st->dbVersion, 0); /* the change counter moves at checkpoints, unseen */
  atomic_store(&st->dbSize, -1);
  p->noteSalts = 0;
  if (aHeader) return; /* a commit follows, or nothing that matters */
  p->walPage = p->walFrames = 0;
  spoolWake(p); /* the generation may have been raised, and nobody else will say so */
}
