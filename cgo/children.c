/*
** The pipe between forked children and the process that runs Go.
*/
#define _GNU_SOURCE
#include "children.h"
#include "descriptors.h"
#include "process.h"
#include "spool.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A spool's name: some of its path, a dash, 16 digits. */
_Static_assert(CHILD_NAME_BYTES > SPOOL_NAME_MAX + 1 + 16, "a name fits");

static Ours pipeEnd; /* what children inherit: how to open it */
static int isMade;

int childrenPipe(void) {
  int a[2];
  if (pipe2(a, O_CLOEXEC | O_NONBLOCK)) return -1;
  if (descriptorsNote(a[0], &pipeEnd)) return -1;
  isMade = 1;
  return a[0]; /* the other end stays open: the pipe never ends */
}

void childNote(const char *zDir, int opened) {
  ChildNote note = {.token = verneuilToken(), .opened = opened};
  const char *z = strrchr(zDir, '/');
  if (!isMade || !z || strlen(z + 1) >= sizeof note.zName) return;
  strcpy(note.zName, z + 1);
  int fd = descriptorsOpen(&pipeEnd, O_RDWR); /* as who could read, too, a write raises no SIGPIPE */
  if (fd < 0) return;
  ssize_t n = write(fd, &note, sizeof note);
  (void)n; /* full: nobody reads */
  close(fd);
}
