/*
** The bells of this process's replicators, and the end of the process: see wake.h.
*/
#define _GNU_SOURCE
#include "wake.h"
#include "clock.h"
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How much longer than EXIT_SEND_MS a process that ends waits, at most, for what there is to say
** of it. */
#define EXIT_MORE_MS 1000

/* How long it waits then, at most, for the threads of Ceph's clients: they must not run on what exit()
** destroys. That they end takes milliseconds, unless one connects, or asks what nobody answers. */
#define EXIT_CLIENTS_MS 5000

/* And how often it looks meanwhile whether others wait for its locks. */
#define EXIT_SLICE_MS 10

static _Atomic uint32_t bells;
static atomic_int listens;

int bellListen(void) { return atomic_exchange(&listens, 1); }

uint32_t bellWait(uint32_t heard) {
  while (atomic_load(&bells) == heard) syscall(SYS_futex, &bells, FUTEX_WAIT_PRIVATE, heard, 0, 0, 0);
  return atomic_load(&bells);
}

void bellRing(void) {
  atomic_fetch_add(&bells, 1);
  syscall(SYS_futex, &bells, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

int bellHeard(void) { return atomic_load(&listens); }

/* The process's end: none; asked for; urgent: only clients of Ceph are to end; and said to all. */
enum { END_NONE, END_ASKED, END_URGENT, END_DONE };
static _Atomic uint32_t ending;

int exitAsked(void) { return atomic_load(&ending) == END_ASKED; }

int exitIsUrgent(void) { return atomic_load(&ending) == END_URGENT; }

static atomic_int clients;

int exitHasClients(void) { return atomic_exchange(&clients, 1); }

int exitDone(void) {
  atomic_store(&ending, END_DONE);
  return (int)syscall(SYS_futex, &ending, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

/* Waits while the end is in that state, but no longer than ms, nor while others wait for our locks. */
static void exitWhile(uint32_t state, int ms, int (*xExcludes)(void)) {
  static const struct timespec slice = {0, EXIT_SLICE_MS * 1000000};
  int64_t end = clockMonotonic() + ms * INT64_C(1000000);
  while (atomic_load(&ending) == state && !(xExcludes && xExcludes()) && clockMonotonic() < end)
    syscall(SYS_futex, &ending, FUTEX_WAIT_PRIVATE, state, &slice, 0, 0);
}

static int (*_Atomic xYield)(void);

void exitYields(int (*xExcludes)(void)) { atomic_store(&xYield, xExcludes); }

/* exit() may be called in a signal's handler: this thread may be in the middle of malloc, of
** Go's start, or of anything of ours. So it allocates nothing, and takes no lock: it rings, and
** waits, but not while a connection of this process keeps others from their locks, which
** would be free by now without us. What is not sent stays in the spool. */
void exitWait(void) {
  int (*xExcludes)(void) = atomic_load(&xYield);
  if (!bellHeard()) return;
  uint32_t state = END_NONE;
  if (!atomic_compare_exchange_strong(&ending, &state, END_ASKED)) return; /* exit() within exit() */
  bellRing();
  exitWhile(END_ASKED, EXIT_SEND_MS + EXIT_MORE_MS, xExcludes);
  state = END_ASKED;
  if (!atomic_load(&clients) || !atomic_compare_exchange_strong(&ending, &state, END_URGENT)) return;
  bellRing();
  exitWhile(END_URGENT, EXIT_CLIENTS_MS, 0);
}
