/*
** The log of the C side: lines to the host's stderr, like those of Go's (vfs/log.go). Any thread may
** write them, also in a forked child, and waits for nobody.
*/
#ifndef VERNEUIL_LOG_H
#define VERNEUIL_LOG_H
#include <stddef.h>

enum { VERNEUIL_ERROR = 1, VERNEUIL_WARN, VERNEUIL_INFO, VERNEUIL_DEBUG };

/* One line, if VERNEUIL_LOG (or RUST_LOG) asks for that level; else from warn on. */
void verneuilLog(int level, const char *zFormat, ...) __attribute__((format(printf, 2, 3)));

/* One line about a database; verneuilLog() is for what is about none. */
void verneuilLogOf(int level, const char *zDatabase, const char *zFormat, ...) __attribute__((format(printf, 3, 4)));

/* A JSON string of the text, quotes and all; malloc'd, NULL without memory. What is no
** UTF-8 in it, names are anybody's, becomes U+FFFD. A line of the log stays one line by it. */
char *verneuilQuote(const char *zText);

/* Writes a line for a thread that does not have the host's stderr, and returns 1. On any other
** thread it returns 0. */
typedef int LogWriter(const char *z, size_t n);

/* Set before there is such a thread. */
void logThrough(LogWriter *x);

#endif
