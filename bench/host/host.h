/*
** A host application of the extension, which does what the Go program beside it
** (`bench`) asks for, and prints plain numbers: what they mean is Go's business.
** main.c lists the commands. Each runs with VERNEUIL_CONFIG in the environment.
*/
#ifndef HOST_H
#define HOST_H
#include "sqlite3-binding.h"
#include <stdint.h>

void die(sqlite3 *db, const char *zWhat);
void run(sqlite3 *db, const char *zSql);
void execf(sqlite3 *db, const char *zFormat, ...);
sqlite3_stmt *prepare(sqlite3 *db, const char *zSql);
void step(sqlite3_stmt *p);                          /* to the end, and reset */
char *ask(sqlite3 *db, const char *zSql);            /* first column of the first row; free() it */
int64_t ask_number(sqlite3 *db, const char *zSql);
void flush(sqlite3 *db);                             /* dies if it fails */
int64_t status_number(sqlite3 *db, const char *zKey); /* of verneuil_status()'s first database */

void load(const char *zLibrary);
sqlite3 *open_db(const char *zPath, const char *zVfs);
void fill(sqlite3 *db, int64_t bytes);
sqlite3 *open_patient(const char *zDb, const char *zVfs); /* waits for its turn for as long as it takes */
void make_table(sqlite3 *db);                        /* of one-row commits, if there is none */

double now_us(void);
double cpu_us(int ofProcess); /* of all threads, or of this one */
int64_t unix_ns(void);
int ascending(const void *a, const void *b);         /* doubles, for qsort */
double median(double *a, int n);                     /* sorts a */
void memory_line(const char *zWhen);                 /* "when|RSS kB|anonymous kB|peak kB|threads" */

/* The commands. */
int commit_main(char **a);
int blocks_main(char **a);
int start_main(char **a);
int memory_main(char **a);
int fill_main(char **a);
int extend_main(char **a);
int trace_main(char **a);
int update_main(char **a);
int wal_main(char **a);
int rate_main(char **a);
int follow_main(char **a);
int query_main(char **a);
int compare_main(char **a);
int each_main(char **a);
int lost_main(char **a);
int crowd_main(char **a);
int turns_main(char **a);
int takeover_main(char **a);
int bulk_main(char **a);
int reads_main(char **a);
int watch_main(char **a);

#endif
