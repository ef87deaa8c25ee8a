/*
** Writing into the changelog: see spool_log.h. Frames are copied into a mapped segment, and become
** visible when head is stored. There is no lock, and no system call but those of spool_segment.c,
** of the stamp, and of waking. The caller holds SQLite's write lock throughout.
*/
#include "spool_log.h"
#include "clock.h"
#include "crc32c.h"
#include "log.h"
#include "process.h"
#include "spool_attach.h"
#include "spool_segment.h"
#include "spool_stamp.h"
#include "spool_wake.h"
#include <errno.h>
#include <string.h>

/* Longer writes are cut: a frame must fit into a segment. */
#define FRAME_DATA_MAX (SPOOL_SEGMENT_BYTES / 2)

/* The transaction will not be in the log. Says so now, and again at its end (I5), and gives back
** the segments that it has filled. */
static void lose(Spool *p, SpoolTxn *t, uint32_t cause, int rc) {
  uint64_t last = SEGMENT(t->end), head = SEGMENT(atomic_load(&t->st->head));
  t->lost = 1;
  spoolRaise(t->st, cause);
  if (rc == ENOENT) atomic_fetch_or(&t->st->flags, SPOOL_LOST); /* the directory is gone */
  spoolUnmap(p);
  segmentsRemove(p, last, head);
  if (rc && rc != p->lossTold) {
    verneuilLogOf(VERNEUIL_WARN, p->zPath,
                  "the log in %s cannot be written: %s: commits are not recorded; the database is "
                  "copied once they are again", p->zDir, strerror(rc));
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

/* Makes room at t->end for a frame with n bytes of data. 0: there is none, and the transaction is
** lost. */
static int frameRoom(Spool *p, SpoolTxn *t, uint32_t n) {
  SpoolState *st = t->st;
  uint32_t length = (SPOOL_FRAME_HEADER + n + 7) & ~7u;
  uint64_t segNo = SEGMENT(t->end);
  int rc = 0;
  if (!p->aSeg || p->segNo != segNo || p->segState != st)
    rc = segmentMap(p, st, segNo, OFFSET(t->end) == SPOOL_SEGMENT_HEADER);
  if (!rc && OFFSET(t->end) + length > SPOOL_SEGMENT_BYTES) {
    uint64_t used = (segNo + 1 - SEGMENT(atomic_load(&st->tail))) * (uint64_t)SPOOL_SEGMENT_BYTES;
    if (used > st->logAllowance || used > SPOOL_LOG_ALLOWANCE) {
      lose(p, t, SPOOL_CAUSE_LOG_FULL, 0);
      return 0;
    }
    if (OFFSET(t->end) + SPOOL_FRAME_HEADER <= SPOOL_SEGMENT_BYTES &&
        !(rc = segmentPopulate(p, OFFSET(t->end) + SPOOL_FRAME_HEADER))) {
      SpoolFrame end = {.kind = SPOOL_END};
      writeFrame(p, t, &end, 0, 0);
    }
    t->end = POSITION(segNo + 1, SPOOL_SEGMENT_HEADER);
    if (!rc) rc = segmentMap(p, st, segNo + 1, 1);
  }
  if (!rc) rc = segmentPopulate(p, OFFSET(t->end) + length);
  if (rc) lose(p, t, SPOOL_CAUSE_LOG_ERROR, rc);
  return !rc;
}

static void append(Spool *p, SpoolTxn *t, SpoolFrame *pFrame, const void *pData, uint32_t n) {
  if (!t->lost && frameRoom(p, t, n)) writeFrame(p, t, pFrame, pData, n);
}

/* Has somebody written without a recorder since the last record? The version costs nothing, and
** shows commits within the same tick of the clock by which files' times go. */
static int foreign(Spool *p, SpoolState *st, uint64_t version, int64_t size) {
  uint64_t known = atomic_load(&st->dbVersion);
  int64_t knownSize = atomic_load(&st->dbSize);
  if ((known && known != version) || (knownSize >= 0 && knownSize != size)) return 1;
  return stampForeign(p, st);
}

void spoolBegin(Spool *p, SpoolTxn *t, uint64_t version, int64_t size) {
  SpoolState *st = spoolState(p);
  if (!st) {
    spoolBeginCopy(p->st, t); /* for the rest of it, too: half a transaction is worse than none */
    t->lost = 1;
    return;
  }
  if (foreign(p, st, version, size)) spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  if (atomic_load(&st->walSalts)) { /* there was a WAL, and it ended without us */
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
  int64_t ns = clockRealtime();
  SpoolFrame frame = {.kind = SPOOL_COMMIT, .a = (uint64_t)size, .b = t->before, .c = version,
                      .d = (uint64_t)ns};
  append(p, t, &frame, 0, 0);
  if (version) stampLeave(p, st); /* else it is a copy of a WAL's frames */
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
  /* I5: meanwhile somebody who has changed the file has raised it. A base copy that began after
  ** that has the change, and would now get what this transaction wrote before it. */
  if (!t->lost && atomic_load(&st->generation) != t->generation) spoolRaise(st, st->cause);
  t->active = 0;
  atomic_store(&st->writing, 0); /* sequentially consistent: before the look at armed */
  spoolWake(p);
}
