/*
** What does not fit into memory: see spill.h.
*/
#define _GNU_SOURCE
#include "spill.h"
#include "descriptors.h"
#include "gort.h"
#include "log.h"
#include "remote_goexports.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static Ours oursOf(const Spill *p) { return (Ours){p->fdGo, p->dev, p->ino}; }

int spillOpen(Spill *p) {
  *p = (Spill){.fd = -1};
  if (!verneuilGo()) return SQLITE_IOERR;
  if (goSpillOpen(p)) return SQLITE_IOERR; /* which has said why */
  Ours ours = oursOf(p);
  p->fd = descriptorsSeparate() ? descriptorsOpen(&ours, O_RDWR) : p->fdGo;
  if (p->fd >= 0) return SQLITE_OK;
  verneuilLog(VERNEUIL_ERROR, "remote: a transaction that does not fit into memory needs a file in tempdir, which cannot be opened through /proc: %s",
              strerror(errno));
  spillClose(p);
  return SQLITE_IOERR;
}

/* The host may have closed what we had open, and have another file under the number. */
static int isOurs(const Spill *p) {
  Ours ours = oursOf(p);
  if (descriptorsProve(p->fd, &ours)) return 1;
  verneuilLog(VERNEUIL_ERROR, "remote: the program has closed a descriptor of this library's, with what a transaction had written: begin it again");
  return 0;
}

int spillWrite(const Spill *p, const void *pBuf, int n, int64_t iOfst) {
  const char *z = pBuf;
  if (!isOurs(p)) return SQLITE_IOERR_WRITE;
  while (n > 0) {
    ssize_t k = pwrite(p->fd, z, n, iOfst);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      int isFull = k == 0 || errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
      verneuilLog(VERNEUIL_ERROR, "remote: what a transaction has written cannot be kept in tempdir: %s", strerror(k ? errno : ENOSPC));
      return isFull ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    z += k, n -= (int)k, iOfst += k;
  }
  return SQLITE_OK;
}

int spillRead(const Spill *p, void *pBuf, int n, int64_t iOfst) {
  char *z = pBuf;
  if (!isOurs(p)) return SQLITE_IOERR_READ;
  while (n > 0) {
    ssize_t k = pread(p->fd, z, n, iOfst);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      verneuilLog(VERNEUIL_ERROR, "remote: what a transaction has written cannot be read from tempdir: %s", k ? strerror(errno) : "the file is too short");
      return SQLITE_IOERR_READ;
    }
    z += k, n -= (int)k, iOfst += k;
  }
  return SQLITE_OK;
}

void spillClose(Spill *p) {
  if (!p->hFile) return;
  Ours ours = oursOf(p);
  if (descriptorsSeparate() && descriptorsProve(p->fd, &ours)) close(p->fd);
  if (verneuilGoRuns()) goSpillClose(p->hFile);
  *p = (Spill){.fd = -1};
}
