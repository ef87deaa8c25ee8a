/*
** Calls of librados that are under way. What it calls back only notes that a call has ended, or
** what was heard, in a queue: nothing of Go runs on its threads.
*/
#ifndef VERNEUIL_LIBRADOS_CALLS_H
#define VERNEUIL_LIBRADOS_CALLS_H
#include "api.h"

/* What is queued. */
enum { CALL_ENDED, CALL_HEARD, CALL_BROKEN };

/* A call, or what a watch has to say. It belongs to librados until it is queued, then to who takes
** it from the queue, and frees it. */
typedef struct Call Call;
struct Call {
  Call *pNext;
  uint64_t id; /* Go's, of the call or the watch */
  int kind;
  int rc; /* of the call, or of what broke the watch */
  uint64_t version;
  rados_completion_t completion;
  rados_write_op_t write;
  rados_read_op_t read;
  int rcStep; /* of a comparison */

  /* what is read */
  uint64_t nObject;
  time_t modified;
  char *pData; /* heard, likewise */
  size_t nData;
  rados_xattrs_iter_t xattrs;
  rados_omap_iter_t omap;
  unsigned char more;
  int rcStat, rcData, rcXattrs, rcOmap;

  uint64_t handle; /* of a watch */
  int lingers;     /* a shutdown waits for its answer */
  char *pReply;
  size_t nReply;
};

/* NULL: there is no memory. */
Call *callNew(uint64_t id);
void callFree(Call *p);

/* The same for a call that is not queued when it has ended: callAwait waits for that in the caller's
** thread, which librados wakes at once. To cancel it ends it. */
Call *callNewHere(void);
void callAwait(Call *p);

/* Waits until something is queued, and takes all of it, the oldest first. */
Call *callsTake(void);

/* Each begins a call: 0, or a negative errno, and then it will not be queued. */
int callWrite(Call *p, rados_ioctx_t io, const char *zObject);
int callRead(Call *p, rados_ioctx_t io, const char *zObject);
int callNotify(Call *p, rados_ioctx_t io, const char *zObject, const char *pData, int nData, uint64_t ms);
int callUnwatch(Call *p, rados_ioctx_t io, uint64_t handle);
int callFlush(Call *p, rados_t cluster);

/* A watch. It is freed after a callFlush that began after the end of callUnwatch. */
typedef struct Watch {
  uint64_t id;
  rados_ioctx_t io;
  uint64_t handle;
  char zObject[];
} Watch;
Watch *watchNew(uint64_t id, rados_ioctx_t io, const char *zObject);
int callWatch(Call *p, Watch *pWatch, uint32_t timeout);

#endif
