/* wheel.h - hierarchical timing wheel over records, linked through their `next` and `prev`.
 *
 * 4 levels of 64 buckets; a bucket of level l covers 64^l ticks of one second. A record is filed by its deadline, rounded up
 * to its level, into the lowest level that reaches it, and stays there: there is no cascade. A bucket fires when the
 * clock reaches its end, so a record fires late by less than 64^l ticks; what is then not due (its deadline was renewed) is
 * filed anew by its true deadline. A sweep opens a bucket at its beginning instead, and files anew, one level finer, what
 * is not due: it misses nothing. Beyond the range (194 days) a record is filed in the last bucket and filed anew.
 * Expiry itself is decided at look-up: wheels only return memory, and their order is the order of eviction.
 *
 *   prev of the first record of a bucket: {1 | - | wheel:2 | level:2 | bucket:6}; of others: a slot number
 *
 * W1  bit b of bitmap[l] is set if and only if heads[l][b] is not 0.
 * W2  every record of a list has the `prev` that leads back to it.
 *
 * All functions need the shard's lock, and are O(1) but for wheel_check().
 */
#ifndef SESSILE_WHEEL_H
#define SESSILE_WHEEL_H

#include "arena.h"

#define WHEEL_LEVELS 4u
#define WHEEL_BUCKETS 64u
#define WHEEL_NEVER UINT32_MAX

struct wheel {
    uint64_t bitmap[WHEEL_LEVELS];
    uint32_t heads[WHEEL_LEVELS][WHEEL_BUCKETS];
};
_Static_assert(sizeof(struct wheel) == 1056, "the size that the layout counts on");

enum wheel_kind { WHEEL_PROBATION, WHEEL_PROVEN, WHEEL_OWNED, WHEEL_COUNT };

/* Files a record that is in no list. `deadline` and the shard's tick `now` in ticks. Answers the tick at which it fires. */
uint32_t wheel_add(const struct arena *arena, struct wheel *wheels, enum wheel_kind kind, uint32_t slot, uint32_t deadline,
                   uint32_t now);
/* Takes a record out of whatever wheel it is in. */
void wheel_remove(const struct arena *arena, struct wheel *wheels, uint32_t slot);
/* The bucket that fires (`opens`: that begins) first after `now`: its tick (WHEEL_NEVER: the wheel is empty) and its first
 * record. */
uint32_t wheel_first(const struct wheel *wheel, uint32_t now, bool opens, uint32_t *slot);
void wheel_clear(struct wheel *wheel);
/* Checks W1 and W2; *filed: records in the lists. */
void wheel_check(const struct arena *arena, const struct wheel *wheels, uint32_t *filed, struct check *check);

#endif
