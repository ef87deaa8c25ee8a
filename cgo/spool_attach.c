/*
** Attaching to a spool: its directory, its state page, its identity. This runs
** when a database is opened, never in a commit.
*/
#define _GNU_SOURCE
#include "spool_attach.h"
#include "process.h"
#include "quiet.h"
#include "spool_stamp.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Descriptors that a database which is replicated takes while there is something to
** do: lock, wake, mirror, dirty, database, -wal, -shm; and the recorder's, to look at the database. */
#define SPOOL_FDS 8

/* A signal for each of so many tries to allocate a file is no accident. */
#define ALLOCATE_TRIES 1000

/* A process that is stopped while it holds the attach lock must not stop others
** for long: after these tries, 1 ms apart, one goes on without replication. */
#define ATTACH_TRIES 2000
#define ATTACH_ANEW 3

/* A flush by another process: how often its answer is looked for, how often it is woken,
** and how long one waits for somebody to take over from a replicator that is gone. */
#define FLUSH_POLL_MS 5
#define FLUSH_WAKE_MS 100
#define FLUSH_ALONE_MS 2000

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* pSpools and nRef; no file is looked at under it */
static Spool *pSpools;
static atomic_int nSpool; /* read without mu, too */
static char *zRoot;
static unsigned rootMode = 0700;

void spoolSettings(const char *z, unsigned permissions) {
  zRoot = strdup(z);
  rootMode = 0700 | (permissions & 0777);
  if (rootMode & 022) rootMode |= S_ISVTX; /* others make spools of their own, and leave ours alone */
}

int fileIdentity(const char *zPath, FileIdentity *p) {
  struct statx s;
  if (statx(AT_FDCWD, zPath, 0, STATX_INO | STATX_BTIME, &s)) return errno;
  p->dev = (uint64_t)s.stx_dev_major << 32 | s.stx_dev_minor;
  p->ino = s.stx_ino;
  p->birth = s.stx_mask & STATX_BTIME ? (uint64_t)s.stx_btime.tv_sec * 1000000000u + s.stx_btime.tv_nsec : 0;
  return 0;
}

static int sameFile(const FileIdentity *p, uint64_t dev, uint64_t ino, uint64_t birth) {
  return p->dev == dev && p->ino == ino && p->birth == birth;
}

/* The directory's name: see spool.Name in Go, which must agree. */
static char *spoolDir(const char *zPath) {
  static const char hex[] = "0123456789ABCDEF";
  uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
  size_t n = strlen(zPath), k = 0;
  char *z = malloc(3 * n + 1);
  if (!z) return 0;
  for (size_t i = 0; i < n; i++) {
    unsigned char c = zPath[i];
    h = (h ^ c) * 0x100000001b3u;
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-') {
      z[k++] = c;
    } else {
      z[k++] = '%';
      z[k++] = hex[c >> 4];
      z[k++] = hex[c & 15];
    }
  }
  z[k] = 0;
  char *zDir = 0;
  if (asprintf(&zDir, "%s/%s-%016llx", zRoot, k > 100 ? z + k - 100 : z, (unsigned long long)h) < 0) zDir = 0;
  free(z);
  return zDir;
}

/* The kernel's boot id. 0: it does not say it, and the spool of an earlier boot, of which
** nothing was made durable, could not be told from one of this. */
static int bootId(uint8_t a[16]) {
  char z[64] = "";
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    ssize_t n = read(fd, z, sizeof z - 1);
    z[n > 0 ? n : 0] = 0;
    close(fd);
  }
  memset(a, 0, 16);
  int k = 0;
  for (char *p = z; *p && k < 32; p++) {
    int v = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : -1;
    if (v < 0) continue;
    a[k / 2] |= (uint8_t)(k % 2 ? v : v << 4);
    k++;
  }
  return k == 32;
}

int fdAboveStdio(int fd) {
  if (fd < 0 || fd > 2) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  return high;
}

/* The spool's directory, which is ours alone: another user may have put one of his in its place,
** where the spooling directory lets him. -1 and errno. */
static int openDir(const char *zDir) {
  struct stat s;
  int d = open(zDir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (d < 0 || (!fstat(d, &s) && s.st_uid == geteuid() && !(s.st_mode & 022))) return d;
  close(d);
  errno = EACCES;
  return -1;
}

/* Closes it, without touching errno. */
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

/* Removes what bears the name of a file of ours and is none. What cannot be removed, as
** it is not empty, gets another name. */
static void removeJunk(int d, const char *zName, mode_t type) {
  char zAway[64];
  if (!isJunk(d, zName, type) || !unlinkat(d, zName, 0) || !unlinkat(d, zName, AT_REMOVEDIR)) return;
  snprintf(zAway, sizeof zAway, "%s.junk-%llx", zName, (unsigned long long)time(0));
  renameat(d, zName, d, zAway);
}

int spoolOpen(const char *zDir, const char *zName, int flags) {
  int d = openDir(zDir);
  if (d < 0) return -1;
  if (flags & O_CREAT) removeJunk(d, zName, S_IFREG);
  return closeDir(d, fdAboveStdio(openat(d, zName, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)));
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

int spoolAllocate(int fd, int64_t n) {
  struct rlimit r;
  struct stat s;
  if (!getrlimit(RLIMIT_FSIZE, &r) && r.rlim_cur < (rlim_t)n && !fstat(fd, &s) && s.st_size < n)
    return EFBIG; /* to try would raise SIGXFSZ in the host */
  int rc, nTry = 0; /* tmpfs is interrupted by any signal, a profiler's say, and begins again */
  do rc = posix_fallocate(fd, 0, n);
  while (rc == EINTR && ++nTry < ALLOCATE_TRIES);
  return rc;
}

/* Why a directory is not to be trusted, or NULL: as spool.Trust in Go, which says
** why it matters. */
static const char *distrust(const char *z, int shared) {
  struct stat s;
  if (lstat(z, &s)) return strerror(errno);
  if (S_ISLNK(s.st_mode)) return shared ? "replication_spooling_dir is a symbolic link" : "it is a symbolic link";
  if (!S_ISDIR(s.st_mode)) return strerror(ENOTDIR);
  if (s.st_uid != geteuid() && !(shared && s.st_uid == 0))
    return shared ? "replication_spooling_dir belongs to another user: name one of this user's, or let root make it for all (mode 1777)"
                  : "it belongs to another user, who opened the database first: that user's processes replicate it";
  if (!shared && s.st_mode & 022) return "it may be written to by other users";
  if (shared && s.st_mode & 022 && !(s.st_mode & S_ISVTX))
    return "replication_spooling_dir may be written to by other users, who could replace what is in it: chmod +t, or go-w";
  return 0;
}

/* Likewise of what the spooling directory z stands in: who may rename that has all. */
static const char *distrustAbove(char *z) {
  struct stat s;
  const char *zWhy = 0;
  for (char *p = strrchr(z, '/'); p && !zWhy; p = p == z ? 0 : strrchr(z, '/')) {
    if (p > z) *p = 0;
    if (!stat(p > z ? z : "/", &s) && s.st_mode & 02 && !(s.st_mode & S_ISVTX))
      zWhy = "a directory above replication_spooling_dir may be written to by anybody: chmod +t, or o-w";
  }
  return zWhy;
}

/* Makes what is missing. Returns why that cannot be done, or why what is there
** cannot be used; NULL if all is well. */
static const char *makeDirs(const char *zDir) {
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

/* Also a page that somebody has written over: its file is mapped, and cannot be told from ours. */
static int isLost(const SpoolState *st) {
  return atomic_load(&st->flags) & SPOOL_LOST || memcmp(st->magic, "VRNSTATE", 8);
}

/* Maps the state, lost or not, if it is there, of this boot and of this path, and under no
** other name: that would be somebody's copy, who does not expect it to change. */
static SpoolState *mapState(const char *zDir, const char *zPath, const uint8_t boot[16], uint64_t *pIno) {
  struct stat s;
  int fd = spoolOpen(zDir, "state", O_RDWR);
  if (fd < 0) return 0;
  SpoolState *st = MAP_FAILED;
  if (!fstat(fd, &s) && s.st_size == SPOOL_STATE_BYTES && s.st_nlink <= 1 && s.st_uid == geteuid())
    st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (st == MAP_FAILED) return 0;
  *pIno = s.st_ino;
  if (!memcmp(st->magic, "VRNSTATE", 8) && st->version == SPOOL_STATE_VERSION && !memcmp(st->bootId, boot, 16) &&
      !strncmp(st->path, zPath, sizeof st->path))
    return st;
  munmap(st, SPOOL_STATE_BYTES);
  return 0;
}

/* The number of a new state's first segment: the time, and beyond what handles of the
** state before may write yet, so that none of an older state is ever taken for ours. */
static uint64_t firstSegment(const SpoolState *old) {
  uint64_t first = (uint32_t)time(0);
  if (!old) return first;
  uint64_t beyond = (atomic_load(&old->head) >> 32) + old->logAllowance / SPOOL_SEGMENT_BYTES + 2;
  return beyond > first ? beyond : first;
}

/* Is the state's file that inode? 0 and errno. */
static int isState(const char *zDir, uint64_t ino) {
  struct stat s;
  int d = openDir(zDir);
  if (closeDir(d, d < 0 || fstatat(d, "state", &s, AT_SYMLINK_NOFOLLOW))) return 0;
  errno = EBUSY; /* somebody has put another one there */
  return s.st_ino == ino;
}

/* Makes a new state, whole before it has its name. old is the one before, or NULL. */
static SpoolState *makeState(const char *zDir, const char *zPath, const FileIdentity *pId, const uint8_t boot[16],
                             const SpoolState *old, uint64_t *pIno) {
  struct stat s;
  SpoolState *st = MAP_FAILED;
  /* Not O_TRUNC: if the directory was emptied, somebody else may hold another attach lock,
  ** and have the file of this name mapped. */
  spoolUnlink(zDir, "state.new");
  int fd = spoolOpen(zDir, "state.new", O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return 0;
  int rc = fstat(fd, &s) ? errno : 0;
  if (!rc) rc = spoolAllocate(fd, SPOOL_STATE_BYTES); /* full disk: an error now, not a SIGBUS later */
  if (!rc) st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (rc) errno = rc;
  if (st == MAP_FAILED) return 0;
  memcpy(st->magic, "VRNSTATE", 8);
  st->version = SPOOL_STATE_VERSION;
  memcpy(st->bootId, boot, 16);
  st->dev = pId->dev;
  st->ino = pId->ino;
  st->birth = pId->birth;
  st->generation = 1;
  st->cause = old && !sameFile(pId, old->dev, old->ino, old->birth) ? SPOOL_CAUSE_REPLACED : SPOOL_CAUSE_NEW;
  st->head = st->tail = firstSegment(old) << 32 | SPOOL_SEGMENT_HEADER;
  st->dbSize = -1;
  st->logAllowance = SPOOL_LOG_ALLOWANCE;
  strncpy(st->path, zPath, sizeof st->path - 1);
  *pIno = s.st_ino;
  int d = openDir(zDir);
  if (d >= 0) removeJunk(d, "state", S_IFREG);
  closeDir(d, 0);
  if (!spoolRename(zDir, "state.new", "state") && isState(zDir, s.st_ino)) return st;
  rc = errno;
  munmap(st, SPOOL_STATE_BYTES);
  errno = rc;
  return 0;
}

/* Where there can be none, commits are found later. */
static void makeWake(const char *zDir) {
  int d = openDir(zDir);
  if (d < 0) return;
  removeJunk(d, "wake", S_IFIFO);
  (void)!mkfifoat(d, "wake", 0600);
  close(d);
}

/* Takes the attach lock; the descriptor holds it until closed. -1 and errno. */
static int lockAttach(const char *zDir, int nTry) {
  int fd = spoolOpen(zDir, "attach", O_RDWR | O_CREAT);
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

int spoolCall(const char *zDir) {
  struct stat s;
  int rc = errno;
  /* for reading too: a FIFO that has a reader never raises SIGPIPE */
  int fd = spoolOpen(zDir, "wake", O_RDWR | O_NONBLOCK);
  if (fd < 0) {
    errno = rc;
    return 0;
  }
  int ok = !fstat(fd, &s) && S_ISFIFO(s.st_mode) && s.st_uid == geteuid();
  ssize_t n;
  do n = ok ? write(fd, "", 1) : 0;
  while (n < 0 && errno == EINTR);
  ok = ok && (n == 1 || errno == EAGAIN); /* full: of wakes */
  close(fd);
  errno = rc;
  return ok;
}

/* The database's state, mapped, made if need be; its inode in *pIno. NULL, and the
** reason in *pzWhy. The state of another file is lost: what handles of that one, of
** whatever process, still write stays in its page, which nobody reads. */
static SpoolState *tryState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, uint64_t *pIno,
                            const char **pzWhy) {
  errno = 0;
  uint8_t boot[16];
  if (!bootId(boot)) {
    *pzWhy = errno == EMFILE || errno == ENFILE ? strerror(errno)
                                                : "/proc/sys/kernel/random/boot_id cannot be read: is /proc mounted?";
    return 0;
  }
  if ((*pzWhy = makeDirs(zDir))) return 0;
  makeWake(zDir);
  int fd = lockAttach(zDir, nTry);
  if (fd < 0) {
    int rc = errno;
    *pzWhy = strerror(rc);
    errno = rc;
    return 0;
  }
  int rc = 0;
  SpoolState *st = mapState(zDir, zPath, boot, pIno);
  if (st && !sameFile(pId, st->dev, st->ino, st->birth)) atomic_fetch_or(&st->flags, SPOOL_LOST);
  if (!st || isLost(st)) {
    SpoolState *old = st;
    st = makeState(zDir, zPath, pId, boot, old, pIno);
    if (!st) *pzWhy = strerror(rc = errno);
    if (old) spoolCall(zDir);
    if (old) munmap(old, SPOOL_STATE_BYTES);
  }
  flock(fd, LOCK_UN); /* a child that was forked meanwhile has the descriptor too */
  close(fd);
  errno = rc;
  return st;
}

/* The directory may be removed between two steps, as that of a database that was deleted
** (spool.Sweep). That ends, as there is one now. */
static SpoolState *findState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, uint64_t *pIno,
                             const char **pzWhy) {
  SpoolState *st;
  int n = 0;
  do st = tryState(zDir, zPath, pId, nTry, pIno, pzWhy);
  while (!st && errno == ENOENT && ++n < ATTACH_ANEW);
  return st;
}

/* p->st becomes st, unless they are the same page. Handles that are still at the
** old one find it lost. 0 without memory. */
static int adoptState(Spool *p, SpoolState *st, uint64_t ino) {
  SpoolState *old = p->st;
  if (old && p->stateIno == ino && !isLost(old)) {
    munmap(st, SPOOL_STATE_BYTES);
    return 1;
  }
  if (old) { /* it stays mapped until the last handle is closed: other threads may look at it */
    struct SpoolOld *pOld = malloc(sizeof *pOld);
    if (!pOld) {
      munmap(st, SPOOL_STATE_BYTES);
      return 0;
    }
    pOld->st = old;
    pOld->pNext = p->pOld;
    p->pOld = pOld;
    atomic_fetch_or(&old->flags, SPOOL_LOST);
  }
  p->stateIno = ino;
  p->st = st;
  return 1;
}

static Spool *newSpool(const char *zPath, const FileIdentity *pId) {
  Spool *p = calloc(1, sizeof *p);
  if (!p) return 0;
  pthread_mutex_init(&p->attaching, 0);
  p->id = *pId;
  p->zPath = strdup(zPath);
  p->zDir = spoolDir(zPath);
  p->lookFd = stampOpen(zPath, pId);
  if (p->zPath && p->zDir) return p;
  stampClose(p->lookFd, pId);
  free(p->zPath);
  free(p->zDir);
  free(p);
  return 0;
}

static void freeSpool(Spool *p) {
  spoolUnmap(p);
  for (struct SpoolOld *pOld = p->pOld, *pNext; pOld; pOld = pNext) {
    pNext = pOld->pNext;
    munmap(pOld->st, SPOOL_STATE_BYTES);
    free(pOld);
  }
  if (p->st) munmap(p->st, SPOOL_STATE_BYTES);
  stampClose(p->lookFd, &p->id);
  free(p->zPath);
  free(p->zDir);
  free(p);
}

/* Why one more database must not be replicated, or NULL: the process is to be able
** to open all that it could without us. Replication has half of the descriptors
** at most, and takes no more of them when three quarters are in use. */
static char *descriptorsShort(void) {
  struct rlimit r;
  if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY) return 0;
  int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3); /* the lowest that is free */
  int rc = errno;
  if (fd >= 0) close(fd);
  int isShort = fd < 0 ? rc == EMFILE || rc == EINVAL : (rlim_t)fd > r.rlim_cur / 4 * 3;
  if (!isShort && (rlim_t)(nSpool + 1) * SPOOL_FDS <= r.rlim_cur / 2) return 0;
  return sqlite3_mprintf("%d databases are replicated, and of the %lld descriptors that the process may have "
                         "(RLIMIT_NOFILE) too few are left for another: raise the limit (ulimit -n)", nSpool, (sqlite3_int64)r.rlim_cur);
}

/* The Spool of a file, with a reference more; pNew, which may be NULL, if there is none, and the
** process may have it. The caller holds mu. */
static Spool *findLocked(const char *zPath, const FileIdentity *pId, Spool *pNew) {
  Spool *p = pSpools;
  while (p && (strcmp(p->zPath, zPath) || !sameFile(pId, p->id.dev, p->id.ino, p->id.birth))) p = p->pNext;
  if (p) {
    p->nRef++;
  } else if (pNew) {
    pNew->nRef = 1;
    pNew->pNext = pSpools;
    pSpools = pNew;
    nSpool++;
  }
  return p ? p : pNew;
}

/* The Spool of a file, new if need be, with a reference more. NULL, with a reason. */
static Spool *findSpool(const char *zPath, const FileIdentity *pId, char **pzErr) {
  Quiet q = quietLock(&mu);
  Spool *p = findLocked(zPath, pId, 0);
  quietUnlock(&mu, q);
  if (p || (*pzErr = descriptorsShort())) return p;
  Spool *pNew = newSpool(zPath, pId); /* looks at the file */
  if (!pNew) {
    *pzErr = sqlite3_mprintf("out of memory");
    return 0;
  }
  q = quietLock(&mu);
  p = findLocked(zPath, pId, pNew);
  quietUnlock(&mu, q);
  if (p != pNew) freeSpool(pNew); /* another thread was faster */
  return p;
}

int spoolExists(const char *zPath) {
  struct stat s;
  char *zDir = spoolDir(zPath);
  int exists = zDir && !lstat(zDir, &s);
  free(zDir);
  return exists;
}

Spool *spoolAttach(const char *zPath, const FileIdentity *pId, char **pzErr) {
  uint64_t ino = 0;
  const char *zWhy = "out of memory";
  int state;
  Spool *p;
  if (strlen(zPath) > SPOOL_PATH_MAX - 1) {
    *pzErr = sqlite3_mprintf("path longer than %d bytes", SPOOL_PATH_MAX - 1);
    return 0;
  }
  if (!(p = findSpool(zPath, pId, pzErr))) return 0;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* who is cancelled gives no mutex back */
  pthread_mutex_lock(&p->attaching);
  SpoolState *st = findState(p->zDir, zPath, pId, ATTACH_TRIES, &ino, &zWhy);
  int ok = st && adoptState(p, st, ino);
  pthread_mutex_unlock(&p->attaching);
  pthread_setcancelstate(state, 0);
  if (ok) return p;
  *pzErr = sqlite3_mprintf("spool %s: %s", p->zDir, zWhy);
  spoolRelease(p);
  return 0;
}

void spoolRetain(Spool *p) {
  Quiet q = quietLock(&mu);
  p->nRef++;
  quietUnlock(&mu, q);
}

/* Without a handle no thread of this process is in the spool. */
void spoolRelease(Spool *p) {
  Quiet q = quietLock(&mu);
  int last = --p->nRef == 0;
  Spool **pp = &pSpools;
  while (last && *pp && *pp != p) pp = &(*pp)->pNext;
  if (last && *pp) { /* not where a handler has forked while we were attaching */
    *pp = p->pNext;
    nSpool--;
  }
  quietUnlock(&mu, q);
  if (last) freeSpool(p);
}

int spoolLost(const Spool *p) { return isLost(p->st); }

/* Nobody replicates the database, as far as this process can tell. */
static int isAlone(SpoolState *st) {
  uint64_t token = atomic_load(&st->replicator);
  pid_t pid = (pid_t)verneuilPid(token);
  return !token || (pid && kill(pid, 0) && errno == ESRCH);
}

int spoolFlush(Spool *p, int ms) {
  SpoolState *st = p->st;
  uint64_t ticket = atomic_fetch_add(&st->flushDrawn, 1) + 1;
  for (int waited = 0, alone = 0; waited < ms && alone < FLUSH_ALONE_MS && !isLost(st); waited += FLUSH_POLL_MS) {
    if (atomic_load(&st->flushAnswered) >= ticket) return atomic_load(&st->flushDone) >= ticket;
    if (waited % FLUSH_WAKE_MS == 0) spoolCall(p->zDir); /* it may have come since */
    alone = isAlone(st) ? alone + FLUSH_POLL_MS : 0;
    usleep(FLUSH_POLL_MS * 1000);
  }
  return 0;
}

SpoolState *spoolState(Spool *p) {
  FileIdentity now;
  uint64_t ino = 0;
  const char *zWhy;
  if (!isLost(p->st)) return p->st;
  if (fileIdentity(p->zPath, &now) || !sameFile(&now, p->id.dev, p->id.ino, p->id.birth)) return 0;
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  int locked = !pthread_mutex_trylock(&p->attaching);
  if (locked && isLost(p->st)) {
    SpoolState *st = findState(p->zDir, p->zPath, &p->id, 1, &ino, &zWhy);
    if (st) adoptState(p, st, ino);
  }
  if (locked) pthread_mutex_unlock(&p->attaching);
  pthread_setcancelstate(state, 0);
  return isLost(p->st) ? 0 : p->st;
}

void spoolRaise(SpoolState *st, uint32_t cause) {
  atomic_store(&st->cause, cause);
  atomic_fetch_add(&st->generation, 1);
}

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void afterFork(void) { quietUnlock(&mu, forking); }

/* A child's handles have Spools of their own: what is inherited is the state of the
** parent's handles, which it must not use, and it would never learn that they are closed. It
** stays in memory, as other threads were about to use it. */
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  for (Spool *p = pSpools; p; p = p->pNext) {
    stampClose(p->lookFd, &p->id);
  }
  pSpools = 0;
  nSpool = 0;
  quietEnd(forking);
}
/* Before the recorder's: what is registered first is prepared for last, and the
** recorder takes our mutex while it holds its own (spoolOfWal). */
__attribute__((constructor(101))) static void attachLoad(void) { pthread_atfork(beforeFork, afterFork, childOfFork); }
