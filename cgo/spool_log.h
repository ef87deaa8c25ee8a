/*
** The recorder's side of the changelog: see "Log" in spool/doc.go.
*/
#ifndef VERNEUIL_SPOOL_LOG_H
#define VERNEUIL_SPOOL_LOG_H
#include "spool_database.h"

/* One transaction being recorded; a handle has one. */
typedef struct SpoolTxn {
  SpoolState *st;                  /* the state that the transaction began with */
  int active;                      /* something was written since the last end */
  int lost;                        /* the log could not take it all: no record */
  uint64_t sequence, generation;
  uint64_t end;                    /* private end of the log: a position */
  uint64_t before;                 /* database version before the transaction; of copied frames, the WAL position of the last */
} SpoolTxn;

/* The protocol's writer side; the caller holds SQLite's write lock. version and
** size are the database's before the transaction and after it. Without a state to
** record in, the transaction goes nowhere.
** beginCopy begins a transaction that only copies what was committed elsewhere. */
void spoolBegin(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);
void spoolBeginCopy(SpoolState *st, SpoolTxn *t);
void spoolWrite(Spool *p, SpoolTxn *t, const void *pData, int n, int64_t iOfst);
void spoolTruncate(Spool *p, SpoolTxn *t, int64_t size);
void spoolEnd(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);

/* A write of the transaction failed: what the file holds now, the log cannot say. */
void spoolFailed(Spool *p, SpoolTxn *t);


#endif
