/* lock.h - the lock of a shard, an owner stripe or the page pool: one 32-bit word in the mapping.
 *
 *   waiters:1 | generation:15 | process slot:16      0: free
 *
 * The word names the process that owns the lock, so that its death can be proven (process.h) and the lock taken over.
 * Waits are timed: a waker that is killed between the release and the wake costs its waiters one slice.
 *
 * Lock order, all of it: owner stripe < one shard < page pool. Never two stripes; never two shards, but for the recount of
 * the table's counters, which takes all in ascending order. Debug builds (SESSILE_DEBUG) assert it.
 *
 * tests/models/model_theft.py is the specification of taking a lock over from the dead; P1 to P3 are in process.h.
 */
#ifndef SESSILE_LOCK_H
#define SESSILE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sessile.h"

#define LOCK_WAITERS 0x80000000u

enum lock_rank { LOCK_STRIPE = 1, LOCK_SHARD = 2, LOCK_POOL = 4, LOCK_RECOUNT = 8 };

struct lock {
    _Atomic uint32_t word;
};

/* Asked after each slice of waiting: takes over what the dead hold, if `word` is a dead process's. */
struct lock_watch {
    void (*waited)(void *context, uint32_t word);
    void *context;
};

/* `me`: the caller's process word, never 0. */
bool lock_try(struct lock *lock, uint32_t me, enum lock_rank rank);
/* Waits at most wait_ms. OK, or BUSY (WOULD_BLOCK with wait_ms 0). */
SESSILE_CHECKED enum sessile_status lock_take(struct lock *lock, uint32_t me, enum lock_rank rank, int64_t wait_ms,
                                              const struct lock_watch *watch);
void lock_release(struct lock *lock, enum lock_rank rank);
/* Takes the lock over from a process word that is proven dead. */
bool lock_steal(struct lock *lock, uint32_t dead_slot, uint32_t me);
/* Releases a lock taken by lock_steal(). */
void lock_drop(struct lock *lock);

static inline uint32_t lock_owner_slot(uint32_t word)
{
    return word & 0xffff;
}

#endif
