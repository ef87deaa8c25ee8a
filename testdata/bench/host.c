/*
** A small host application of the extension, for what `commit` does not measure.
** Usage, each with VERNEUIL_CONFIG in the environment:
**
**   host memory LIBRARY DATABASE            RSS and threads: start, load, open, flush
**   host fill   LIBRARY VFS DATABASE BYTES  makes a database of about so many bytes
**   host trace  LIBRARY VFS DATABASE MODE SYNC N
**       N one-page commits between two calls of lseek(-1), for a tracer; then
**       prints the bytes that they added to the changelog
**   host update LIBRARY DATABASE N          N times: one row, flush, status
**   host wal    LIBRARY VFS DATABASE ROWS   rows in transactions of 100: the WAL's size
**   host rate   LIBRARY DATABASE PER_SECOND SECONDS OUT
**       commits at a rate, each with its number as user_version; OUT gets a line
**       for each: number, Unix time in ns after the commit
*/
#include "sqlite3-binding.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FLUSH "pragma verneuil_flush_replication_data"

static void die(sqlite3 *db, const char *zWhat) {
  fprintf(stderr, "%s: %s\n", zWhat, db ? sqlite3_errmsg(db) : strerror(errno));
  exit(1);
}

static void run(sqlite3 *db, const char *zSql) {
  if (sqlite3_exec(db, zSql, 0, 0, 0) != SQLITE_OK) die(db, zSql);
}

static int64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void load(const char *zLibrary) {
  sqlite3 *db;
  char *zErr = 0;
  sqlite3_open(":memory:", &db);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)0);
  if (sqlite3_load_extension(db, zLibrary, 0, &zErr) != SQLITE_OK) {
    fprintf(stderr, "%s\n", zErr);
    exit(1);
  }
  sqlite3_close(db);
}

static sqlite3 *open_db(const char *zPath, const char *zVfs) {
  sqlite3 *db;
  if (sqlite3_open_v2(zPath, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, zVfs) != SQLITE_OK) die(db, zPath);
  return db;
}

static void execf(sqlite3 *db, const char *zFormat, ...) {
  va_list ap;
  va_start(ap, zFormat);
  char *z = sqlite3_vmprintf(zFormat, ap);
  va_end(ap);
  run(db, z);
  sqlite3_free(z);
}

/* The first column of the first row, to be freed with free. */
static char *ask(sqlite3 *db, const char *zSql) {
  sqlite3_stmt *p;
  if (sqlite3_prepare_v2(db, zSql, -1, &p, 0) != SQLITE_OK || sqlite3_step(p) != SQLITE_ROW) die(db, zSql);
  const char *z = (const char *)sqlite3_column_text(p, 0);
  char *zCopy = strdup(z ? z : "");
  sqlite3_finalize(p);
  return zCopy;
}

static void flush(sqlite3 *db) {
  char *z = ask(db, FLUSH);
  if (strcmp(z, "1")) die(0, "the flush failed");
  free(z);
}

/* A number that verneuil_status() says of the first database. */
static int64_t status_number(sqlite3 *db, const char *zKey) {
  char zSql[200];
  snprintf(zSql, sizeof zSql, "select verneuil_status() ->> '$.databases[0].%s'", zKey);
  char *z = ask(db, zSql);
  int64_t n = strtoll(z, 0, 10);
  free(z);
  return n;
}

/* ------------------------------------------------------------------ memory */

static void memory_row(const char *zWhen) {
  char zLine[200];
  long rss = 0, anon = 0, threads = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(zLine, sizeof zLine, f)) {
    sscanf(zLine, "VmRSS: %ld", &rss);
    sscanf(zLine, "RssAnon: %ld", &anon);
    sscanf(zLine, "Threads: %ld", &threads);
  }
  if (f) fclose(f);
  static long base;
  if (!base) base = rss;
  printf("| %s | %.1f | %.1f | %.2f | %ld |\n", zWhen, (double)rss / 1024, (double)anon / 1024, (double)rss / (double)base,
         threads);
}

static int memory(char **a) {
  sqlite3 *stock = open_db(a[1], "unix");
  run(stock, "select count(*) from t where id < 1000");
  memory_row("stock SQLite, the database open");
  load(a[0]);
  memory_row("library loaded");
  sqlite3 *db = open_db(a[1], "verneuil");
  run(db, "update t set n=n+1 where id=1");
  memory_row("first replicated open and commit");
  flush(db);
  memory_row("flushed (the whole database sent)");
  for (int i = 0; i < 1000; i++) execf(db, "update t set n=n+1 where id=%d", i * 100);
  flush(db);
  memory_row("1,000 commits later, flushed");
  sqlite3_close(db);
  sqlite3_close(stock);
  return 0;
}

/* ------------------------------------------------------------------ databases */

/* Half of a row compresses two to one (hexadecimal digits), half not at all. */
static void fill(sqlite3 *db, int64_t bytes) {
  run(db, "create table if not exists t(id integer primary key, n, s, b)");
  execf(db, "insert into t(n, s, b) with recursive c(x) as (values(1) union all select x+1 from c where x<%lld)"
            " select 0, hex(randomblob(250)), randomblob(500) from c",
        (long long)(bytes / 1024));
}

static int fill_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma journal_mode=off; pragma synchronous=off");
  fill(db, atoll(a[3]));
  run(db, "pragma journal_mode=delete");
  if (!strcmp(a[1], "verneuil")) flush(db);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ trace */

/* The end of the changelog as a number of bytes, 0 without one: see spool/doc.go. */
static int64_t log_end(sqlite3 *db, const char *zVfs) {
  uint64_t head = 0, segment = 0;
  struct stat st;
  char zPath[4096];
  if (strcmp(zVfs, "verneuil")) return 0;
  char *zSpool = ask(db, "select verneuil_status() ->> '$.databases[0].spool'");
  snprintf(zPath, sizeof zPath, "%s/state", zSpool);
  int fd = open(zPath, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || pread(fd, &head, 8, 80) != 8) die(0, zPath);
  close(fd);
  segment = head >> 32;
  snprintf(zPath, sizeof zPath, "%s/log.%016llx", zSpool, (unsigned long long)segment);
  free(zSpool);
  int64_t size = stat(zPath, &st) ? 1 << 20 : st.st_size;
  return (int64_t)(segment * (uint64_t)size + (head & 0xffffffff));
}

static int trace(char **a) {
  int n = atoi(a[5]);
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  execf(db, "pragma journal_mode=%s; pragma synchronous=%s", a[3], a[4]);
  fill(db, 1 << 20);
  sqlite3_stmt *p;
  if (sqlite3_prepare_v2(db, "update t set n=n+1 where id=?1", -1, &p, 0) != SQLITE_OK) die(db, "prepare");
  int64_t before = 0;
  for (int i = -20; i < n; i++) {
    if (i == 0) {
      run(db, FLUSH);
      before = log_end(db, a[1]);
      lseek(-1, 1, SEEK_SET);
    }
    sqlite3_bind_int(p, 1, 1 + (i + 20) * 7 % 1000);
    if (sqlite3_step(p) != SQLITE_DONE) die(db, "step");
    sqlite3_reset(p);
  }
  lseek(-1, 2, SEEK_SET);
  printf("%.1f\n", (double)(log_end(db, a[1]) - before) / n);
  sqlite3_finalize(p);
  run(db, FLUSH);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ update */

static int update(char **a) {
  load(a[0]);
  sqlite3 *db = open_db(a[1], "verneuil");
  run(db, "update t set n=1 where id=1");
  flush(db);
  for (int i = 0; i < atoi(a[2]); i++) {
    int64_t calls = status_number(db, "calls");
    execf(db, "update t set n=n+1 where id=%d", 1 + i * 1237 % 100000);
    flush(db);
    printf("%lld\n", (long long)(status_number(db, "calls") - calls));
    fflush(stdout);
    if (getchar() == EOF) break; /* whoever reads looks at the target first */
  }
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ wal */

static struct {
  int commits, checkpoints, complete, resets, busy, framesLast, framesMax;
} wal;

/* What SQLite's own hook does (sqlite3WalDefaultHook), counted. */
static int wal_hook(void *p, sqlite3 *db, const char *zDb, int frames) {
  (void)p;
  wal.commits++;
  if (frames < wal.framesLast) wal.resets++;
  wal.framesLast = frames;
  if (frames > wal.framesMax) wal.framesMax = frames;
  if (frames < 1000) return SQLITE_OK;
  int log = -1, done = -1;
  int rc = sqlite3_wal_checkpoint_v2(db, zDb, SQLITE_CHECKPOINT_PASSIVE, &log, &done);
  wal.checkpoints++;
  wal.complete += rc == SQLITE_OK && log == done;
  wal.busy += rc == SQLITE_BUSY;
  return SQLITE_OK;
}

static int wal_main(char **a) {
  int rows = atoi(a[3]);
  char zWal[4096];
  struct stat st = {0};
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma journal_mode=wal; pragma synchronous=normal; create table w(id integer primary key, s)");
  sqlite3_wal_hook(db, wal_hook, 0);
  sqlite3_stmt *p;
  if (sqlite3_prepare_v2(db, "insert into w(s) values(printf('%.*c', 100, 'x') || ?1)", -1, &p, 0) != SQLITE_OK)
    die(db, "prepare");
  int64_t begin = clock_ns(CLOCK_MONOTONIC), beginCpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < rows; i++) {
    if (i % 100 == 0) run(db, "begin");
    sqlite3_bind_int(p, 1, i);
    if (sqlite3_step(p) != SQLITE_DONE) die(db, "step");
    sqlite3_reset(p);
    if (i % 100 == 99) run(db, "commit");
  }
  double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - begin) / 1e9;
  double cpu = (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - beginCpu) / 1e9;
  snprintf(zWal, sizeof zWal, "%s-wal", a[2]);
  stat(zWal, &st);
  printf("| %s | %.2f | %.2f | %d | %d | %d | %d | %d | %d | %lld |\n", a[1], seconds, cpu, wal.commits, wal.checkpoints, wal.complete,
         wal.busy, wal.resets, wal.framesMax, (long long)st.st_size);
  sqlite3_finalize(p);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ rate */

static int rate(char **a) {
  int64_t perSecond = atoi(a[2]), n = perSecond * atoi(a[3]);
  int64_t *aTime = malloc(sizeof *aTime * (size_t)n);
  load(a[0]);
  sqlite3 *db = open_db(a[1], "verneuil");
  run(db, "pragma journal_mode=wal; pragma synchronous=normal");
  fill(db, 4 << 20);
  run(db, "pragma user_version=1");
  flush(db);
  int64_t begin = clock_ns(CLOCK_MONOTONIC) + 1100000000; /* past the interval of the flush's manifest */
  for (int64_t i = 0; i < n; i++) {
    int64_t at = begin + i * 1000000000 / perSecond;
    struct timespec t = {at / 1000000000, at % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == EINTR) {}
    execf(db, "begin; update t set n=n+1 where id=%lld; pragma user_version=%lld; commit", i * 37 % 4000 + 1, i + 2);
    aTime[i] = clock_ns(CLOCK_REALTIME);
  }
  flush(db);
  FILE *f = fopen(a[4], "w");
  if (!f) die(0, a[4]);
  for (int64_t i = 0; i < n; i++) fprintf(f, "%lld %lld\n", (long long)i + 2, (long long)aTime[i]);
  if (fclose(f)) die(0, a[4]);
  sqlite3_close(db);
  free(aTime);
  return 0;
}

int main(int argc, char **argv) {
  static const struct {
    const char *zName;
    int nArg;
    int (*xMain)(char **);
  } a[] = {{"memory", 2, memory}, {"fill", 4, fill_main}, {"trace", 6, trace},
           {"update", 3, update}, {"wal", 4, wal_main},   {"rate", 5, rate}};
  for (unsigned i = 0; argc > 1 && i < sizeof a / sizeof *a; i++)
    if (!strcmp(argv[1], a[i].zName) && argc == a[i].nArg + 2) return a[i].xMain(argv + 2);
  fprintf(stderr, "see the head of host.c\n");
  return 2;
}
