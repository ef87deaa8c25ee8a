/*
** host commit LIBRARY DIRECTORY SECONDS LOAD CELL...
**
** The same transactions through the stock VFS and through verneuil, in turns of
** the same run, so that what else the machine does falls on both. A CELL is
** MODE/SYNC/PAGE/ROWS: journal mode, synchronous, page size, and rows updated by
** each transaction. Or it is read/MODE/PAGE/CACHE: point reads, with a page cache
** of so many pages; or scan/MODE/PAGE/CACHE: a whole table.
**
** LOAD 1: a second database of the process is filled with random bytes all the
** while, so that there is always a backlog and the uploader runs at full speed.
**
** For each of PARTS equal parts of a cell's run a line:
**
**   CELL samples | median p99 max mean cpu of stock | the same of verneuil
**
** in microseconds for each transaction; cpu is the application's thread's.
**
** host blocks LIBRARY DIRECTORY PAIRS SECONDS PAUSE CELL...
**
** The same as users see it: a block of SECONDS of stock's, then one of verneuil's, and a
** PAUSE after that, in which what it left to other threads ends; or the other way round, in
** turns. So what the replicator does beside our commits slows down ours, not stock's. A
** line for each pair, with a sixth figure: the processor time of all threads, of the pause,
** too.
*/
#include "host.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARTS 5
#define TURN_US 3000 /* about how long a turn is, and at most TURN_MOST transactions */
#define TURN_MOST 50
#define SAMPLES_MAX 1000000
#define SAMPLES_ENOUGH 200 /* a slow disk has up to three times SECONDS for them */
#define TABLE_ROWS 10000

typedef struct Cell {
  const char *zName;
  enum { COMMIT, READ, SCAN } kind;
  char zMode[16], zSync[16];
  int pageBytes, rows, cachePages;
} Cell;

typedef struct Side {
  sqlite3 *db;
  sqlite3_stmt *pStmt, *pBegin, *pCommit;
  double *a;    /* each transaction's time */
  double *aCpu; /* of its turn, divided among the turn's transactions */
  int n;
} Side;

static atomic_int stopLoad;

static void *load_thread(void *p) {
  char zPath[4096];
  snprintf(zPath, sizeof zPath, "%s/load.db", (char *)p);
  sqlite3 *db = open_db(zPath, "verneuil");
  run(db, "pragma journal_mode=truncate; pragma synchronous=off; create table if not exists l(b)");
  while (!stopLoad) {
    run(db, "insert into l values(randomblob(1000000))");
    run(db, "delete from l where rowid<(select max(rowid) from l)-50");
    usleep(20000);
  }
  sqlite3_close(db);
  return 0;
}

static Cell parse(const char *zCell) {
  Cell c = {.zName = zCell, .rows = 1, .cachePages = 2000, .zSync = "off"};
  c.kind = !strncmp(zCell, "read/", 5) ? READ : !strncmp(zCell, "scan/", 5) ? SCAN : COMMIT;
  int n = c.kind == COMMIT ? sscanf(zCell, "%15[^/]/%15[^/]/%d/%d", c.zMode, c.zSync, &c.pageBytes, &c.rows)
                           : sscanf(zCell + 5, "%15[^/]/%d/%d", c.zMode, &c.pageBytes, &c.cachePages) + 1;
  if (n != 4) die(0, zCell);
  return c;
}

static void prepare_side(Side *s, const Cell *c, const char *zDir, const char *zVfs) {
  char zPath[4096];
  snprintf(zPath, sizeof zPath, "%s/%s-%d-%s-%s-%d-%d-%d.db", zDir, zVfs, c->kind, c->zMode, c->zSync,
           c->pageBytes, c->rows, c->cachePages);
  s->db = open_db(zPath, zVfs);
  s->n = 0;
  s->a = malloc(sizeof(double) * SAMPLES_MAX);
  s->aCpu = malloc(sizeof(double) * SAMPLES_MAX);
  execf(s->db, "pragma page_size=%d; pragma journal_mode=%s; pragma synchronous=%s; pragma cache_size=%d", c->pageBytes,
        c->zMode, c->zSync, c->cachePages);
  execf(s->db,
        "create table t(id integer primary key, n, s);"
        "insert into t select value, 0, hex(randomblob(50)) from"
        " (with recursive c(value) as (values(1) union all select value+1 from c where value<%d) select * from c);"
        "pragma verneuil_flush_replication_data",
        TABLE_ROWS);
  s->pBegin = prepare(s->db, "begin");
  s->pCommit = prepare(s->db, "commit");
  s->pStmt = prepare(s->db, c->kind == SCAN   ? "select sum(length(s)) from t where n<>?1 or ?2"
                                  : c->kind == READ ? "select s, ?1 from t where id=?2"
                                                    : "update t set n=?1 where id=?2");
}

static void transaction(Side *s, const Cell *c, int i) {
  if (c->rows > 1) step(s->pBegin);
  for (int k = 0; k < c->rows; k++) {
    sqlite3_bind_int(s->pStmt, 1, i);
    sqlite3_bind_int(s->pStmt, 2, 1 + rand() % TABLE_ROWS);
    step(s->pStmt);
  }
  if (c->rows > 1) step(s->pCommit);
}

static void turn(Side *s, const Cell *c, int n) {
  double cpu = cpu_us(0);
  int first = s->n;
  for (int i = 0; i < n && s->n < SAMPLES_MAX; i++) {
    double t = now_us();
    transaction(s, c, s->n);
    s->a[s->n++] = now_us() - t;
  }
  cpu = (cpu_us(0) - cpu) / (s->n - first);
  for (int i = first; i < s->n; i++) s->aCpu[i] = cpu;
}

/* Transactions for so long, and a pause. Returns all threads' time for each. */
static double block(Side *s, const Cell *c, double seconds, double pause) {
  double cpu = cpu_us(1), end = now_us() + seconds * 1e6;
  s->n = 0;
  while (now_us() < end && s->n + TURN_MOST <= SAMPLES_MAX) turn(s, c, c->kind == COMMIT ? 1 : TURN_MOST);
  usleep((useconds_t)(pause * 1e6));
  return (cpu_us(1) - cpu) / s->n;
}

static void print_part(const Side *s, int first, int n) {
  double mean = 0, cpu = 0;
  double *a = malloc(sizeof(double) * (size_t)n);
  memcpy(a, s->a + first, sizeof(double) * (size_t)n);
  for (int i = 0; i < n; i++) mean += a[i] / n, cpu += s->aCpu[first + i] / n;
  qsort(a, (size_t)n, sizeof(double), ascending);
  printf(" | %.3f %.3f %.3f %.3f %.3f", a[n / 2], a[(int)(n * 0.99)], a[n - 1], mean, cpu);
  free(a);
}

static void close_side(Side *s) {
  sqlite3_finalize(s->pBegin);
  sqlite3_finalize(s->pCommit);
  sqlite3_finalize(s->pStmt);
  sqlite3_close(s->db);
  free(s->a);
  free(s->aCpu);
}

static void cell(const Cell *c, const char *zDir, double seconds) {
  Side a[2];
  prepare_side(&a[0], c, zDir, "unix");
  prepare_side(&a[1], c, zDir, "verneuil");
  turn(&a[0], c, 5), turn(&a[1], c, 5); /* the first ones are not counted */
  int perTurn = (int)(TURN_US / (a[0].a[4] + 1));
  perTurn = perTurn < 1 ? 1 : perTurn > TURN_MOST ? TURN_MOST : perTurn;
  a[0].n = a[1].n = 0;
  double begin = now_us(), limit = seconds * 1e6;
  for (int k = 0; a[0].n < SAMPLES_MAX; k++) {
    double t = now_us() - begin;
    if (k >= PARTS && t > limit && (a[0].n >= SAMPLES_ENOUGH || t > 3 * limit)) break;
    turn(&a[k & 1], c, perTurn);
    turn(&a[!(k & 1)], c, perTurn);
  }
  int n = a[0].n / PARTS;
  for (int part = 0; part < PARTS; part++) {
    printf("%s %d", c->zName, n);
    print_part(&a[0], part * n, n);
    print_part(&a[1], part * n, n);
    printf("\n");
  }
  fflush(stdout);
  close_side(&a[0]);
  close_side(&a[1]);
}

static void pairs(const Cell *c, const char *zDir, int nPair, double seconds, double pause) {
  Side a[2];
  prepare_side(&a[0], c, zDir, "unix");
  prepare_side(&a[1], c, zDir, "verneuil");
  for (int k = -1; k < nPair; k++) { /* the first pair is not counted */
    double all[2];
    for (int i = 0; i < 2; i++) {
      int side = i ^ (k & 1);
      all[side] = block(&a[side], c, k < 0 ? 0.1 : seconds, side ? pause : 0);
    }
    if (k < 0) continue;
    printf("%s %d", c->zName, a[1].n);
    for (int i = 0; i < 2; i++) {
      print_part(&a[i], 0, a[i].n);
      printf(" %.3f", all[i]);
    }
    printf("\n");
    fflush(stdout);
  }
  close_side(&a[0]);
  close_side(&a[1]);
}

int blocks_main(char **a) {
  load(a[0]);
  for (int i = 5; a[i]; i++) {
    Cell c = parse(a[i]);
    pairs(&c, a[1], atoi(a[2]), atof(a[3]), atof(a[4]));
  }
  return 0;
}

int commit_main(char **a) {
  pthread_t thread;
  int withLoad = atoi(a[3]);
  load(a[0]);
  if (withLoad) pthread_create(&thread, 0, load_thread, a[1]);
  for (int i = 4; a[i]; i++) {
    Cell c = parse(a[i]);
    cell(&c, a[1], atof(a[2]));
  }
  stopLoad = 1;
  if (withLoad) pthread_join(thread, 0);
  return 0;
}
