/*
** A version's table: where each chunk of one version of a database lies in the slot file. Go makes
** and fills it (replicate/replica/table.go and slots.go); here it is read, on the host's threads.
**
** What there is to read. The slot file holds chunks of 64 KiB, each in a slot, and grows by extents of
** 1,024 slots. The first extents are mapped. Each slot has a generation, from 1 on, in memory that a
** forked child shares with its parent. An entry of the table is one 64-bit word:
**
**     generation << 32 | marks | slot        generation 0: the chunk is not here
**
** Entries lie in parts of 256 chunks, which versions share as long as none of their chunks differs.
** Pages that travel in the manifest lie in memory of their own, sorted by chunk, as they are few.
** They lie over what the chunk's slot has; what they cover is here whether the chunk is or not.
**
** The protocol. No reader takes a lock, makes a system call for what is mapped, or enters Go for
** what is here.
**
** T1  Go writes a slot's bytes, then stores the entry that names it (release); a reader loads the
**     entry (acquire), then reads the bytes. So an entry's slot is whole.
** T2  A chunk that is here stays here while anybody reads the version: only its marks change. Go
**     gives a slot up when no version refers to it any more, and raises its generation before it
**     writes another chunk there.
** T3  A reader compares the slot's generation with the entry's before it copies, and after. In
**     the process that runs Go they cannot differ, by T2. In a child that was forked from it, the
**     parent knows of no readers: there a slot that was given up is an error, never another
**     chunk's bytes.
** T4  nHeader is stored before entry 0 is, and before who may read pages of chunk 0: he is shown
**     aHeader in place of its first bytes. Versions do not share the part with entry 0.
** T5  The marks. AHEAD: the reader that comes to this chunk clears the mark, and tells Go once.
**     COMING: the chunk is not here, but Go is fetching it; a reader waits for it for a moment.
**     AWAITED: a reader sets it beside COMING when it waits, on the lower half of the entry as a
**     futex; Go wakes it when it stores the entry. Where a part is shared, so are its marks.
** T6  PATCHED is no mark that comes and goes: it is set from the beginning in the entries of
**     chunks that have pages in aPatch.
*/
#ifndef VERNEUIL_VERSIONTABLE_H
#define VERNEUIL_VERSIONTABLE_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define VERSION_CHUNK_BYTES 65536
#define VERSION_EXTENT_SLOTS 1024
#define VERSION_HEADER_BYTES 100   /* SQLite's database header */
#define VERSION_PART_CHUNKS 256

#define ENTRY_AHEAD ((uint64_t)1 << 31)
#define ENTRY_COMING ((uint64_t)1 << 30)
#define ENTRY_AWAITED ((uint64_t)1 << 29)
#define ENTRY_PATCHED ((uint64_t)1 << 28)
#define ENTRY_MARKS (ENTRY_AHEAD | ENTRY_COMING | ENTRY_AWAITED | ENTRY_PATCHED)

/* A part of the slot file. */
typedef struct SlotExtent {
  const unsigned char *aData;      /* mapped, or NULL */
  const _Atomic uint32_t *aGeneration;
  int32_t fd;                      /* the slot file in Go's table: slot i is at i*VERSION_CHUNK_BYTES */
  int32_t unused;
  uint64_t dev, ino;               /* which file that is */
} SlotExtent;

/* A page that lies over a chunk's slot. Runs of one chunk do not overlap. */
typedef struct VersionRun {
  uint32_t iOfst, n;               /* where, in the chunk */
  const unsigned char *a;
} VersionRun;

/* The pages of one chunk. */
typedef struct VersionPatch {
  uint32_t iChunk, nRun;
  const VersionRun *aRun;
} VersionPatch;

typedef struct VersionPart {
  _Atomic uint64_t aEntry[VERSION_PART_CHUNKS];
} VersionPart;

/* All but the atomics is constant once a reader has it. */
typedef struct VersionTable {
  uint64_t nByte;                  /* of the database's file */
  uint32_t nChunk;
  uint32_t iCounter;               /* the change counter in aHeader */
  const SlotExtent *aExtent;
  _Atomic uint32_t nHeader;        /* valid bytes of aHeader (T4) */
  unsigned char aHeader[VERSION_HEADER_BYTES];
  const VersionPatch *aPatch;      /* ascending by chunk */
  uint32_t nPatch;
  uint32_t unused;
  VersionPart *_Atomic apPart[];   /* NULL: none of its chunks is here */
} VersionTable;

#define VERSION_AT(m, o) _Static_assert(offsetof(VersionTable, m) == (o), #m)
VERSION_AT(nChunk, 8); VERSION_AT(iCounter, 12); VERSION_AT(aExtent, 16);
VERSION_AT(nHeader, 24); VERSION_AT(aHeader, 28); VERSION_AT(aPatch, 128);
VERSION_AT(nPatch, 136); VERSION_AT(apPart, 144);
_Static_assert(sizeof(SlotExtent) == 40 && sizeof(VersionPatch) == 16 && sizeof(VersionRun) == 16, "sizes");

/* What a read asks of whoever owns the table, where it comes to what is not here. pOwner is the
** read's. */
typedef struct VersionOwner {
  /* The read has come to a chunk that was marked AHEAD. */
  void (*xAhead)(void *pOwner, uint32_t iChunk);
  /* Reads n bytes, all of chunk iOfst/VERSION_CHUNK_BYTES, that are not here. isGone: the slot was
  ** given up (T3), and they cannot be had. An SQLite result code. */
  int (*xMissing)(void *pOwner, void *pBuf, int n, int64_t iOfst, int isGone);
} VersionOwner;

/* Reads as xRead does: SQLITE_IOERR_SHORT_READ, and zeros, beyond the end of the file. */
int versionRead(VersionTable *t, void *pBuf, int iAmt, int64_t iOfst, const VersionOwner *pCalls, void *pOwner);

#endif
