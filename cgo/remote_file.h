/*
** The open handles of databases in a store, and their private files.
*/
#ifndef VERNEUIL_REMOTE_FILE_H
#define VERNEUIL_REMOTE_FILE_H
#include "overlay.h"
#include "perf.h"
#include "remote.h"
#include "versiontable.h"

#define REMOTE_PATH_MAX 4096       /* bytes of a name, the 0 at its end included */

/* The page that the processes of a machine share (replicate/remote/machine): until then, by
** CLOCK_BOOTTIME in ns, no other machine goes on, and the version of that record is the newest; 0:
** only the process that writes knows which one is. `until` is loaded first. */
typedef struct RemoteLease {
  _Atomic int64_t until;
  _Atomic uint64_t iNumber;
} RemoteLease;

/* After a commit that failed (M4). FAILED: SQLite rolls back. DROPPED: it was told that that
** fails, too, so that it drops all pages that it has read. */
enum { FAILURE_NONE, FAILURE_FAILED, FAILURE_DROPPED };

/* How the handle's last commit has ended. PENDING: COMMIT did not wait (synchronous=OFF). LATE: a
** flush has, since. */
enum { OUTCOME_NONE, OUTCOME_STORED, OUTCOME_PENDING, OUTCOME_LATE, OUTCOME_FAILED };

typedef struct PrivateFile PrivateFile;
typedef struct RemoteFile RemoteFile;
struct RemoteFile {
  sqlite3_file base;
  uintptr_t hConn;                 /* Go's handle */
  VersionTable *pTable;            /* the version that is read (M1) */
  uint64_t iNumber, iTip, iOnto;   /* see RemotePlace */
  const _Atomic uint32_t *pNewest; /* iCounter of the newest known version */
  const RemoteLease *pLease;
  const _Atomic uint64_t *pChecked; /* when the last look began */
  const _Atomic uint64_t *pTip;    /* this process's last version that is not durable yet */
  _Atomic uint32_t *pGrip;         /* on the place of the writer: GRIP_.. */
  int64_t staleness;               /* ns: what was the newest so long ago is good enough */
  const char *zName;               /* as SQLite has passed it */
  sqlite3 **ppDb;                  /* the connection that uses it, as SQLite keeps it up to date; may be NULL */
  Overlay *pOverlay;               /* what is written, and not committed; NULL: nothing ever was */
  PrivateFile *pWal;               /* its WAL, while that is open (W1) */
  PrivateFile *pPlayed;            /* its journal, from when that is played back until it is finalized (J3) */
  int (*xBusy)(void *);            /* the connection's busy handler, and its argument; NULL: it has its own clock (B1) */
  void *pBusy;
  int64_t owed;                    /* us that were waited here, of which it does not know */
  int wasBusy;                     /* the last attempt to write found another one writing */
  int eLock;                       /* SQLite's lock */
  int isReadOnly;                  /* opened so */
  int isFollowing;                 /* mode=ro without staleness_ms: new versions come in the background */
  int isPinned;                    /* immutable=1 or nolock=1: no locks will come */
  int isKept;                      /* see RemotePlace */
  int isReserved;                  /* Go is to hear when RESERVED ends */
  int mayWrite;                    /* and no commit has given that up since */
  int isPending;                   /* a commit has not been waited for */
  int isAwaited;                   /* a commit was, and xSync has not come yet */
  int eFailure;                    /* FAILURE_.. */
  int eOutcome;                    /* OUTCOME_.. */
  int hasUnlocked;                 /* since it committed last */
  int hasLockingMode;              /* PRAGMA locking_mode was seen */
  int isUnsynced;                  /* PRAGMA synchronous=OFF was seen, or xSync did not come (M8) */
  int persistsWal;                 /* SQLITE_FCNTL_PERSIST_WAL */
  int eFormat, eFormatNew;         /* bytes 18 and 19 of the header: committed, and written (W2) */
  Perf aPerf[OP_REMOTE_N];
  RemoteFile *pNext, **ppPrev;     /* all open handles */
};

/* ---- the list (remote_file.c) ---- */

void remoteFileAdd(RemoteFile *p);
void remoteFileRemove(RemoteFile *p);

/* The handle whose journal or WAL SQLite opens by that name, which has zEnd behind the database's;
** NULL: unknown. */
RemoteFile *remoteFileOf(const char *zName, const char *zEnd, int isWal);

/* The counters of the VFS's own methods, from OP_DELETE on. */
extern Perf remoteVfsPerf[OP_ALL_N];

/* Adds all counters to a[OP_ALL_N]. */
void remotePerfSum(Perf *a);

/* ---- the database (remote.c) ---- */

/* How often the right to write was had, and given back, and how many commits there were. */
enum { REMOTE_RESERVED, REMOTE_UNRESERVED, REMOTE_COMMITTED, REMOTE_COUNTS };
extern _Atomic uint64_t remoteCounts[REMOTE_COUNTS];

extern const sqlite3_io_methods remoteMethods;

/* 1: Go may be called for p. 0: it may not, and why is in the log. */
int remoteGo(const RemoteFile *p);

/* p is there now. */
void remoteMoved(RemoteFile *p, const RemotePlace *pPlace);

/* What lies below p's overlay. */
OverlayBelow remoteBelow(RemoteFile *p);

/* Nothing is written any more. */
void remoteDrop(RemoteFile *p);

/* Sees to it that p may write, and that what it writes has a place: the overlay is over the version
** that is read. An SQLite result code. */
int remoteBeginWrite(RemoteFile *p);

/* Commits what is in the overlay, and empties it; waits until it is durable if xSync is to be
** expected (M8). pass: see RemoteChange. An SQLite result code. */
int remoteCommit(RemoteFile *p, int pass);

/* Waits until what was committed is durable. An SQLite result code. */
int remoteWait(RemoteFile *p);

int remoteFileControl(sqlite3_file *pFile, int op, void *pArg);

/* xSleep: less is slept while time that was waited is told to a busy handler (B1). */
int remoteSleep(sqlite3_vfs *pVfs, int us);

/* ---- names (remote_vfs.c) ---- */

/* Does the name, as xFullPathname has made it, belong to a database in a store? */
int remoteIsName(const char *zName);

/* ---- journals and WALs (remote_private.c) ---- */

int privateOpen(const char *zName, sqlite3_file *pFile, int flags);
int privateFileBytes(void);

#endif
