/*
** The writer VFS. Every method forwards to the base VFS; what changes a main
** database is also captured in its changelog (spool_log.c), as spool/doc.go
** specifies. Nothing here enters Go but xOpen, xClose and our pragma.
**
** Files that are no databases (journals, temporary and in-memory files) are the base VFS's own. Databases
** are the base's own, too: their sqlite3_file stays where the base has made it, and only its pMethods
** points to a table of ours, with our state behind it, until the file is closed. So a file may
** be hooked after it was opened, and let go. A database that is not recorded is hooked, too, to say why.
**
** When a transaction ends:
**
**   xFileControl(COMMIT_PHASETWO)   commit; also comes when nothing was written,
**                                   and is all that comes under locking EXCLUSIVE
**   xUnlock(below RESERVED)         a rollback after a spill, and the recovery of a
**                                   hot journal: no COMMIT_PHASETWO comes (pager.c,
**                                   pager_playback and sqlite3PagerRollback). If either
**                                   fails, the journal stays hot, and what the file
**                                   holds then was never committed: it is not recorded
**
** The database's version (change counter) and size before a transaction are
** those that SQLite itself read when it took its SHARED lock (pager.c,
** sqlite3PagerSharedLock and pagerPagecount), so that looking costs nothing.
*/
#define _GNU_SOURCE
#include "recorder.h"
#include "below.h"
#include "children.h"
#include "goexports.h"
#include "spool_stamp.h"
#include "quiet.h"
#include "log.h"
#include "snapshot.h"
#include "selection.h"
#include "spool_wal.h"
#include "threads.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* WAL_WRITE_LOCK, WAL_CKPT_LOCK and WAL_RECOVER_LOCK (wal.c). */
#define SHM_EXCLUDES 7

/* SQLITE_FCNTL_CKPT_DONE, of SQLite 3.31 and later. */
#define FCNTL_CKPT_DONE 37

/* SQLite maps the wal-index in pieces of this size (wal.c, WALINDEX_PGSZ). */
#define WAL_INDEX_REGION 32768

/* Every method is counted; one call in this many is timed, and stands for all. */
#define PERF_SAMPLE 32

enum {
  OP_CLOSE, OP_READ, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_FILESIZE, OP_LOCK, OP_UNLOCK,
  OP_CHECKRESERVED, OP_FILECONTROL, OP_SHMMAP, OP_SHMLOCK, OP_FETCH, OP_N
};
static const char *const azOp[OP_N] = {
  "opf_close", "opf_read", "opf_write", "opf_truncate", "opf_sync", "opf_filesize", "opf_lock", "opf_unlock",
  "opf_checkreservedlock", "opf_filecontrol", "opf_shmmap", "opf_shmlock", "opf_fetch",
};
/* Of a file only the thread that uses it counts; others look (recorderPerf). */
typedef struct Perf {
  _Atomic uint64_t n, nTimed, ns;
} Perf;
#define PERF_GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define PERF_ADD(x, k) atomic_store_explicit(&(x), PERF_GET(x) + (k), memory_order_relaxed)

/* A database without a byte may become a copy, which is not recorded. AWAITS_SQL: it is
** when a statement writes to it, or somebody else has. AWAITS_COPY: it is being made as
** a copy; if a statement writes to it then, it is no copy any more, but a database. */
enum { AWAITS_NOTHING, AWAITS_SQL, AWAITS_COPY };

typedef struct RecorderFile RecorderFile;
struct RecorderFile {
  sqlite3_io_methods methods;    /* ours where the base has one; pFile->pMethods points here */
  const sqlite3_io_methods *pBase; /* what it pointed to before */
  sqlite3_file *pFile;           /* the base's, as it has made it */
  Spool *pSpool;                 /* NULL: forwarded, not recorded */
  char *zWhy;                    /* why not, sqlite3_malloc'd; NULL: it is, or nobody knows */
  sqlite3_file *pRaw;            /* the file as it is, where the base is not SQLite's own */
  int nCompared;                 /* reads that were compared with it */
  int awaits;                    /* AWAITS_..: recorded later, if at all */
  int isMeant;                   /* not recorded, which nobody need be told of any more when it is closed */
  sqlite3 **ppDb;                /* where the connection is found that uses the file; NULL: not known */
  Spool *pInherited;             /* in a forked child: that of a handle that is its parent's */
  int isWal;                     /* the -wal file, not the database */
  const volatile void *pIndex;   /* the wal-index's first page, if shared memory is mapped */
  SpoolTxn txn;
  SpoolState *pHeld;             /* whose holder this handle is, or NULL */
  const char *zName;             /* of the file, as SQLite has passed it */
  uint64_t version;              /* of the database, as seen under the present lock; 0 unknown */
  int64_t size;                  /* likewise; -1 unknown */
  int eLock;
  int shmLocks;                  /* a bit for each of the wal-index's locks that is held exclusively */
  int sizeUncertain;             /* SIZE_HINT or CHUNK_SIZE may have changed the size behind us */
  int chunked, mapped;           /* CHUNK_SIZE, MMAP_SIZE in force */
  RecorderFile *pMain;           /* of a WAL's handle: the database's, of the same connection; NULL unknown */
  SpoolState *pCheckpoint;       /* this handle writes frames of the WAL into the database: that state says so */
  int flushOnClose;
  sqlite3 *db;                   /* adopted: by whose VFS, not ours, its other files are opened; NULL: it is not */
  char *zSchema;                 /* and its name there, malloc'd */
  RecorderFile *pWal;            /* its WAL, once we have it */
  int deletesWal;                /* the WAL is deleted when it has been closed */
  Perf aPerf[OP_N];
  RecorderFile *pNext, **ppPrev; /* all open files, under mu */
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* the settings and the list of files */
static VerneuilSettings settings;
static atomic_int isConfigured;
static const char zNoTargets[] = "replication_targets in VERNEUIL_CONFIG names no s3 or dir target: what is committed is recorded, and not sent";
static char *zProblem;           /* why a database was last opened without replication */
static _Atomic int baseIsOwn;            /* SQLite's own VFS for files is below: it stores what it is given */
static RecorderFile *pFiles;
static Perf aClosed[OP_N];       /* sums of the files that were closed */

/* The handle that this thread has locked last. It may be closed by now. */
static _Thread_local const RecorderFile *lockedLast;

static int recorderClose(sqlite3_file *);

/* A file's recorder: its method table is where that begins. Somebody who has put another table
** before ours, as we did, calls ours: then it is looked for. */
static RecorderFile *fileOf(sqlite3_file *pFile) {
  if (__builtin_expect(pFile->pMethods->xClose == recorderClose, 1)) return (RecorderFile *)pFile->pMethods;
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && p->pFile != pFile) p = p->pNext;
  quietUnlock(&mu, q);
  return p;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

/* Forward a call, counted and now and then timed. The compiler sees one
** increment and one test on the way of every call. */
#define FORWARD(p, op, rc, call)                      \
  do {                                                \
    Perf *pPerf = &(p)->aPerf[op];                      \
    uint64_t nBefore = PERF_GET(pPerf->n);            \
    PERF_ADD(pPerf->n, 1);                            \
    if (nBefore % PERF_SAMPLE) {                      \
      rc = (p)->pBase->call;                          \
    } else {                                          \
      uint64_t t0 = now();                            \
      rc = (p)->pBase->call;                          \
      PERF_ADD(pPerf->ns, now() - t0);                \
      PERF_ADD(pPerf->nTimed, 1);                     \
    }                                                 \
  } while (0)

static void addPerf(Perf *aSum, Perf *a) {
  for (int i = 0; i < OP_N; i++) {
    PERF_ADD(aSum[i].n, PERF_GET(a[i].n));
    PERF_ADD(aSum[i].nTimed, PERF_GET(a[i].nTimed));
    PERF_ADD(aSum[i].ns, PERF_GET(a[i].ns));
  }
}

/* Takes note of why a database is not replicated: zErr is sqlite3_malloc'd, or NULL
** without memory. */
static void problem(RecorderFile *p, char *zErr) {
  notReplicated(p->zName, zErr ? zErr : "out of memory");
  Quiet q = quietLock(&mu);
  free(zProblem);
  zProblem = zErr ? strdup(zErr) : 0; /* it outlives sqlite3_shutdown() */
  quietUnlock(&mu, q);
  sqlite3_free(p->zWhy);
  p->zWhy = zErr;
}

/* ---- the database's version and size ---- */

static uint64_t versionOf(const unsigned char *aCounter) { return (uint64_t)1 << 32 | get4(aCounter); }

/* The four bytes of the change counter, if the range covers them; else NULL. */
static const unsigned char *counterIn(const void *pBuf, int n, sqlite3_int64 iOfst) {
  return iOfst <= 24 && iOfst + n >= 28 ? (const unsigned char *)pBuf + (24 - iOfst) : 0;
}

/* SQLite read the header under its SHARED lock: nobody is writing, so the
** version must be the one that the last recorder left, or somebody wrote without us. */
static void sawVersion(RecorderFile *p, uint64_t version) {
  SpoolState *st = p->pSpool->st;
  uint64_t known = atomic_load_explicit(&st->dbVersion, memory_order_relaxed);
  p->version = version;
  if (!known || known == version || p->eLock != SQLITE_LOCK_SHARED || atomic_load(&p->pSpool->nWal)) return;
  if (atomic_load(&st->walSalts) || atomic_load(&st->writing)) return; /* the next writer will say so */
  if (spoolLost(p->pSpool) || !atomic_compare_exchange_strong(&st->dbVersion, &known, version)) return;
  atomic_store(&st->dbSize, -1);
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  spoolWake(p->pSpool);
}

/* Before the first write: what the database is, looked up only if SQLite has not. */
static void lookBefore(RecorderFile *p) {
  unsigned char a[4];
  sqlite3_int64 size;
  if (p->size < 0) {
    p->sizeUncertain = p->pBase->xFileSize(p->pFile, &size) != SQLITE_OK;
    if (!p->sizeUncertain) p->size = size;
  }
  if (p->version) return;
  if (p->size >= 28 && p->pBase->xRead(p->pFile, a, 4, 24) == SQLITE_OK) p->version = versionOf(a);
  else p->version = (uint64_t)1 << 32; /* an empty file: as if the counter were 0 */
}

/* ---- transactions ---- */

/* A checkpoint writes to the database for the first time. Are its frames ours, and is the file what
** they belong to? */
static void beginCheckpoint(RecorderFile *p) {
  if (p->pCheckpoint) return;
  SpoolState *st = p->pCheckpoint = p->pSpool->st;
  atomic_store(&st->checkpointing, verneuilToken());
  if (!stampForeign(p->pSpool, st) && walIsKnown(st)) return;
  spoolRaise(st, SPOOL_CAUSE_FOREIGN);
  spoolWake(p->pSpool);
}

/* It does so no more, and still has the lock under which it did. */
static void endCheckpoint(RecorderFile *p) {
  SpoolState *st = p->pCheckpoint;
  if (!st) return;
  p->pCheckpoint = 0;
  stampLeave(p->pSpool, st);
  atomic_store(&st->checkpointing, 0);
}

/* A write to the database comes: record it? Page writes while the WAL is open
** are checkpoints. What a forked child does with a handle that it has inherited, which
** SQLite forbids, is not recorded: the parent may be in the middle of a record. */
static void awaitedWrite(RecorderFile *);
static int recording(RecorderFile *p) {
  if (p->awaits) awaitedWrite(p);
  if (p->pInherited) spoolRaise(p->pInherited->st, SPOOL_CAUSE_FOREIGN);
  if (!p->pSpool || p->isWal) return 0;
  if (atomic_load_explicit(&p->pSpool->nWal, memory_order_relaxed)) {
    beginCheckpoint(p);
    return 0;
  }
  if (p->txn.active) return 1;
  lookBefore(p);
  spoolBegin(p->pSpool, &p->txn, p->version, p->size);
  p->pHeld = p->txn.st;
  return 1;
}

/* A write to the database failed: part of it may be there. */
static void failed(RecorderFile *p) {
  p->sizeUncertain = 1;
  spoolFailed(p->pSpool, &p->txn);
}

/* VERNEUIL_VALIDATE=1: after each commit, and before its lock is given up, the mirror
** must be the database. */
static void validate(RecorderFile *p) {
  if (settings.validate && !spoolLost(p->pSpool) && verneuilGoRuns()) goValidate(p->pSpool->zDir);
}

static pthread_mutex_t telling = PTHREAD_MUTEX_INITIALIZER; /* nHandle and isTold of all spools */

static void tellGo(void (*xGo)(char *), const Spool *p) {
  char *zDir = strdup(p->zDir);
  int was = threadsImpatient(1);
  if (zDir) xGo(zDir);
  threadsImpatient(was);
}

/* A handle was opened (n is 1), or closed (-1). Go is told of a spool's first and last: it is
** another thread that has to answer, and there are hosts that open a connection for each
** request. It knows of the first before any handle can take a lock. */
static void countHandle(Spool *p, int n) {
  int runs = n > 0 ? verneuilGo() : verneuilGoRuns();
  if (!runs && verneuilForked()) childNote(p->zDir, n > 0);
  pthread_mutex_lock(&telling);
  p->nHandle += n;
  int opened = n > 0 && p->nHandle == 1, closed = !p->nHandle;
  if (closed) stampClosed(p);
  if (runs && p->isTold != (p->nHandle > 0)) {
    tellGo(p->isTold ? goClosed : goOpened, p);
    if (verneuilGoRuns()) p->isTold = !p->isTold; /* else it was given up */
  }
  pthread_mutex_unlock(&telling);
  if (opened) stampOpened(p);
}

static int flushHere(const Spool *p) {
  char *zDir = strdup(p->zDir);
  int was = threadsImpatient(1);
  int done = zDir && goFlush(zDir, settings.timeoutMs);
  threadsImpatient(was);
  return done;
}

/* Push what is committed: here, or from a forked child by who replicates. */
static int flush(Spool *p) {
  if (verneuilGo()) return flushHere(p);
  return verneuilForked() && spoolFlush(p, settings.timeoutMs);
}

static void stopRecording(RecorderFile *p, const char *zWhy);

static void endTransaction(RecorderFile *p) {
  sqlite3_int64 size;
  if (!p->txn.active) return;
  if (p->sizeUncertain && p->pBase->xFileSize(p->pFile, &size) != SQLITE_OK) {
    size = -1; /* a size that is not known must not be recorded as if it were */
    spoolFailed(p->pSpool, &p->txn);
  }
  if (p->sizeUncertain) p->size = size;
  p->sizeUncertain = 0;
  if (p->pRaw && p->size >= 0 && !belowSized(p->pRaw, p->size)) {
    stopRecording(p, "the VFS below has more in the file than the database: put it above verneuil");
    return;
  }
  spoolEnd(p->pSpool, &p->txn, p->version, p->size);
  validate(p);
}

/* RESERVED is given up. */
static void endHold(RecorderFile *p) {
  if (p->pHeld) atomic_store(&p->pHeld->holder, 0);
  p->pHeld = 0;
}

/* Does a journal lie there whose header would have it rolled back? (Not all that
** isHotJournal in pager.c asks: the lock is ours.) */
static int journalIsHot(RecorderFile *p) {
  char c = 0;
  char *z;
  if (asprintf(&z, "%s-journal", p->pSpool->zPath) < 0) z = 0;
  int fd = z ? open(z, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
  int absent = z && fd < 0 && errno == ENOENT;
  ssize_t n = fd >= 0 ? pread(fd, &c, 1, 0) : -1;
  if (fd >= 0) close(fd);
  free(z);
  return !absent && (n < 0 || (n == 1 && c)); /* PERSIST leaves zeros, TRUNCATE nothing */
}

static void forget(RecorderFile *p) {
  Quiet q = quietLock(&mu);
  *p->ppPrev = p->pNext;
  if (p->pNext) p->pNext->ppPrev = p->ppPrev;
  addPerf(aClosed, p->aPerf);
  quietUnlock(&mu, q);
  belowClose(p->pRaw);
  sqlite3_free(p->zWhy);
  free(p->zSchema);
  free(p);
}

/* The file's methods are the base's again, and p is no more. */
static void unhook(RecorderFile *p) {
  p->pFile->pMethods = p->pBase;
  forget(p);
}

/* The spool has one handle less. */
static void leaveSpool(RecorderFile *p) {
  Spool *pSpool = p->pSpool;
  if (!pSpool) return;
  Quiet q = quietLock(&mu); /* others look for it (spoolOfWal) */
  p->pSpool = 0;
  quietUnlock(&mu, q);
  if (p->isWal) atomic_fetch_sub(&pSpool->nWal, 1);
  else countHandle(pSpool, -1);
  spoolRelease(pSpool);
}

/* ---- what the base stores (I8) ---- */

/* Of a WAL's handle that of the database, of the same connection; of a database's that of its WAL. NULL:
** there is none. */
static RecorderFile *otherOf(const RecorderFile *p) {
  if (p->isWal) return p->pMain;
  Quiet q = quietLock(&mu);
  RecorderFile *pOther = pFiles;
  while (pOther && !(pOther->isWal && pOther->pMain == p)) pOther = pOther->pNext;
  quietUnlock(&mu, q);
  return pOther;
}

/* The base does not store what it is given. What it was given in this transaction is not
** published; nothing of it can be, from now on. */
static void stopRecording(RecorderFile *p, const char *zWhy) {
  Spool *pSpool = p->pSpool;
  if (!pSpool) return;
  atomic_store(&pSpool->isRefused, 1);
  if (!p->isWal) problem(p, sqlite3_mprintf("%s", zWhy));
  if (p->txn.active) {
    failed(p);
    spoolEnd(pSpool, &p->txn, 0, -1);
  } else {
    spoolRaise(pSpool->st, SPOOL_CAUSE_FOREIGN);
  }
  if (p->pCheckpoint) atomic_store(&p->pCheckpoint->checkpointing, 0); /* the stamp is what it was before */
  p->pCheckpoint = 0;
  endHold(p);
  leaveSpool(p);
}

static const char zStoresOther[] = "the VFS below stores other bytes than it is given: put it above verneuil";

/* Likewise, and nothing of ours stays between SQLite and the base: it may encrypt a WAL only
** where the database's methods are its own. p is no more, nor is the other handle, the WAL's or the database's. */
static void letGo(RecorderFile *p) {
  RecorderFile *pOther = otherOf(p);
  stopRecording(p, zStoresOther);
  unhook(p);
  if (!pOther) return;
  stopRecording(pOther, zStoresOther);
  unhook(pOther);
}

/* So many reads of pages are compared with the file; all writes are. */
#define COMPARE_READS 16

/* Was a page read that the file has not? Then p is no more. */
static int readsOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  if (n < 512 || p->nCompared >= COMPARE_READS) return 0;
  p->nCompared++;
  if (belowHas(p->pRaw, pBuf, n, iOfst)) return 0;
  letGo(p);
  return 1;
}

/* Was something written that the file has not? Then p is no more. */
static int storesOther(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  if (!p->pSpool || belowHas(p->pRaw, pBuf, n, iOfst)) return 0;
  letGo(p);
  return 1;
}

/* The default VFS, if what it opens comes by us (recorderHookDefault); else NULL. */
static sqlite3_vfs *_Atomic pHooked;

/* ---- adopted databases ----
**
** They were opened before the extension was loaded: by SQLite's own VFS, to which their connection
** goes for its other files, too, and so past us unless that VFS is hooked. Of those only the WAL matters. It is looked for where it may be
** changed next, and its deletion follows its close (wal.c, sqlite3WalClose). */

static Spool *spoolOfWal(const char *zWal);
static RecorderFile *hook(sqlite3_file *pFile, const char *zName, int isWal);
static void useHook(RecorderFile *p, Spool *pSpool);

/* The adopted database of a WAL; NULL: it is of another. */
static RecorderFile *adopterOf(RecorderFile *pWal) {
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && p->pWal != pWal) p = p->pNext;
  quietUnlock(&mu, q);
  return p;
}

static void setWal(RecorderFile *p, RecorderFile *pWal) {
  pthread_mutex_lock(&mu);
  p->pWal = pWal;
  pthread_mutex_unlock(&mu);
}

/* The connection's thread is in a method of the database: it holds the connection's mutex, if there
** is one. In a rollback mode the same question gives the journal. */
static void adoptWal(RecorderFile *p) {
  sqlite3_file *pFile = 0;
  unsigned char a[4];
  if (sqlite3_file_control(p->db, p->zSchema, SQLITE_FCNTL_JOURNAL_POINTER, &pFile) != SQLITE_OK || !pFile || !pFile->pMethods)
    return;
  if (pFile->pMethods->xRead(pFile, a, 4, 0) == SQLITE_OK ? (get4(a) & ~1u) != 0x377f0682u : p->eLock == SQLITE_LOCK_EXCLUSIVE)
    return; /* an empty file may become a WAL where the wal-index is locked */
  RecorderFile *pWal = hook(pFile, sqlite3_filename_wal(p->zName), 1);
  if (!pWal) return; /* its frames go unseen: the next header's salts, or its end, will tell */
  pWal->pMain = p;
  spoolRetain(p->pSpool);
  useHook(pWal, p->pSpool);
  setWal(p, pWal);
}

/* It is adopted, in use, and its WAL is not ours. */
static int lacksWal(const RecorderFile *p) { return p->db && !pHooked && p->pSpool && !p->pWal; }

/* ---- what may become a copy ---- */

static void attachLate(RecorderFile *p);
static void isCopy(RecorderFile *p, const char *zHow);

/* The database is about to be locked. Before SHARED: is there something in it by now, which
** somebody else has written? Before RESERVED: who writes? Below, and where locking EXCLUSIVE keeps the
** locks (awaitedWrite): likewise. */
static void awaitedLock(RecorderFile *p, int eLock) {
  sqlite3_int64 size;
  if (p->awaits == AWAITS_SQL && eLock == SQLITE_LOCK_SHARED && p->pBase->xFileSize(p->pFile, &size) == SQLITE_OK && size > 0)
    attachLate(p);
  else if (eLock == SQLITE_LOCK_RESERVED && (!p->ppDb || selectionRunsSql(*p->ppDb))) {
    if (p->awaits == AWAITS_SQL || !selectionVacuums(*p->ppDb)) attachLate(p);
  } else if (eLock == SQLITE_LOCK_RESERVED && p->awaits == AWAITS_SQL)
    isCopy(p, "the backup API");
}

static void awaitedWrite(RecorderFile *p) {
  if (p->eLock >= SQLITE_LOCK_RESERVED) awaitedLock(p, SQLITE_LOCK_RESERVED);
}

/* ---- io methods, in the order of sqlite3_io_methods ---- */

static int recorderClose(sqlite3_file *pFile) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  endTransaction(p);
  endCheckpoint(p);
  endHold(p);
  if (p->flushOnClose && p->pSpool) flush(p->pSpool);
  if (p->isMeant) isReplicated(p->zName);
  RecorderFile *pMain = p->isWal ? adopterOf(p) : 0;
  int deletes = pMain && !pHooked && p->pSpool && pMain->deletesWal && pMain->eLock == SQLITE_LOCK_EXCLUSIVE;
  if (pMain) setWal(pMain, 0);
  if (deletes) walBeforeReset(p->pSpool, 0); /* that will not go through recorderDelete */
  pFile->pMethods = p->pBase; /* it is the base's again, which may clear it */
  FORWARD(p, OP_CLOSE, rc, xClose(pFile));
  if (deletes) walAfterReset(p->pSpool, 0);
  leaveSpool(p); /* Go is told when no lock is held any more */
  forget(p);
  return rc;
}

static int recorderRead(sqlite3_file *pFile, void *pBuf, int n, sqlite3_int64 iOfst) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_READ, rc, xRead(pFile, pBuf, n, iOfst));
  if (p->pRaw && rc == SQLITE_OK && readsOther(p, pBuf, n, iOfst)) return rc;
  if (rc == SQLITE_OK && iOfst <= 24 && p->pSpool && !p->isWal && !p->txn.active) {
    const unsigned char *a = counterIn(pBuf, n, iOfst);
    if (a) sawVersion(p, versionOf(a));
  }
  return rc;
}

/* Does a handle of the database share its wal-index? Else that is on the heap, or there is none. */
static int hasIndex(const Spool *pSpool) {
  int found = 0;
  Quiet q = quietLock(&mu);
  for (RecorderFile *p = pFiles; p && !found; p = p->pNext) found = p->pSpool == pSpool && p->pIndex;
  quietUnlock(&mu, q);
  return found;
}

/* A write to the WAL. One at offset 0 is a new header: the frames of the old one
** are lost with it (wal.c, sqlite3WalFrames and walRestartLog). */
static int writeWal(RecorderFile *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  int rc, isHeader = iOfst == 0 && n >= 32;
  if (isHeader) walBeforeReset(p->pSpool, pBuf);
  FORWARD(p, OP_WRITE, rc, xWrite(p->pFile, pBuf, n, iOfst));
  if (p->pRaw && rc == SQLITE_OK && storesOther(p, pBuf, n, iOfst)) return rc;
  if (isHeader) walAfterReset(p->pSpool, pBuf);
  walWrote(p->pSpool, pBuf, n, iOfst);
  if (rc != SQLITE_OK && !hasIndex(p->pSpool)) walFailed(p->pSpool);
  return rc;
}

static int recorderWrite(sqlite3_file *pFile, const void *pBuf, int n, sqlite3_int64 iOfst) {
  RecorderFile *p = fileOf(pFile);
  if (p->isWal && p->pSpool) return writeWal(p, pBuf, n, iOfst);
  int rec = recording(p), rc;
  FORWARD(p, OP_WRITE, rc, xWrite(pFile, pBuf, n, iOfst));
  if (p->pRaw && rc == SQLITE_OK && storesOther(p, pBuf, n, iOfst)) return rc;
  if (!rec) return rc;
  const unsigned char *a = counterIn(pBuf, n, iOfst);
  if (a) p->version = versionOf(a);
  if (rc == SQLITE_OK && iOfst + n > p->size) p->size = iOfst + n;
  if (rc != SQLITE_OK) failed(p);
  spoolWrite(p->pSpool, &p->txn, pBuf, n, iOfst);
  return rc;
}

static int recorderTruncate(sqlite3_file *pFile, sqlite3_int64 size) {
  RecorderFile *p = fileOf(pFile);
  int rec = recording(p), rc, endsWal = p->isWal && p->pSpool && size == 0;
  if (endsWal) walBeforeReset(p->pSpool, 0);
  FORWARD(p, OP_TRUNCATE, rc, xTruncate(pFile, size));
  if (endsWal) walAfterReset(p->pSpool, 0);
  endCheckpoint(p); /* of which this is the last */
  if (!rec) return rc;
  /* CHUNK_SIZE rounds up (os_unix.c, unixTruncate): what is cut off is what counts */
  if (rc != SQLITE_OK) failed(p);
  if (p->chunked || rc != SQLITE_OK) {
    sqlite3_int64 actual;
    if (p->pBase->xFileSize(p->pFile, &actual) == SQLITE_OK) size = actual;
  }
  p->size = size;
  spoolTruncate(p->pSpool, &p->txn, size);
  return rc;
}

static int recorderSync(sqlite3_file *pFile, int flags) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_SYNC, rc, xSync(pFile, flags));
  if (rc != SQLITE_OK && p->isWal && p->pSpool && !hasIndex(p->pSpool)) walFailed(p->pSpool);
  return rc;
}

static int recorderFileSize(sqlite3_file *pFile, sqlite3_int64 *pSize) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_FILESIZE, rc, xFileSize(pFile, pSize));
  if (rc == SQLITE_OK && !p->txn.active && p->eLock >= SQLITE_LOCK_SHARED) p->size = *pSize;
  return rc;
}

static int recorderLock(sqlite3_file *pFile, int eLock) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (p->awaits) awaitedLock(p, eLock);
  FORWARD(p, OP_LOCK, rc, xLock(pFile, eLock));
  lockedLast = p;
  if (rc != SQLITE_OK) return rc;
  int closes = eLock == SQLITE_LOCK_EXCLUSIVE && p->eLock == SQLITE_LOCK_SHARED; /* its WAL, perhaps */
  p->eLock = eLock;
  if (eLock >= SQLITE_LOCK_RESERVED && p->pSpool && !p->pHeld) { /* a base copy need not ask who has it */
    p->pHeld = p->pSpool->st;
    atomic_store_explicit(&p->pHeld->holder, verneuilToken(), memory_order_relaxed);
  }
  if (closes && lacksWal(p)) adoptWal(p);
  return rc;
}

static int recorderUnlock(sqlite3_file *pFile, int eLock) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  endCheckpoint(p);
  if (eLock < SQLITE_LOCK_RESERVED && p->txn.active) {
    if (journalIsHot(p)) failed(p);
    endTransaction(p);
  }
  if (eLock < SQLITE_LOCK_SHARED) {
    p->version = 0;
    p->size = -1;
  }
  if (eLock < SQLITE_LOCK_RESERVED) endHold(p);
  p->eLock = eLock;
  FORWARD(p, OP_UNLOCK, rc, xUnlock(pFile, eLock));
  return rc;
}

static int recorderCheckReservedLock(sqlite3_file *pFile, int *pRes) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_CHECKRESERVED, rc, xCheckReservedLock(pFile, pRes));
  return rc;
}

/* Does the path name another file by now, or none? */
static int hasMoved(RecorderFile *p) {
  int moved = 0;
  p->pBase->xFileControl(p->pFile, SQLITE_FCNTL_HAS_MOVED, &moved);
  return moved;
}

/* Why what is committed by this handle goes nowhere, sqlite3_malloc'd; NULL: it does not. */
static char *whyNot(RecorderFile *p) {
  if (p->awaits == AWAITS_SQL) attachLate(p);
  if (p->pInherited) return sqlite3_mprintf("this connection was opened before fork(): open one in this process");
  if (!p->pSpool) return sqlite3_mprintf("%s", p->zWhy ? p->zWhy : "out of memory");
  if (hasMoved(p))
    return sqlite3_mprintf("this connection has a file open that was deleted, renamed or replaced: open the database anew");
  return settings.targets ? 0 : sqlite3_mprintf("%s", zNoTargets);
}

/* SQLite's own word for what is a boolean; -1: it is none. */
static int booleanOf(const char *z) {
  static const char *const azWord[] = {"0", "1", "off", "on", "no", "yes", "false", "true"};
  for (int i = 0; i < 8; i++)
    if (!sqlite3_stricmp(z, azWord[i])) return i & 1;
  return -1;
}

/* PRAGMA verneuil_flush_replication_data: none, now, force or 2 push and answer
** 1 or 0; a boolean sets flush on close and answers what it was. Where there is nobody to push,
** it is an error. */
static int pragmaFlush(RecorderFile *p, char **azArg) {
  const char *z = azArg[2];
  int pushes = !z || !*z || !sqlite3_stricmp(z, "now") || !sqlite3_stricmp(z, "force") || !strcmp(z, "2");
  int value = pushes ? 1 : booleanOf(z), result;
  if (value < 0) {
    azArg[0] = sqlite3_mprintf("verneuil_flush_replication_data: \"%s\" is neither now, force, nor a boolean", z);
    return SQLITE_ERROR;
  }
  char *zWhy = value ? whyNot(p) : 0;
  if (zWhy) {
    azArg[0] = sqlite3_mprintf("%s is not replicated: %z", p->zName, zWhy);
    return SQLITE_ERROR;
  }
  if (pushes) {
    result = flush(p->pSpool);
  } else {
    result = p->flushOnClose;
    p->flushOnClose = value;
  }
  azArg[0] = sqlite3_mprintf("%d", result);
  return SQLITE_OK;
}

/* The file control by which the SQL functions reach a recorder. SQLite leaves numbers above 100
** to others, and VFSes above ours pass on what they do not know. */
#define RECORDER_QUESTION 0x56724e51

static void answer(RecorderFile *p, RecorderQuestion *q) {
  q->answered = 1;
  if (!q->flush && p->awaits) return;
  q->zWhy = whyNot(p);
  if (q->flush && !q->zWhy) q->isSent = flush(p->pSpool);
}

int recorderAsk(sqlite3 *db, const char *zSchema, RecorderQuestion *p) {
  p->answered = 0;
  return sqlite3_file_control(db, zSchema, RECORDER_QUESTION, p) == SQLITE_OK && p->answered;
}

static int recorderFileControl(sqlite3_file *pFile, int op, void *pArg) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (op == SQLITE_FCNTL_PRAGMA && !p->isWal) {
    char **azArg = pArg;
    if (!sqlite3_stricmp(azArg[1], "verneuil_flush_replication_data")) return pragmaFlush(p, azArg);
  } else if (op == RECORDER_QUESTION && !p->isWal) {
    answer(p, pArg);
    return SQLITE_OK;
  }
  if (op == SQLITE_FCNTL_PDB && !p->isWal) {
    p->ppDb = pArg;
    if (p->awaits && *p->ppDb && selectionVacuums(*p->ppDb)) isCopy(p, "VACUUM INTO");
  }
  if (op == SQLITE_FCNTL_MMAP_SIZE && *(sqlite3_int64 *)pArg > 0) p->mapped = 1;
  /* os_unix.c, fcntlSizeHint, makes the file longer: before a transaction's first write, or a checkpoint's */
  int sized = op == SQLITE_FCNTL_SIZE_HINT && (p->chunked || p->mapped);
  if (sized && p->eLock >= SQLITE_LOCK_SHARED) recording(p);
  FORWARD(p, OP_FILECONTROL, rc, xFileControl(pFile, op, pArg));
  if (op == SQLITE_FCNTL_VFSNAME && rc == SQLITE_OK) {
    char **pz = pArg;
    *pz = sqlite3_mprintf("verneuil/%z", *pz);
  } else if (op == SQLITE_FCNTL_CHUNK_SIZE) {
    p->chunked = 1;
  } else if (op == SQLITE_FCNTL_ROLLBACK_ATOMIC_WRITE) {
    if (p->txn.active) failed(p); /* writes that we have recorded never came to be */
  } else if (sized) {
    p->sizeUncertain = 1;
  } else if (op == FCNTL_CKPT_DONE) {
    endCheckpoint(p);
  } else if (op == SQLITE_FCNTL_PERSIST_WAL) {
    p->deletesWal = *(int *)pArg != 1; /* sqlite3WalClose has asked, if it holds EXCLUSIVE */
  } else if (op == SQLITE_FCNTL_COMMIT_PHASETWO) {
    int wrote = p->txn.active;
    endTransaction(p);
    endCheckpoint(p);
    if (!wrote && p->eLock == SQLITE_LOCK_EXCLUSIVE && lacksWal(p)) {
      adoptWal(p);
      if (p->pWal) walFound(p->pSpool);
    }
    if (p->pSpool && p->eLock == SQLITE_LOCK_EXCLUSIVE && atomic_load(&p->pSpool->nWal)) {
      /* locking EXCLUSIVE: no xShmLock came, and the wal-index may lie on the heap */
      if (p->pIndex ? walUnlock(p->pSpool, p->pIndex) : walCommitExclusive(p->pSpool)) validate(p);
    }
  }
  return rc;
}

static int recorderSectorSize(sqlite3_file *pFile) { return fileOf(pFile)->pBase->xSectorSize(pFile); }

static int recorderDeviceCharacteristics(sqlite3_file *pFile) {
  return fileOf(pFile)->pBase->xDeviceCharacteristics(pFile);
}

static int recorderShmMap(sqlite3_file *pFile, int iRegion, int szRegion, int isWrite, void volatile **pp) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_SHMMAP, rc, xShmMap(pFile, iRegion, szRegion, isWrite, pp));
  if (iRegion == 0) p->pIndex = rc == SQLITE_OK ? *pp : 0;
  return rc;
}

static int recorderShmLock(sqlite3_file *pFile, int iFirst, int n, int flags) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  if (iFirst <= 1 && iFirst + n > 1 && flags & SQLITE_SHM_UNLOCK) endCheckpoint(p); /* slot 1 is the CKPT lock */
  if (iFirst == 0 && p->pSpool && p->pIndex && flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE) &&
      walUnlock(p->pSpool, p->pIndex)) /* slot 0 is the WRITE lock, and still ours */
    validate(p);
  FORWARD(p, OP_SHMLOCK, rc, xShmLock(pFile, iFirst, n, flags));
  if (rc == SQLITE_OK && flags & SQLITE_SHM_EXCLUSIVE) {
    int mask = ((1 << n) - 1) << iFirst;
    p->shmLocks = flags & SQLITE_SHM_LOCK ? p->shmLocks | mask : p->shmLocks & ~mask;
  }
  if (iFirst <= 1 && rc == SQLITE_OK && flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) && lacksWal(p)) adoptWal(p);
  if (iFirst == 0 && rc == SQLITE_OK && p->pSpool && p->pIndex && flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE))
    walNote(p->pSpool, p->pIndex);
  return rc;
}

static void recorderShmBarrier(sqlite3_file *pFile) { fileOf(pFile)->pBase->xShmBarrier(pFile); }

static int recorderShmUnmap(sqlite3_file *pFile, int deleteFlag) {
  RecorderFile *p = fileOf(pFile);
  /* the last connection, which deletes the WAL next: it holds the database EXCLUSIVE */
  if (deleteFlag && p->pSpool && p->pIndex) walNote(p->pSpool, p->pIndex);
  p->pIndex = 0;
  return p->pBase->xShmUnmap(pFile, deleteFlag);
}

static int recorderFetch(sqlite3_file *pFile, sqlite3_int64 iOfst, int n, void **pp) {
  RecorderFile *p = fileOf(pFile);
  int rc;
  FORWARD(p, OP_FETCH, rc, xFetch(pFile, iOfst, n, pp));
  return rc;
}

static int recorderUnfetch(sqlite3_file *pFile, sqlite3_int64 iOfst, void *pPage) {
  return fileOf(pFile)->pBase->xUnfetch(pFile, iOfst, pPage);
}

static const sqlite3_io_methods recorderMethods = {
  3, recorderClose, recorderRead, recorderWrite, recorderTruncate, recorderSync, recorderFileSize,
  recorderLock, recorderUnlock, recorderCheckReservedLock, recorderFileControl, recorderSectorSize,
  recorderDeviceCharacteristics, recorderShmMap, recorderShmLock, recorderShmBarrier, recorderShmUnmap,
  recorderFetch, recorderUnfetch,
};

/* ---- the vfs ---- */

static void freeList(char **az) {
  for (int i = 0; az && az[i]; i++) free(az[i]);
  free(az);
}

/* The settings, read when the first database is opened; a forked child has its parent's. */
static void configure(void) {
  if (atomic_load(&isConfigured)) return;
  VerneuilSettings s = {0};
  const char *z = secure_getenv("VERNEUIL_CONFIG");
  if (!z || !*z) s.zError = strdup("VERNEUIL_CONFIG is not set in the environment of this process");
  else if (verneuilGo()) goConfigure(&s);
  else s.zError = strdup(verneuilRefused() ? verneuilRefused() : "the Go runtime cannot run here");
  if (!s.zError && !s.replicate) s.zError = strdup("replication_spooling_dir is not set in VERNEUIL_CONFIG");
  Quiet q = quietLock(&mu);
  if (!isConfigured) {
    settings = s;
    if (s.zError) zProblem = strdup(s.zError);
    if (s.replicate) spoolSettings(s.zRoot, s.permissions);
    selectionSettings(s.azInclude, s.azExclude);
    s.azInclude = s.azExclude = 0;
    s.zRoot = s.zError = 0;
    atomic_store(&isConfigured, 1);
  }
  quietUnlock(&mu, q);
  free(s.zRoot); /* another thread was faster */
  free(s.zError);
  freeList(s.azInclude);
  freeList(s.azExclude);
}

char *recorderProblem(void) {
  Quiet q = quietLock(&mu);
  char *z = zProblem ? sqlite3_mprintf("%s", zProblem) : 0;
  quietUnlock(&mu, q);
  return z;
}

/* A parameter of the name, which has some only if SQLite says so: another shim's name may
** be a mere string, and sqlite3_uri_boolean looks before it, too. (Stock VFSes ask under the
** same condition: os_unix.c, findCreateFileMode and fillInUnixFile.) */
static int uriSays(const char *zName, int flags, const char *zParameter) {
  return (flags & SQLITE_OPEN_URI) && sqlite3_uri_boolean(zName, zParameter, 0);
}

/* Why a database that is opened so is not recorded, sqlite3_malloc'd; NULL: it is. */
static char *refusal(const char *zPath, int flags) {
  if (settings.zError) return sqlite3_mprintf("%s", settings.zError);
  if (uriSays(zPath, flags, "immutable")) return sqlite3_mprintf("it was opened with immutable=1, and is never written so");
  if (uriSays(zPath, flags, "nolock"))
    return sqlite3_mprintf("it was opened with nolock=1, and SQLite's locks are what tells us of its transactions: open it without");
  return 0;
}

/* Does its URI name us? Then it is replicated, whatever the patterns say. */
static int isNamed(const char *zPath, int flags) {
  const char *z = flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(zPath, "vfs") : 0;
  return z && !strcmp(z, "verneuil");
}

/* May the database become a copy? There is nothing in it, it was never replicated, and neither its URI nor a
** pattern says that it shall be. */
static int mayBeCopy(RecorderFile *p, int flags) {
  sqlite3_int64 size;
  return baseIsOwn && !isNamed(p->zName, flags) && !selectionIncludes(p->zName) &&
         p->pBase->xFileSize(p->pFile, &size) == SQLITE_OK && size == 0 && !spoolExists(p->zName);
}

/* Takes note of why a database is not recorded that is not meant to be; zWhy is sqlite3_malloc'd. */
static void meant(RecorderFile *p, char *zWhy) {
  if (zWhy) notReplicatedAt(VERNEUIL_INFO, p->zName, zWhy);
  p->isMeant = 1;
  p->zWhy = zWhy;
}

/* Finds the spool of a database that the base VFS has opened. */
static Spool *attachNow(RecorderFile *p) {
  char *zErr = 0;
  FileIdentity id;
  Spool *pSpool = 0;
  int rc = fileIdentity(p->zName, &id);
  if (rc) zErr = sqlite3_mprintf("%s", strerror(rc));
  else if (hasMoved(p)) zErr = sqlite3_mprintf("another file was put in its place while it was opened: open it anew");
  else pSpool = spoolAttach(p->zName, &id, &zErr);
  if (!pSpool) problem(p, zErr);
  else if (settings.targets) isReplicated(p->zName);
  else notReplicated(p->zName, zNoTargets);
  return pSpool;
}

/* Why the user does not want it, sqlite3_malloc'd; NULL: he does. byDefault: it was opened by the default VFS,
** which may have been named. (Another name is that of a VFS above it, for which it is as by default.) */
static char *unwanted(RecorderFile *p, int flags, int byDefault) {
  const char *zVfs = byDefault && flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(p->zName, "vfs") : 0;
  if (zVfs && pHooked && !strcmp(zVfs, ((sqlite3_vfs *)pHooked)->zName)) return sqlite3_mprintf("it was opened with vfs=%s", zVfs);
  return byDefault && !isNamed(p->zName, flags) ? selectionExcludes(p->zName) : 0;
}

/* Likewise, if the database that was just opened is to be recorded. */
static Spool *attach(RecorderFile *p, int flags, int outFlags, int byDefault) {
  char *zErr = refusal(p->zName, flags);
  if (zErr && (outFlags & SQLITE_OPEN_READONLY || uriSays(p->zName, flags, "immutable"))) p->zWhy = zErr; /* nobody writes */
  else if (zErr) problem(p, zErr);
  else if ((zErr = unwanted(p, flags, byDefault))) meant(p, zErr);
  else if (mayBeCopy(p, flags)) p->awaits = AWAITS_SQL;
  else return attachNow(p);
  return 0;
}

/* It is no copy, or no longer: from here on it is recorded. */
static void attachLate(RecorderFile *p) {
  if (p->isMeant) isReplicated(p->zName);
  sqlite3_free(p->zWhy);
  p->zWhy = 0;
  p->isMeant = 0;
  p->awaits = AWAITS_NOTHING;
  Spool *pSpool = attachNow(p);
  Quiet q = quietLock(&mu); /* others look for it (spoolOfWal) */
  p->pSpool = pSpool;
  quietUnlock(&mu, q);
  if (pSpool) countHandle(pSpool, 1);
}

static void isCopy(RecorderFile *p, const char *zHow) {
  p->awaits = AWAITS_COPY;
  meant(p, sqlite3_mprintf("it is a copy, made by %s, until a statement writes to it or it is opened anew: "
                           "name it in make_default's include", zHow));
}

/* Offer exactly what the base's file offers: nolock has no xShm methods, say. */
static void offerMethods(RecorderFile *p) {
  const sqlite3_io_methods *pBase = p->pBase;
  p->methods = recorderMethods;
  if (pBase->iVersion < p->methods.iVersion) p->methods.iVersion = pBase->iVersion;
  if (!pBase->xSectorSize) p->methods.xSectorSize = 0;
  if (pBase->iVersion >= 2 && !pBase->xShmMap) {
    p->methods.xShmMap = 0;
    p->methods.xShmLock = 0;
    p->methods.xShmBarrier = 0;
    p->methods.xShmUnmap = 0;
  }
  if (pBase->iVersion >= 3 && !pBase->xFetch) {
    p->methods.xFetch = 0;
    p->methods.xUnfetch = 0;
  }
}

static int isWalOf(const char *zWal, const RecorderFile *p) {
  size_t n = strlen(p->zName);
  return !strncmp(zWal, p->zName, n) && !strcmp(zWal + n, "-wal");
}

/* The spool of the database that a WAL of this name belongs to, if it is open here. After the
** database was replaced there may be handles of both files. SQLite opens a WAL when it has locked the database
** (pager.c, sqlite3SharedLock and sqlite3PagerOpenWal), on the same thread; else the file is meant that
** stands at the path. (SQLite would tell by the name's address, sqlite3_filename_database(), but
** not of a name that another shim has made: it reads what lies before it.) */
static Spool *spoolOfWal(const char *zWal) {
  size_t n = strlen(zWal);
  Spool *pSpool = 0;
  if (n <= 4 || strcmp(zWal + n - 4, "-wal")) return 0;
  Quiet q = quietLock(&mu);
  for (RecorderFile *p = pFiles; p; p = p->pNext) {
    if (p == lockedLast && !p->isWal && !p->pSpool && isWalOf(zWal, p)) { /* it is not recorded */
      pSpool = 0;
      break;
    }
    if (p->isWal || !p->pSpool || atomic_load(&p->pSpool->isRefused)) continue;
    if (strncmp(p->pSpool->zPath, zWal, n - 4) || p->pSpool->zPath[n - 4]) continue;
    if (!pSpool || spoolLost(pSpool)) pSpool = p->pSpool;
    if (p != lockedLast) continue;
    pSpool = p->pSpool;
    break;
  }
  if (pSpool) spoolRetain(pSpool);
  quietUnlock(&mu, q);
  return pSpool;
}

/* Puts our methods before the base's: pFile is a database or, isWal, a WAL that the base has
** opened. The base's structure stays where it is. NULL without memory. */
static RecorderFile *hook(sqlite3_file *pFile, const char *zName, int isWal) {
  RecorderFile *p = calloc(1, sizeof *p);
  if (!p) return 0;
  p->pFile = pFile;
  p->pBase = pFile->pMethods;
  p->size = -1;
  p->isWal = isWal;
  p->zName = zName;
  offerMethods(p);
  return p;
}

/* From here on the file's methods are ours; pSpool is NULL, or a reference that p takes. */
static void useHook(RecorderFile *p, Spool *pSpool) {
  p->pSpool = pSpool;
  if (p->isWal && !atomic_fetch_add(&pSpool->nWal, 1)) walOpened(pSpool);
  Quiet q = quietLock(&mu);
  p->pNext = pFiles;
  p->ppPrev = &pFiles;
  if (pFiles) pFiles->ppPrev = &p->pNext;
  pFiles = p;
  quietUnlock(&mu, q);
  p->pFile->pMethods = &p->methods;
  if (!p->isWal && pSpool) countHandle(pSpool, 1);
}

/* Records a database that the base has opened, if it may be. */
static void recordMain(const char *zName, sqlite3_file *pFile, int flags, int outFlags, int byDefault) {
  sqlite3_file *pRaw = baseIsOwn ? 0 : belowOpen(zName, SQLITE_OPEN_MAIN_DB);
  char *zWhy = baseIsOwn ? 0 : belowRefuses(pFile, pRaw, verneuilBase->zName);
  RecorderFile *p = zWhy ? 0 : hook(pFile, zName, 0);
  Spool *pSpool = p ? attach(p, flags, outFlags, byDefault) : 0;
  if (pSpool && atomic_load(&pSpool->isRefused)) { /* another handle has found out */
    spoolRelease(pSpool);
    free(p);
    p = 0;
    zWhy = sqlite3_mprintf("%s", zStoresOther);
  }
  if (p) {
    p->pRaw = pRaw;
    useHook(p, pSpool);
    return;
  }
  belowClose(pRaw);
  notReplicated(zName, zWhy ? zWhy : "out of memory");
  sqlite3_free(zWhy);
}

int recorderOpens(const sqlite3_vfs *pVfs) { return pVfs && (pVfs == pHooked || pVfs == verneuilBase); }

int recorderIsOver(const sqlite3_file *pFile) { return pFile->pMethods->xClose == recorderClose; }

int recorderAdopt(sqlite3 *db, const char *zSchema, sqlite3_file *pFile, int eLock, const char *zWhy) {
  const char *zName = sqlite3_db_filename(db, zSchema);
  configure();
  if (settings.replicaFiles && snapshotIsReplicaFile(pFile)) return 0;
  RecorderFile *p = hook(pFile, zName, 0);
  if (!p || !(p->zSchema = strdup(zSchema))) {
    free(p);
    return 0;
  }
  p->db = db;
  p->ppDb = &p->db;
  p->eLock = eLock;
  p->chunked = p->mapped = 1; /* it may be: file controls have gone before us */
  Spool *pSpool = 0;
  if (zWhy) problem(p, sqlite3_mprintf("%s", zWhy));
  else pSpool = attach(p, SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_URI, sqlite3_db_readonly(db, zSchema) ? SQLITE_OPEN_READONLY : 0, 1);
  useHook(p, pSpool);
  if (!pSpool || eLock != SQLITE_LOCK_SHARED) return 1;
  void volatile *pIndex = 0; /* it is mapped */
  if (p->pBase->xShmMap(pFile, 0, WAL_INDEX_REGION, 0, &pIndex) == SQLITE_OK) p->pIndex = pIndex;
  adoptWal(p);
  return 1;
}

/* The handle of the connection that opens a WAL of this name: see spoolOfWal. */
static RecorderFile *databaseOf(const char *zWal) {
  size_t n = strlen(zWal);
  Quiet q = quietLock(&mu);
  RecorderFile *p = pFiles;
  while (p && (p != lockedLast || p->isWal)) p = p->pNext;
  quietUnlock(&mu, q);
  return p && n > 4 && !strncmp(p->zName, zWal, n - 4) && !p->zName[n - 4] ? p : 0;
}

/* Records a WAL that the base has opened, of a database that is recorded. */
static int recordWal(const char *zName, sqlite3_file *pFile) {
  RecorderFile *pMain = databaseOf(zName);
  if (pMain && pMain->awaits) attachLate(pMain); /* in WAL mode the database's locks tell nothing */
  if (pMain && pMain->pRaw && !pMain->pSpool) { /* see letGo */
    unhook(pMain);
    return SQLITE_OK;
  }
  Spool *pSpool = spoolOfWal(zName);
  if (!pSpool) return SQLITE_OK;
  RecorderFile *p = hook(pFile, zName, 1);
  if (p) p->pMain = pMain;
  if (p && !baseIsOwn) p->pRaw = belowOpen(zName, SQLITE_OPEN_WAL);
  if (p && (baseIsOwn || p->pRaw)) {
    useHook(p, pSpool);
    return SQLITE_OK;
  }
  free(p);
  spoolRelease(pSpool);
  pFile->pMethods->xClose(pFile); /* frames must not be written unseen */
  pFile->pMethods = 0;
  return SQLITE_NOMEM;
}

static int openFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags, int byDefault) {
  int isMain = zName && (flags & SQLITE_OPEN_MAIN_DB) && !(flags & SQLITE_OPEN_MEMORY), outFlags = 0;
  if (isMain) configure();
  int rc = verneuilBase->xOpen(verneuilBase, zName, pFile, flags, &outFlags);
  if (pOutFlags) *pOutFlags = outFlags;
  if (rc != SQLITE_OK || !pFile->pMethods) return rc;
  if (isMain && settings.replicaFiles && snapshotIsReplicaFile(pFile)) {
    pFile->pMethods->xClose(pFile);
    return snapshotOpenReplicaFile(zName, pFile, flags, pOutFlags);
  }
  if (isMain) recordMain(zName, pFile, flags, outFlags, byDefault);
  if (!zName || !(flags & SQLITE_OPEN_WAL)) return rc;
  return recordWal(zName, pFile);
}

static _Atomic int isDefault;    /* the VFS called verneuil is the process's default */

static int recorderOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, isDefault);
}

/* The last connection deletes the WAL, after it has closed it, while it still
** holds the database's EXCLUSIVE lock (wal.c, sqlite3WalClose). */
static int recorderDelete(sqlite3_vfs *pVfs, const char *zName, int syncDir) {
  (void)pVfs;
  Spool *pSpool = spoolOfWal(zName);
  if (pSpool) walBeforeReset(pSpool, 0);
  int rc = verneuilBase->xDelete(verneuilBase, zName, syncDir);
  if (pSpool) {
    walAfterReset(pSpool, 0);
    spoolRelease(pSpool);
  }
  return rc;
}
static int recorderAccess(sqlite3_vfs *pVfs, const char *zName, int flags, int *pRes) {
  (void)pVfs;
  return verneuilBase->xAccess(verneuilBase, zName, flags, pRes);
}
static int recorderFullPathname(sqlite3_vfs *pVfs, const char *zName, int n, char *zOut) {
  (void)pVfs;
  return verneuilBase->xFullPathname(verneuilBase, zName, n, zOut);
}
static void *recorderDlOpen(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xDlOpen(verneuilBase, zName);
}
static void recorderDlError(sqlite3_vfs *pVfs, int n, char *zMsg) {
  (void)pVfs;
  verneuilBase->xDlError(verneuilBase, n, zMsg);
}
static void (*recorderDlSym(sqlite3_vfs *pVfs, void *p, const char *zSym))(void) {
  (void)pVfs;
  return verneuilBase->xDlSym(verneuilBase, p, zSym);
}
static void recorderDlClose(sqlite3_vfs *pVfs, void *p) {
  (void)pVfs;
  verneuilBase->xDlClose(verneuilBase, p);
}
static int recorderRandomness(sqlite3_vfs *pVfs, int n, char *z) {
  (void)pVfs;
  return verneuilBase->xRandomness(verneuilBase, n, z);
}
static int recorderSleep(sqlite3_vfs *pVfs, int us) {
  (void)pVfs;
  return verneuilBase->xSleep(verneuilBase, us);
}
static int recorderCurrentTime(sqlite3_vfs *pVfs, double *p) {
  (void)pVfs;
  return verneuilBase->xCurrentTime(verneuilBase, p);
}
static int recorderGetLastError(sqlite3_vfs *pVfs, int n, char *z) {
  (void)pVfs;
  return verneuilBase->xGetLastError ? verneuilBase->xGetLastError(verneuilBase, n, z) : 0;
}
static int recorderCurrentTimeInt64(sqlite3_vfs *pVfs, sqlite3_int64 *p) {
  (void)pVfs;
  return verneuilBase->xCurrentTimeInt64(verneuilBase, p);
}
static int recorderSetSystemCall(sqlite3_vfs *pVfs, const char *zName, sqlite3_syscall_ptr pCall) {
  (void)pVfs;
  return verneuilBase->xSetSystemCall(verneuilBase, zName, pCall);
}
static sqlite3_syscall_ptr recorderGetSystemCall(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xGetSystemCall(verneuilBase, zName);
}
static const char *recorderNextSystemCall(sqlite3_vfs *pVfs, const char *zName) {
  (void)pVfs;
  return verneuilBase->xNextSystemCall(verneuilBase, zName);
}

static sqlite3_vfs recorderVfs = {
  .iVersion = 3, .zName = "verneuil", .xOpen = recorderOpen, .xDelete = recorderDelete,
  .xAccess = recorderAccess, .xFullPathname = recorderFullPathname, .xDlOpen = recorderDlOpen,
  .xDlError = recorderDlError, .xDlSym = recorderDlSym, .xDlClose = recorderDlClose,
  .xRandomness = recorderRandomness, .xSleep = recorderSleep, .xCurrentTime = recorderCurrentTime,
  .xGetLastError = recorderGetLastError, .xCurrentTimeInt64 = recorderCurrentTimeInt64,
  .xSetSystemCall = recorderSetSystemCall, .xGetSystemCall = recorderGetSystemCall,
  .xNextSystemCall = recorderNextSystemCall,
};

int recorderRegister(int makeDefault) {
  sqlite3_vfs *p = &recorderVfs;
  if (!p->szOsFile) {
    if (verneuilBase->iVersion < p->iVersion) p->iVersion = verneuilBase->iVersion;
    if (p->iVersion >= 2 && !verneuilBase->xCurrentTimeInt64) p->xCurrentTimeInt64 = 0;
    if (p->iVersion >= 3 && !verneuilBase->xSetSystemCall) p->xSetSystemCall = 0;
    if (p->iVersion >= 3 && !verneuilBase->xGetSystemCall) p->xGetSystemCall = 0;
    if (p->iVersion >= 3 && !verneuilBase->xNextSystemCall) p->xNextSystemCall = 0;
    p->mxPathname = verneuilBase->mxPathname;
    p->szOsFile = verneuilBase->szOsFile < snapshotFileBytes() ? snapshotFileBytes() : verneuilBase->szOsFile;
    baseIsOwn = belowIsOwn(verneuilBase);
  }
  isDefault = isDefault || makeDefault;
  return sqlite3_vfs_register(p, makeDefault);
}

/* ---- the default VFS, where it stands ---- */

/* SQLite finds a shared cache by its file's name and the pointer to its VFS (sqlite3BtreeOpen), also
** of databases in memory, of which no VFS is told: another default VFS would split those that are shared. So
** the default VFS stays the one that it was, and only its way to open and to delete files leads to us. */
static sqlite3_vfs asItWas;

static int hookedOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)pVfs;
  return openFile(zName, pFile, flags, pOutFlags, 1);
}

/* SQLite's own VFS for files does not look at where its structure lies, so that a copy does. Of
** another one nobody knows. */
int recorderHookDefault(void) {
  sqlite3_vfs *pVfs = verneuilBase;
  if (pHooked) return 1;
  if (!belowIsOwn(pVfs) || pVfs->szOsFile < snapshotFileBytes()) return 0;
  baseIsOwn = 1;
  asItWas = *pVfs;
  verneuilBase = &asItWas;
  pHooked = pVfs;
  __atomic_store_n(&pVfs->xDelete, recorderDelete, __ATOMIC_RELEASE); /* other threads may be about to call them */
  __atomic_store_n(&pVfs->xOpen, hookedOpen, __ATOMIC_RELEASE);
  return 1;
}

int recorderIs(const sqlite3_vfs *pVfs) { return pVfs == &recorderVfs; }

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void afterFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
  pthread_mutex_init(&telling, 0); /* a thread that waits for Go may have had it */
  for (RecorderFile *p = pFiles; p; p = p->pNext) {
    if (p->pSpool) p->pInherited = p->pSpool;
    p->pSpool = 0;
    p->txn.active = 0;
    p->pHeld = 0;
  }
}
__attribute__((constructor)) static void recorderLoad(void) { pthread_atfork(beforeFork, afterFork, childOfFork); }

/* ---- the process's end ---- */

#define EXCLUDES_TRIES 1000

/* In WAL mode only its locks to write, to checkpoint and to recover keep others waiting; else all do. */
static int excludes(const RecorderFile *p) {
  if (__atomic_load_n(&p->shmLocks, __ATOMIC_RELAXED) & SHM_EXCLUDES) return 1;
  return __atomic_load_n(&p->eLock, __ATOMIC_RELAXED) >= (p->pIndex ? SQLITE_LOCK_RESERVED : SQLITE_LOCK_SHARED);
}

int recorderExcludes(void) {
  int nTry = 0, found = 0;
  while (pthread_mutex_trylock(&mu))
    if (++nTry == EXCLUDES_TRIES || sched_yield()) return 1;
  for (RecorderFile *p = pFiles; p && !found; p = p->pNext) found = !p->isWal && excludes(p);
  pthread_mutex_unlock(&mu);
  return found;
}

/* ---- figures ---- */

char *recorderPerf(void) {
  Perf a[OP_N] = {{0}};
  char *z = 0;
  Quiet q = quietLock(&mu);
  addPerf(a, aClosed);
  for (RecorderFile *p = pFiles; p; p = p->pNext) addPerf(a, p->aPerf);
  quietUnlock(&mu, q);
  for (int i = 0; i < OP_N; i++) {
    double avg = a[i].nTimed ? (double)a[i].ns / (double)a[i].nTimed * 1e-9 : 0;
    char *zMore = sqlite3_mprintf("%s%s\"%s\":{\"avgcount\":%lld,\"sum\":%.9f,\"avgtime\":%.9f}", z ? z : "",
                                  z ? "," : "", azOp[i], (sqlite3_int64)a[i].n, avg * (double)a[i].n, avg);
    sqlite3_free(z);
    if (!zMore) return 0;
    z = zMore;
  }
  return sqlite3_mprintf("{%z}", z);
}
