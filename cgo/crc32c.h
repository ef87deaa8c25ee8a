#ifndef VERNEUIL_CRC32C_H
#define VERNEUIL_CRC32C_H
#include <stddef.h>
#include <stdint.h>
uint32_t crc32c(const void *pData, size_t n);
#endif
