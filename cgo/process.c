/*
** Facts of this process, in a page that the kernel clears in every child.
*/
#define _GNU_SOURCE
#include "process.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Facts {
  _Atomic uint64_t token;          /* 0: not yet asked for */
  _Atomic uint64_t hasGo;
} Facts;

static Facts *own;
static Facts fallback;             /* without memory: then a raw clone() has its parent's */

static void clearFacts(void) {
  own->token = 0;
  own->hasGo = 0;
}

/* Before the constructors of files that may say something of the process. */
__attribute__((constructor(101))) static void processLoad(void) {
  void *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  own = &fallback;
  if (p != MAP_FAILED) {
    own = p;
#ifdef MADV_WIPEONFORK
    madvise(p, 4096, MADV_WIPEONFORK);
#endif
  }
  pthread_atfork(0, 0, clearFacts);
}

/* What /proc says of a process: its state, and when it started. 0: nothing. */
static int readStat(const char *zName, char *pState, unsigned long long *pStart) {
  static const char zFields[] = /* 3, and 22 */
      " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu";
  char a[1024];
  int fd = open(zName, O_RDONLY | O_CLOEXEC); /* may be below 3: nobody can write to it */
  ssize_t n = fd >= 0 ? read(fd, a, sizeof a - 1) : -1;
  if (fd >= 0) close(fd);
  if (n <= 0) return 0;
  a[n] = 0;
  char *z = strrchr(a, ')'); /* field 2 is the command in parentheses, and may hold anything */
  return z && sscanf(z + 1, zFields, pState, pStart) == 2;
}

uint64_t verneuilToken(void) {
  uint64_t token = atomic_load_explicit(&own->token, memory_order_relaxed);
  if (token) return token;
  char state;
  unsigned long long start = 0;
  struct stat ns;
  readStat("/proc/self/stat", &state, &start);
  uint64_t space = stat("/proc/self/ns/pid", &ns) ? 0 : ns.st_ino & 0x3ff;
  token = space << 54 | (uint64_t)getpid() << 32 | (start & 0xffffffffu);
  atomic_store_explicit(&own->token, token, memory_order_relaxed);
  return token;
}

int processIsAlive(uint64_t token) {
  char zName[32], state;
  unsigned long long start;
  snprintf(zName, sizeof zName, "/proc/%u/stat", verneuilPid(token)); /* there is no 0 */
  return readStat(zName, &state, &start) && (uint32_t)start == (uint32_t)token && state != 'Z' &&
         state != 'X';
}

void processRunsGo(void) { atomic_store_explicit(&own->hasGo, 1, memory_order_relaxed); }

int processHasGo(void) { return atomic_load_explicit(&own->hasGo, memory_order_relaxed) != 0; }
