/* index.h - digest to slot: one open-addressing table a shard (and one a stripe, from owner to entry).
 *
 *   entry, 8 bytes: {hash:32 | mark:1 | slot:31}      0: empty
 *
 * home = (hash * active) >> 32, so it is known from the entry itself: backward-shift deletion, doubling and recovery touch
 * no record. There are no tombstones. The region is reserved for the largest size; `active` entries of it are in use, a
 * power of two, doubled at half load; the largest size may fill to 5/8. The mark is set only while it doubles.
 *
 * I1  From an entry's home to the entry no place is empty.
 * I2  count = entries that are not empty.
 *
 * All functions need the holder's lock. None compares digests: the caller does, in constant time.
 */
#ifndef SESSILE_INDEX_H
#define SESSILE_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define INDEX_FIRST 256u          /* entries in use at first */
/* At load 5/8 a run of 512 has a probability below e^-48: longer is damage. */
#define INDEX_PROBES 512u

struct index {                    /* a private view of one region */
    _Atomic uint64_t *entries;
    uint32_t active;              /* checked: a power of two, at most `most` */
    uint32_t most;
};

struct index_cursor {
    uint32_t place, probes;
};

/* A view; `active` comes from the mapping and is corrected to the largest size when it cannot be. */
struct index index_view(void *entries, uint32_t active, uint32_t most);

static inline uint32_t index_home(uint32_t hash, uint32_t active)
{
    return (uint32_t)((uint64_t)hash * active >> 32);
}

/* The next slot with this hash, or 0. Start with a cursor from index_start(). */
static inline struct index_cursor index_start(const struct index *index, uint32_t hash)
{
    return (struct index_cursor){index_home(hash, index->active), 0};
}
static inline uint32_t index_next(const struct index *index, uint32_t hash, struct index_cursor *cursor)
{
    while (cursor->probes < INDEX_PROBES) {
        uint64_t entry = atomic_load_explicit(&index->entries[cursor->place], memory_order_relaxed);
        if (entry == 0)
            break;
        cursor->place = (cursor->place + 1) & (index->active - 1);
        cursor->probes++;
        if ((uint32_t)(entry >> 32) == hash)
            return (uint32_t)entry & 0x7fffffffu;
    }
    return 0;
}

/* May `count` entries become count + 1 at this size, or after doubling? */
bool index_has_room(const struct index *index, uint32_t count);
bool index_should_grow(const struct index *index, uint32_t count);
/* Doubles the active size in place. */
void index_grow(struct index *index);
/* False: no empty place within INDEX_PROBES. */
bool index_insert(const struct index *index, uint32_t hash, uint32_t slot);
/* One store. False: there is no such entry. */
bool index_replace(const struct index *index, uint32_t hash, uint32_t from, uint32_t to);
bool index_remove(const struct index *index, uint32_t hash, uint32_t slot);
void index_clear(const struct index *index);

/* Checks I1 and I2; answers the number of entries, and in *broken how many break I1. */
uint32_t index_count(const struct index *index, uint32_t *broken);

#endif
