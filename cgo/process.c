/*
** Facts of this process, in a page that the kernel clears in every child.
*/
#define _GNU_SOURCE
#include "process.h"
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

uint64_t verneuilToken(void) {
  uint64_t token = atomic_load_explicit(&own->token, memory_order_relaxed);
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
  uint64_t space = stat("/proc/self/ns/pid", &ns) ? 0 : ns.st_ino & 0x3ff;
  token = space << 54 | (uint64_t)getpid() << 32 | (start & 0xffffffffu);
  atomic_store_explicit(&own->token, token, memory_order_relaxed);
  return token;
}

void processRunsGo(void) { atomic_store_explicit(&own->hasGo, 1, memory_order_relaxed); }

int processHasGo(void) { return atomic_load_explicit(&own->hasGo, memory_order_relaxed) != 0; }
