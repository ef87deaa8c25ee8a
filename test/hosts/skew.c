/*
** To be preloaded: the wall clock of this process is wrong by SKEW seconds. Go asks the kernel, and
** not the C library; SQLite and librados are wrong.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew(void) {
  const char *z = getenv("SKEW");
  return z ? atol(z) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *p) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int rc = real(clock, p);
  if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) p->tv_sec += skew();
  return rc;
}

int gettimeofday(struct timeval *p, void *pZone) {
  struct timespec t;
  (void)pZone;
  if (clock_gettime(CLOCK_REALTIME, &t)) return -1;
  p->tv_sec = t.tv_sec;
  p->tv_usec = t.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *p) {
  struct timespec t;
  if (clock_gettime(CLOCK_REALTIME, &t)) return -1;
  if (p) *p = t.tv_sec;
  return t.tv_sec;
}
