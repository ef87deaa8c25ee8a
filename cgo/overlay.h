/*
** What has been written on top of a file that cannot be written to: blocks of 4 KiB by offset, in
** memory up to a bound, and beyond it in a file that nobody else finds (spill.h). A write
** transaction of verneuil_remote keeps its pages in one, and its journal in another, below which
** there is nothing.
**
** O1  A byte below overlaySize() is what was written there last; where nothing was, it is that of
**     the file below, if the overlay was never shorter than to reach it; else it is 0.
** O2  overlayBlocks() lists each block of which a byte may differ from the file below, as long as
**     both have it. So the file below, cut or extended with zeros to overlaySize(), and these
**     blocks, are the file above.
** O3  A call that fails changes no byte but those that it was to write.
**
** One thread at a time uses an overlay; while nobody writes, several may call overlayFind().
*/
#ifndef VERNEUIL_OVERLAY_H
#define VERNEUIL_OVERLAY_H
#include <stdint.h>

#define OVERLAY_BLOCK_BYTES 4096   /* replicate/remote/compose has the same */

typedef struct Overlay Overlay;

/* The file below. xRead reads n bytes at iOfst, all of which the file has: an SQLite result code. */
typedef struct OverlayBelow {
  int (*xRead)(void *pOwner, void *pBuf, int n, int64_t iOfst);
  void *pOwner;
} OverlayBelow;

/* An overlay in which nothing is written, over an empty file. NULL: no memory. */
Overlay *overlayNew(void);

/* Frees it; p may be NULL. */
void overlayFree(Overlay *p);

/* Nothing is written any more, and the file below has nByte bytes. */
void overlayClear(Overlay *p, int64_t nByte);

/* Has anything been written or cut since? */
int overlayIsUsed(const Overlay *p);

int64_t overlaySize(const Overlay *p);

/* As xRead, xWrite and xTruncate do; pBelow may be NULL where the file below is empty. An SQLite
** result code. */
int overlayRead(Overlay *p, void *pBuf, int n, int64_t iOfst, const OverlayBelow *pBelow);
int overlayWrite(Overlay *p, const void *pBuf, int n, int64_t iOfst, const OverlayBelow *pBelow);
int overlayTruncate(Overlay *p, int64_t nByte, const OverlayBelow *pBelow);

/* The offsets of all blocks that hold something (O2), ascending, malloc'd; *pn is their number.
** NULL: no memory. */
int64_t *overlayBlocks(const Overlay *p, int64_t *pn);

/* Where the block at iOfst is that overlayBlocks() has listed: in memory, or, if that is NULL, at
** *piSpill of the file of overlaySpill(). */
const void *overlayFind(const Overlay *p, int64_t iOfst, int64_t *piSpill);

/* Go's handle of the file that the blocks beyond the bound are in; 0: there is none. */
uintptr_t overlaySpill(const Overlay *p);

#endif
