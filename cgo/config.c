/*
** What C must know of the configuration before Go runs, which is before any database is opened.
*/
#define _GNU_SOURCE
#include "config.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EarlyConfig verneuilConfig;

/* A configuration file is not longer than this. */
#define CONFIG_BYTES_MAX (1 << 20)

/* The path of the file that z, which begins with '@', names, as vfs.ParseConfig has it: "~/" is the
** home directory, and blanks at the end are no part of the name. malloc'd. */
static char *configPath(const char *z) {
  const char *zHome = getenv("HOME");
  int inHome = z[1] == '~' && z[2] == '/' && zHome, nName = (int)strlen(z += inHome ? 2 : 1);
  while (nName && strchr(" \t\r\n", z[nName - 1])) nName--;
  char *zPath = 0;
  return asprintf(&zPath, "%s%.*s", inHome ? zHome : "", nName, z) < 0 ? 0 : zPath;
}

static char *readFile(const char *zPath, char **pzWhy) {
  FILE *f = zPath ? fopen(zPath, "re") : 0;
  char *buf = f ? malloc(CONFIG_BYTES_MAX + 1) : 0;
  size_t n = buf ? fread(buf, 1, CONFIG_BYTES_MAX, f) : 0;
  if (!buf || ferror(f)) {
    *pzWhy = sqlite3_mprintf("VERNEUIL_CONFIG: configuration: %s: %s", zPath ? zPath : "", strerror(errno));
    free(buf);
    buf = 0;
  }
  if (f) fclose(f);
  if (buf) buf[n] = 0;
  return buf;
}

char *configText(char **pzWhy, char **pzFile) {
  const char *z = secure_getenv("VERNEUIL_CONFIG"); /* a setuid program does not obey its caller */
  if (!z || !*(z += strspn(z, " \t\r\n"))) {
    *pzWhy = sqlite3_mprintf("VERNEUIL_CONFIG is not set in the environment of this process");
    return 0;
  }
  if (*z != '@') return strdup(z);
  char *zPath = configPath(z);
  char *zText = readFile(zPath, pzWhy);
  *pzFile = zPath;
  return zText;
}

/* SQLite itself reads the JSON. What else is wrong with it, Go says when it runs. */
static const char zRead[] =
    "select coalesce(json_type(?1, '$.make_default') in ('true', 'object'), 0),"
    " coalesce(json_type(?1, '$.replication_spooling_dir') = 'text', 0),"
    " coalesce(json_type(?1, '$.ceph_vfs') = 'true', 0)";

static void readText(EarlyConfig *p, const char *z) {
  sqlite3 *db = 0;
  sqlite3_stmt *pStmt = 0;
  if (z[strspn(z, " \t\r\n")] != '{') { /* JSON or not: it has no keys */
    p->zProblem = sqlite3_mprintf("VERNEUIL_CONFIG: want a JSON object, or @ and the path of a file "
                                  "that holds one (verneuilctl config check says more)");
    p->isBroken = 1;
    return;
  }
  int rc = sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 0);
  if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(db, zRead, -1, &pStmt, 0);
  if (rc == SQLITE_OK) rc = sqlite3_bind_text(pStmt, 1, z, -1, SQLITE_STATIC);
  if (rc == SQLITE_OK && sqlite3_step(pStmt) == SQLITE_ROW) {
    p->makeDefault = sqlite3_column_int(pStmt, 0);
    p->hasSpool = sqlite3_column_int(pStmt, 1);
    p->cephVfs = sqlite3_column_int(pStmt, 2);
    if (!p->hasSpool) p->zProblem = sqlite3_mprintf("replication_spooling_dir is not set in VERNEUIL_CONFIG");
  } else {
    const char *zErr = db ? sqlite3_errmsg(db) : "out of memory";
    if (!pStmt) p->zProblem = sqlite3_mprintf("make_default cannot be read, as this SQLite has no JSON functions (%s)", zErr);
    else p->zProblem = sqlite3_mprintf("VERNEUIL_CONFIG: %s (verneuilctl config check says where)", zErr);
    p->isBroken = 1;
  }
  sqlite3_finalize(pStmt);
  sqlite3_close(db);
}

void configRead(EarlyConfig *p) {
  memset(p, 0, sizeof *p);
  char *zFile = 0, *z = configText(&p->zProblem, &zFile);
  if (z) readText(p, z);
  else p->isBroken = 1;
  free(z);
  free(zFile);
}
