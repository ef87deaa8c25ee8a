/*
** Registration: the entry point's work, and what runs for each new connection.
*/
#define _GNU_SOURCE
#include "init.h"
#include "adopt.h"
#include "base.h"
#include "below.h"
#include "bypass.h"
#include "ceph.h"
#include "config.h"
#include "functions.h"
#include "log.h"
#include "recorder.h"
#include "remote.h"
#include "snapshot.h"
#include "wake.h"
SQLITE_EXTENSION_INIT3
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* sqlite3_vfs_register and friends have been there much longer; this is the
** version that the README names, and the oldest that is tested. */
#define OLDEST_SQLITE 3030000

/* The default VFS encrypts, and must stand above ours: then it still is the default. */
static int ciphersDefault(sqlite3_vfs *pDefault) {
  sqlite3_vfs *pAbove = belowAboveOurs();
  if (pAbove) return sqlite3_vfs_register(pAbove, 1);
  verneuilLog(VERNEUIL_WARN, "make_default: databases opened with the VFS %s are not replicated: open them with multipleciphers-verneuil", pDefault->zName);
  return SQLITE_OK;
}

/* The VFSes, registered: sqlite3_shutdown() and the sqlite3_initialize() that follows put
** the base back in front, and a host may have taken ours out. Loading again mends both. If the host
** has made a third VFS the default, that stays the default. Where the default VFS cannot be hooked
** in its place, ours takes that place. */
static int registerVfs(char **pzErr) {
  int rc = SQLITE_OK;
  sqlite3_vfs *pMine = sqlite3_vfs_find("verneuil");
  if (pMine && !recorderIs(pMine)) {
    *pzErr = sqlite3_mprintf("another copy of this library has registered a VFS called verneuil already");
    return SQLITE_ERROR;
  }
  sqlite3_vfs *pDefault = sqlite3_vfs_find(0);
  int hooks = verneuilConfig.makeDefault && !belowIsCipher(pDefault) && recorderHookDefault();
  int takesOver = verneuilConfig.makeDefault && !hooks && pDefault == verneuilBase;
  int isNew = !pMine || !sqlite3_vfs_find("verneuil_snapshot") || !sqlite3_vfs_find("verneuil_remote") ||
              (verneuilConfig.cephVfs && !sqlite3_vfs_find("ceph"));
  if (isNew) rc = snapshotRegister();
  if (isNew && rc == SQLITE_OK) rc = remoteRegister(verneuilConfig.cephVfs);
  if (rc == SQLITE_OK && (isNew || takesOver)) rc = recorderRegister(takesOver); /* next after the default */
  if (rc == SQLITE_OK && verneuilConfig.makeDefault && belowIsCipher(pDefault)) rc = ciphersDefault(pDefault);
  if (rc != SQLITE_OK) *pzErr = sqlite3_mprintf("cannot register the verneuil VFS");
  return rc;
}

/* Was the library loaded under the name of Ceph's? */
static _Atomic int isCephs;

static int registerAll(char **pzErr) {
  static _Atomic int done;
  static _Thread_local int busy; /* configRead and belowAboveOurs open connections, which run us again */
  static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* sqlite3_vfs_register takes SQLite's own */
  int rc = SQLITE_OK;
  EarlyConfig config = {0};
  if (busy) return SQLITE_OK;
  busy = 1;
  if (!done) configRead(&config); /* make_default must be known before any database is opened */
  pthread_mutex_lock(&mu);
  if (!done) {
    verneuilBase = belowCiphers(sqlite3_vfs_find(0));
    sqlite3_free(verneuilConfig.zProblem); /* of a registration that failed */
    verneuilConfig = config;
    config.zProblem = 0;
  }
  if (isCephs) verneuilConfig.cephVfs = 1;
  exitYields(recorderExcludes);
  if (verneuilBase) rc = registerVfs(pzErr);
  else *pzErr = sqlite3_mprintf("SQLite has no VFS in this process"), rc = SQLITE_ERROR;
  if (rc == SQLITE_OK) done = 1;
  pthread_mutex_unlock(&mu);
  busy = 0;
  sqlite3_free(config.zProblem);
  return rc;
}

/* Sets the api pointer, once: other threads use it. One SQLite per process: the
** VFSes are registered with the first that can have them. */
static int useApi(char **pzErr, const sqlite3_api_routines *pApi) {
  static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
  static _Atomic(const char *) zUsed; /* sqlite3_libversion(), once the pointer is set */
  int rc = SQLITE_ERROR;
  /* each connection comes by here: a child must not find the mutex locked forever that was
  ** forked while another thread opened one */
  if (zUsed && zUsed == pApi->libversion()) return SQLITE_OK;
  pthread_mutex_lock(&mu);
  if (pApi->libversion_number() < OLDEST_SQLITE) {
    *pzErr = pApi->mprintf("verneuil needs SQLite 3.30 or newer, and this program has %s: update its SQLite, "
                           "or back up its databases with verneuilctl sync", pApi->libversion());
  } else if (sqlite3_api && sqlite3_libversion() != pApi->libversion()) {
    *pzErr = pApi->mprintf("verneuil is already loaded into another SQLite library of this process");
  } else {
    if (!sqlite3_api) SQLITE_EXTENSION_INIT2(pApi);
    zUsed = sqlite3_libversion();
    rc = SQLITE_OK;
  }
  pthread_mutex_unlock(&mu);
  return rc;
}

static int functions(sqlite3 *db) {
  int rc = verneuilFunctions(db);
  return rc == SQLITE_OK && verneuilConfig.cephVfs ? cephFunctions(db) : rc;
}

/* For each new connection. What the host does with VFSes is its business then. */
static int newConnection(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi) {
  int rc = useApi(pzErr, pApi);
  if (rc == SQLITE_OK) rc = functions(db);
  if (rc == SQLITE_OK) bypassTell(db, 0);
  return rc;
}

int verneuilInit(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi) {
  int rc = useApi(pzErr, pApi);
  if (rc == SQLITE_OK) rc = registerAll(pzErr);
  if (rc == SQLITE_OK) rc = functions(db);
  if (rc == SQLITE_OK) adoptAll(db);
  if (rc == SQLITE_OK) bypassTell(db, 1);
  return rc;
}

/* What SQLite looks for in libverneuil_vfs.so. Later connections of the process
** get the SQL functions too.
**
** It stays in the process by itself (the linker's -z nodelete), and returns SQLITE_OK and not
** SQLITE_OK_LOAD_PERMANENTLY: that is an error to sqlite3_auto_extension (loadext.c,
** sqlite3AutoLoadExtensions), to which a host may give this function. */
__attribute__((visibility("default"))) int sqlite3_verneuilvfs_init(sqlite3 *db, char **pzErr,
                                                                    const sqlite3_api_routines *pApi) {
  int rc = verneuilInit(db, pzErr, pApi);
  if (rc == SQLITE_OK) rc = sqlite3_auto_extension((void (*)(void))newConnection);
  return rc;
}

/* What SQLite looks for in a library that is called libcephsqlite.so: ours, under that name, has
** "ceph_vfs" without any configuration. */
__attribute__((visibility("default"))) int sqlite3_cephsqlite_init(sqlite3 *db, char **pzErr,
                                                                   const sqlite3_api_routines *pApi) {
  isCephs = 1;
  return sqlite3_verneuilvfs_init(db, pzErr, pApi);
}
