/*
** The Go runtime inside a host that knows nothing of Go: started late, with the
** host's signals kept off its threads, never used in a forked child, and given a
** bounded moment when the process ends.
**
** golazy.ld takes the runtime's constructor out of DT_INIT_ARRAY and brackets
** it with two symbols; linked without that script (into a Go program), the
** symbols are null, the runtime runs already, and only the fork rules apply.
*/
#define _GNU_SOURCE
#include "verneuil.h"
#include "goexports.h"
#include "spool.h"
SQLITE_EXTENSION_INIT3
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

typedef void (*GoInit)(int, char **, char **);
extern GoInit __go_rt_init_start[] __attribute__((weak, visibility("hidden")));
extern GoInit __go_rt_init_end[] __attribute__((weak, visibility("hidden")));
extern char **environ;

/* What must be free for the runtime to start: address space, of which it reserves most
** at once; memory that can be written to, with threads' stacks and some work; threads,
** with one to spare; descriptors, with those of one database. */
#define GORT_ADDRESS_BYTES ((size_t)1536 << 20)
#define GORT_DATA_BYTES ((size_t)256 << 20)
#define GORT_THREADS 6
#define GORT_FILES 20

/* How long a process that ends waits for unsent data to leave. */
#define GORT_EXIT_MS 3000

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static atomic_int started;            /* by this process or by an ancestor */
static atomic_int refused;            /* limits forbade the start: said once */

/* A page that the kernel zeroes in every child, also after a raw clone() that
** runs no atfork handler. [0]: this process's token, [1]: it runs Go. */
static _Atomic sqlite3_uint64 *own;
static _Atomic sqlite3_uint64 fallback[2];

static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  own[0] = 0;
  own[1] = 0;
}
static void beforeFork(void) { pthread_mutex_lock(&mu); }
static void parentOfFork(void) { pthread_mutex_unlock(&mu); }

__attribute__((constructor)) static void gortLoad(void) {
  void *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  own = fallback;
  if (p != MAP_FAILED) {
    own = p;
#ifdef MADV_WIPEONFORK
    madvise(p, 4096, MADV_WIPEONFORK);
#endif
  }
  pthread_atfork(beforeFork, parentOfFork, childOfFork);
  if (!__go_rt_init_start) {
    own[1] = 1;
    started = 1;
  }
}

sqlite3_uint64 verneuilToken(void) {
  sqlite3_uint64 token = atomic_load_explicit(&own[0], memory_order_relaxed);
  if (token) return token;
  char buf[1024];
  unsigned long long start = 0;
  FILE *f = fopen("/proc/self/stat", "re");
  if (f) {
    size_t n = fread(buf, 1, sizeof buf - 1, f);
    fclose(f);
    buf[n] = 0;
    /* field 2 is the command in parentheses and may hold anything */
    char *z = strrchr(buf, ')');
    if (z) sscanf(z + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &start);
  }
  token = (sqlite3_uint64)getpid() << 32 | (start & 0xffffffffu);
  atomic_store_explicit(&own[0], token, memory_order_relaxed);
  return token;
}

int verneuilGoRuns(void) {
  return atomic_load_explicit(&started, memory_order_acquire) &&
         atomic_load_explicit(&own[1], memory_order_relaxed);
}

int verneuilForked(void) {
  return atomic_load_explicit(&started, memory_order_acquire) &&
         !atomic_load_explicit(&own[1], memory_order_relaxed);
}

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

static void *waitForGate(void *p) {
  pthread_mutex_lock(p);
  pthread_mutex_unlock(p);
  return 0;
}

static int canMakeThreads(void) {
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_t t[GORT_THREADS];
  int n = 0;
  pthread_mutex_lock(&gate);
  while (n < GORT_THREADS && !pthread_create(&t[n], 0, waitForGate, &gate)) n++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < n; i++) pthread_join(t[i], 0);
  return n == GORT_THREADS;
}

static int canMap(size_t n, int prot) {
  void *p = mmap(0, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p != MAP_FAILED && !munmap(p, n);
}

static int canOpenFiles(void) {
  int a[GORT_FILES], n = 0;
  while (n < GORT_FILES && (a[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) n++;
  for (int i = 0; i < n; i++) close(a[i]);
  return n == GORT_FILES;
}

/* A runtime that cannot have what it needs aborts the process: try beforehand what
** limits leave. Returns the reason for a refusal, or NULL. */
static const char *limitReached(void) {
  struct rlimit r;
  if (!canMap(GORT_ADDRESS_BYTES, PROT_NONE)) return "less than 1.5 GiB of address space is free (RLIMIT_AS)";
  if (!canMap(GORT_DATA_BYTES, PROT_READ | PROT_WRITE)) return "less than 256 MiB of memory is free (RLIMIT_DATA)";
  if (!canOpenFiles()) return "less than 20 descriptors are free (RLIMIT_NOFILE)";
  if (!getrlimit(RLIMIT_FSIZE, &r) && r.rlim_cur < SPOOL_SEGMENT_BYTES)
    return "files are limited to less than 1 MiB (RLIMIT_FSIZE)";
  return canMakeThreads() ? 0 : "no threads can be made (RLIMIT_NPROC)";
}

/* A host may have closed its stdin, stdout or stderr, and yet write to them. None of
** the files that Go opens shall be found there: a mirror, say. SQLite fills the
** places likewise (os_unix.c, robust_open). */
static void occupyStdio(void) {
  int fd;
  while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2) continue;
  if (fd > 2) close(fd);
}

static void atExit(void) {
  if (verneuilGoRuns()) goExit(GORT_EXIT_MS);
}

/* An entry of the runtime's table of signals (runtime/signal_unix.go, sigTabT). */
typedef struct GoSignal {
  int flags;
  const char *z; /* not NUL-terminated */
  long n;
} GoSignal;
#define GO_UNBLOCK 128 /* runtime2.go, _SigUnblock */
#define GO_SIGNALS 65

/* The library as it is mapped. */
typedef struct Image {
  const char *zFrom, *zTo, *zData, *zDataEnd;
} Image;

static int isSignal(const Image *p, const GoSignal *pSignal, const char *zName) {
  size_t n = strlen(zName);
  return pSignal->flags & GO_UNBLOCK && (size_t)pSignal->n >= n && pSignal->n < 100 && pSignal->z >= p->zFrom &&
         pSignal->z < p->zTo - 100 && !memcmp(pSignal->z, zName, n);
}

static void keepBlocked(const Image *p) {
  for (const char *z = p->zData; z + GO_SIGNALS * sizeof(GoSignal) <= p->zDataEnd; z += 8) {
    GoSignal *a = (GoSignal *)z;
    if (!isSignal(p, &a[SIGCHLD], "SIGCHLD: ") || !isSignal(p, &a[SIGPROF], "SIGPROF: ")) continue;
    a[SIGCHLD].flags &= ~GO_UNBLOCK;
    a[SIGPROF].flags &= ~GO_UNBLOCK;
    return;
  }
}

static int findImage(struct dl_phdr_info *pInfo, size_t n, void *pArg) {
  const char *zBase = (const char *)pInfo->dlpi_addr;
  Image image = {(const char *)-1, 0, 0, 0};
  (void)n;
  (void)pArg;
  for (int i = 0; i < pInfo->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &pInfo->dlpi_phdr[i];
    if (p->p_type != PT_LOAD) continue;
    const char *zFrom = zBase + p->p_vaddr;
    if (zFrom < image.zFrom) image.zFrom = zFrom;
    if (zFrom + p->p_memsz > image.zTo) image.zTo = zFrom + p->p_memsz;
    if (!(p->p_flags & PF_W) || (const char *)&started < zFrom || (const char *)&started >= zFrom + p->p_memsz) continue;
    image.zData = (const char *)(((uintptr_t)zFrom + 7) & ~(uintptr_t)7);
    image.zDataEnd = zFrom + p->p_filesz;
  }
  if (!image.zData) return 0; /* another library */
  keepBlocked(&image);
  return 1;
}

/* The runtime unblocks SIGCHLD and SIGPROF on each of its threads, whatever mask they
** inherit (blockableSig). Then a host that has blocked SIGCHLD, to wait for it by sigwait
** or a signalfd, never gets one: the kernel gives it to a thread of Go's, where it is
** ignored. And a profiler's handler would run on a goroutine's stack. There is no
** setting for it; so this takes the mark out of the runtime's table before it starts. Should
** another version of Go have another table, none is found, and nothing done. */
static void blockSignals(void) { dl_iterate_phdr(findImage, 0); }

/* The runtime's threads inherit the mask, so that the host's handlers never run
** on a goroutine's small stack; SIGURG goes back to a host that is itself Go,
** whose preemption it is. */
static void startRuntime(void) {
  static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGURG};
  struct sigaction urg, now;
  sigset_t all, old;
  sigaction(SIGURG, 0, &urg);
  int foreignGo = urg.sa_handler != SIG_DFL && urg.sa_handler != SIG_IGN;
  char **stack = initialStack(foreignGo);
  if (!stack) return;
  occupyStdio();
  blockSignals();
  sigfillset(&all);
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) sigdelset(&all, kept[i]);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  for (GoInit *f = __go_rt_init_start; f < __go_rt_init_end; f++) (*f)(1, stack, environ);
  pthread_sigmask(SIG_SETMASK, &old, 0);
  sigaction(SIGURG, 0, &now);
  if (foreignGo && now.sa_handler != urg.sa_handler) sigaction(SIGURG, &urg, 0);
  atexit(atExit);
  own[1] = 1;
  atomic_store_explicit(&started, 1, memory_order_release);
}

int verneuilGo(void) {
  if (atomic_load_explicit(&started, memory_order_acquire)) return verneuilGoRuns();
  pthread_mutex_lock(&mu);
  if (!started && !refused) {
    const char *zWhy = limitReached();
    if (zWhy) {
      refused = 1;
      verneuilLog(VERNEUIL_ERROR, "not replicating: %s", zWhy);
    } else {
      startRuntime();
    }
  }
  pthread_mutex_unlock(&mu);
  return verneuilGoRuns();
}
