/*
** What is below the recorder: see below.h.
*/
#include "below.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

#define SIZE_TRIES 100

/* unix, unix-excl, unix-dotfile and unix-none are one implementation (os_unix.c, unixOpen). Nobody
** replaces the last of them. */
static sqlite3_vfs *own(void) { return sqlite3_vfs_find("unix-none"); }

int belowIsOwn(const sqlite3_vfs *pVfs) {
  const sqlite3_vfs *pOwn = own();
  /* another thread may be hooking pVfs (recorderHookDefault) */
  return pOwn && __atomic_load_n(&pVfs->xOpen, __ATOMIC_ACQUIRE) == pOwn->xOpen;
}

/* SQLite3MultipleCiphers encrypts the frames of a WAL only if the database's methods are its own,
** so nothing of ours may stand above it. The names of its VFSes are this and the name of the VFS
** below. */
static const char zCipher[] = "multipleciphers-";
#define CIPHER_LENGTH (sizeof zCipher - 1)

int belowIsCipherName(const char *zVfs) { return !strncmp(zVfs, zCipher, CIPHER_LENGTH); }

int belowIsCipher(const sqlite3_vfs *pVfs) { return pVfs && belowIsCipherName(pVfs->zName); }

sqlite3_vfs *belowCiphers(sqlite3_vfs *pVfs) {
  while (belowIsCipher(pVfs)) {
    sqlite3_vfs *pBelow = sqlite3_vfs_find(pVfs->zName + CIPHER_LENGTH);
    if (!pBelow) break;
    pVfs = pBelow;
  }
  return pVfs;
}

sqlite3_vfs *belowAboveOurs(void) {
  static const char zAbove[] = "multipleciphers-verneuil";
  sqlite3 *db = 0;
  /* it makes a VFS when somebody opens a database by one of its names */
  if (!sqlite3_vfs_find(zAbove)) {
    sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, zAbove);
    sqlite3_close(db);
  }
  return sqlite3_vfs_find(zAbove);
}

sqlite3_file *belowOpen(const char *zName, int flags) {
  sqlite3_vfs *pVfs = sqlite3_vfs_find("unix");
  if (!pVfs || !belowIsOwn(pVfs)) pVfs = own();
  sqlite3_file *p = pVfs ? sqlite3_malloc(pVfs->szOsFile) : 0;
  if (!p) return 0;
  memset(p, 0, pVfs->szOsFile);
  if (pVfs->xOpen(pVfs, zName, p,
      (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) | SQLITE_OPEN_READONLY, 0) == SQLITE_OK)
    return p;
  sqlite3_free(p);
  return 0;
}

void belowClose(sqlite3_file *pRaw) {
  if (!pRaw) return;
  pRaw->pMethods->xClose(pRaw);
  sqlite3_free(pRaw);
}

int belowHas(sqlite3_file *pRaw, const void *pBuf, int n, sqlite3_int64 iOfst) {
  const char *z = pBuf;
  char a[4096];
  while (n > 0) {
    int k = n < (int)sizeof a ? n : (int)sizeof a;
    if (pRaw->pMethods->xRead(pRaw, a, k, iOfst) != SQLITE_OK || memcmp(a, z, k)) return 0;
    z += k, n -= k, iOfst += k;
  }
  return 1;
}

/* Does the name say that the VFS stores something else? Then we do not wait until it does. */
static int namesChange(const char *zVfs) {
  static const char *const az[] = {"%cipher%", "%crypt%", "%zip%", "%zstd%", "%compress%",
                                   "%cerod%"};
  for (int i = 0; i < (int)(sizeof az / sizeof *az); i++)
    if (!sqlite3_strlike(az[i], zVfs, 0)) return 1;
  return 0;
}

int belowSized(sqlite3_file *pRaw, sqlite3_int64 size) {
  sqlite3_int64 rawSize;
  return pRaw->pMethods->xFileSize(pRaw, &rawSize) == SQLITE_OK && rawSize == size;
}

/* Do both have the same size? Somebody may be writing between the two looks, so it is tried
** often. */
static int sizesAgree(sqlite3_file *pFile, sqlite3_file *pRaw) {
  sqlite3_int64 size;
  for (int i = 0; i < SIZE_TRIES; i++)
    if (pFile->pMethods->xFileSize(pFile, &size) == SQLITE_OK && belowSized(pRaw, size)) return 1;
  return 0;
}

char *belowRefuses(sqlite3_file *pFile, sqlite3_file *pRaw, const char *zVfs) {
  char *zNames = 0, *z = 0;
  if (pFile->pMethods->xFileControl(pFile, SQLITE_FCNTL_VFSNAME, &zNames) != SQLITE_OK) zNames = 0;
  const char *zBelow = zNames ? zNames : zVfs;
  if (namesChange(zBelow) || namesChange(zVfs))
    z = sqlite3_mprintf("the VFS below verneuil, %s, does not store the bytes that it is given: "
                        "put it above verneuil", zBelow);
  else if (!pRaw || !sizesAgree(pFile, pRaw))
    z = sqlite3_mprintf("the VFS below verneuil, %s, does not keep the database in this file "
                        "alone: put it above verneuil", zBelow);
  sqlite3_free(zNames);
  return z;
}
