/*
** For C programs that link libverneuil_vfs instead of loading it:
**
**     sqlite3_auto_extension((void (*)(void))sqlite3_verneuilvfs_init);
**
** Call it once, before the first database is opened. The VFSes exist once a connection has been
** opened after that, so open ":memory:" first; then open databases with vfs=verneuil, or any
** if VERNEUIL_CONFIG has make_default. "pkg-config --cflags --libs verneuil_vfs" has the flags;
** SQLite itself is the program's own.
*/
#ifndef VERNEUIL_VFS_H
#define VERNEUIL_VFS_H
#include <sqlite3.h>
#ifdef __cplusplus
extern "C" {
#endif

#define VERNEUIL_VFS_VERSION "@VERSION@"

struct sqlite3_api_routines;
int sqlite3_verneuilvfs_init(sqlite3 *, char **, const struct sqlite3_api_routines *);

#ifdef __cplusplus
}
#endif
#endif
