/*
** libverneuil_recorder.so: the recorder without a replicator, for processes that must have no Go in
** them and no threads. It is made of package cgo's C files, but for those that need Go; what these
** would say stands here. verneuilctl run, a process of its own, replicates what it records.
**
** It reads of the configuration what a recorder has to know. Whether the rest makes sense says
** verneuilctl config check.
*/
#define _GNU_SOURCE
#include "ceph.h"
#include "config.h"
#include "goexports.h"
#include "gort.h"
#include "recorder.h"
#include "recorder_go.h"
#include "recorder_settings.h"
#include "remote.h"
#include "snapshot.h"
#include "spool_attach.h"
#include "spool_stamp.h"
#include "spool_wake.h"
SQLITE_EXTENSION_INIT3
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what other files ask of Go ---- */

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER; /* nHandle of all spools */

int verneuilGo(void) { return 0; }
int verneuilGoRuns(void) { return 0; }
int verneuilForked(void) { return 0; }
int threadsImpatient(int yes) { return yes; }
const char *verneuilRefused(void) {
  char *zProblem = recorderProblem();
  int isTold = zProblem != 0;
  sqlite3_free(zProblem);
  return isTold ? 0 : "this process records only (libverneuil_recorder.so): verneuilctl run replicates, and "
                        "verneuilctl status says how that stands";
}
char *goStatus(char *zSQLite, char *zWhy, char *zList, char *zDurable) {
  free(zSQLite);
  free(zWhy);
  free(zList);
  free(zDurable);
  return 0;
}

int snapshotRegister(void) { return SQLITE_OK; }
int snapshotFileBytes(void) { return 0; }
int snapshotIsReplicaFile(sqlite3_file *pFile) { return (void)pFile, 0; }
int snapshotOpenReplicaFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags) {
  (void)zName, (void)flags, (void)pOutFlags;
  pFile->pMethods = 0;
  return SQLITE_CANTOPEN;
}
int remoteRegister(int isCeph) { return (void)isCeph, SQLITE_OK; }
int cephFunctions(sqlite3 *db) { return (void)db, SQLITE_OK; }
char *remotePerf(void) { return sqlite3_mprintf("{}"); }

/* ---- the configuration ---- */

/* A path of the configuration as vfs/config_paths.go has it; malloc'd. NULL: *pzErr says why. */
static char *absolute(const char *z, const char *zFile, char **pzErr) {
  char *zPath = 0, *zHome = getenv("HOME");
  if (z[0] == '/') return strdup(z);
  if (z[0] == '~' && z[1] == '/' && zHome) return asprintf(&zPath, "%s%s", zHome, z + 1) < 0 ? 0 : zPath;
  char *zReal = zFile && !strchr(z, '$') ? realpath(zFile, 0) : 0;
  char *zSlash = zReal ? strrchr(zReal, '/') : 0;
  if (zSlash && asprintf(&zPath, "%.*s/%s", (int)(zSlash - zReal), zReal, z) < 0) zPath = 0;
  free(zReal);
  if (!zPath && asprintf(pzErr, "VERNEUIL_CONFIG: replication_spooling_dir: %s: want an absolute path, or one that "
                                "begins with ~/ or stands in a file", z) < 0)
    *pzErr = 0;
  return zPath;
}

static const char zRead[] =
    "select json_extract(?1, '$.replication_spooling_dir'),"
    " coalesce(json_extract(?1, '$.store_timeout_ms'), 30000),"
    " coalesce(json_extract(?1, '$.durable_timeout_ms'), 30000),"
    " coalesce(json_extract(?1, '$.replication_spooling_dir_permissions'), '0700')";

/* The strings at a place of the JSON text; as VerneuilSettings has them. */
static char **strings(sqlite3 *db, const char *zText, const char *zWhere) {
  static const char zSql[] = "select value, count(*) over () from json_each(?1, ?2)";
  sqlite3_stmt *p = 0;
  char **az = 0;
  int n = 0;
  if (sqlite3_prepare_v2(db, zSql, -1, &p, 0) != SQLITE_OK) return 0;
  sqlite3_bind_text(p, 1, zText, -1, SQLITE_STATIC);
  sqlite3_bind_text(p, 2, zWhere, -1, SQLITE_STATIC);
  while (sqlite3_step(p) == SQLITE_ROW) {
    if (!az) az = calloc((size_t)sqlite3_column_int(p, 1) + 1, sizeof *az);
    const char *z = (const char *)sqlite3_column_text(p, 0), *zHome = getenv("HOME");
    char *zFull = 0;
    if (z && z[0] == '~' && z[1] == '/' && zHome) zFull = asprintf(&zFull, "%s%s", zHome, z + 1) < 0 ? 0 : zFull;
    else if (z) zFull = strdup(z);
    if (az && zFull) az[n++] = zFull;
    else free(zFull);
  }
  sqlite3_finalize(p);
  return az;
}

static void readSettings(VerneuilSettings *s, sqlite3 *db, const char *zText, const char *zFile) {
  sqlite3_stmt *p = 0;
  if (sqlite3_prepare_v2(db, zRead, -1, &p, 0) == SQLITE_OK &&
      sqlite3_bind_text(p, 1, zText, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(p) == SQLITE_ROW) {
    const char *z = (const char *)sqlite3_column_text(p, 0);
    const char *zMode = (const char *)sqlite3_column_text(p, 3);
    s->timeoutMs = sqlite3_column_int(p, 1);
    s->durableMs = sqlite3_column_int(p, 2);
    s->permissions = (unsigned)strtoul(zMode ? zMode : "0700", 0,
                                       sqlite3_column_type(p, 3) == SQLITE_INTEGER ? 10 : 8) | 0700;
    s->targets = 1; /* those of verneuilctl run */
    if (z) s->zRoot = absolute(z, zFile, &s->zError);
    else s->zError = strdup("replication_spooling_dir is not set in VERNEUIL_CONFIG");
    s->replicate = s->zRoot != 0;
    s->azInclude = strings(db, zText, "$.make_default.include");
    s->azExclude = strings(db, zText, "$.make_default.exclude");
  } else if (asprintf(&s->zError, "VERNEUIL_CONFIG: %s (verneuilctl config check says where)", sqlite3_errmsg(db)) < 0) {
    s->zError = 0;
  }
  sqlite3_finalize(p);
}

void recorderConfigure(void) {
  static _Thread_local int busy; /* the connection below opens no file */
  if (recorderIsConfigured() || busy) return;
  busy = 1;
  VerneuilSettings s = {0};
  char *zWhy = 0, *zFile = 0, *zText = configText(&zWhy, &zFile);
  sqlite3 *db = 0;
  if (!zText) s.zError = strdup(zWhy ? zWhy : "out of memory");
  else if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 0) == SQLITE_OK)
    readSettings(&s, db, zText, zFile);
  else s.zError = strdup("out of memory");
  sqlite3_close(db);
  sqlite3_free(zWhy);
  free(zText);
  free(zFile);
  recorderSettle(s);
  busy = 0;
}

/* ---- handles and flushes ---- */

void recorderCountHandle(Spool *p, int n) {
  pthread_mutex_lock(&counting);
  p->nHandle += n;
  int opened = n > 0 && p->nHandle == 1, closed = !p->nHandle;
  if (closed) stampClosed(p);
  pthread_mutex_unlock(&counting);
  if (opened) stampOpened(p);
}

int recorderFlush(Spool *p) { return spoolFlush(p, recorderSettings.timeoutMs); }

void recorderAskValid(const Spool *p) { (void)p; }

static void childOfFork(void) { pthread_mutex_init(&counting, 0); }
__attribute__((constructor)) static void aloneLoad(void) { pthread_atfork(0, 0, childOfFork); }

/* What SQLite looks for in a file of this name; the library's usual entry point is there, too. */
extern int sqlite3_verneuilvfs_init(sqlite3 *, char **, const sqlite3_api_routines *);
__attribute__((visibility("default"))) int sqlite3_verneuilrecorder_init(sqlite3 *db, char **pzErr,
                                                                         const sqlite3_api_routines *pApi) {
  return sqlite3_verneuilvfs_init(db, pzErr, pApi);
}
