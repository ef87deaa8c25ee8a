/*
** The other files of a database in a store: its rollback journal, its WAL, and the super-journal of
** a transaction that writes to several databases. They are private to a handle, and nobody else
** ever finds them: what is not committed is not in the store, so that nobody's journal is ever
** hot. Each is an overlay over nothing: in memory, and beyond a bound in a file of tempdir.
**
** W1  SQLite uses a WAL only under locking_mode=exclusive, as there is no shared memory. When the
**     page of a commit frame is written, the transaction is in the WAL: of each page that the frames
**     after the last commit frame have, the last one counts. These pages are committed (M3), and are
**     durable when that xWrite returns; its error has SQLite roll back (wal.c, walFrames). So what
**     a WAL checkpoint writes to the database is known already.
** W2  The stored header always says that there is no WAL (bytes 18 and 19 are 1): whoever opens the
**     database next begins in a rollback mode. The handle that has said otherwise is shown what it
**     has written.
** W3  If a frame is written where a committed one is, SQLite has not taken note of that commit: it
**     ran out of memory at that moment. Then the handle's pages are not those of the version, and it
**     commits no more until it is opened anew.
** J1  A rollback journal never names a super-journal. SQLite would roll back only if that is there
**     (pager.c, pager_playback), and here it never is.
** J2  A super-journal of ours names no database of another VFS. After a crash that one's VFS would look for a
**     file of this name, find none, and take the transaction for committed.
** J3  A playback begins with a look at the end of the journal, for the name of a super-journal
**     (pager.c, readSuperJournal). The SYNC that follows it, before the journal is written, cut or
**     closed, commits nothing: the database is what it was. (Pages that were free then have not been
**     in the journal: what they hold counts for nothing.)
*/
#include "remote_file.h"
#include "bytes.h"
#include "log.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

#define WAL_HEADER_BYTES 32
#define WAL_FRAME_BYTES 24         /* a frame's header */

/* What ends the name of a super-journal in a journal (pager.c, aJournalMagic). */
static const unsigned char aJournalMagic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

enum { PRIVATE_JOURNAL, PRIVATE_WAL, PRIVATE_SUPER };

struct PrivateFile {
  sqlite3_file base;
  Overlay *pData;
  int eKind;
  RemoteFile *pMain;               /* the handle of its database; NULL: unknown, or of a super-journal */
  int szPage;                      /* of a WAL */
  int64_t iCommitted;              /* the last frame that is committed; 0: none */
};

/* What the name of a super-journal is followed by: length, checksum and magic. */
#define SUPER_TAIL_BYTES 16

static int privateRead(sqlite3_file *pFile, void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  PrivateFile *p = (PrivateFile *)pFile;
  if (p->eKind == PRIVATE_JOURNAL && p->pMain && iAmt == 4 && iOfst == overlaySize(p->pData) - SUPER_TAIL_BYTES)
    p->pMain->pPlayed = p; /* J3 */
  return overlayRead(p->pData, pBuf, iAmt, iOfst, 0);
}

/* The journal is written, cut or closed: nothing is played back any more (J3). */
static void notPlayed(PrivateFile *p) {
  if (p->pMain && p->pMain->pPlayed == p) p->pMain->pPlayed = 0;
}

/*
** WALs (W1)
*/

static int64_t frameOffset(const PrivateFile *p, int64_t iFrame) {
  return WAL_HEADER_BYTES + (iFrame - 1) * (WAL_FRAME_BYTES + p->szPage);
}

/* Puts the pages of the frames after the last commit, up to iFrame, into the database's overlay. */
static int walPages(PrivateFile *p, int64_t iFrame, uint32_t nPage) {
  unsigned char aHeader[WAL_FRAME_BYTES], *aPage = sqlite3_malloc(p->szPage);
  OverlayBelow below = remoteBelow(p->pMain);
  int rc = aPage ? SQLITE_OK : SQLITE_IOERR_NOMEM;
  for (int64_t i = p->iCommitted + 1; i <= iFrame && rc == SQLITE_OK; i++) {
    rc = overlayRead(p->pData, aHeader, WAL_FRAME_BYTES, frameOffset(p, i), 0);
    uint32_t pgno = get4(aHeader);
    if (rc != SQLITE_OK || pgno > nPage) continue;
    rc = overlayRead(p->pData, aPage, p->szPage, frameOffset(p, i) + WAL_FRAME_BYTES, 0);
    if (rc == SQLITE_OK) rc = overlayWrite(p->pMain->pOverlay, aPage, p->szPage, (int64_t)(pgno - 1) * p->szPage, &below);
  }
  if (rc == SQLITE_OK) rc = overlayTruncate(p->pMain->pOverlay, (int64_t)nPage * p->szPage, &below);
  sqlite3_free(aPage);
  return rc;
}

static int walCommit(PrivateFile *p, int64_t iFrame, uint32_t nPage) {
  RemoteFile *pMain = p->pMain;
  if (iFrame <= p->iCommitted) { /* W3 */
    verneuilLogOf(VERNEUIL_ERROR, pMain->zName, "remote: SQLite has run out of memory after a commit, and does not know of it: open the database anew");
    return SQLITE_IOERR_WRITE;
  }
  int rc = remoteBeginWrite(pMain);
  if (rc == SQLITE_OK) rc = walPages(p, iFrame, nPage);
  if (rc == SQLITE_OK) rc = remoteCommit(pMain, 0);
  else if (pMain->pOverlay) overlayClear(pMain->pOverlay, 0);
  pMain->isAwaited = 0;            /* a WAL is synced by other rules */
  pMain->eFailure = FAILURE_NONE;  /* SQLite writes nothing to roll back */
  if (rc == SQLITE_OK) p->iCommitted = iFrame;
  return rc;
}

/* What was written may be a frame's page, which is written after the frame's header. */
static int walWritten(PrivateFile *p, const unsigned char *z, int n, sqlite3_int64 iOfst) {
  unsigned char aHeader[WAL_FRAME_BYTES];
  if (iOfst == 0 && n == WAL_HEADER_BYTES) { /* a new WAL, in the place of one that was checkpointed */
    p->szPage = (int)get4(z + 8);
    p->iCommitted = 0;
  }
  if (n != p->szPage || (iOfst - WAL_HEADER_BYTES) % (WAL_FRAME_BYTES + n) != WAL_FRAME_BYTES) return SQLITE_OK;
  int64_t iFrame = (iOfst - WAL_HEADER_BYTES) / (WAL_FRAME_BYTES + n) + 1;
  int rc = overlayRead(p->pData, aHeader, WAL_FRAME_BYTES, iOfst - WAL_FRAME_BYTES, 0);
  if (rc != SQLITE_OK) return rc;
  return get4(aHeader + 4) || iFrame <= p->iCommitted ? walCommit(p, iFrame, get4(aHeader + 4)) : SQLITE_OK;
}

/*
** The methods
*/

/* J2: z is the name of a journal. */
static int superNames(const char *z) {
  if (remoteIsName(z)) return SQLITE_OK;
  verneuilLog(VERNEUIL_ERROR, "remote: one transaction cannot write to a database in a store, opened as main, and to the local one with the journal %s: "
              "open the local one as main and attach the other, or write to them in two transactions", z);
  return SQLITE_CANTOPEN;
}

static int privateWrite(sqlite3_file *pFile, const void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  static const unsigned char aNone[sizeof aJournalMagic];
  PrivateFile *p = (PrivateFile *)pFile;
  int rc = SQLITE_OK;
  notPlayed(p);
  if (p->eKind == PRIVATE_SUPER) rc = superNames(pBuf);
  if (p->eKind == PRIVATE_JOURNAL && iAmt == sizeof aJournalMagic && !memcmp(pBuf, aJournalMagic, iAmt)) pBuf = aNone; /* J1 */
  if (rc == SQLITE_OK) rc = overlayWrite(p->pData, pBuf, iAmt, iOfst, 0);
  if (rc == SQLITE_OK && p->eKind == PRIVATE_WAL) rc = walWritten(p, pBuf, iAmt, iOfst);
  return rc;
}

static int privateTruncate(sqlite3_file *pFile, sqlite3_int64 size) {
  PrivateFile *p = (PrivateFile *)pFile;
  notPlayed(p);
  if (size > 0) return overlayTruncate(p->pData, size, 0);
  overlayClear(p->pData, 0);
  return SQLITE_OK;
}

static int privateSync(sqlite3_file *pFile, int flags) {
  (void)pFile, (void)flags;
  return SQLITE_OK;
}

static int privateFileSize(sqlite3_file *pFile, sqlite3_int64 *pSize) {
  *pSize = overlaySize(((PrivateFile *)pFile)->pData);
  return SQLITE_OK;
}

static int privateClose(sqlite3_file *pFile) {
  PrivateFile *p = (PrivateFile *)pFile;
  notPlayed(p);
  if (p->eKind == PRIVATE_WAL) p->pMain->pWal = 0;
  overlayFree(p->pData);
  return SQLITE_OK;
}

static int privateLock(sqlite3_file *pFile, int eLock) {
  (void)pFile, (void)eLock;
  return SQLITE_OK;
}

static int privateCheckReservedLock(sqlite3_file *pFile, int *pResOut) {
  (void)pFile;
  *pResOut = 0;
  return SQLITE_OK;
}

static int privateFileControl(sqlite3_file *pFile, int op, void *pArg) {
  (void)pFile, (void)op, (void)pArg;
  return SQLITE_NOTFOUND;
}

static int privateSectorSize(sqlite3_file *pFile) {
  (void)pFile;
  return 4096;
}

static int privateDeviceCharacteristics(sqlite3_file *pFile) {
  (void)pFile;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods privateMethods = {
  1,
  privateClose,
  privateRead,
  privateWrite,
  privateTruncate,
  privateSync,
  privateFileSize,
  privateLock,
  privateLock,
  privateCheckReservedLock,
  privateFileControl,
  privateSectorSize,
  privateDeviceCharacteristics,
  0, 0, 0, 0, 0, 0
};

int privateFileBytes(void) { return (int)sizeof(PrivateFile); }

int privateOpen(const char *zName, sqlite3_file *pFile, int flags) {
  PrivateFile *p = (PrivateFile *)pFile;
  memset(p, 0, sizeof *p);
  p->eKind = flags & SQLITE_OPEN_WAL ? PRIVATE_WAL : flags & SQLITE_OPEN_SUPER_JOURNAL ? PRIVATE_SUPER : PRIVATE_JOURNAL;
  if (p->eKind == PRIVATE_WAL) p->pMain = remoteFileOf(zName, "-wal", 1);
  else if (p->eKind == PRIVATE_JOURNAL) p->pMain = remoteFileOf(zName, "-journal", 0);
  if (p->eKind == PRIVATE_WAL && !p->pMain) return SQLITE_CANTOPEN;
  if (!(p->pData = overlayNew())) return SQLITE_NOMEM;
  if (p->eKind == PRIVATE_WAL) p->pMain->pWal = p;
  pFile->pMethods = &privateMethods;
  return SQLITE_OK;
}
