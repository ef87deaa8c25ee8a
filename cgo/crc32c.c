/*
** CRC-32C (Castagnoli), as hash/crc32 in Go computes it. By instruction where the
** processor has one (about 8 GB/s), else by table.
*/
#include "crc32c.h"
#include <stddef.h>
#include <string.h>

static uint32_t crcTable(uint32_t crc, const unsigned char *p, size_t n) {
  static uint32_t t[256];
  if (!t[255]) { /* idempotent: threads may fill it at once, t[255] last */
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
      t[i] = c;
    }
  }
  while (n--) crc = crc >> 8 ^ t[(crc ^ *p++) & 0xff];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crcSse(uint32_t crc, const unsigned char *p, size_t n) {
  unsigned long long c = crc;
  for (; n >= 8; n -= 8, p += 8) {
    unsigned long long v;
    memcpy(&v, p, 8);
    c = __builtin_ia32_crc32di(c, v);
  }
  crc = (uint32_t)c;
  while (n--) crc = __builtin_ia32_crc32qi(crc, *p++);
  return crc;
}
#endif

uint32_t crc32c(const void *pData, size_t n) {
  const unsigned char *p = pData;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~crcSse(~0u, p, n);
#endif
  return ~crcTable(~0u, p, n);
}
