/*
** The Go runtime inside a host that knows nothing of Go: started late, on threads of
** its own (gort_threads.c), never used in a forked child, and given a bounded moment when the
** process ends (wake.c).
**
** golazy.ld takes the runtime's constructor out of DT_INIT_ARRAY and brackets
** it with two symbols; linked without that script (into a Go program), the
** symbols are null, the runtime runs already, and only the fork rules apply.
*/
#define _GNU_SOURCE
#include "gort.h"
#include "goexports.h"
#include "gort_limits.h"
#include "gort_signals.h"
#include "gort_threads.h"
#include "log.h"
#include "process.h"
#include "quiet.h"
#include "verneuil.h"
#include "wake.h"
SQLITE_EXTENSION_INIT3
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

typedef void (*GoInit)(int, char **, char **);
extern GoInit __go_rt_init_start[] __attribute__((weak, visibility("hidden")));
extern GoInit __go_rt_init_end[] __attribute__((weak, visibility("hidden")));
extern char **environ;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static atomic_int started;            /* by this process or by an ancestor */
static atomic_int refused;            /* limits forbade the start: said once */
static char *zRefused;                /* and which */

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void parentOfFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
}

__attribute__((constructor)) static void gortLoad(void) {
  pthread_atfork(beforeFork, parentOfFork, childOfFork);
  if (!__go_rt_init_start) {
    processRunsGo();
    started = 1;
  }
}

int verneuilGoRuns(void) {
  return atomic_load_explicit(&started, memory_order_acquire) && processHasGo() && !threadsStalled();
}

int verneuilForked(void) { return atomic_load_explicit(&started, memory_order_acquire) && !processHasGo(); }

/* What Go takes for the initial stack: argv, NULL, envp..., NULL, auxv. The
** runtime keeps pointers into it, so it is never freed. */
static char **initialStack(int foreignGo) {
  static const unsigned long aux[] = {AT_PAGESZ, AT_HWCAP, AT_SECURE, AT_RANDOM, AT_SYSINFO_EHDR, AT_HWCAP2};
  const size_t nAux = sizeof aux / sizeof *aux;
  size_t n = 0, k = 0;
  while (environ && environ[n]) n++;
  char **b = calloc(2 + 2 + n + 1 + 2 * nAux + 2, sizeof *b);
  if (!b) return 0;
  b[k++] = (char *)"libverneuil_vfs";
  b[k++] = 0;
  if (foreignGo) b[k++] = (char *)"GODEBUG=asyncpreemptoff=1";
  b[k++] = (char *)"GOGC=50";
  for (size_t i = 0; i < n; i++) {
    if (getauxval(AT_SECURE)) break; /* not what the caller of a setuid program says: configuration, credentials, GODEBUG */
    if (!strncmp(environ[i], "GOGC=", 5)) continue;
    if (foreignGo && !strncmp(environ[i], "GODEBUG=", 8)) continue;
    char *z = strdup(environ[i]);
    if (z) b[k++] = z;
  }
  b[k++] = 0;
  for (size_t i = 0; i < nAux; i++) {
    unsigned long v = getauxval(aux[i]);
    if (v) {
      b[k++] = (char *)aux[i];
      b[k++] = (char *)v;
    }
  }
  return b;
}

/* A host may have closed its stdin, stdout or stderr, and yet write to them. None of
** the files that Go opens shall be found there: a mirror, say. SQLite fills the
** places likewise (os_unix.c, robust_open). Where there is no /dev, with what cannot be
** written to either. */
static void occupyStdio(void) {
  int fd;
  while (((fd = open("/dev/null", O_RDWR)) >= 0 || (fd = open("/", O_PATH)) >= 0) && fd <= 2) continue;
  if (fd > 2) close(fd);
}

/* What the start tells. */
typedef struct Start {
  int isOk;                           /* Go runs */
  int isBlocked;                      /* its threads leave blocked what we have blocked */
} Start;

static void atExit(void) {
  if (verneuilGoRuns()) exitWait();
}

int exitFirst(void) { return atexit(atExit); }

/* Starts the runtime, whose threads inherit this one's mask. */
static void startRuntime(void *pArg) {
  Start *p = pArg;
  HostSignals signals;
  struct rlimit files;
  signalsNote(&signals);
  limitsNote(&files);
  char **stack = initialStack(signalsHandled(&signals, SIGURG));
  if (!stack) return;
  occupyStdio();
  p->isBlocked = signalsKeepBlocked();
  for (GoInit *f = __go_rt_init_start; f < __go_rt_init_end; f++) (*f)(1, stack, environ);
  goReady();
  signalsRestore(&signals);
  limitsRestore(&files);
  atexit(atExit);
  p->isOk = 1;
}

const char *verneuilRefused(void) {
  if (refused) return zRefused;
  return threadsStalled() ? "replication waits, because the process cannot create more threads (RLIMIT_NPROC, pids.max, seccomp)" : 0;
}

int verneuilGo(void) {
  if (atomic_load_explicit(&started, memory_order_acquire)) return verneuilGoRuns();
  Start start = {0};
  Quiet q = quietLock(&mu);
  if (!started && !refused) {
    zRefused = limitReached();
    if (!zRefused) onOurThread(startRuntime, &start);
    if (start.isOk) {
      processRunsGo();
      atomic_store_explicit(&started, 1, memory_order_release);
    } else {
      if (!zRefused) zRefused = sqlite3_mprintf("out of memory");
      refused = 1; /* who asked says so */
    }
  }
  quietUnlock(&mu, q);
  if (start.isOk && !start.isBlocked)
    verneuilLog(VERNEUIL_WARN,
                "the Go runtime's table of signals was not found: its threads may take a SIGCHLD that this "
                "program has blocked to wait for it (sigwait, signalfd), or run its handler of SIGPROF");
  return verneuilGoRuns();
}
