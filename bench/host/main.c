#include "host.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLUSH "pragma verneuil_flush_replication_data"

void die(sqlite3 *db, const char *zWhat) {
  fprintf(stderr, "%s: %s\n", zWhat, db ? sqlite3_errmsg(db) : strerror(errno));
  exit(1);
}

void run(sqlite3 *db, const char *zSql) {
  if (sqlite3_exec(db, zSql, 0, 0, 0) != SQLITE_OK) die(db, zSql);
}

void execf(sqlite3 *db, const char *zFormat, ...) {
  va_list ap;
  va_start(ap, zFormat);
  char *z = sqlite3_vmprintf(zFormat, ap);
  va_end(ap);
  run(db, z);
  sqlite3_free(z);
}

sqlite3_stmt *prepare(sqlite3 *db, const char *zSql) {
  sqlite3_stmt *p;
  if (sqlite3_prepare_v2(db, zSql, -1, &p, 0) != SQLITE_OK) die(db, zSql);
  return p;
}

void step(sqlite3_stmt *p) {
  int rc;
  while ((rc = sqlite3_step(p)) == SQLITE_ROW) {}
  if (rc != SQLITE_DONE) die(sqlite3_db_handle(p), sqlite3_sql(p));
  sqlite3_reset(p);
}

char *ask(sqlite3 *db, const char *zSql) {
  sqlite3_stmt *p = prepare(db, zSql);
  if (sqlite3_step(p) != SQLITE_ROW) die(db, zSql);
  const char *z = (const char *)sqlite3_column_text(p, 0);
  char *zCopy = strdup(z ? z : "");
  sqlite3_finalize(p);
  return zCopy;
}

int64_t ask_number(sqlite3 *db, const char *zSql) {
  char *z = ask(db, zSql);
  int64_t n = strtoll(z, 0, 10);
  free(z);
  return n;
}

/* One flush waits for at most half a minute; the first upload of a big database may take longer. */
void flush(sqlite3 *db) {
  for (int i = 0; i < 100; i++)
    if (ask_number(db, FLUSH) == 1) return;
  fprintf(stderr, "the flush failed: %s\n", ask(db, "select verneuil_status()"));
  exit(1);
}

int64_t status_number(sqlite3 *db, const char *zKey) {
  char zSql[200];
  snprintf(zSql, sizeof zSql, "select verneuil_status() ->> '$.databases[0].%s'", zKey);
  return ask_number(db, zSql);
}

void load(const char *zLibrary) {
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

sqlite3 *open_db(const char *zPath, const char *zVfs) {
  sqlite3 *db;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
  if (sqlite3_open_v2(zPath, &db, flags, zVfs) != SQLITE_OK) die(db, zPath);
  sqlite3_busy_timeout(db, 10000); /* Litestream and verneuilctl hold read transactions */
  return db;
}

static int64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double now_us(void) { return (double)clock_ns(CLOCK_MONOTONIC) * 1e-3; }
double cpu_us(int ofProcess) {
  return (double)clock_ns(ofProcess ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID) * 1e-3;
}
int64_t unix_ns(void) { return clock_ns(CLOCK_REALTIME); }

int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median(double *a, int n) {
  qsort(a, (size_t)n, sizeof(double), ascending);
  return a[n / 2];
}

void memory_line(const char *zWhen) {
  char zLine[200];
  long rss = 0, anon = 0, peak = 0, threads = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(zLine, sizeof zLine, f)) {
    sscanf(zLine, "VmHWM: %ld", &peak);
    sscanf(zLine, "VmRSS: %ld", &rss);
    sscanf(zLine, "RssAnon: %ld", &anon);
    sscanf(zLine, "Threads: %ld", &threads);
  }
  if (f) fclose(f);
  printf("%s|%ld|%ld|%ld|%ld\n", zWhen, rss, anon, peak, threads);
  fflush(stdout);
}

int main(int argc, char **argv) {
  static const struct {
    const char *zName;
    int nArg; /* -1: any number, ended by a null pointer */
    int (*xMain)(char **);
    const char *zUsage;
  } a[] = {
      {"commit", -1, commit_main, "LIBRARY DIRECTORY SECONDS LOAD CELL..."},
      {"blocks", -1, blocks_main, "LIBRARY DIRECTORY PAIRS SECONDS PAUSE CELL..."},
      {"start", 3, start_main, "LIBRARY|- VFS DATABASE"},
      {"memory", 2, memory_main, "LIBRARY DATABASE"},
      {"fill", 4, fill_main, "LIBRARY VFS DATABASE BYTES"},
      {"extend", 2, extend_main, "DATABASE BYTES"},
      {"trace", 6, trace_main, "LIBRARY VFS DATABASE MODE SYNC N"},
      {"update", 5, update_main, "LIBRARY DATABASE STOCK-COPY N MODE/SYNC"},
      {"wal", 4, wal_main, "LIBRARY VFS DATABASE ROWS"},
      {"rate", 6, rate_main, "LIBRARY|- VFS DATABASE PER_SECOND SECONDS OUT"},
      {"follow", 3, follow_main, "LIBRARY URI UNTIL"},
      {"query", -1, query_main, "LIBRARY|- VFS URI SQL..."},
      {"compare", 5, compare_main, "LIBRARY URI LOCAL SECONDS SQL"},
      {"each", 5, each_main, "LIBRARY|- VFS DATABASE SQL N"},
      {"lost", 5, lost_main, "LIBRARY|- VFS DATABASE SQL N"},
      {"crowd", 5, crowd_main, "LIBRARY VFS DATABASE THREADS N"},
      {"turns", 5, turns_main, "LIBRARY DATABASE N TEMP TEMP"},
      {"takeover", 4, takeover_main, "LIBRARY DATABASE TEMP TEMP"},
      {"bulk", 5, bulk_main, "LIBRARY VFS DATABASE SQL MIB"},
      {"reads", 5, reads_main, "LIBRARY VFS DATABASE SQL N"},
      {"watch", 6, watch_main, "LIBRARY VFS DATABASE N TEMP TEMP"},
  };
  for (unsigned i = 0; argc > 1 && i < sizeof a / sizeof *a; i++)
    if (!strcmp(argv[1], a[i].zName) && (a[i].nArg < 0 ? argc > 4 : argc == a[i].nArg + 2)) return a[i].xMain(argv + 2);
  for (unsigned i = 0; i < sizeof a / sizeof *a; i++) fprintf(stderr, "host %s %s\n", a[i].zName, a[i].zUsage);
  return 2;
}
