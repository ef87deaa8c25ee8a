/*
** SQLite's API. Every C file of libverneuil_vfs that calls SQLite says SQLITE_EXTENSION_INIT3 after its
** includes; base.c, which has the pointer, says SQLITE_EXTENSION_INIT1.
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

#endif
