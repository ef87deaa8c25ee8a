/*
** What passes between C and Go; apart from the declarations of Go's functions
** (goexports.h), because cgo declares those itself.
*/
#ifndef VERNEUIL_GOEXPORTS_TYPES_H
#define VERNEUIL_GOEXPORTS_TYPES_H

typedef struct VerneuilSettings {
  int replicate;            /* there is a spooling directory */
  int replicaFiles;         /* replica_files: a file that names a source opens as a replica */
  int targets;              /* how many there are to send to */
  int validate;             /* VERNEUIL_VALIDATE: check every commit (tests) */
  int timeoutMs;            /* store_timeout_ms: the flush pragma answers 0 after it */
  int durableMs;            /* durable_timeout_ms: a durable commit waits no longer */
  unsigned long long purpose; /* of the targets, as a state page has it; 0: not known */
  unsigned permissions;     /* of the spooling directory, if we make it */
  char *zRoot;              /* the spooling directory, malloc'd; NULL if none */
  char **azInclude;         /* patterns of make_default, malloc'd, as are its strings; NULL at the end; NULL if none */
  char **azExclude;         /* likewise */
  char *zError;             /* what is wrong with the configuration; NULL if nothing */
} VerneuilSettings;

#endif
