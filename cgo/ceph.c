/*
** The SQL functions of libcephsqlite, with the same JSON.
**
**   ceph_status()   {"id":NUMBER,"addr":"ADDRESS"}: what the cluster calls this process. It connects.
**   ceph_perf()     {"libcephsqlite_vfs":{...},"libcephsqlite_striper":{...}}
**
** Of the second object, lock and unlock say how often the right to write was had and given back, and
** update_metadata how many commits there were. What there is no counterpart of is 0.
*/
#include "ceph.h"
#include "gort.h"
#include "remote_file.h"
#include "remote_goexports.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>

/* What libcephsqlite counts, in its order. */
static const int aCephOp[] = {
  OP_OPEN, OP_DELETE, OP_ACCESS, OP_FULLPATHNAME, OP_CURRENTTIME, OP_CLOSE, OP_READ, OP_WRITE, OP_TRUNCATE, OP_SYNC,
  OP_FILESIZE, OP_LOCK, OP_UNLOCK, OP_CHECKRESERVED, OP_FILECONTROL, OP_SECTORSIZE, OP_DEVICECHARACTERISTICS,
};

static void cephPerf(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  Perf a[OP_ALL_N] = {{0}};
  (void)argc;
  (void)argv;
  remotePerfSum(a);
  char *z = perfJson(a, aCephOp, sizeof aCephOp / sizeof *aCephOp);
  if (z) z = sqlite3_mprintf("{\"libcephsqlite_vfs\":%z,\"libcephsqlite_striper\":{\"update_metadata\":%lld,\"update_allocated\":0,"
                             "\"update_size\":0,\"update_version\":0,\"shrink\":0,\"shrink_bytes\":0,\"lock\":%lld,\"unlock\":%lld}}",
                             z, (sqlite3_int64)remoteCounts[REMOTE_COMMITTED], (sqlite3_int64)remoteCounts[REMOTE_RESERVED],
                             (sqlite3_int64)remoteCounts[REMOTE_UNRESERVED]);
  if (z) sqlite3_result_text(ctx, z, -1, sqlite3_free);
  else sqlite3_result_error_nomem(ctx);
}

static void cephStatus(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  int isError = 1;
  (void)argc;
  (void)argv;
  char *z = verneuilGo() ? goCephStatus(sqlite3_context_db_handle(ctx), &isError) : 0;
  if (!z) sqlite3_result_error(ctx, "ceph_status: this process cannot ask the cluster", -1);
  else if (isError) sqlite3_result_error(ctx, z, -1);
  else sqlite3_result_text(ctx, z, -1, SQLITE_TRANSIENT);
  free(z);
}

int cephFunctions(sqlite3 *db) {
  int rc = sqlite3_create_function(db, "ceph_status", 0, SQLITE_UTF8, 0, cephStatus, 0, 0);
  return rc == SQLITE_OK ? sqlite3_create_function(db, "ceph_perf", 0, SQLITE_UTF8, 0, cephPerf, 0, 0) : rc;
}
