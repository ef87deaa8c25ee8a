/*
** Files and their descriptors: see files.h.
*/
#define _GNU_SOURCE
#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifndef STATX_BTIME /* musl has no statx() before 1.2.5 */
#include <linux/stat.h>
#endif

/* How often an allocation that a signal has interrupted is tried again. */
#define ALLOCATE_TRIES 1000

int fileIdentity(const char *zPath, FileIdentity *p) {
  struct statx s;
  if (syscall(SYS_statx, AT_FDCWD, zPath, 0, STATX_INO | STATX_BTIME, &s)) return errno;
  p->dev = (uint64_t)s.stx_dev_major << 32 | s.stx_dev_minor;
  p->ino = s.stx_ino;
  p->birth = s.stx_mask & STATX_BTIME
      ? (uint64_t)s.stx_btime.tv_sec * 1000000000u + s.stx_btime.tv_nsec : 0;
  return 0;
}

int fdAboveStdio(int fd) {
  if (fd < 0 || fd > 2) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  return high;
}

int fileAllocate(int fd, int64_t n) {
  struct rlimit r;
  struct stat s;
  if (!getrlimit(RLIMIT_FSIZE, &r) && r.rlim_cur < (rlim_t)n && !fstat(fd, &s) && s.st_size < n)
    return EFBIG; /* to try would raise SIGXFSZ in the host */
  int rc, nTry = 0; /* tmpfs is interrupted by any signal, a profiler's say, and begins again */
  do rc = posix_fallocate(fd, 0, n);
  while (rc == EINTR && ++nTry < ALLOCATE_TRIES);
  return rc;
}
