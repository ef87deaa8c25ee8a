/*
** Opens librados when it is first needed.
*/
#define _GNU_SOURCE
#include "api.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

Rados rados;

static char *message(const char *z) { return strdup(z ? z : "unknown error"); }

/* RTLD_NODELETE: its threads, and what it has registered with the C library, cannot be undone. */
char *radosLoad(const char *zLibrary, int *pMissing) {
  Rados found;
  void *p = dlopen(zLibrary, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  *pMissing = !p;
  if (!p) return message(dlerror());
#define X(result, name, arguments) \
  if (!(*(void **)(&found.name) = dlsym(p, "rados_" #name))) { \
    char *z = message(dlerror()); \
    dlclose(p); \
    return z; \
  }
  RADOS_FUNCTIONS(X)
#undef X
  rados = found;
  return 0;
}
