/*
** A VFS that stores other bytes than SQLite gives it, as those do that encrypt. As an
** extension it becomes the default one, before ours is loaded.
*/
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1
#include <string.h>

typedef struct XorFile {
  sqlite3_file base;
  sqlite3_file *pReal;
} XorFile;
#define REAL(p) (((XorFile *)(p))->pReal)

static sqlite3_vfs *pBase;
static sqlite3_vfs xorVfs;

static void turn(unsigned char *a, int n) {
  for (int i = 0; i < n; i++) a[i] ^= 0x5a;
}

static int xorClose(sqlite3_file *p) { return REAL(p)->pMethods->xClose(REAL(p)); }
static int xorRead(sqlite3_file *p, void *pBuf, int n, sqlite3_int64 iOfst) {
  int rc = REAL(p)->pMethods->xRead(REAL(p), pBuf, n, iOfst);
  if (rc == SQLITE_OK) turn(pBuf, n);
  return rc;
}
static int xorWrite(sqlite3_file *p, const void *pBuf, int n, sqlite3_int64 iOfst) {
  unsigned char *a = sqlite3_malloc(n);
  if (!a) return SQLITE_NOMEM;
  memcpy(a, pBuf, n);
  turn(a, n);
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

static const sqlite3_io_methods xorMethods = {
  1, xorClose, xorRead, xorWrite, xorTruncate, xorSync, xorFileSize, xorLock, xorUnlock, xorCheck, xorControl,
  xorSector, xorDevice, 0, 0, 0, 0, 0, 0,
};

static int xorOpen(sqlite3_vfs *pVfs, const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  XorFile *p = (XorFile *)pFile;
  (void)pVfs;
  if (!(flags & SQLITE_OPEN_MAIN_DB)) return pBase->xOpen(pBase, zName, pFile, flags, pOutFlags);
  p->pReal = (sqlite3_file *)&p[1];
  p->base.pMethods = 0;
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
