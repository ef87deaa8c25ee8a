/*
** What programs that were written for Ceph's own VFS, libcephsqlite, find here.
*/
#ifndef VERNEUIL_CEPH_H
#define VERNEUIL_CEPH_H
#include "verneuil.h"

/* The SQL functions ceph_status() and ceph_perf(). */
int cephFunctions(sqlite3 *db);

#endif
