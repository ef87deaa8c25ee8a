/*
** The Go runtime inside a host that knows nothing of Go: started late, on threads of
** its own (threads.c), never used in a forked child, and given a bounded moment when the
** process ends.
**
** golazy.ld takes the runtime's constructor out of DT_INIT_ARRAY and brackets
** it with two symbols; linked without that script (into a Go program), the
** symbols are null, the runtime runs already, and only the fork rules apply.
*/
#define _GNU_SOURCE
#include "verneuil.h"
#include "goexports.h"
#include "quiet.h"
#include "spool.h"
#include "recorder.h"
#include "threads.h"
#include "wake.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
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
#define GORT_THREADS 12
#define GORT_FILES 20

/* How long a process that ends waits for unsent data to leave; less if store_timeout_ms is. */
#define GORT_EXIT_MS 3000

/* And how much longer, at most, for what there is to say of it. */
#define EXIT_MORE_MS 1000

/* And how often it looks meanwhile whether others wait for its locks. */
#define EXIT_SLICE_MS 10

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static atomic_int started;            /* by this process or by an ancestor */
static atomic_int refused;            /* limits forbade the start: said once */
static char *zRefused;                /* and which */

/* A page that the kernel zeroes in every child, also after a raw clone() that
** runs no atfork handler. [0]: this process's token, [1]: it runs Go. */
static _Atomic sqlite3_uint64 *own;
static _Atomic sqlite3_uint64 fallback[2];

static Quiet forking;
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  own[0] = 0;
  own[1] = 0;
  quietEnd(forking);
}
static void beforeFork(void) { forking = quietLock(&mu); }
static void parentOfFork(void) { quietUnlock(&mu, forking); }

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
  struct stat ns;
  sqlite3_uint64 space = stat("/proc/self/ns/pid", &ns) ? 0 : ns.st_ino & 0x3ff;
  token = space << 54 | (sqlite3_uint64)getpid() << 32 | (start & 0xffffffffu);
  atomic_store_explicit(&own[0], token, memory_order_relaxed);
  return token;
}

int verneuilGoRuns(void) {
  return atomic_load_explicit(&started, memory_order_acquire) &&
         atomic_load_explicit(&own[1], memory_order_relaxed) && !threadsStalled();
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

static void *waitForGate(void *p) {
  pthread_mutex_lock(p);
  pthread_mutex_unlock(p);
  return 0;
}

/* 0 or an errno: there are limits of the user's, of the control group's, and filters. */
static int tryThreads(void) {
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_t t[GORT_THREADS];
  int n = 0, rc = 0;
  pthread_mutex_lock(&gate);
  while (n < GORT_THREADS && !(rc = makeThread(&t[n], waitForGate, &gate))) n++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < n; i++) pthread_join(t[i], 0);
  return rc;
}

static int canMap(size_t n, int prot) {
  void *p = mmap(0, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p != MAP_FAILED && !munmap(p, n);
}

static int canOpenFiles(void) {
  int a[GORT_FILES], n = 0;
  while (n < GORT_FILES && (a[n] = open("/", O_PATH | O_CLOEXEC)) >= 0) n++;
  for (int i = 0; i < n; i++) close(a[i]);
  return n == GORT_FILES;
}

/* Which system call is forbidden, by seccomp(2), that the runtime ends the process without
** (runtime/netpoll_epoll.go, os_linux.go, crypto/internal/sysrand)? NULL: none; else see errno. */
static const char *forbiddenCall(void) {
  struct epoll_event event = {.events = EPOLLIN};
  const char *z = 0;
  char c;
  stack_t stack;
  sigset_t mask;
  if (sigaltstack(0, &stack)) return "sigaltstack";
  if ((errno = pthread_sigmask(SIG_BLOCK, 0, &mask))) return "rt_sigprocmask";
  if (getrandom(&c, 1, GRND_NONBLOCK) < 0 && errno != EAGAIN && errno != ENOSYS) return "getrandom";
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return "epoll_create1";
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) z = "eventfd2";
  else if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) z = "epoll_ctl";
  else if (epoll_pwait(epoll, &event, 1, 0, 0) < 0) z = "epoll_pwait";
  int rc = errno;
  if (fd >= 0) close(fd);
  close(epoll);
  errno = rc;
  return z;
}

/* A runtime that cannot have what it needs aborts the process: try beforehand what
** limits leave. Returns the reason for a refusal, or NULL. */
static char *limitReached(void) {
  struct rlimit r;
  const char *z = 0;
  int rc = 0;
  if (!canMap(GORT_ADDRESS_BYTES, PROT_NONE)) z = "less than 1.5 GiB of address space is free (RLIMIT_AS)";
  else if (!canMap(GORT_DATA_BYTES, PROT_READ | PROT_WRITE)) z = "less than 256 MiB of memory is free (RLIMIT_DATA)";
  else if (!canOpenFiles()) z = "less than 20 descriptors are free (RLIMIT_NOFILE)";
  else if (!getrlimit(RLIMIT_FSIZE, &r) && r.rlim_cur < SPOOL_SEGMENT_BYTES)
    z = "files are limited to less than 1 MiB (RLIMIT_FSIZE)";
  if (z) return sqlite3_mprintf("%s", z);
  if ((z = forbiddenCall())) return sqlite3_mprintf("the system call %s is forbidden (seccomp): %s", z, strerror(errno));
  if ((rc = tryThreads()))
    return sqlite3_mprintf("no threads can be made (RLIMIT_NPROC, or pids.max of the control group, or seccomp): %s", strerror(rc));
  return 0;
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

/* The process's end: none, asked for, and said to all. */
enum { END_NONE, END_ASKED, END_DONE };
static _Atomic uint32_t ending;

int exitAsked(void) { return atomic_load(&ending) == END_ASKED; }

int exitDone(void) {
  atomic_store(&ending, END_DONE);
  return (int)syscall(SYS_futex, &ending, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

/* exit() may be called in a signal's handler: this thread may be in the middle of malloc, of
** Go's start, or of anything of ours. So it allocates nothing, and takes no lock: it rings, and
** waits, but not while a connection of this process keeps others from their locks, which
** would be free by now without us. What is not sent stays in the spool. */
static void atExit(void) {
  static const struct timespec slice = {0, EXIT_SLICE_MS * 1000000};
  struct timespec t;
  if (!verneuilGoRuns() || !bellHeard()) return;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t end = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + GORT_EXIT_MS + EXIT_MORE_MS;
  uint32_t none = END_NONE;
  if (!atomic_compare_exchange_strong(&ending, &none, END_ASKED)) return; /* exit() within exit() */
  bellRing();
  while (atomic_load(&ending) == END_ASKED && !recorderExcludes()) {
    clock_gettime(CLOCK_MONOTONIC, &t);
    if ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 >= end) return;
    syscall(SYS_futex, &ending, FUTEX_WAIT_PRIVATE, END_ASKED, &slice, 0, 0);
  }
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

/* What the start changes in the host, and should not. */
typedef struct Host {
  struct sigaction aSignal[NSIG];
  struct rlimit files;
} Host;

static int hasHandler(const struct sigaction *p) { return p->sa_handler != SIG_DFL && p->sa_handler != SIG_IGN; }

static void noteHost(Host *p) {
  memset(p, 0, sizeof *p);
  for (int i = 1; i < NSIG; i++) sigaction(i, 0, &p->aSignal[i]); /* not of the C library's own */
  if (getrlimit(RLIMIT_NOFILE, &p->files)) p->files.rlim_cur = RLIM_INFINITY;
}

/* The runtime marks the host's handlers SA_ONSTACK (runtime/signal_unix.go, setsigstack),
** takes SIGPIPE, and SIGURG, which in a host that is itself Go is preemption, and raises the
** number of descriptors (syscall/rlimit.go): one that uses select(2) relies on it. */
static void restoreHost(const Host *p) {
  struct sigaction now;
  struct rlimit r;
  for (int i = 1; i < NSIG; i++) {
    const struct sigaction *pWas = &p->aSignal[i];
    int isMarked = hasHandler(pWas) && !sigaction(i, 0, &now) && now.sa_handler == pWas->sa_handler;
    if (isMarked || i == SIGPIPE || (i == SIGURG && hasHandler(pWas))) sigaction(i, pWas, 0);
  }
  if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur > p->files.rlim_cur && r.rlim_max == p->files.rlim_max)
    setrlimit(RLIMIT_NOFILE, &p->files);
}

/* Starts the runtime, whose threads inherit this one's mask. *pOk says whether it runs. */
static void startRuntime(void *pOk) {
  Host host;
  noteHost(&host);
  char **stack = initialStack(hasHandler(&host.aSignal[SIGURG]));
  if (!stack) return;
  occupyStdio();
  blockSignals();
  for (GoInit *f = __go_rt_init_start; f < __go_rt_init_end; f++) (*f)(1, stack, environ);
  goReady();
  restoreHost(&host);
  atexit(atExit);
  *(int *)pOk = 1;
}

const char *verneuilRefused(void) {
  if (refused) return zRefused;
  return threadsStalled() ? "replication waits, as the process can make no more threads (RLIMIT_NPROC, pids.max, seccomp)" : 0;
}

int verneuilGo(void) {
  if (atomic_load_explicit(&started, memory_order_acquire)) return verneuilGoRuns();
  Quiet q = quietLock(&mu);
  if (!started && !refused) {
    int ok = 0;
    zRefused = limitReached();
    if (!zRefused) onOurThread(startRuntime, &ok);
    if (ok) {
      own[1] = 1;
      atomic_store_explicit(&started, 1, memory_order_release);
    } else {
      if (!zRefused) zRefused = sqlite3_mprintf("out of memory");
      refused = 1; /* who asked says so */
    }
  }
  quietUnlock(&mu, q);
  return verneuilGoRuns();
}
