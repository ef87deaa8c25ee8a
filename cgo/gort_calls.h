/*
** What the host's threads call of Go (gort_calls.c), for the goroutines that run it (serve.go).
*/
#ifndef VERNEUIL_GORT_CALLS_H
#define VERNEUIL_GORT_CALLS_H

/* A Go function, as C knows it: of its arguments and results, one after the other. */
typedef void (*GoEntry)(void *);

typedef struct GoCall {
  GoEntry xGo;
  void *pArg;
  int isLast;                      /* nobody waits for the next call */
} GoCall;

/* Waits for a call, which the caller is to run. NULL: enough others wait. */
GoCall *gortTake(void);

/* It was run: it is no more. */
void gortDone(GoCall *p);

#endif
