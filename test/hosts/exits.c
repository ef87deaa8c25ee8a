/*
** Ends by exit() in the handler of a signal that has interrupted malloc, which other threads then
** wait for until the process is gone.
**
** Usage: exits LIBRARY DATABASE N: in the Nth call of malloc after the database was opened and written to.
** The exit code is 5.
*/
#define _GNU_SOURCE
#include "within_malloc.h"
#include <pthread.h>
#include <stdatomic.h>

static pthread_mutex_t arena = PTHREAD_MUTEX_INITIALIZER; /* as malloc has one, without a cache before it */
static pthread_t mainThread;
static atomic_int nLeft;

static void enter(int isFree) {
  pthread_mutex_lock(&arena);
  if (!isFree && nLeft > 0 && pthread_equal(pthread_self(), mainThread) && --nLeft == 0) raise(SIGTERM);
}

static void leave(void) { pthread_mutex_unlock(&arena); }

static void onTerm(int signal) {
  (void)signal;
  exit(5);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  sqlite3 *other = begin(argv[1], argv[2], "create table if not exists t(a); insert into t values(1)");
  char *zErr = 0;
  signal(SIGTERM, onTerm);
  mainThread = pthread_self();
  nLeft = atoi(argv[3]);
  for (;;) {
    if (sqlite3_open(argv[2], &other) != SQLITE_OK || sqlite3_exec(other, "insert into t values(2)", 0, 0, &zErr) != SQLITE_OK) return 1;
    sqlite3_close(other);
  }
}
