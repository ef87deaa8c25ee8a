/*
** SQLite's API as the host has given it to us, the VFS below ours, and one forwarder to it per
** method, for all VFSes of ours.
*/
#include "base.h"
SQLITE_EXTENSION_INIT1

sqlite3_vfs *_Atomic verneuilBase;

/* A method that passes its arguments to the base's method of that name. */
#define FORWARD(type, xMethod, parameters, arguments) \
  static type base_##xMethod parameters {             \
    (void)p;                                          \
    return verneuilBase->xMethod arguments;           \
  }

typedef void (*Symbol)(void);

FORWARD(int, xDelete, (sqlite3_vfs *p, const char *zName, int syncDir), (verneuilBase, zName, syncDir))
FORWARD(int, xAccess, (sqlite3_vfs *p, const char *zName, int flags, int *pRes), (verneuilBase, zName, flags, pRes))
FORWARD(int, xFullPathname, (sqlite3_vfs *p, const char *zName, int n, char *zOut), (verneuilBase, zName, n, zOut))
FORWARD(void *, xDlOpen, (sqlite3_vfs *p, const char *zName), (verneuilBase, zName))
FORWARD(void, xDlError, (sqlite3_vfs *p, int n, char *z), (verneuilBase, n, z))
FORWARD(Symbol, xDlSym, (sqlite3_vfs *p, void *pLib, const char *zSym), (verneuilBase, pLib, zSym))
FORWARD(void, xDlClose, (sqlite3_vfs *p, void *pLib), (verneuilBase, pLib))
FORWARD(int, xRandomness, (sqlite3_vfs *p, int n, char *z), (verneuilBase, n, z))
FORWARD(int, xSleep, (sqlite3_vfs *p, int us), (verneuilBase, us))
FORWARD(int, xCurrentTime, (sqlite3_vfs *p, double *pTime), (verneuilBase, pTime))
FORWARD(int, xGetLastError, (sqlite3_vfs *p, int n, char *z), (verneuilBase, n, z))
FORWARD(int, xCurrentTimeInt64, (sqlite3_vfs *p, sqlite3_int64 *pTime), (verneuilBase, pTime))
FORWARD(int, xSetSystemCall, (sqlite3_vfs *p, const char *z, sqlite3_syscall_ptr x), (verneuilBase, z, x))
FORWARD(sqlite3_syscall_ptr, xGetSystemCall, (sqlite3_vfs *p, const char *z), (verneuilBase, z))
FORWARD(const char *, xNextSystemCall, (sqlite3_vfs *p, const char *z), (verneuilBase, z))

#define COMPLETE(xMethod) \
  if (!p->xMethod && verneuilBase->xMethod) p->xMethod = base_##xMethod

void baseComplete(sqlite3_vfs *p) {
  const sqlite3_vfs *pBase = verneuilBase;
  if (p->iVersion > pBase->iVersion) p->iVersion = pBase->iVersion;
  if (p->szOsFile < pBase->szOsFile) p->szOsFile = pBase->szOsFile;
  if (p->mxPathname < pBase->mxPathname) p->mxPathname = pBase->mxPathname;
  COMPLETE(xDelete);
  COMPLETE(xAccess);
  COMPLETE(xFullPathname);
  COMPLETE(xDlOpen);
  COMPLETE(xDlError);
  COMPLETE(xDlSym);
  COMPLETE(xDlClose);
  COMPLETE(xRandomness);
  COMPLETE(xSleep);
  COMPLETE(xCurrentTime);
  COMPLETE(xGetLastError);
  if (p->iVersion < 2) return; /* the base's structure ends here */
  COMPLETE(xCurrentTimeInt64);
  if (p->iVersion < 3) return;
  COMPLETE(xSetSystemCall);
  COMPLETE(xGetSystemCall);
  COMPLETE(xNextSystemCall);
}

int uriSays(const char *zName, int flags, const char *zParameter, int otherwise) {
  return flags & SQLITE_OPEN_URI ? sqlite3_uri_boolean(zName, zParameter, otherwise) : otherwise;
}
