/*
** Reading a WAL's file: see spool_wal_file.h.
*/
#define _GNU_SOURCE
#include "spool_wal_file.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int walOpenFile(Spool *p) {
  char *z;
  if (asprintf(&z, "%s-wal", p->zPath) < 0) return -1;
  int fd = fdAboveStdio(open(z, O_RDONLY | O_CLOEXEC));
  free(z);
  return fd;
}

uint32_t walReadHeader(int fd, unsigned char a[WAL_HEADER]) {
  if (pread(fd, a, WAL_HEADER, 0) != WAL_HEADER || (get4(a) & ~1u) != 0x377f0682u) return 0;
  uint32_t szPage = get4(a + 8);
  return szPage >= 512 && szPage <= 65536 && !(szPage & (szPage - 1)) ? szPage : 0;
}

uint64_t walFileSalts(Spool *p) {
  unsigned char a[WAL_HEADER];
  int fd = walOpenFile(p);
  uint64_t salts = fd >= 0 && walReadHeader(fd, a) ? get8(a + 16) : 0;
  if (fd >= 0) close(fd);
  return salts;
}

uint64_t walFrameSum(Spool *p, uint32_t iFrame) {
  unsigned char a[WAL_HEADER], aSum[8];
  int fd = walOpenFile(p);
  uint32_t szPage = fd >= 0 ? walReadHeader(fd, a) : 0;
  int64_t at = WAL_HEADER + (int64_t)(iFrame - 1) * (WAL_FRAME + szPage) + 16;
  uint64_t walSum = szPage && pread(fd, aSum, 8, at) == 8 ? get8(aSum) : 0;
  if (fd >= 0) close(fd);
  return walSum;
}

/* The running checksum of the frames, so that only what SQLite's recovery would accept is copied.
** Words are in the order of bytes that the header's magic says. */
typedef struct WalSum {
  uint32_t s1, s2;
  int big;
} WalSum;

static void addSum(WalSum *p, const unsigned char *a, uint32_t n) {
  for (; n >= 8; n -= 8, a += 8) {
    uint32_t x, y;
    memcpy(&x, a, 4);
    memcpy(&y, a + 4, 4);
    if (p->big) {
      x = __builtin_bswap32(x);
      y = __builtin_bswap32(y);
    }
    p->s1 += x + p->s2;
    p->s2 += y + p->s1;
  }
}

static int frameValid(WalSum *p, const unsigned char *a, uint32_t szPage, uint64_t salts) {
  if (!get4(a) || get8(a + 8) != salts) return 0;
  addSum(p, a, 8);
  addSum(p, a + WAL_FRAME, szPage);
  return p->s1 == get4(a + 16) && p->s2 == get4(a + 20);
}

uint32_t walLastCommit(int fd, const unsigned char *aHeader, uint32_t szPage, uint32_t iFirst) {
  WalSum sum = {get4(aHeader + 24), get4(aHeader + 28), get4(aHeader) & 1};
  uint32_t szFrame = WAL_FRAME + szPage, last = iFirst;
  unsigned char *aFrame = malloc(szFrame);
  int ok = aFrame != 0;
  if (ok && iFirst) { /* the sum goes on from the one that stands in frame iFirst */
    ok = pread(fd, aFrame, WAL_FRAME, WAL_HEADER + (int64_t)(iFirst - 1) * szFrame) == WAL_FRAME;
    if (ok) sum.s1 = get4(aFrame + 16), sum.s2 = get4(aFrame + 20);
  }
  for (uint32_t i = iFirst; ok; i++) {
    if (pread(fd, aFrame, szFrame, WAL_HEADER + (int64_t)i * szFrame) != (ssize_t)szFrame) break;
    if (!frameValid(&sum, aFrame, szPage, get8(aHeader + 16))) break;
    if (get4(aFrame + 4)) last = i + 1;
  }
  free(aFrame);
  return last;
}
