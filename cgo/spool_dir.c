/*
** A spool's directory: see spool_dir.h. spool.Name and spool.Trust in Go do the same.
*/
#define _GNU_SOURCE
#include "spool_dir.h"
#include "files.h"
#include "spool.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char *zRoot;
static unsigned rootMode = 0700;

void spoolSettings(const char *z, unsigned permissions) {
  zRoot = strdup(z);
  rootMode = 0700 | (permissions & 0777);
  /* others make spools of their own, and leave ours alone */
  if (rootMode & 022) rootMode |= S_ISVTX;
}

char *spoolDirOf(const char *zPath) {
  static const char hex[] = "0123456789ABCDEF";
  uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
  size_t n = strlen(zPath), k = 0;
  char *z = malloc(3 * n + 1);
  if (!z) return 0;
  for (size_t i = 0; i < n; i++) {
    unsigned char c = zPath[i];
    h = (h ^ c) * 0x100000001b3u;
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
        c == '.' || c == '_' || c == '-') {
      z[k++] = c;
    } else {
      z[k++] = '%';
      z[k++] = hex[c >> 4];
      z[k++] = hex[c & 15];
    }
  }
  z[k] = 0;
  char *zDir = 0;
  if (asprintf(&zDir, "%s/%s-%016llx", zRoot, k > SPOOL_NAME_MAX ? z + k - SPOOL_NAME_MAX : z,
               (unsigned long long)h) < 0)
    zDir = 0;
  free(z);
  return zDir;
}

int spoolExists(const char *zPath) {
  struct stat s;
  char *zDir = spoolDirOf(zPath);
  int exists = zDir && !lstat(zDir, &s);
  free(zDir);
  return exists;
}

/* ---- which directories are trusted ---- */

/* Why a directory is not to be trusted; NULL: it is. spool.Trust in Go says why that matters.
** shared: it is the spooling directory, else one spool's. */
static const char *distrust(const char *z, int shared) {
  struct stat s;
  if (lstat(z, &s)) return strerror(errno);
  if (S_ISLNK(s.st_mode))
    return shared ? "replication_spooling_dir is a symbolic link" : "it is a symbolic link";
  if (!S_ISDIR(s.st_mode)) return strerror(ENOTDIR);
  if (s.st_uid != geteuid() && !(shared && s.st_uid == 0))
    return shared ? "replication_spooling_dir belongs to another user: name one that this user "
                    "owns, or let root make it for everybody (mode 1777)"
                  : "it belongs to another user, who opened the database first: that user's "
                    "processes replicate it";
  if (!shared && s.st_mode & 022) return "other users may write to it";
  if (shared && s.st_mode & 022 && !(s.st_mode & S_ISVTX))
    return "other users may write to replication_spooling_dir, and could replace what is in it: "
           "chmod +t or go-w it";
  return 0;
}

/* The same of the directories above z, the spooling directory: who may rename one of them can put
** another in its place. */
static const char *distrustAbove(char *z) {
  struct stat s;
  const char *zWhy = 0;
  for (char *p = strrchr(z, '/'); p && !zWhy; p = p == z ? 0 : strrchr(z, '/')) {
    if (p > z) *p = 0;
    if (!stat(p > z ? z : "/", &s) && s.st_mode & 02 && !(s.st_mode & S_ISVTX))
      zWhy = "anybody may write to a directory above replication_spooling_dir: chmod +t or o-w it";
  }
  return zWhy;
}

const char *spoolMakeDirs(const char *zDir) {
  char *z = strdup(zRoot);
  int rc = 0;
  if (!z) return strerror(ENOMEM);
  for (char *p = z + 1; !rc; p++) {
    if (*p != '/' && *p) continue;
    char c = *p;
    *p = 0;
    if (mkdir(z, rootMode) && errno != EEXIST) rc = errno;
    *p = c;
    if (!c) break;
  }
  const char *zWhy = rc ? strerror(rc) : distrust(zRoot, 1);
  if (!zWhy) zWhy = distrustAbove(z);
  free(z);
  if (zWhy) return zWhy;
  if (mkdir(zDir, 0700) && errno != EEXIST) return strerror(errno);
  return distrust(zDir, 0);
}

/* ---- the files in it ---- */

/* Opens the spool's directory. Another user may have put one of his in its place, if the spooling
** directory allows that: then EACCES. -1: see errno. */
static int openDir(const char *zDir) {
  struct stat s;
  int d = open(zDir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (d < 0 || (!fstat(d, &s) && s.st_uid == geteuid() && !(s.st_mode & 022))) return d;
  close(d);
  errno = EACCES;
  return -1;
}

/* Closes it and returns rc. Keeps errno. */
static int closeDir(int d, int rc) {
  int was = errno;
  if (d >= 0) close(d);
  errno = was;
  return rc;
}

static int isJunk(int d, const char *zName, mode_t type) {
  struct stat s;
  return !fstatat(d, zName, &s, AT_SYMLINK_NOFOLLOW) && (s.st_mode & S_IFMT) != type;
}

int spoolIsJunk(const char *zDir, const char *zName, mode_t type) {
  int d = openDir(zDir);
  return closeDir(d, d >= 0 && isJunk(d, zName, type));
}

/* What cannot be removed, as it is a directory that is not empty, gets another name. */
static void removeJunk(int d, const char *zName, mode_t type) {
  char zAway[64];
  if (!isJunk(d, zName, type) || !unlinkat(d, zName, 0) || !unlinkat(d, zName, AT_REMOVEDIR))
    return;
  snprintf(zAway, sizeof zAway, "%s.junk-%llx", zName, (unsigned long long)time(0));
  renameat(d, zName, d, zAway);
}

void spoolRemoveJunk(const char *zDir, const char *zName, mode_t type) {
  int d = openDir(zDir);
  if (d >= 0) removeJunk(d, zName, type);
  closeDir(d, 0);
}

int spoolOpen(const char *zDir, const char *zName, int flags) {
  int d = openDir(zDir);
  if (d < 0) return -1;
  if (flags & O_CREAT) removeJunk(d, zName, S_IFREG);
  return closeDir(d, fdAboveStdio(openat(d, zName, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                                         0600)));
}

int spoolRename(const char *zDir, const char *zFrom, const char *zTo) {
  int d = openDir(zDir);
  return closeDir(d, d < 0 ? -1 : renameat(d, zFrom, d, zTo));
}

void spoolUnlink(const char *zDir, const char *zName) {
  int d = openDir(zDir);
  if (d >= 0) unlinkat(d, zName, 0);
  closeDir(d, 0);
}

int spoolIsInode(const char *zDir, const char *zName, uint64_t ino) {
  struct stat s;
  int d = openDir(zDir);
  if (closeDir(d, d < 0 || fstatat(d, zName, &s, AT_SYMLINK_NOFOLLOW))) return 0;
  errno = EBUSY; /* somebody has put another one there */
  return s.st_ino == ino;
}

void spoolMakeWake(const char *zDir) {
  int d = openDir(zDir);
  if (d < 0) return;
  removeJunk(d, SPOOL_FILE_WAKE, S_IFIFO);
  (void)!mkfifoat(d, SPOOL_FILE_WAKE, 0600);
  close(d);
}

int spoolLockAttach(const char *zDir, int nTry) {
  int fd = spoolOpen(zDir, SPOOL_FILE_ATTACH, O_RDWR | O_CREAT);
  if (fd < 0) return -1;
  while (flock(fd, LOCK_EX | LOCK_NB)) {
    int rc = errno;
    if (rc != EINTR && (rc != EWOULDBLOCK || --nTry <= 0)) {
      close(fd);
      errno = rc;
      return -1;
    }
    usleep(1000);
  }
  return fd;
}

void spoolUnlockAttach(int fd) {
  int rc = errno;
  flock(fd, LOCK_UN); /* a child that was forked meanwhile has the descriptor too */
  close(fd);
  errno = rc;
}
