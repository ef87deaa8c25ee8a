/*
** The VFS "verneuil_remote" itself: which names are databases in a store, and how they are opened.
**
** The database /STORE/any/path.db is the one at /any/path.db in the store that the configuration
** calls STORE. A STORE with a colon needs no configuration: POOL:NAMESPACE, or *POOLID:NAMESPACE, is
** that of RADOS, as Ceph's own VFS has it (vfs.poolOf has the same rule). All other names are files of the base VFS: temporary files, and what ATTACH and
** VACUUM INTO name. xFullPathname tells them apart: a local path that begins like a store's has
** two slashes in front from there on.
*/
#define _GNU_SOURCE
#include "base.h"
#include "gort.h"
#include "log.h"
#include "remote_file.h"
#include "remote_goexports.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

static sqlite3_vfs cephVfs; /* the methods of verneuil_remote under another name */

/* The names of the stores; NULL: nobody has asked for them. They stay. */
static char **_Atomic azStores;

static char **stores(void) {
  static char *azNone[1];
  char **az = azStores;
  if (az || !verneuilGo()) return az ? az : azNone;
  az = goRemoteStores();
  if (!az) az = azNone;
  char **azOther = 0;
  if (atomic_compare_exchange_strong(&azStores, &azOther, az)) return az;
  for (int i = 0; az[i]; i++) free(az[i]); /* another thread was faster */
  if (az != azNone) free(az);
  return azOther;
}

/* Letters, digits, dots, dashes and underscores, from z on. */
static size_t plain(const char *z) {
  return strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
}

/* Is this POOL:NAMESPACE? */
static int isPool(const char *z, size_t n) {
  size_t nPool = *z == '*' ? 1 + strspn(z + 1, "0123456789") : plain(z);
  if (nPool <= (*z == '*') || z[nPool] != ':') return 0;
  return nPool + 1 + plain(z + nPool + 1) == n;
}

/* Is this the name of a store? */
static int isStore(const char *z, size_t n) {
  if (isPool(z, n)) return 1;
  for (char **az = stores(); *az; az++)
    if (strlen(*az) == n && !memcmp(*az, z, n)) return 1;
  return 0;
}

int remoteIsName(const char *zName) {
  return zName && zName[0] == '/' && isStore(zName + 1, strcspn(zName + 1, "/"));
}

static int endsIn(const char *zName, const char *zEnd) {
  size_t n = strlen(zName), nEnd = strlen(zEnd);
  return n > nEnd && !strcmp(zName + n - nEnd, zEnd);
}

/* Does the name belong to one of a database's other files? Super-journals end in -mj and 9 hex
** digits (vdbeaux.c, vdbeCommit). */
static int isSidecar(const char *zName) {
  size_t n = strlen(zName);
  return endsIn(zName, "-journal") || endsIn(zName, "-wal") || endsIn(zName, "-shm") ||
         (n > 12 && !memcmp(zName + n - 12, "-mj", 3) && strspn(zName + n - 9, "0123456789ABCDEF") == 9);
}

/*
** Opening
*/

/* What the URI says of staleness_ms, in nanoseconds; -1: nothing. SQLITE_CANTOPEN: it is no number. */
static int stalenessOf(const char *zName, int flags, int64_t *pStaleness) {
  const char *z = flags & SQLITE_OPEN_URI ? sqlite3_uri_parameter(zName, "staleness_ms") : 0; /* see uriSays */
  *pStaleness = -1;
  if (!z) return SQLITE_OK;
  if (!*z || z[strspn(z, "0123456789")]) {
    verneuilLogOf(VERNEUIL_ERROR, zName, "the URI says staleness_ms=%s, and that is no number of milliseconds", z);
    return SQLITE_CANTOPEN;
  }
  int64_t ms = sqlite3_uri_int64(zName, "staleness_ms", INT64_MAX); /* which it also is if it is too large */
  *pStaleness = ms < INT64_MAX / 1000000 ? ms * 1000000 : INT64_MAX;
  return SQLITE_OK;
}

static int openDatabase(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  RemoteFile *p = (RemoteFile *)pFile;
  RemoteOpened opened = {0};
  int64_t staleness;
  int rc = stalenessOf(zName, flags, &staleness);
  if (rc != SQLITE_OK) return rc;
  memset(p, 0, sizeof *p);
  p->zName = zName;
  p->eFormat = p->eFormatNew = 1;
  p->isPinned = uriSays(zName, flags, "immutable", 0) || uriSays(zName, flags, "nolock", 0);
  p->isReadOnly = p->isPinned || flags & SQLITE_OPEN_READONLY;
  p->isFollowing = p->isReadOnly && !p->isPinned && staleness < 0;
  p->staleness = staleness < 0 ? 0 : staleness;
  RemoteMode mode = {
    .readOnly = p->isReadOnly, .create = !p->isReadOnly && flags & SQLITE_OPEN_CREATE,
    .follow = p->isFollowing,
  };
  if (!remoteGo(p)) return SQLITE_CANTOPEN;
  rc = goRemoteOpen((char *)zName, &mode, &opened);
  if (rc != SQLITE_OK) return rc;
  p->hConn = opened.hConn;
  p->pNewest = opened.pNewest;
  p->pLease = opened.pLease;
  p->pChecked = opened.pChecked;
  p->pTip = opened.pTip;
  p->pGrip = opened.pGrip;
  remoteMoved(p, &opened.place);
  remoteFileAdd(p);
  if (pOutFlags) {
    *pOutFlags = flags;
    if (p->isReadOnly) *pOutFlags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
  }
  pFile->pMethods = &remoteMethods;
  return SQLITE_OK;
}

static int remoteOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  Perf open = {0};
  int rc;
  (void)pVfs;
  pFile->pMethods = 0;
  int isMain = zName && flags & SQLITE_OPEN_MAIN_DB;
  int isNamed = isMain && flags & SQLITE_OPEN_URI && sqlite3_uri_parameter(zName, "vfs"); /* see uriSays */
  if (isMain && (isNamed || remoteIsName(zName))) {
    PERF_CALL(&open, 1, rc, openDatabase(zName, pFile, flags, pOutFlags));
    if (rc == SQLITE_OK) ((RemoteFile *)pFile)->aPerf[OP_OPEN] = open;
    return rc;
  }
  if (!remoteIsName(zName)) return verneuilBase->xOpen(verneuilBase, zName, pFile, flags, pOutFlags);
  if (!(flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL))) return SQLITE_CANTOPEN;
  if (pOutFlags) *pOutFlags = flags;
  return privateOpen(zName, pFile, flags);
}

/*
** The other methods
*/

static int deleteAny(const char *zName, int bSyncDir) {
  if (!remoteIsName(zName)) return verneuilBase->xDelete(verneuilBase, zName, bSyncDir);
  if (isSidecar(zName)) return SQLITE_OK; /* it went when it was closed */
  verneuilLogOf(VERNEUIL_ERROR, zName, "remote: a database in a store is not deleted through SQLite");
  return SQLITE_IOERR_DELETE;
}

static int remoteDelete(sqlite3_vfs *pVfs, const char *zName, int bSyncDir) {
  int rc;
  (void)pVfs;
  PERF_SHARED_CALL(&remoteVfsPerf[OP_DELETE], rc, deleteAny(zName, bSyncDir));
  return rc;
}

static int accessAny(const char *zName, int flags, int *pResOut) {
  if (!remoteIsName(zName)) return verneuilBase->xAccess(verneuilBase, zName, flags, pResOut);
  *pResOut = 0;
  if (isSidecar(zName)) return SQLITE_OK;
  return verneuilGo() ? goRemoteExists((char *)zName, pResOut) : SQLITE_IOERR_ACCESS;
}

static int remoteAccess(sqlite3_vfs *pVfs, const char *zName, int flags, int *pResOut) {
  int rc;
  (void)pVfs;
  PERF_SHARED_CALL(&remoteVfsPerf[OP_ACCESS], rc, accessAny(zName, flags, pResOut));
  return rc;
}

/* Writes the name of a database in a store without needless slashes and dots. SQLITE_NOTFOUND: it is
** none. As libcephsqlite does, the VFS called ceph takes POOL:NAMESPACE without a slash before it, too. */
static int canonical(sqlite3_vfs *pVfs, const char *zName, int nOut, char *zOut) {
  int n = 0, nStore = 0;
  if (*zName != '/' && (pVfs != &cephVfs || !isPool(zName, strcspn(zName, "/")))) return SQLITE_NOTFOUND;
  for (const char *z = zName; *(z += strspn(z, "/"));) {
    int k = (int)strcspn(z, "/");
    if (k == 2 && z[0] == '.' && z[1] == '.') {
      if (n <= nStore) return nStore ? SQLITE_CANTOPEN : SQLITE_NOTFOUND; /* out of the store */
      while (zOut[--n] != '/') continue;
    } else if (k != 1 || z[0] != '.') {
      if (!nStore && !isStore(z, k)) return SQLITE_NOTFOUND;
      if (n + k + 2 > nOut) return SQLITE_CANTOPEN;
      zOut[n++] = '/';
      memcpy(zOut + n, z, k);
      n += k;
      if (!nStore) nStore = n;
    }
    z += k;
  }
  zOut[n] = 0;
  return n ? SQLITE_OK : SQLITE_NOTFOUND;
}

static int fullPathname(sqlite3_vfs *pVfs, const char *zName, int nOut, char *zOut) {
  int rc = canonical(pVfs, zName, nOut, zOut);
  if (rc == SQLITE_CANTOPEN)
    verneuilLogOf(VERNEUIL_ERROR, zName, "remote: the name leads out of its store, or is longer than %d bytes", nOut - 1);
  if (rc != SQLITE_NOTFOUND) return rc;
  rc = verneuilBase->xFullPathname(verneuilBase, zName, nOut, zOut);
  if ((rc & 0xff) != SQLITE_OK || !remoteIsName(zOut)) return rc;
  size_t n = strlen(zOut);
  if ((int)n + 2 > nOut) return SQLITE_CANTOPEN;
  memmove(zOut + 1, zOut, n + 1);
  return rc;
}

static int remoteFullPathname(sqlite3_vfs *pVfs, const char *zName, int nOut, char *zOut) {
  int rc;
  PERF_SHARED_CALL(&remoteVfsPerf[OP_FULLPATHNAME], rc, fullPathname(pVfs, zName, nOut, zOut));
  return rc;
}

static int remoteCurrentTime(sqlite3_vfs *pVfs, sqlite3_int64 *pTime) {
  int rc;
  (void)pVfs;
  PERF_SHARED_CALL(&remoteVfsPerf[OP_CURRENTTIME], rc, verneuilBase->xCurrentTimeInt64(verneuilBase, pTime));
  return rc;
}

static sqlite3_vfs remoteVfs = {
  .iVersion = 2, .zName = "verneuil_remote", .xOpen = remoteOpen, .xDelete = remoteDelete,
  .xAccess = remoteAccess, .xFullPathname = remoteFullPathname, .xSleep = remoteSleep,
};

static int registerCeph(void) {
  sqlite3_vfs *pThere = sqlite3_vfs_find("ceph");
  if (pThere == &cephVfs) return SQLITE_OK;
  if (pThere) {
    verneuilLog(VERNEUIL_WARN, "ceph_vfs: this process has another VFS called ceph, which stays");
    return SQLITE_OK;
  }
  cephVfs = remoteVfs;
  cephVfs.zName = "ceph";
  return sqlite3_vfs_register(&cephVfs, 0);
}

int remoteRegister(int isCeph) {
  int n = (int)sizeof(RemoteFile) > privateFileBytes() ? (int)sizeof(RemoteFile) : privateFileBytes();
  if (remoteVfs.szOsFile < n) remoteVfs.szOsFile = n;
  if (remoteVfs.mxPathname < REMOTE_PATH_MAX) remoteVfs.mxPathname = REMOTE_PATH_MAX;
  if (verneuilBase->iVersion >= 2 && verneuilBase->xCurrentTimeInt64) remoteVfs.xCurrentTimeInt64 = remoteCurrentTime;
  baseComplete(&remoteVfs);
  int rc = sqlite3_vfs_register(&remoteVfs, 0);
  return rc == SQLITE_OK && isCeph ? registerCeph() : rc;
}
