/*
** The replica VFS, "verneuil_snapshot": reads one version of a database whose
** manifest and chunks are in a target.
**
** What a query has touched lies in the slot file, and is read from there without Go and without a
** lock (versiontable.h). What is missing Go fetches (snapshot.go, replicate/replica); for what it has
** foreseen, in a sequential read, a thread of the host only waits.
**
** S1  A handle's pTable changes only while it holds no lock, so a read
**     transaction sees one version.
** S2  The header shown has a change counter that differs between any two
**     versions, so SQLite drops its page cache when the version changes, and a
**     schema cookie that differs unless the schema is known to be the same
**     (replicate/replica/cookie.go), so that it parses the schema anew.
** S3  Go is called only after verneuilGo() has said 1.
**
** Names that are no URI of a manifest are ordinary files of the base VFS: temporary
** files, and what ATTACH and VACUUM INTO name on a replica's connection.
*/
#include "base.h"
#include "gort.h"
#include "log.h"
#include "pragma.h"
#include "snapshot.h"
#include "snapshot_goexports.h"
#include "versiontable.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

/* Longest URI or path; a PATH_MAX and a host. */
#define SNAPSHOT_PATH_MAX 4608
#define SNAPSHOT_ERROR_MAX 512

typedef struct SnapshotFile {
  sqlite3_file base;
  uintptr_t hReader;               /* Go's reader */
  VersionTable *pTable;           /* the version that is read (S1) */
  const _Atomic uint32_t *pNewest; /* iCounter of the newest known version */
  sqlite3 **ppDb;                  /* the connection that uses it, as SQLite keeps it up to date; may be NULL */
  int eLock;                       /* SQLITE_LOCK_NONE or SQLITE_LOCK_SHARED */
  int bAuto;                       /* adopt the newest known version at each SHARED lock */
  int bPinned;                     /* immutable=1 or nolock=1: no locks will come */
} SnapshotFile;

/* Why verneuilGo() has said 0. */
static const char *snapshotWithoutGo(void) {
  const char *z = verneuilRefused();
  return z ? z : "this process was forked from the one that opened the replica";
}

static void snapshotMoved(SnapshotFile *p, const SnapshotOpened *pOpened) {
  p->hReader = pOpened->hReader;
  p->pTable = pOpened->pTable;
  p->pNewest = pOpened->pNewest;
}

/* Moves p to the newest known version, without waiting. */
static void snapshotAdopt(SnapshotFile *p) {
  p->pTable = goSnapshotAdopt(p->hReader);
}

/*
** Reading
*/

/* Tells Go that a reader has come to a marked chunk. */
static void snapshotAhead(void *pOwner, uint32_t iChunk) {
  if (verneuilGo()) goSnapshotAhead(((SnapshotFile *)pOwner)->hReader, iChunk);
}

/* Reads what is not here, by Go. */
static int snapshotMissing(void *pOwner, void *pBuf, int n, int64_t iOfst, int isGone) {
  SnapshotFile *p = pOwner;
  if (!isGone && verneuilGo()) return goSnapshotRead(p->hReader, pBuf, n, iOfst, p->ppDb);
  verneuilLog(VERNEUIL_ERROR, "replica: chunk %lld cannot be read: %s",
              (sqlite3_int64)iOfst / VERSION_CHUNK_BYTES, snapshotWithoutGo());
  return SQLITE_IOERR_READ;
}

static int snapshotRead(sqlite3_file *pFile, void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  static const VersionOwner calls = {snapshotAhead, snapshotMissing};
  return versionRead(((SnapshotFile *)pFile)->pTable, pBuf, iAmt, iOfst, &calls, pFile);
}

/* Has sqlite3_interrupt() been called on the connection that waits for us? SQLite
** tells since 3.41, and forgets an earlier call before it parses a statement. */
int snapshotInterrupted(void *ppDb) {
  sqlite3 *db = ppDb ? *(sqlite3 **)ppDb : 0;
  return db && sqlite3_libversion_number() >= 3041000 && sqlite3_is_interrupted(db);
}

/* A file of one byte is an empty database, as it is to SQLite (os_unix.c, unixFileSize). */
static int snapshotFileSize(sqlite3_file *pFile, sqlite3_int64 *pSize) {
  *pSize = (sqlite3_int64)((SnapshotFile *)pFile)->pTable->nByte;
  if (*pSize == 1) *pSize = 0;
  return SQLITE_OK;
}

/*
** The other methods, in table order
*/

static int snapshotClose(sqlite3_file *pFile) {
  SnapshotFile *p = (SnapshotFile *)pFile;
  if (verneuilGo()) goSnapshotClose(p->hReader);
  return SQLITE_OK;
}

static int snapshotWrite(sqlite3_file *pFile, const void *pBuf, int iAmt, sqlite3_int64 iOfst) {
  (void)pFile, (void)pBuf, (void)iAmt, (void)iOfst;
  return SQLITE_READONLY;
}

static int snapshotTruncate(sqlite3_file *pFile, sqlite3_int64 size) {
  (void)pFile, (void)size;
  return SQLITE_READONLY;
}

static int snapshotSync(sqlite3_file *pFile, int flags) {
  (void)pFile, (void)flags;
  return SQLITE_OK;
}

static int snapshotLock(sqlite3_file *pFile, int eLock) {
  SnapshotFile *p = (SnapshotFile *)pFile;
  if (eLock > SQLITE_LOCK_SHARED) return SQLITE_READONLY;
  if (p->eLock == SQLITE_LOCK_NONE && p->bAuto &&
      atomic_load_explicit(p->pNewest, memory_order_relaxed) != p->pTable->iCounter && verneuilGo())
    snapshotAdopt(p);              /* S1 */
  if (eLock > p->eLock) p->eLock = eLock;
  return SQLITE_OK;
}

static int snapshotUnlock(sqlite3_file *pFile, int eLock) {
  SnapshotFile *p = (SnapshotFile *)pFile;
  if (eLock < p->eLock) p->eLock = eLock;
  return SQLITE_OK;
}

static int snapshotCheckReservedLock(sqlite3_file *pFile, int *pResOut) {
  (void)pFile;
  *pResOut = 0;
  return SQLITE_OK;
}

static int snapshotSectorSize(sqlite3_file *pFile) {
  (void)pFile;
  return 4096;
}

/* Not IMMUTABLE: a refresh changes what there is to read. */
static int snapshotDeviceCharacteristics(sqlite3_file *pFile) {
  (void)pFile;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/*
** Pragmas
*/

/* The boolean that a pragma's argument is; 0 without one. -1: it is none, and *pzOut says so. */
static int snapshotBoolean(const char *zPragma, const char *zArg, char **pzOut) {
  int value = zArg && *zArg ? booleanOf(zArg) : 0;
  if (value < 0) *pzOut = sqlite3_mprintf("%s: \"%s\" is not a boolean", zPragma, zArg);
  return value;
}

static char *snapshotTime(SnapshotFile *p, int bCtime) {
  int64_t seconds = 0;
  int nanoseconds = 0;
  goSnapshotTimes(p->hReader, bCtime, &seconds, &nanoseconds);
  return sqlite3_mprintf("%lld.%09d", (sqlite3_int64)seconds, nanoseconds);
}

/* Returns why this handle cannot move to another version now, or NULL. */
static const char *snapshotHeld(SnapshotFile *p) {
  if (p->bPinned) return "the replica is open with immutable=1 or nolock=1, and stays at its version";
  if (p->eLock != SQLITE_LOCK_NONE) return "a read transaction is open on the replica";
  return 0;
}

static int snapshotPragmaRefresh(SnapshotFile *p, const char *zArg, char **pzOut) {
  char zErr[SNAPSHOT_ERROR_MAX] = "";
  SnapshotOpened opened;
  const char *zHeld = snapshotHeld(p);
  int bForce = zArg && (strcmp(zArg, "2") == 0 || sqlite3_strnicmp(zArg, "force", 5) == 0);
  int bFetch = bForce ? 1 : snapshotBoolean("verneuil_snapshot_refresh", zArg, pzOut);
  if (bFetch < 0) return SQLITE_ERROR;
  if (zHeld) {
    *pzOut = sqlite3_mprintf("cannot refresh: %s", zHeld);
    return SQLITE_LOCKED;
  }
  if (!bFetch) {
    snapshotAdopt(p);
  } else if (goSnapshotRefresh(p->hReader, bForce, p->ppDb, &opened, zErr, sizeof zErr)) {
    *pzOut = sqlite3_mprintf("cannot refresh: %s", zErr);
    return SQLITE_ERROR;
  } else {
    snapshotMoved(p, &opened);
  }
  *pzOut = snapshotTime(p, 0);
  return SQLITE_OK;
}

static int snapshotPragmaReload(SnapshotFile *p, const char *zArg, char **pzOut) {
  (void)zArg;
  uint32_t iCounter = p->pTable->iCounter;
  if (!snapshotHeld(p)) snapshotAdopt(p);
  int moved = p->pTable->iCounter != iCounter;
  if (!moved) goSnapshotRequest(p->hReader);
  *pzOut = sqlite3_mprintf("%d", moved);
  return SQLITE_OK;
}

static int snapshotPragmaAuto(SnapshotFile *p, const char *zArg, char **pzOut) {
  int bAuto = snapshotBoolean("verneuil_snapshot_auto_refresh", zArg, pzOut);
  if (bAuto < 0) return SQLITE_ERROR;
  *pzOut = sqlite3_mprintf("%d", p->bAuto);
  if (zArg && *zArg && bAuto != p->bAuto) {
    if (p->bPinned) {
      sqlite3_free(*pzOut);
      *pzOut = sqlite3_mprintf("cannot refresh: %s", snapshotHeld(p));
      return SQLITE_LOCKED;
    }
    p->bAuto = !p->bAuto;
    goSnapshotAuto(p->hReader, p->bAuto);
  }
  return SQLITE_OK;
}

static int snapshotPragmaCtime(SnapshotFile *p, const char *zArg, char **pzOut) {
  (void)zArg;
  *pzOut = snapshotTime(p, 1);
  return SQLITE_OK;
}

static int snapshotPragmaUpdated(SnapshotFile *p, const char *zArg, char **pzOut) {
  (void)zArg;
  *pzOut = snapshotTime(p, 0);
  return SQLITE_OK;
}

static int snapshotPragma(SnapshotFile *p, char **azArg) {
  static int (*const axRun[PRAGMA_N])(SnapshotFile *, const char *zArg, char **pzOut) = {
    [PRAGMA_REFRESH] = snapshotPragmaRefresh,
    [PRAGMA_RELOAD] = snapshotPragmaReload,
    [PRAGMA_AUTO] = snapshotPragmaAuto,
    [PRAGMA_CTIME] = snapshotPragmaCtime,
    [PRAGMA_UPDATED] = snapshotPragmaUpdated,
  };
  int pragma = pragmaOf(azArg[1], BY_REPLICA);
  if (pragma == PRAGMA_OTHER) return SQLITE_NOTFOUND;
  if (!verneuilGo()) { /* S3 */
    azArg[0] = sqlite3_mprintf("%s", snapshotWithoutGo());
    return SQLITE_ERROR;
  }
  int rc = axRun[pragma](p, azArg[2], &azArg[0]);
  return rc == SQLITE_OK && !azArg[0] ? SQLITE_NOMEM : rc;
}

static int snapshotFileControl(sqlite3_file *pFile, int op, void *pArg) {
  SnapshotFile *p = (SnapshotFile *)pFile;
  switch (op) {
    case SQLITE_FCNTL_PRAGMA:
      return snapshotPragma(p, pArg);
    case SQLITE_FCNTL_VFSNAME:
      *(char **)pArg = sqlite3_mprintf("verneuil_snapshot");
      return *(char **)pArg ? SQLITE_OK : SQLITE_NOMEM;
    case SQLITE_FCNTL_LOCKSTATE:
      *(int *)pArg = p->eLock;
      return SQLITE_OK;
    case SQLITE_FCNTL_PDB: /* once, from sqlite3BtreeOpen(): where the connection is found, also in a shared cache */
      p->ppDb = pArg;
      return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
      *(int *)pArg = 0;
      return SQLITE_OK;
  }
  return SQLITE_NOTFOUND;
}

static const sqlite3_io_methods snapshotMethods = {
  1,                               /* no shared memory, so SQLite wants no WAL; no xFetch */
  snapshotClose,
  snapshotRead,
  snapshotWrite,
  snapshotTruncate,
  snapshotSync,
  snapshotFileSize,
  snapshotLock,
  snapshotUnlock,
  snapshotCheckReservedLock,
  snapshotFileControl,
  snapshotSectorSize,
  snapshotDeviceCharacteristics,
  0, 0, 0, 0, 0, 0
};

/*
** The VFS
*/

static int snapshotIsUri(const char *z) {
  static const char *const azScheme[] = {"verneuil://", "s3://", "http://", "https://", "file://"};
  for (size_t i = 0; z && i < sizeof azScheme / sizeof *azScheme; i++)
    if (sqlite3_strnicmp(z, azScheme[i], (int)strlen(azScheme[i])) == 0) return 1;
  return 0;
}

/* The first line of a replica file: replicate/replicafile.go. */
static const char snapshotReplicaMagic[] = "verneuil replica\n";

int snapshotIsReplicaFile(sqlite3_file *pFile) {
  char a[sizeof snapshotReplicaMagic - 1];
  return pFile->pMethods->xRead(pFile, a, sizeof a, 0) == SQLITE_OK && !memcmp(a, snapshotReplicaMagic, sizeof a);
}

/* Is the file zName a manifest, or a replica file? It is looked at through the base VFS,
** because it may be a database that this process has locked. */
static int snapshotIsSource(const char *zName) {
  int flags = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READONLY;
  char aMagic[4] = "";
  sqlite3_file *p = sqlite3_malloc(verneuilBase->szOsFile);
  if (!p) return 0;
  memset(p, 0, verneuilBase->szOsFile);
  int is = 0;
  if (verneuilBase->xOpen(verneuilBase, zName, p, flags, &flags) == SQLITE_OK) {
    if (p->pMethods->xRead(p, aMagic, sizeof aMagic, 0) != SQLITE_OK) aMagic[0] = 0;
    is = memcmp(aMagic, "VRNM", 4) == 0 || snapshotIsReplicaFile(p);
  }
  if (p->pMethods) p->pMethods->xClose(p);
  sqlite3_free(p);
  return is;
}

/* Opens the source zName: a URI, a manifest's file or a replica file. */
static int snapshotOpenSource(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  SnapshotFile *p = (SnapshotFile *)pFile;
  char zErr[SNAPSHOT_ERROR_MAX] = "";
  SnapshotOpened opened = {0};
  if (!verneuilGo()) {                 /* S3 */
    const char *zWhy = verneuilRefused();
    verneuilLog(VERNEUIL_ERROR, "replica not opened: %s", zWhy ? zWhy : "this process was forked from one that had opened databases, and can use no replica: " VERNEUIL_FORKED_REMEDY);
    return SQLITE_CANTOPEN;
  }
  memset(p, 0, sizeof *p);
  p->bPinned = uriSays(zName, flags, "immutable", 0) || uriSays(zName, flags, "nolock", 0);
  if (p->bPinned && uriSays(zName, flags, "auto_refresh", 0)) {
    verneuilLog(VERNEUIL_ERROR, "replica not opened: auto_refresh=1 excludes immutable=1 and nolock=1, which keep it at one version");
    return SQLITE_CANTOPEN;
  }
  if (goSnapshotOpen((char *)zName, &opened, zErr, sizeof zErr)) {
    verneuilLog(VERNEUIL_ERROR, "replica: %s", zErr); /* which names it; zName may hold a secret */
    return SQLITE_CANTOPEN;
  }
  snapshotMoved(p, &opened);
  p->bAuto = !p->bPinned && uriSays(zName, flags, "auto_refresh", opened.bAuto);
  if (p->bAuto) goSnapshotAuto(p->hReader, 1);
  if (pOutFlags) *pOutFlags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
  pFile->pMethods = &snapshotMethods;
  return SQLITE_OK;
}

int snapshotOpenReplicaFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  pFile->pMethods = 0;
  return snapshotOpenSource(zName, pFile, flags, pOutFlags);
}

static int snapshotOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)pVfs;
  pFile->pMethods = 0;
  int isMain = zName && (flags & SQLITE_OPEN_MAIN_DB);
  int isNamed = isMain && flags & SQLITE_OPEN_URI && sqlite3_uri_parameter(zName, "vfs"); /* see uriSays */
  if (!snapshotIsUri(zName) && !isNamed && !(isMain && snapshotIsSource(zName)))
    return verneuilBase->xOpen(verneuilBase, zName, pFile, flags, pOutFlags);
  if (!isMain) return SQLITE_CANTOPEN; /* journal or WAL of a replica: there is none */
  return snapshotOpenSource(zName, pFile, flags, pOutFlags);
}

static int snapshotDelete(sqlite3_vfs *pVfs, const char *zName, int bSyncDir) {
  (void)pVfs;
  if (snapshotIsUri(zName)) return SQLITE_IOERR_DELETE_NOENT;
  return verneuilBase->xDelete(verneuilBase, zName, bSyncDir);
}

static int snapshotAccess(sqlite3_vfs *pVfs, const char *zName, int flags, int *pResOut) {
  (void)pVfs;
  if (snapshotIsUri(zName)) {
    *pResOut = 0;
    return SQLITE_OK;
  }
  return verneuilBase->xAccess(verneuilBase, zName, flags, pResOut);
}

static int snapshotFullPathname(sqlite3_vfs *pVfs, const char *zName, int nOut, char *zOut) {
  (void)pVfs;
  if (!snapshotIsUri(zName)) return verneuilBase->xFullPathname(verneuilBase, zName, nOut, zOut);
  if ((int)strlen(zName) >= nOut) return SQLITE_CANTOPEN;
  sqlite3_snprintf(nOut, zOut, "%s", zName);
  return SQLITE_OK;
}

static sqlite3_vfs snapshotVfs = {
  .iVersion = 2, .zName = "verneuil_snapshot", .xOpen = snapshotOpen, .xDelete = snapshotDelete,
  .xAccess = snapshotAccess, .xFullPathname = snapshotFullPathname,
};

int snapshotFileBytes(void) { return (int)sizeof(SnapshotFile); }

int snapshotRegister(void) {
  if (snapshotVfs.szOsFile < snapshotFileBytes()) snapshotVfs.szOsFile = snapshotFileBytes();
  if (snapshotVfs.mxPathname < SNAPSHOT_PATH_MAX) snapshotVfs.mxPathname = SNAPSHOT_PATH_MAX;
  baseComplete(&snapshotVfs);
  return sqlite3_vfs_register(&snapshotVfs, 0);
}
