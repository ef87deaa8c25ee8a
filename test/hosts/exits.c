/*
** Ends by exit() in the handler of a signal that has interrupted malloc, which other threads then
** wait for until the process is gone.
**
** Usage: exits LIBRARY DATABASE N: in the Nth call of malloc after the database was opened and written to.
** The exit code is 5.
*/
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sqlite3-binding.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static pthread_mutex_t arena = PTHREAD_MUTEX_INITIALIZER; /* as malloc has one, without a cache before it */
static pthread_t mainThread;
static atomic_int nLeft;

static void enter(void) {
  pthread_mutex_lock(&arena);
  if (nLeft > 0 && pthread_equal(pthread_self(), mainThread) && --nLeft == 0) raise(SIGTERM);
}

static void leave(void) { pthread_mutex_unlock(&arena); }

void *malloc(size_t n) {
  enter();
  void *p = __libc_malloc(n);
  leave();
  return p;
}

void *calloc(size_t n, size_t size) {
  enter();
  void *p = __libc_calloc(n, size);
  leave();
  return p;
}

void *realloc(void *pOld, size_t n) {
  enter();
  void *p = __libc_realloc(pOld, n);
  leave();
  return p;
}

void free(void *p) {
  pthread_mutex_lock(&arena);
  __libc_free(p);
  leave();
}

static void onTerm(int signal) {
  (void)signal;
  exit(5);
}

int main(int argc, char **argv) {
  sqlite3 *db, *other;
  char *zErr = 0;
  if (argc != 4 || sqlite3_open(":memory:", &db) != SQLITE_OK) return 2;
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, 0);
  if (sqlite3_load_extension(db, argv[1], 0, &zErr) != SQLITE_OK || sqlite3_open(argv[2], &other) != SQLITE_OK ||
      sqlite3_exec(other, "create table if not exists t(a); insert into t values(1)", 0, 0, &zErr) != SQLITE_OK) {
    fprintf(stderr, "exits: %s\n", zErr ? zErr : "open failed");
    return 1;
  }
  signal(SIGTERM, onTerm);
  mainThread = pthread_self();
  nLeft = atoi(argv[3]);
  for (;;) {
    if (sqlite3_open(argv[2], &other) != SQLITE_OK || sqlite3_exec(other, "insert into t values(2)", 0, 0, &zErr) != SQLITE_OK) return 1;
    sqlite3_close(other);
  }
}
