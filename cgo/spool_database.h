/*
** One database's spool as this process has it.
*/
#ifndef VERNEUIL_SPOOL_DATABASE_H
#define VERNEUIL_SPOOL_DATABASE_H
#include "files.h"
#include "spool.h"
#include <pthread.h>

/* A database in this process, shared by its handles and gone with the last, and not
** inherited by forked children: the file
** that stood at a path. If another one is put there its handles have a Spool of their own,
** with another state; the old one's is lost, and stays so. What is marked (W) belongs to
** the holder of SQLite's write lock. */
#define SPOOL_MAPS (SPOOL_FREE_FILES + 4)
typedef struct Spool Spool;
struct Spool {
  Spool *pNext;
  int nRef;                        /* handles, and who attaches */
  int nHandle;                     /* handles of the database (recorderCountHandle) */
  int isTold;                      /* Go knows that there are any; likewise */
  char *zPath;                     /* the database's canonical path */
  FileIdentity id;                 /* and which file stood there */
  char *zDir;                      /* the spool's directory */
  pthread_mutex_t attaching;       /* st is being replaced; nobody waits for anything under it */
  SpoolState *_Atomic st;          /* mapped; replaced when lost */
  uint64_t stateIno;               /* the inode that st maps */
  struct SpoolOld {
    struct SpoolOld *pNext;
    SpoolState *st;
  } *pOld;                         /* states that were lost, and may still be looked at */
  int lookFd;                      /* spool_stamp.c; -1: none */
  _Atomic int isRefused;           /* the VFS below stores other bytes than it is given (I8) */
  _Atomic int nWal;                /* WAL files of this database open in this process */
  uint32_t walPage;                /* page size of the WAL; 0 unknown (W) */
  uint32_t walFrames;              /* last commit frame written to it here; 0 none (W) */
  uint64_t noteSalts;              /* of the wal-index when the WRITE lock was taken; 0 unknown (W) */
  uint32_t noteFrames;             /* and how many frames were committed then (W) */
  uint64_t walSum;                 /* checksum of the last commit frame written to it here; 0 unknown (W) */
  int walFollows;                  /* on the heap: the WAL is known to go on from what was published (W) */
  char *aSeg;                      /* the current segment, one of aMap, or NULL (W) */
  uint64_t segNo;                  /* its number (W) */
  struct SpoolMap {
    char *a;
    uint64_t ino;
    uint32_t nReady;               /* bytes whose pages are mapped in */
  } aMap[SPOOL_MAPS];              /* segment files that are mapped: they are used again (W) */
  int iMap;                        /* the next to be replaced (W) */
  int lossTold;                    /* the errno that the log says keeps commits from being recorded; 0 (W) */
  SpoolState *segState;            /* the state that it belongs to (W) */
};

#endif
