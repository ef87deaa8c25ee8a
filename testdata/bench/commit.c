/*
** What replication costs a commit: the same one-row transactions through the
** stock VFS and through verneuil, in turns of the same run, so that what else the
** machine does falls on both. Usage:
**
**   VERNEUIL_CONFIG=... commit LIBRARY DIRECTORY [SECONDS] [LOAD]
**
** SECONDS: for each journal mode. LOAD 1: a second database of the same process is
** filled with random bytes all the while, so that its upload keeps the processors busy.
**
** Each line is a row of a Markdown table: journal mode, synchronous, medians in
** microseconds, and the ratios of medians, 99th percentiles, means and processor time
** (the application's thread's alone), verneuil to stock. A ratio is the median of those of PARTS equal parts of the run; in brackets
** are the least and the greatest.
*/
#include "sqlite3-binding.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PER_TURN 50
#define PARTS 5
#define SAMPLES_MAX 1000000
#define TURNS_MAX (SAMPLES_MAX / PER_TURN)

static atomic_int stopLoad;

static double clock_us(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double now(void) { return clock_us(CLOCK_MONOTONIC); }

static void check(sqlite3 *db, int rc, const char *zWhat) {
  if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE) return;
  fprintf(stderr, "%s: %s\n", zWhat, sqlite3_errmsg(db));
  exit(1);
}

static void run(sqlite3 *db, const char *zSql) { check(db, sqlite3_exec(db, zSql, 0, 0, 0), zSql); }

static sqlite3 *open_db(const char *zDir, const char *zName, const char *zVfs) {
  char zPath[4096];
  sqlite3 *db;
  snprintf(zPath, sizeof zPath, "%s/%s.db", zDir, zName);
  check(0, sqlite3_open_v2(zPath, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, zVfs), zPath);
  return db;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void *load(void *p) {
  sqlite3 *db = open_db(p, "load", "verneuil");
  run(db, "pragma journal_mode=truncate; pragma synchronous=off; create table if not exists l(b)");
  while (!stopLoad) {
    run(db, "insert into l values(randomblob(1000000))");
    run(db, "delete from l where rowid<(select max(rowid) from l)-50");
    usleep(20000);
  }
  sqlite3_close(db);
  return 0;
}

typedef struct Side {
  sqlite3 *db;
  sqlite3_stmt *pStmt;
  double *a;
  int n;
  double cpu[TURNS_MAX]; /* microseconds of this thread, turn by turn */
  int nTurn;
} Side;

static void turn(Side *s, int isRead) {
  double cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < PER_TURN; i++) {
    double t = now();
    if (!isRead) sqlite3_bind_int(s->pStmt, 1, i);
    sqlite3_bind_int(s->pStmt, isRead ? 1 : 2, 1 + rand() % 10000);
    check(s->db, sqlite3_step(s->pStmt), "step");
    check(s->db, sqlite3_reset(s->pStmt), "reset");
    s->a[s->n++] = now() - t;
  }
  s->cpu[s->nTurn++] = clock_us(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static double median_of(double *a, int n) {
  qsort(a, (size_t)n, sizeof(double), ascending);
  return a[n / 2];
}

enum { MEDIAN, P99, MEAN, CPU, STATISTICS };

/* The statistics of n samples, which are sorted. */
static void measure(double *a, int n, double aOut[STATISTICS]) {
  aOut[MEAN] = 0;
  for (int i = 0; i < n; i++) aOut[MEAN] += a[i] / n;
  aOut[MEDIAN] = median_of(a, n);
  aOut[P99] = a[n * 99 / 100];
}

static void report(const char *zMode, const char *zSync, Side *a) {
  double ratio[STATISTICS][PARTS];
  int n = (a[0].n < a[1].n ? a[0].n : a[1].n) / PARTS, turns = a[0].nTurn / PARTS;
  for (int part = 0; part < PARTS; part++) {
    double stock[STATISTICS], ours[STATISTICS];
    measure(a[0].a + part * n, n, stock);
    measure(a[1].a + part * n, n, ours);
    stock[CPU] = ours[CPU] = 0;
    for (int k = part * turns; k < (part + 1) * turns; k++) stock[CPU] += a[0].cpu[k], ours[CPU] += a[1].cpu[k];
    for (int k = 0; k < STATISTICS; k++) ratio[k][part] = ours[k] / stock[k];
  }
  printf("| %s | %s | %d | %.1f | %.1f |", zMode, zSync, a[0].n, median_of(a[0].a, a[0].n), median_of(a[1].a, a[1].n));
  for (int k = 0; k < STATISTICS; k++) {
    double m = median_of(ratio[k], PARTS);
    printf(" %.3f [%.2f..%.2f] |", m, ratio[k][0], ratio[k][PARTS - 1]);
  }
  printf("\n");
  fflush(stdout);
}

static void prepare(Side *s, const char *zDir, const char *zVfs, const char *zMode, const char *zSync, int isRead) {
  char zName[64], zSql[200];
  snprintf(zName, sizeof zName, "%s-%s-%s%s", zVfs, zMode, zSync, isRead ? "-read" : "");
  s->db = open_db(zDir, zName, zVfs);
  s->n = s->nTurn = 0;
  s->a = malloc(sizeof(double) * SAMPLES_MAX);
  snprintf(zSql, sizeof zSql, "pragma journal_mode=%s; pragma synchronous=%s; pragma cache_size=%d", zMode, zSync,
           isRead ? 10 : 2000);
  run(s->db, zSql);
  run(s->db,
      "create table if not exists t(id integer primary key, n, s);"
      "insert into t select value, 0, hex(randomblob(50)) from"
      " (with recursive c(value) as (values(1) union all select value+1 from c where value<10000) select * from c);"
      "pragma verneuil_flush_replication_data");
  check(s->db, sqlite3_prepare_v2(s->db, isRead ? "select s from t where id=?1" : "update t set n=?1 where id=?2", -1,
                                  &s->pStmt, 0), "prepare");
}

static void compare(const char *zDir, const char *zMode, const char *zSync, double seconds, int isRead) {
  static const char *const azVfs[] = {"unix", "verneuil"};
  static Side a[2];
  for (int i = 0; i < 2; i++) prepare(&a[i], zDir, azVfs[i], zMode, zSync, isRead);
  double end = now() + seconds * 1e6;
  for (int k = 0; (k < PARTS || now() < end) && k < TURNS_MAX; k++) {
    turn(&a[k & 1], isRead);
    turn(&a[!(k & 1)], isRead);
  }
  report(isRead ? "point read" : zMode, isRead ? "-" : zSync, a);
  for (int i = 0; i < 2; i++) {
    sqlite3_finalize(a[i].pStmt);
    sqlite3_close(a[i].db);
    free(a[i].a);
  }
}

int main(int argc, char **argv) {
  static const char *const az[][2] = {{"delete", "full"},  {"truncate", "off"}, {"persist", "off"},
                                      {"wal", "full"},     {"wal", "normal"},   {"wal", "off"}};
  pthread_t thread;
  sqlite3 *db;
  char *zErr = 0;
  if (argc < 3) return 2;
  double seconds = argc > 3 ? atof(argv[3]) : 5;
  int withLoad = argc > 4 && atoi(argv[4]);
  check(0, sqlite3_open(":memory:", &db), "open");
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)0);
  if (sqlite3_load_extension(db, argv[1], 0, &zErr) != SQLITE_OK) {
    fprintf(stderr, "%s\n", zErr);
    return 1;
  }
  if (withLoad) pthread_create(&thread, 0, load, argv[2]);
  for (unsigned i = 0; i < sizeof az / sizeof *az; i++) compare(argv[2], az[i][0], az[i][1], seconds, 0);
  compare(argv[2], "delete", "off", seconds, 1);
  stopLoad = 1;
  if (withLoad) pthread_join(thread, 0);
  return 0;
}
