/*
** What forked children tell the process that runs Go. They record, as it does, but
** cannot run Go (gort.c); so it serves the spools that they have open. A pipe that they
** open for that has their notes: it costs nothing where nobody forks, and no commit knows of it.
*/
#ifndef VERNEUIL_CHILDREN_H
#define VERNEUIL_CHILDREN_H
#include <stdint.h>

/* One note. At most PIPE_BUF bytes, so that it arrives whole. */
#define CHILD_NAME_BYTES 136
typedef struct ChildNote {
  uint64_t token;                  /* the child */
  int64_t opened;                  /* 1: a connection was opened, 0: closed */
  char zName[CHILD_NAME_BYTES];    /* the last part of the spool's directory */
} ChildNote;

/* Makes the pipe of this process, on a thread of ours; returns the end to read from,
** nonblocking, or -1. */
int childrenPipe(void);

/* In a forked child: a connection of its own was opened or closed. The note may not arrive: there
** may be no /proc, or nobody who reads. Then somebody adopts the spool later, or serves it for
** longer than need be. */
void childNote(const char *zDir, int opened);

#endif
