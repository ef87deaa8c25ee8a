/*
** The log of the C side: lines as those of Go's (vfs/log.go), to the host's stderr.
*/
#define _GNU_SOURCE
#include "log.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

/* The level of a name as long as n; -1: it is none. vfs.NewLogger knows the same names. */
static int levelOf(const char *z, size_t n) {
  static const struct {
    const char *zName;
    int level;
  } aLevel[] = {{"off", 0}, {"error", VERNEUIL_ERROR}, {"warn", VERNEUIL_WARN}, {"warning", VERNEUIL_WARN},
                {"info", VERNEUIL_INFO}, {"debug", VERNEUIL_DEBUG}, {"trace", VERNEUIL_DEBUG}};
  for (size_t i = 0; i < sizeof aLevel / sizeof *aLevel; i++)
    if (strlen(aLevel[i].zName) == n && !strncasecmp(z, aLevel[i].zName, n)) return aLevel[i].level;
  return -1;
}

/* RUST_LOG is shared with other programs, and may be a list such as "hyper=warn,info": of
** that, the entry for verneuil or for everything counts. */
static int rustLevel(const char *z) {
  static const char zOurs[] = "verneuil=";
  int level = VERNEUIL_WARN;
  while (z && *z) {
    z += strspn(z, " ,");
    size_t n = strcspn(z, ",");
    const char *zEqual = memchr(z, '=', n);
    size_t nWord = n;
    while (nWord && z[nWord - 1] == ' ') nWord--;
    int isOurs = zEqual && !strncmp(z, zOurs, sizeof zOurs - 1);
    const char *zWord = isOurs ? zEqual + 1 : z;
    int found = !zEqual || isOurs ? levelOf(zWord, nWord - (size_t)(zWord - z)) : -1;
    if (found >= 0) level = found;
    if (isOurs) break;
    z += n;
  }
  return level;
}

/* As vfs.LevelFromEnv. A name that is no level Go reports, when it starts. */
static int logLevel(void) {
  const char *z = secure_getenv("VERNEUIL_LOG");
  if (!z || !*z) return rustLevel(secure_getenv("RUST_LOG"));
  int level = levelOf(z, strlen(z));
  return level >= 0 ? level : VERNEUIL_WARN;
}

static LogWriter *_Atomic xWriter;

void logThrough(LogWriter *x) { atomic_store(&xWriter, x); }

/* Writes to the host's stderr, on a thread of the host's. That may be a pipe that nobody reads, or a
** file that may not grow: the host, which has not written, gets no signal for it. It does not wait
** for a full pipe, as this may be in a commit. */
static void writeLog(const char *z) {
  static const int aRaised[] = {SIGPIPE, SIGXFSZ};
  static const struct timespec now = {0, 0};
  sigset_t raised, before, old;
  int rc = errno;
  struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
  LogWriter *x = atomic_load(&xWriter);
  if (x && x(z, strlen(z))) {
    errno = rc;
    return;
  }
  if (poll(&p, 1, 0) == 0) return; /* after an error, try */
  sigemptyset(&raised);
  for (int i = 0; i < 2; i++) sigaddset(&raised, aRaised[i]);
  sigpending(&before);
  pthread_sigmask(SIG_BLOCK, &raised, &old);
  ssize_t n = write(STDERR_FILENO, z, strlen(z));
  (void)n;
  for (int i = 0; i < 2; i++)
    if (sigismember(&before, aRaised[i])) sigdelset(&raised, aRaised[i]);
  while (sigtimedwait(&raised, 0, &now) > 0) continue;
  pthread_sigmask(SIG_SETMASK, &old, 0);
  errno = rc;
}

/* The length of the UTF-8 character at z; 0: what stands there is none. */
static int utf8Length(const unsigned char *z) {
  int n = z[0] < 0x80 ? 1 : z[0] >= 0xc2 && z[0] < 0xe0 ? 2 : (z[0] & 0xf0) == 0xe0 ? 3 : z[0] >= 0xf0 && z[0] < 0xf5 ? 4 : 0;
  for (int i = 1; i < n; i++)
    if ((z[i] & 0xc0) != 0x80) return 0;
  if (n == 3 && ((z[0] == 0xe0 && z[1] < 0xa0) || (z[0] == 0xed && z[1] > 0x9f))) return 0; /* overlong, a surrogate */
  if (n == 4 && ((z[0] == 0xf0 && z[1] < 0x90) || (z[0] == 0xf4 && z[1] > 0x8f))) return 0;
  return n;
}

char *verneuilQuote(const char *zText) {
  char *z = malloc(2 + 6 * strlen(zText) + 1);
  size_t k = 0;
  if (!z) return 0;
  z[k++] = '"';
  for (const unsigned char *p = (const unsigned char *)zText; *p;) {
    int n = utf8Length(p);
    if (n > 1) {
      memcpy(z + k, p, n);
      k += n;
    } else if (!n || *p < ' ' || *p == 127) {
      static const char zHex[] = "0123456789abcdef";
      memcpy(z + k, n ? "\\u00" : "\\ufffd", n ? 4 : 6);
      if (n) z[k + 4] = zHex[*p >> 4], z[k + 5] = zHex[*p & 15];
      k += 6;
    } else {
      if (*p == '"' || *p == '\\') z[k++] = '\\';
      z[k++] = *p;
    }
    p += n ? n : 1;
  }
  z[k++] = '"';
  z[k] = 0;
  return z;
}

/* The time in UTC, as RFC 3339 has it. Not by gmtime_r(), which takes a lock of the C
** library's: in a forked child another thread may have had it. */
static char *timestamp(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  int64_t day = t.tv_sec / 86400, second = t.tv_sec % 86400;
  /* years of 365.2425 days that begin with March, counted from the year 0 (days from civil) */
  int64_t z = day + 719468, era = z / 146097, doe = z % 146097;
  int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
  int64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);
  return sqlite3_mprintf("%04lld-%02lld-%02lldT%02lld:%02lld:%02lld.%03lldZ", year, month, doy - (153 * mp + 2) / 5 + 1,
                         second / 3600, second / 60 % 60, second % 60, (sqlite3_int64)t.tv_nsec / 1000000);
}

static void logLine(int level, const char *zDatabase, const char *zFormat, va_list ap) {
  static const char *const azName[] = {"", "ERROR", "WARN", "INFO", "DEBUG"};
  char *zText = sqlite3_vmprintf(zFormat, ap);
  char *zMessage = verneuilQuote(zText ? zText : "out of memory");
  char *zPath = zDatabase ? verneuilQuote(zDatabase) : 0;
  char *zTime = timestamp();
  char *zLine = sqlite3_mprintf("verneuil: time=%s level=%s msg=%s%s%s\n", zTime ? zTime : "", azName[level],
                                zMessage ? zMessage : "", zPath ? " database=" : "", zPath ? zPath : "");
  if (zLine) writeLog(zLine);
  sqlite3_free(zLine);
  sqlite3_free(zTime);
  sqlite3_free(zText);
  free(zPath);
  free(zMessage);
}

void verneuilLog(int level, const char *zFormat, ...) {
  va_list ap;
  if (level > logLevel()) return;
  va_start(ap, zFormat);
  logLine(level, 0, zFormat, ap);
  va_end(ap);
}

void verneuilLogOf(int level, const char *zDatabase, const char *zFormat, ...) {
  va_list ap;
  if (level > logLevel()) return;
  va_start(ap, zFormat);
  logLine(level, zDatabase, zFormat, ap);
  va_end(ap);
}
