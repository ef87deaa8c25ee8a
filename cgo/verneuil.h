/*
** What the C files of libverneuil_vfs share. Every file but base.c says
** SQLITE_EXTENSION_INIT3 after including this.
*/
#ifndef VERNEUIL_H
#define VERNEUIL_H

/* Another statically linked extension may have a global of this name. */
#define sqlite3_api verneuil_sqlite3_api
#if !__has_include("sqlite3ext.h")
#error "no sqlite3ext.h: build with make, which takes it from the go-sqlite3 module, or give CGO_CFLAGS its directory by -I"
#endif
#include "sqlite3ext.h"
#if SQLITE_VERSION_NUMBER < 3041000
#error "this sqlite3ext.h is older than 3.41: build with make, which takes the go-sqlite3 module's, or give CGO_CFLAGS a newer one's directory by -I"
#endif

/* ---- gort.c: the Go runtime and the process ---- */

/* Starts the Go runtime if need be. Returns 1 if Go may be called by this
** process now, 0 if it may not: a child forked from a process that runs Go, or
** limits under which the start would kill the host. */
int verneuilGo(void);

/* Which limit it is that verneuilGo() returns 0 for; NULL: none. */
const char *verneuilRefused(void);

/* Returns 1 if Go runs in this process and may be called; starts nothing. */
int verneuilGoRuns(void);

/* Returns 1 in a child that was forked from a process that runs Go: it never can. */
int verneuilForked(void);

/* Identifies this process: 10 bits of its PID namespace, 22 of its pid, and the low half of its start
** time. Right in forked children too. Costs no system call but the first time. */
sqlite3_uint64 verneuilToken(void);

/* The pid of a token of our namespace; 0: it is of another, and says nothing here. */
static inline unsigned verneuilPid(sqlite3_uint64 token) {
  return (token ^ verneuilToken()) >> 54 ? 0 : (unsigned)(token >> 32) & 0x3fffff;
}

/* ---- log.c ---- */

enum { VERNEUIL_ERROR = 1, VERNEUIL_WARN, VERNEUIL_INFO, VERNEUIL_DEBUG };

/* One line to stderr, if VERNEUIL_LOG (or RUST_LOG) asks for that level; else from warn on. */
void verneuilLog(int level, const char *zFormat, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- base.c ---- */

/* The VFS below ours: what sqlite3_vfs_find(0) gave before we registered, or a copy of how that was. */
extern sqlite3_vfs *_Atomic verneuilBase;

/* ---- init.c: registration ---- */

/* Set up the api pointer, the VFSes (once per process) and the SQL functions of
** db. It is also what sqlite3_auto_extension runs. */
int verneuilInit(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi);

/* ---- functions.c ---- */

int verneuilFunctions(sqlite3 *db);

#endif
