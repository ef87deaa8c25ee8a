/*
** Reading a version of a database from the slot file: versiontable.h has the protocol.
*/
#define _GNU_SOURCE
#include "versiontable.h"
#include "descriptors.h"
#include "log.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* For how long a reader waits for a chunk that is coming, before it asks Go. */
#define AWAIT_MS 20

/* The slot file's descriptor for this thread, proved to be that; -1: there is none, and Go reads.
** The host's threads have one of their own, as they do not have Go's. */
static int slotFd(const SlotExtent *x) {
  static atomic_int cached = -1;
  const Ours ours = {x->fd, x->dev, x->ino};
  int own = descriptorsSeparate() ? atomic_load_explicit(&cached, memory_order_relaxed) : x->fd;
  if (descriptorsProve(own, &ours)) return own;
  if (!descriptorsSeparate()) return -1;
  int fd = descriptorsOpen(&ours, O_RDONLY); /* what has that number now, if anything, is the host's */
  if (fd < 0 || atomic_compare_exchange_strong(&cached, &own, fd)) return fd;
  close(fd); /* another thread was faster */
  return descriptorsProve(own, &ours) ? own : -1;
}

/* Reads n bytes from the slot file, whose blocks are all there. Returns 0, or 1 if it cannot. */
static int slotPread(int fd, void *pBuf, size_t n, off_t iOfst) {
  unsigned char *z = pBuf;
  while (n > 0) {
    ssize_t k = pread(fd, z, n, iOfst);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) {
      verneuilLog(VERNEUIL_ERROR, "replica: the slot file cannot be read: %s",
                  k < 0 ? strerror(errno) : "it is too short");
      return 1;
    }
    z += k, n -= k, iOfst += k;
  }
  return 0;
}

/* Waits a moment for a chunk that is coming: what takes longer is left to Go, which looks
** after deadlines and interrupts. Half an entry is a futex where that half comes first. */
static void entryAwait(_Atomic uint64_t *pEntry, uint64_t entry) {
  static const struct timespec moment = {0, AWAIT_MS * 1000000};
  while (!(entry >> 32) && (entry & ENTRY_COMING)) {
    if (!atomic_compare_exchange_weak(pEntry, &entry, entry | ENTRY_AWAITED)) continue;
    syscall(SYS_futex, pEntry, FUTEX_WAIT_PRIVATE, (uint32_t)(entry | ENTRY_AWAITED), &moment, 0, 0);
    return;
  }
}

/* Tells Go that a reader has come to a marked chunk (T5). */
static void entryAhead(_Atomic uint64_t *pEntry, uint32_t iChunk, const VersionOwner *pCalls, void *pOwner) {
  if (atomic_fetch_and_explicit(pEntry, ~ENTRY_AHEAD, memory_order_relaxed) & ENTRY_AHEAD)
    pCalls->xAhead(pOwner, iChunk);
}

/* The pages that lie over a chunk which is PATCHED. */
static const VersionPatch *patchOf(const VersionTable *t, uint32_t iChunk) {
  const VersionPatch *p = t->aPatch;
  for (uint32_t n = t->nPatch; n > 1;) {
    uint32_t half = n / 2;
    if (p[half].iChunk <= iChunk) p += half;
    n -= half;
  }
  return p;
}

/* Copies what p has of n bytes at offset iOfst of its chunk. Returns how much that is. */
static uint32_t patchCopy(const VersionPatch *p, uint32_t iOfst, unsigned char *z, uint32_t n) {
  uint32_t copied = 0;
  for (const VersionRun *r = p->aRun, *pEnd = r + p->nRun; r < pEnd && r->iOfst < iOfst + n; r++) {
    uint32_t from = r->iOfst > iOfst ? r->iOfst : iOfst;
    uint32_t to = r->iOfst + r->n < iOfst + n ? r->iOfst + r->n : iOfst + n;
    if (from >= to) continue;
    memcpy(z + (from - iOfst), r->a + (from - r->iOfst), to - from);
    copied += to - from;
  }
  return copied;
}

/* Copies n bytes from offset iOfst of the chunk that an entry names. Returns SQLITE_OK, or
** SQLITE_NOTFOUND if the chunk is not here, or SQLITE_LOCKED if it was given up
** (T3), or SQLITE_IOERR_READ. */
static int entryCopy(const VersionTable *t, uint64_t entry, uint32_t iOfst, void *pBuf, uint32_t n) {
  uint32_t slot = (uint32_t)(entry & ~ENTRY_MARKS);
  uint32_t generation = (uint32_t)(entry >> 32);
  if (!generation) return SQLITE_NOTFOUND;
  const SlotExtent *x = &t->aExtent[slot / VERSION_EXTENT_SLOTS];
  const _Atomic uint32_t *pGeneration = &x->aGeneration[slot % VERSION_EXTENT_SLOTS];
  if (atomic_load_explicit(pGeneration, memory_order_acquire) != generation) return SQLITE_LOCKED;
  if (x->aData) {
    memcpy(pBuf, x->aData + (size_t)(slot % VERSION_EXTENT_SLOTS) * VERSION_CHUNK_BYTES + iOfst, n);
  } else {
    int fd = slotFd(x);
    if (fd < 0) return SQLITE_NOTFOUND;
    if (slotPread(fd, pBuf, n, (off_t)slot * VERSION_CHUNK_BYTES + iOfst)) return SQLITE_IOERR_READ;
  }
  atomic_thread_fence(memory_order_acquire);
  if (atomic_load_explicit(pGeneration, memory_order_relaxed) != generation) return SQLITE_LOCKED;
  return SQLITE_OK;
}

/* Reads n bytes at offset iOfst of one chunk. */
static int chunkRead(VersionTable *t, uint32_t iChunk, uint32_t iOfst, unsigned char *z, uint32_t n,
                     const VersionOwner *pCalls, void *pOwner) {
  VersionPart *pPart = atomic_load_explicit(&t->apPart[iChunk / VERSION_PART_CHUNKS], memory_order_acquire);
  _Atomic uint64_t *pEntry = pPart ? &pPart->aEntry[iChunk % VERSION_PART_CHUNKS] : 0;
  uint64_t entry = pEntry ? atomic_load_explicit(pEntry, memory_order_acquire) : 0; /* T1 */
  const VersionPatch *pPatch = 0;
  if (entry & ENTRY_MARKS) {
    if (entry & ENTRY_AHEAD) entryAhead(pEntry, iChunk, pCalls, pOwner);
    if (entry & ENTRY_PATCHED) { /* T6 */
      pPatch = patchOf(t, iChunk);
      if (patchCopy(pPatch, iOfst, z, n) == n) return SQLITE_OK;
    }
    if (entry & ENTRY_COMING) {
      entryAwait(pEntry, entry & ~ENTRY_AHEAD);
      entry = atomic_load_explicit(pEntry, memory_order_acquire);
    }
  }
  int rc = entryCopy(t, entry, iOfst, z, n);
  if (rc == SQLITE_NOTFOUND || rc == SQLITE_LOCKED)
    return pCalls->xMissing(pOwner, z, (int)n, (int64_t)iChunk * VERSION_CHUNK_BYTES + iOfst, rc == SQLITE_LOCKED);
  if (pPatch) patchCopy(pPatch, iOfst, z, n);
  return rc;
}

int versionRead(VersionTable *t, void *pBuf, int iAmt, int64_t iOfst, const VersionOwner *pCalls, void *pOwner) {
  unsigned char *z = pBuf;
  int rc = SQLITE_OK;
  int n = iAmt;                    /* bytes that the file has */
  if (iOfst + iAmt > (int64_t)t->nByte) {
    n = iOfst < (int64_t)t->nByte ? (int)((int64_t)t->nByte - iOfst) : 0;
    memset(z + n, 0, iAmt - n);
    rc = SQLITE_IOERR_SHORT_READ;
  }
  for (int done = 0; done < n;) {
    int64_t at = iOfst + done;
    uint32_t iChunk = (uint32_t)(at / VERSION_CHUNK_BYTES), within = (uint32_t)(at % VERSION_CHUNK_BYTES);
    int k = VERSION_CHUNK_BYTES - within;
    if (k > n - done) k = n - done;
    int rcCopy = chunkRead(t, iChunk, within, z + done, (uint32_t)k, pCalls, pOwner);
    if (rcCopy != SQLITE_OK) return rcCopy;
    done += k;
  }
  if (iOfst < VERSION_HEADER_BYTES) { /* T4 */
    int k = (int)atomic_load_explicit(&t->nHeader, memory_order_acquire) - (int)iOfst;
    if (k > n) k = n;
    if (k > 0) memcpy(z, t->aHeader + iOfst, k);
  }
  return rc;
}
