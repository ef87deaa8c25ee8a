/*
** Databases that were open before the extension was loaded.
*/
#ifndef VERNEUIL_ADOPT_H
#define VERNEUIL_ADOPT_H
#include "verneuil.h"

/* The extension is being loaded on a connection: has those of its databases recorded that
** would be if they were opened now, by the default VFS. What cannot be is told why
** (notReplicated), and so is whoever asks for a flush. */
void adoptAll(sqlite3 *db);

#endif
