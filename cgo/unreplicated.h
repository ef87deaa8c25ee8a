/*
** Which databases are not replicated, and why.
*/
#ifndef VERNEUIL_UNREPLICATED_H
#define VERNEUIL_UNREPLICATED_H

/* Says that a database which a user may expect to be replicated is not, and why. The
** reason names the remedy: it is read by people. Logged once for each database and reason
** (numbers in it apart), and listed by verneuil_status() until isReplicated(). zPath is the
** database's canonical path. Takes a lock of its own, which is held over no I/O; may be
** called on any thread, also in a forked child. It must not be called in a commit. */
void notReplicated(const char *zPath, const char *zReason);

/* The same, logged at that level: what may well be meant. */
void notReplicatedAt(int level, const char *zPath, const char *zReason);

/* The database is replicated now. */
void isReplicated(const char *zPath);

/* Why it is not, as was said; sqlite3_malloc'd, NULL: nothing was. */
char *notReplicatedWhy(const char *zPath);

/* What was said and holds, as a JSON array of {"path", "reason"}; sqlite3_malloc'd, NULL
** without memory. Of more than a few hundred databases the last object has "more" instead:
** how many are not listed. */
char *notReplicatedList(void);

#endif
