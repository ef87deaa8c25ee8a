/*
** What we use of librados, declared by ourselves, so that nothing of Ceph's is needed to build. The
** names, arguments and constants are those of Ceph's stable C interface, as its documentation and
** the header rados/librados.h of version 16.2 describe it. The library is opened at run time.
*/
#ifndef VERNEUIL_LIBRADOS_API_H
#define VERNEUIL_LIBRADOS_API_H
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>

typedef void *rados_t;
typedef void *rados_ioctx_t;
typedef void *rados_completion_t;
typedef void *rados_write_op_t;
typedef void *rados_read_op_t;
typedef void *rados_xattrs_iter_t;
typedef void *rados_omap_iter_t;
typedef void *rados_list_ctx_t;
typedef void (*rados_callback_t)(rados_completion_t, void *pArg);
typedef void (*rados_watchcb2_t)(void *pArg, uint64_t notify, uint64_t handle, uint64_t notifier, void *pData, size_t nData);
typedef void (*rados_watcherrcb_t)(void *pArg, uint64_t cookie, int err);

enum { LIBRADOS_CMPXATTR_OP_EQ = 1, LIBRADOS_CMPXATTR_OP_NE = 2, LIBRADOS_CMPXATTR_OP_GT = 3 };
enum { LIBRADOS_LOCK_FLAG_MAY_RENEW = 1, LIBRADOS_LOCK_FLAG_MUST_RENEW = 2 };

/* X(result, name without rados_, arguments): all that is looked up. */
#define RADOS_FUNCTIONS(X) \
  X(void, version, (int *pMajor, int *pMinor, int *pExtra)) \
  X(int, create2, (rados_t *, const char *zCluster, const char *zName, uint64_t flags)) \
  X(int, conf_read_file, (rados_t, const char *zPath)) \
  X(int, conf_set, (rados_t, const char *zOption, const char *zValue)) \
  X(int, conf_get, (rados_t, const char *zOption, char *zBuf, size_t n)) \
  X(int, connect, (rados_t)) \
  X(void, shutdown, (rados_t)) \
  X(int, cluster_fsid, (rados_t, char *zBuf, size_t n)) \
  X(int, getaddrs, (rados_t, char **pz)) \
  X(uint64_t, get_instance_id, (rados_t)) \
  X(int, wait_for_latest_osdmap, (rados_t)) \
  X(int64_t, pool_lookup, (rados_t, const char *zPool)) \
  X(int, pool_reverse_lookup, (rados_t, int64_t id, char *zBuf, size_t n)) \
  X(int, mon_command, (rados_t, const char **azCmd, size_t nCmd, const char *pIn, size_t nIn, char **ppOut, size_t *pnOut, char **pzStatus, size_t *pnStatus)) \
  X(void, buffer_free, (char *)) \
  X(int, ioctx_create2, (rados_t, int64_t pool, rados_ioctx_t *)) \
  X(void, ioctx_destroy, (rados_ioctx_t)) \
  X(void, ioctx_set_namespace, (rados_ioctx_t, const char *)) \
  X(void, set_pool_full_try, (rados_ioctx_t)) \
  X(int, aio_create_completion2, (void *pArg, rados_callback_t, rados_completion_t *)) \
  X(void, aio_release, (rados_completion_t)) \
  X(int, aio_wait_for_complete, (rados_completion_t)) \
  X(int, aio_get_return_value, (rados_completion_t)) \
  X(uint64_t, aio_get_version, (rados_completion_t)) \
  X(int, aio_cancel, (rados_ioctx_t, rados_completion_t)) \
  X(int, aio_write_op_operate, (rados_write_op_t, rados_ioctx_t, rados_completion_t, const char *zObject, time_t *, int flags)) \
  X(int, aio_read_op_operate, (rados_read_op_t, rados_ioctx_t, rados_completion_t, const char *zObject, int flags)) \
  X(rados_write_op_t, create_write_op, (void)) \
  X(void, release_write_op, (rados_write_op_t)) \
  X(void, write_op_assert_exists, (rados_write_op_t)) \
  X(void, write_op_assert_version, (rados_write_op_t, uint64_t)) \
  X(void, write_op_cmpext, (rados_write_op_t, const char *p, size_t n, uint64_t off, int *pRc)) \
  X(void, write_op_cmpxattr, (rados_write_op_t, const char *zName, uint8_t op, const char *p, size_t n)) \
  X(void, write_op_omap_cmp2, (rados_write_op_t, const char *zKey, uint8_t op, const char *p, size_t nKey, size_t n, int *pRc)) \
  X(void, write_op_create, (rados_write_op_t, int exclusive, const char *zCategory)) \
  X(void, write_op_write, (rados_write_op_t, const char *p, size_t n, uint64_t off)) \
  X(void, write_op_write_full, (rados_write_op_t, const char *p, size_t n)) \
  X(void, write_op_append, (rados_write_op_t, const char *p, size_t n)) \
  X(void, write_op_truncate, (rados_write_op_t, uint64_t)) \
  X(void, write_op_zero, (rados_write_op_t, uint64_t off, uint64_t n)) \
  X(void, write_op_remove, (rados_write_op_t)) \
  X(void, write_op_setxattr, (rados_write_op_t, const char *zName, const char *p, size_t n)) \
  X(void, write_op_rmxattr, (rados_write_op_t, const char *zName)) \
  X(void, write_op_omap_set2, (rados_write_op_t, char const *const *azKey, char const *const *ap, const size_t *anKey, const size_t *an, size_t)) \
  X(void, write_op_omap_rm_keys2, (rados_write_op_t, char const *const *azKey, const size_t *anKey, size_t)) \
  X(void, write_op_exec, (rados_write_op_t, const char *zClass, const char *zMethod, const char *p, size_t n, int *pRc)) \
  X(rados_read_op_t, create_read_op, (void)) \
  X(void, release_read_op, (rados_read_op_t)) \
  X(void, read_op_assert_version, (rados_read_op_t, uint64_t)) \
  X(void, read_op_cmpxattr, (rados_read_op_t, const char *zName, uint8_t op, const char *p, size_t n)) \
  X(void, read_op_stat, (rados_read_op_t, uint64_t *pn, time_t *, int *pRc)) \
  X(void, read_op_read, (rados_read_op_t, uint64_t off, size_t n, char *p, size_t *pn, int *pRc)) \
  X(void, read_op_getxattrs, (rados_read_op_t, rados_xattrs_iter_t *, int *pRc)) \
  X(int, getxattrs_next, (rados_xattrs_iter_t, const char **pzName, const char **pp, size_t *pn)) \
  X(void, getxattrs_end, (rados_xattrs_iter_t)) \
  X(void, read_op_omap_get_vals2, (rados_read_op_t, const char *zAfter, const char *zPrefix, uint64_t most, rados_omap_iter_t *, unsigned char *pMore, int *pRc)) \
  X(void, read_op_omap_get_vals_by_keys2, (rados_read_op_t, char const *const *azKey, size_t, const size_t *anKey, rados_omap_iter_t *, int *pRc)) \
  X(int, omap_get_next2, (rados_omap_iter_t, char **pzKey, char **pp, size_t *pnKey, size_t *pn)) \
  X(void, omap_get_end, (rados_omap_iter_t)) \
  X(int, nobjects_list_open, (rados_ioctx_t, rados_list_ctx_t *)) \
  X(int, nobjects_list_next, (rados_list_ctx_t, const char **pzEntry, const char **pzKey, const char **pzNamespace)) \
  X(void, nobjects_list_close, (rados_list_ctx_t)) \
  X(int, lock_exclusive, (rados_ioctx_t, const char *zObject, const char *zName, const char *zCookie, const char *zDescription, struct timeval *, uint8_t flags)) \
  X(int, unlock, (rados_ioctx_t, const char *zObject, const char *zName, const char *zCookie)) \
  X(ssize_t, list_lockers, (rados_ioctx_t, const char *zObject, const char *zName, int *pExclusive, char *zTag, size_t *pnTag, char *pClients, size_t *pnClients, char *pCookies, size_t *pnCookies, char *pAddrs, size_t *pnAddrs)) \
  X(int, break_lock, (rados_ioctx_t, const char *zObject, const char *zName, const char *zClient, const char *zCookie)) \
  X(int, aio_watch2, (rados_ioctx_t, const char *zObject, rados_completion_t, uint64_t *pHandle, rados_watchcb2_t, rados_watcherrcb_t, uint32_t timeout, void *pArg)) \
  X(int, aio_unwatch, (rados_ioctx_t, uint64_t handle, rados_completion_t)) \
  X(int, aio_watch_flush, (rados_t, rados_completion_t)) \
  X(int, aio_notify, (rados_ioctx_t, const char *zObject, rados_completion_t, const char *p, int n, uint64_t ms, char **ppReply, size_t *pnReply)) \
  X(int, notify_ack, (rados_ioctx_t, const char *zObject, uint64_t notify, uint64_t handle, const char *p, int n))

typedef struct Rados {
#define X(result, name, arguments) result(*name) arguments;
  RADOS_FUNCTIONS(X)
#undef X
} Rados;

/* All of it, once radosLoad has returned 0. */
extern Rados rados;

/* Opens the library, and looks everything up: 0, or a message, which is the caller's to free. To be
** called once at a time. */
char *radosLoad(const char *zLibrary, int *pMissing);

#endif
