/*
** What C knows of the configuration by itself. The rest it asks Go for (goConfigure), which
** starts with the first database that needs it.
*/
#ifndef VERNEUIL_CONFIG_H
#define VERNEUIL_CONFIG_H
#include "verneuil.h"

typedef struct EarlyConfig {
  int makeDefault;                 /* make_default: true, or an object */
  int cephVfs;                     /* ceph_vfs: true */
  int hasSpool;                    /* replication_spooling_dir is given */
  int isBroken;                    /* there is none, or it cannot be read */
  char *zProblem;                  /* why no database is replicated, as far as is known; NULL: nothing is */
} EarlyConfig;

/* Reads VERNEUIL_CONFIG. It opens a connection, which runs automatic extensions. */
void configRead(EarlyConfig *p);

/* The text of VERNEUIL_CONFIG, or of the file that it names after an '@': then *pzFile is its path.
** Both are malloc'd. NULL: there is none, and *pzWhy says why, sqlite3_malloc'd. */
char *configText(char **pzWhy, char **pzFile);

/* What was read when the VFSes were registered. */
extern EarlyConfig verneuilConfig;

#endif
