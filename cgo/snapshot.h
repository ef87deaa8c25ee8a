/*
** The replica VFS, "verneuil_snapshot", and what Go tells it of a reader.
*/
#ifndef VERNEUIL_SNAPSHOT_H
#define VERNEUIL_SNAPSHOT_H
#include <stdint.h>
#include "verneuil.h"

/* What Go says of a reader. (No types with atomics: cgo cannot read those.) */
typedef struct SnapshotOpened {
  uintptr_t hReader;               /* Go's handle */
  void *pTable;                    /* its version's VersionTable; stays until it moves on */
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
