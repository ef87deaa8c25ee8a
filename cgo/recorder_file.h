/*
** The recorder's open files: databases, and the WALs of those that are recorded.
**
** The base VFS makes the sqlite3_file, and it stays where it is. Only its pMethods points to a
** table of ours, with which a RecorderFile begins, until the file is closed or let go. So a file
** can be hooked after it was opened, and unhooked while it is open.
**
** One thread at a time uses a file, as SQLite does. Other threads only follow the list of files,
** which recorder_file.c alone looks at, and read there what is marked (L).
*/
#ifndef VERNEUIL_RECORDER_FILE_H
#define VERNEUIL_RECORDER_FILE_H
#include "perf.h"
#include "spool_log.h"
#include "spool_stored.h"
#include "verneuil.h"

/* An empty database may become a copy, which is not recorded. AWAITS_SQL: nobody knows yet; it is
** recorded once a statement writes to it, or somebody else has written to it. AWAITS_COPY: it is
** being made as a copy; once a statement writes to it, it is a database like others, and
** recorded. AWAITS_SPOOL: its spool could not be had, on a full disk, say; it is tried again. */
enum { AWAITS_NOTHING, AWAITS_SQL, AWAITS_COPY, AWAITS_SPOOL };

/* What a handle knows of its durable commits: see recorder_durable.h. */
typedef struct Durable {
  int mode;                      /* DURABLE_.. */
  int owes;                      /* a commit was published, and has not waited yet */
  int unlocks;                   /* (L) since locking_mode was last set, all locks were given up */
  int missed;                    /* a commit has ended without a wait: its locks were not */
  int state;                     /* STORED_..: how the last wait has ended */
  int isTold;                    /* the log has it that commits are not confirmed */
  SpoolMoment moment;            /* of that commit, or of the one that is owed */
} Durable;

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
  int64_t tried;                 /* when the spool was tried last, by clockCoarse() */
  int isMeant;                   /* left out on purpose: forgotten when it is closed */
  sqlite3 **ppDb;                /* points to the connection that uses the file; NULL: unknown */
  Spool *pInherited;             /* of a handle of the parent, in a forked child: its spool */
  int isWal;                     /* (L) the -wal file, not the database */
  const volatile void *pIndex;   /* (L) the wal-index's first page, if shared memory is mapped */
  SpoolTxn txn;
  SpoolState *pHeld;             /* the state that names us as holder of RESERVED, or NULL */
  const char *zName;             /* (L) of the file, as SQLite has passed it */
  uint64_t version;              /* of the database, as seen under the present lock; 0 unknown */
  int64_t size;                  /* likewise; -1 unknown */
  int eLock;                     /* (L) SQLite's lock on it */
  int shmLocks;                  /* (L) bits: locks of the wal-index that are held exclusively */
  int sizeUncertain;             /* SIZE_HINT or CHUNK_SIZE may have changed the size behind us */
  int chunked, mapped;           /* CHUNK_SIZE, MMAP_SIZE in force */
  RecorderFile *pMain;           /* (L) of a WAL: the same connection's database; NULL: unknown */
  SpoolState *pCheckpoint;       /* the state that says: this handle checkpoints the WAL; or NULL */
  int flushOnClose;              /* the pragma has asked for it */
  Durable durable;               /* commits that wait for targets: recorder_durable.h */
  sqlite3 *db;                   /* adopted: its connection; NULL: it is not adopted */
  char *zSchema;                 /* adopted: the database's name there, malloc'd */
  RecorderFile *pWal;            /* (L) adopted: its WAL, once it is hooked */
  int deletesWal;                /* adopted: SQLite will delete the WAL after closing it */
  Perf aPerf[OP_N];
  RecorderFile *pNext, **ppPrev; /* (L) all open files */
};

/* The table of our methods, in recorder_methods.c. Its xClose marks a table as ours. */
extern const sqlite3_io_methods recorderMethods;
int recorderClose(sqlite3_file *);

/* The base is SQLite's own VFS for files, which stores what it is given. */
extern _Atomic int recorderBaseIsOwn;

/* The default VFS, if recorderHookDefault has it open files through us; else NULL. */
extern sqlite3_vfs *_Atomic pRecorderHooked;

/* The handle that this thread locked last: only to be compared, as it may be closed by now. */
extern _Thread_local const RecorderFile *pRecorderLockedLast __attribute__((visibility("hidden")));

/* The recorder of a file that is in the list; NULL: there is none. */
RecorderFile *recorderFind(const sqlite3_file *pFile);

/* A file's recorder, which begins with the file's method table. If somebody has put another table
** before ours, as we do with others, the recorder is looked up. */
static inline RecorderFile *fileOf(sqlite3_file *pFile) {
  if (__builtin_expect(pFile->pMethods->xClose == recorderClose, 1))
    return (RecorderFile *)pFile->pMethods;
  return recorderFind(pFile);
}

/* Makes the recorder of a file that the base has opened: a database or, with isWal, a WAL. The file
** does not change yet, and free() undoes it. NULL: no memory. */
RecorderFile *recorderHook(sqlite3_file *pFile, const char *zName, int isWal);

/* From here on the file's methods are ours. p takes over the reference pSpool, which may be
** NULL: of a WAL, if its database awaits its spool. */
void recorderUseHook(RecorderFile *p, Spool *pSpool);

/* The file is recorded from here on. p takes over the reference, which may be NULL. */
void recorderSetSpool(RecorderFile *p, Spool *pSpool);

/* p gives back its spool, if it has one: it is not recorded any more. */
void recorderLeaveSpool(RecorderFile *p);

/* The file is closed. Frees p. */
void recorderForget(RecorderFile *p);

/* The file's methods are the base's again. Frees p. */
void recorderUnhook(RecorderFile *p);

/* ---- which file belongs to which ---- */

/* The other file of the same connection: a WAL's database, or a database's WAL. NULL: there is
** none. */
RecorderFile *recorderOtherOf(const RecorderFile *p);

/* The adopted database that the WAL belongs to; NULL: its database is not adopted. */
RecorderFile *recorderAdopterOf(const RecorderFile *pWal);

/* pWal is the WAL of the adopted database p; NULL: the WAL is closed. */
void recorderSetWal(RecorderFile *p, RecorderFile *pWal);

/* Does a handle of the database have the wal-index in shared memory? Otherwise it is on the heap,
** or there is none. */
int recorderHasIndex(const Spool *pSpool);

/* The spool of the database that a WAL of this name belongs to; the caller owns a reference. NULL:
** that database is not open here, or not recorded. */
Spool *recorderSpoolOfWal(const char *zWal);

/* The database of the connection that is opening a WAL of this name, on this thread; NULL:
** unknown. */
RecorderFile *recorderDatabaseOf(const char *zWal);

#endif
