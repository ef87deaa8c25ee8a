/*
** The database file for Go to read.
*/
#ifndef VERNEUIL_RECORDER_SOURCE_H
#define VERNEUIL_RECORDER_SOURCE_H

/* The database file, read through the base VFS: closing a descriptor of our own
** would drop the process's POSIX locks on it. Each returns a SQLite result code. */
typedef struct RecorderSource RecorderSource;
int recorderSourceOpen(const char *zPath, RecorderSource **pp);
int recorderSourceRead(RecorderSource *p, void *pBuf, int n, long long iOfst);
int recorderSourceSize(RecorderSource *p, long long *pSize);
int recorderSourceReserved(RecorderSource *p, int *pRes);

#endif
