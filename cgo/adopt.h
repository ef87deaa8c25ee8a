/*
** Databases that were open before the extension was loaded.
*/
#ifndef VERNEUIL_ADOPT_H
#define VERNEUIL_ADOPT_H
#include "verneuil.h"

/* The extension is being loaded on a connection. Has those of its databases recorded that would be
** recorded if the default VFS opened them now. Of those that cannot be, the log says why
** (notReplicated), and so does a flush. */
void adoptAll(sqlite3 *db);

#endif
