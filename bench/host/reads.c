/* Bulk, reads, and a reader that watches a database in a store: see host.h. */
#define _GNU_SOURCE
#include "host.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Seconds of one transaction that inserts MIB MiB, in rows of 8 KiB, into an empty database. */
int bulk_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  run(db, a[3]);
  run(db, "create table big(id integer primary key, b)");
  int64_t n = atoll(a[4]) * 128;
  double t = now_us();
  execf(db, "begin; with recursive c(i) as (select 1 union all select i+1 from c where i<%lld) "
      "insert into big select i, randomblob(8192) from c; commit", (long long)n);
  printf("%.4f\n", (now_us() - t) * 1e-6);
  sqlite3_close(db);
  return 0;
}

/* Of a database that bulk has made: seconds of a scan, by a process that has read nothing of it, and
** then the median microseconds of N reads of a row by its key. SQLite's own cache has a page or two
** (SQL). */
int reads_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  run(db, a[3]);
  int64_t rows = ask_number(db, "select max(id) from big");
  double t = now_us();
  ask_number(db, "select sum(b>x'00') from big");
  double scan = (now_us() - t) * 1e-6;
  int n = atoi(a[4]);
  double *aTime = calloc((size_t)n, sizeof(double));
  sqlite3_stmt *p = prepare(db, "select b from big where id=?1");
  for (int i = 0; i < n; i++) {
    t = now_us();
    sqlite3_bind_int64(p, 1, 1 + rand() % rows);
    step(p);
    aTime[i] = now_us() - t;
  }
  printf("%.4f %.2f\n", scan, median(aTime, n));
  sqlite3_finalize(p);
  sqlite3_close(db);
  return 0;
}

/* What the two processes of watch share. */
typedef struct Shared {
  _Atomic int64_t seen; /* when the reader has read the last commit, in ns; 0: it has not */
  _Atomic int ready, over;
} Shared;

static void pause_us(long us) {
  struct timespec t = {0, us * 1000};
  nanosleep(&t, 0);
}

static int64_t mono_ns(void) { return (int64_t)(now_us() * 1e3); }

static pid_t as_machine(const char *zTemp) {
  pid_t pid = fork();
  if (pid < 0) die(0, "fork");
  if (pid == 0) setenv("TMPDIR", zTemp, 1), setenv("SQLITE_TMPDIR", zTemp, 1);
  return pid;
}

static void watch_reader(char **a, Shared *p) {
  char *zUri = sqlite3_mprintf("%s&mode=ro", a[2]);
  load(a[0]);
  sqlite3 *db = open_patient(zUri, a[1]);
  sqlite3_stmt *pLast = prepare(db, "select max(id) from t");
  int64_t known = -1;
  while (!p->over) {
    if (sqlite3_step(pLast) != SQLITE_ROW) die(db, "watch");
    int64_t now = sqlite3_column_int64(pLast, 0);
    sqlite3_reset(pLast);
    if (now != known && p->ready) p->seen = mono_ns();
    if (now != known) known = now, p->ready = 1;
    pause_us(20);
  }
  sqlite3_finalize(pLast);
  sqlite3_close(db);
  sqlite3_free(zUri);
}

/* Microseconds from the beginning of a commit until another machine's reader, which follows and looks
** all the time, has read it, and from its end: the medians of N commits with pauses. The first tenth is
** not counted. */
int watch_main(char **a) {
  Shared *p = mmap(0, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) die(0, "mmap");
  pid_t writer = as_machine(a[4]);
  if (writer) {
    int status = 0;
    waitpid(writer, &status, 0);
    return status != 0;
  }
  int n = atoi(a[3]), warm = n / 10 + 1;
  double *aFrom = calloc((size_t)n, sizeof(double)), *aAfter = calloc((size_t)n, sizeof(double));
  pid_t reader = 0;
  int opened[2];
  if (pipe(opened)) die(0, "pipe");
  char z;
  if ((reader = as_machine(a[5])) == 0) { /* before Go starts in this process */
    if (read(opened[0], &z, 1) != 1) _exit(1);
    watch_reader(a, p);
    exit(0);
  }
  load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  run(db, "pragma synchronous=full");
  make_table(db);
  run(db, "insert into t(n) values(1)");
  if (write(opened[1], "x", 1) != 1) die(0, "pipe");
  while (!p->ready) pause_us(1000);
  sqlite3_stmt *pInsert = prepare(db, "insert into t(n, s) values(0, hex(randomblob(50)))");
  for (int i = -warm; i < n; i++) {
    p->seen = 0;
    int64_t begun = mono_ns();
    step(pInsert);
    int64_t ended = mono_ns();
    while (!p->seen) {
      if (mono_ns() - ended > 60000000000) die(0, "the reader has seen nothing for a minute");
      pause_us(50);
    }
    if (i >= 0) aFrom[i] = (double)(p->seen - begun) * 1e-3, aAfter[i] = (double)(p->seen - ended) * 1e-3;
    pause_us(5000);
  }
  p->over = 1;
  printf("%.2f %.2f\n", median(aFrom, n), median(aAfter, n));
  fflush(stdout);
  sqlite3_finalize(pInsert);
  sqlite3_close(db);
  waitpid(reader, 0, 0);
  exit(0);
}
