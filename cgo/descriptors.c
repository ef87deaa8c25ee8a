/*
** The host's descriptors and ours. Linux keeps a table of descriptors for threads that share
** one, not for processes. Threads of ours have one of their own, where the kernel lets them:
**
**   a host that closes all descriptors that it does not know (closefrom) closes none of
**   Go's; else its next files would get their numbers, and Go, which does not learn of it, would
**   write wakes of its poller, requests and pages of mirrors into them;
**   a host that forks gives its children none of ours;
**   a POSIX lock belongs to a table: what Go closes drops no lock of SQLite's.
**
** In the host's table we keep nothing open. What a thread of the host's needs of ours, it opens
** for that moment, by /proc.
*/
#define _GNU_SOURCE
#include "descriptors.h"
#include "files.h"
#include "gort_signals.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2 /* linux/close_range.h */
#endif

static int isSeparate;
static int ourPid, ourTid; /* a thread of ours that never ends; the same in forked children */

/* Closes what a copied table has, where there is no close_range. */
static void closeAll(void) {
  DIR *d = opendir("/proc/thread-self/fd");
  struct dirent *p;
  while (d && (p = readdir(d))) {
    int fd = atoi(p->d_name);
    if (fd > 2 && fd != dirfd(d)) close(fd);
  }
  if (d) closedir(d);
}

void descriptorsLeave(void) {
  ourPid = getpid();
  ourTid = (int)syscall(SYS_gettid);
  /* Containers mostly allow close_range and not unshare, and older kernels have only that. */
  if (!syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_UNSHARE)) isSeparate = 1;
  else if (!unshare(CLONE_FILES)) isSeparate = 1, closeAll();
  if (!isSeparate) return;
  /* whoever reads the host's stdout is to see its end when the host closes it */
  for (int fd = 0; fd <= 2; fd++) close(fd);
  while ((open("/dev/null", O_RDWR) >= 0 || open("/", O_PATH) >= 0) && fcntl(2, F_GETFD) < 0) continue;
}

int descriptorsSeparate(void) { return isSeparate; }

int descriptorsNote(int fd, Ours *p) {
  struct stat s;
  if (fstat(fd, &s)) return -1;
  *p = (Ours){fd, s.st_dev, s.st_ino};
  return 0;
}

int descriptorsProve(int fd, const Ours *p) {
  struct stat s;
  return fd >= 0 && !fstat(fd, &s) && s.st_dev == p->dev && s.st_ino == p->ino;
}

int descriptorsOpen(const Ours *p, int flags) {
  char z[80];
  snprintf(z, sizeof z, "/proc/%d/task/%d/fd/%d", ourPid, ourTid, p->fd);
  int fd = fdAboveStdio(open(z, flags | O_CLOEXEC | O_NONBLOCK));
  if (fd < 0 || descriptorsProve(fd, p)) return fd;
  close(fd);
  return -1;
}

/* What the thread that writes for ours is to write; NULL: nothing. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* who may ask it */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static const char *zAsked;
static size_t nAsked;

/* For a pipe that is full it does not wait: the line is lost, and not the host's time. */
static void writeAll(const char *z, size_t n) {
  struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&p, 1, 0) == 0) return;
  while (n > 0) {
    ssize_t k = write(STDERR_FILENO, z, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return;
    z += k, n -= (size_t)k;
  }
}

/* A thread with the host's table. */
static void *scribe(void *unused) {
  (void)unused;
  pthread_mutex_lock(&mu);
  for (;;) {
    while (!zAsked) pthread_cond_wait(&asked, &mu);
    pthread_mutex_unlock(&mu);
    writeAll(zAsked, nAsked);
    pthread_mutex_lock(&mu);
    zAsked = 0;
    pthread_cond_signal(&done);
  }
  return 0;
}

int descriptorsScribe(void) {
  static int isThere;
  pthread_t t;
  if (isThere) return 0;
  if (makeThread(&t, scribe, 0)) return -1;
  isThere = 1;
  return pthread_detach(t);
}

void descriptorsSay(const char *z, size_t n) {
  if (!isSeparate) {
    writeAll(z, n);
    return;
  }
  pthread_mutex_lock(&turn);
  pthread_mutex_lock(&mu);
  zAsked = z;
  nAsked = n;
  pthread_cond_signal(&asked);
  while (zAsked) pthread_cond_wait(&done, &mu);
  pthread_mutex_unlock(&mu);
  pthread_mutex_unlock(&turn);
}
