/* What a replica's reader costs: see host.h. */
#include "host.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Refreshes, as a replica that follows does, until user_version is UNTIL, and prints a line whenever
** it has changed: user_version, Unix time in ns after it was read. (2 would ask for the checkpoint,
** too, which tells of a history that was begun anew.) */
int follow_main(char **a) {
  load(a[0]);
  sqlite3 *db = open_db(a[1], "verneuil_snapshot");
  int64_t last = -1, until = atoll(a[2]);
  const struct timespec pause = {0, 2000000};
  while (last < until) {
    run(db, "pragma verneuil_snapshot_refresh=1");
    int64_t version = ask_number(db, "pragma user_version");
    if (version != last) {
      printf("%lld %lld\n", (long long)version, (long long)unix_ns());
      fflush(stdout);
    }
    last = version;
    nanosleep(&pause, 0);
  }
  sqlite3_close(db);
  return 0;
}

/* Opens URI and runs each SQL once; a line for the opening and for each: microseconds. SQL that
** begins with @ first waits for a line from whoever reads. Memory at the end. */
int query_main(char **a) {
  if (strcmp(a[0], "-")) load(a[0]);
  double t = now_us();
  sqlite3 *db = open_db(a[2], a[1]);
  run(db, "pragma schema_version");
  printf("%.1f\n", now_us() - t);
  fflush(stdout);
  for (int i = 3; a[i]; i++) {
    int waits = a[i][0] == '@';
    if (waits) getchar();
    t = now_us();
    run(db, a[i] + waits);
    printf("%.1f\n", now_us() - t);
    fflush(stdout);
  }
  memory_line("end");
  sqlite3_close(db);
  return 0;
}

/* The same query, with a random ?1, on a local file and on the replica in turns, after both were read
** once as a whole. A line for each of five parts: samples, the median time on each. */
int compare_main(char **a) {
  enum { PARTS = 5, TURN_US = 5000, TURN_MOST = 20, MOST = 200000 };
  load(a[0]);
  sqlite3 *db[2] = {open_db(a[2], "unix"), open_db(a[1], "verneuil_snapshot")};
  sqlite3_stmt *p[2];
  static double aTime[2][MOST];
  for (int i = 0; i < 2; i++) {
    run(db[i], "pragma cache_size=10");
    ask_number(db[i], "select sum(length(s)+length(b)) from t");
    p[i] = prepare(db[i], a[4]);
  }
  int64_t rows = ask_number(db[0], "select max(id) from t");
  double first = now_us();
  step(p[0]);
  int perTurn = (int)(TURN_US / (now_us() - first));
  perTurn = perTurn < 1 ? 1 : perTurn > TURN_MOST ? TURN_MOST : perTurn;
  for (int part = 0; part < PARTS; part++) {
    int n = 0;
    double end = now_us() + atof(a[3]) * 1e6 / PARTS;
    for (int k = part; n + perTurn <= MOST && (n == 0 || now_us() < end); k++) {
      for (int turn = 0; turn < 2; turn++) {
        int side = turn ^ (k & 1);
        for (int i = 0; i < perTurn; i++) {
          double t = now_us();
          sqlite3_bind_int64(p[side], 1, 1 + rand() % rows);
          step(p[side]);
          aTime[side][n + i] = now_us() - t;
        }
      }
      n += perTurn;
    }
    double stock = median(aTime[0], n), ours = median(aTime[1], n);
    printf("%d %.3f %.3f\n", n, stock, ours);
    fflush(stdout);
  }
  for (int i = 0; i < 2; i++) sqlite3_finalize(p[i]), sqlite3_close(db[i]);
  return 0;
}
