/*
** The recorder's side of the changelog: frames are copied into a mapped segment,
** and become visible when head is stored. No lock, no system call but where a
** segment ends. The caller holds SQLite's write lock throughout.
*/
#define _GNU_SOURCE
#include "crc32c.h"
#include "log.h"
#include "process.h"
#include "spool_attach.h"
#include "spool_stamp.h"
#include "wake.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT(pos) ((pos) >> 32)
#define OFFSET(pos) ((pos) & 0xffffffffu)
#define POSITION(segment, offset) ((uint64_t)(segment) << 32 | (offset))

/* Longer writes are cut: a frame must fit into a segment. */
#define FRAME_DATA_MAX (SPOOL_SEGMENT_BYTES / 2)

/* How much of a segment is mapped in at a time: a madvise(2) for each. */
#define POPULATE_BYTES (32u << 10)

void spoolUnmap(Spool *p) {
  for (int i = 0; i < SPOOL_MAPS; i++) {
    if (p->aMap[i].a) munmap(p->aMap[i].a, SPOOL_SEGMENT_BYTES);
    p->aMap[i].a = 0;
  }
  p->aSeg = 0;
}

/* The name of a segment's file, and of consumed ones. */
typedef char SegmentName[sizeof "log.0123456789abcdef"];
static const char *const azFree[SPOOL_FREE_FILES] = {
    "free.0", "free.1", "free.2", "free.3", "free.4", "free.5", "free.6", "free.7",
    "free.8", "free.9", "free.10", "free.11", "free.12", "free.13", "free.14", "free.15"};

static void nameSegment(SegmentName z, uint64_t segNo) {
  snprintf(z, sizeof(SegmentName), "log.%016llx", (unsigned long long)segNo);
}

/* A segment's file: one that the replicator has freed, or a new one with its blocks
** allocated. -1 and errno. */
static int newSegment(Spool *p, const char *zSegment) {
  for (int i = 0; i < SPOOL_FREE_FILES; i++) {
    struct stat s;
    if (spoolIsJunk(p->zDir, azFree[i], S_IFREG) || spoolRename(p->zDir, azFree[i], zSegment)) continue;
    int fd = spoolOpen(p->zDir, zSegment, O_RDWR);
    /* somebody may have made holes in it, or cut it, or given it another name */
    if (fd >= 0 && !fstat(fd, &s) && s.st_size == SPOOL_SEGMENT_BYTES && s.st_nlink <= 1 && s.st_uid == geteuid() &&
        !spoolAllocate(fd, SPOOL_SEGMENT_BYTES))
      return fd;
    if (fd >= 0) close(fd);
    spoolUnlink(p->zDir, zSegment);
  }
  spoolUnlink(p->zDir, zSegment); /* of a transaction that was not published; somebody may have it mapped */
  int fd = spoolOpen(p->zDir, zSegment, O_RDWR | O_CREAT | O_EXCL);
  int rc = fd < 0 ? 0 : spoolAllocate(fd, SPOOL_SEGMENT_BYTES);
  if (!rc) return fd;
  close(fd);
  spoolUnlink(p->zDir, zSegment);
  errno = rc;
  return -1;
}

/* The mapping of a segment's file, which has no other name; one that was mapped before still
** is, with its pages in place. NULL and errno. */
static char *mapFile(Spool *p, int fd) {
  struct stat s;
  if (fstat(fd, &s)) return 0;
  if (s.st_size != SPOOL_SEGMENT_BYTES || s.st_nlink > 1 || s.st_uid != geteuid()) {
    errno = EIO;
    return 0;
  }
  for (int i = 0; i < SPOOL_MAPS; i++)
    if (p->aMap[i].a && p->aMap[i].ino == s.st_ino) return p->aMap[i].a;
  char *a = mmap(0, SPOOL_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (a == MAP_FAILED) return 0;
  struct SpoolMap *pMap = &p->aMap[p->iMap++ % SPOOL_MAPS];
  if (pMap->a) munmap(pMap->a, SPOOL_SEGMENT_BYTES);
  pMap->a = a;
  pMap->ino = s.st_ino;
  pMap->nReady = 0;
  return a;
}

/* Maps the current segment's pages up to offset end in, and some more. Otherwise each
** page's first write is a fault, and there are three in a one-page commit. Not the
** whole segment: a thousand databases with a few commits each are resident, too.
** Returns 0, or an errno where to write there would be a SIGBUS: the file has been
** truncated, or a file system that copies on write has no room for blocks that were
** allocated before. (Kernels before 5.14 cannot tell.) */
static int populate(Spool *p, uint32_t end) {
#ifdef MADV_POPULATE_WRITE
  struct SpoolMap *pMap = p->aMap;
  while (pMap->a != p->aSeg) pMap++;
  if (end <= pMap->nReady) return 0;
  uint32_t to = (end + POPULATE_BYTES - 1) / POPULATE_BYTES * POPULATE_BYTES;
  if (to > SPOOL_SEGMENT_BYTES) to = SPOOL_SEGMENT_BYTES;
  /* MAP_POPULATE would only read shared pages in */
  if (madvise(pMap->a + pMap->nReady, to - pMap->nReady, MADV_POPULATE_WRITE) && errno == EFAULT) return EIO;
  pMap->nReady = to;
#else
  (void)p;
  (void)end;
#endif
  return 0;
}

/* Makes segment segNo the current one; isNew: it does not exist yet. 0 or an errno. */
static int mapSegment(Spool *p, SpoolState *st, uint64_t segNo, int isNew) {
  SegmentName z;
  nameSegment(z, segNo);
  if (p->segState != st) spoolUnmap(p);
  p->aSeg = 0;
  int fd = isNew ? newSegment(p, z) : spoolOpen(p->zDir, z, O_RDWR);
  char *a = fd >= 0 ? mapFile(p, fd) : 0;
  int rc = a ? 0 : errno;
  if (fd >= 0) close(fd);
  if (rc) return rc;
  p->aSeg = a;
  p->segNo = segNo;
  p->segState = st;
  if (isNew) {
    if ((rc = populate(p, SPOOL_SEGMENT_HEADER))) return rc;
    uint64_t size = SPOOL_SEGMENT_BYTES;
    memcpy(a, "VRNLOG01", 8);
    memcpy(a + 8, &segNo, 8);
    memcpy(a + 16, &size, 8);
  }
  return 0;
}

/* A transaction has no more segments than this, whatever the state page says by now. */
#define TXN_SEGMENTS_MAX 4096

/* The transaction will not be in the log: say so now, and again at its end (I5),
** and give back the segments that it has filled. */
static void lose(Spool *p, SpoolTxn *t, uint32_t cause, int rc) {
  uint64_t last = SEGMENT(t->end), head = SEGMENT(atomic_load(&t->st->head));
  t->lost = 1;
  spoolRaise(t->st, cause);
  if (rc == ENOENT) atomic_fetch_or(&t->st->flags, SPOOL_LOST); /* the directory is gone */
  spoolUnmap(p);
  for (uint64_t n = last; n > head && last - n < TXN_SEGMENTS_MAX; n--) {
    SegmentName z;
    nameSegment(z, n);
    spoolUnlink(p->zDir, z);
  }
  if (rc && rc != p->lossTold) {
    verneuilLogOf(VERNEUIL_WARN, p->zPath, "the log in %s cannot be written: %s: commits are not recorded, and the database "
                  "is copied anew when they are", p->zDir, strerror(rc));
    p->lossTold = rc;
  }
}

static void writeFrame(Spool *p, SpoolTxn *t, SpoolFrame *pFrame, const void *pData, uint32_t n) {
  char *a = p->aSeg + OFFSET(t->end);
  uint32_t length = (SPOOL_FRAME_HEADER + n + 7) & ~7u;
  pFrame->magic = SPOOL_FRAME_MAGIC;
  pFrame->length = length;
  pFrame->sequence = t->sequence;
  pFrame->generation = t->generation;
  memcpy(a, pFrame, SPOOL_FRAME_HEADER);
  if (n) memcpy(a + SPOOL_FRAME_HEADER, pData, n);
  memset(a + SPOOL_FRAME_HEADER + n, 0, length - SPOOL_FRAME_HEADER - n);
  pFrame->crc = crc32c(a + 8, length - 8);
  memcpy(a + 4, &pFrame->crc, 4);
  t->end += length;
}

/* Makes room for a frame with n bytes of data at the private end. */
static int frameRoom(Spool *p, SpoolTxn *t, uint32_t n) {
  SpoolState *st = t->st;
  uint32_t length = (SPOOL_FRAME_HEADER + n + 7) & ~7u;
  uint64_t segNo = SEGMENT(t->end);
  int rc = 0;
  if (!p->aSeg || p->segNo != segNo || p->segState != st)
    rc = mapSegment(p, st, segNo, OFFSET(t->end) == SPOOL_SEGMENT_HEADER);
  if (!rc && OFFSET(t->end) + length > SPOOL_SEGMENT_BYTES) {
    uint64_t used = (segNo + 1 - SEGMENT(atomic_load(&st->tail))) * (uint64_t)SPOOL_SEGMENT_BYTES;
    if (used > st->logAllowance || used > SPOOL_LOG_ALLOWANCE) {
      lose(p, t, SPOOL_CAUSE_LOG_FULL, 0);
      return 0;
    }
    if (OFFSET(t->end) + SPOOL_FRAME_HEADER <= SPOOL_SEGMENT_BYTES && !(rc = populate(p, OFFSET(t->end) + SPOOL_FRAME_HEADER))) {
      SpoolFrame end = {.kind = SPOOL_END};
      writeFrame(p, t, &end, 0, 0);
    }
    t->end = POSITION(segNo + 1, SPOOL_SEGMENT_HEADER);
    if (!rc) rc = mapSegment(p, st, segNo + 1, 1);
  }
  if (!rc) rc = populate(p, OFFSET(t->end) + length);
  if (rc) lose(p, t, SPOOL_CAUSE_LOG_ERROR, rc);
  return !rc;
}

static void append(Spool *p, SpoolTxn *t, SpoolFrame *pFrame, const void *pData, uint32_t n) {
  if (!t->lost && frameRoom(p, t, n)) writeFrame(p, t, pFrame, pData, n);
}

/* Did somebody write without a recorder since the last record? The version costs nothing, and
** tells of commits in the same tick of the clock that files' times go by. */
static int foreign(Spool *p, SpoolState *st, uint64_t version, int64_t size) {
  uint64_t known = atomic_load(&st->dbVersion);
  int64_t knownSize = atomic_load(&st->dbSize);
  if ((known && known != version) || (knownSize >= 0 && knownSize != size)) return 1;
  return stampForeign(p, st);
}

void spoolBegin(Spool *p, SpoolTxn *t, uint64_t version, int64_t size) {
  SpoolState *st = spoolState(p);
  if (!st) {
    spoolBeginCopy(p->st, t); /* also for what follows: a record of half a transaction would be worse than none */
    t->lost = 1;
    return;
  }
  if (foreign(p, st, version, size)) spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  if (atomic_load(&st->walSalts)) { /* there was a WAL, and nobody told us of its end */
    atomic_store(&st->walSalts, 0);
    atomic_store(&st->walPublished, 0);
    spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  }
  if (atomic_load(&st->writing)) spoolRaise(st, SPOOL_CAUSE_CRASH);
  atomic_store(&st->writing, verneuilToken());
  atomic_store_explicit(&st->holder, verneuilToken(), memory_order_relaxed);
  spoolBeginCopy(st, t);
  t->before = version;
}

void spoolBeginCopy(SpoolState *st, SpoolTxn *t) {
  t->st = st;
  t->active = 1;
  t->lost = 0;
  t->before = 0;
  t->sequence = atomic_load(&st->sequence) + 1;
  t->generation = atomic_load(&st->generation);
  t->end = atomic_load(&st->head);
}

void spoolWrite(Spool *p, SpoolTxn *t, const void *pData, int n, int64_t iOfst) {
  const char *z = pData;
  while (n > 0) {
    int k = n < FRAME_DATA_MAX ? n : FRAME_DATA_MAX;
    SpoolFrame frame = {.kind = SPOOL_WRITE, .a = (uint64_t)iOfst, .b = (uint64_t)k};
    append(p, t, &frame, z, (uint32_t)k);
    z += k;
    iOfst += k;
    n -= k;
  }
}

void spoolTruncate(Spool *p, SpoolTxn *t, int64_t size) {
  SpoolFrame frame = {.kind = SPOOL_TRUNCATE, .a = (uint64_t)size};
  append(p, t, &frame, 0, 0);
}

void spoolFailed(Spool *p, SpoolTxn *t) {
  if (t->lost) spoolRaise(t->st, SPOOL_CAUSE_IO);
  else lose(p, t, SPOOL_CAUSE_IO, 0);
}

void spoolEnd(Spool *p, SpoolTxn *t, uint64_t version, int64_t size) {
  SpoolState *st = t->st;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  SpoolFrame frame = {.kind = SPOOL_COMMIT, .a = (uint64_t)size, .b = t->before, .c = version, .d = (uint64_t)ns};
  append(p, t, &frame, 0, 0);
  if (version) stampLeave(p, st); /* else these are frames of a WAL */
  atomic_store_explicit(&st->dbVersion, version, memory_order_relaxed);
  atomic_store_explicit(&st->dbSize, size, memory_order_relaxed);
  atomic_store_explicit(&st->publishedAt, ns, memory_order_relaxed);
  if (t->lost) {
    atomic_fetch_add_explicit(&st->dropped, 1, memory_order_relaxed);
    spoolRaise(st, st->cause);
  } else {
    atomic_fetch_add_explicit(&st->published, 1, memory_order_relaxed);
    atomic_store_explicit(&st->head, t->end, memory_order_release);
    atomic_store_explicit(&st->sequence, t->sequence, memory_order_release);
    if (p->lossTold) {
      verneuilLogOf(VERNEUIL_WARN, p->zPath, "commits are recorded again");
      p->lossTold = 0;
    }
  }
  /* I5: raised meanwhile by somebody who has changed the file. A base copy that began after that has
  ** it, and would now get what this transaction wrote before it */
  if (!t->lost && atomic_load(&st->generation) != t->generation) spoolRaise(st, st->cause);
  t->active = 0;
  atomic_store(&st->writing, 0); /* sequentially consistent: before the look at armed */
  spoolWake(p);
}

void spoolWake(Spool *p) {
  SpoolState *st = p->st;
  uint32_t armed = atomic_load(&st->armed);
  if (!armed) return;
  if (atomic_load(&st->replicator) == verneuilToken() && bellHeard()) {
    atomic_store(&st->armed, 0); /* before the bell: Go looks who has been woken. It dies with us, or not at all */
    bellRing();
  } else if (spoolCall(p->zDir)) {
    /* after the byte: if we die in between, somebody is woken twice, and not never */
    atomic_compare_exchange_strong(&st->armed, &armed, 0);
  }
}
