/*
** The spool's formats for C. The doc comment of package spool (spool/doc.go) specifies them. This
** header repeats names, numbers and offsets, and spool/c_test.go compares them with Go's.
*/
#ifndef VERNEUIL_SPOOL_H
#define VERNEUIL_SPOOL_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The files of a spool. */
#define SPOOL_FILE_STATE "state"
#define SPOOL_FILE_STATE_NEW "state.new"
#define SPOOL_FILE_ATTACH "attach"
#define SPOOL_FILE_WAKE "wake"
#define SPOOL_NAME_MAX 100       /* how many bytes of the path its directory's name has */

#define SPOOL_STATE_MAGIC "VRNSTATE"
#define SPOOL_STATE_BYTES 4096
#define SPOOL_STATE_VERSION 2
#define SPOOL_LOST 1u            /* State.flags: attach anew */
#define SPOOL_UNDONE 2u          /* and: a commit to the WAL failed, and may look valid */
#define SPOOL_PATH_MAX 3063

typedef struct SpoolState {
  char magic[8];                 /* SPOOL_STATE_MAGIC */
  uint32_t version;
  _Atomic uint32_t flags;
  uint8_t bootId[16];
  uint64_t dev, ino, birth;
  _Atomic uint64_t generation;
  _Atomic uint64_t sequence;
  _Atomic uint64_t writing;
  _Atomic uint64_t head;
  _Atomic uint64_t dbVersion;    /* change counter + 1<<32; 0 unknown */
  _Atomic int64_t dbSize;        /* -1 unknown */
  _Atomic uint32_t armed;
  _Atomic uint32_t cause;
  _Atomic uint64_t tail;
  _Atomic uint64_t replicator;
  _Atomic uint64_t mirrorGeneration;
  _Atomic uint64_t mirrorSequence;
  _Atomic uint64_t pushedGeneration;
  _Atomic uint64_t pushedSequence;
  _Atomic uint64_t published;
  _Atomic uint64_t dropped;
  _Atomic int64_t publishedAt;
  _Atomic uint64_t flushDrawn;
  _Atomic uint64_t flushDone;
  _Atomic uint64_t flushAnswered;
  uint64_t logAllowance;
  _Atomic uint64_t walSalts;
  _Atomic uint64_t walPublished;
  _Atomic uint64_t walConsumed;
  uint64_t free240;
  uint64_t mirrorStamp;          /* the replicator's own */
  _Atomic uint64_t stamp;        /* what the last recorder left: spool_stamp.c; 0 unknown */
  _Atomic uint64_t stampedBy;
  _Atomic uint64_t stampSettled;
  _Atomic uint64_t checkpointing;
  _Atomic uint64_t walSum;
  uint64_t walConsumedSum;       /* the replicator's own */
  uint8_t free304[80];
  uint8_t reserved[64];
  _Atomic uint64_t purpose;
  uint8_t free456[136];
  _Atomic uint64_t someGeneration, someSequence;
  _Atomic uint32_t stored;       /* a futex, shared between processes */
  uint32_t free612;
  _Atomic uint64_t wanted;
  uint8_t free624[400];
  char path[SPOOL_PATH_MAX + 1];
  _Atomic uint64_t holder;
} SpoolState;

#define SPOOL_AT(m, o) _Static_assert(offsetof(SpoolState, m) == (o), #m)
SPOOL_AT(version, 8); SPOOL_AT(flags, 12); SPOOL_AT(bootId, 16);
SPOOL_AT(dev, 32); SPOOL_AT(ino, 40); SPOOL_AT(birth, 48);
SPOOL_AT(generation, 56); SPOOL_AT(sequence, 64); SPOOL_AT(writing, 72);
SPOOL_AT(head, 80); SPOOL_AT(dbVersion, 88); SPOOL_AT(dbSize, 96);
SPOOL_AT(armed, 104); SPOOL_AT(cause, 108); SPOOL_AT(tail, 112);
SPOOL_AT(replicator, 120); SPOOL_AT(mirrorGeneration, 128);
SPOOL_AT(mirrorSequence, 136); SPOOL_AT(pushedGeneration, 144);
SPOOL_AT(pushedSequence, 152); SPOOL_AT(published, 160); SPOOL_AT(dropped, 168);
SPOOL_AT(publishedAt, 176); SPOOL_AT(flushDrawn, 184); SPOOL_AT(flushDone, 192);
SPOOL_AT(flushAnswered, 200); SPOOL_AT(logAllowance, 208); SPOOL_AT(walSalts, 216);
SPOOL_AT(walPublished, 224); SPOOL_AT(walConsumed, 232); SPOOL_AT(path, 1024);
SPOOL_AT(mirrorStamp, 248); SPOOL_AT(stamp, 256); SPOOL_AT(stampedBy, 264);
SPOOL_AT(stampSettled, 272); SPOOL_AT(checkpointing, 280);
SPOOL_AT(walSum, 288); SPOOL_AT(walConsumedSum, 296); SPOOL_AT(reserved, 384);
SPOOL_AT(purpose, 448); SPOOL_AT(someGeneration, 592); SPOOL_AT(someSequence, 600);
SPOOL_AT(stored, 608); SPOOL_AT(wanted, 616);
SPOOL_AT(holder, 4088);
_Static_assert(sizeof(SpoolState) == SPOOL_STATE_BYTES, "one page");

/* Causes of a raised generation; the same numbers as spool.Cause. */
enum {
  SPOOL_CAUSE_NEW = 1,           /* first attach: nothing is known of the database */
  SPOOL_CAUSE_REPLACED = 2,      /* another file stands at the path */
  SPOOL_CAUSE_FOREIGN = 3,       /* somebody wrote without us */
  SPOOL_CAUSE_CRASH = 4,         /* a process died in the middle of a transaction */
  SPOOL_CAUSE_LOG_FULL = 5,      /* the log outgrew its allowance */
  SPOOL_CAUSE_LOG_ERROR = 6,     /* the log could not be written */
  SPOOL_CAUSE_WAL = 7,           /* pages changed in a way that the log does not hold */
  SPOOL_CAUSE_IO = 8,            /* a write to the database failed: who knows what it did */
  SPOOL_CAUSE_TIMES = 9          /* the file's times are too coarse to show every write */
};

/* From now on the log alone cannot bring the mirror up to date. */
static inline void spoolRaise(SpoolState *st, uint32_t cause) {
  atomic_store(&st->cause, cause);
  atomic_fetch_add(&st->generation, 1);
}

/* Is the state lost? It also is if somebody has written over the page: the file is still the one
** that is mapped. */
static inline int spoolStateLost(const SpoolState *st) {
  return atomic_load(&st->flags) & SPOOL_LOST || memcmp(st->magic, SPOOL_STATE_MAGIC, 8);
}

#define SPOOL_SEGMENT_MAGIC "VRNLOG01"
#define SPOOL_SEGMENT_HEADER 64
#define SPOOL_FRAME_HEADER 64
#define SPOOL_SEGMENT_BYTES (1 << 20)
#define SPOOL_LOG_ALLOWANCE ((uint64_t)64 << 20) /* how long the log may get */
#define SPOOL_FREE_FILES 16            /* free.0 .. free.15: consumed segments */
#define SPOOL_FRAME_MAGIC 0x43455256u /* "VREC" */
enum { SPOOL_WRITE = 1, SPOOL_TRUNCATE = 2, SPOOL_COMMIT = 3, SPOOL_END = 4 };

typedef struct SpoolFrame {
  uint32_t magic, crc, length, kind;
  uint64_t sequence, generation;
  uint64_t a, b, c, d;           /* by kind: see spool/doc.go */
} SpoolFrame;
_Static_assert(sizeof(SpoolFrame) == SPOOL_FRAME_HEADER, "frame header");
#endif
