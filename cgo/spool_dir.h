/*
** A spool's directory, and the files in it. The directory is proved to be ours each time: no other
** user owns it or may write to it. Nothing here keeps a descriptor.
*/
#ifndef VERNEUIL_SPOOL_DIR_H
#define VERNEUIL_SPOOL_DIR_H
#include <stdint.h>
#include <sys/types.h>

/* Where the spools are, and the mode of that directory if we make it: set once, before anything
** else is called. */
void spoolSettings(const char *zRoot, unsigned permissions);

/* The directory of a database's spool, whether it is there or not; malloc'd, NULL without memory. */
char *spoolDirOf(const char *zPath);

/* Is there a directory for the spool of that database? It is, or was, replicated. */
int spoolExists(const char *zPath);

/* Makes what is missing. Returns why that cannot be done, or why what is there cannot be used; NULL
** if all is well. */
const char *spoolMakeDirs(const char *zDir);

/* Makes the FIFO that wakes a replicator. Where there can be none, commits are found later. */
void spoolMakeWake(const char *zDir);

/* Takes the attach lock, tries so often, 1 ms apart; the descriptor is for spoolUnlockAttach. -1 and
** errno. Threads of one process exclude each other, too. */
int spoolLockAttach(const char *zDir, int nTry);
void spoolUnlockAttach(int fd);

/* Does something other than a file of that type (S_IFREG) bear the name? */
int spoolIsJunk(const char *zDir, const char *zName, mode_t type);

/* Removes what bears the name of a file of ours and is none. */
void spoolRemoveJunk(const char *zDir, const char *zName, mode_t type);

/* Does the name belong to that inode? 0 and errno: EBUSY if it is another's. */
int spoolIsInode(const char *zDir, const char *zName, uint64_t ino);

/* Open, rename and remove a file. With O_CREAT, what bears the name and is no file is removed before.
** The descriptor, above 2, or 0; -1: see errno. */
int spoolOpen(const char *zDir, const char *zName, int flags);
int spoolRename(const char *zDir, const char *zFrom, const char *zTo);
void spoolUnlink(const char *zDir, const char *zName);

#endif
