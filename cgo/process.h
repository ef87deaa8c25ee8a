/*
** Facts of this process. They are right in forked children, too, even after a raw clone() that runs
** no handler.
*/
#ifndef VERNEUIL_PROCESS_H
#define VERNEUIL_PROCESS_H
#include <stdint.h>

/* Identifies this process: 10 bits of its PID namespace, 22 of its pid, and the low half of its
** start time. Costs no system call but the first time. */
uint64_t verneuilToken(void);

/* The pid of a token of our namespace; 0: it is of another, and says nothing here. */
static inline unsigned verneuilPid(uint64_t token) {
  return (token ^ verneuilToken()) >> 54 ? 0 : (unsigned)(token >> 32) & 0x3fffff;
}

/* Is that process alive? Token.Alive in spool/process.go does the same; but a process that cannot
** be looked at, as it is in another namespace, counts as dead here. */
int processIsAlive(uint64_t token);

/* Go runs in this process. No child that is forked from it has that said of itself. */
void processRunsGo(void);

/* Has it been said? */
int processHasGo(void);

#endif
