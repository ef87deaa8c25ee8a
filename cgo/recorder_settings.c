/*
** The settings of the recorder, and why a database was last opened without replication: see
** recorder_go.h. Who reads the configuration is another file.
*/
#define _GNU_SOURCE
#include "recorder_settings.h"
#include "quiet.h"
#include "recorder.h"
#include "recorder_go.h"
#include "selection.h"
#include "spool_dir.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

VerneuilSettings recorderSettings;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* zProblem, and setting the settings */
static atomic_int isSet;
static char *zProblem; /* malloc'd: it outlives sqlite3_shutdown() */

int recorderIsConfigured(void) { return atomic_load(&isSet); }

static void freeList(char **az) {
  for (int i = 0; az && az[i]; i++) free(az[i]);
  free(az);
}

void recorderSettle(VerneuilSettings s) {
  Quiet q = quietLock(&mu);
  if (!isSet) {
    recorderSettings = s;
    if (s.zError) zProblem = strdup(s.zError);
    if (s.replicate) spoolSettings(s.zRoot, s.permissions);
    selectionSettings(s.azInclude, s.azExclude);
    s.azInclude = s.azExclude = 0;
    s.zRoot = s.zError = 0;
    atomic_store(&isSet, 1);
  }
  quietUnlock(&mu, q);
  free(s.zRoot); /* another thread was faster */
  free(s.zError);
  freeList(s.azInclude);
  freeList(s.azExclude);
}

void recorderNoteProblem(const char *zErr) {
  Quiet q = quietLock(&mu);
  free(zProblem);
  zProblem = zErr ? strdup(zErr) : 0;
  quietUnlock(&mu, q);
}

void recorderForgetProblem(const char *zErr) {
  Quiet q = quietLock(&mu);
  if (zErr && zProblem && !strcmp(zErr, zProblem)) {
    free(zProblem);
    zProblem = 0;
  }
  quietUnlock(&mu, q);
}

char *recorderProblem(void) {
  Quiet q = quietLock(&mu);
  char *z = zProblem ? sqlite3_mprintf("%s", zProblem) : 0;
  quietUnlock(&mu, q);
  return z;
}

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void afterFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
}
__attribute__((constructor)) static void recorderSettingsLoad(void) {
  pthread_atfork(beforeFork, afterFork, childOfFork);
}
