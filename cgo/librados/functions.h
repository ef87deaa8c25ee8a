/*
** For Go, which cannot call through a table of functions.
*/
#ifndef VERNEUIL_LIBRADOS_FUNCTIONS_H
#define VERNEUIL_LIBRADOS_FUNCTIONS_H
#include "calls.h"
#include <errno.h>
#include <stdlib.h>

#define FOR_GO static inline __attribute__((unused))

FOR_GO void radosVersion(int *pMajor, int *pMinor, int *pExtra) { rados.version(pMajor, pMinor, pExtra); }
FOR_GO int radosCreate(rados_t *p, const char *zCluster, const char *zUser) { return rados.create2(p, zCluster, zUser, 0); }
FOR_GO int radosConfReadFile(rados_t h, const char *z) { return rados.conf_read_file(h, z); }
FOR_GO int radosConfSet(rados_t h, const char *zName, const char *zValue) { return rados.conf_set(h, zName, zValue); }
FOR_GO int radosConfGet(rados_t h, const char *zName, char *z, size_t n) { return rados.conf_get(h, zName, z, n); }
FOR_GO int radosConnect(rados_t h) { return rados.connect(h); }
FOR_GO void radosShutdown(rados_t h) { rados.shutdown(h); }
FOR_GO int radosFSID(rados_t h, char *z, size_t n) { return rados.cluster_fsid(h, z, n); }
FOR_GO int radosAddrs(rados_t h, char **pz) { return rados.getaddrs(h, pz); }
FOR_GO uint64_t radosInstance(rados_t h) { return rados.get_instance_id(h); }
FOR_GO int radosWaitMap(rados_t h) { return rados.wait_for_latest_osdmap(h); }
FOR_GO int64_t radosPoolLookup(rados_t h, const char *z) { return rados.pool_lookup(h, z); }
FOR_GO int radosPoolName(rados_t h, int64_t id, char *z, size_t n) { return rados.pool_reverse_lookup(h, id, z, n); }
FOR_GO void radosBufferFree(char *z) { rados.buffer_free(z); }
FOR_GO int radosMonCommand(rados_t h, const char *zCmd, const char *pIn, size_t nIn, char **ppOut, size_t *pnOut, char **pzStatus, size_t *pnStatus) {
  return rados.mon_command(h, &zCmd, 1, pIn, nIn, ppOut, pnOut, pzStatus, pnStatus);
}

FOR_GO int radosIOCreate(rados_t h, int64_t pool, rados_ioctx_t *p) {
  int rc = rados.ioctx_create2(h, pool, p);
  if (rc >= 0) rados.set_pool_full_try(*p); /* an error at once, where writes would wait for space */
  return rc;
}
FOR_GO void radosIONamespace(rados_ioctx_t io, const char *z) { rados.ioctx_set_namespace(io, z); }
FOR_GO void radosIODestroy(rados_ioctx_t io) { rados.ioctx_destroy(io); }
FOR_GO int radosCancel(rados_ioctx_t io, rados_completion_t c) { return rados.aio_cancel(io, c); }

FOR_GO void writeBegin(Call *p) { p->write = rados.create_write_op(); }
FOR_GO void writeCreate(Call *p, int exclusive) { rados.write_op_create(p->write, exclusive, 0); }
FOR_GO void writeAssertExists(Call *p) { rados.write_op_assert_exists(p->write); }
FOR_GO void writeAssertVersion(Call *p, uint64_t version) { rados.write_op_assert_version(p->write, version); }
FOR_GO void writeCompareBytes(Call *p, const char *pData, size_t n, uint64_t off) { rados.write_op_cmpext(p->write, pData, n, off, &p->rcStep); }
FOR_GO void writeCompareXattr(Call *p, const char *zName, const char *pData, size_t n) {
  rados.write_op_cmpxattr(p->write, zName, LIBRADOS_CMPXATTR_OP_EQ, pData, n);
}
FOR_GO void writeCompareOmap(Call *p, const char *zKey, size_t nKey, const char *pData, size_t n) {
  rados.write_op_omap_cmp2(p->write, zKey, LIBRADOS_CMPXATTR_OP_EQ, pData, nKey, n, &p->rcStep);
}
FOR_GO void writeRequireOmap(Call *p, const char *zKey, size_t nKey) { // an entry that is not there compares as an empty one
  rados.write_op_omap_cmp2(p->write, zKey, LIBRADOS_CMPXATTR_OP_GT, "", nKey, 0, &p->rcStep);
}
FOR_GO void writeData(Call *p, const char *pData, size_t n, uint64_t off) { rados.write_op_write(p->write, pData, n, off); }
FOR_GO void writeFull(Call *p, const char *pData, size_t n) { rados.write_op_write_full(p->write, pData, n); }
FOR_GO void writeAppend(Call *p, const char *pData, size_t n) { rados.write_op_append(p->write, pData, n); }
FOR_GO void writeTruncate(Call *p, uint64_t n) { rados.write_op_truncate(p->write, n); }
FOR_GO void writeZero(Call *p, uint64_t off, uint64_t n) { rados.write_op_zero(p->write, off, n); }
FOR_GO void writeRemove(Call *p) { rados.write_op_remove(p->write); }
FOR_GO void writeSetXattr(Call *p, const char *zName, const char *pData, size_t n) { rados.write_op_setxattr(p->write, zName, pData, n); }
FOR_GO void writeRemoveXattr(Call *p, const char *zName) { rados.write_op_rmxattr(p->write, zName); }
FOR_GO void writeSetOmap(Call *p, const char *zKey, size_t nKey, const char *pData, size_t n) {
  rados.write_op_omap_set2(p->write, &zKey, &pData, &nKey, &n, 1);
}
FOR_GO void writeRemoveOmap(Call *p, const char *zKey, size_t nKey) { rados.write_op_omap_rm_keys2(p->write, &zKey, &nKey, 1); }
FOR_GO void writeExec(Call *p, const char *zClass, const char *zMethod, const char *pData, size_t n) {
  rados.write_op_exec(p->write, zClass, zMethod, pData, n, 0);
}

FOR_GO void readBegin(Call *p) { p->read = rados.create_read_op(); }
FOR_GO void readAssertVersion(Call *p, uint64_t version) { rados.read_op_assert_version(p->read, version); }
FOR_GO void readCompareXattr(Call *p, const char *zName, int how, const char *pData, size_t n) {
  rados.read_op_cmpxattr(p->read, zName, how, pData, n);
}
FOR_GO void readStat(Call *p) { rados.read_op_stat(p->read, &p->nObject, &p->modified, &p->rcStat); }
FOR_GO int readData(Call *p, uint64_t off, size_t n) {
  if (!(p->pData = malloc(n))) return 0;
  rados.read_op_read(p->read, off, n, p->pData, &p->nData, &p->rcData);
  return 1;
}
FOR_GO void readXattrs(Call *p) { rados.read_op_getxattrs(p->read, &p->xattrs, &p->rcXattrs); }
FOR_GO void readOmap(Call *p, const char *zAfter, const char *zPrefix, uint64_t most) {
  rados.read_op_omap_get_vals2(p->read, zAfter, zPrefix, most, &p->omap, &p->more, &p->rcOmap);
}
FOR_GO void readOmapKey(Call *p, const char *zKey, size_t nKey) {
  rados.read_op_omap_get_vals_by_keys2(p->read, &zKey, 1, &nKey, &p->omap, &p->rcOmap);
}
FOR_GO int nextXattr(Call *p, const char **pzName, const char **pp, size_t *pn) { return rados.getxattrs_next(p->xattrs, pzName, pp, pn); }
FOR_GO int nextOmap(Call *p, char **pzKey, char **pp, size_t *pnKey, size_t *pn) { return rados.omap_get_next2(p->omap, pzKey, pp, pnKey, pn); }

FOR_GO int listOpen(rados_ioctx_t io, rados_list_ctx_t *p) { return rados.nobjects_list_open(io, p); }
FOR_GO int listNext(rados_list_ctx_t p, const char **pz) { return rados.nobjects_list_next(p, pz, 0, 0); }
FOR_GO void listClose(rados_list_ctx_t p) { rados.nobjects_list_close(p); }

FOR_GO int lockTake(rados_ioctx_t io, const char *zObject, const char *zName, const char *zCookie, const char *zDescription, int64_t us, int flags) {
  struct timeval t = {us / 1000000, us % 1000000};
  return rados.lock_exclusive(io, zObject, zName, zCookie, zDescription, us ? &t : 0, flags);
}
FOR_GO int lockGive(rados_ioctx_t io, const char *zObject, const char *zName, const char *zCookie) {
  return rados.unlock(io, zObject, zName, zCookie);
}
FOR_GO int lockBreak(rados_ioctx_t io, const char *zObject, const char *zName, const char *zClient, const char *zCookie) {
  return rados.break_lock(io, zObject, zName, zClient, zCookie);
}
/* ap and an: of the clients, cookies and addresses. */
FOR_GO ssize_t lockList(rados_ioctx_t io, const char *zObject, const char *zName, int *pExclusive, char *zTag, size_t *pnTag, char **ap, size_t *an) {
  return rados.list_lockers(io, zObject, zName, pExclusive, zTag, pnTag, ap[0], &an[0], ap[1], &an[1], ap[2], &an[2]);
}

#endif
