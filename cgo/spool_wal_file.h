/*
** Reading a WAL's file, by the layout in sqlite.org/walformat.html, section 2. Nothing is kept
** open.
*/
#ifndef VERNEUIL_SPOOL_WAL_FILE_H
#define VERNEUIL_SPOOL_WAL_FILE_H
#include "bytes.h"
#include "spool_database.h"

#define WAL_HEADER 32
#define WAL_FRAME 24

/* A WAL position as the state page has it: salt-1, and how many frames. */
#define WAL_POSITION(salts, nFrame) ((salts) >> 32 << 32 | (uint32_t)(nFrame))
#define WAL_FRAMES(position) ((uint32_t)(position))

/* Opens the database's WAL for reading. -1: there is none, or it cannot be opened. */
int walOpenFile(Spool *p);

/* Reads the WAL's header into a, and returns its page size; 0: there is no valid header. */
uint32_t walReadHeader(int fd, unsigned char a[WAL_HEADER]);

/* The salts in the WAL's file; 0: there is no valid header. */
uint64_t walFileSalts(Spool *p);

/* The running checksum in frame iFrame (from 1) of the WAL's file; 0: there is no such frame. */
uint64_t walFrameSum(Spool *p, uint32_t iFrame);

/* The number of the last valid commit frame after frame iFirst; iFirst: there is none. */
uint32_t walLastCommit(int fd, const unsigned char *aHeader, uint32_t szPage, uint32_t iFirst);

/* No frame is left that looks committed and is not. */
static inline void walAllDone(SpoolState *st) {
  if (atomic_load(&st->flags) & SPOOL_UNDONE) atomic_fetch_and(&st->flags, ~SPOOL_UNDONE);
}

#endif
