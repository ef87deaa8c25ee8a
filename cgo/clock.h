/*
** The kernel's clocks, in nanoseconds. No system call where the vDSO has them.
*/
#ifndef VERNEUIL_CLOCK_H
#define VERNEUIL_CLOCK_H
#include <stdint.h>
#include <time.h>

static inline int64_t clockNs(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Time that passes; it is never set. */
static inline int64_t clockMonotonic(void) { return clockNs(CLOCK_MONOTONIC); }

/* The same to some milliseconds, and for less. */
static inline int64_t clockCoarse(void) { return clockNs(CLOCK_MONOTONIC_COARSE); }

/* Since 1970, UTC. */
static inline int64_t clockRealtime(void) { return clockNs(CLOCK_REALTIME); }

#endif
