/*
** Finding or making a spool's state page. This runs when a database is opened, and when the page
** is lost; never in a commit.
*/
#ifndef VERNEUIL_SPOOL_STATE_H
#define VERNEUIL_SPOOL_STATE_H
#include "files.h"
#include "spool.h"

typedef struct SpoolFound {
  SpoolState *st;   /* mapped: the caller unmaps it */
  uint64_t ino;     /* the inode of its file */
  int attachFd;     /* holds the lock of those who attach */
  const char *zWhy; /* why there is none */
} SpoolFound;

/* Finds the state of the database at zPath, which is the file *pId, and makes it with its directory if
** need be. The lock of those who attach is tried nTry times, and held on return, so that a state of
** later cannot be put to use before: the caller gives it back (spoolUnlockAttach). 0: p->zWhy says why, and
** nothing is held. */
int spoolFindState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, SpoolFound *p);

#endif
