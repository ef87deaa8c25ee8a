/*
** The changelog's segments: files of a spool that are mapped, written to, and used again. The
** caller holds SQLite's write lock, except in spoolUnmap() of a Spool that nobody uses.
*/
#ifndef VERNEUIL_SPOOL_SEGMENT_H
#define VERNEUIL_SPOOL_SEGMENT_H
#include "spool_database.h"

/* A position in the log: the segment's number, and the offset in it. */
#define SEGMENT(pos) ((pos) >> 32)
#define OFFSET(pos) ((pos) & 0xffffffffu)
#define POSITION(segment, offset) ((uint64_t)(segment) << 32 | (offset))

/* Maps segment segNo as the current one; isNew: makes it first. 0 or an errno. */
int segmentMap(Spool *p, SpoolState *st, uint64_t segNo, int isNew);

/* Maps in the current segment's pages up to offset end, and some more. 0; or an errno, if a write
** there would raise SIGBUS. */
int segmentPopulateMore(struct SpoolMap *pMap, uint32_t end);
static inline int segmentPopulate(Spool *p, uint32_t end) {
  struct SpoolMap *pMap = p->aMap;
  while (pMap->a != p->aSeg) pMap++;
  return end <= pMap->nReady ? 0 : segmentPopulateMore(pMap, end);
}

/* Removes the segments after head, up to last, which were never published. */
void segmentsRemove(Spool *p, uint64_t last, uint64_t head);

/* Unmaps all segments. */
void spoolUnmap(Spool *p);

#endif
