/*
** Numbers in bytes, most significant first, as SQLite's files have them.
*/
#ifndef VERNEUIL_BYTES_H
#define VERNEUIL_BYTES_H
#include <stdint.h>

static inline uint32_t get4(const unsigned char *a) {
  return (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
}

static inline uint64_t get8(const unsigned char *a) {
  return (uint64_t)get4(a) << 32 | get4(a + 4);
}

#endif
