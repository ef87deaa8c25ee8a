/*
** Finding or making the state page of a spool, under the attach lock: see spool_state.h.
** spool.Create in Go does the same.
*/
#define _GNU_SOURCE
#include "spool_state.h"
#include "spool_dir.h"
#include "spool_wake.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How often a state is tried again whose directory has vanished meanwhile. */
#define ATTACH_ANEW 3

/* The kernel's boot ID. 0: it is not to be had, so the spool of an earlier boot, of which nothing
** was made durable, could not be told from one of this boot. */
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

/* Maps the state, lost or not, if there is one of this boot and this path. A file with a second
** name is none of ours: somebody has made a backup by link(2), and does not expect that to
** change. */
static SpoolState *mapState(const char *zDir, const char *zPath, const uint8_t boot[16],
                            uint64_t *pIno) {
  struct stat s;
  int fd = spoolOpen(zDir, SPOOL_FILE_STATE, O_RDWR);
  if (fd < 0) return 0;
  SpoolState *st = MAP_FAILED;
  if (!fstat(fd, &s) && s.st_size == SPOOL_STATE_BYTES && s.st_nlink <= 1 && s.st_uid == geteuid())
    st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (st == MAP_FAILED) return 0;
  *pIno = s.st_ino;
  if (!memcmp(st->magic, SPOOL_STATE_MAGIC, 8) && st->version == SPOOL_STATE_VERSION &&
      !memcmp(st->bootId, boot, 16) &&
      !strncmp(st->path, zPath, sizeof st->path))
    return st;
  munmap(st, SPOOL_STATE_BYTES);
  return 0;
}

/* The number of a new state's first segment: the time, or what is beyond all that handles of the
** old state may still write. So no segment of an older state is ever taken for one of ours. */
static uint64_t firstSegment(const SpoolState *old) {
  uint64_t first = (uint32_t)time(0);
  if (!old) return first;
  uint64_t beyond = (atomic_load(&old->head) >> 32) + old->logAllowance / SPOOL_SEGMENT_BYTES + 2;
  return beyond > first ? beyond : first;
}

/* Makes a new state, which is complete before it gets its name. old is the one before, or NULL. */
static SpoolState *makeState(const char *zDir, const char *zPath, const FileIdentity *pId,
                             const uint8_t boot[16], const SpoolState *old, uint64_t *pIno) {
  struct stat s;
  SpoolState *st = MAP_FAILED;
  /* Not O_TRUNC: if the directory was emptied, somebody else may hold another attach lock, and have
  ** mapped the file of this name. */
  spoolUnlink(zDir, SPOOL_FILE_STATE_NEW);
  int fd = spoolOpen(zDir, SPOOL_FILE_STATE_NEW, O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return 0;
  int rc = fstat(fd, &s) ? errno : 0;
  /* full disk: an error now, not a SIGBUS later */
  if (!rc) rc = fileAllocate(fd, SPOOL_STATE_BYTES);
  if (!rc) st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (rc) errno = rc;
  if (st == MAP_FAILED) return 0;
  memcpy(st->magic, SPOOL_STATE_MAGIC, 8);
  st->version = SPOOL_STATE_VERSION;
  memcpy(st->bootId, boot, 16);
  st->dev = pId->dev;
  st->ino = pId->ino;
  st->birth = pId->birth;
  st->generation = 1;
  st->cause = old && !fileIs(pId, old->dev, old->ino, old->birth) ? SPOOL_CAUSE_REPLACED
      : SPOOL_CAUSE_NEW;
  st->head = st->tail = firstSegment(old) << 32 | SPOOL_SEGMENT_HEADER;
  st->dbSize = -1;
  st->logAllowance = SPOOL_LOG_ALLOWANCE;
  strncpy(st->path, zPath, sizeof st->path - 1);
  *pIno = s.st_ino;
  spoolRemoveJunk(zDir, SPOOL_FILE_STATE, S_IFREG);
  if (!spoolRename(zDir, SPOOL_FILE_STATE_NEW, SPOOL_FILE_STATE) &&
      spoolIsInode(zDir, SPOOL_FILE_STATE, s.st_ino))
    return st;
  rc = errno;
  munmap(st, SPOOL_STATE_BYTES);
  errno = rc;
  return 0;
}

/* Maps the state, or makes a new one. The caller holds the attach lock. If the state is of another
** file, it is marked as lost: what that file's handles still write, in whatever process, goes into
** a page that nobody reads. 0: see errno. */
static int mapOrMake(const char *zDir, const char *zPath, const FileIdentity *pId,
                     const uint8_t boot[16], SpoolFound *p) {
  int rc = 0;
  p->st = mapState(zDir, zPath, boot, &p->ino);
  if (p->st && !fileIs(pId, p->st->dev, p->st->ino, p->st->birth))
    atomic_fetch_or(&p->st->flags, SPOOL_LOST);
  if (!p->st || spoolStateLost(p->st)) {
    SpoolState *old = p->st;
    p->st = makeState(zDir, zPath, pId, boot, old, &p->ino);
    if (!p->st) rc = errno;
    if (old) spoolCall(zDir);
    if (old) munmap(old, SPOOL_STATE_BYTES);
  }
  errno = rc;
  return p->st != 0;
}

/* Takes the reason from errno, and keeps that: strerror() may change it. */
static int failed(SpoolFound *p) {
  int rc = errno;
  p->zWhy = strerror(rc);
  errno = rc;
  return 0;
}

static int tryState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry,
                    SpoolFound *p) {
  errno = 0;
  uint8_t boot[16];
  if (!bootId(boot)) {
    p->zWhy = errno == EMFILE || errno == ENFILE ? strerror(errno)
                                                 : "/proc/sys/kernel/random/boot_id cannot be "
                                                   "read: is /proc mounted?";
    return 0;
  }
  if ((p->zWhy = spoolMakeDirs(zDir))) return 0;
  spoolMakeWake(zDir);
  if ((p->attachFd = spoolLockAttach(zDir, nTry)) < 0) return failed(p);
  if (mapOrMake(zDir, zPath, pId, boot, p)) return 1;
  spoolUnlockAttach(p->attachFd);
  return failed(p);
}

/* The directory may be removed between two steps, as that of a deleted database (spool.Sweep). That
** ends, as there is a database now. */
int spoolFindState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry,
                   SpoolFound *p) {
  int found, n = 0;
  do found = tryState(zDir, zPath, pId, nTry, p);
  while (!found && errno == ENOENT && ++n < ATTACH_ANEW);
  return found;
}
