/*
** What C calls of Go (cgo/goexports.h, cgo/snapshot.c), in C, for the sanitizers: a
** replicator that consumes changelogs and throws them away, and replicas of database
** files on this machine. Which is enough for C to go all of its ways.
*/
#define _GNU_SOURCE
#include "driver.h"
#include "goexports.h"
#include "remote_goexports.h"
#include "snapshot_goexports.h"
#include "spool.h"
#include "sqlite3-binding.h"
#include "versiontable.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the replicator ---- */

#define SPOOLS_MAX 64

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static char *azSpool[SPOOLS_MAX];
static int nSpool;

void goReady(void) {}

void goConfigure(VerneuilSettings *p) {
  memset(p, 0, sizeof *p);
  p->replicate = 1;
  p->targets = 1;
  p->validate = 1;
  p->permissions = 0700;
  p->timeoutMs = p->durableMs = 30000;
  p->zRoot = strdup(zSpoolRoot);
}

void goOpened(char *zSpool) {
  pthread_mutex_lock(&mu);
  int i = 0;
  while (i < nSpool && strcmp(azSpool[i], zSpool)) i++;
  if (i == nSpool && nSpool < SPOOLS_MAX) azSpool[nSpool++] = strdup(zSpool);
  pthread_mutex_unlock(&mu);
  free(zSpool);
}

void goClosed(char *zSpool) { free(zSpool); }
int goValidate(char *zSpool) { return zSpool != 0; }

char *goStatus(char *zSQLite, char *zProblem, char *zList, char *zDurable) {
  char *z;
  if (asprintf(&z, "{\"problem\":\"%s\"}", zProblem ? zProblem : "") < 0) z = 0;
  free(zSQLite);
  free(zProblem);
  free(zList);
  free(zDurable);
  return z;
}

/* Frees the segments below head, as spool.Trim in Go does. */
static void trim(const char *zSpool, uint64_t from, uint64_t to) {
  for (uint64_t n = from; n < to; n++) {
    char zLog[4200], zFree[4200];
    int rc = -1;
    snprintf(zLog, sizeof zLog, "%s/log.%016llx", zSpool, (unsigned long long)n);
    for (int i = 0; rc && i < SPOOL_FREE_FILES; i++) {
      snprintf(zFree, sizeof zFree, "%s/free.%d", zSpool, i);
      rc = renameat2(AT_FDCWD, zLog, AT_FDCWD, zFree, RENAME_NOREPLACE);
    }
    if (rc) unlink(zLog);
  }
}

/* Consumes what the spool has: the log, and the WAL, now and then. */
static int consume(const char *zSpool, int consumeWal) {
  char z[4200];
  snprintf(z, sizeof z, "%s/state", zSpool);
  int fd = open(z, O_RDWR | O_CLOEXEC);
  if (fd < 0) return 0;
  SpoolState *st = mmap(0, SPOOL_STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (st == MAP_FAILED) return 0;
  uint64_t generation = atomic_load(&st->generation), head = atomic_load(&st->head), tail = atomic_load(&st->tail);
  atomic_store(&st->tail, head);
  trim(zSpool, tail >> 32, head >> 32);
  atomic_store(&st->mirrorGeneration, generation);
  if (consumeWal) atomic_store(&st->walConsumed, atomic_load(&st->walPublished));
  atomic_store(&st->armed, 1);
  munmap(st, SPOOL_STATE_BYTES);
  return 1;
}

int goFlush(char *zSpool, int consumeWal) {
  int done = consume(zSpool, consumeWal);
  free(zSpool);
  return done;
}

void replicateAll(int consumeWal) {
  pthread_mutex_lock(&mu);
  for (int i = 0; i < nSpool; i++) consume(azSpool[i], consumeWal);
  pthread_mutex_unlock(&mu);
}

void replicatorForked(void) { pthread_mutex_init(&mu, 0); }

void replicatorForget(void) {
  while (nSpool) free(azSpool[--nSpool]);
}

/* ---- replicas ---- */

/* Two versions of one file take turns: a reader moves from one to the other. Slots
** are in two extents, of which one is mapped, and are never used again. */
typedef struct Reader {
  int fd;
  VersionTable *aVersion[2];
  int iVersion;
} Reader;

#define EXTENTS 2
#define SLOTS (EXTENTS * VERSION_EXTENT_SLOTS)
static int slotFd = -1;
static _Atomic uint32_t aGeneration[SLOTS];
static SlotExtent aExtent[EXTENTS];
static uint32_t nSlot = 1;          /* slot 0 is the chunk of zeros */
static _Atomic uint32_t newest = 1; /* its counter */

/* Lays the first bytes of a table's last chunk, as the file has them, over its slot. */
static void newPatch(VersionTable *t, int fd) {
  uint32_t iChunk = t->nChunk - 1;
  VersionRun *pRun = calloc(1, sizeof *pRun);
  VersionPatch *pPatch = calloc(1, sizeof *pPatch);
  unsigned char *a = malloc(4096);
  off_t iOfst = (off_t)iChunk * VERSION_CHUNK_BYTES;
  *pRun = (VersionRun){0, (uint32_t)pread(fd, a, 4096, iOfst), a};
  *pPatch = (VersionPatch){iChunk, 1, pRun};
  atomic_store(&t->apPart[iChunk / VERSION_PART_CHUNKS]->aEntry[iChunk % VERSION_PART_CHUNKS], ENTRY_PATCHED);
  t->aPatch = pPatch;
  t->nPatch = 1;
}

static void freeTable(VersionTable *t) {
  for (uint32_t i = 0; i < t->nChunk; i += VERSION_PART_CHUNKS) free(t->apPart[i / VERSION_PART_CHUNKS]);
  if (t->nPatch) {
    free((void *)t->aPatch->aRun->a);
    free((void *)t->aPatch->aRun);
    free((void *)t->aPatch);
  }
  free(t);
}

static VersionTable *newTable(int fd, int64_t nByte, uint32_t iCounter) {
  uint32_t nChunk = (uint32_t)((nByte + VERSION_CHUNK_BYTES - 1) / VERSION_CHUNK_BYTES);
  uint32_t nPart = (nChunk + VERSION_PART_CHUNKS - 1) / VERSION_PART_CHUNKS;
  VersionTable *t = calloc(1, sizeof *t + nPart * sizeof t->apPart[0]);
  t->nByte = (uint64_t)nByte;
  t->nChunk = nChunk;
  t->iCounter = iCounter;
  t->aExtent = aExtent;
  for (uint32_t i = 0; i < nPart; i++) t->apPart[i] = calloc(1, sizeof(VersionPart));
  if (nChunk > 1) newPatch(t, fd);
  return t;
}

static void makeExtents(void) {
  struct stat s;
  if (slotFd >= 0) return;
  slotFd = memfd_create("slots", MFD_CLOEXEC);
  if (ftruncate(slotFd, (off_t)SLOTS * VERSION_CHUNK_BYTES) || fstat(slotFd, &s)) abort();
  for (int i = 0; i < SLOTS; i++) atomic_store(&aGeneration[i], 1);
  void *p = mmap(0, (size_t)VERSION_EXTENT_SLOTS * VERSION_CHUNK_BYTES, PROT_READ, MAP_SHARED, slotFd, 0);
  for (int i = 0; i < EXTENTS; i++)
    aExtent[i] = (SlotExtent){.aData = i ? 0 : p, .aGeneration = aGeneration + i * VERSION_EXTENT_SLOTS, .fd = slotFd,
                                  .dev = s.st_dev, .ino = s.st_ino};
}

/* A slot that was not used yet, of both extents in turn; 0 if there is none. */
static uint32_t newSlot(void) {
  pthread_mutex_lock(&mu);
  uint32_t n = nSlot < SLOTS ? nSlot++ : 0;
  pthread_mutex_unlock(&mu);
  return n / EXTENTS + n % EXTENTS * VERSION_EXTENT_SLOTS;
}

int goSnapshotOpen(char *zUri, SnapshotOpened *pOpened, char *zErr, int nErr) {
  struct stat s;
  const char *zPath = strstr(zUri, "://h/");
  int fd = zPath ? open(zPath + 4, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0 || fstat(fd, &s)) {
    snprintf(zErr, nErr, "%s: no such replica", zUri);
    return 1;
  }
  Reader *r = calloc(1, sizeof *r);
  r->fd = fd;
  pthread_mutex_lock(&mu);
  makeExtents();
  pthread_mutex_unlock(&mu);
  for (int i = 0; i < 2; i++) r->aVersion[i] = newTable(fd, s.st_size, (uint32_t)i + 1);
  *pOpened = (SnapshotOpened){(uintptr_t)r, r->aVersion[0], 0, &newest};
  return 0;
}

void goSnapshotClose(uintptr_t h) {
  Reader *r = (Reader *)h;
  close(r->fd);
  for (int i = 0; i < 2; i++) freeTable(r->aVersion[i]);
  free(r);
}

/* The header that is shown (S2): rollback mode, the version's counter. */
static void setHeader(VersionTable *t, const unsigned char *a) {
  memcpy(t->aHeader, a, VERSION_HEADER_BYTES);
  t->aHeader[18] = t->aHeader[19] = 1;
  for (int i = 0; i < 4; i++) t->aHeader[24 + i] = t->aHeader[92 + i] = (unsigned char)(t->iCounter >> (24 - 8 * i));
  atomic_store(&t->nHeader, VERSION_HEADER_BYTES);
}

int goSnapshotRead(uintptr_t h, void *pBuf, int nByte, int64_t iOfst, void *ppDb) {
  Reader *r = (Reader *)h;
  unsigned char a[VERSION_CHUNK_BYTES] = {0};
  (void)ppDb;
  VersionTable *t = r->aVersion[r->iVersion];
  uint32_t iChunk = (uint32_t)(iOfst / VERSION_CHUNK_BYTES);
  uint32_t slot = newSlot();
  int64_t base = (int64_t)iChunk * VERSION_CHUNK_BYTES;
  if (pread(r->fd, a, sizeof a, base) < 0) return SQLITE_IOERR_READ;
  memcpy(pBuf, a + (iOfst - base), nByte);
  if (!slot) return SQLITE_OK;
  if (pwrite(slotFd, a, sizeof a, (off_t)slot * VERSION_CHUNK_BYTES) != sizeof a) return SQLITE_IOERR_READ;
  if (iChunk == 0) setHeader(t, a);
  VersionPart *pPart = t->apPart[iChunk / VERSION_PART_CHUNKS];
  atomic_fetch_or(&pPart->aEntry[iChunk % VERSION_PART_CHUNKS], (uint64_t)1 << 32 | ENTRY_AHEAD | slot);
  return SQLITE_OK;
}

void goSnapshotAhead(uintptr_t h, uint32_t iChunk) {
  (void)h;
  (void)iChunk;
}

void *goSnapshotAdopt(uintptr_t h) {
  Reader *r = (Reader *)h;
  r->iVersion = (int)(atomic_load(&newest) - 1);
  return r->aVersion[r->iVersion];
}

int goSnapshotRefresh(uintptr_t h, int bForce, void *ppDb, SnapshotOpened *pOpened, char *zErr, int nErr) {
  (void)ppDb;
  if (!bForce) {
    snprintf(zErr, nErr, "only by force");
    return 1;
  }
  goSnapshotRequest(h);
  *pOpened = (SnapshotOpened){h, goSnapshotAdopt(h), 0, &newest};
  return 0;
}

void goSnapshotRequest(uintptr_t h) {
  (void)h;
  atomic_fetch_xor(&newest, 3);
}

void goSnapshotAuto(uintptr_t h, int bAuto) {
  (void)h;
  (void)bAuto;
}

void goSnapshotTimes(uintptr_t h, int bCtime, int64_t *pSeconds, int *pNanoseconds) {
  (void)h;
  *pSeconds = bCtime ? 1 : 2;
  *pNanoseconds = 3;
}

/* ---- databases in stores: there are no stores, so that nothing else is called ---- */

char **goRemoteStores(void) { return 0; }

static int unexpected(void) {
  fprintf(stderr, "a database in a store, where there is no store\n");
  abort();
}

int goRemoteOpen(char *zName, RemoteMode *pMode, RemoteOpened *pOpened) {
  (void)zName, (void)pMode, (void)pOpened;
  return unexpected();
}

char *goCephStatus(void *db, int *pIsError) {
  (void)db, (void)pIsError;
  unexpected();
  return 0;
}

int goRemoteExists(char *zName, int *pRes) {
  (void)zName, (void)pRes;
  return unexpected();
}

int goRemoteRead(uintptr_t hConn, void *pBuf, int nByte, int64_t iOfst, void *ppDb) {
  (void)hConn, (void)pBuf, (void)nByte, (void)iOfst, (void)ppDb;
  return unexpected();
}

int goRemoteShare(uintptr_t hConn, int writes, void *ppDb, RemotePlace *pPlace) {
  (void)hConn, (void)writes, (void)ppDb, (void)pPlace;
  return unexpected();
}

int goRemoteReserve(uintptr_t hConn, void *ppDb, RemotePlace *pPlace) { return goRemoteShare(hConn, 0, ppDb, pPlace); }
int goRemoteWait(uintptr_t hConn, void *ppDb, RemotePlace *pPlace) { return goRemoteShare(hConn, 0, ppDb, pPlace); }

int goRemoteCommit(uintptr_t hConn, RemoteChange *pChange, void *ppDb, RemotePlace *pPlace) {
  (void)pChange;
  return goRemoteShare(hConn, 0, ppDb, pPlace);
}

int goRemoteRefresh(uintptr_t hConn, void *ppDb, RemotePlace *pPlace, char **pzErr) {
  (void)pzErr;
  return goRemoteShare(hConn, 0, ppDb, pPlace);
}

int goRemoteFlush(uintptr_t hConn, void *ppDb, char **pzErr) {
  (void)hConn, (void)ppDb, (void)pzErr;
  return unexpected();
}

int goRemoteRelease(uintptr_t hConn, void *ppDb, char **pzErr) {
  (void)hConn, (void)ppDb, (void)pzErr;
  return unexpected();
}

void goRemoteClose(uintptr_t hConn) { (void)hConn, unexpected(); }
void goRemoteAhead(uintptr_t hConn, uint32_t iChunk) { (void)hConn, (void)iChunk, unexpected(); }
void goRemoteAdopt(uintptr_t hConn, RemotePlace *pPlace) { (void)hConn, (void)pPlace, unexpected(); }
void goRemoteUnreserve(uintptr_t hConn, RemotePlace *pPlace) { (void)hConn, (void)pPlace, unexpected(); }
int goSpillOpen(Spill *pSpill) { return (void)pSpill, unexpected(); }
void goSpillClose(uintptr_t hFile) { (void)hFile, unexpected(); }
