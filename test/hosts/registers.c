/*
** Writes and reads registers and lists in one database, and says on standard output what it asked
** and what it was answered, with the times of a clock that all processes of the machine share.
**
**     registers LIBRARY URI create
**     registers LIBRARY URI NAME OPERATIONS
**     registers LIBRARY URI NAME read
**
** The database has rows with the keys 0 to KEYS. The first LISTS of them are lists, to which a
** transaction appends "NAME.n,"; the others are registers, which it sets to that. Each transaction
** reads them all first, and changes two of them. Now and then one changes the last row, too, which is
** a large register: its value is repeated very often. If that is not so, it is read as "TORN". "create" makes the table, which OPERATIONS
** expect. After so many, or at the end of standard input, the program ends. "read" is one that
** only reads.
**
**     ask TIME read
**     ask TIME write KEY VALUE...
**     ok TIME VALUE;VALUE;...           what was there before
**     failed TIME MESSAGE               it has not happened, nor will it
**     unknown TIME MESSAGE              it may have happened
**
** That the outcome is unknown is what the library's log says. Log lines go to standard error, too.
*/
#define _GNU_SOURCE
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "sqlite3.h"

#define KEYS 5
#define LISTS 2
#define WIDTH 8     /* the longest value */
#define LARGE 40000 /* times WIDTH bytes: more than what travels in a record */

static sqlite3 *db;
static int realStderr;
static const char *zName;
static char zSeen[1 << 20];

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Writes one line, by one call. */
static void say(const char *zFormat, ...) {
  va_list ap;
  va_start(ap, zFormat);
  char *z = sqlite3_vmprintf(zFormat, ap);
  va_end(ap);
  for (char *c = z; *c; c++)
    if (*c == '\n') *c = ' ';
  size_t n = strlen(z);
  z[n] = '\n';
  if (write(1, z, n + 1) != (ssize_t)n + 1) _exit(9);
  sqlite3_free(z);
}

/* Passes on what was logged, and reports whether it says that an outcome is not known. */
static int loggedUnknown(void) {
  static off_t at;
  static char a[1 << 16];
  int is = 0;
  ssize_t n;
  while ((n = pread(2, a, sizeof a - 1, at)) > 0) {
    a[n] = 0;
    at += n;
    if (strstr(a, "it is not known whether")) is = 1;
    if (write(realStderr, a, n) < 0) break;
  }
  return is;
}

static int run(const char *zSql) { return sqlite3_exec(db, zSql, 0, 0, 0); }

static int row(void *p, int n, char **az, char **azName) {
  (void)p, (void)n, (void)azName;
  snprintf(zSeen + strlen(zSeen), sizeof zSeen - strlen(zSeen), "%s;", az[0]);
  return 0;
}

/* Reads all rows into zSeen. */
static int readAll(void) {
  zSeen[0] = 0;
  return sqlite3_exec(db,
    "select case when k < 5 then v"
    " when v = replace(hex(zeroblob(length(v) / 8)), '00', substr(v, 1, 8)) then rtrim(substr(v, 1, 8), '_')"
    " else 'TORN' end from t order by k", row, 0, 0);
}

static int change(int iKey, const char *zValue) {
  char *z = sqlite3_mprintf(iKey < LISTS ? "update t set v = v || %Q || ',' where k = %d" :
                            "update t set v = %Q where k = %d", zValue, iKey);
  int rc = run(z);
  sqlite3_free(z);
  return rc;
}

static void answer(int rc, int isCommit) {
  long long t = now();
  int isUnknown = loggedUnknown();
  if (rc == SQLITE_OK) {
    say("ok %lld %s", t, zSeen);
    return;
  }
  say("%s %lld %d %s", isCommit && isUnknown ? "unknown" : "failed", t, sqlite3_extended_errcode(db), sqlite3_errmsg(db));
  if (!sqlite3_get_autocommit(db)) run("rollback");
}

static void readOnce(void) {
  say("ask %lld read", now());
  int rc = run("begin");
  if (rc == SQLITE_OK) rc = readAll();
  int rc2 = run("commit");
  answer(rc ? rc : rc2, 0);
}

static void writeOnce(int i, unsigned *pSeed) {
  char zValue[WIDTH + 1], zPadded[WIDTH + 1] = "________", zToo[32] = "", *zLarge = 0;
  int a = rand_r(pSeed) % KEYS, b = (a + 1 + rand_r(pSeed) % (KEYS - 1)) % KEYS, isCommit = 0;
  sqlite3_snprintf(sizeof zValue, zValue, "%s.%d", zName, i);
  if (rand_r(pSeed) % 8 == 0) {
    memcpy(zPadded, zValue, strlen(zValue));
    zLarge = sqlite3_mprintf("update t set v = replace(hex(zeroblob(%d)), '00', %Q) where k = %d",
                             LARGE - rand_r(pSeed) % 20000, zPadded, KEYS);
    snprintf(zToo, sizeof zToo, " %d %s", KEYS, zValue);
  }
  say("ask %lld write %d %s %d %s%s", now(), a, zValue, b, zValue, zToo);
  int rc = run("begin immediate");
  if (rc == SQLITE_OK) rc = readAll();
  if (rc == SQLITE_OK) rc = change(a, zValue);
  if (rc == SQLITE_OK) rc = change(b, zValue);
  if (rc == SQLITE_OK && zLarge) rc = run(zLarge);
  if (rc == SQLITE_OK) {
    isCommit = 1;
    rc = run("commit");
  }
  answer(rc, isCommit);
  sqlite3_free(zLarge);
}

static void fatal(const char *zWhat) {
  loggedUnknown();
  dprintf(realStderr, "registers: %s: %s\n", zWhat, db ? sqlite3_errmsg(db) : "");
  exit(1);
}

static void create(void) {
  if (run("begin immediate; create table if not exists t(k integer primary key, v);"
          "insert or ignore into t values(0, ''), (1, ''), (2, ''), (3, ''), (4, ''), (5, '')") != SQLITE_OK ||
      run("commit") != SQLITE_OK)
    fatal("create");
}

int main(int argc, char **argv) {
  unsigned seed = (unsigned)now() ^ (unsigned)getpid();
  struct pollfd input = {.fd = 0, .events = POLLIN};
  char *zErr = 0;
  if (argc < 4) return 2;
  realStderr = dup(2);
  dup2(memfd_create("log", MFD_CLOEXEC), 2);
  zName = argv[3];
  sqlite3 *loader;
  if (sqlite3_open(":memory:", &loader) != SQLITE_OK || sqlite3_enable_load_extension(loader, 1) != SQLITE_OK ||
      sqlite3_load_extension(loader, argv[1], 0, &zErr) != SQLITE_OK)
    fatal(zErr ? zErr : "load");
  sqlite3_close(loader);
  int isReader = argc > 4 && !strcmp(argv[4], "read"), n = isReader ? 1 : argc > 4 ? atoi(argv[4]) : 0;
  /* The store may be out of reach. */
  while (sqlite3_open_v2(argv[2], &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | (n ? 0 : SQLITE_OPEN_CREATE), 0) != SQLITE_OK) {
    if (!n || isReader) fatal("open");
    sqlite3_close(db);
    if (poll(&input, 1, 100) > 0) return 0;
  }
  sqlite3_busy_timeout(db, 3000);
  if (!n) create();
  for (int i = 0; i < n && (isReader || poll(&input, 1, 0) == 0); i++) {
    if (isReader || rand_r(&seed) % 3 == 0) readOnce();
    else writeOnce(i, &seed);
  }
  sqlite3_close(db);
  loggedUnknown();
  return 0;
}
