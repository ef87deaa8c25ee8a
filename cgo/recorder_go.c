/*
** What the recorder asks of Go: see recorder_go.h. A forked child cannot run Go. It tells its
** parent by a pipe (children.c), and its flushes wait for the answer in the state page.
*/
#define _GNU_SOURCE
#include "recorder_go.h"
#include "children.h"
#include "goexports.h"
#include "gort.h"
#include "recorder.h"
#include "recorder_settings.h"
#include "spool_attach.h"
#include "spool_stamp.h"
#include "spool_wake.h"
SQLITE_EXTENSION_INIT3
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t telling = PTHREAD_MUTEX_INITIALIZER; /* nHandle and isTold of all spools */

void recorderConfigure(void) {
  if (recorderIsConfigured()) return;
  VerneuilSettings s = {0};
  const char *z = secure_getenv("VERNEUIL_CONFIG");
  if (!z || !*z) s.zError = strdup("VERNEUIL_CONFIG is not set in the environment of this process");
  else if (verneuilGo()) goConfigure(&s);
  else s.zError = strdup(verneuilRefused() ? verneuilRefused() : "the Go runtime cannot run here");
  if (!s.zError && !s.replicate)
    s.zError = strdup("replication_spooling_dir is not set in VERNEUIL_CONFIG");
  recorderSettle(s);
}

static void tellGo(void (*xGo)(char *), const Spool *p) {
  char *zDir = strdup(p->zDir);
  int was = threadsImpatient(1);
  if (zDir) xGo(zDir);
  threadsImpatient(was);
}

/* Go is told of a spool's first handle and of its last only: another thread has to answer, and
** there are hosts that open a connection for each request. Go knows of the first before any handle
** can take a lock. */
void recorderCountHandle(Spool *p, int n) {
  int runs = n > 0 ? verneuilGo() : verneuilGoRuns();
  if (!runs && verneuilForked()) childNote(p->zDir, n > 0);
  pthread_mutex_lock(&telling);
  p->nHandle += n;
  int opened = n > 0 && p->nHandle == 1, closed = !p->nHandle;
  if (closed) stampClosed(p);
  if (runs && p->isTold != (p->nHandle > 0)) {
    tellGo(p->isTold ? goClosed : goOpened, p);
    if (verneuilGoRuns()) p->isTold = !p->isTold; /* else it was given up */
  }
  pthread_mutex_unlock(&telling);
  if (opened) stampOpened(p);
}

static int flushHere(const Spool *p) {
  char *zDir = strdup(p->zDir);
  int was = threadsImpatient(1);
  int done = zDir && goFlush(zDir, recorderSettings.timeoutMs);
  threadsImpatient(was);
  return done;
}

int recorderFlush(Spool *p) {
  if (verneuilGo()) return flushHere(p);
  return verneuilForked() && spoolFlush(p, recorderSettings.timeoutMs);
}

void recorderAskValid(const Spool *p) {
  if (!spoolLost(p) && verneuilGoRuns()) goValidate(p->zDir);
}

static void childOfFork(void) {
  pthread_mutex_init(&telling, 0); /* a thread that waits for Go may have had it */
}
__attribute__((constructor)) static void recorderGoLoad(void) { pthread_atfork(0, 0, childOfFork); }
