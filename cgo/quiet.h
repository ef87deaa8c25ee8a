/*
** Mutexes that fork() takes. While one is held nothing may come between: not a handler of the
** host's, which may fork, and would wait for its own thread; not a cancellation, after which
** nobody would give it back; and no file is looked at, which may take for ever.
*/
#ifndef VERNEUIL_QUIET_H
#define VERNEUIL_QUIET_H
#include <pthread.h>
#include <signal.h>

typedef struct Quiet {
  sigset_t mask;
  int state;
} Quiet;

/* What a thread does to itself stays as it is: blocked, the kernel would end the process. */
static inline Quiet quietBegin(void) {
  static const int aKept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  Quiet q;
  sigset_t all;
  sigfillset(&all);
  for (unsigned i = 0; i < sizeof aKept / sizeof *aKept; i++) sigdelset(&all, aKept[i]);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &q.state);
  pthread_sigmask(SIG_SETMASK, &all, &q.mask);
  return q;
}

static inline void quietEnd(Quiet q) {
  pthread_sigmask(SIG_SETMASK, &q.mask, 0);
  pthread_setcancelstate(q.state, 0);
}

static inline Quiet quietLock(pthread_mutex_t *p) {
  Quiet q = quietBegin();
  pthread_mutex_lock(p);
  return q;
}

static inline void quietUnlock(pthread_mutex_t *p, Quiet q) {
  pthread_mutex_unlock(p);
  quietEnd(q);
}

#endif
