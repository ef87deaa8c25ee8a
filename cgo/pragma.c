/*
** The pragmas of our VFSes: see pragma.h.
*/
#include "pragma.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3

static const struct {
  const char *zName;
  int by;
} aPragma[PRAGMA_N] = {
  [PRAGMA_FLUSH] = {"verneuil_flush_replication_data", BY_RECORDER | BY_REMOTE},
  [PRAGMA_DURABLE] = {"verneuil_durable", BY_RECORDER | BY_REMOTE},
  [PRAGMA_DURABLE_OUTCOME] = {"verneuil_durable_outcome", BY_RECORDER | BY_REMOTE},
  [PRAGMA_REFRESH] = {"verneuil_snapshot_refresh", BY_REPLICA},
  [PRAGMA_RELOAD] = {"verneuil_snapshot_async_reload", BY_REPLICA},
  [PRAGMA_AUTO] = {"verneuil_snapshot_auto_refresh", BY_REPLICA},
  [PRAGMA_CTIME] = {"verneuil_snapshot_ctime", BY_REPLICA},
  [PRAGMA_UPDATED] = {"verneuil_snapshot_updated", BY_REPLICA},
  [PRAGMA_REMOTE_REFRESH] = {"verneuil_remote_refresh", BY_REMOTE},
  [PRAGMA_REMOTE_RELEASE] = {"verneuil_remote_release", BY_REMOTE},
};

int pragmaOf(const char *zName, int by) {
  for (int i = PRAGMA_OTHER + 1; i < PRAGMA_N; i++)
    if (aPragma[i].by & by && !sqlite3_stricmp(zName, aPragma[i].zName)) return i;
  return PRAGMA_OTHER;
}

int booleanOf(const char *z) {
  static const char *const azWord[] = {"0", "1", "off", "on", "no", "yes", "false", "true"};
  for (int i = 0; i < 8; i++)
    if (!sqlite3_stricmp(z, azWord[i])) return i & 1;
  return -1;
}

static const char *const azMode[] = {[DURABLE_OFF] = "off", [DURABLE_ALL] = "on", [DURABLE_ANY] = "any"};

int durableMode(const char *z) {
  for (int i = DURABLE_OFF; i <= DURABLE_ANY; i++)
    if (!sqlite3_stricmp(z, azMode[i])) return i;
  if (!sqlite3_stricmp(z, "all")) return DURABLE_ALL; /* to SQL it is a keyword, and needs quotes */
  int value = booleanOf(z);
  return value < 0 ? -1 : value ? DURABLE_ALL : DURABLE_OFF;
}

char *durableRefusal(const char *z) {
  return sqlite3_mprintf("verneuil_durable: \"%s\" is none of on, off, all and any", z);
}

const char *durableName(int mode) { return azMode[mode]; }
