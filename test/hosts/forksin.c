/*
** Forks within SQLite, as a signal's handler may, or a VFS below ours: after the first call of the
** system by which SQLite looks at a file or changes it, then after the second one, and so on, until a
** run of the script comes to its end without. The child goes on with its statement, and closes the
** database. SQLite forbids that, but says nothing; whatever becomes of it, that is not the child's end.
**
** Usage: forksin LIBRARY DATABASE JOURNAL_MODE
*/
#include <sqlite3-binding.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int nCall, iFork; /* of this run: the calls up to now, and after which of them to fork */
static pid_t child = -1;

static void called(void) {
  if (++nCall != iFork) return;
  int status;
  child = fork();
  if (!child) alarm(60);
  if (child > 0 && (waitpid(child, &status, 0) != child || status)) {
    printf("call %d: the child ended with status %#x\n", iFork, status);
    exit(1);
  }
}

/* os_unix.c calls the system by a table. */
static int (*xFstat)(int, struct stat *);
static int (*xFtruncate)(int, off_t);
static int (*xUnlink)(const char *);
static ssize_t (*xPread)(int, void *, size_t, off_t);
static ssize_t (*xPwrite)(int, const void *, size_t, off_t);

static int fstatAndFork(int fd, struct stat *p) {
  int rc = xFstat(fd, p);
  called();
  return rc;
}

static int ftruncateAndFork(int fd, off_t n) {
  int rc = xFtruncate(fd, n);
  called();
  return rc;
}

static int unlinkAndFork(const char *z) {
  int rc = xUnlink(z);
  called();
  return rc;
}

static ssize_t preadAndFork(int fd, void *p, size_t n, off_t at) {
  ssize_t got = xPread(fd, p, n, at);
  called();
  return got;
}

static ssize_t pwriteAndFork(int fd, const void *p, size_t n, off_t at) {
  ssize_t put = xPwrite(fd, p, n, at);
  called();
  return put;
}

static void hook(const char *zName, sqlite3_syscall_ptr *px, sqlite3_syscall_ptr xNew) {
  sqlite3_vfs *pUnix = sqlite3_vfs_find("unix");
  sqlite3_syscall_ptr xWas = pUnix->xGetSystemCall(pUnix, zName);
  if (!xWas) return; /* it was compiled without */
  *px = xWas;
  pUnix->xSetSystemCall(pUnix, zName, xNew);
}

static void hookAll(void) {
  hook("fstat", (sqlite3_syscall_ptr *)&xFstat, (sqlite3_syscall_ptr)fstatAndFork);
  hook("ftruncate", (sqlite3_syscall_ptr *)&xFtruncate, (sqlite3_syscall_ptr)ftruncateAndFork);
  hook("unlink", (sqlite3_syscall_ptr *)&xUnlink, (sqlite3_syscall_ptr)unlinkAndFork);
  hook("pread", (sqlite3_syscall_ptr *)&xPread, (sqlite3_syscall_ptr)preadAndFork);
  hook("pread64", (sqlite3_syscall_ptr *)&xPread, (sqlite3_syscall_ptr)preadAndFork);
  hook("pwrite", (sqlite3_syscall_ptr *)&xPwrite, (sqlite3_syscall_ptr)pwriteAndFork);
  hook("pwrite64", (sqlite3_syscall_ptr *)&xPwrite, (sqlite3_syscall_ptr)pwriteAndFork);
}

/* SQLite waits for minutes, in all, for somebody else to end what the parent and its child have both
** done. */
static int sleepNot(sqlite3_vfs *pVfs, int us) {
  (void)pVfs;
  return us;
}

/* What SQLite answers is not our business: after a fork two write to the database. */
static void run(sqlite3 *db, const char *z) {
  sqlite3_exec(db, z, 0, 0, 0);
  if (child) return;
  sqlite3_close(db);
  _exit(0);
}

static void script(const char *zName, const char *zMode) {
  sqlite3 *db;
  char *zJournal = sqlite3_mprintf("pragma journal_mode=%s; pragma cache_size=5", zMode);
  if (sqlite3_open(zName, &db) != SQLITE_OK) exit(2);
  run(db, zJournal);
  sqlite3_free(zJournal);
  run(db, "create table if not exists t(a); delete from t");
  run(db, "with recursive n(i) as (select 1 union all select i+1 from n where i<6) "
          "insert into t select randomblob(3000) from n");
  run(db, "begin; update t set a=randomblob(3000); rollback");
  run(db, "pragma wal_checkpoint(restart)");
  run(db, "insert into t values(1)");
  run(db, "pragma wal_checkpoint(truncate)");
  run(db, "delete from t where rowid%2");
  run(db, "pragma journal_mode=delete");
  if (sqlite3_close(db) != SQLITE_OK) exit(3);
  if (!child) _exit(0);
}

int main(int argc, char **argv) {
  sqlite3 *db;
  char *zErr = 0;
  sqlite3_config(SQLITE_CONFIG_MULTITHREAD); /* a child does not own a recursive mutex of its parent's */
  if (argc != 4 || sqlite3_open(":memory:", &db) != SQLITE_OK) return 2;
  sqlite3_vfs_find("unix")->xSleep = sleepNot;
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, 0);
  if (sqlite3_load_extension(db, argv[1], 0, &zErr) != SQLITE_OK) {
    fprintf(stderr, "%s\n", zErr);
    return 1;
  }
  script(argv[2], argv[3]);
  hookAll();
  do {
    child = -1;
    nCall = 0;
    iFork++;
    script(argv[2], argv[3]);
  } while (child > 0);
  printf("%d forks\n", iFork - 1);
  return 0;
}
