/*
** Files and their descriptors: what more than one room asks of them.
*/
#ifndef VERNEUIL_FILES_H
#define VERNEUIL_FILES_H
#include <stdint.h>

/* Which file stands at a path. If an inode number is used again, the birth time differs. */
typedef struct FileIdentity {
  uint64_t dev, ino, birth;
} FileIdentity;

/* Finds the identity of the file at zPath. 0 or an errno. */
int fileIdentity(const char *zPath, FileIdentity *p);

/* Is it that file? */
static inline int fileIs(const FileIdentity *p, uint64_t dev, uint64_t ino, uint64_t birth) {
  return p->dev == dev && p->ino == ino && p->birth == birth;
}

/* The file of fd, under a descriptor above 2: a host that has closed its stdout may yet write to
** it. A lower fd is closed. -1 stays -1. */
int fdAboveStdio(int fd);

/* Gives the first n bytes of a file their blocks, so that a mapping of them can be written to. 0 or
** an errno. */
int fileAllocate(int fd, int64_t n);

#endif
