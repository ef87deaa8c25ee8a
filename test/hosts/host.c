/*
** A host for the tests: a program that uses SQLite and loads the extension, and can
** fork. It reads lines as the sqlite3 shell does: SQL, of which it prints the first
** column of each row, or "error: ...", and
**
**   .open NAME       closes the database and opens another; a file: URI may name a VFS
**   .close
**   .discard         closes the files of the connection, main's and its journal, and leaves the
**                    connection itself, as Ruby's sqlite3 does with an inherited one
**   .print TEXT
**   .fork            the child reads the lines that follow, up to its .leave; the parent
**                    waits for it, and prints how it ended. With keep it goes on with its
**                    parent's connection
**   .leave N         _exit(N): no atexit, no flush
**   .exit N          exit(N)
**   .storm N NAME    forks N children, one after the other, while two threads do inserts into
**                    the open database, and open and close connections. A child does one
**                    insert into the other database NAME: of this one it has inherited
**                    SQLite's notes of the threads' locks, which nobody clears there.
**                    Prints what children had to complain about, and how many had not
**   .churn N         likewise, but the children only _exit
**   .exec PROGRAM    becomes that program, which gets the same argument
**   .daemon          the child of a child, in a session of its own, reads the lines that
**                    follow; this process ends at once, as a daemon's starter does
**   .signal N        sends itself N signals while it inserts; prints how many its handler
**                    took, which uses much stack, on which it must find itself alone
**   .children N      blocks SIGCHLD, forks N children that end at once, and waits for the signal of
**                    each; prints how many came
**   .thread N SQL    runs SQL on a connection of its own in a thread with a stack of N bytes
**   .crowd N NAME    N threads open the database NAME at once, read it and close it
**   .closefrom N NAME    closes all descriptors from N on, and opens the database NAME 16 times
**   .begin NAME [SQL]    a thread opens a database, runs SQL on it, in which it may be cancelled at
**                    any moment, and closes it
**   .cancel          cancels the thread that was begun last
**   .begun           prints how many of those threads have not ended
**   .join            waits for all of them
**   .load N          N threads load the extension at once, and unload it
**   .copy LIBRARY    loads the extension from another file, and says how that went
**   .restart         shuts SQLite down, initializes it, and loads the extension again
**   .unregister NAME a VFS
**   .limit NAME [N]  setrlimit, NAME being fsize, nofile, nproc or as; prints the limit without N
**   .alarms N NAME SQL   opens a database, runs SQL on it and closes it N times, while a timer's
**                    handler, which uses much stack, interrupts it; prints whether it was called,
**                    and how often on another stack than the thread's
**   .handle          counts SIGPIPE and SIGXFSZ instead of dying of them; prints how many came
**   .stderr [FILE]   appends to the file what goes to stderr; without it that is a broken pipe
**   .seccomp E N...  from now on the system calls with the numbers N fail with errno E
**   .user N          setuid
**   .chdir PATH
**
** Usage: host LIBRARY [auto]
** With auto the extension is not loaded by SQLite: its entry point becomes an auto-extension.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sqlite3-binding.h"

#define LINE_BYTES_MAX 65536

/* A child that takes longer than this hangs: it needs some ms. (Some do, as with stock SQLite.) */
#define CHILD_SECONDS 10
#define BUSY_MS 10000

static char name[4096]; /* of the database that is open */
static const char *library;
static sqlite3 *db;

static void die(const char *what, const char *why) {
  fprintf(stderr, "host: %s: %s\n", what, why);
  exit(70);
}

static sqlite3 *openDatabase(const char *z) {
  sqlite3 *p = 0;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
  if (sqlite3_open_v2(z, &p, flags, 0) != SQLITE_OK) {
    printf("error: open %s: %s\n", z, sqlite3_errmsg(p));
    sqlite3_close(p);
    return 0;
  }
  sqlite3_busy_timeout(p, BUSY_MS);
  return p;
}

static void closeDatabase(void) {
  if (sqlite3_close(db) != SQLITE_OK) printf("error: close: %s\n", sqlite3_errmsg(db));
  db = 0;
}

static void discardDatabase(void) {
  int ops[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
  sqlite3_db_release_memory(db);
  for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
    sqlite3_file *file = 0;
    if (!sqlite3_file_control(db, 0, ops[i], &file) && file && file->pMethods) file->pMethods->xClose(file);
  }
  db = 0;
}

static void *loadExtension(void *unused) {
  sqlite3 *p = 0;
  char *zErr = 0;
  (void)unused;
  if (sqlite3_open(":memory:", &p) != SQLITE_OK) die("open", sqlite3_errmsg(p));
  sqlite3_db_config(p, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)0);
  if (sqlite3_load_extension(p, library, 0, &zErr) != SQLITE_OK) die(library, zErr);
  sqlite3_close(p);
  return 0;
}

static void runSQL(const char *zSQL) {
  sqlite3_stmt *p = 0;
  int rc = sqlite3_prepare_v2(db, zSQL, -1, &p, 0);
  if (rc == SQLITE_OK) {
    while ((rc = sqlite3_step(p)) == SQLITE_ROW) {
      const char *z = (const char *)sqlite3_column_text(p, 0);
      printf("%s\n", z ? z : "");
    }
    rc = sqlite3_finalize(p);
  }
  if (rc != SQLITE_OK) printf("error: %s\n", sqlite3_errmsg(db));
}

/* ---- fork ---- */

static const char *ending(int status) {
  static char z[40];
  if (WIFEXITED(status)) snprintf(z, sizeof z, "exit %d", WEXITSTATUS(status));
  else snprintf(z, sizeof z, "signal %d", WTERMSIG(status));
  return z;
}

/* The child of a fork goes on reading; the parent comes back when it has ended. */
static void forkAndWait(int isKept) {
  int status = 0;
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) die("fork", "failed");
  if (pid == 0) {
    alarm(60 * CHILD_SECONDS);
    if (!isKept) db = 0; /* the parent's: SQLite forbids its use here */
    return;
  }
  waitpid(pid, &status, 0);
  printf("child: %s\n", ending(status));
}

static atomic_int stop, written, inserts; /* inserts per connection */

/* Inserts, on a connection that is now and then opened anew. */
static void *writer(void *unused) {
  (void)unused;
  while (!stop) {
    sqlite3 *p = openDatabase(name);
    for (int i = 0; p && !stop && i < inserts; i++) {
      int rc = sqlite3_exec(p, "insert into t(b) values(randomblob(300))", 0, 0, 0);
      if (rc != SQLITE_OK && rc != SQLITE_BUSY) printf("writer: %s\n", sqlite3_errmsg(p));
      written++;
    }
    sqlite3_close(p);
  }
  return 0;
}

/* A child hangs: say in which library, the C library aside. */
static void onAlarm(int signal) {
  void *a[64];
  int n = backtrace(a, 64);
  (void)signal;
  for (int i = 1; i < n; i++) {
    Dl_info info;
    if (!dladdr(a[i], &info) || !info.dli_fname) continue;
    const char *z = strrchr(info.dli_fname, '/');
    z = z ? z + 1 : info.dli_fname;
    if (!strncmp(z, "libc.", 5) || !strncmp(z, "libpthread", 10) || !strncmp(z, "ld-", 3)) continue;
    dprintf(STDOUT_FILENO, "child: hangs in %s\n", z);
    break;
  }
  _exit(3);
}

static int insertInChild(const char *zName) {
  signal(SIGALRM, onAlarm);
  alarm(CHILD_SECONDS);
  sqlite3 *p = openDatabase(zName);
  if (!p) return 1;
  int rc = sqlite3_exec(p, "insert into t(b) values('child')", 0, 0, 0);
  if (rc != SQLITE_OK) dprintf(STDOUT_FILENO, "child: %s\n", sqlite3_errmsg(p));
  return sqlite3_close(p) != SQLITE_OK || rc != SQLITE_OK;
}

/* Forks n children, one after the other, while two threads write. They insert into the
** database zOther, if there is one. */
static void storm(int n, const char *zOther) {
  void *a[1];
  pthread_t t[2];
  int done = 0;
  backtrace(a, 1); /* loads what it needs now: in a child that would take locks */
  stop = 0;
  inserts = zOther ? 300 : 5;
  for (int i = 0; i < 2; i++)
    if (pthread_create(&t[i], 0, writer, 0)) die("pthread_create", "failed");
  for (int i = 0; i < n; i++) {
    int status = 0, before = written;
    fflush(stdout);
    while (zOther && written < before + 3) sched_yield();
    pid_t pid = fork();
    if (pid < 0) die("fork", "failed");
    if (pid == 0) _exit(zOther ? insertInChild(zOther) : 0);
    waitpid(pid, &status, 0);
    if (status) printf("child: %s\n", ending(status));
    else done++;
  }
  stop = 1;
  for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
  printf("done: %d\n", done);
}

/* ---- what else hosts do ---- */

static void daemonize(void) {
  fflush(stdout);
  if (fork()) _exit(0);
  setsid();
  if (fork()) _exit(0);
  db = 0;
}

static atomic_int handled, strayed;
static pthread_t self;

/* Not on a goroutine's stack, then: there it would write over others' memory. */
static void onSignal(int signal) {
  volatile char stack[256 << 10];
  (void)signal;
  for (size_t i = 0; i < sizeof stack; i += 512) stack[i] = 1;
  handled++;
  if (!pthread_equal(pthread_self(), self)) strayed++;
}

static void signalMyself(int n) {
  struct sigaction action = {.sa_handler = onSignal, .sa_flags = SA_RESTART};
  self = pthread_self();
  sigaction(SIGUSR1, &action, 0);
  for (int i = 0; i < n; i++) {
    if (sqlite3_exec(db, "insert into t(b) values(randomblob(300))", 0, 0, 0) != SQLITE_OK) printf("error: %s\n", sqlite3_errmsg(db));
    kill(getpid(), SIGUSR1);
  }
  printf("handled %d, on other threads %d\n", handled, strayed);
}

static void awaitChildren(int n) {
  struct timespec bound = {.tv_sec = CHILD_SECONDS};
  int came = 0;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &set, 0);
  fflush(stdout);
  for (int i = 0; i < n && came == i; i++) {
    pid_t pid = fork();
    if (pid < 0) die("fork", "failed");
    if (pid == 0) _exit(0);
    if (sigtimedwait(&set, 0, &bound) == SIGCHLD) came++;
    waitpid(pid, 0, 0);
  }
  printf("came %d\n", came);
}

static volatile sig_atomic_t alarms, strangeStacks;
static const char *stackBase;

static void onTimer(int signal) {
  volatile char stack[256 << 10];
  (void)signal;
  alarms++;
  const char *z = __builtin_frame_address(0);
  if (z > stackBase || z < stackBase - (4 << 20)) strangeStacks++;
  else
    for (size_t i = 0; i < sizeof stack; i += 512) stack[i] = 1;
}

static void interrupt(int n, char *zName) {
  char *zSQL = strchr(zName, ' ');
  struct sigaction action = {.sa_handler = onTimer, .sa_flags = SA_RESTART}, was;
  struct itimerval timer = {{0, 100}, {0, 100}};
  *zSQL++ = 0;
  stackBase = __builtin_frame_address(0);
  sigaction(SIGALRM, &action, &was);
  setitimer(ITIMER_REAL, &timer, 0);
  for (int i = 0; i < n; i++) {
    sqlite3 *p = openDatabase(zName);
    if (!p) break;
    if (sqlite3_exec(p, zSQL, 0, 0, 0) != SQLITE_OK) printf("error: %s\n", sqlite3_errmsg(p));
    sqlite3_close(p);
  }
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, 0);
  printf("called %d, on other stacks %d\n", alarms > 0, (int)strangeStacks);
}

static void countSignal(int signal) {
  (void)signal;
  handled++;
}

static void handleSignals(void) {
  printf("%d\n", handled);
  signal(SIGPIPE, countSignal);
  signal(SIGXFSZ, countSignal);
}

static void redirectStderr(const char *zFile) {
  int a[2];
  if (*zFile) {
    a[1] = open(zFile, O_WRONLY | O_APPEND);
  } else if (!pipe(a)) {
    close(a[0]);
  }
  if (dup2(a[1], STDERR_FILENO) < 0) printf("error: .stderr\n");
  close(a[1]);
}

static void filterCalls(const char *z) {
  struct sock_filter a[256];
  struct sock_fprog program = {0, a};
  char *zNext;
  int error = strtol(z, &zNext, 10);
  a[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  while (*zNext && program.len < 250) {
    long nr = strtol(zNext, &zNext, 10);
    a[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
    a[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
  }
  a[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
    printf("error: seccomp\n");
}

static void *runInThread(void *zSQL) {
  sqlite3 *p = openDatabase(name);
  if (p && sqlite3_exec(p, zSQL, 0, 0, 0) != SQLITE_OK) printf("error: %s\n", sqlite3_errmsg(p));
  sqlite3_close(p);
  return 0;
}

static void smallThread(int nStack, char *zSQL) {
  pthread_attr_t attributes;
  pthread_t t;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, nStack);
  if (pthread_create(&t, &attributes, runInThread, zSQL)) die("pthread_create", "failed");
  pthread_join(t, 0);
}

static pthread_t aBegun[16]; /* that were begun, and not waited for */
static int nBegun;

static void *runBegun(void *zLine) {
  char *zSQL = strchr(zLine, ' ');
  if (zSQL) *zSQL++ = 0;
  sqlite3 *p = openDatabase(zLine);
  if (p && zSQL) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0);
    if (sqlite3_exec(p, zSQL, 0, 0, 0) != SQLITE_OK) printf("error: %s\n", sqlite3_errmsg(p));
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, 0);
  }
  sqlite3_close(p);
  free(zLine);
  return 0;
}

static void begin(const char *zLine) {
  if (nBegun == 16) die(".begin", "too many");
  if (pthread_create(&aBegun[nBegun++], 0, runBegun, strdup(zLine))) die("pthread_create", "failed");
}

static void printBegun(void) {
  for (int i = nBegun; i-- > 0;)
    if (!pthread_tryjoin_np(aBegun[i], 0)) aBegun[i] = aBegun[--nBegun];
  printf("%d\n", nBegun);
}

static void joinBegun(void) {
  while (nBegun) pthread_join(aBegun[--nBegun], 0);
}

static void closeFrom(int fd, const char *zName) {
  for (; fd < 1024; fd++) close(fd);
  for (int i = 0; i < 16; i++)
    if (sqlite3_exec(openDatabase(zName), "select * from sqlite_master", 0, 0, 0) != SQLITE_OK) die(zName, "cannot be read");
}

static pthread_barrier_t crowd;

static void *runInCrowd(void *zSQL) {
  pthread_barrier_wait(&crowd);
  return runInThread(zSQL);
}

static void crowded(int n, const char *zName) {
  pthread_t a[16];
  if (n > 16) die(".crowd", "too many");
  snprintf(name, sizeof name, "%s", zName);
  pthread_barrier_init(&crowd, 0, n);
  for (int i = 0; i < n; i++)
    if (pthread_create(&a[i], 0, runInCrowd, "select count(*) from sqlite_master")) die("pthread_create", "failed");
  for (int i = 0; i < n; i++) pthread_join(a[i], 0);
}

static void loadInThreads(int n) {
  pthread_t a[16];
  if (n > 16) die(".load", "too many");
  for (int i = 0; i < n; i++)
    if (pthread_create(&a[i], 0, loadExtension, 0)) die("pthread_create", "failed");
  for (int i = 0; i < n; i++) {
    pthread_join(a[i], 0);
    void *p = dlopen(library, RTLD_NOW); /* there it stays, however often it is closed */
    if (!p || dlclose(p) || dlclose(p)) printf("error: %s\n", dlerror());
  }
}

static void *entryPoint(void) {
  void *p = dlopen(library, RTLD_NOW);
  void *pInit = p ? dlsym(p, "sqlite3_verneuilvfs_init") : 0;
  if (!pInit) die(library, dlerror());
  return pInit;
}

static void loadCopy(const char *zLibrary) {
  sqlite3 *p = 0;
  char *zErr = 0;
  sqlite3_open(":memory:", &p);
  sqlite3_db_config(p, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)0);
  int rc = sqlite3_load_extension(p, zLibrary, 0, &zErr);
  printf("%s\n", rc == SQLITE_OK ? "loaded" : zErr);
  sqlite3_close(p);
}

static void restart(void) {
  closeDatabase();
  if (sqlite3_shutdown() != SQLITE_OK || sqlite3_initialize() != SQLITE_OK) die("sqlite3_shutdown", "failed");
  loadExtension(0);
}

static void limit(const char *z) {
  static const struct {
    const char *z;
    int which;
  } a[] = {{"fsize", RLIMIT_FSIZE}, {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"as", RLIMIT_AS}};
  int which = -1;
  for (size_t i = 0; i < sizeof a / sizeof *a; i++)
    if (!strncmp(z, a[i].z, strlen(a[i].z))) which = a[i].which;
  struct rlimit r;
  getrlimit(which, &r);
  if (!strchr(z, ' ')) {
    printf("%lld\n", (long long)r.rlim_cur);
    return;
  }
  r.rlim_cur = strtoull(strchr(z, ' ') + 1, 0, 0);
  if (setrlimit(which, &r)) printf("error: setrlimit\n");
}

/* ---- lines ---- */

/* One byte at a time, so that parent and child can share the input. */
static int readLine(char *z, size_t nMax) {
  size_t n = 0;
  while (n + 1 < nMax) {
    ssize_t got = read(STDIN_FILENO, z + n, 1);
    if (got <= 0) return 0;
    if (z[n] == '\n') break;
    n++;
  }
  z[n] = 0;
  return 1;
}

static const char *argument(const char *zLine, const char *zCommand) {
  size_t n = strlen(zCommand);
  if (strncmp(zLine, zCommand, n) || (zLine[n] && zLine[n] != ' ')) return 0;
  return zLine[n] ? zLine + n + 1 : zLine + n;
}

static void runLine(const char *zLine) {
  const char *z;
  if ((z = argument(zLine, ".open"))) {
    closeDatabase();
    snprintf(name, sizeof name, "%s", z);
    db = openDatabase(name);
  } else if (argument(zLine, ".close")) {
    closeDatabase();
  } else if (argument(zLine, ".discard")) {
    discardDatabase();
  } else if ((z = argument(zLine, ".print"))) {
    printf("%s\n", z);
  } else if ((z = argument(zLine, ".fork"))) {
    forkAndWait(!strcmp(z, "keep"));
  } else if ((z = argument(zLine, ".leave"))) {
    fflush(stdout);
    _exit(atoi(z));
  } else if ((z = argument(zLine, ".exit"))) {
    exit(atoi(z));
  } else if ((z = argument(zLine, ".storm"))) {
    storm(atoi(z), strchr(z, ' ') ? strchr(z, ' ') + 1 : 0);
  } else if ((z = argument(zLine, ".churn"))) {
    storm(atoi(z), 0);
  } else if ((z = argument(zLine, ".exec"))) {
    fflush(stdout);
    execl(z, z, library, (char *)0);
    die(z, "cannot be executed");
  } else if (argument(zLine, ".daemon")) {
    daemonize();
  } else if ((z = argument(zLine, ".closefrom"))) {
    closeFrom(atoi(z), strchr(z, ' ') + 1);
  } else if ((z = argument(zLine, ".signal"))) {
    signalMyself(atoi(z));
  } else if ((z = argument(zLine, ".children"))) {
    awaitChildren(atoi(z));
  } else if ((z = argument(zLine, ".thread"))) {
    smallThread(atoi(z), strchr(z, ' ') + 1);
  } else if ((z = argument(zLine, ".crowd"))) {
    crowded(atoi(z), strchr(z, ' ') + 1);
  } else if ((z = argument(zLine, ".begin"))) {
    begin(z);
  } else if (argument(zLine, ".cancel")) {
    pthread_cancel(aBegun[nBegun - 1]);
  } else if (argument(zLine, ".begun")) {
    printBegun();
  } else if (argument(zLine, ".join")) {
    joinBegun();
  } else if ((z = argument(zLine, ".load"))) {
    loadInThreads(atoi(z));
  } else if ((z = argument(zLine, ".copy"))) {
    loadCopy(z);
  } else if (argument(zLine, ".restart")) {
    restart();
  } else if ((z = argument(zLine, ".unregister"))) {
    sqlite3_vfs_unregister(sqlite3_vfs_find(z));
  } else if ((z = argument(zLine, ".limit"))) {
    limit(z);
  } else if ((z = argument(zLine, ".alarms"))) {
    interrupt(atoi(z), strchr(z, ' ') + 1);
  } else if (argument(zLine, ".handle")) {
    handleSignals();
  } else if ((z = argument(zLine, ".stderr"))) {
    redirectStderr(z);
  } else if ((z = argument(zLine, ".seccomp"))) {
    filterCalls(z);
  } else if ((z = argument(zLine, ".user"))) {
    if (setuid(atoi(z))) printf("error: setuid\n");
  } else if ((z = argument(zLine, ".chdir"))) {
    if (chdir(z)) printf("error: chdir\n");
  } else {
    runSQL(zLine);
  }
}

int main(int argc, char **argv) {
  static char line[LINE_BYTES_MAX];
  if (argc != 2 && argc != 3) die("usage", "host LIBRARY [auto]");
  library = argv[1];
  if (argc == 2) loadExtension(0);
  else if (sqlite3_auto_extension((void (*)(void))entryPoint()) != SQLITE_OK) die("sqlite3_auto_extension", "failed");
  while (readLine(line, sizeof line)) {
    runLine(line);
    fflush(stdout);
  }
  closeDatabase();
  return 0;
}
