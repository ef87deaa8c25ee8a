/*
** The sanitizers' driver (driver.c) and its substitute for Go (go.c).
*/
#ifndef VERNEUIL_DRIVER_H
#define VERNEUIL_DRIVER_H
#include <stdint.h>

/* Where spools are. */
extern char zSpoolRoot[];

/* Consumes the logs of all spools that this process has opened, and the WALs too if told. */
void replicateAll(int consumeWal);

/* In a forked child, before anything else: the lock may have been held. */
void replicatorForked(void);

/* Frees what is kept, for the leak checkers. */
void replicatorForget(void);

void goSnapshotRequest(uintptr_t h);
#endif
