/* What a writer costs besides its commits' latency: see host.h. */
#include "host.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ start */

/* Times of a start, in microseconds: load the library, open, the first commit; and the
** median of fork() with the database open, until the child has ended. */
int start_main(char **a) {
  double t0 = now_us(), aFork[201];
  if (strcmp(a[0], "-")) load(a[0]);
  double t1 = now_us();
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "select count(*) from t where id<2");
  double t2 = now_us();
  run(db, "update t set n=n+1 where id=1");
  double t3 = now_us();
  for (int i = 0; i < 201; i++) {
    double t = now_us();
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    if (pid < 0 || waitpid(pid, 0, 0) != pid) die(0, "fork");
    aFork[i] = now_us() - t;
  }
  printf("%.1f %.1f %.1f %.1f\n", t1 - t0, t2 - t1, t3 - t2, median(aFork, 201));
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ memory */

int memory_main(char **a) {
  sqlite3 *stock = open_db(a[1], "unix");
  run(stock, "select count(*) from t where id < 1000");
  memory_line("stock SQLite, the database open");
  load(a[0]);
  memory_line("library loaded");
  sqlite3 *db = open_db(a[1], "verneuil");
  run(db, "update t set n=n+1 where id=1");
  memory_line("first replicated open and commit");
  flush(db);
  memory_line("flushed (the whole database sent)");
  for (int i = 0; i < 1000; i++) execf(db, "update t set n=n+1 where id=%d", i * 100);
  flush(db);
  memory_line("1,000 commits later, flushed");
  sqlite3_close(db);
  sqlite3_close(stock);
  return 0;
}

/* ------------------------------------------------------------------ databases */

/* Half of a row compresses two to one (hexadecimal digits), half not at all. */
void fill(sqlite3 *db, int64_t bytes) {
  run(db, "create table if not exists t(id integer primary key, n, s, b)");
  execf(db, "insert into t(n, s, b) with recursive c(x) as (values(1) union all select x+1 from c where x<%lld)"
            " select 0, hex(randomblob(250)), randomblob(500) from c",
        (long long)(bytes / 1024));
}

int fill_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma journal_mode=off; pragma synchronous=off");
  fill(db, atoll(a[3]));
  run(db, "pragma journal_mode=delete");
  if (!strcmp(a[1], "verneuil")) flush(db);
  sqlite3_close(db);
  return 0;
}

/* Makes a database BYTES long, by a hole of unused pages: the file's length and the number of
** pages in its header (offset 28, file format 1.3.2) are all that changes. Then rows are added behind the hole. */
int extend_main(char **a) {
  unsigned char aPage[2], aCount[4];
  uint64_t bytes = strtoull(a[1], 0, 10);
  int fd = open(a[0], O_RDWR | O_CLOEXEC);
  if (fd < 0 || pread(fd, aPage, 2, 16) != 2) die(0, a[0]);
  uint64_t pages = bytes / ((uint64_t)(aPage[0] << 8 | aPage[1]));
  for (int i = 0; i < 4; i++) aCount[i] = (unsigned char)(pages >> (24 - 8 * i));
  if (pwrite(fd, aCount, 4, 28) != 4 || ftruncate(fd, (off_t)bytes) || close(fd)) die(0, a[0]);
  sqlite3 *db = open_db(a[0], "unix");
  fill(db, 1 << 20);
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

int trace_main(char **a) {
  int n = atoi(a[5]);
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  execf(db, "pragma journal_mode=%s; pragma synchronous=%s", a[3], a[4]);
  fill(db, 1 << 20);
  sqlite3_stmt *p = prepare(db, "update t set n=n+1 where id=?1");
  int64_t before = 0;
  for (int i = -20; i < n; i++) {
    if (i == 0) {
      run(db, "pragma verneuil_flush_replication_data");
      before = log_end(db, a[1]);
      lseek(-1, 1, SEEK_SET);
    }
    sqlite3_bind_int(p, 1, 1 + (i + 20) * 7 % 1000);
    step(p);
  }
  lseek(-1, 2, SEEK_SET);
  printf("%.1f\n", (double)(log_end(db, a[1]) - before) / n);
  sqlite3_finalize(p);
  run(db, "pragma verneuil_flush_replication_data");
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ update */

/* N times: the same one-row commit on a stock copy and on the replicated database, in turns,
** then a flush. A line for each: both commits' and the flush's time in
** microseconds, and API calls. Whoever reads answers each with a line of its own: it looks at the target
** first. Before that a line with the time of the first flush, and at the end
** memory. */
int update_main(char **a) {
  load(a[0]);
  double t = now_us();
  sqlite3 *db = open_db(a[1], "verneuil"), *stock = open_db(a[2], "unix");
  char *zSync = strchr(a[4], '/');
  *zSync++ = 0;
  for (int i = 0; i < 2; i++) {
    execf(i ? stock : db, "pragma journal_mode=%s; pragma synchronous=%s", a[4], zSync);
    execf(i ? stock : db, "update t set n=1 where id=1");
  }
  flush(db);
  printf("%.1f %lld\n", now_us() - t, (long long)status_number(db, "calls"));
  fflush(stdout);
  int64_t rows = ask_number(db, "select max(id) from t");
  sqlite3_stmt *ap[2] = {prepare(stock, "update t set n=n+1 where id=?1"), prepare(db, "update t set n=n+1 where id=?1")};
  for (int i = 0; i < atoi(a[3]); i++) {
    double aTime[2];
    int64_t calls = status_number(db, "calls");
    for (int k = 0; k < 2; k++) {
      int side = k ^ (i & 1);
      sqlite3_bind_int64(ap[side], 1, 1 + (int64_t)i * 12377 % rows);
      t = now_us();
      step(ap[side]);
      aTime[side] = now_us() - t;
    }
    t = now_us();
    flush(db);
    printf("%.1f %.1f %.1f %lld\n", aTime[0], aTime[1], now_us() - t, (long long)(status_number(db, "calls") - calls));
    fflush(stdout);
    if (getchar() == EOF) break;
  }
  memory_line("end");
  _exit(0); /* as if killed: what the next start finds */
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

int wal_main(char **a) {
  int rows = atoi(a[3]);
  char zWal[4096];
  struct stat st = {0};
  load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma journal_mode=wal; pragma synchronous=normal; create table w(id integer primary key, s)");
  sqlite3_wal_hook(db, wal_hook, 0);
  sqlite3_stmt *p = prepare(db, "insert into w(s) values(printf('%.*c', 100, 'x') || ?1)");
  double begin = now_us(), beginCpu = cpu_us(0);
  for (int i = 0; i < rows; i++) {
    if (i % 100 == 0) run(db, "begin");
    sqlite3_bind_int(p, 1, i);
    step(p);
    if (i % 100 == 99) run(db, "commit");
  }
  double seconds = (now_us() - begin) / 1e6, cpu = (cpu_us(0) - beginCpu) / 1e6;
  snprintf(zWal, sizeof zWal, "%s-wal", a[2]);
  stat(zWal, &st);
  printf("%.3f %.3f %d %d %d %d %d %d %lld\n", seconds, cpu, wal.commits, wal.checkpoints, wal.complete, wal.busy,
         wal.resets, wal.framesMax, (long long)st.st_size);
  sqlite3_finalize(p);
  sqlite3_close(db);
  return 0;
}

/* ------------------------------------------------------------------ rate */

/* Commits at a rate, each with its number, from 2, as user_version; OUT gets a line for each: number,
** Unix time in ns after the commit. Prints the processor time of all threads for a commit, in
** microseconds, flush included, and the median time of a commit. */
int rate_main(char **a) {
  int replicated = !strcmp(a[1], "verneuil");
  double perSecond = atof(a[3]);
  int64_t n = (int64_t)(perSecond * atof(a[4]));
  int64_t *aTime = malloc(sizeof *aTime * (size_t)n);
  double *aLatency = malloc(sizeof *aLatency * (size_t)n);
  if (strcmp(a[0], "-")) load(a[0]);
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma journal_mode=wal; pragma synchronous=normal");
  run(db, "pragma user_version=1");
  if (replicated) flush(db);
  double begin = now_us() + 1100000; /* past the interval of the flush's manifest */
  double cpu = cpu_us(1);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = (int64_t)((begin + (double)i * 1e6 / perSecond) * 1e3);
    struct timespec t = {at / 1000000000, at % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == EINTR) {}
    double before = now_us();
    execf(db, "begin; update t set n=n+1 where id=%lld; pragma user_version=%lld; commit", i * 37 % 4000 + 1, i + 2);
    aLatency[i] = now_us() - before;
    aTime[i] = unix_ns();
  }
  if (replicated) flush(db);
  cpu = cpu_us(1) - cpu;
  FILE *f = fopen(a[5], "w");
  if (!f) die(0, a[5]);
  for (int64_t i = 0; i < n; i++) fprintf(f, "%lld %lld\n", (long long)i + 2, (long long)aTime[i]);
  if (fclose(f)) die(0, a[5]);
  printf("%.1f %.1f\n", cpu / (double)n, median(aLatency, (int)n));
  fflush(stdout); /* whoever reads knows now that OUT is complete */
  if (!replicated) getchar(); /* a daemon may still look at the WAL, which the last close deletes */
  sqlite3_close(db);
  free(aTime);
  free(aLatency);
  return 0;
}
