/*
** Finding or making a spool's state page. This runs when a database is opened, and when the page
** is lost; never in a commit.
*/
#ifndef VERNEUIL_SPOOL_STATE_H
#define VERNEUIL_SPOOL_STATE_H
#include "files.h"
#include "spool.h"

typedef struct SpoolFound {
  SpoolState *st;   /* mapped; the caller unmaps it */
  uint64_t ino;     /* the inode of its file */
  int attachFd;     /* holds the attach lock */
  const char *zWhy; /* why nothing was found */
} SpoolFound;

/* Maps the state of the database at zPath, which is the file *pId. Makes it, and its directory, if
** need be. Tries to take the attach lock nTry times, and returns with it held, so that no newer
** state is put to use before this one: the caller gives it back (spoolUnlockAttach). 0: p->zWhy
** says why, and nothing is held. */
int spoolFindState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry,
                   SpoolFound *p);

#endif
