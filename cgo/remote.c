/*
** The remote VFS, "verneuil_remote": a database that lives in a store. This file has the methods of
** the database; remote_control.c has its file controls and pragmas, remote_private.c its journals,
** remote_vfs.c its name.
**
** A handle reads one version of the database from the slot file, without Go and without a lock, as
** a replica does (snapshot.c, versiontable.h). A write transaction puts its pages into an overlay
** on top of that version (overlay.h). Its commit hands the overlay to Go (remote.go), which makes
** the next version of it (replicate/remote), and appends that to the database's log in the store.
**
** M1  A handle's pTable changes only while it holds no lock, so that a read transaction sees one
**     version; and by what it has committed itself, which is what SQLite's page cache has. If that
**     then fails to become durable, pTable goes back to the version below.
** M2  The version that a handle reads under SHARED was the newest at a moment within xLock: by the
**     lease's page (and by the tip of this process's commits), or because Go has asked; but for
**     staleness_ms and mode=ro, which say how old it may be, and immutable=1. No version becomes the
**     newest by another's commit while a handle has RESERVED; so what is committed was made on top of
**     the newest.
** M3  Nothing leaves the overlay but at SQLITE_FCNTL_SYNC, which the pager sends once all pages are
**     written and before it finalizes the journal, in all journal modes and at synchronous=OFF, too
**     (pager.c, sqlite3PagerSync); and, in WAL mode, with a commit frame (W1). At xSync, or with
**     that frame, it is durable. An error of either is the error of COMMIT, and SQLite rolls back.
** M4  What SQLite writes to roll back is never committed. After an error the overlay is empty, and
**     takes nothing until SQLite has finished:
**
**         NONE --> FAILED     commit or wait fails, or the right to write is lost; SQLite plays its
**                             journal back
**         FAILED --> DROPPED  SYNC, which ends that, and is told to fail: the pager is in its error
**                             state from there on, and drops all pages (pager.c, pager_unlock)
**         any --> NONE        lock, unlock, and read: a playback reads no page of the database
**                             (pager_playback_one_page)
**
**     Where a lock was kept, as locking_mode=exclusive does, the handle moves to the newest version
**     if that read is the pager's look at the file's version: while it has a lock it looks only
**     after an error, when it has no page left (M1; pager.c, sqlite3PagerSharedLock). Any other read
**     leaves the handle where it is.
**
**     What was spilled and is rolled back without an error is dropped, too (J3). Without a journal
**     file (journal_mode=memory) that goes to Go, which leaves out what is equal.
** M5  Go is called only after verneuilGo() has said 1. A child that was forked gets an error at its
**     first lock, also where nothing need be asked.
** M6  Two versions show different change counters, so SQLite drops its page cache with the version
**     (snapshot.c, S2), except for what this handle has committed.
**
** M7  What writes, syncs or cuts answers OK, SQLITE_FULL or an SQLITE_IOERR: after any other error of
**     a rollback the pager would not be in its error state, and go on with half of it (pager.c,
**     pager_error).
**
** M8  To call Go takes two changes of threads (gort_calls.c), so that where a call can be saved, it is.
**     A commit is waited for at SQLITE_FCNTL_SYNC already, if xSync is expected to follow at once;
**     else Go hears that COMMIT answers before it is durable. What is expected is what the last
**     commit has shown, and the pragma says. If it was wrong nothing breaks: xSync waits for what
**     was not waited for. A handle that has passed its place on with a commit need not give it up;
**     and while nobody else takes it (its grip is loose) it makes its grip firm without Go, if the
**     version that it reads is this process's last one, which is not durable yet, or is, and is the
**     newest by the machine's lease (isKept: the process has kept the machine's lock since, and
**     takes the grip before it gives that back). That needs no look at the store (M2) either, as its
**     own commit does not. A call is not saved where the lock is for a statement that writes, and
**     another handle's version is not durable yet: to reserve on what is durable would fail, and the
**     busy handler sleep.
**
** PENDING and EXCLUSIVE are waited for by nobody: readers have their versions. RESERVED is waited for
** by SQLite's busy handler, which tries again; but
**
** B1  who has found another one writing waits in the next SHARED for news of that one, so that it need
**     not be looked for at each attempt. SQLite does not measure: it adds up what it has slept. So a
**     busy timeout would be three times what it says. That time is told to the busy handler, which
**     sleeps it by our xSleep, where it is over already. A handler that sleeps otherwise is not
**     called again.
*/
#include "remote_file.h"
#include "base.h"
#include "clock.h"
#include "gort.h"
#include "log.h"
#include "selection.h"
#include "remote_goexports.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

/* What the pager reads of the header to learn whether the file has changed (Pager.dbFileVers). */
#define VERSION_OFFSET 24
#define VERSION_BYTES 16

int remoteGo(const RemoteFile *p) {
  if (verneuilGo()) return 1;
  const char *z = verneuilRefused();
  verneuilLogOf(VERNEUIL_ERROR, p->zName, "remote: %s",
                z ? z : "this process was forked from one that had opened databases, and can use none in a store: " VERNEUIL_FORKED_REMEDY);
  return 0;
}

void remoteMoved(RemoteFile *p, const RemotePlace *pPlace) {
  if (!pPlace->pTable) return; /* a panic was caught */
  p->pTable = pPlace->pTable;
  p->iNumber = pPlace->iNumber;
  p->iTip = pPlace->iTip;
  p->iOnto = pPlace->iOnto;
  p->isKept = pPlace->isKept;
  p->isReserved = pPlace->isHeld;
}

/* A file of one byte is an empty database, as it is to SQLite (os_unix.c, unixFileSize). */
static int64_t versionBytes(const RemoteFile *p) { return p->pTable->nByte == 1 ? 0 : (int64_t)p->pTable->nByte; }

static int hasWritten(const RemoteFile *p) { return p->pOverlay && overlayIsUsed(p->pOverlay); }

void remoteDrop(RemoteFile *p) {
  if (p->pOverlay) overlayClear(p->pOverlay, versionBytes(p));
  p->eFormatNew = p->eFormat;
}

/*
** Reading
*/

static void remoteAhead(void *pOwner, uint32_t iChunk) {
  if (verneuilGo()) goRemoteAhead(((RemoteFile *)pOwner)->hConn, iChunk);
}

static int remoteMissing(void *pOwner, void *pBuf, int n, int64_t iOfst, int isGone) {
  RemoteFile *p = pOwner;
  (void)isGone;                    /* only in a child, which remoteGo() refuses */
  return remoteGo(p) ? goRemoteRead(p->hConn, pBuf, n, iOfst, p->ppDb) : SQLITE_IOERR_READ;
}

static int belowRead(void *pOwner, void *pBuf, int n, int64_t iOfst) {
  static const VersionOwner calls = {remoteAhead, remoteMissing};
  return versionRead(((RemoteFile *)pOwner)->pTable, pBuf, n, iOfst, &calls, pOwner);
}

OverlayBelow remoteBelow(RemoteFile *p) { return (OverlayBelow){belowRead, p}; }

static int afterFailure(RemoteFile *p, int iAmt, sqlite3_int64 iOfst);

static int readAny(RemoteFile *p, void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  int rc = p->eFailure ? afterFailure(p, iAmt, iOfst) : SQLITE_OK;
  if (rc != SQLITE_OK) return rc;
  if (hasWritten(p)) {
    OverlayBelow below = remoteBelow(p);
    rc = overlayRead(p->pOverlay, pBuf, iAmt, iOfst, &below);
  } else {
    rc = belowRead(p, pBuf, iAmt, iOfst);
  }
  if (p->eFormatNew == 2 && iOfst <= 18 && iOfst + iAmt >= 20 && rc == SQLITE_OK)
    memset((char *)pBuf + (18 - iOfst), 2, 2); /* W2 */
  return rc;
}

static int remoteRead(sqlite3_file *pFile, void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_READ], PERF_SAMPLE, rc, readAny(p, pBuf, iAmt, iOfst));
  return rc;
}

static int remoteFileSize(sqlite3_file *pFile, sqlite3_int64 *pSize) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_FILESIZE], PERF_SAMPLE, rc, SQLITE_OK);
  *pSize = hasWritten(p) ? overlaySize(p->pOverlay) : versionBytes(p);
  return rc;
}

/*
** Locks
*/

_Atomic uint64_t remoteCounts[REMOTE_COUNTS];

/* Has a look that began so recently found the newest known version to be the newest? */
static int isFresh(const RemoteFile *p) {
  uint64_t checked = p->staleness ? atomic_load_explicit(p->pChecked, memory_order_acquire) : 0;
  return checked && clockNs(CLOCK_BOOTTIME) - (int64_t)checked < p->staleness;
}

/* Is that still this process's last version, and not durable yet? */
static int isTip(const RemoteFile *p, uint64_t iTip) {
  return iTip && atomic_load_explicit(p->pTip, memory_order_acquire) == iTip;
}

/* Is the version that is read the newest: while the machine's lease promises that no other machine
** goes on, that of the lease's record, or this process's last one, if that is iTip? */
static int isNewest(const RemoteFile *p, uint64_t iTip) {
  if (!(p->iNumber || iTip) || !p->pLease) return 0;
  int64_t until = atomic_load_explicit(&p->pLease->until, memory_order_acquire); /* before the others */
  if (!until) return 0;
  int is = p->iNumber && atomic_load_explicit(&p->pLease->iNumber, memory_order_acquire) == p->iNumber;
  return (is || isTip(p, iTip)) && clockNs(CLOCK_BOOTTIME) < until;
}

static int isPromised(const RemoteFile *p) { return isNewest(p, p->iTip); }

/* Is the lock for a statement that writes, as it seems? */
static int isToWrite(const RemoteFile *p) {
  return !p->isReadOnly && p->ppDb && *p->ppDb && selectionWrites(*p->ppDb);
}

/* Has another handle of this process made a version that is not durable yet, on which this one
** is to write? */
static int isBehindTip(const RemoteFile *p) {
  uint64_t iTip = atomic_load_explicit(p->pTip, memory_order_acquire);
  return iTip && iTip != p->iTip && isToWrite(p);
}

/* Moves to a version that may be read under a new SHARED lock (M2). */
static int share(RemoteFile *p) {
  RemotePlace place = {0};
  int rc = SQLITE_OK;
  if (p->isPinned || (isPromised(p) && !isBehindTip(p))) return SQLITE_OK;
  if (p->isFollowing || isFresh(p)) {
    if (atomic_load_explicit(p->pNewest, memory_order_relaxed) == p->pTable->iCounter) return SQLITE_OK;
    if (!remoteGo(p)) return SQLITE_IOERR_LOCK;
    goRemoteAdopt(p->hConn, &place);
  } else {
    if (!remoteGo(p)) return SQLITE_IOERR_LOCK;
    rc = goRemoteShare(p->hConn, isToWrite(p), p->ppDb, &place);
  }
  remoteMoved(p, &place);
  return rc;
}

/* Gives up what reserve() has taken. */
static void unreserve(RemoteFile *p) {
  RemotePlace place = {0};
  p->mayWrite = 0;
  if (!p->isReserved) return;
  p->isReserved = 0;
  remoteCounts[REMOTE_UNRESERVED]++;
  if (!verneuilGo()) return;
  goRemoteUnreserve(p->hConn, &place);
  remoteMoved(p, &place);
}

/* May a handle write whose grip is loose, and is made firm? */
static int isOnto(const RemoteFile *p) { return isTip(p, p->iOnto) || (p->isKept && isNewest(p, 0)); }

/* Makes a loose grip firm, if that is enough to write (M8). */
static int hasGrip(RemoteFile *p) {
  uint32_t grip = GRIP_LOOSE;
  if (!isOnto(p) || !atomic_compare_exchange_strong(p->pGrip, &grip, GRIP_FIRM)) return 0;
  p->isReserved = 1;
  p->mayWrite = isOnto(p); /* nobody else has made another one since */
  if (!p->mayWrite) unreserve(p);
  return p->mayWrite;
}

/* Takes the right to write. */
static int reserve(RemoteFile *p) {
  RemotePlace place = {0};
  if (p->isReadOnly) return SQLITE_READONLY;
  unreserve(p);
  if (!remoteGo(p)) return SQLITE_IOERR_LOCK;
  int rc = hasGrip(p) ? SQLITE_OK : goRemoteReserve(p->hConn, p->ppDb, &place);
  remoteMoved(p, &place);
  p->mayWrite = rc == SQLITE_OK;
  if (p->mayWrite) remoteCounts[REMOTE_RESERVED]++;
  return rc;
}

/* SQLite reads again (M4). */
static int afterFailure(RemoteFile *p, int iAmt, sqlite3_int64 iOfst) {
  int looks = iOfst == VERSION_OFFSET && iAmt == VERSION_BYTES;
  if (looks && p->eLock != SQLITE_LOCK_NONE) {
    unreserve(p);
    int rc = share(p);
    if (rc != SQLITE_OK) return rc;
  }
  p->eFailure = FAILURE_NONE;
  return SQLITE_OK;
}

/* The handle whose wait is told to its busy handler. */
static _Thread_local RemoteFile *pTelling;

int remoteSleep(sqlite3_vfs *pVfs, int us) {
  (void)pVfs;
  if (!pTelling) return verneuilBase->xSleep(verneuilBase, us);
  pTelling->owed -= us;
  return us;
}

/* B1 */
static void tellBusy(RemoteFile *p) {
  int more = 1;
  while (more && p->xBusy && p->owed > 0) {
    int64_t owed = p->owed;
    pTelling = p;
    more = p->xBusy(p->pBusy);
    pTelling = 0;
    if (more && p->owed == owed) p->xBusy = 0;
  }
}

static int shareAgain(RemoteFile *p) {
  int64_t began = clockMonotonic();
  int rc = share(p);
  p->owed += (clockMonotonic() - began) / 1000;
  tellBusy(p);
  return rc;
}

static int lockAny(RemoteFile *p, int eLock) {
  int rc = SQLITE_OK;
  int wasBusy = p->wasBusy;
  if (verneuilForked() && !remoteGo(p)) return SQLITE_IOERR_LOCK; /* M5 */
  p->eFailure = FAILURE_NONE;
  p->wasBusy = 0;
  if (p->eLock == SQLITE_LOCK_NONE) {
    if (!wasBusy) p->owed = 0;
    rc = wasBusy ? shareAgain(p) : share(p);
  }
  if (rc == SQLITE_OK && p->eLock == SQLITE_LOCK_NONE) p->eLock = SQLITE_LOCK_SHARED;
  if (rc == SQLITE_OK && eLock >= SQLITE_LOCK_RESERVED && !p->mayWrite) {
    rc = reserve(p);
    p->wasBusy = rc == SQLITE_BUSY;
  }
  if (rc == SQLITE_OK && eLock > p->eLock) p->eLock = eLock;
  return rc;
}

static int remoteLock(sqlite3_file *pFile, int eLock) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_LOCK], 1, rc, lockAny(p, eLock));
  return rc;
}

static int unlockAny(RemoteFile *p, int eLock) {
  p->eFailure = FAILURE_NONE;
  if (eLock < SQLITE_LOCK_RESERVED && p->eLock >= SQLITE_LOCK_RESERVED) {
    remoteDrop(p);
    unreserve(p);
    if (p->isAwaited) p->isUnsynced = 1; /* M8 */
    p->isAwaited = 0;
  }
  if (eLock < p->eLock) {
    p->eLock = eLock;
    p->hasUnlocked = 1; /* also after a read, before the first commit */
  }
  return SQLITE_OK;
}

static int remoteUnlock(sqlite3_file *pFile, int eLock) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_UNLOCK], 1, rc, unlockAny(p, eLock));
  return rc;
}

/* Only asked by those who have found a journal. */
static int remoteCheckReservedLock(sqlite3_file *pFile, int *pResOut) {
  PERF_CALL(&((RemoteFile *)pFile)->aPerf[OP_CHECKRESERVED], 1, *pResOut, 0);
  return SQLITE_OK;
}

/*
** Writing
*/

/* The answer of what writes (M7). */
static int hard(int rc) {
  if (rc == SQLITE_OK || rc == SQLITE_FULL || (rc & 0xff) == SQLITE_IOERR) return rc;
  return rc == SQLITE_NOMEM ? SQLITE_IOERR_NOMEM : SQLITE_IOERR_WRITE;
}

/* A commit has failed. */
static int failed(RemoteFile *p, int rc) {
  remoteDrop(p);
  p->eFailure = FAILURE_FAILED;
  p->isPending = p->mayWrite = 0;
  return rc;
}

int remoteBeginWrite(RemoteFile *p) {
  if (p->isReadOnly) return SQLITE_READONLY;
  /* Under an EXCLUSIVE lock that is kept, SQLite asks for no other after a commit. */
  if (!p->mayWrite) {
    int rc = reserve(p);
    if (rc != SQLITE_OK) {
      verneuilLogOf(VERNEUIL_ERROR, p->zName, "remote: %s since this connection got the lock that it keeps (locking_mode=exclusive): %s",
                    rc == SQLITE_BUSY ? "another one has taken the database over" : rc == SQLITE_BUSY_SNAPSHOT ? "another one has written" : "the lease was lost",
                    p->pWal ? "in WAL mode it writes no more; open the database anew" : "begin the transaction again");
      return failed(p, SQLITE_IOERR_LOCK);
    }
  }
  if (!p->pOverlay && !(p->pOverlay = overlayNew())) return SQLITE_NOMEM;
  if (!overlayIsUsed(p->pOverlay)) overlayClear(p->pOverlay, versionBytes(p));
  return SQLITE_OK;
}

static int writeAny(RemoteFile *p, const void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  if (p->eFailure) return SQLITE_OK; /* M4 */
  if (p->pWal) return SQLITE_OK;     /* W1: a WAL checkpoint */
  OverlayBelow below = remoteBelow(p);
  int rc = remoteBeginWrite(p);
  if (rc == SQLITE_OK) rc = overlayWrite(p->pOverlay, pBuf, iAmt, iOfst, &below);
  if (rc == SQLITE_OK && iOfst <= 18 && iOfst + iAmt >= 20) p->eFormatNew = ((const unsigned char *)pBuf)[18 - iOfst];
  return rc;
}

static int remoteWrite(sqlite3_file *pFile, const void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_WRITE], PERF_SAMPLE, rc, writeAny(p, pBuf, iAmt, iOfst));
  return hard(rc);
}

static int truncateAny(RemoteFile *p, sqlite3_int64 size) {
  if (p->eFailure || p->pWal) return SQLITE_OK; /* as above */
  if (!hasWritten(p) && size == versionBytes(p)) return SQLITE_OK; /* after a commit */
  OverlayBelow below = remoteBelow(p);
  int rc = remoteBeginWrite(p);
  return rc == SQLITE_OK ? overlayTruncate(p->pOverlay, size, &below) : rc;
}

static int remoteTruncate(sqlite3_file *pFile, sqlite3_int64 size) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_TRUNCATE], 1, rc, truncateAny(p, size));
  return hard(rc);
}

/*
** Committing (M3)
*/

int64_t remoteBlock(const void *pOverlay, int64_t iOfst, void *pBlock) {
  int64_t iSpill = -1;
  const void *z = overlayFind(pOverlay, iOfst, &iSpill);
  if (z) memcpy(pBlock, z, OVERLAY_BLOCK_BYTES);
  return iSpill;
}

uintptr_t remoteSpill(const void *pOverlay) { return overlaySpill(pOverlay); }

static int commitAny(RemoteFile *p, int pass) {
  RemotePlace place = {0};
  RemoteChange change = {.nByte = overlaySize(p->pOverlay), .pOverlay = p->pOverlay, .pass = pass, .wait = !p->isUnsynced};
  if (!remoteGo(p)) return failed(p, SQLITE_IOERR_WRITE);
  if (!(change.aOffset = overlayBlocks(p->pOverlay, &change.nBlock))) return failed(p, SQLITE_IOERR_NOMEM);
  int rc = goRemoteCommit(p->hConn, &change, p->ppDb, &place);
  free(change.aOffset);
  remoteMoved(p, &place); /* M1 */
  if (rc != SQLITE_OK) return failed(p, hard(rc));
  p->eFormat = p->eFormatNew;
  remoteCounts[REMOTE_COMMITTED]++;
  remoteDrop(p);
  p->isPending = p->isUnsynced;
  p->isAwaited = !p->isUnsynced;
  p->hasUnlocked = 0;
  if (pass) p->mayWrite = 0;
  if (!p->isReserved) remoteCounts[REMOTE_UNRESERVED]++;
  return SQLITE_OK;
}

int remoteCommit(RemoteFile *p, int pass) {
  int rc = commitAny(p, pass);
  p->eOutcome = rc != SQLITE_OK ? OUTCOME_FAILED : p->isPending ? OUTCOME_PENDING : OUTCOME_STORED;
  return rc;
}

static int waitAny(RemoteFile *p) {
  RemotePlace place = {0};
  if (!remoteGo(p)) return failed(p, SQLITE_IOERR_FSYNC);
  int rc = goRemoteWait(p->hConn, p->ppDb, &place);
  remoteMoved(p, &place); /* M1 */
  p->isPending = 0;
  return rc == SQLITE_OK ? rc : failed(p, rc);
}

int remoteWait(RemoteFile *p) {
  p->isAwaited = 0;
  if (!p->isPending) return SQLITE_OK;
  int rc = waitAny(p);
  p->eOutcome = rc == SQLITE_OK ? OUTCOME_STORED : OUTCOME_FAILED;
  return rc;
}

/* In WAL mode this is a checkpoint's, of what is durable. */
static int remoteSync(sqlite3_file *pFile, int flags) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  (void)flags;
  if (p->isPending) p->isUnsynced = 0; /* M8 */
  PERF_CALL(&p->aPerf[OP_SYNC], 1, rc, remoteWait(p));
  return hard(rc);
}

/*
** The other methods
*/

static int closeAny(RemoteFile *p) {
  overlayFree(p->pOverlay);
  if (verneuilGo()) goRemoteClose(p->hConn);
  return SQLITE_OK;
}

static int remoteClose(sqlite3_file *pFile) {
  RemoteFile *p = (RemoteFile *)pFile;
  int rc;
  PERF_CALL(&p->aPerf[OP_CLOSE], 1, rc, closeAny(p));
  remoteFileRemove(p);
  return rc;
}

static int remoteSectorSize(sqlite3_file *pFile) {
  int n;
  PERF_CALL(&((RemoteFile *)pFile)->aPerf[OP_SECTORSIZE], PERF_SAMPLE, n, 4096);
  return n;
}

/* Not BATCH_ATOMIC: what it would save, a journal, is in memory here. */
static int remoteDeviceCharacteristics(sqlite3_file *pFile) {
  int f;
  PERF_CALL(&((RemoteFile *)pFile)->aPerf[OP_DEVICECHARACTERISTICS], PERF_SAMPLE, f, SQLITE_IOCAP_POWERSAFE_OVERWRITE);
  return f;
}

const sqlite3_io_methods remoteMethods = {
  1,                               /* no shared memory, so SQLite wants a WAL only under locking_mode=exclusive; no xFetch */
  remoteClose,
  remoteRead,
  remoteWrite,
  remoteTruncate,
  remoteSync,
  remoteFileSize,
  remoteLock,
  remoteUnlock,
  remoteCheckReservedLock,
  remoteFileControl,
  remoteSectorSize,
  remoteDeviceCharacteristics,
  0, 0, 0, 0, 0, 0
};
