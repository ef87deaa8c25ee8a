/*
** Which databases are not replicated, and why.
*/
#ifndef VERNEUIL_UNREPLICATED_H
#define VERNEUIL_UNREPLICATED_H

/* Says that a database is not replicated though its user may expect that, and why. People read the
** reason: it names the remedy. It is logged once for each database and reason (but for numbers in
** it), and verneuil_status() lists it until isReplicated(). zPath is the database's canonical path.
** Any thread may call this, also in a forked child, but not in a commit. It takes a lock of its
** own, which is not held over I/O. */
void notReplicated(const char *zPath, const char *zReason);

/* The same, logged at that level, as it may well be intended. */
void notReplicatedAt(int level, const char *zPath, const char *zReason);

/* The database is replicated now. */
void isReplicated(const char *zPath);

/* The reason that was said; sqlite3_malloc'd. NULL: none was. */
char *notReplicatedWhy(const char *zPath);

/* What was said and still holds, as a JSON array of {"path", "reason"}; sqlite3_malloc'd, NULL: no
** memory. zMore, which may be NULL, is more such objects, and freed. If there are more than a few
** hundred, the last object has "more" instead: how many are not listed. */
char *notReplicatedList(char *zMore);

#endif
