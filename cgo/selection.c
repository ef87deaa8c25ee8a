/*
** Which databases are replicated: see selection.h. SQLite's own GLOB compares paths with the
** patterns, which Go has checked (vfs/config_patterns.go).
**
** A VFS is not told why a file is opened. But it is told which connection opened a database
** (SQLITE_FCNTL_PDB, from sqlite3BtreeOpen), and the connection has its statements. While VACUUM
** INTO runs, it opens its file by an ATTACH (vacuum.c, sqlite3RunVacuum). sqlite3_backup_step()
** begins and commits the transaction on its destination without any statement.
*/
#include "selection.h"
SQLITE_EXTENSION_INIT3
#include <string.h>

static char **azInclude, **azExclude;

void selectionSettings(char **azIncluded, char **azExcluded) {
  azInclude = azIncluded;
  azExclude = azExcluded;
}

/* The first pattern that matches, or NULL. A pattern without a slash is compared with the file's
** name. */
static const char *matching(char **az, const char *zPath) {
  const char *zSlash = strrchr(zPath, '/'), *zFile = zSlash ? zSlash + 1 : zPath;
  for (; az && *az; az++)
    if (!sqlite3_strglob(*az, strchr(*az, '/') ? zPath : zFile)) return *az;
  return 0;
}

char *selectionExcludes(const char *zPath) {
  const char *z = matching(azExclude, zPath);
  if (z) return sqlite3_mprintf("it matches %s, of make_default's exclude", z);
  if (azInclude && *azInclude && !matching(azInclude, zPath))
    return sqlite3_mprintf("it matches no pattern of make_default's include");
  return 0;
}

int selectionIncludes(const char *zPath) { return matching(azInclude, zPath) != 0; }

/* The text after blanks and comments. */
static const char *firstWord(const char *z) {
  for (;;) {
    z += strspn(z, " \t\r\n\f;");
    if (!strncmp(z, "--", 2)) {
      z += strcspn(z, "\n");
    } else if (!strncmp(z, "/*", 2)) {
      const char *zEnd = strstr(z + 2, "*/");
      z = zEnd ? zEnd + 2 : z + strlen(z);
    } else {
      return z;
    }
  }
}

/* The next running statement after p; NULL: there is none. */
static sqlite3_stmt *running(sqlite3 *db, sqlite3_stmt *p) {
  while ((p = sqlite3_next_stmt(db, p)) && !sqlite3_stmt_busy(p)) continue;
  return p;
}

int selectionVacuums(sqlite3 *db) {
  for (sqlite3_stmt *p = running(db, 0); p; p = running(db, p)) {
    const char *z = sqlite3_sql(p);
    if (z && !sqlite3_strnicmp(firstWord(z), "vacuum", 6)) return 1;
  }
  return 0;
}

int selectionRunsSeveral(sqlite3 *db) {
  sqlite3_stmt *p = running(db, 0);
  return p && running(db, p);
}

int selectionRunsSql(sqlite3 *db) { return running(db, 0) != 0; }

int selectionWrites(sqlite3 *db) {
  for (sqlite3_stmt *p = running(db, 0); p; p = running(db, p))
    if (!sqlite3_stmt_readonly(p)) return 1;
  return 0;
}
