/*
** A file of ours in tempdir that nobody else finds, for what does not fit into memory. Go makes it,
** and reads it as its own; the host's thread has it open once more (descriptors.h).
*/
#ifndef VERNEUIL_SPILL_H
#define VERNEUIL_SPILL_H
#include <stdint.h>

typedef struct Spill {
  uintptr_t hFile;                 /* Go's handle; 0: there is no file */
  int fd;                          /* in the host's table */
  int fdGo;                        /* in that of Go's threads */
  uint64_t dev, ino;               /* which file it is */
} Spill;

/* Makes an empty file. An SQLite result code, and why is in the log. */
int spillOpen(Spill *p);

/* Writes and reads all n bytes at iOfst. SQLite result codes. */
int spillWrite(const Spill *p, const void *pBuf, int n, int64_t iOfst);
int spillRead(const Spill *p, void *pBuf, int n, int64_t iOfst);

/* Gives the file up, if there is one. */
void spillClose(Spill *p);

#endif
