/*
** The pipe between forked children and the process that runs Go.
*/
#define _GNU_SOURCE
#include "children.h"
#include "spool_attach.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct End {
  int fd;
  dev_t dev;
  ino_t ino;
} ends[2] = {{-1, 0, 0}, {-1, 0, 0}}; /* to read from, to write to */

/* A daemon closes all descriptors, and has others under the same numbers then. */
static int isOurs(const struct End *p) {
  struct stat s;
  return p->fd >= 0 && !fstat(p->fd, &s) && S_ISFIFO(s.st_mode) && s.st_dev == p->dev && s.st_ino == p->ino;
}

int childrenPipe(void) {
  int a[2];
  if (pipe2(a, O_CLOEXEC | O_NONBLOCK)) return -1;
  for (int i = 0; i < 2; i++) {
    struct stat s;
    a[i] = fdAboveStdio(a[i]);
    if (a[i] < 0 || fstat(a[i], &s)) continue;
    ends[i] = (struct End){a[i], s.st_dev, s.st_ino};
  }
  if (isOurs(&ends[0]) && isOurs(&ends[1])) return ends[0].fd;
  for (int i = 0; i < 2; i++) {
    if (a[i] >= 0) close(a[i]);
    ends[i].fd = -1;
  }
  return -1;
}

void childNote(const char *zDir, int opened) {
  ChildNote note = {.token = verneuilToken(), .opened = opened};
  const char *z = strrchr(zDir, '/');
  if (!z || strlen(z + 1) >= sizeof note.zName) return;
  strcpy(note.zName, z + 1);
  /* as long as we could read ourselves, no write raises SIGPIPE */
  if (!isOurs(&ends[0]) || !isOurs(&ends[1])) return;
  ssize_t n = write(ends[1].fd, &note, sizeof note);
  (void)n; /* full: nobody reads */
}
