/*
** Limits: what must be free for the Go runtime to start, and what it changes of them.
*/
#define _GNU_SOURCE
#include "gort_limits.h"
#include "gort_signals.h"
#include "spool.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/* Address space: 2.1 GiB were in use by a process that replicates one database on two processors, of
** which the runtime reserves most when it starts, and the C library 64 MiB or more for each thread
** that allocates; if it has less, it ends the process. Memory that can be written to, with
** threads' stacks and some work; threads, with one to spare; descriptors, with those of one
** database. */
#define NEED_ADDRESS_MIB 2560
#define NEED_ADDRESS_PROCESSOR_MIB 128 /* for each */
#define NEED_DATA_BYTES ((size_t)256 << 20)
#define NEED_THREADS 12
#define NEED_FILES 20

static void *waitForGate(void *p) {
  pthread_mutex_lock(p);
  pthread_mutex_unlock(p);
  return 0;
}

/* 0 or an errno: there are limits of the user's, of the control group's, and filters. */
static int tryThreads(void) {
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_t t[NEED_THREADS];
  int n = 0, rc = 0;
  pthread_mutex_lock(&gate);
  while (n < NEED_THREADS && !(rc = makeThread(&t[n], waitForGate, &gate))) n++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < n; i++) pthread_join(t[i], 0);
  return rc;
}

static int canMap(size_t n, int prot) {
  void *p = mmap(0, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p != MAP_FAILED && !munmap(p, n);
}

static int canOpenFiles(void) {
  int a[NEED_FILES], n = 0;
  while (n < NEED_FILES && (a[n] = open("/", O_PATH | O_CLOEXEC)) >= 0) n++;
  for (int i = 0; i < n; i++) close(a[i]);
  return n == NEED_FILES;
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

char *limitReached(void) {
  struct rlimit r;
  const char *z = 0;
  int rc = 0;
  long nProcessor = sysconf(_SC_NPROCESSORS_ONLN);
  size_t nMib = NEED_ADDRESS_MIB + NEED_ADDRESS_PROCESSOR_MIB * (size_t)(nProcessor > 0 ? nProcessor : 1);
  if (!canMap(nMib << 20, PROT_NONE))
    return sqlite3_mprintf("less than %d MiB of address space is free (RLIMIT_AS)", (int)nMib);
  if (!canMap(NEED_DATA_BYTES, PROT_READ | PROT_WRITE)) z = "less than 256 MiB of memory is free (RLIMIT_DATA)";
  else if (!canOpenFiles()) z = "fewer than 20 descriptors are free (RLIMIT_NOFILE)";
  else if (!getrlimit(RLIMIT_FSIZE, &r) && r.rlim_cur < SPOOL_SEGMENT_BYTES)
    z = "files are limited to less than 1 MiB (RLIMIT_FSIZE)";
  if (z) return sqlite3_mprintf("%s", z);
  if ((z = forbiddenCall())) return sqlite3_mprintf("the system call %s is forbidden (seccomp): %s", z, strerror(errno));
  if ((rc = tryThreads()))
    return sqlite3_mprintf("no thread can be created (RLIMIT_NPROC, pids.max of the control group, or seccomp): %s", strerror(rc));
  return 0;
}

void limitsNote(struct rlimit *p) {
  if (getrlimit(RLIMIT_NOFILE, p)) p->rlim_cur = RLIM_INFINITY;
}

void limitsRestore(const struct rlimit *p) {
  struct rlimit r;
  if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur > p->rlim_cur && r.rlim_max == p->rlim_max) setrlimit(RLIMIT_NOFILE, p);
}
