/*
** The counters of a file's methods: see perf.h.
*/
#include "perf.h"
#include "verneuil.h"
SQLITE_EXTENSION_INIT3

static const char *const azOp[OP_ALL_N] = {
  "opf_close", "opf_read", "opf_write", "opf_truncate", "opf_sync", "opf_filesize", "opf_lock",
  "opf_unlock", "opf_checkreservedlock", "opf_filecontrol", "opf_shmmap", "opf_shmlock", "opf_fetch",
  "op_open", "opf_sectorsize", "opf_devicecharacteristics", "op_delete", "op_access", "op_fullpathname", "op_currenttime",
};

void perfAdd(Perf *aSum, Perf *a, int n) {
  for (int i = 0; i < n; i++) {
    PERF_ADD(aSum[i].n, PERF_GET(a[i].n));
    PERF_ADD(aSum[i].nTimed, PERF_GET(a[i].nTimed));
    PERF_ADD(aSum[i].ns, PERF_GET(a[i].ns));
  }
}

char *perfJson(Perf *a, const int *aOp, int n) {
  char *z = 0;
  for (int k = 0; k < n; k++) {
    int i = aOp ? aOp[k] : k;
    double avg = a[i].nTimed ? (double)a[i].ns / (double)a[i].nTimed * 1e-9 : 0;
    char *zMore = sqlite3_mprintf("%s%s\"%s\":{\"avgcount\":%lld,\"sum\":%.9f,\"avgtime\":%.9f}",
                                  z ? z : "", z ? "," : "", azOp[i], (sqlite3_int64)a[i].n,
                                  avg * (double)a[i].n, avg);
    sqlite3_free(z);
    if (!zMore) return 0;
    z = zMore;
  }
  return sqlite3_mprintf("{%z}", z);
}
