/*
** How this process's replicators are woken: one of Go's threads sleeps on a number of bells,
** as a futex. There is no descriptor that somebody else could close, or be given.
*/
#ifndef VERNEUIL_WAKE_H
#define VERNEUIL_WAKE_H
#include <stdint.h>

/* Somebody is going to listen. */
int bellListen(void);

/* Waits until the number of bells is not heard any more, and returns it. */
uint32_t bellWait(uint32_t heard);

/* One more. Of a forked child nobody hears it: its token is another. */
void bellRing(void);

/* Does somebody in this process listen? */
int bellHeard(void);

/* How long a process that ends waits for unsent data to leave; less if store_timeout_ms is. */
#define EXIT_SEND_MS 3000

/* The process ends, and whoever listens is to send what is not sent, and then to say so. */
int exitAsked(void);
int exitDone(void);

/* Nobody waits for that any more: clients of Ceph are to end, and then to say so. */
int exitIsUrgent(void);

/* There are, or may be, clients of Ceph, whose threads must end before exit() goes on. */
int exitHasClients(void);

/* At the end of a process in which Go runs: rings, and waits until exitDone(), for a bounded time. */
void exitWait(void);

/* For what is not sent it does not wait while xExcludes() says that others wait for a lock of this process. That may be
** called in a signal's handler. */
void exitYields(int (*xExcludes)(void));

#endif
