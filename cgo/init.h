/*
** What the extension's entry point does (init.c).
*/
#ifndef VERNEUIL_INIT_H
#define VERNEUIL_INIT_H
#include "verneuil.h"

/* Sets up the api pointer, the VFSes (once per process) and the SQL functions of
** db. It is also what sqlite3_auto_extension runs. */
int verneuilInit(sqlite3 *db, char **pzErr, const sqlite3_api_routines *pApi);

#endif
