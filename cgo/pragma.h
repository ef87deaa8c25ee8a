/*
** The pragmas of our VFSes: one table of their names, and one notion of a boolean, and of when a
** COMMIT returns.
**
** SQLite asks a database's file by SQLITE_FCNTL_PRAGMA when the statement is prepared: azArg is
** result, name, argument or NULL (pragma.c, sqlite3Pragma).
*/
#ifndef VERNEUIL_PRAGMA_H
#define VERNEUIL_PRAGMA_H

enum {
  PRAGMA_OTHER,                    /* none of ours, or not of this VFS */
  PRAGMA_FLUSH, PRAGMA_DURABLE, PRAGMA_DURABLE_OUTCOME, /* the recorder's, and of a database in a store */
  PRAGMA_REFRESH, PRAGMA_RELOAD, PRAGMA_AUTO, PRAGMA_CTIME, PRAGMA_UPDATED, /* a replica's */
  PRAGMA_REMOTE_REFRESH, PRAGMA_REMOTE_RELEASE, /* of a database in a store */
  PRAGMA_N
};

/* Who answers. */
enum { BY_RECORDER = 1, BY_REPLICA = 2, BY_REMOTE = 4 };

/* Which pragma of those that a file of that VFS answers has that name. */
int pragmaOf(const char *zName, int by);

/* What SQLite takes for a boolean in a pragma: 0 or 1; -1: it is none. */
int booleanOf(const char *z);

/* What a COMMIT waits for: nothing, every target, or one of them. */
enum { DURABLE_OFF, DURABLE_ALL, DURABLE_ANY };

/* What z asks for: DURABLE_..; -1: it is no such word, and durableRefusal() says so, sqlite3_malloc'd. */
int durableMode(const char *z);
char *durableRefusal(const char *z);

/* The name of a mode. */
const char *durableName(int mode);

/* What pragma verneuil_durable_outcome says of commits, wherever the database is. */
#define OUTCOME_NONE_TEXT "none: no commit of this connection has waited"
#define OUTCOME_STORED_TEXT "stored"
#define OUTCOME_LATE_TEXT "stored, but after COMMIT had returned"

#endif
