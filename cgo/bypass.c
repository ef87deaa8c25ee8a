/*
** Databases that do not go through our writer VFS, of which nobody but the connection knows:
** nothing is recorded of them, and our pragma is not heard.
*/
#include "bypass.h"
#include "below.h"
#include "config.h"
#include "log.h"
#include "recorder.h"
SQLITE_EXTENSION_INIT3
#include <stdatomic.h>
#include <string.h>

static const char *vfsName(sqlite3 *db, const char *zSchema) {
  sqlite3_vfs *pVfs = 0;
  int rc = sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFS_POINTER, &pVfs);
  return rc == SQLITE_OK && pVfs && pVfs->zName ? pVfs->zName : "";
}

/* Also one that was opened as a file (replica_files). */
static int isReplica(sqlite3 *db, const char *zSchema) {
  char *z = 0;
  int is = sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFSNAME, &z) == SQLITE_OK && z && !strcmp(z, "verneuil_snapshot");
  sqlite3_free(z);
  return is;
}

/* Its file's path; NULL: it is in memory, or temporary. */
static const char *pathOf(sqlite3 *db, const char *zSchema) {
  const char *z = sqlite3_db_filename(db, zSchema);
  return z && *z && strcmp(vfsName(db, zSchema), "memdb") ? z : 0;
}

/* Reasons that concern every database of the process come first: they need a remedy anyway. */
static char *why(const char *zVfs) {
  const char *zOurs = belowIsCipherName(zVfs) ? "multipleciphers-verneuil" : "verneuil";
  if (verneuilConfig.zProblem) return sqlite3_mprintf("%s", verneuilConfig.zProblem);
  if (!verneuilConfig.makeDefault)
    return sqlite3_mprintf("it was opened with the VFS %s, as make_default is not set in VERNEUIL_CONFIG: set it, or "
                           "open file:NAME?vfs=%s", zVfs, zOurs);
  return sqlite3_mprintf("it was opened with the VFS %s: before the extension was loaded, or because it was named; "
                         "load the extension first, or open file:NAME?vfs=%s", zVfs, zOurs);
}

char *bypassWhy(sqlite3 *db, const char *zSchema) {
  const char *zVfs = vfsName(db, zSchema), *zPath = pathOf(db, zSchema);
  if (!zPath) return sqlite3_mprintf("it is in memory, or temporary");
  if (isReplica(db, zSchema)) return sqlite3_mprintf("it is a replica");
  char *z = notReplicatedWhy(zPath);
  return z ? z : why(zVfs);
}

/* It is a warning where somebody wants databases to be replicated and forgot something: to
** name VFSes, or not to set make_default, may well be meant. */
static int level(int isLoading) {
  static atomic_int said;
  if (verneuilConfig.makeDefault) return isLoading || verneuilConfig.zProblem ? VERNEUIL_WARN : VERNEUIL_INFO;
  if (!verneuilConfig.isBroken && !verneuilConfig.hasSpool) return VERNEUIL_INFO; /* a reader of replicas */
  return atomic_exchange(&said, 1) ? VERNEUIL_INFO : VERNEUIL_WARN;
}

void bypassTell(sqlite3 *db, int isLoading) {
  const char *zVfs = vfsName(db, "main"), *zPath = pathOf(db, "main");
  RecorderQuestion question = {0};
  if (!zPath || isReplica(db, "main") || sqlite3_db_readonly(db, "main") == 1 || recorderAsk(db, "main", &question))
    return;
  char *z = why(zVfs);
  if (z) notReplicatedAt(level(isLoading), zPath, z);
  sqlite3_free(z);
}
