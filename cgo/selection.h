/*
** Which databases are replicated, of those that come to the writer VFS: by the patterns of
** make_default, and not what is made as a copy.
*/
#ifndef VERNEUIL_SELECTION_H
#define VERNEUIL_SELECTION_H
#include "verneuil.h"

/* The patterns, NULL-terminated lists of strings, or NULL: set once, before the first question. */
void selectionSettings(char **azInclude, char **azExclude);

/* Why the patterns leave a database out, sqlite3_malloc'd; NULL: they do not. zPath is its
** canonical path. */
char *selectionExcludes(const char *zPath);

/* Does a pattern of include name it? */
int selectionIncludes(const char *zPath);

/* Is the connection in the middle of a VACUUM? What it opens then is the file of VACUUM INTO. */
int selectionVacuums(sqlite3 *db);

/* Does the connection run any statement? A database that is written without is being
** written by the backup API. */
int selectionRunsSql(sqlite3 *db);

#endif
