/*
** The SQL functions (functions.c).
*/
#ifndef VERNEUIL_FUNCTIONS_H
#define VERNEUIL_FUNCTIONS_H
#include "verneuil.h"

/* Registers them with a connection. An SQLite result code. */
int verneuilFunctions(sqlite3 *db);

#endif
