/*
** What exits.c and forks.c begin with: malloc and its like call enter() before the C library's and
** leave() after it, so that a signal's handler can tell, or choose, that it has interrupted one.
*/
#include <signal.h>
#include <sqlite3-binding.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static void enter(int isFree);
static void leave(void);

void *malloc(size_t n) {
  enter(0);
  void *p = __libc_malloc(n);
  leave();
  return p;
}

void *calloc(size_t n, size_t size) {
  enter(0);
  void *p = __libc_calloc(n, size);
  leave();
  return p;
}

void *realloc(void *pOld, size_t n) {
  enter(0);
  void *p = __libc_realloc(pOld, n);
  leave();
  return p;
}

void free(void *p) {
  enter(1);
  __libc_free(p);
  leave();
}

/* The open database zName, with the extension zLibrary loaded and zSql done; exits where that fails. */
static sqlite3 *begin(const char *zLibrary, const char *zName, const char *zSql) {
  sqlite3 *db, *opened;
  char *zErr = 0;
  if (sqlite3_open(":memory:", &db) != SQLITE_OK) exit(2);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, 0);
  if (sqlite3_load_extension(db, zLibrary, 0, &zErr) == SQLITE_OK && sqlite3_open(zName, &opened) == SQLITE_OK &&
      sqlite3_exec(opened, zSql, 0, 0, &zErr) == SQLITE_OK)
    return opened;
  fprintf(stderr, "%s\n", zErr ? zErr : "open failed");
  exit(1);
}
