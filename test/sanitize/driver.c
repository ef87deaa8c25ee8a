/*
** Drives the C of cgo/ under the sanitizers and valgrind: threads and processes that
** write databases in all journal modes, spools that vanish, processes that are killed,
** replicas that move on. It is linked with SQLite's amalgamation and with go.c in Go's
** place. What SQLite answers is checked, and the databases' integrity; the rest is what
** the sanitizers say.
**
** Usage: driver DIRECTORY SEED STEPS
*/
#define _GNU_SOURCE
#include "driver.h"
#include "sqlite3-binding.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 3

extern int verneuilInit(sqlite3 *, char **, const void *);

char zSpoolRoot[4000];
static char zDirectory[3900];
static int nStep;

static void die(const char *zWhat, const char *zWhy) {
  fprintf(stderr, "%s: %s\n", zWhat, zWhy);
  exit(1);
}

/* xorshift64*: what a worker does depends on its seed alone. */
typedef struct Random {
  uint64_t x;
} Random;

static unsigned choose(Random *p, unsigned n) {
  p->x ^= p->x >> 12;
  p->x ^= p->x << 25;
  p->x ^= p->x >> 27;
  return (unsigned)((p->x * 0x2545F4914F6CDD1Du >> 33) % n);
}
#define PICK(p, ...) ((const char *[]){__VA_ARGS__})[choose(p, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))]

/* ---- SQL ---- */

static sqlite3 *openDatabase(const char *zName) {
  sqlite3 *db;
  char z[4200];
  snprintf(z, sizeof z, "%s/%s", zDirectory, zName);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
  if (sqlite3_open_v2(strstr(zName, "://") ? zName : z, &db, flags, 0) != SQLITE_OK) die(zName, sqlite3_errmsg(db));
  sqlite3_busy_timeout(db, 20);
  return db;
}

/* What several writers of one database may be told. */
static int harmless(sqlite3 *db, int rc) {
  return rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED || strstr(sqlite3_errmsg(db), "wal mode from within") != 0;
}

/* Returns 1 if it was done, 0 if it was refused as it may be; a transaction is ended then. */
static int run(sqlite3 *db, const char *zSql) {
  int rc = sqlite3_exec(db, zSql, 0, 0, 0);
  if (!harmless(db, rc & 0xff)) die(zSql, sqlite3_errmsg(db));
  if (rc && !sqlite3_get_autocommit(db)) sqlite3_exec(db, "rollback", 0, 0, 0);
  return rc == SQLITE_OK;
}

static void mustSay(sqlite3 *db, const char *zSql, const char *zWant) {
  sqlite3_stmt *p;
  int rc;
  while ((rc = sqlite3_prepare_v2(db, zSql, -1, &p, 0)) == SQLITE_BUSY) continue; /* it reads the schema */
  if (rc != SQLITE_OK || sqlite3_step(p) != SQLITE_ROW) die(zSql, sqlite3_errmsg(db));
  const char *z = (const char *)sqlite3_column_text(p, 0);
  if (zWant ? strcmp(z, zWant) != 0 : !z) die(zSql, z ? z : "null");
  sqlite3_finalize(p);
}

/* ---- writers ---- */

static void transaction(sqlite3 *db, Random *r, const char *zEnd) {
  char z[100];
  if (!run(db, "begin immediate")) return;
  for (unsigned i = 1 + choose(r, 8); i > 0; i--) {
    snprintf(z, sizeof z, "insert into t(b) values(randomblob(%s))", PICK(r, "10", "300", "3000", "40000"));
    if (!run(db, z)) return;
  }
  if (choose(r, 3) == 0 && !run(db, "update t set b=randomblob(100) where a%7=1")) return;
  if (choose(r, 5) == 0 && !run(db, "savepoint s; delete from t where a%3=1; rollback to s; release s")) return;
  run(db, zEnd);
}

static void exclusive(sqlite3 *db, Random *r) {
  run(db, "pragma locking_mode=exclusive");
  transaction(db, r, "commit");
  transaction(db, r, "rollback");
  run(db, "pragma locking_mode=normal");
  run(db, "select count(*) from t"); /* gives the lock back */
}

static sqlite3 *openAnew(sqlite3 *db, const char *zName, Random *r) {
  char z[200];
  sqlite3_close(db);
  db = openDatabase(zName);
  snprintf(z, sizeof z, "pragma synchronous=off; pragma cache_size=%s; pragma wal_autocheckpoint=%s; pragma mmap_size=%s",
           PICK(r, "5", "2000"), PICK(r, "3", "1000"), PICK(r, "0", "1000000"));
  run(db, z);
  return db;
}

static sqlite3 *step(sqlite3 *db, const char *zName, Random *r) {
  char z[200];
  unsigned n = choose(r, 100);
  if (n < 55) transaction(db, r, "commit");
  else if (n < 62) transaction(db, r, "rollback");
  else if (n < 66) run(db, "delete from t where a%5=2");
  else if (n < 78) {
    snprintf(z, sizeof z, "pragma wal_checkpoint(%s)", PICK(r, "passive", "full", "restart", "truncate"));
    run(db, z);
  } else if (n < 80) run(db, "vacuum");
  else if (n < 85) {
    db = openAnew(db, zName, r); /* SQLite leaves WAL mode with a stale page cache: begin with none */
    snprintf(z, sizeof z, "pragma journal_mode=%s", PICK(r, "delete", "truncate", "persist", "memory", "wal", "wal", "wal"));
    run(db, z);
  } else if (n < 88) exclusive(db, r);
  else if (n < 92) run(db, "pragma verneuil_flush_replication_data");
  else if (n < 96) mustSay(db, PICK(r, "select verneuil_status()", "select verneuil_perf()", "select verneuil_version()"), 0);
  else db = openAnew(db, zName, r);
  return db;
}

/* ---- threads ---- */

typedef struct Worker {
  pthread_t thread;
  const char *zName;
  uint64_t seed;
} Worker;

static void *work(void *p) {
  Worker *w = p;
  Random r = {w->seed};
  sqlite3 *db = openAnew(0, w->zName, &r);
  for (int i = 0; i < nStep; i++) db = step(db, w->zName, &r);
  sqlite3_close(db);
  return 0;
}

static _Atomic int done;

/* The replicator's part, and meanwhile the spools vanish. */
static void *replicate(void *pSeed) {
  Random r = {*(uint64_t *)pSeed};
  char z[4200];
  for (int i = 0; !done; i++) {
    replicateAll(choose(&r, 2));
    usleep(2000);
    snprintf(z, sizeof z, "%s.%d", zSpoolRoot, i);
    if (choose(&r, 100) == 0) rename(zSpoolRoot, z);
  }
  return 0;
}

static void threads(const char *zName, uint64_t seed) {
  Worker a[WORKERS];
  pthread_t replicator;
  done = 0;
  if (pthread_create(&replicator, 0, replicate, &seed)) die("pthread_create", "failed");
  for (int i = 0; i < WORKERS; i++) {
    a[i] = (Worker){.zName = zName, .seed = seed + 1 + (uint64_t)i};
    if (pthread_create(&a[i].thread, 0, work, &a[i])) die("pthread_create", "failed");
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(a[i].thread, 0);
  done = 1;
  pthread_join(replicator, 0);
}

/* ---- processes ---- */

/* Children write too. All but the first, which must end well, are killed somewhere. */
static void processes(const char *zName, Random *r) {
  pid_t a[WORKERS];
  for (int i = 0; i < WORKERS; i++) {
    Worker w = {.zName = zName, .seed = r->x + (uint64_t)i};
    a[i] = fork();
    if (a[i] < 0) die("fork", "failed");
    if (a[i] == 0) {
      replicatorForked();
      work(&w);
      _exit(0);
    }
  }
  for (int i = 0; i < WORKERS; i++) {
    int status;
    if (i) {
      usleep(1000 * choose(r, 200));
      kill(a[i], SIGKILL);
    }
    replicateAll(1);
    if (waitpid(a[i], &status, 0) != a[i]) die("waitpid", "failed");
    if (i == 0 && status) die("child", "did not end well");
  }
}

/* ---- replicas ---- */

static void *readReplica(void *p) {
  Worker *w = p;
  Random r = {w->seed};
  sqlite3 *db = openDatabase(w->zName);
  for (int i = 0; i < nStep; i++) {
    mustSay(db, "select count(*)+sum(length(b)) from t", 0);
    run(db, PICK(&r, "pragma verneuil_snapshot_refresh=2", "pragma verneuil_snapshot_refresh=0", "pragma verneuil_snapshot_async_reload",
                 "pragma verneuil_snapshot_auto_refresh=on", "pragma verneuil_snapshot_ctime", "pragma verneuil_snapshot_updated"));
    if (choose(&r, 10)) continue;
    sqlite3_close(db);
    db = openDatabase(w->zName);
  }
  mustSay(db, "pragma integrity_check", "ok");
  if (sqlite3_exec(db, "delete from t", 0, 0, 0) != SQLITE_READONLY) die("delete from replica", sqlite3_errmsg(db));
  sqlite3_close(db);
  return 0;
}

static void replicas(uint64_t seed) {
  Worker a[WORKERS];
  char zName[4200], zSql[4200];
  snprintf(zName, sizeof zName, "file:verneuil://h%s/copy.db?vfs=verneuil_snapshot", zDirectory);
  snprintf(zSql, sizeof zSql, "vacuum into '%s/copy.db'", zDirectory);
  sqlite3 *db = openDatabase("a.db");
  if (sqlite3_exec(db, zSql, 0, 0, 0) != SQLITE_OK) die(zSql, sqlite3_errmsg(db));
  sqlite3_close(db);
  for (int i = 0; i < WORKERS; i++) {
    a[i] = (Worker){.zName = zName, .seed = seed + (uint64_t)i};
    if (pthread_create(&a[i].thread, 0, readReplica, &a[i])) die("pthread_create", "failed");
  }
  for (int i = 0; i < WORKERS; i++) pthread_join(a[i].thread, 0);
}

/* ---- all of it ---- */

static void *openFirst(void *p) {
  sqlite3_close(openDatabase("first.db"));
  return p;
}

static void create(const char *zName, const char *zMode) {
  char z[100];
  sqlite3 *db = openDatabase(zName);
  snprintf(z, sizeof z, "pragma journal_mode=%s", zMode);
  mustSay(db, z, zMode);
  run(db, "create table t(a integer primary key, b)");
  sqlite3_close(db);
}

static void check(const char *zName) {
  sqlite3 *db = openDatabase(zName);
  mustSay(db, "pragma integrity_check", "ok");
  sqlite3_close(db);
}

int main(int argc, char **argv) {
  if (argc != 4) die("usage", "driver DIRECTORY SEED STEPS");
  snprintf(zDirectory, sizeof zDirectory, "%s", argv[1]);
  snprintf(zSpoolRoot, sizeof zSpoolRoot, "%s/spool", zDirectory);
  Random r = {strtoull(argv[2], 0, 0) | 1};
  nStep = atoi(argv[3]);
  setenv("VERNEUIL_CONFIG", "{\"make_default\":true}", 1);
  setenv("VERNEUIL_LOG", "off", 1);
  sqlite3_auto_extension((void (*)(void))verneuilInit);
  pthread_t a[WORKERS]; /* each of them finds that nothing is registered yet */
  for (int i = 0; i < WORKERS; i++)
    if (pthread_create(&a[i], 0, openFirst, 0)) die("pthread_create", "failed");
  for (int i = 0; i < WORKERS; i++) pthread_join(a[i], 0);
  create("a.db", "delete");
  create("b.db", "wal");
  for (int i = 0; i < 2; i++) {
    const char *zName = i ? "b.db" : "a.db";
    threads(zName, (r.x << 8) + 17);
    check(zName);
    processes(zName, &r);
    check(zName);
  }
  replicas(r.x);
  replicatorForget();
  sqlite3_shutdown();
  printf("seed %s, %s steps: done\n", argv[2], argv[3]);
  return 0;
}
