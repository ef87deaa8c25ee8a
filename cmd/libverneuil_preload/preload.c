/*
** libverneuil_preload.so: for programs that load no extensions. LD_PRELOAD names it, and
** VERNEUIL_CONFIG is set; then the extension, which lies beside it, is registered with the SQLite
** that the process uses, before that opens its first database. The log says where that cannot be.
**
** It stands before the SQLite library in the order in which the dynamic linker looks for names, so
** that it is called in its place. It finds the function that would have been called: the next one in
** that order or, if the caller was loaded with libraries of its own (a module of Python's), the one
** that the caller's libraries have. It is small, as each program that is started loads it; the
** extension is loaded by those only that open a database.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef struct sqlite3 sqlite3;
enum { OK = 0, CANTOPEN = 14 }; /* of SQLite's result codes */
enum { OPEN_MEMORY = 0x2 | 0x4 }; /* SQLITE_OPEN_READWRITE, SQLITE_OPEN_CREATE */

#define PUBLIC __attribute__((visibility("default")))

/* One line to stderr, as those of the extension's log. */
static void say(const char *zFormat, ...) {
  const char *zLevel = getenv("VERNEUIL_LOG");
  char z[PATH_MAX + 512];
  va_list ap;
  if (zLevel && (!strcasecmp(zLevel, "off") || !strcasecmp(zLevel, "error"))) return;
  va_start(ap, zFormat);
  vsnprintf(z, sizeof z, zFormat, ap);
  va_end(ap);
  dprintf(STDERR_FILENO, "verneuil: level=WARN msg=\"%s\"\n", z);
}

static int wanted(void) {
  const char *z = secure_getenv("VERNEUIL_CONFIG");
  return z && *z;
}

/* A handle of the library, or program, in which an address lies; dlclose() it. NULL: none. */
static void *libraryOf(const void *p) {
  Dl_info info;
  return dladdr(p, &info) ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : 0;
}

/* A function of the library in which an address lies, or of those that it needs. */
static void *inLibrary(const void *p, const char *zName) {
  void *h = libraryOf(p);
  void *x = h ? dlsym(h, zName) : 0;
  if (h) dlclose(h);
  return x;
}

static _Atomic(void *) pKnown; /* an sqlite3_open.. of the library that was called last */

/* The function that the caller would have called without us. SQLite's table of functions, which the
** extension uses, has ours, too: then it is that of the library that was called before. */
static void *realOf(const char *zName, const void *pCaller, const void *pMine) {
  void *x = dlsym(RTLD_NEXT, zName);
  if (!x) x = inLibrary(pCaller, zName);
  if ((!x || x == pMine) && atomic_load(&pKnown)) x = inLibrary(atomic_load(&pKnown), zName);
  return x == pMine ? 0 : x;
}

/* The extension's entry point; NULL: the log has why. */
static void *entryPoint(void) {
  static const char *const azName[] = {"libverneuil_vfs.so", "libverneuil_recorder.so"};
  Dl_info info;
  char zPath[PATH_MAX];
  void *h = 0;
  if (!dladdr((void *)wanted, &info)) return 0;
  const char *zSlash = strrchr(info.dli_fname, '/');
  for (int i = 0; i < 2 && !h; i++) {
    snprintf(zPath, sizeof zPath, "%.*s%s", zSlash ? (int)(zSlash + 1 - info.dli_fname) : 0, info.dli_fname, azName[i]);
    if (access(zPath, F_OK) == 0 && !(h = dlopen(zPath, RTLD_NOW | RTLD_LOCAL))) break;
  }
  void *x = h ? dlsym(h, "sqlite3_verneuilvfs_init") : 0;
  if (!x) say("databases are not replicated: %s", h || access(zPath, F_OK) == 0 ? dlerror() : "no libverneuil_vfs.so beside libverneuil_preload.so");
  return x;
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* recursive by busy */
static _Thread_local int busy;
static _Atomic(void *) pRegistered; /* the library's sqlite3_open_v2 that has the extension */

/* Registers the extension with the library in which pOpen lies, and has it run once: so it is there
** before the database that the program is about to open. */
static void registerWith(void *pOpen) {
  static atomic_int failed;
  int (*xAuto)(void (*)(void)) = inLibrary(pOpen, "sqlite3_auto_extension");
  int (*xUses)(const char *) = inLibrary(pOpen, "sqlite3_compileoption_used");
  int (*xOpen)(const char *, sqlite3 **, int, const char *) = inLibrary(pOpen, "sqlite3_open_v2");
  int (*xClose)(sqlite3 *) = inLibrary(pOpen, "sqlite3_close");
  sqlite3 *db = 0;
  if (failed) return;
  if (!xAuto || !xOpen || !xClose || (xUses && xUses("OMIT_LOAD_EXTENSION"))) {
    failed = 1;
    say("databases are not replicated: this program's SQLite takes no extensions");
    return;
  }
  void *xInit = entryPoint();
  if (!xInit || xAuto((void (*)(void))xInit) != OK) {
    failed = 1;
    return;
  }
  if (xOpen(":memory:", &db, OPEN_MEMORY, 0) != OK) say("the extension could not be registered with SQLite");
  xClose(db);
}

static void prepare(void *pOpen) {
  if (pOpen) atomic_store(&pKnown, pOpen);
  if (atomic_load(&pRegistered) || busy || !pOpen || !wanted()) return;
  busy = 1;
  pthread_mutex_lock(&mu);
  if (!atomic_load(&pRegistered)) {
    registerWith(pOpen);
    atomic_store(&pRegistered, pOpen);
  }
  pthread_mutex_unlock(&mu);
  busy = 0;
}

PUBLIC int sqlite3_open(const char *zName, sqlite3 **pp) {
  int (*x)(const char *, sqlite3 **) = realOf("sqlite3_open", __builtin_return_address(0), (void *)sqlite3_open);
  prepare(x);
  return x ? x(zName, pp) : CANTOPEN;
}

PUBLIC int sqlite3_open16(const void *zName, sqlite3 **pp) {
  int (*x)(const void *, sqlite3 **) = realOf("sqlite3_open16", __builtin_return_address(0), (void *)sqlite3_open16);
  prepare(x);
  return x ? x(zName, pp) : CANTOPEN;
}

PUBLIC int sqlite3_open_v2(const char *zName, sqlite3 **pp, int flags, const char *zVfs) {
  int (*x)(const char *, sqlite3 **, int, const char *) =
      realOf("sqlite3_open_v2", __builtin_return_address(0), (void *)sqlite3_open_v2);
  prepare(x);
  return x ? x(zName, pp, flags, zVfs) : CANTOPEN;
}

/* It forgets extensions. */
PUBLIC int sqlite3_shutdown(void) {
  int (*x)(void) = realOf("sqlite3_shutdown", __builtin_return_address(0), (void *)sqlite3_shutdown);
  atomic_store(&pRegistered, 0);
  return x ? x() : OK;
}

/* ---- modules that bind to their own libraries first ---- */

static void *(*xDlopen)(const char *, int);

/* PHP opens its modules with RTLD_DEEPBIND, by which they do not see what is preloaded. It does
** without that flag where there is none. The call is the last thing that this function does, and
** becomes a jump: so the C library still sees who called (for his RUNPATH). */
PUBLIC void *dlopen(const char *zFile, int flags) {
  if (!xDlopen) xDlopen = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
  return xDlopen(zFile, wanted() ? flags & ~RTLD_DEEPBIND : flags);
}

/* ---- programs that have an SQLite within ---- */

/* Does the program itself have text that only SQLite has? */
static int hasSqlite(struct dl_phdr_info *p, size_t n, void *pFound) {
  static const char z[] = "unable to delete/modify user-function due to active statements";
  (void)n;
  for (int i = 0; i < p->dlpi_phnum; i++) {
    const ElfW(Phdr) *h = &p->dlpi_phdr[i];
    if (h->p_type == PT_LOAD && h->p_flags & PF_R && !(h->p_flags & PF_W) &&
        memmem((const char *)(p->dlpi_addr + h->p_vaddr), h->p_filesz, z, sizeof z - 1))
      *(int *)pFound = 1;
  }
  return 1; /* the program comes first, and nothing else is looked at */
}

__attribute__((constructor)) static void preloadLoad(void) {
  int found = 0;
  char zProgram[PATH_MAX] = "";
  if (!wanted() || dlsym(RTLD_NEXT, "sqlite3_open")) return;
  dl_iterate_phdr(hasSqlite, &found);
  if (!found) return;
  if (readlink("/proc/self/exe", zProgram, sizeof zProgram - 1) < 0) zProgram[0] = 0;
  say("%s has an SQLite of its own linked in, which LD_PRELOAD does not reach: what it opens is not replicated, unless "
      "it loads the extension itself", zProgram);
}
