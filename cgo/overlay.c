/*
** Blocks that were written on top of a file: see overlay.h.
**
** A block has a slot. The first OVERLAY_MEMORY_SLOTS of them are in memory, by segments, the others
** in the spill file, slot after slot, but for the last ones, which are in memory until they are a
** segment: SQLite writes page by page, and a call to the system for each would take longer than the
** copy. A table finds the slot of a block: open addressing, and no entry is ever taken out. What was
** cut off is only marked; the block's slot is used again if it is written again.
*/
#include "overlay.h"
#include "spill.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <stdlib.h>
#include <string.h>

#define OVERLAY_MEMORY_SLOTS 2048          /* 8 MiB */
#define SEGMENT_SLOTS 16                   /* 64 KiB, which malloc does not map by itself */
#define SEGMENTS (OVERLAY_MEMORY_SLOTS / SEGMENT_SLOTS)
#define TABLE_LEAST 64
#define BLOCK OVERLAY_BLOCK_BYTES
#define SEGMENT_BYTES (SEGMENT_SLOTS * BLOCK)

/* An entry of the table. iSlot is the slot + 1; 0: there is no entry here. */
typedef struct OverlayEntry {
  uint32_t iBlock;
  uint32_t iSlot : 31;
  uint32_t isCut : 1;                      /* it was cut off, and holds nothing */
} OverlayEntry;

struct Overlay {
  int64_t nByte;                           /* of the file above */
  int64_t nBelow;                          /* of the file below */
  uint32_t nEntry, nTable;                 /* nTable is a power of 2, or 0 */
  OverlayEntry *aTable;
  unsigned char *apSegment[SEGMENTS];
  unsigned char *aTail;                    /* the slots from iTail on; NULL: all are in apSegment */
  uint32_t iTail;
  Spill spill;                             /* those before */
  int isUsed;
};

Overlay *overlayNew(void) {
  return calloc(1, sizeof(Overlay));
}

void overlayClear(Overlay *p, int64_t nByte) {
  for (int i = 1; i < SEGMENTS && p->apSegment[i]; i++) { /* the first one serves a small transaction */
    free(p->apSegment[i]);
    p->apSegment[i] = 0;
  }
  if (p->nTable > TABLE_LEAST) {
    free(p->aTable);
    p->aTable = 0;
    p->nTable = 0;
  } else if (p->nEntry) {
    memset(p->aTable, 0, p->nTable * sizeof *p->aTable);
  }
  free(p->aTail);
  p->aTail = 0;
  spillClose(&p->spill);
  p->nEntry = 0;
  p->isUsed = 0;
  p->nByte = p->nBelow = nByte;
}

void overlayFree(Overlay *p) {
  if (!p) return;
  overlayClear(p, 0);
  free(p->apSegment[0]);
  free(p->aTable);
  free(p);
}

int overlayIsUsed(const Overlay *p) { return p->isUsed; }

int64_t overlaySize(const Overlay *p) { return p->nByte; }

uintptr_t overlaySpill(const Overlay *p) { return p->spill.hFile; }

/*
** The table
*/

/* Where the block's entry is, or would be. */
static OverlayEntry *entryAt(OverlayEntry *aTable, uint32_t nTable, uint32_t iBlock) {
  uint32_t i = iBlock * 2654435769u;       /* Fibonacci hashing: neighbours lie apart */
  for (i ^= i >> 15;; i++) {
    OverlayEntry *e = &aTable[i & (nTable - 1)];
    if (!e->iSlot || e->iBlock == iBlock) return e;
  }
}

/* The entry of a block that holds something; NULL: the block holds nothing. */
static const OverlayEntry *entryOf(const Overlay *p, int64_t iBlock) {
  if (!p->nEntry) return 0;
  const OverlayEntry *e = entryAt(p->aTable, p->nTable, (uint32_t)iBlock);
  return e->iSlot && !e->isCut ? e : 0;
}

/* Makes room in the table for one more. Half of it stays empty. */
static int tableGrow(Overlay *p) {
  if (2 * (p->nEntry + 1) <= p->nTable) return SQLITE_OK;
  uint32_t n = p->nTable ? 2 * p->nTable : TABLE_LEAST;
  OverlayEntry *a = n ? calloc(n, sizeof *a) : 0;
  if (!a) return SQLITE_NOMEM;
  for (uint32_t i = 0; i < p->nTable; i++)
    if (p->aTable[i].iSlot) *entryAt(a, n, p->aTable[i].iBlock) = p->aTable[i];
  free(p->aTable);
  p->aTable = a;
  p->nTable = n;
  return SQLITE_OK;
}

/*
** The slots
*/

static int64_t spillOffset(uint32_t iSlot) { return (int64_t)(iSlot - OVERLAY_MEMORY_SLOTS) * BLOCK; }

/* Where a slot's bytes are in memory; NULL: in the spill file, at *piSpill. */
static unsigned char *slotData(const Overlay *p, uint32_t iSlot, int64_t *piSpill) {
  size_t iWithin = (size_t)(iSlot % SEGMENT_SLOTS) * BLOCK;
  if (iSlot < OVERLAY_MEMORY_SLOTS) return p->apSegment[iSlot / SEGMENT_SLOTS] + iWithin;
  if (iSlot >= p->iTail) return p->aTail + iWithin;
  *piSpill = spillOffset(iSlot);
  return 0;
}

/* Sees to it that the next slot, which is not in apSegment, is in aTail. */
static int tailReady(Overlay *p) {
  int rc = p->spill.hFile ? SQLITE_OK : spillOpen(&p->spill);
  if (rc != SQLITE_OK) return rc;
  if (!p->aTail) {
    if (!(p->aTail = malloc(SEGMENT_BYTES))) return SQLITE_NOMEM;
    p->iTail = OVERLAY_MEMORY_SLOTS;
  }
  if (p->nEntry < p->iTail + SEGMENT_SLOTS) return SQLITE_OK;
  rc = spillWrite(&p->spill, p->aTail, SEGMENT_BYTES, spillOffset(p->iTail));
  if (rc == SQLITE_OK) p->iTail = p->nEntry;
  return rc;
}

/* Sees to it that a slot can be written to: the next one, or one that an entry has. */
static int slotReady(Overlay *p, uint32_t iSlot) {
  if (iSlot < p->nEntry) return SQLITE_OK;
  if (iSlot >= OVERLAY_MEMORY_SLOTS) return tailReady(p);
  unsigned char **pp = &p->apSegment[iSlot / SEGMENT_SLOTS];
  if (!*pp) *pp = malloc(SEGMENT_BYTES);
  return *pp ? SQLITE_OK : SQLITE_NOMEM;
}

static int slotWrite(Overlay *p, uint32_t iSlot, const void *pBuf, int n, int iWithin) {
  int64_t iSpill = 0;
  unsigned char *a = slotData(p, iSlot, &iSpill);
  if (!a) return spillWrite(&p->spill, pBuf, n, iSpill + iWithin);
  memcpy(a + iWithin, pBuf, n);
  return SQLITE_OK;
}

static int slotRead(const Overlay *p, uint32_t iSlot, void *pBuf, int n, int iWithin) {
  int64_t iSpill = 0;
  const unsigned char *a = slotData(p, iSlot, &iSpill);
  if (!a) return spillRead(&p->spill, pBuf, n, iSpill + iWithin);
  memcpy(pBuf, a + iWithin, n);
  return SQLITE_OK;
}

/*
** Reading and writing
*/

/* What the file below shows of n bytes at iOfst. */
static int belowRead(const Overlay *p, unsigned char *z, int64_t n, int64_t iOfst, const OverlayBelow *pBelow) {
  int64_t nHas = p->nBelow - iOfst;
  if (nHas < 0) nHas = 0;
  if (nHas > n) nHas = n;
  memset(z + nHas, 0, n - nHas);
  return nHas ? pBelow->xRead(pBelow->pOwner, z, (int)nHas, iOfst) : SQLITE_OK;
}

/* Writes n bytes within one block. */
static int blockWrite(Overlay *p, const unsigned char *z, int n, int64_t iOfst, const OverlayBelow *pBelow) {
  unsigned char aBlock[BLOCK];
  int iWithin = (int)(iOfst % BLOCK);
  if (iOfst / BLOCK > UINT32_MAX) return SQLITE_FULL;
  int rc = tableGrow(p);
  if (rc != SQLITE_OK) return rc;
  OverlayEntry *e = entryAt(p->aTable, p->nTable, (uint32_t)(iOfst / BLOCK));
  if (e->iSlot && !e->isCut) return slotWrite(p, e->iSlot - 1, z, n, iWithin);
  uint32_t iSlot = e->iSlot ? e->iSlot - 1u : p->nEntry;
  if ((rc = slotReady(p, iSlot)) != SQLITE_OK) return rc;
  if (n < BLOCK) {
    rc = belowRead(p, aBlock, BLOCK, iOfst - iWithin, pBelow);
    if (rc != SQLITE_OK) return rc;
    memcpy(aBlock + iWithin, z, n);
    z = aBlock;
  }
  if ((rc = slotWrite(p, iSlot, z, BLOCK, 0)) != SQLITE_OK) return rc;
  if (!e->iSlot) p->nEntry++;
  *e = (OverlayEntry){(uint32_t)(iOfst / BLOCK), iSlot + 1, 0};
  return SQLITE_OK;
}

/* Writes, and makes the file as long as that. z may be NULL: zeros. */
static int rangeWrite(Overlay *p, const unsigned char *z, int64_t n, int64_t iOfst, const OverlayBelow *pBelow) {
  static const unsigned char aZero[BLOCK];
  for (int64_t done = 0; done < n;) {
    int k = BLOCK - (int)((iOfst + done) % BLOCK);
    if (k > n - done) k = (int)(n - done);
    p->isUsed = 1;
    int rc = blockWrite(p, z ? z + done : aZero, k, iOfst + done, pBelow);
    if (rc != SQLITE_OK) return rc;
    done += k;
    if (iOfst + done > p->nByte) p->nByte = iOfst + done;
  }
  return SQLITE_OK;
}

/* Where the file was cut, and grows again up to nByte, the file below has bytes that must not show:
** zeros are written there (O1, O2). */
static int hide(Overlay *p, int64_t nByte, const OverlayBelow *pBelow) {
  int64_t end = nByte < p->nBelow ? nByte : p->nBelow;
  return end > p->nByte ? rangeWrite(p, 0, end - p->nByte, p->nByte, pBelow) : SQLITE_OK;
}

int overlayWrite(Overlay *p, const void *pBuf, int n, int64_t iOfst, const OverlayBelow *pBelow) {
  int rc = hide(p, iOfst, pBelow);
  return rc == SQLITE_OK ? rangeWrite(p, pBuf, n, iOfst, pBelow) : rc;
}

int overlayRead(Overlay *p, void *pBuf, int n, int64_t iOfst, const OverlayBelow *pBelow) {
  unsigned char *z = pBuf;
  int nHas = iOfst >= p->nByte ? 0 : iOfst + n > p->nByte ? (int)(p->nByte - iOfst) : n;
  memset(z + nHas, 0, n - nHas);
  for (int done = 0; done < nHas;) {
    int64_t at = iOfst + done;
    int rc, k = BLOCK - (int)(at % BLOCK);
    const OverlayEntry *e = entryOf(p, at / BLOCK);
    while (!e && k < nHas - done && !entryOf(p, (at + k) / BLOCK)) k += BLOCK; /* one read for all */
    if (k > nHas - done) k = nHas - done;
    if (e) rc = slotRead(p, e->iSlot - 1, z + done, k, (int)(at % BLOCK));
    else rc = belowRead(p, z + done, k, at, pBelow);
    if (rc != SQLITE_OK) return rc;
    done += k;
  }
  return nHas < n ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

int overlayTruncate(Overlay *p, int64_t nByte, const OverlayBelow *pBelow) {
  static const unsigned char aZero[BLOCK];
  if (nByte >= p->nByte) {
    int rc = hide(p, nByte, pBelow);
    if (rc == SQLITE_OK && nByte > p->nByte) p->isUsed = 1, p->nByte = nByte;
    return rc;
  }
  int iWithin = (int)(nByte % BLOCK);
  const OverlayEntry *pLast = iWithin ? entryOf(p, nByte / BLOCK) : 0;
  if (pLast) {
    int rc = slotWrite(p, pLast->iSlot - 1, aZero, BLOCK - iWithin, iWithin);
    if (rc != SQLITE_OK) return rc;
  }
  for (uint32_t i = 0; i < p->nTable; i++)
    if ((int64_t)p->aTable[i].iBlock * BLOCK >= nByte) p->aTable[i].isCut = 1;
  p->isUsed = 1;
  p->nByte = nByte;
  return SQLITE_OK;
}

/*
** For whoever stores it
*/

static int compareOffsets(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int64_t *overlayBlocks(const Overlay *p, int64_t *pn) {
  int64_t *a = malloc(((size_t)p->nEntry + 1) * sizeof *a);
  *pn = 0;
  if (!a) return 0;
  for (uint32_t i = 0; i < p->nTable; i++)
    if (p->aTable[i].iSlot && !p->aTable[i].isCut) a[(*pn)++] = (int64_t)p->aTable[i].iBlock * BLOCK;
  qsort(a, *pn, sizeof *a, compareOffsets);
  return a;
}

const void *overlayFind(const Overlay *p, int64_t iOfst, int64_t *piSpill) {
  return slotData(p, entryOf(p, iOfst / BLOCK)->iSlot - 1, piSpill);
}
