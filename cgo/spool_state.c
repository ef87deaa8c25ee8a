/*
** The state page of a spool, found or made under the attach lock: see spool_state.h. package spool's
** Create does the same.
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

/* The directory may be removed so often while a state is made in it. */
#define ATTACH_ANEW 3

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

/* Maps the state, lost or not, if it is there, of this boot and of this path, and under no
** other name: that would be somebody's copy, who does not expect it to change. */
static SpoolState *mapState(const char *zDir, const char *zPath, const uint8_t boot[16], uint64_t *pIno) {
  struct stat s;
  int fd = spoolOpen(zDir, SPOOL_FILE_STATE, O_RDWR);
  if (fd < 0) return 0;
  SpoolState *st = MAP_FAILED;
  if (!fstat(fd, &s) && s.st_size == SPOOL_STATE_BYTES && s.st_nlink <= 1 && s.st_uid == geteuid())
    st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (st == MAP_FAILED) return 0;
  *pIno = s.st_ino;
  if (!memcmp(st->magic, SPOOL_STATE_MAGIC, 8) && st->version == SPOOL_STATE_VERSION && !memcmp(st->bootId, boot, 16) &&
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

/* Makes a new state, whole before it has its name. old is the one before, or NULL. */
static SpoolState *makeState(const char *zDir, const char *zPath, const FileIdentity *pId, const uint8_t boot[16],
                             const SpoolState *old, uint64_t *pIno) {
  struct stat s;
  SpoolState *st = MAP_FAILED;
  /* Not O_TRUNC: if the directory was emptied, somebody else may hold another attach lock,
  ** and have the file of this name mapped. */
  spoolUnlink(zDir, SPOOL_FILE_STATE_NEW);
  int fd = spoolOpen(zDir, SPOOL_FILE_STATE_NEW, O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0) return 0;
  int rc = fstat(fd, &s) ? errno : 0;
  if (!rc) rc = fileAllocate(fd, SPOOL_STATE_BYTES); /* full disk: an error now, not a SIGBUS later */
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
  st->cause = old && !fileIs(pId, old->dev, old->ino, old->birth) ? SPOOL_CAUSE_REPLACED : SPOOL_CAUSE_NEW;
  st->head = st->tail = firstSegment(old) << 32 | SPOOL_SEGMENT_HEADER;
  st->dbSize = -1;
  st->logAllowance = SPOOL_LOG_ALLOWANCE;
  strncpy(st->path, zPath, sizeof st->path - 1);
  *pIno = s.st_ino;
  spoolRemoveJunk(zDir, SPOOL_FILE_STATE, S_IFREG);
  if (!spoolRename(zDir, SPOOL_FILE_STATE_NEW, SPOOL_FILE_STATE) && spoolIsInode(zDir, SPOOL_FILE_STATE, s.st_ino)) return st;
  rc = errno;
  munmap(st, SPOOL_STATE_BYTES);
  errno = rc;
  return 0;
}

/* Under the attach lock: the state, or a new one. The state of another file is lost: what handles of
** that one, of whatever process, still write stays in its page, which nobody reads. 0 and errno. */
static int mapOrMake(const char *zDir, const char *zPath, const FileIdentity *pId, const uint8_t boot[16], SpoolFound *p) {
  int rc = 0;
  p->st = mapState(zDir, zPath, boot, &p->ino);
  if (p->st && !fileIs(pId, p->st->dev, p->st->ino, p->st->birth)) atomic_fetch_or(&p->st->flags, SPOOL_LOST);
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

/* strerror() may change errno. */
static int failed(SpoolFound *p) {
  int rc = errno;
  p->zWhy = strerror(rc);
  errno = rc;
  return 0;
}

static int tryState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, SpoolFound *p) {
  errno = 0;
  uint8_t boot[16];
  if (!bootId(boot)) {
    p->zWhy = errno == EMFILE || errno == ENFILE ? strerror(errno)
                                                 : "/proc/sys/kernel/random/boot_id cannot be read: is /proc mounted?";
    return 0;
  }
  if ((p->zWhy = spoolMakeDirs(zDir))) return 0;
  spoolMakeWake(zDir);
  if ((p->attachFd = spoolLockAttach(zDir, nTry)) < 0) return failed(p);
  if (mapOrMake(zDir, zPath, pId, boot, p)) return 1;
  spoolUnlockAttach(p->attachFd);
  return failed(p);
}

/* The directory may be removed between two steps, as that of a database that was deleted
** (spool.Sweep). That ends, as there is one now. */
int spoolFindState(const char *zDir, const char *zPath, const FileIdentity *pId, int nTry, SpoolFound *p) {
  int found, n = 0;
  do found = tryState(zDir, zPath, pId, nTry, p);
  while (!found && errno == ENOENT && ++n < ATTACH_ANEW);
  return found;
}
