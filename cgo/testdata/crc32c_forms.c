/* The forms of crc32c.c give the same, for every length and alignment. Prints how many it compared. */
#include "../crc32c.c"
#include <stdio.h>

int main(void) {
  static unsigned char a[5000];
  unsigned x = 1, n = 0;
  for (size_t i = 0; i < sizeof a; i++) a[i] = (unsigned char)((x = x * 1103515245u + 12345u) >> 16);
  if (crc32c("123456789", 9) != 0xe3069283u) return puts("not CRC-32C"), 1;
  for (size_t len = 0; len + 16 <= sizeof a; len += len < 1700 ? 1 : 97)
    for (size_t at = 0; at < 16; at += 5, n++) {
      uint32_t want = ~crcTable(~0u, a + at, len);
      if (crc32c(a + at, len) != want) return printf("crc32c: offset %zu, %zu bytes\n", at, len), 1;
#if defined(__x86_64__)
      if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") && ~crcSse(~0u, a + at, len) != want)
        return printf("crcSse: offset %zu, %zu bytes\n", at, len), 1;
#elif defined(__aarch64__)
      if (~crcArm(~0u, a + at, len) != want) return printf("crcArm: offset %zu, %zu bytes\n", at, len), 1;
#endif
    }
  printf("%u\n", n);
  return 0;
}
