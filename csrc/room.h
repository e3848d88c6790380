/* room.h - making room: reservation, evacuation, expiry and eviction, when a store finds none; and the work that every
 * write pays for. No lock is held by the caller, but for room_make() where it says so.
 *
 * Order, when the table is full: shards that revoke_all emptied; sessions past a deadline; sparse pages (for want of
 * memory); anonymous sessions that never came back; the longest idle anonymous ones; for a log-in the owner's own longest
 * unused. The order of eviction is exact to a wheel's bucket within a shard, and approximate across shards.
 */
#ifndef SESSILE_ROOM_H
#define SESSILE_ROOM_H

#include "owner.h"

#define ROOM_TRIES 512u

struct room {                      /* one store's search for room; zeroed at first */
    unsigned tries;
    int purpose;                   /* to be or-ed to the next try's: ARENA_ANY_CLASS once nothing else helps */
    uint32_t size;                 /* bytes of the record that is to be stored; set by the caller */
    unsigned evacuated;            /* shards looked at for a sparse page */
    unsigned runs;                 /* runs of units that were tried to be freed */
    bool swept;                    /* stale shards and due sessions were looked for everywhere */
    unsigned empty;                /* searches in a row that found nothing to evict */
};

/* After a try in shard `number` answered `answer`: makes some room. OK: try again (with room->purpose); FULL, NO_MEMORY,
 * WOULD_BLOCK, BUSY. `owner`: whose own sessions may go at the end, or NULL; its stripe must not be held. */
SESSILE_CHECKED enum sessile_status room_make(struct sessile *table, const struct sessile_call *call, struct room *room,
                                              enum shard_answer answer, uint32_t number, enum arena_pool pool,
                                              const struct owner *owner, const uint8_t except[32]);
/* Ends a write in a held shard: expirations of its own, then, the shard released, what they deferred and some of another
 * shard's. */
void room_leave(struct hold *hold, const struct sessile_call *call);
/* The same for a shard that is not held. */
void room_tend(struct sessile *table, uint32_t number, const struct sessile_call *call);
/* What a shard's advance deferred. */
void room_settle(struct sessile *table, const struct deferred *deferred, int64_t wait_ms);

#endif
