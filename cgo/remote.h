/*
** The VFS "verneuil_remote", whose databases live in a store, and what Go tells it of a handle.
*/
#ifndef VERNEUIL_REMOTE_H
#define VERNEUIL_REMOTE_H
#include <stdint.h>
#include "verneuil.h"

/* What Go says of a handle after each call that may have moved it. (No types with atomics: cgo
** cannot read those.) */
typedef struct RemotePlace {
  void *pTable;                    /* the VersionTable of the version that is read; stays until it moves on */
  uint64_t iNumber;                /* of the record by which that became durable; 0: it is not, or nobody knows */
  uint64_t iTip;                   /* what *pTip has while that is this process's last one; 0: never mind */
  uint64_t iOnto;                  /* what *pTip has while a loose grip may be made a firm one; 0: never */
  int isKept;                      /* it may while the page has iNumber, too */
  int isHeld;                      /* goRemoteUnreserve() is to be called, in the end */
} RemotePlace;

/* The grip of a handle on the place of the writer in this process (replicate/remote/users.go has the
** same numbers). From loose to firm C makes it, too. */
enum { GRIP_NONE, GRIP_LOOSE, GRIP_FIRM };

/* What Go says of a handle once. All stays until it is closed. */
typedef struct RemoteOpened {
  uintptr_t hConn;                 /* Go's handle */
  void *pNewest;                   /* _Atomic uint32_t: iCounter of the newest known version */
  void *pLease;                    /* RemoteLease */
  void *pChecked;                  /* _Atomic uint64_t: CLOCK_BOOTTIME in ns of the last look */
  void *pTip;                      /* _Atomic uint64_t: the last version that is not durable yet; 0: there is none */
  void *pGrip;                     /* _Atomic uint32_t: GRIP_.. */
  RemotePlace place;
} RemoteOpened;

/* How a database is opened. */
typedef struct RemoteMode {
  int readOnly, create, follow;
} RemoteMode;

/* What a transaction has written. */
typedef struct RemoteChange {
  int64_t nByte;                   /* the file's length after it */
  int64_t nBlock;
  int64_t *aOffset;                /* of the blocks, ascending */
  const void *pOverlay;            /* where they are */
  int pass;                        /* others of this process may write on top of it at once */
  int wait;                        /* until it is durable */
} RemoteChange;

/* Copies a block to memory, or says where it is in the spill file: -1 if it is in memory. */
int64_t remoteBlock(const void *pOverlay, int64_t iOfst, void *pBlock);

/* Go's handle of the spill file; 0: there is none. */
uintptr_t remoteSpill(const void *pOverlay);

/* Registers the VFS "verneuil_remote", and if isCeph the same under the name "ceph", never as the
** default. A VFS of that name that is there already, libcephsqlite's, stays. */
int remoteRegister(int isCeph);

/* What verneuil_perf() shows of it: a JSON object; sqlite3_malloc'd. NULL: no memory. */
char *remotePerf(void);

#endif
