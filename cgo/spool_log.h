/*
** Writing a transaction into the changelog: the protocol's writer side (spool/doc.go).
*/
#ifndef VERNEUIL_SPOOL_LOG_H
#define VERNEUIL_SPOOL_LOG_H
#include "spool_database.h"

/* One transaction that is being recorded. A handle has one. */
typedef struct SpoolTxn {
  SpoolState *st;                  /* the state with which the transaction began */
  int active;                      /* something was written since the last end */
  int lost;                        /* the log could not take all of it: there will be no record */
  uint64_t sequence, generation;
  uint64_t end;                    /* the log's end, as this transaction has it: a position */
  uint64_t before;                 /* the database's version before; of a copy, a WAL position */
} SpoolTxn;

/* The caller holds SQLite's write lock. version and size are the database's, before the transaction
** in spoolBegin() and after it in spoolEnd(). Without a state to record in, the transaction goes
** nowhere. spoolBeginCopy() begins a transaction that only copies what was committed elsewhere. */
void spoolBegin(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);
void spoolBeginCopy(SpoolState *st, SpoolTxn *t);
void spoolWrite(Spool *p, SpoolTxn *t, const void *pData, int n, int64_t iOfst);
void spoolTruncate(Spool *p, SpoolTxn *t, int64_t size);
void spoolEnd(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);

/* A write of the transaction failed: the log cannot tell what the file holds now. */
void spoolFailed(Spool *p, SpoolTxn *t);


#endif
