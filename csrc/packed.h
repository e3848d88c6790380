/* packed.h - a record as it stands in an image on disk: without gaps, and without what is derived.
 *
 *    0  the first 72 bytes of the record in memory: commit, digest, used, terms, idle, lengths, handle
 *   72  created_s, authenticated_s, issued_s
 *   84  payload, as long as `lengths` says
 *
 * All that the checksum in the commit word covers lies in two runs: the digest, and everything from `terms` on.
 */
#ifndef SESSILE_PACKED_H
#define SESSILE_PACKED_H

#include "record.h"

#define PACKED_DIGEST 8u
#define PACKED_TERMS 48u
#define PACKED_LENGTHS 60u
#define PACKED_TIMES 72u
#define PACKED_ISSUED 80u
#define PACKED_COMMON 72u
_Static_assert(offsetof(struct record, terms) == PACKED_TERMS && offsetof(struct record, lengths) == PACKED_LENGTHS &&
               offsetof(struct record, next) == PACKED_COMMON, "a packed record begins as one in memory does");

static inline uint32_t packed_word(const uint8_t *packed, unsigned place)
{
    uint32_t word;
    memcpy(&word, packed + place, sizeof word);
    return word;
}

/* Bytes of a packed record with these lengths. */
static inline size_t packed_size(uint32_t lengths)
{
    return SESSILE_IMAGE_HEADER + (size_t)record_payload_length(lengths);
}

/* `lengths`: of the record, read once, its payload checked to lie in bounds. */
static inline void packed_write(uint8_t *packed, const struct record *record, uint32_t lengths)
{
    memcpy(packed, (const void *)record, PACKED_COMMON);
    memcpy(packed + PACKED_LENGTHS, &lengths, sizeof lengths);
    memcpy(packed + PACKED_TIMES, &record->created_s, 8);
    memcpy(packed + PACKED_ISSUED, &record->issued_s, 4);
    memcpy(packed + SESSILE_IMAGE_HEADER, record->payload, record_payload_length(lengths));
}

static inline void packed_read(const uint8_t *packed, struct record *record)
{
    memset((void *)record, 0, RECORD_HEADER);
    memcpy((void *)record, packed, PACKED_COMMON);
    memcpy(&record->created_s, packed + PACKED_TIMES, 8);
    memcpy(&record->issued_s, packed + PACKED_ISSUED, 4);
    memcpy(record->payload, packed + SESSILE_IMAGE_HEADER, record_payload_length(record->lengths));
}

/* Does the checksum of a packed record, which lies wholly in bounds, match? */
static inline bool packed_is_sound(const uint8_t *packed)
{
    uint32_t sum = crc32c(0, packed + PACKED_DIGEST, 32);
    sum = crc32c(sum, packed + PACKED_TERMS, packed_size(packed_word(packed, PACKED_LENGTHS)) - PACKED_TERMS);
    return packed_word(packed, 0) == sum;
}

#endif
