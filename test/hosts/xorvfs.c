/*
** A VFS that stores other bytes than SQLite gives it, as those do that encrypt. As an
** extension it becomes the default one. With XOR_HEADER in the environment the
** database's header stays as it is. Like SQLite3MultipleCiphers it changes a WAL's pages only
** where the methods of the database's file are its own, and takes them to be changed when it reads.
*/
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1
#include <stdlib.h>
#include <string.h>

#define HEADER 100
#define FRAME 24

typedef struct XorFile {
  sqlite3_file base;
  sqlite3_file *pReal;
  const char *zDatabase; /* of a WAL */
} XorFile;
#define REAL(p) (((XorFile *)(p))->pReal)

static sqlite3_vfs *pBase;
static sqlite3_vfs xorVfs;

/* What of n bytes is changed: the pages of a database, or of a WAL. */
static void turn(XorFile *p, unsigned char *a, int n, sqlite3_int64 iOfst) {
  int i = 0;
  if (p->zDatabase && n < 512) return;
  if (p->zDatabase && n % 512 == FRAME) i = FRAME;
  if (!p->zDatabase && getenv("XOR_HEADER") && iOfst < HEADER) i = HEADER - (int)iOfst;
  for (; i < n; i++) a[i] ^= 0x5a;
}

static int isMine(XorFile *p);
static int xorClose(sqlite3_file *p) { return REAL(p)->pMethods->xClose(REAL(p)); }
static int xorRead(sqlite3_file *p, void *pBuf, int n, sqlite3_int64 iOfst) {
  int rc = REAL(p)->pMethods->xRead(REAL(p), pBuf, n, iOfst);
  if (rc == SQLITE_OK) turn((XorFile *)p, pBuf, n, iOfst);
  return rc;
}
static int xorWrite(sqlite3_file *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  unsigned char *a = sqlite3_malloc(n);
  if (!a) return SQLITE_NOMEM;
  memcpy(a, pBuf, n);
  if (isMine((XorFile *)p)) turn((XorFile *)p, a, n, iOfst);
  int rc = REAL(p)->pMethods->xWrite(REAL(p), a, n, iOfst);
  sqlite3_free(a);
  return rc;
}
static int xorTruncate(sqlite3_file *p, sqlite3_int64 size) { return REAL(p)->pMethods->xTruncate(REAL(p), size); }
static int xorSync(sqlite3_file *p, int flags) { return REAL(p)->pMethods->xSync(REAL(p), flags); }
static int xorFileSize(sqlite3_file *p, sqlite3_int64 *pSize) { return REAL(p)->pMethods->xFileSize(REAL(p), pSize); }
static int xorLock(sqlite3_file *p, int eLock) { return REAL(p)->pMethods->xLock(REAL(p), eLock); }
static int xorUnlock(sqlite3_file *p, int eLock) { return REAL(p)->pMethods->xUnlock(REAL(p), eLock); }
static int xorCheck(sqlite3_file *p, int *pRes) { return REAL(p)->pMethods->xCheckReservedLock(REAL(p), pRes); }
static int xorControl(sqlite3_file *p, int op, void *pArg) { return REAL(p)->pMethods->xFileControl(REAL(p), op, pArg); }
static int xorSector(sqlite3_file *p) { return REAL(p)->pMethods->xSectorSize(REAL(p)); }
static int xorDevice(sqlite3_file *p) { return REAL(p)->pMethods->xDeviceCharacteristics(REAL(p)); }
static int xorShmMap(sqlite3_file *p, int i, int sz, int w, void volatile **pp) { return REAL(p)->pMethods->xShmMap(REAL(p), i, sz, w, pp); }
static int xorShmLock(sqlite3_file *p, int i, int n, int flags) { return REAL(p)->pMethods->xShmLock(REAL(p), i, n, flags); }
static void xorShmBarrier(sqlite3_file *p) { REAL(p)->pMethods->xShmBarrier(REAL(p)); }
static int xorShmUnmap(sqlite3_file *p, int d) { return REAL(p)->pMethods->xShmUnmap(REAL(p), d); }

static const sqlite3_io_methods xorMethods = {
  2, xorClose, xorRead, xorWrite, xorTruncate, xorSync, xorFileSize, xorLock, xorUnlock, xorCheck, xorControl,
  xorSector, xorDevice, xorShmMap, xorShmLock, xorShmBarrier, xorShmUnmap, 0, 0,
};

static int isMine(XorFile *p) {
  return !p->zDatabase || sqlite3_database_file_object(p->zDatabase)->pMethods == &xorMethods;
}

static int xorOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  XorFile *p = (XorFile *)pFile;
  (void)pVfs;
  if (!(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))) return pBase->xOpen(pBase, zName, pFile, flags, pOutFlags);
  p->pReal = (sqlite3_file *)&p[1];
  p->base.pMethods = 0;
  p->zDatabase = flags & SQLITE_OPEN_WAL ? zName : 0;
  int rc = pBase->xOpen(pBase, zName, p->pReal, flags, pOutFlags);
  if (p->pReal->pMethods) p->base.pMethods = &xorMethods;
  return rc;
}
static int xorDelete(sqlite3_vfs *p, const char *z, int sync) { (void)p; return pBase->xDelete(pBase, z, sync); }
static int xorAccess(sqlite3_vfs *p, const char *z, int flags, int *pRes) { (void)p; return pBase->xAccess(pBase, z, flags, pRes); }
static int xorFull(sqlite3_vfs *p, const char *z, int n, char *zOut) { (void)p; return pBase->xFullPathname(pBase, z, n, zOut); }

int sqlite3_xorvfs_init(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi) {
  SQLITE_EXTENSION_INIT2(pApi);
  (void)db;
  (void)pzErr;
  pBase = sqlite3_vfs_find(0);
  xorVfs = *pBase;
  xorVfs.zName = "xor";
  xorVfs.szOsFile += (int)sizeof(XorFile);
  xorVfs.xOpen = xorOpen;
  xorVfs.xDelete = xorDelete;
  xorVfs.xAccess = xorAccess;
  xorVfs.xFullPathname = xorFull;
  sqlite3_vfs_register(&xorVfs, 1);
  return SQLITE_OK_LOAD_PERMANENTLY;
}
