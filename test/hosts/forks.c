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
#include <signal.h>
#include <sqlite3-binding.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static _Thread_local volatile int nInside;
static volatile int nForked;

void *malloc(size_t n) {
  nInside++;
  void *p = __libc_malloc(n);
  nInside--;
  return p;
}

void *calloc(size_t n, size_t size) {
  nInside++;
  void *p = __libc_calloc(n, size);
  nInside--;
  return p;
}

void *realloc(void *pOld, size_t n) {
  nInside++;
  void *p = __libc_realloc(pOld, n);
  nInside--;
  return p;
}

void free(void *p) {
  nInside++;
  __libc_free(p);
  nInside--;
}

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
  sqlite3 *db, *other;
  char *zErr = 0;
  if (argc != 4 || sqlite3_open(":memory:", &db) != SQLITE_OK) return 2;
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, 0);
  if (sqlite3_load_extension(db, argv[1], 0, &zErr) != SQLITE_OK || sqlite3_open(argv[2], &other) != SQLITE_OK ||
      sqlite3_exec(other, "create table if not exists t(a)", 0, 0, &zErr) != SQLITE_OK) {
    fprintf(stderr, "forks: %s\n", zErr ? zErr : "open failed");
    return 1;
  }
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
