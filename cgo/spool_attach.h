/*
** One database's spool as a recorder sees it. The formats and the protocol are
** specified in spool/doc.go.
*/
#ifndef VERNEUIL_SPOOL_ATTACH_H
#define VERNEUIL_SPOOL_ATTACH_H
#include "spool.h"
#include "verneuil.h"
#include "wake.h"
#include <pthread.h>
#include <sys/stat.h>

/* Which file stands at a path. A reused inode number has another birth time. */
typedef struct FileIdentity {
  uint64_t dev, ino, birth;
} FileIdentity;

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
  pthread_mutex_t attaching;       /* st is being found; this database's opening waits for it, and no other's */
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

/* One transaction being recorded; a handle has one. */
typedef struct SpoolTxn {
  SpoolState *st;                  /* the state that the transaction began with */
  int active;                      /* something was written since the last end */
  int lost;                        /* the log could not take it all: no record */
  uint64_t sequence, generation;
  uint64_t end;                    /* private end of the log: a position */
  uint64_t before;                 /* database version before the transaction; of copied frames, the WAL position of the last */
} SpoolTxn;

/* The same file under a descriptor above 2: somebody may write to the lower ones.
** Passes -1 through. */
int fdAboveStdio(int fd);

/* Does something other than a file of that type (S_IFREG) bear the name? */
int spoolIsJunk(const char *zDir, const char *zName, mode_t type);

/* Files in a spool's directory, which is proved to be ours each time. -1: see errno. */
int spoolOpen(const char *zDir, const char *zName, int flags);
int spoolRename(const char *zDir, const char *zFrom, const char *zTo);
void spoolUnlink(const char *zDir, const char *zName);

/* Gives the first n bytes of a file their blocks, so that a mapping of them can be
** written to. 0 or an errno. */
int spoolAllocate(int fd, int64_t n);

/* Where the spools are: set once, before the first attach. */
void spoolSettings(const char *zRoot, unsigned permissions);

/* The identity of the file at zPath; 0 or an errno. */
int fileIdentity(const char *zPath, FileIdentity *p);

/* Finds or makes the spool of a database and maps its state. NULL, with a reason
** in *pzErr (sqlite3_malloc'd), where that cannot be done. */
Spool *spoolAttach(const char *zPath, const FileIdentity *pId, char **pzErr);

/* Is there a directory for the spool of that database? It is, or was, replicated. */
int spoolExists(const char *zPath);

/* Takes another reference to an attached spool. */
void spoolRetain(Spool *p);

/* Gives a reference back. After the process's last one there is no such Spool. */
void spoolRelease(Spool *p);

/* Is the state lost: deleted, or of a file that does not stand at the path any more? */
int spoolLost(const Spool *p);

/* In a process that cannot run Go: has the replicator, wherever it runs, push what is
** committed. 1: every target has it. Waits at most ms milliseconds. */
int spoolFlush(Spool *p, int ms);

/* The state to record in; a lost one is attached anew, without waiting for anybody. NULL:
** not now, or never, because another file stands at the path. The caller holds
** SQLite's write lock. */
SpoolState *spoolState(Spool *p);

/* Unmaps the segments (W). */
void spoolUnmap(Spool *p);

/* The mirror can no longer be brought up to date by the log alone. */
void spoolRaise(SpoolState *st, uint32_t cause);

/* The protocol's writer side; the caller holds SQLite's write lock. version and
** size are the database's before the transaction and after it. Without a state to
** record in, the transaction goes nowhere.
** beginCopy begins a transaction that only copies what was committed elsewhere. */
void spoolBegin(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);
void spoolBeginCopy(SpoolState *st, SpoolTxn *t);
void spoolWrite(Spool *p, SpoolTxn *t, const void *pData, int n, int64_t iOfst);
void spoolTruncate(Spool *p, SpoolTxn *t, int64_t size);
void spoolEnd(Spool *p, SpoolTxn *t, uint64_t version, int64_t size);

/* A write of the transaction failed: what the file holds now, the log cannot say. */
void spoolFailed(Spool *p, SpoolTxn *t);

/* Has the replicator, wherever it runs, armed or not, look at the state: writes a byte into
** the FIFO, which is opened for that moment. Keeps errno. 0: it could not be. */
int spoolCall(const char *zDir);

/* Wakes the replicator if it sleeps: in another process by the FIFO, in this one by a bell
** that all its replicators share. */
void spoolWake(Spool *p);

#endif
