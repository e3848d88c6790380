/* crc32c.h - the checksum of records and of images: CRC-32C (Castagnoli polynomial, RFC 3720 B.4).
 *
 * Every function may be called from any thread, after fork() and from a signal handler: none takes a lock or allocates.
 */
#ifndef SESSILE_CRC32C_H
#define SESSILE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The checksum of these bytes after those whose checksum is `seed_crc` (0: none): crc32c(crc32c(0, a), b) is
 * crc32c(0, ab). No alignment is needed; NULL is allowed when `length` is 0. */
uint32_t crc32c(uint32_t seed_crc, const void *data, size_t length);

/* The implementations. The best that this processor has is chosen when the code is loaded. */
enum crc32c_engine {
    CRC32C_PORTABLE,
    CRC32C_SSE42,             /* x86-64 with SSE 4.2 */
    CRC32C_ARMV8,             /* AArch64 with the CRC instructions */
    CRC32C_ENGINE_COUNT
};

enum crc32c_engine crc32c_engine(void);

/* For tests: uses that engine in this process from now on; false, and nothing changed, if this machine lacks it. */
bool crc32c_engine_select(enum crc32c_engine engine);

#endif
