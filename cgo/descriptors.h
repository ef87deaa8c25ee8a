/*
** Descriptors of ours (descriptors.c).
*/
#ifndef VERNEUIL_DESCRIPTORS_H
#define VERNEUIL_DESCRIPTORS_H
#include <stddef.h>
#include <sys/stat.h>

/* This thread of ours, and those that it makes, leave the host's table of descriptors for
** one of their own, in which there is nothing. Once, before anything of Go's is open. */
void descriptorsLeave(void);

/* A file that a thread of ours has open, and which it is. */
typedef struct Ours {
  int fd;                          /* in our table */
  dev_t dev;
  ino_t ino;
} Ours;

/* On a thread of ours: describes fd, which stays open. 0, or -1. */
int descriptorsNote(int fd, Ours *p);

/* On a thread of the host's, or of a forked child's: opens the file once more. What is opened
** has been proved to be that file. The descriptor, above 2, or -1. */
int descriptorsOpen(const Ours *p, int flags);

/* Is fd, in the table of this thread, that file? The host may have closed what we had there,
** and have another under the number. */
int descriptorsProve(int fd, const Ours *p);

/* 1: threads of ours have a table of their own; 0: they share the host's. */
int descriptorsSeparate(void);

/* Makes the thread that writes for ours; on a thread of the host's, before descriptorsLeave. 0,
** or -1 where there can be none. */
int descriptorsScribe(void);

/* Writes to the host's stderr, whatever that is now, from a thread of ours. */
void descriptorsSay(const char *z, size_t n);

#endif
