/* Databases that live in a store: see host.h. */
#define _GNU_SOURCE
#include "host.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

sqlite3 *open_patient(const char *zDb, const char *zVfs) {
  sqlite3 *db = open_db(zDb, zVfs);
  sqlite3_busy_timeout(db, 120000);
  return db;
}

void make_table(sqlite3 *db) { run(db, "create table if not exists t(id integer primary key, n, s)"); }

static const char zInsert[] = "insert into t(n, s) values(0, hex(randomblob(50)))";

/* Times of N one-row commits, in microseconds: the median, the 99th percentile, the mean. The first
** tenth is not counted. */
int each_main(char **a) {
  if (strcmp(a[0], "-")) load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  run(db, a[3]);
  make_table(db);
  int n = atoi(a[4]), warm = n / 10;
  double *aTime = calloc((size_t)n, sizeof(double)), total = 0;
  sqlite3_stmt *p = prepare(db, zInsert);
  for (int i = 0; i < n + warm; i++) {
    double t = now_us();
    step(p);
    t = now_us() - t;
    if (i >= warm) aTime[i - warm] = t, total += t;
  }
  double middle = median(aTime, n);
  printf("%.2f %.2f %.2f\n", middle, aTime[n * 99 / 100], total / n);
  sqlite3_finalize(p);
  sqlite3_close(db);
  return 0;
}

/* Of N one-row commits of a process that kills itself after the last one, how many another one does
** not find. */
int lost_main(char **a) {
  int n = atoi(a[4]), status;
  pid_t pid = fork();
  if (pid < 0) die(0, "fork");
  if (!pid) {
    if (strcmp(a[0], "-")) load(a[0]);
    sqlite3 *db = open_patient(a[2], a[1]);
    run(db, a[3]);
    make_table(db);
    for (int i = 0; i < n; i++) run(db, zInsert);
    kill(getpid(), SIGKILL);
  }
  if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) die(0, "the commits");
  if (strcmp(a[0], "-")) load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  int64_t found = ask_number(db, "select count(*) from sqlite_schema where name='t'");
  if (found) found = ask_number(db, "select count(*) from t");
  printf("%d\n", n - (int)found);
  fflush(stdout);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ threads */

typedef struct Worker {
  pthread_t id;
  char **a;
} Worker;

static void *insert_many(void *pWorker) {
  Worker *w = pWorker;
  sqlite3 *db = open_patient(w->a[2], w->a[1]);
  sqlite3_stmt *p = prepare(db, zInsert);
  for (int i = atoi(w->a[4]); i > 0; i--) step(p);
  sqlite3_finalize(p);
  sqlite3_close(db);
  return 0;
}

/* One-row commits a second, of THREADS connections that make N each. */
int crowd_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_patient(a[2], a[1]);
  make_table(db);
  int n = atoi(a[3]);
  Worker *aWorker = calloc((size_t)n, sizeof(Worker));
  double t = now_us();
  for (int i = 0; i < n; i++) {
    aWorker[i].a = a;
    if (pthread_create(&aWorker[i].id, 0, insert_many, &aWorker[i])) die(0, "pthread_create");
  }
  for (int i = 0; i < n; i++) pthread_join(aWorker[i].id, 0);
  printf("%.2f\n", n * atof(a[4]) / (now_us() - t) * 1e6);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ two processes */

/* A child, with the library loaded after the fork, whose temporary files are in zTemp. It says 'r'
** when its database is open, and then does xWork for each byte that it reads. */
typedef struct Child {
  pid_t pid;
  int in, out;                     /* ours */
} Child;

static void one_turn(sqlite3 *db) {
  run(db, "begin immediate");
  run(db, zInsert);
  run(db, "commit");
}

static Child child(char **a, const char *zTemp, void (*xWork)(sqlite3 *)) {
  int in[2], out[2];
  if (pipe(in) || pipe(out)) die(0, "pipe");
  Child c = {fork(), in[1], out[0]};
  if (c.pid < 0) die(0, "fork");
  if (c.pid > 0) {
    close(in[0]), close(out[1]);
    return c;
  }
  close(in[1]), close(out[0]);
  char z;
  setenv("TMPDIR", zTemp, 1), setenv("SQLITE_TMPDIR", zTemp, 1);
  load(a[0]);
  sqlite3 *db = open_patient(a[1], 0);
  make_table(db);
  if (write(out[1], "r", 1) != 1) _exit(1);
  while (read(in[0], &z, 1) == 1) {
    xWork(db);
    if (write(out[1], "d", 1) != 1) break;
  }
  sqlite3_close(db);
  exit(0);
}

static void await(const Child *c) {
  char z;
  if (read(c->out, &z, 1) != 1) die(0, "a process has ended early");
}

static void order(const Child *c) {
  if (write(c->in, "x", 1) != 1) die(0, "a process has ended early");
}

static void end_of(const Child *c) {
  close(c->in);
  waitpid(c->pid, 0, 0);
}

/* The median time of a transaction, in microseconds, where two processes write in turns: LIBRARY
** DATABASE N TEMP TEMP. They are of one machine if TEMP is the same. */
int turns_main(char **a) {
  Child c[2] = {child(a, a[3], one_turn)};
  await(&c[0]);
  c[1] = child(a, a[4], one_turn);
  await(&c[1]);
  int n = atoi(a[2]);
  double *aTime = calloc((size_t)n, sizeof(double));
  for (int i = -4; i < n; i++) {
    double t = now_us();
    order(&c[i & 1]), await(&c[i & 1]);
    if (i >= 0) aTime[i] = now_us() - t;
  }
  printf("%.2f\n", median(aTime, n));
  end_of(&c[1]), end_of(&c[0]); /* the second one has the first one's pipe */
  return 0;
}

static void begin_and_stay(sqlite3 *db) {
  run(db, "begin immediate");
  run(db, zInsert);
}

/* Seconds from the death of the process that holds the lease to a commit of another machine that
** was waiting: LIBRARY DATABASE TEMP TEMP. */
int takeover_main(char **a) {
  Child holder = child(a, a[2], begin_and_stay), other = child(a, a[3], one_turn);
  await(&holder), await(&other);
  order(&holder), await(&holder);
  order(&other);                   /* it waits */
  usleep(300000);
  kill(holder.pid, SIGKILL);
  double t = now_us();
  await(&other);
  printf("%.3f\n", (now_us() - t) * 1e-6);
  end_of(&other), end_of(&holder);
  return 0;
}
