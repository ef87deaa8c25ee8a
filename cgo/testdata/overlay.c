/*
** Random calls of an overlay, and the same on two arrays: what the file is to be, and what a store
** would make of it (O1 to O3 of overlay.h). Every FAIL-th call of what is below fails.
**
** Usage: overlay SEED CALLS FAIL
*/
#include "overlay.h"
#include "spill.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (24 << 20)        /* three times what an overlay keeps in memory */
#define BLOCK OVERLAY_BLOCK_BYTES
#define CHECK(x) do { if (!(x)) { printf("%s:%d: %s (call %ld)\n", __FILE__, __LINE__, #x, nCall); exit(1); } } while (0)

static unsigned char aBelow[FILE_MAX], aModel[FILE_MAX], aBuf[FILE_MAX];
static int64_t nBelow, nModel;
static long nCall, failEvery, nBelowCall, nFailed, nSpilled;
static uint64_t state;

static uint64_t next(uint64_t bound) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return (z ^ z >> 31) % bound;
}

static int fails(void) {
  if (!failEvery || ++nBelowCall % failEvery) return 0;
  nFailed++;
  return 1;
}

/* ---- the spill file, in memory ---- */

static unsigned char *aSpill;
static int nOpen;

int spillOpen(Spill *p) {
  if (fails()) return SQLITE_CANTOPEN;
  CHECK(!nOpen++);
  aSpill = calloc(1, FILE_MAX);
  p->hFile = 1;
  return SQLITE_OK;
}

int spillWrite(const Spill *p, const void *pBuf, int n, int64_t iOfst) {
  CHECK(p->hFile && n > 0 && iOfst >= 0 && iOfst + n <= FILE_MAX);
  if (fails()) return SQLITE_FULL;
  nSpilled++;
  memcpy(aSpill + iOfst, pBuf, n);
  return SQLITE_OK;
}

int spillRead(const Spill *p, void *pBuf, int n, int64_t iOfst) {
  CHECK(p->hFile && n > 0 && iOfst >= 0 && iOfst + n <= FILE_MAX);
  if (fails()) return SQLITE_IOERR_READ;
  memcpy(pBuf, aSpill + iOfst, n);
  return SQLITE_OK;
}

void spillClose(Spill *p) {
  if (!p->hFile) return;
  p->hFile = 0;
  nOpen--;
  free(aSpill);
}

static int belowRead(void *pOwner, void *pBuf, int n, int64_t iOfst) {
  CHECK(pOwner == aBelow && n > 0 && iOfst >= 0 && iOfst + n <= nBelow);
  if (fails()) return SQLITE_IOERR_READ;
  memcpy(pBuf, aBelow + iOfst, n);
  return SQLITE_OK;
}

static const OverlayBelow below = {belowRead, aBelow};

/* ---- the comparisons ---- */

/* O1, at n bytes from iOfst. */
static void compareRead(Overlay *p, int64_t n, int64_t iOfst) {
  long every = failEvery;
  failEvery = 0;
  memset(aBuf, 0xee, n);
  int rc = overlayRead(p, aBuf, (int)n, iOfst, &below);
  failEvery = every;
  int64_t nHas = iOfst >= nModel ? 0 : nModel - iOfst < n ? nModel - iOfst : n;
  CHECK(rc == (nHas < n ? SQLITE_IOERR_SHORT_READ : SQLITE_OK));
  CHECK(!memcmp(aBuf, aModel + iOfst, nHas));
  for (int64_t i = nHas; i < n; i++) CHECK(!aBuf[i]);
}

/* O2: the file below, cut or extended, and the blocks are the file. */
static void compareStored(Overlay *p) {
  int64_t n, last = -1, *a = overlayBlocks(p, &n);
  CHECK(a);
  memset(aBuf, 0, FILE_MAX);
  memcpy(aBuf, aBelow, nModel < nBelow ? nModel : nBelow);
  for (int64_t i = 0; i < n; i++) {
    int64_t iSpill = -1;
    CHECK(a[i] > last && a[i] % BLOCK == 0 && a[i] < overlaySize(p));
    last = a[i];
    const void *z = overlayFind(p, a[i], &iSpill);
    CHECK(z || (overlaySpill(p) && iSpill >= 0));
    memcpy(aBuf + a[i], z ? z : aSpill + iSpill, BLOCK);
  }
  CHECK(!memcmp(aBuf, aModel, nModel));
  free(a);
}

/* After a call that failed, the n bytes at iOfst may be anything (O3); so may the bytes from the old
** end to there. */
static void resync(Overlay *p, int64_t n, int64_t iOfst) {
  int64_t size = overlaySize(p), from = iOfst < nModel ? iOfst : nModel;
  CHECK(size >= nModel && (size == nModel || size <= iOfst + n));
  long every = failEvery;
  failEvery = 0;
  if (size > from) CHECK(overlayRead(p, aModel + from, (int)((size < iOfst + n ? size : iOfst + n) - from), from, &below) == SQLITE_OK);
  failEvery = every;
  nModel = size;
}

static void begin(Overlay *p) {
  for (int64_t i = 0; i < nModel; i++) aBelow[i] = aModel[i]; /* what was committed lies below now */
  nBelow = nModel;
  if (!next(3)) {
    nBelow = (int64_t)next(FILE_MAX / 2);
    for (int64_t i = 0; i < nBelow; i++) aBelow[i] = (unsigned char)(i * 31 + (i >> 12) + nCall);
  }
  overlayClear(p, nBelow);
  CHECK(!overlayIsUsed(p) && overlaySize(p) == nBelow && !overlaySpill(p));
  memset(aModel, 0, FILE_MAX);
  memcpy(aModel, aBelow, nBelow);
  nModel = nBelow;
}

static void writeSome(Overlay *p) {
  static const int aPage[] = {1, 512, 1024, 4096, 8192, 65536};
  int szPage = aPage[next(6)], n = szPage > 1 ? szPage : 1 + (int)next(9000);
  int64_t iOfst = (int64_t)next(next(100) ? (uint64_t)nModel + 70000 : FILE_MAX - 80000);
  if (!next(4)) iOfst = nModel + (int64_t)next(6000); /* a gap, which a cut may have left something in */
  if (iOfst > FILE_MAX - 80000) iOfst = FILE_MAX - 80000;
  iOfst -= iOfst % szPage;
  for (int i = 0; i < n; i++) aBuf[i] = (unsigned char)(next(256));
  int rc = overlayWrite(p, aBuf, n, iOfst, &below);
  if (rc != SQLITE_OK) {
    CHECK(failEvery);
    resync(p, n, iOfst);
    return;
  }
  if (iOfst > nModel) memset(aModel + nModel, 0, iOfst - nModel);
  memcpy(aModel + iOfst, aBuf, n);
  if (iOfst + n > nModel) nModel = iOfst + n;
}

static void truncateSome(Overlay *p) {
  int64_t size = (int64_t)next(next(4) ? (uint64_t)nModel + 1 : FILE_MAX - 80000);
  if (next(2) && nModel > 6000) size = nModel - (int64_t)next(6000);
  if (next(2)) size -= size % 1024;
  int rc = overlayTruncate(p, size, &below);
  if (rc != SQLITE_OK) {
    CHECK(failEvery);
    if (size < nModel) resync(p, BLOCK, size); /* the rest of its last block */
    else resync(p, size - nModel, nModel);
    return;
  }
  if (size > nModel) memset(aModel + nModel, 0, size - nModel);
  nModel = size;
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  state = strtoull(argv[1], 0, 10);
  long nCalls = atol(argv[2]);
  failEvery = atol(argv[3]);
  Overlay *p = overlayNew();
  begin(p);
  for (nCall = 0; nCall < nCalls; nCall++) {
    int64_t iOfst = (int64_t)next(FILE_MAX - 70000), n = 1 + (int64_t)next(next(2) ? 100 : 70000);
    switch (next(40)) {
      case 0:
        truncateSome(p);
        break;
      case 1:
        if (next(100)) break;
        compareStored(p);
        begin(p);
        break;
      default:
        writeSome(p);
    }
    CHECK(overlaySize(p) == nModel);
    compareRead(p, n, iOfst);
    if (nCall % 500 == 0) compareRead(p, FILE_MAX, 0), compareStored(p);
  }
  compareRead(p, FILE_MAX, 0);
  compareStored(p);
  overlayFree(p);
  CHECK(!nOpen && nSpilled && (!failEvery || nFailed));
  printf("ok\n");
}
