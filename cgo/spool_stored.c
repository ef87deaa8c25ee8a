/*
** Waiting until targets have what was committed: see spool_stored.h.
**
** The replicator, in whatever process, says in the state page what every target has, and what some
** target has, and changes a number by which it wakes all who wait: a futex, which processes share.
** So nothing here enters Go, and a forked child may wait, too.
*/
#define _GNU_SOURCE
#include "spool_stored.h"
#include "clock.h"
#include "spool_attach.h"
#include "spool_wake.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How often a wait is looked at that nobody ends: was it stopped, is somebody there? */
#define SLICE_MS 50

/* How long we wait for somebody to replicate where nobody does, or for a spool where there is none:
** one may be about to begin, or to be made. */
#define ALONE_MS 2000

int spoolMoment(Spool *p, SpoolMoment *pMoment) {
  SpoolState *st = pMoment->st = spoolState(p);
  if (!st) return 0;
  pMoment->generation = atomic_load(&st->generation);
  pMoment->sequence = atomic_load(&st->sequence);
  return 1;
}

void spoolWant(SpoolState *st, uint64_t sequence) {
  uint64_t wanted = atomic_load(&st->wanted);
  while (wanted < sequence && !atomic_compare_exchange_weak(&st->wanted, &wanted, sequence)) continue;
}

/* 1: the targets that count have it; 0: not yet; -1: what they have says nothing of ours. The
** replicator forgets its purpose before it forgets what targets have, and names it after that. So
** what is read between two looks at the purpose is of that purpose. Of a pair the generation is
** written last, and read first. */
static int isStored(const SpoolMoment *pMoment, const SpoolWait *pWait) {
  SpoolState *st = pMoment->st;
  uint64_t before = atomic_load(&st->purpose);
  uint64_t generation = atomic_load(pWait->any ? &st->someGeneration : &st->pushedGeneration);
  uint64_t sequence = atomic_load(pWait->any ? &st->someSequence : &st->pushedSequence);
  uint64_t after = atomic_load(&st->purpose);
  if (!before || before != after) return 0; /* one is beginning */
  if (pWait->purpose && pWait->purpose != before) return -1;
  return generation >= pMoment->generation && sequence >= pMoment->sequence;
}

int spoolStored(const SpoolMoment *pMoment, const SpoolWait *pWait) {
  int stored = isStored(pMoment, pWait);
  if (stored > 0) return STORED_YES;
  if (spoolStateLost(pMoment->st)) return STORED_GONE;
  return stored < 0 ? STORED_OTHER : spoolAlone(pMoment->st) ? STORED_ALONE : STORED_LATE;
}

int spoolAwaitStored(Spool *p, SpoolMoment *pMoment, const SpoolWait *pWait) {
  int64_t now = clockMonotonic(), end = now + pWait->ms * INT64_C(1000000), alone = 0;
  for (; now < end; now = clockMonotonic()) {
    uint32_t told = atomic_load(&pMoment->st->stored);
    int state = spoolStored(pMoment, pWait);
    if (state == STORED_YES) return state;
    /* a new state begins with a copy of the database, which has what was committed */
    SpoolMoment moved;
    if (state == STORED_GONE && spoolMoment(p, &moved)) {
      *pMoment = moved;
      continue;
    }
    if (pWait->xStop && pWait->xStop(pWait->pArg)) return STORED_STOPPED;
    if (state != STORED_ALONE && state != STORED_GONE) alone = 0;
    else if (!alone) alone = now;
    else if (now - alone >= ALONE_MS * INT64_C(1000000)) return state;
    int64_t ns = end - now < SLICE_MS * INT64_C(1000000) ? end - now : SLICE_MS * INT64_C(1000000);
    struct timespec slice = {0, (long)ns};
    syscall(SYS_futex, &pMoment->st->stored, FUTEX_WAIT, told, &slice, 0, 0);
  }
  return spoolStored(pMoment, pWait);
}
