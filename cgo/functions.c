/*
** The SQL functions verneuil_flush(), verneuil_replicated(), verneuil_status(), verneuil_perf() and verneuil_version().
*/
#include "functions.h"
#include "bypass.h"
#include "config.h"
#include "goexports.h"
#include "gort.h"
#include "log.h"
#include "recorder.h"
#include "recorder_durable.h"
#include "remote.h"
#include "spool_attach.h"
#include "unreplicated.h"
#include "version.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

/* A malloc'd copy of what is sqlite3_malloc'd, in its place. */
static char *forGo(char *z) {
  char *zCopy = z ? strdup(z) : 0;
  sqlite3_free(z);
  return zCopy;
}

/* What Go says; NULL if it does not answer. */
static char *askGo(void) {
  int was = threadsImpatient(1);
  char *z = goStatus(forGo(sqlite3_mprintf("%s", sqlite3_libversion())), forGo(recorderProblem()), forGo(notReplicatedList(spoolStrays())),
                     forGo(durableCounts()));
  threadsImpatient(was);
  return z;
}

/* A JSON object: what Go knows of its spools and replicas, if it runs. */
static void statusFunction(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  char *zGo = verneuilGoRuns() ? askGo() : 0;
  if (zGo) {
    sqlite3_result_text(ctx, zGo, -1, free);
    return;
  }
  const char *zRefused = verneuilRefused();
  char *z = zRefused ? sqlite3_mprintf("%s", zRefused) : recorderProblem();
  if (!z && verneuilForked())
    z = sqlite3_mprintf("this process was forked from one that had opened databases: that one sends what this one commits, and replicas and databases in stores cannot be used here");
  if (!z && verneuilConfig.zProblem) z = sqlite3_mprintf("%s", verneuilConfig.zProblem);
  if (!z) z = sqlite3_mprintf("no replicated database has been opened in this process");
  char *zState = z ? verneuilQuote(z) : 0;
  sqlite3_free(z);
  char *zList = notReplicatedList(spoolStrays()), *zDurable = durableCounts();
  z = sqlite3_mprintf("{\"state\":%s,\"not_replicated\":%s,\"durable\":%s}", zState ? zState : "null",
                      zList ? zList : "[]", zDurable ? zDurable : "{}");
  free(zState);
  sqlite3_free(zList);
  sqlite3_free(zDurable);
  if (z) sqlite3_result_text(ctx, z, -1, sqlite3_free);
  else sqlite3_result_error_nomem(ctx);
}

/* Counts and times of the methods of the writer VFS and of the remote one; the times of those that
** are quick are sampled. */
static void perfFunction(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  char *z = recorderPerf(), *zRemote = remotePerf();
  if (z && zRemote) z = sqlite3_mprintf("{\"libverneuil_vfs\":%z,\"verneuil_remote\":%s}", z, zRemote);
  else sqlite3_free(z), z = 0;
  sqlite3_free(zRemote);
  if (z) sqlite3_result_text(ctx, z, -1, sqlite3_free);
  else sqlite3_result_error_nomem(ctx);
}

/* Flushes a database that lives in a store, as the pragma does; 0: it is no such database. */
static int flushStored(sqlite3_context *ctx, sqlite3 *db, const char *zSchema) {
  char *az[] = {0, "verneuil_flush_replication_data", 0, 0};
  int rc = sqlite3_file_control(db, zSchema, SQLITE_FCNTL_PRAGMA, az);
  if (!az[0]) return 0;
  char *z = rc == SQLITE_OK ? 0 : sqlite3_mprintf("verneuil_flush: database %s: %s", zSchema, az[0]);
  if (rc == SQLITE_OK) sqlite3_result_int(ctx, !strcmp(az[0], "1"));
  else if (z) sqlite3_result_error(ctx, z, -1);
  else sqlite3_result_error_nomem(ctx);
  sqlite3_free(z);
  sqlite3_free(az[0]);
  return 1;
}

/* Asks who records a database of the connection, main if it is not named or NULL, for zFunction;
** 0: the function has its result, as a rule that it has failed, and why. */
static int ask(sqlite3_context *ctx, const char *zFunction, int argc, sqlite3_value **argv, RecorderQuestion *p) {
  sqlite3 *db = sqlite3_context_db_handle(ctx);
  const char *zSchema = argc && sqlite3_value_type(argv[0]) != SQLITE_NULL ? (const char *)sqlite3_value_text(argv[0]) : "main";
  sqlite3_vfs *pVfs;
  char *z = 0;
  if (!zSchema) {
    sqlite3_result_error_nomem(ctx);
    return 0;
  }
  if (recorderAsk(db, zSchema, p) && !p->zWhy) return 1;
  if (p->flush && !p->answered && flushStored(ctx, db, zSchema)) return 0;
  if (!p->zWhy && sqlite3_file_control(db, zSchema, SQLITE_FCNTL_VFS_POINTER, &pVfs) != SQLITE_OK) {
    z = sqlite3_mprintf("%s: no such database: %s", zFunction, zSchema);
  } else {
    z = sqlite3_mprintf("%s: database %s is not replicated: %z", zFunction, zSchema,
                        p->zWhy ? p->zWhy : bypassWhy(db, zSchema));
  }
  if (z) sqlite3_result_error(ctx, z, -1);
  else sqlite3_result_error_nomem(ctx);
  sqlite3_free(z);
  return 0;
}

/* verneuil_flush(SCHEMA): pushes what is committed. 1: every target has it, 0: not yet; an error where
** nobody replicates it. */
static void flushFunction(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  RecorderQuestion question = {.flush = 1};
  if (ask(ctx, "verneuil_flush", argc, argv, &question)) sqlite3_result_int(ctx, question.isSent);
}

/* verneuil_replicated(SCHEMA): 1, or an error that says why it is not. It waits for nothing. */
static void replicatedFunction(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  RecorderQuestion question = {.settle = 1};
  if (ask(ctx, "verneuil_replicated", argc, argv, &question)) sqlite3_result_int(ctx, 1);
}

static void versionFunction(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
  (void)argc;
  (void)argv;
  sqlite3_result_text(ctx, VERNEUIL_VERSION, -1, SQLITE_STATIC);
}

int verneuilFunctions(sqlite3 *db) {
  static const int flags = SQLITE_UTF8 | SQLITE_DIRECTONLY;
  int rc = sqlite3_create_function(db, "verneuil_status", 0, flags, 0, statusFunction, 0, 0);
  for (int n = 0; n <= 1 && rc == SQLITE_OK; n++) {
    rc = sqlite3_create_function(db, "verneuil_flush", n, flags, 0, flushFunction, 0, 0);
    if (rc == SQLITE_OK) rc = sqlite3_create_function(db, "verneuil_replicated", n, flags, 0, replicatedFunction, 0, 0);
  }
  if (rc == SQLITE_OK) rc = sqlite3_create_function(db, "verneuil_perf", 0, flags, 0, perfFunction, 0, 0);
  if (rc == SQLITE_OK)
    rc = sqlite3_create_function(db, "verneuil_version", 0, flags | SQLITE_DETERMINISTIC, 0, versionFunction, 0, 0);
  return rc;
}
