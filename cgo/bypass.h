/*
** Databases that are opened without our writer VFS.
*/
#ifndef VERNEUIL_BYPASS_H
#define VERNEUIL_BYPASS_H
#include "verneuil.h"

/* Why a database is not replicated that recorderAsk() does not know; sqlite3_malloc'd. The text
** names the remedy. */
char *bypassWhy(sqlite3 *db, const char *zSchema);

/* Says (notReplicated) that the main database of a connection is not replicated, if its user may
** believe that it is. isLoading: the extension is being loaded on the connection, which was opened
** before; otherwise the connection is new. */
void bypassTell(sqlite3 *db, int isLoading);

#endif
