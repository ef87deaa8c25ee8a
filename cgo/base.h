/*
** The VFS below ours, and what our VFSes leave to it.
*/
#ifndef VERNEUIL_BASE_H
#define VERNEUIL_BASE_H
#include "verneuil.h"

/* The VFS below ours: what sqlite3_vfs_find(0) gave before we registered, or a copy of that as it
** was then. */
extern sqlite3_vfs *_Atomic verneuilBase;

/* Completes a VFS of ours before it is registered: a method that is NULL there is the base's from
** here on, if the base has it. p->iVersion is the newest version of the structure that p can be; it
** becomes the base's where that is older. A file of the base's fits into p->szOsFile, and a path of
** it into p->mxPathname. It may be called again. */
void baseComplete(sqlite3_vfs *p);

/* What the URI says of that parameter, a boolean; if it does not say, otherwise. A name has
** parameters only under SQLITE_OPEN_URI: that of another shim may be a mere string, and
** sqlite3_uri_boolean looks before it, too. (Stock VFSes ask under the same condition: os_unix.c,
** findCreateFileMode and fillInUnixFile.) */
int uriSays(const char *zName, int flags, const char *zParameter, int otherwise);

#endif
