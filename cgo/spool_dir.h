/*
** A spool's directory, and the files in it. Each call proves that the directory is ours: we own it,
** and no other user may write to it. Nothing here keeps a descriptor open.
*/
#ifndef VERNEUIL_SPOOL_DIR_H
#define VERNEUIL_SPOOL_DIR_H
#include <stdint.h>
#include <sys/types.h>

/* Sets where the spools are, and the mode of that directory if we make it. To be called once,
** before all else. */
void spoolSettings(const char *zRoot, unsigned permissions);

/* The path of a database's spool, which need not exist; malloc'd. NULL: no memory. */
char *spoolDirOf(const char *zPath);

/* Does the database have a spool? Then it is replicated, or was once. */
int spoolExists(const char *zPath);

/* Makes the directories that are missing. Returns why that cannot be done, or why those that exist
** cannot be used; NULL: all is well. */
const char *spoolMakeDirs(const char *zDir);

/* Makes the FIFO that wakes a replicator. Without it, commits are found later. */
void spoolMakeWake(const char *zDir);

/* Takes the attach lock, in at most nTry tries, 1 ms apart. It excludes other threads of this
** process, too. The descriptor is for spoolUnlockAttach(), which keeps errno. -1: see errno. */
int spoolLockAttach(const char *zDir, int nTry);
void spoolUnlockAttach(int fd);

/* Is there something of that name that is not of that type (S_IFREG, S_IFIFO)? */
int spoolIsJunk(const char *zDir, const char *zName, mode_t type);

/* Removes it, if so. */
void spoolRemoveJunk(const char *zDir, const char *zName, mode_t type);

/* Is that inode the file of that name? 0: see errno, which is EBUSY if another file has the
** name. */
int spoolIsInode(const char *zDir, const char *zName, uint64_t ino);

/* Open, rename and remove a file. O_CREAT removes what has the name but is not a file. open returns
** a descriptor above 2, rename 0; -1: see errno. */
int spoolOpen(const char *zDir, const char *zName, int flags);
int spoolRename(const char *zDir, const char *zFrom, const char *zTo);
void spoolUnlink(const char *zDir, const char *zName);

#endif
