/*
** The changelog's segments: see spool_segment.h. System calls are made where a segment begins or
** ends, and for each POPULATE_BYTES of it.
*/
#define _GNU_SOURCE
#include "spool_segment.h"
#include "spool_dir.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much of a segment one madvise(2) maps in. */
#define POPULATE_BYTES (32u << 10)

/* Bounds how many segments are removed, whatever the state page says by now. */
#define TXN_SEGMENTS_MAX 4096

void spoolUnmap(Spool *p) {
  for (int i = 0; i < SPOOL_MAPS; i++) {
    if (p->aMap[i].a) munmap(p->aMap[i].a, SPOOL_SEGMENT_BYTES);
    p->aMap[i].a = 0;
  }
  p->aSeg = 0;
}

/* The names of a segment's file, and of consumed ones. */
typedef char SegmentName[sizeof "log.0123456789abcdef"];
static const char *const azFree[SPOOL_FREE_FILES] = {
    "free.0", "free.1", "free.2", "free.3", "free.4", "free.5", "free.6", "free.7",
    "free.8", "free.9", "free.10", "free.11", "free.12", "free.13", "free.14", "free.15"};

static void nameSegment(SegmentName z, uint64_t segNo) {
  snprintf(z, sizeof(SegmentName), "log.%016llx", (unsigned long long)segNo);
}

/* Opens a file for a new segment: one that the replicator has freed, or a new one. All its blocks
** are allocated. -1: see errno. */
static int newSegment(Spool *p, const char *zSegment) {
  for (int i = 0; i < SPOOL_FREE_FILES; i++) {
    struct stat s;
    if (spoolIsJunk(p->zDir, azFree[i], S_IFREG) || spoolRename(p->zDir, azFree[i], zSegment))
      continue;
    int fd = spoolOpen(p->zDir, zSegment, O_RDWR);
    /* somebody may have punched holes in it, cut it, or linked it to another name */
    if (fd >= 0 && !fstat(fd, &s) && s.st_size == SPOOL_SEGMENT_BYTES && s.st_nlink <= 1 &&
        s.st_uid == geteuid() &&
        !fileAllocate(fd, SPOOL_SEGMENT_BYTES))
      return fd;
    if (fd >= 0) close(fd);
    spoolUnlink(p->zDir, zSegment);
  }
  /* left by an unpublished transaction, and perhaps mapped somewhere */
  spoolUnlink(p->zDir, zSegment);
  int fd = spoolOpen(p->zDir, zSegment, O_RDWR | O_CREAT | O_EXCL);
  int rc = fd < 0 ? 0 : fileAllocate(fd, SPOOL_SEGMENT_BYTES);
  if (!rc) return fd;
  close(fd);
  spoolUnlink(p->zDir, zSegment);
  errno = rc;
  return -1;
}

/* Maps a segment's file, which must have no other name. If it is mapped already, with its pages in
** place, that mapping is returned. NULL: see errno. */
static char *mapFile(Spool *p, int fd) {
  struct stat s;
  if (fstat(fd, &s)) return 0;
  if (s.st_size != SPOOL_SEGMENT_BYTES || s.st_nlink > 1 || s.st_uid != geteuid()) {
    errno = EIO;
    return 0;
  }
  for (int i = 0; i < SPOOL_MAPS; i++)
    if (p->aMap[i].a && p->aMap[i].ino == s.st_ino) return p->aMap[i].a;
  char *a = mmap(0, SPOOL_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (a == MAP_FAILED) return 0;
  struct SpoolMap *pMap = &p->aMap[p->iMap++ % SPOOL_MAPS];
  if (pMap->a) munmap(pMap->a, SPOOL_SEGMENT_BYTES);
  pMap->a = a;
  pMap->ino = s.st_ino;
  pMap->nReady = 0;
  return a;
}

/* Otherwise the first write to each page is a fault, and a one-page commit has three of them. Not
** the whole segment: a thousand databases with a few commits each would all be resident. A write
** would raise SIGBUS if the file has been truncated, or if a file system that copies on write has
** no room for blocks that were allocated before. (Kernels before 5.14 cannot tell.) */
int segmentPopulateMore(struct SpoolMap *pMap, uint32_t end) {
#ifdef MADV_POPULATE_WRITE
  uint32_t to = (end + POPULATE_BYTES - 1) / POPULATE_BYTES * POPULATE_BYTES;
  if (to > SPOOL_SEGMENT_BYTES) to = SPOOL_SEGMENT_BYTES;
  /* MAP_POPULATE would only read shared pages in */
  if (madvise(pMap->a + pMap->nReady, to - pMap->nReady, MADV_POPULATE_WRITE) && errno == EFAULT)
    return EIO;
  pMap->nReady = to;
#else
  pMap->nReady = end;
#endif
  return 0;
}

int segmentMap(Spool *p, SpoolState *st, uint64_t segNo, int isNew) {
  SegmentName z;
  nameSegment(z, segNo);
  if (p->segState != st) spoolUnmap(p);
  p->aSeg = 0;
  int fd = isNew ? newSegment(p, z) : spoolOpen(p->zDir, z, O_RDWR);
  char *a = fd >= 0 ? mapFile(p, fd) : 0;
  int rc = a ? 0 : errno;
  if (fd >= 0) close(fd);
  if (rc) return rc;
  p->aSeg = a;
  p->segNo = segNo;
  p->segState = st;
  if (isNew) {
    if ((rc = segmentPopulate(p, SPOOL_SEGMENT_HEADER))) return rc;
    uint64_t size = SPOOL_SEGMENT_BYTES;
    memcpy(a, SPOOL_SEGMENT_MAGIC, 8);
    memcpy(a + 8, &segNo, 8);
    memcpy(a + 16, &size, 8);
  }
  return 0;
}

void segmentsRemove(Spool *p, uint64_t last, uint64_t head) {
  for (uint64_t n = last; n > head && last - n < TXN_SEGMENTS_MAX; n--) {
    SegmentName z;
    nameSegment(z, n);
    spoolUnlink(p->zDir, z);
  }
}
