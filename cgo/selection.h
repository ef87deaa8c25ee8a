/*
** Which of the databases that the writer VFS opens are replicated: by the patterns of make_default,
** and not those that are being made as copies.
*/
#ifndef VERNEUIL_SELECTION_H
#define VERNEUIL_SELECTION_H
#include "verneuil.h"

/* Sets the patterns: NULL, or lists of strings that end in NULL. Called once, before the first
** question. The lists are taken over. */
void selectionSettings(char **azInclude, char **azExclude);

/* Why the patterns leave a database out, sqlite3_malloc'd; NULL: they do not. zPath is the
** database's canonical path. */
char *selectionExcludes(const char *zPath);

/* Does a pattern of include match the database? */
int selectionIncludes(const char *zPath);

/* Is the connection running a VACUUM? A file that it opens then is that of VACUUM INTO. */
int selectionVacuums(sqlite3 *db);

/* Is the connection running any statement? If it writes to a database without, that is the backup
** API. */
int selectionRunsSql(sqlite3 *db);

/* Does it run more than one? */
int selectionRunsSeveral(sqlite3 *db);

/* Is it running one that writes? BEGIN IMMEDIATE does, to all its databases; else it may be to
** another one of them. */
int selectionWrites(sqlite3 *db);

#endif
