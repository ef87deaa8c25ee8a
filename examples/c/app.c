/* A program that replicates app.db: cc app.c -lsqlite3 && VERNEUIL_CONFIG=@verneuil.json ./a.out */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int rc, sqlite3 *db) {
  if (rc == SQLITE_OK) return;
  fprintf(stderr, "%s\n", sqlite3_errmsg(db));
  exit(1);
}

static int print(void *label, int n, char **values, char **names) {
  (void)n, (void)names;
  printf((char *)label, values[0]);
  return 0;
}

int main(void) {
  const char *library = getenv("VERNEUIL_LIB");
  sqlite3 *first, *db;

  /* Once in a process, on any connection, and before the database is opened. */
  check(sqlite3_open(":memory:", &first), first);
  sqlite3_enable_load_extension(first, 1);
  check(sqlite3_load_extension(first, library ? library : "/usr/local/lib/libverneuil_vfs.so", 0, 0), first);

  check(sqlite3_open("app.db", &db), db);
  check(sqlite3_exec(db, "create table if not exists visits(at text); insert into visits values(datetime('now'))", 0, 0, 0), db);
  check(sqlite3_exec(db, "select count(*) from visits", print, "%s visits\n", 0), db);

  /* Not needed: commits go out by themselves. It waits until all of them are out. */
  check(sqlite3_exec(db, "select verneuil_flush()", print, "safe: %s\n", 0), db);
  sqlite3_close(db);
  sqlite3_close(first);
  return 0;
}
