/*
** Finding or making a spool's state page. This runs when a database is opened, and when the page
** is lost; never in a commit.
*/
#ifndef VERNEUIL_SPOOL_STATE_H
#define VERNEUIL_SPOOL_STATE_H
#include "files.h"
#include "spool.h"

/* The state of the database at zPath, which is the file *pId, mapped, and made with its directory if
** need be. Its inode is in *pIno. The lock of those who attach is tried nTry times. NULL: *pzWhy
** says why. The caller unmaps it. */
SpoolState *spoolFindState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, uint64_t *pIno,
                           const char **pzWhy);

#endif
