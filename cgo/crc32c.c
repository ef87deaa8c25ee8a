/*
** CRC-32C (Castagnoli): see crc32c.h. By an instruction if the processor has one, else by a table.
*/
#include "crc32c.h"
#include <stddef.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

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
/* The instruction takes three cycles, but one can begin in each cycle: so there are three lanes,
** and the checksum of a page takes half as long. */
#define LANE 256
#define LANE_SHIFT 0xb9e02b86u /* x^(8*LANE-33) mod P, bit 31 being x^0 */

/* Given the checksum of some bytes, that of the same bytes and LANE zero bytes. The product lacks a
** factor x^32, which the instruction supplies. */
#define SSE __attribute__((target("sse4.2,pclmul")))

SSE static unsigned long long pastLane(unsigned long long crc) {
  __m128i shift = _mm_cvtsi32_si128((int)LANE_SHIFT);
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), shift, 0);
  return _mm_crc32_u64(0, (unsigned long long)_mm_cvtsi128_si64(product));
}

SSE static uint32_t crcSse(uint32_t crc, const unsigned char *p, size_t n) {
  unsigned long long a = crc, v[3];
  for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
    unsigned long long b = 0, c = 0;
    for (int i = 0; i < LANE; i += 8) {
      memcpy(&v[0], p + i, 8);
      memcpy(&v[1], p + LANE + i, 8);
      memcpy(&v[2], p + 2 * LANE + i, 8);
      a = _mm_crc32_u64(a, v[0]);
      b = _mm_crc32_u64(b, v[1]);
      c = _mm_crc32_u64(c, v[2]);
    }
    a = pastLane(pastLane(a) ^ b) ^ c;
  }
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(v, p, 8);
    a = _mm_crc32_u64(a, v[0]);
  }
  crc = (uint32_t)a;
  while (n--) crc = _mm_crc32_u8(crc, *p++);
  return crc;
}
#elif defined(__aarch64__)
/* arm_acle.h has these only if all of the file is for processors that have them. */
#define CRC __attribute__((target("+crc")))
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif

CRC static uint32_t crcArm(uint32_t crc, const unsigned char *p, size_t n) {
  unsigned long long v;
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(&v, p, 8);
    __asm__("crc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(v));
  }
  for (; n; n--, p++) __asm__("crc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*p));
  return crc;
}
#endif

uint32_t crc32c(const void *pData, size_t n) {
  const unsigned char *p = pData;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
    return ~crcSse(~0u, p, n);
#elif defined(__aarch64__)
  if (getauxval(AT_HWCAP) & HWCAP_CRC32) return ~crcArm(~0u, p, n);
#endif
  return ~crcTable(~0u, p, n);
}
