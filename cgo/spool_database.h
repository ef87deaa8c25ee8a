/*
** One database's spool as this process has it.
*/
#ifndef VERNEUIL_SPOOL_DATABASE_H
#define VERNEUIL_SPOOL_DATABASE_H
#include "files.h"
#include "spool.h"
#include <pthread.h>

/* One database in this process: the file that stood at a path. Its handles share the Spool, which
** is freed with the last of them; forked children do not inherit it. If another file is put at the
** path, that file's handles have a Spool of their own, with another state, and the old one's state
** is lost for ever. Only the holder of SQLite's write lock uses what is marked (W). */
#define SPOOL_MAPS (SPOOL_FREE_FILES + 4)
typedef struct Spool Spool;
struct Spool {
  Spool *pNext;
  int nRef;                        /* references: of handles, and of threads that attach */
  int nHandle;                     /* handles of the database (recorderCountHandle) */
  int isTold;                      /* Go knows that there are handles (likewise) */
  char *zPath;                     /* the database's canonical path */
  FileIdentity id;                 /* and which file stood there */
  char *zDir;                      /* the spool's directory */
  pthread_mutex_t attaching;       /* held while st is replaced, for a moment */
  SpoolState *_Atomic st;          /* mapped; replaced when lost; NULL until it is attached first */
  uint64_t stateIno;               /* the inode that st maps */
  struct SpoolOld {
    struct SpoolOld *pNext;
    SpoolState *st;
  } *pOld;                         /* lost states, at which other threads may still look */
  int lookFd;                      /* to look at the database (spool_stamp.c); -1: none */
  _Atomic int isRefused;           /* the VFS below stores other bytes than it is given (I8) */
  _Atomic int nWal;                /* WAL files of this database open in this process */
  uint32_t walPage;                /* page size of the WAL; 0 unknown (W) */
  uint32_t walFrames;              /* last commit frame written to it here; 0 none (W) */
  uint64_t noteSalts;              /* the wal-index's, when WRITE was locked; 0 unknown (W) */
  uint32_t noteFrames;             /* how many frames were committed then (W) */
  uint64_t walSum;                 /* that frame's checksum; 0 unknown (W) */
  int walFollows;                  /* wal-index on the heap: nobody else has written since (W) */
  char *aSeg;                      /* the current segment, one of aMap, or NULL (W) */
  uint64_t segNo;                  /* its number (W) */
  struct SpoolMap {
    char *a;
    uint64_t ino;
    uint32_t nReady;               /* bytes whose pages are mapped in */
  } aMap[SPOOL_MAPS];              /* segment files that stay mapped, as they are used again (W) */
  int iMap;                        /* which of them is replaced next (W) */
  int lossTold;                    /* the errno that the log gives for not recording, or 0 (W) */
  int strayTold;                   /* the log says why the lost state has no successor (W) */
  SpoolState *segState;            /* the state to which it belongs (W) */
};

#endif
