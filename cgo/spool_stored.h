/*
** Waiting until targets have what was committed.
*/
#ifndef VERNEUIL_SPOOL_STORED_H
#define VERNEUIL_SPOOL_STORED_H
#include "spool_database.h"

/* A moment of a database that was published, and the state that counts it. */
typedef struct SpoolMoment {
  SpoolState *st;
  uint64_t generation, sequence;
} SpoolMoment;

/* Who waits for what, and for how long. */
typedef struct SpoolWait {
  int any;                         /* one target is enough; else every target */
  uint64_t purpose;                /* of our targets; 0: whoever replicates has the right ones */
  int ms;                          /* at most */
  int (*xStop)(void *pArg);        /* looked at now and then: is it to end? */
  void *pArg;
} SpoolWait;

/* How it stands with a moment, or how a wait for it has ended. */
enum {
  STORED_NONE,                     /* nothing was waited for yet */
  STORED_YES,
  STORED_LATE,                     /* not yet */
  STORED_ALONE,                    /* not yet, and nobody replicates */
  STORED_OTHER,                    /* whoever replicates has other targets, or another host name */
  STORED_STOPPED,                  /* the wait was ended */
  STORED_GONE                      /* another file is at the path, or none, or there is no spool */
};

/* What is published now. 0: there is no state that would count it. */
int spoolMoment(Spool *p, SpoolMoment *pMoment);

/* The transaction that is about to be published has that sequence, and somebody will wait for it:
** it does not wait for the next version's time. */
void spoolWant(SpoolState *st, uint64_t sequence);

/* How it stands with a moment now. */
int spoolStored(const SpoolMoment *pMoment, const SpoolWait *pWait);

/* Waits for a moment; *pMoment moves with the database to another state. */
int spoolAwaitStored(Spool *p, SpoolMoment *pMoment, const SpoolWait *pWait);

#endif
