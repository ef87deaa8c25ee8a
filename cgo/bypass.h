/*
** Databases that do not go through our writer VFS.
*/
#ifndef VERNEUIL_BYPASS_H
#define VERNEUIL_BYPASS_H
#include "verneuil.h"

/* Why the database is not replicated, in words that name the remedy; sqlite3_malloc'd. For
** those that recorderAsk() does not know. */
char *bypassWhy(sqlite3 *db, const char *zSchema);

/* Has it said (notReplicated) if the main database of a connection is not replicated, where
** its user may believe that it is. isLoading: the extension is being loaded on it, which was opened
** before; else it is a new connection. */
void bypassTell(sqlite3 *db, int isLoading);

#endif
