/*
** Signals, in a host that knows nothing of Go: threads of ours have the host's signals blocked, and
** what the runtime's start changes is put back.
*/
#define _GNU_SOURCE
#include "gort_signals.h"
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) __attribute__((weak));

int makeThread(pthread_t *pThread, void *(*xRun)(void *), void *pArg) {
  static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGURG};
  sigset_t all, old;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) sigdelset(&all, kept[i]);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = (__real_pthread_create ? __real_pthread_create : pthread_create)(pThread, 0, xRun, pArg);
  pthread_sigmask(SIG_SETMASK, &old, 0);
  return rc;
}

/* ---- the runtime's table ---- */

/* An entry of the runtime's table of signals (runtime/signal_unix.go, sigTabT). */
typedef struct GoSignal {
  int flags;
  const char *z; /* not NUL-terminated */
  long n;
} GoSignal;
#define GO_UNBLOCK 128 /* runtime2.go, _SigUnblock */
#define GO_SIGNALS 65

/* The table was found. This lies in the library's data, as the table does. */
static int isBlocked;

/* The library as it is mapped. */
typedef struct Image {
  const char *zFrom, *zTo, *zData, *zDataEnd;
} Image;

static int isSignal(const Image *p, const GoSignal *pSignal, const char *zName) {
  size_t n = strlen(zName);
  return pSignal->flags & GO_UNBLOCK && (size_t)pSignal->n >= n && pSignal->n < 100 && pSignal->z >= p->zFrom &&
         pSignal->z < p->zTo - 100 && !memcmp(pSignal->z, zName, n);
}

static int keepBlocked(const Image *p) {
  for (const char *z = p->zData; z + GO_SIGNALS * sizeof(GoSignal) <= p->zDataEnd; z += 8) {
    GoSignal *a = (GoSignal *)z;
    if (!isSignal(p, &a[SIGCHLD], "SIGCHLD: ") || !isSignal(p, &a[SIGPROF], "SIGPROF: ")) continue;
    a[SIGCHLD].flags &= ~GO_UNBLOCK;
    a[SIGPROF].flags &= ~GO_UNBLOCK;
    return 1;
  }
  return 0;
}

static int findImage(struct dl_phdr_info *pInfo, size_t n, void *pArg) {
  const char *zBase = (const char *)pInfo->dlpi_addr, *zOurs = (const char *)&isBlocked;
  Image image = {(const char *)-1, 0, 0, 0};
  (void)n;
  (void)pArg;
  for (int i = 0; i < pInfo->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &pInfo->dlpi_phdr[i];
    if (p->p_type != PT_LOAD) continue;
    const char *zFrom = zBase + p->p_vaddr;
    if (zFrom < image.zFrom) image.zFrom = zFrom;
    if (zFrom + p->p_memsz > image.zTo) image.zTo = zFrom + p->p_memsz;
    if (!(p->p_flags & PF_W) || zOurs < zFrom || zOurs >= zFrom + p->p_memsz) continue;
    image.zData = (const char *)(((uintptr_t)zFrom + 7) & ~(uintptr_t)7);
    image.zDataEnd = zFrom + p->p_filesz;
  }
  if (!image.zData) return 0; /* another library */
  isBlocked = keepBlocked(&image);
  return 1;
}

/* The runtime unblocks SIGCHLD and SIGPROF on each of its threads, whatever mask they
** inherit (blockableSig). Then a host that has blocked SIGCHLD, to wait for it by sigwait
** or a signalfd, never gets one: the kernel gives it to a thread of Go's, where it is
** ignored. And a profiler's handler would run on a goroutine's stack. There is no
** setting for it; so this takes the mark out of the runtime's table before it starts. Another
** version of Go may have another table: then none is found. */
int signalsKeepBlocked(void) {
  dl_iterate_phdr(findImage, 0);
  return isBlocked;
}

/* ---- the host's handlers ---- */

static int hasHandler(const struct sigaction *p) { return p->sa_handler != SIG_DFL && p->sa_handler != SIG_IGN; }

int signalsHandled(const HostSignals *p, int signal) { return hasHandler(&p->a[signal]); }

void signalsNote(HostSignals *p) {
  memset(p, 0, sizeof *p);
  for (int i = 1; i < NSIG; i++) sigaction(i, 0, &p->a[i]); /* not of the C library's own */
}

/* The runtime marks the host's handlers SA_ONSTACK (runtime/signal_unix.go, setsigstack),
** takes SIGPIPE, and SIGURG, which in a host that is itself Go is preemption. */
void signalsRestore(const HostSignals *p) {
  struct sigaction now;
  for (int i = 1; i < NSIG; i++) {
    const struct sigaction *pWas = &p->a[i];
    int isMarked = hasHandler(pWas) && !sigaction(i, 0, &now) && now.sa_handler == pWas->sa_handler;
    if (isMarked || i == SIGPIPE || (i == SIGURG && hasHandler(pWas))) sigaction(i, pWas, 0);
  }
}
