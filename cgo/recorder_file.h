/*
** The recorder's open files: databases, and the WALs of those that are recorded.
**
** The base VFS has made the sqlite3_file, and it stays where it is; only its pMethods points to a
** table of ours, which a RecorderFile begins with, until the file is closed or let go. So a file may be
** hooked after it was opened, and unhooked while it is open.
**
** A file is used by one thread at a time, as SQLite uses it. Other threads only follow the
** list of files, which this module alone looks at, and read there what is marked (L).
*/
#ifndef VERNEUIL_RECORDER_FILE_H
#define VERNEUIL_RECORDER_FILE_H
#include "perf.h"
#include "spool_log.h"
#include "verneuil.h"

/* A database without a byte may become a copy, which is not recorded. AWAITS_SQL: it is
** when a statement writes to it, or somebody else has. AWAITS_COPY: it is being made as
** a copy; if a statement writes to it then, it is no copy any more, but a database. */
enum { AWAITS_NOTHING, AWAITS_SQL, AWAITS_COPY };

typedef struct RecorderFile RecorderFile;
struct RecorderFile {
  sqlite3_io_methods methods;    /* ours where the base has one; pFile->pMethods points here */
  const sqlite3_io_methods *pBase; /* what it pointed to before */
  sqlite3_file *pFile;           /* the base's, as it has made it (L) */
  Spool *pSpool;                 /* (L) NULL: forwarded, not recorded */
  char *zWhy;                    /* why not, sqlite3_malloc'd; NULL: it is, or nobody knows */
  sqlite3_file *pRaw;            /* the file as it is, where the base is not SQLite's own */
  int nCompared;                 /* reads that were compared with it */
  int awaits;                    /* AWAITS_..: recorded later, if at all */
  int isMeant;                   /* not recorded, which nobody need be told of any more when it is closed */
  sqlite3 **ppDb;                /* where the connection is found that uses the file; NULL: not known */
  Spool *pInherited;             /* in a forked child: that of a handle that is its parent's */
  int isWal;                     /* (L) the -wal file, not the database */
  const volatile void *pIndex;   /* (L) the wal-index's first page, if shared memory is mapped */
  SpoolTxn txn;
  SpoolState *pHeld;             /* whose holder this handle is, or NULL */
  const char *zName;             /* (L) of the file, as SQLite has passed it */
  uint64_t version;              /* of the database, as seen under the present lock; 0 unknown */
  int64_t size;                  /* likewise; -1 unknown */
  int eLock;                     /* (L) SQLite's lock on it */
  int shmLocks;                  /* (L) a bit for each of the wal-index's locks that is held exclusively */
  int sizeUncertain;             /* SIZE_HINT or CHUNK_SIZE may have changed the size behind us */
  int chunked, mapped;           /* CHUNK_SIZE, MMAP_SIZE in force */
  RecorderFile *pMain;           /* (L) of a WAL's handle: the database's, of the same connection; NULL unknown */
  SpoolState *pCheckpoint;       /* this handle writes frames of the WAL into the database: that state says so */
  int flushOnClose;
  sqlite3 *db;                   /* adopted: by whose VFS, not ours, its other files are opened; NULL: it is not */
  char *zSchema;                 /* and its name there, malloc'd */
  RecorderFile *pWal;            /* (L) its WAL, once we have it */
  int deletesWal;                /* the WAL is deleted when it has been closed */
  Perf aPerf[OP_N];
  RecorderFile *pNext, **ppPrev; /* (L) all open files */
};

/* The table of our methods, in recorder_methods.c. By its xClose a table of ours is known. */
extern const sqlite3_io_methods recorderMethods;
int recorderClose(sqlite3_file *);

/* SQLite's own VFS for files is below: it stores what it is given. */
extern _Atomic int recorderBaseIsOwn;

/* The default VFS, if what it opens comes by us (recorderHookDefault); else NULL. */
extern sqlite3_vfs *_Atomic pRecorderHooked;

/* The handle that this thread has locked last. It may be closed by now. */
extern _Thread_local const RecorderFile *pRecorderLockedLast __attribute__((visibility("hidden")));

/* The recorder of a file that is in the list; NULL: there is none. */
RecorderFile *recorderFind(const sqlite3_file *pFile);

/* A file's recorder: its method table is where that begins. Somebody who has put another table
** before ours, as we did, calls ours: then it is looked for. */
static inline RecorderFile *fileOf(sqlite3_file *pFile) {
  if (__builtin_expect(pFile->pMethods->xClose == recorderClose, 1)) return (RecorderFile *)pFile->pMethods;
  return recorderFind(pFile);
}

/* Makes what puts our methods before the base's: pFile is a database or, isWal, a WAL that the base
** has opened. Nothing of the file changes yet; free() undoes it. NULL without memory. */
RecorderFile *recorderHook(sqlite3_file *pFile, const char *zName, int isWal);

/* From here on the file's methods are ours; pSpool is NULL, or a reference that p takes. */
void recorderUseHook(RecorderFile *p, Spool *pSpool);

/* The database is recorded from here on: takes the reference, which may be NULL. */
void recorderSetSpool(RecorderFile *p, Spool *pSpool);

/* The spool has one handle less, and p none. */
void recorderLeaveSpool(RecorderFile *p);

/* The file is closed: p is no more. */
void recorderForget(RecorderFile *p);

/* The file's methods are the base's again, and p is no more. */
void recorderUnhook(RecorderFile *p);

/* ---- which file belongs to which ---- */

/* Of a WAL's handle that of the database, of the same connection; of a database's that of its WAL.
** NULL: there is none. */
RecorderFile *recorderOtherOf(const RecorderFile *p);

/* The adopted database of a WAL; NULL: it is of another. */
RecorderFile *recorderAdopterOf(const RecorderFile *pWal);

/* pWal is the WAL of the adopted database p; NULL: that was closed. */
void recorderSetWal(RecorderFile *p, RecorderFile *pWal);

/* Does a handle of the database share its wal-index? Else that is on the heap, or there is none. */
int recorderHasIndex(const Spool *pSpool);

/* The spool of the database that a WAL of this name belongs to, if it is open here: a reference. */
Spool *recorderSpoolOfWal(const char *zWal);

/* The handle of the connection that opens a WAL of this name: see recorderSpoolOfWal. */
RecorderFile *recorderDatabaseOf(const char *zWal);

#endif
