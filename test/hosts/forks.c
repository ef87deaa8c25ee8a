/*
** Opens a database again and again, while the handler of a timer interrupts that and forks, as
** crash reporters do, and programs that start helpers on a signal. The child ends at once.
**
** Usage: forks LIBRARY DATABASE N. Ends after N children.
**
** In a process with several threads fork() takes the locks of malloc, whoever calls it (glibc,
** __malloc_fork_lock_parent): in a handler that has interrupted malloc it waits for ever, with
** or without us. So the handler does not fork there.
*/
#define _GNU_SOURCE
#include "within_malloc.h"
#include <sys/time.h>
#include <sys/wait.h>

static _Thread_local volatile int nInside;
static volatile int nForked;

static void enter(int isFree) {
  (void)isFree;
  nInside++;
}

static void leave(void) { nInside--; }

/* Not an interval: on a busy machine a fork takes longer than that. */
static void setTimer(int us) {
  struct itimerval timer = {{0, 0}, {0, us}};
  setitimer(ITIMER_REAL, &timer, 0);
}

static void onAlarm(int signal) {
  (void)signal;
  pid_t pid = nInside ? -1 : fork();
  if (!pid) _exit(0);
  if (pid > 0) waitpid(pid, 0, 0), nForked++;
  setTimer(700);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  sqlite3 *other = begin(argv[1], argv[2], "create table if not exists t(a)");
  char *zErr = 0;
  sqlite3_close(other);
  struct sigaction action = {.sa_handler = onAlarm, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, 0);
  setTimer(700);
  while (nForked < atoi(argv[3])) {
    if (sqlite3_open(argv[2], &other) != SQLITE_OK || sqlite3_exec(other, "select * from t", 0, 0, &zErr) != SQLITE_OK) return 1;
    sqlite3_close(other);
  }
  signal(SIGALRM, SIG_IGN);
  printf("%d children\n", nForked);
  return 0;
}
