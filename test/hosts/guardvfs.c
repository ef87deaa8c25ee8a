/*
** A VFS that hands strings of its own down, as shims may: mere paths, without what SQLite puts
** around the names that it makes. Nobody may look before such a name, nor after it: the page
** before it cannot be read, or with GUARD=after in the environment the page after it. With
** GUARD_DATABASES=no the names of databases are left alone: in WAL mode SQLite's own VFS looks before
** them, too (os_unix.c, unixOpenSharedMemory). As an extension it becomes the default VFS, above
** the one that GUARD_OVER names.
*/
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096

static sqlite3_vfs *pBase;
static sqlite3_vfs guardVfs;

/* A copy of the name, which stays for as long as the process. */
static const char *guarded(const char *zName) {
  const char *zGuard = getenv("GUARD");
  size_t n = zName ? strlen(zName) + 1 : 0;
  if (!zName || n > PAGE) return zName;
  char *a = mmap(0, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (a == MAP_FAILED || mprotect(a + PAGE, PAGE, PROT_READ | PROT_WRITE)) abort();
  a += zGuard && !strcmp(zGuard, "after") ? 2 * PAGE - n : PAGE;
  return memcpy(a, zName, n);
}

static int guardOpen(sqlite3_vfs *p, const char *zName, sqlite3_file *pFile, int flags, int *pOut) {
  (void)p;
  if (!(flags & SQLITE_OPEN_MAIN_DB) || !getenv("GUARD_DATABASES")) zName = guarded(zName);
  return pBase->xOpen(pBase, zName, pFile, flags & ~SQLITE_OPEN_URI, pOut);
}
static int guardDelete(sqlite3_vfs *p, const char *zName, int sync) {
  (void)p;
  return pBase->xDelete(pBase, guarded(zName), sync);
}
static int guardAccess(sqlite3_vfs *p, const char *zName, int flags, int *pRes) {
  (void)p;
  return pBase->xAccess(pBase, guarded(zName), flags, pRes);
}
static int guardFull(sqlite3_vfs *p, const char *zName, int n, char *zOut) {
  (void)p;
  return pBase->xFullPathname(pBase, guarded(zName), n, zOut);
}

int sqlite3_guardvfs_init(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi) {
  SQLITE_EXTENSION_INIT2(pApi);
  (void)db;
  (void)pzErr;
  pBase = sqlite3_vfs_find(getenv("GUARD_OVER"));
  if (!pBase) return SQLITE_ERROR;
  guardVfs = *pBase;
  guardVfs.zName = "guard";
  guardVfs.xOpen = guardOpen;
  guardVfs.xDelete = guardDelete;
  guardVfs.xAccess = guardAccess;
  guardVfs.xFullPathname = guardFull;
  sqlite3_vfs_register(&guardVfs, 1);
  return SQLITE_OK_LOAD_PERMANENTLY;
}
