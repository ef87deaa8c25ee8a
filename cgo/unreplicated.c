/*
** Which databases of this process are not replicated, and why: nobody shall believe that they are.
** The list is bounded, as a host may open any number of databases.
*/
#define _GNU_SOURCE
#include "unreplicated.h"
#include "log.h"
#include "quiet.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* How many are listed: at most 1.3 MB, with paths and reasons of 4 KB; a tenth of that in
** practice. */
#define UNREPLICATED_MOST 256
#define TEXT_BYTES_MAX 4096

typedef struct Unreplicated Unreplicated;
struct Unreplicated {
  Unreplicated *pNext;
  int level;                     /* of its line in the log */
  char *zReason;                 /* in this allocation, after the path */
  char zPath[];
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* all of the following */
static Unreplicated *pFirst;
static _Atomic int nEntry;
static sqlite3_int64 nMore;      /* how many were said when the list was full */

static int isDigit(char c) { return c >= '0' && c <= '9'; }

/* Are the reasons the same but for numbers? How much of something is left differs each time. */
static int sameReason(const char *z1, const char *z2) {
  for (;; z1++, z2++) {
    while (isDigit(*z1)) z1++;
    while (isDigit(*z2)) z2++;
    if (*z1 != *z2) return 0;
    if (!*z1) return 1;
  }
}

static Unreplicated **findLocked(const char *zPath) {
  Unreplicated **pp = &pFirst;
  while (*pp && strncmp((*pp)->zPath, zPath, TEXT_BYTES_MAX - 1)) pp = &(*pp)->pNext;
  return pp;
}

static Unreplicated *newEntry(const char *zPath, const char *zReason) {
  size_t nPath = strnlen(zPath, TEXT_BYTES_MAX - 1), nReason = strnlen(zReason, TEXT_BYTES_MAX - 1);
  Unreplicated *p = calloc(1, sizeof *p + nPath + nReason + 2);
  if (!p) return 0;
  memcpy(p->zPath, zPath, nPath);
  p->zReason = memcpy(p->zPath + nPath + 1, zReason, nReason);
  return p;
}

static void removeLocked(Unreplicated **pp) {
  Unreplicated *p = *pp;
  *pp = p->pNext;
  nEntry--;
  free(p);
}

/* If the list is full, an entry that may well be intended makes room for one that is not. */
static void makeRoomLocked(int level) {
  Unreplicated **pp = &pFirst;
  if (nEntry < UNREPLICATED_MOST || level > VERNEUIL_WARN) return;
  while (*pp && (*pp)->level <= VERNEUIL_WARN) pp = &(*pp)->pNext;
  if (!*pp) return;
  removeLocked(pp);
  nMore++;
}

/* Adds it to the list. 0: it was said before. *pIsFull: the list is full, and it is only
** counted. */
static int note(int level, const char *zPath, const char *zReason, int *pIsFull) {
  Quiet q = quietLock(&mu);
  if (!*findLocked(zPath)) makeRoomLocked(level);
  Unreplicated **pp = findLocked(zPath);
  int known = *pp && sameReason((*pp)->zReason, zReason);
  *pIsFull = !*pp && nEntry >= UNREPLICATED_MOST;
  if (*pIsFull) {
    known = nMore++ > 0;
  } else if (!known) {
    if (*pp) removeLocked(pp);
    Unreplicated *p = newEntry(zPath, zReason);
    if (p) {
      p->level = level;
      p->pNext = pFirst;
      pFirst = p;
      nEntry++;
    }
  }
  quietUnlock(&mu, q);
  return !known;
}

void notReplicatedAt(int level, const char *zPath, const char *zReason) {
  int isFull;
  if (!note(level, zPath, zReason, &isFull)) return;
  if (isFull)
    verneuilLogOf(level, zPath, "not replicated, and too many are not for the log to name more: %s",
                  zReason);
  else verneuilLogOf(level, zPath, "not replicated: %s", zReason);
}

void notReplicated(const char *zPath, const char *zReason) {
  notReplicatedAt(VERNEUIL_WARN, zPath, zReason);
}

void isReplicated(const char *zPath) {
  if (!nEntry) return;
  Quiet q = quietLock(&mu);
  Unreplicated **pp = findLocked(zPath);
  if (*pp) removeLocked(pp);
  quietUnlock(&mu, q);
}

char *notReplicatedWhy(const char *zPath) {
  if (!nEntry) return 0;
  Quiet q = quietLock(&mu);
  Unreplicated *p = *findLocked(zPath);
  char *z = p ? sqlite3_mprintf("%s", p->zReason) : 0;
  quietUnlock(&mu, q);
  return z;
}

/* zList, which may be NULL, with zObject at its end; frees both. */
static char *appended(char *zList, char *zObject) {
  if (!zList || !zObject) return zObject ? zObject : zList;
  return sqlite3_mprintf("%z,%z", zList, zObject);
}

char *notReplicatedList(char *zMore) {
  char *z = zMore;
  Quiet q = quietLock(&mu);
  for (Unreplicated *p = pFirst; p; p = p->pNext) {
    char *zPath = verneuilQuote(p->zPath), *zReason = verneuilQuote(p->zReason);
    if (zPath && zReason)
      z = appended(z, sqlite3_mprintf("{\"path\":%s,\"reason\":%s}", zPath, zReason));
    free(zPath);
    free(zReason);
  }
  if (nMore) z = appended(z, sqlite3_mprintf("{\"more\":%lld}", nMore));
  quietUnlock(&mu, q);
  return z ? sqlite3_mprintf("[%z]", z) : sqlite3_mprintf("[]");
}

static Quiet forking;
static void beforeFork(void) { forking = quietLock(&mu); }
static void parentOfFork(void) { quietUnlock(&mu, forking); }
static void childOfFork(void) {
  pthread_mutex_init(&mu, 0);
  quietEnd(forking);
}
__attribute__((constructor)) static void unreplicatedLoad(void) {
  pthread_atfork(beforeFork, parentOfFork, childOfFork);
}
