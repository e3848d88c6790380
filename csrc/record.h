/* record.h - the bytes of one record and its commit word.
 *
 *   0  commit      {LIVE:1 | version:31 | crc32c:32}; not LIVE: 0 = clean slot, 1 = dirty (to be wiped)
 *   8  digest      32 bytes
 *  40  used        last_used_ms:44 | proven:1 | rotates:16   one aligned store renews; not under the checksum
 *  48  terms       absolute_ms:44 | kind:3 | default_idle:1 | default_absolute:1 | has_parent:1 | has_device:1 | rotations:13
 *  56  idle        in 10 ms
 *  60  lengths     payload:21 | owner:8
 *  64  handle      a RETIRED record keeps its session's, for events
 *  72  next, prev  wheel or list, derived; not under the checksum. In a free slot `next` links free slots.
 *  80  created_s   84 authenticated_s (0: never)
 *  88  lsn         shard's sequence of writes at this one; not under the checksum
 *  92  issued_s    when this id was given
 *  96  payload     [parent digest 32] [owner] [device length u16, device] fields
 *
 * A record is immutable but for `used`, `next`, `prev` and its promotion (R5): an update writes a new slot, commits it, then frees the old.
 *
 * R1  A slot is valid only while its commit word has LIVE set and the checksum matches; the store of that word, aligned
 *     and after all else, is the commit.
 * R2  version: new = old + 1 modulo 2^31, compared by signed difference. Two LIVE slots of one digest are v and v + 1.
 * R3  A slot whose commit word is 0 has been wiped (but for `next`); dirty slots are the only ones that need a wipe.
 * R4  kind PENDING is valid only if the record of its parent is RETIRED and names it.
 * R5  PENDING becomes SESSION in place, by one aligned store of `terms`; the checksum is the same for both.
 */
#ifndef SESSILE_RECORD_H
#define SESSILE_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "crc32c.h"
#include "digest.h"
#include "sessile.h"

enum record_kind { RECORD_SESSION = 1, RECORD_PENDING = 2, RECORD_RETIRED = 3 };

struct record {
    _Atomic uint64_t commit;
    uint8_t digest[32];
    _Atomic uint64_t used;
    uint64_t terms;
    uint32_t idle;
    uint32_t lengths;
    uint64_t handle;
    _Atomic uint32_t next, prev;
    uint32_t created_s, authenticated_s;
    uint32_t lsn;
    uint32_t issued_s;
    uint8_t payload[];
};

#define RECORD_HEADER 96u
_Static_assert(sizeof(struct record) == RECORD_HEADER, "the header of a record is 96 bytes");
_Static_assert(offsetof(struct record, used) == 40 && offsetof(struct record, next) == 72 &&
               offsetof(struct record, issued_s) == 92, "fields of a record lie where the drawing says");

#define RECORD_LIVE ((uint64_t)1 << 63)
#define RECORD_DIRTY ((uint64_t)1)
#define RECORD_VERSION_MASK 0x7fffffffu
#define RECORD_TIME_MASK (((uint64_t)1 << 44) - 1)
#define RECORD_PROVEN ((uint64_t)1 << 44)
#define RECORD_DEFAULT_IDLE ((uint64_t)1 << 47)
#define RECORD_DEFAULT_ABSOLUTE ((uint64_t)1 << 48)
#define RECORD_HAS_PARENT ((uint64_t)1 << 49)
#define RECORD_HAS_DEVICE ((uint64_t)1 << 50)
#define RECORD_PAYLOAD_MAX (SESSILE_FIELDS_MAX + SESSILE_DEVICE_MAX + 2u + SESSILE_OWNER_MAX + 32u)
#define RECORD_IDLE_STEP_MS 10
#define RECORD_ROTATIONS 8192u
#define RECORD_ROTATES 65536u

/* Payload of a RETIRED record: child's digest, nonce (zeroes: it does not forward), end of the drain (0: not begun). */
struct retired {
    uint8_t child[32];
    uint8_t nonce[32];
    uint64_t drain_until_ms;
};
_Static_assert(sizeof(struct retired) == 72, "no padding in what is stored");

/* Keeps the compiler from moving stores across; a killed thread leaves a prefix of its program order, so no more is
 * needed against crashes. Order between living threads comes from the shard's lock. */
static inline void record_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static inline bool record_is_live(uint64_t commit)
{
    return (commit & RECORD_LIVE) != 0;
}

static inline uint32_t record_version(uint64_t commit)
{
    return (uint32_t)(commit >> 32) & RECORD_VERSION_MASK;
}

static inline uint64_t record_commit(uint32_t version, uint32_t checksum)
{
    return RECORD_LIVE | (uint64_t)(version & RECORD_VERSION_MASK) << 32 | checksum;
}

/* Is version a later than b (R2)? */
static inline bool record_later(uint32_t a, uint32_t b)
{
    return (int32_t)((a - b) << 1) > 0;
}

static inline enum record_kind record_kind(uint64_t terms)
{
    return (enum record_kind)(terms >> 44 & 7);
}

static inline uint64_t record_of_kind(uint64_t terms, enum record_kind kind)
{
    return (terms & ~((uint64_t)7 << 44)) | (uint64_t)kind << 44;
}

static inline uint64_t record_terms(int64_t absolute_ms, enum record_kind kind, uint64_t flags, uint32_t rotations)
{
    return ((uint64_t)absolute_ms & RECORD_TIME_MASK) | (uint64_t)kind << 44 | flags |
           (uint64_t)(rotations % RECORD_ROTATIONS) << 51;
}

static inline int64_t record_absolute_ms(uint64_t terms)
{
    return (int64_t)(terms & RECORD_TIME_MASK);
}

static inline uint32_t record_rotations(uint64_t terms)
{
    return (uint32_t)(terms >> 51);
}

static inline uint32_t record_lengths(uint32_t payload, uint32_t owner)
{
    return payload | owner << 21;
}

static inline uint32_t record_payload_length(uint32_t lengths)
{
    return lengths & 0x1fffff;
}

static inline uint32_t record_owner_length(uint32_t lengths)
{
    return lengths >> 21 & 0xff;
}

/* Rotations that were no renewals: a reference from before one of them leads nowhere. */
static inline uint32_t record_rotates(uint64_t used)
{
    return (uint32_t)(used >> 45) & (RECORD_ROTATES - 1);
}

static inline uint64_t record_used(int64_t used_ms, uint32_t rotates)
{
    return ((uint64_t)used_ms & RECORD_TIME_MASK) | (uint64_t)(rotates % RECORD_ROTATES) << 45;
}

/* Checksum over all but commit, used, next, prev, lsn. `lengths`: read once, and its payload checked to lie in bounds. */
static inline uint32_t record_checksum(const struct record *record, uint32_t lengths)
{
    uint64_t words[3];
    _Static_assert(sizeof words == offsetof(struct record, next) - offsetof(struct record, terms), "terms to handle");
    memcpy(words, &record->terms, sizeof words);
    /* A PENDING record counts as the SESSION that one store of its terms makes of it (R5). */
    if (record_kind(words[0]) == RECORD_PENDING)
        words[0] = record_of_kind(words[0], RECORD_SESSION);
    uint32_t sum = crc32c(0, record->digest, sizeof record->digest);
    sum = crc32c(sum, words, sizeof words);
    sum = crc32c(sum, &record->created_s, 8);
    sum = crc32c(sum, &record->issued_s, 4);
    return crc32c(sum, record->payload, record_payload_length(lengths));
}

/* Where owner, device and fields lie in a payload of the given terms and lengths (each read once, by the caller, and the
 * whole payload checked to lie in bounds). False: the lengths contradict each other. */
struct record_parts {
    const uint8_t *parent;         /* NULL: none */
    const uint8_t *owner, *device, *fields;
    uint32_t owner_length, device_length, fields_length;
};

static inline bool record_parts(uint64_t terms, uint32_t lengths, const uint8_t *payload, struct record_parts *parts)
{
    uint32_t left = record_payload_length(lengths);
    const uint8_t *next = payload;
    memset(parts, 0, sizeof *parts);
    if (terms & RECORD_HAS_PARENT) {
        if (left < 32)
            return false;
        parts->parent = next;
        next += 32;
        left -= 32;
    }
    parts->owner = next;
    parts->owner_length = record_owner_length(lengths);
    if (parts->owner_length > left)
        return false;
    next += parts->owner_length;
    left -= parts->owner_length;
    if (terms & RECORD_HAS_DEVICE) {
        if (left < 2)
            return false;
        parts->device_length = (uint32_t)__atomic_load_n(&next[0], __ATOMIC_RELAXED) |
                               (uint32_t)__atomic_load_n(&next[1], __ATOMIC_RELAXED) << 8;
        next += 2;
        left -= 2;
        if (parts->device_length > left)
            return false;
        parts->device = next;
        next += parts->device_length;
        left -= parts->device_length;
    }
    parts->fields = next;
    parts->fields_length = left;
    return true;
}

/* Of a private copy. */
static inline bool record_own_parts(const struct record *record, struct record_parts *parts)
{
    return record_parts(record->terms, record->lengths, record->payload, parts);
}

static inline uint32_t record_read_lengths(const struct record *record)
{
    return __atomic_load_n(&record->lengths, __ATOMIC_RELAXED);
}

static inline uint64_t record_read_terms(const struct record *record)
{
    return __atomic_load_n(&record->terms, __ATOMIC_RELAXED);
}

/* The first 8 bytes of a digest: shard, place in the index and owners' references derive from them. */
static inline uint64_t record_prefix(const uint8_t digest[32])
{
    uint64_t prefix;
    memcpy(&prefix, digest, sizeof prefix);
    return prefix;
}

#endif
