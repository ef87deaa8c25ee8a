/*
** Checksums of the changelog's frames.
*/
#ifndef VERNEUIL_CRC32C_H
#define VERNEUIL_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli) of n bytes, as hash/crc32 in Go computes it. Any thread may call it. */
uint32_t crc32c(const void *pData, size_t n);

#endif
