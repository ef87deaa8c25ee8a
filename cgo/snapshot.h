/*
** What the replica VFS shares with Go: the layout of a version's table
** (replicate/replica/table.go is the specification), and what an open returns.
*/
#ifndef VERNEUIL_SNAPSHOT_H
#define VERNEUIL_SNAPSHOT_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "verneuil.h"

#define SNAPSHOT_CHUNK_BYTES 65536
#define SNAPSHOT_EXTENT_SLOTS 1024
#define SNAPSHOT_HEADER_BYTES 100

/* An entry is generation<<32 | marks | slot. Generation 0: the chunk is not here. */
#define SNAPSHOT_AHEAD ((uint64_t)1 << 31)   /* call goSnapshotAhead() */
#define SNAPSHOT_COMING ((uint64_t)1 << 30)  /* not here, but Go is fetching it */
#define SNAPSHOT_AWAITED ((uint64_t)1 << 29) /* set by who waits for it, on the lower half as a futex */
#define SNAPSHOT_MARKS (SNAPSHOT_AHEAD | SNAPSHOT_COMING | SNAPSHOT_AWAITED)

/* A part of the slot file, and the generations of its slots, which a forked child
** shares with its parent. */
typedef struct SnapshotExtent {
  const unsigned char *aData;      /* mapped, or NULL */
  const _Atomic uint32_t *aGeneration;
  int32_t fd;                      /* of the slot file, with Go: slot i is at i*SNAPSHOT_CHUNK_BYTES */
  int32_t unused;
  uint64_t dev, ino;               /* which file that is */
} SnapshotExtent;

typedef struct SnapshotTable {
  uint64_t nByte;                  /* of the file */
  uint32_t nChunk;
  uint32_t iCounter;               /* the change counter in aHeader */
  const SnapshotExtent *aExtent;
  _Atomic uint32_t nHeader;        /* valid bytes of aHeader; set before aEntry[0] is */
  unsigned char aHeader[SNAPSHOT_HEADER_BYTES];
  _Atomic uint64_t aEntry[];
} SnapshotTable;

#define SNAPSHOT_AT(m, o) _Static_assert(offsetof(SnapshotTable, m) == (o), #m)
SNAPSHOT_AT(nChunk, 8); SNAPSHOT_AT(iCounter, 12); SNAPSHOT_AT(aExtent, 16);
SNAPSHOT_AT(nHeader, 24); SNAPSHOT_AT(aHeader, 28); SNAPSHOT_AT(aEntry, 128);
_Static_assert(sizeof(SnapshotExtent) == 40, "extent");

/* What Go says of a reader. (No types with atomics: cgo cannot read those.) */
typedef struct SnapshotOpened {
  uintptr_t hReader;               /* Go's handle */
  void *pTable;                    /* its version's SnapshotTable; stays until it moves on */
  int bAuto;                       /* replica file or configuration ask for auto refresh */
  void *pNewest;                   /* _Atomic uint32_t, iCounter of the newest known version; stays until it closes */
} SnapshotOpened;

int snapshotInterrupted(void *ppDb);

/* Is pFile, which the base VFS has open, a small file that names a replica's source
** (replicate/replicafile.go)? */
int snapshotIsReplicaFile(sqlite3_file *pFile);

/* Opens the replica that the replica file zName names, as snapshotVfs.szOsFile bytes at pFile. */
int snapshotOpenReplicaFile(const char *zName, sqlite3_file *pFile, int flags, int *pOutFlags);

/* How long a sqlite3_file of a replica is. */
int snapshotFileBytes(void);

/* Builds and registers the VFS "verneuil_snapshot", never as the default. */
int snapshotRegister(void);

#endif
