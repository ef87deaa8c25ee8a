/*
** Databases that are opened without our writer VFS. Only the connection knows of them: they are not
** recorded, and nobody hears our pragma.
*/
#include "bypass.h"
#include "below.h"
#include "config.h"
#include "log.h"
#include "recorder.h"
#include "unreplicated.h"
SQLITE_EXTENSION_INIT3
#include <stdatomic.h>
#include <string.h>

static sqlite3_vfs *vfsOf(sqlite3 *db, const char *zSchema) {
  sqlite3_vfs *pVfs = 0;
  return sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFS_POINTER, &pVfs) == SQLITE_OK ? pVfs : 0;
}

static const char *nameOf(const sqlite3_vfs *pVfs) {
  return pVfs && pVfs->zName ? pVfs->zName : "";
}

/* Why nobody need replicate it: it may be a replica, perhaps one that was opened as a file
** (replica_files), or live in a store. NULL: somebody might. */
static const char *needless(sqlite3 *db, const char *zSchema) {
  const char *zWhy = 0;
  char *z = 0;
  if (sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFSNAME, &z) == SQLITE_OK && z) {
    if (!strcmp(z, "verneuil_snapshot")) zWhy = "it is a replica";
    if (!strcmp(z, "verneuil_remote")) zWhy = "it lives in a store, and its commits are there";
  }
  sqlite3_free(z);
  return zWhy;
}

/* The path of the database's file; NULL: it is in memory, or temporary. */
static const char *pathOf(sqlite3 *db, const char *zSchema) {
  const char *z = sqlite3_db_filename(db, zSchema);
  return z && *z && strcmp(nameOf(vfsOf(db, zSchema)), "memdb") ? z : 0;
}

/* Was it opened before the extension was loaded? With make_default, what the default VFS opens
** later is recorded, unless the URI names a VFS. */
static int isEarlier(const sqlite3_vfs *pVfs, const char *zPath) {
  return pVfs == sqlite3_vfs_find(0) && !sqlite3_uri_parameter(zPath, "vfs");
}

/* Reasons that concern every database of the process come first, as they need a remedy anyway. */
static char *why(const sqlite3_vfs *pVfs, const char *zPath) {
  const char *zOurs = belowIsCipherName(nameOf(pVfs)) ? "multipleciphers-verneuil" : "verneuil";
  if (verneuilConfig.zProblem) return sqlite3_mprintf("%s", verneuilConfig.zProblem);
  if (!verneuilConfig.makeDefault)
    return sqlite3_mprintf("it was opened with the VFS %s, because make_default is not set in "
                           "VERNEUIL_CONFIG: set it, or open file:NAME?vfs=%s", nameOf(pVfs), zOurs);
  if (isEarlier(pVfs, zPath))
    return sqlite3_mprintf("it was opened before the extension was loaded: load the extension "
                           "first, or reopen the database");
  return sqlite3_mprintf("it was opened with the VFS %s, by name or before the extension was "
                         "loaded: load the extension first, or open file:NAME?vfs=%s", nameOf(pVfs), zOurs);
}

char *bypassWhy(sqlite3 *db, const char *zSchema) {
  const char *zPath = pathOf(db, zSchema);
  if (!zPath) return sqlite3_mprintf("it is an in-memory or temporary database");
  const char *zNeedless = needless(db, zSchema);
  if (zNeedless) return sqlite3_mprintf("%s", zNeedless);
  char *z = notReplicatedWhy(zPath);
  return z ? z : why(vfsOf(db, zSchema), zPath);
}

/* It is a warning if somebody wants databases to be replicated, and forgot something. To name a
** VFS, or not to set make_default, may well be intended. */
static int level(const sqlite3_vfs *pVfs, const char *zPath, int isLoading) {
  static atomic_int said;
  if (verneuilConfig.makeDefault)
    return isLoading || isEarlier(pVfs, zPath) || verneuilConfig.zProblem ? VERNEUIL_WARN
                                                                          : VERNEUIL_INFO;
  /* a reader of replicas */
  if (!verneuilConfig.isBroken && !verneuilConfig.hasSpool) return VERNEUIL_INFO;
  return atomic_exchange(&said, 1) ? VERNEUIL_INFO : VERNEUIL_WARN;
}

void bypassTell(sqlite3 *db, int isLoading) {
  const sqlite3_vfs *pVfs = vfsOf(db, "main");
  const char *zPath = pathOf(db, "main");
  RecorderQuestion question = {0};
  if (!zPath || needless(db, "main") || sqlite3_db_readonly(db, "main") == 1 ||
      recorderAsk(db, "main", &question))
    return;
  char *z = why(pVfs, zPath);
  if (z) notReplicatedAt(level(pVfs, zPath, isLoading), zPath, z);
  sqlite3_free(z);
}
