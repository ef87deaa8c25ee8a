/*
** Commits in one thread while another opens the database anew whose spool's state was deleted, and
** is about to replace the FIFO's descriptor. Says whether a file that is opened then was written to.
**
** Usage: renew LIBRARY DATABASE STATE FILE, while another process replicates, and does not run. It is
** linked with -rdynamic, so that the extension calls its dup3 and write.
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3-binding.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static sqlite3 *db;
static const char *zState;
static int isRenewing;
static sem_t renewing, writing, renewed;

static void check(int ok, const char *zWhat) {
  if (ok) return;
  fprintf(stderr, "renew: %s failed\n", zWhat);
  exit(1);
}

/* As if the replicator slept. */
static void arm(void) {
  unsigned one = 1;
  int fd = open(zState, O_RDWR);
  check(fd >= 0 && pwrite(fd, &one, sizeof one, 104) == sizeof one, "arming");
  close(fd);
}

static void insert(void) { check(sqlite3_exec(db, "insert into t(b) values('x')", 0, 0, 0) == SQLITE_OK, "insert"); }

static void *commit(void *unused) {
  sem_wait(&renewing);
  insert();
  return unused;
}

int dup3(int from, int to, int flags) {
  if (isRenewing) {
    arm();
    sem_post(&renewing);
    sem_wait(&writing);
  }
  return (int)syscall(SYS_dup3, from, to, flags);
}

ssize_t write(int fd, const void *p, size_t n) {
  if (isRenewing && n == 1) {
    sem_post(&writing);
    sem_wait(&renewed);
  }
  return syscall(SYS_write, fd, p, n);
}

int main(int argc, char **argv) {
  sqlite3 *other;
  pthread_t t;
  struct stat s;
  check(argc == 5, "usage");
  zState = argv[3];
  check(sqlite3_open(":memory:", &db) == SQLITE_OK, "open");
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)0);
  check(sqlite3_load_extension(db, argv[1], 0, 0) == SQLITE_OK, "load");
  sqlite3_close(db);
  check(sqlite3_open(argv[2], &db) == SQLITE_OK, "open");
  arm();
  insert(); /* which opens the FIFO */
  check(!unlink(zState), "unlink");
  check(!pthread_create(&t, 0, commit, 0), "pthread_create");
  isRenewing = 1;
  check(sqlite3_open(argv[2], &other) == SQLITE_OK, "open");
  for (int i = 0; i < 8; i++) open(argv[4], O_RDWR | O_CREAT, 0600); /* one gets the number that is free again */
  sem_post(&renewed);
  pthread_join(t, 0);
  isRenewing = 0;
  check(!stat(argv[4], &s), "stat");
  printf("%d bytes\n", (int)s.st_size);
  sqlite3_close(other);
  sqlite3_close(db);
  return 0;
}
