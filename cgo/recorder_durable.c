/*
** Durable commits: see recorder_durable.h.
*/
#include "recorder_durable.h"
#include "log.h"
#include "pragma.h"
#include "recorder_attach.h"
#include "recorder_go.h"
#include "selection.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

static _Atomic uint64_t nStored, nUnconfirmed, nsWaited;

/* Has sqlite3_interrupt() been called? SQLite tells since 3.41. */
static int isInterrupted(void *pArg) {
  sqlite3 **ppDb = ((RecorderFile *)pArg)->ppDb;
  return ppDb && *ppDb && sqlite3_libversion_number() >= 3041000 && sqlite3_is_interrupted(*ppDb);
}

static SpoolWait waitOf(RecorderFile *p) {
  return (SpoolWait){.any = p->durable.mode == DURABLE_ANY, .purpose = recorderSettings.purpose,
                     .ms = recorderSettings.durableMs, .xStop = isInterrupted, .pArg = p};
}

/* How it stands with the handle's last commit, in words. */
static char *words(const RecorderFile *p, int state) {
  const Durable *d = &p->durable;
  const char *zWho = d->mode == DURABLE_ANY ? "no target" : "not every target";
  switch (state) {
    case STORED_NONE: return sqlite3_mprintf(OUTCOME_NONE_TEXT);
    case STORED_YES: return sqlite3_mprintf(OUTCOME_STORED_TEXT);
    case STORED_ALONE:
      return sqlite3_mprintf("not stored: no process replicates this database");
    case STORED_OTHER:
      return sqlite3_mprintf("not stored: the process that replicates this database has other targets, or "
                             "another host name");
    case STORED_STOPPED: return sqlite3_mprintf("not stored: the wait was interrupted");
    case STORED_GONE:
      return sqlite3_mprintf("not stored: the file of this connection, or its spool, was deleted or replaced");
  }
  return sqlite3_mprintf("not stored: %s had it within %d ms (durable_timeout_ms)", zWho,
                         recorderSettings.durableMs);
}

/* Says in the log, once for each outage, that commits return that are not confirmed. */
static void tell(RecorderFile *p) {
  Durable *d = &p->durable;
  if (d->isTold == (d->state != STORED_YES)) return;
  d->isTold = !d->isTold;
  char *z = d->isTold ? words(p, d->state) : 0;
  if (z)
    verneuilLogOf(VERNEUIL_WARN, p->zName, "durable commit: it is in the database, and %s; "
                  "verneuil_status() says more", z);
  else verneuilLogOf(VERNEUIL_WARN, p->zName, "durable commits are confirmed again");
  sqlite3_free(z);
}

static void ended(RecorderFile *p, int state) {
  Durable *d = &p->durable;
  d->owes = 0;
  d->state = state;
  atomic_fetch_add(state == STORED_YES ? &nStored : &nUnconfirmed, 1);
  tell(p);
}

void durableOwe(RecorderFile *p) {
  Durable *d = &p->durable;
  if (!d->mode) return;
  if (d->owes) d->missed = 1;
  d->owes = p->pSpool && spoolMoment(p->pSpool, &d->moment);
  if (!d->owes) ended(p, STORED_GONE);
}

void durableWait(RecorderFile *p) {
  if (!p->durable.owes) return;
  if (!p->pSpool) {
    ended(p, STORED_GONE);
    return;
  }
  SpoolWait wait = waitOf(p);
  int64_t begin = clockMonotonic();
  int state = spoolAwaitStored(p->pSpool, &p->durable.moment, &wait);
  atomic_fetch_add(&nsWaited, (uint64_t)(clockMonotonic() - begin));
  ended(p, state);
}

void durablePhaseTwo(RecorderFile *p, int isFree) {
  Durable *d = &p->durable;
  if (d->owes && (isFree || d->missed || durableKeepsLocks(p))) durableWait(p);
}

void durableUnlocked(RecorderFile *p, int eLock) {
  Durable *d = &p->durable;
  /* durableLocking() may be setting it, of another thread's connection */
  if (eLock == SQLITE_LOCK_NONE) __atomic_store_n(&d->unlocks, 1, __ATOMIC_RELAXED);
  if (!d->owes || eLock > SQLITE_LOCK_SHARED) return;
  if (eLock == SQLITE_LOCK_NONE || !p->ppDb || !*p->ppDb || selectionRunsSeveral(*p->ppDb)) durableWait(p);
}

char *durableOutcome(RecorderFile *p) {
  Durable *d = &p->durable;
  char *zWhy = recorderWhyNot(p);
  if (zWhy) return sqlite3_mprintf("not stored: it is not replicated: %z", zWhy);
  if (d->state == STORED_YES && !d->owes) return words(p, STORED_YES);
  if (d->state == STORED_NONE && !d->owes) return words(p, STORED_NONE);
  SpoolWait wait = waitOf(p);
  if (d->moment.st && spoolStored(&d->moment, &wait) == STORED_YES)
    return sqlite3_mprintf(OUTCOME_LATE_TEXT);
  return d->owes ? sqlite3_mprintf("pending: COMMIT did not wait, as it gave up no lock (locking_mode)")
                 : words(p, d->state);
}

char *durableCounts(void) {
  return sqlite3_mprintf("{\"stored\":%lld,\"unconfirmed\":%lld,\"seconds\":%.6f}", (sqlite3_int64)nStored,
                         (sqlite3_int64)nUnconfirmed, (double)nsWaited / 1e9);
}
