/*
** What limits and filters leave of what the Go runtime needs (gort_limits.c).
*/
#ifndef VERNEUIL_GORT_LIMITS_H
#define VERNEUIL_GORT_LIMITS_H
#include <sys/resource.h>

/* A runtime that cannot have what it needs aborts the process: this tries beforehand what limits
** leave. Returns why it must not be started, sqlite3_malloc'd, or NULL. */
char *limitReached(void);

/* The runtime raises the number of descriptors (syscall/rlimit.go), and a host that uses select(2)
** relies on it: what it was before the start, and as it was again after it. */
void limitsNote(struct rlimit *p);
void limitsRestore(const struct rlimit *p);

#endif
