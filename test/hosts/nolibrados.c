/*
** To be preloaded: there is no librados on this machine.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

void *dlopen(const char *zName, int flags) {
  void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
  return real(zName && strstr(zName, "librados") ? "librados-that-is-not-there.so.2" : zName, flags);
}
