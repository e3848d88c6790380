/* owner.h - owner stripes: from an owner to that owner's sessions.
 *
 *   entry, 64 bytes  key[2] keyed hash of the owner | state | ref[4] | next node | count
 *   node, 64 bytes   ref[7] | next node | in_use
 *
 * A reference is the first 8 bytes of a session's digest, 0 an empty place. References are a superset of the truth: they
 * are stored before the commit that makes them true, and each is verified by look-up before use. Load, save, expiry,
 * eviction and destroy never touch them.
 *
 * O1  Every LIVE session with an owner (and every PENDING one whose parent may be RETIRED) has its reference.
 * O2  state is 0, or a revocation that is under way: 1 keeps nothing, else handle | 1 is kept; the stripe's `revoking` is set
 *     before and cleared after. Killed midway, it is finished by whoever next enters the stripe, a sweep at the latest.
 * O3  every node of a chain is in use by that chain only.
 *
 * Adding: the reference is one 8-byte store; a new node is filled before it is linked, a new entry before its key is set.
 * A stripe whose epoch differs from the table's holds references to revoked sessions only, and is emptied.
 *
 * The stripe's lock is held over a log-in's, rotation's or renewal's whole commit, and over a revocation: that is what
 * orders them. It is outside (before) any shard's lock. tests/models/model_owners.py is the specification of O1 and O2.
 */
#ifndef SESSILE_OWNER_H
#define SESSILE_OWNER_H

#include "succession.h"

struct owner_entry {
    _Atomic uint64_t key[2];
    _Atomic uint64_t state;
    _Atomic uint64_t ref[4];
    _Atomic uint32_t next;
    uint32_t count;                       /* references below 2^26, and above them log2 of the count that starts a sweep */
};
struct owner_node {
    _Atomic uint64_t ref[7];
    _Atomic uint32_t next;
    uint32_t in_use;                      /* only between the passes of recovery; in a free node: the next free one */
};
_Static_assert(sizeof(struct owner_entry) == 64 && sizeof(struct owner_node) == 64, "one cache line each");

struct stripe {                           /* in the mapping */
    struct lock lock;
    _Atomic uint32_t seq;
    _Atomic uint32_t epoch;
    uint32_t active, entries;
    uint32_t hand;                        /* place in the index where the next sweep goes on */
    _Atomic uint32_t revoking;            /* 1: some entry's state is not 0 (O2) */
    uint32_t reserved[9];
    struct page_lists lists;
};
_Static_assert(sizeof(struct stripe) <= ARENA_STRIPE_SIZE, "a stripe fits the room that the layout gives it");

struct owner {                            /* an owner as asked for */
    const uint8_t *text;
    uint32_t length;
    uint64_t key[2];
};

struct stripe_hold {                      /* a stripe in hand */
    struct sessile *table;
    struct stripe *stripe;
    uint32_t number;
    struct index index;
};

struct owner owner_named(const struct sessile *table, const uint8_t *text, uint32_t length);

/* Locks the stripe of an owner. */
SESSILE_CHECKED enum sessile_status owner_enter(struct sessile *table, const struct owner *owner,
                                                const struct sessile_call *call, struct stripe_hold *hold);
void owner_leave(struct stripe_hold *hold);

/* Before a commit that gives the owner a session: locks the stripe, sweeps a little, adds the reference. OK: the stripe is
 * held if and only if *answer is ARENA_OK; a status of owner_enter(): it is not held. */
SESSILE_CHECKED enum sessile_status owner_claim(struct sessile *table, const struct owner *owner, uint64_t prefix,
                                                const struct sessile_call *call, struct stripe_hold *hold,
                                                enum arena_answer *answer);
/* May the owner have more than `cap` sessions? Counts references, stale ones too. Stripe held. */
bool owner_exceeds(const struct stripe_hold *hold, const struct owner *owner, uint32_t cap);
/* No commit followed: takes the reference back and leaves the stripe. */
void owner_unclaim(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix);
/* Adds a reference. OK, or what arena_take() answers. Stripe held. */
SESSILE_CHECKED enum arena_answer owner_add(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix);

/* Told each verified session of the owner; the shard is held during the call. */
enum owner_next { OWNER_GO_ON, OWNER_STOP, OWNER_REMOVED /* it took the record out: go on, without its reference */ };
typedef enum owner_next (*owner_visit)(void *context, struct hold *hold, uint32_t slot, struct record *record);
/* Visits every session of the owner, dropping stale references on the way. Stripe held. */
SESSILE_CHECKED enum sessile_status owner_walk(struct stripe_hold *hold, const struct owner *owner,
                                               const struct sessile_call *call, owner_visit visit, void *context);
/* Ends all of an owner's sessions but the one with handle `keep` (0: none is kept). Stripe held. */
SESSILE_CHECKED enum sessile_status owner_revoke(struct stripe_hold *hold, const struct owner *owner, uint64_t keep,
                                                 const struct sessile_call *call, uint64_t *count);
#define OWNER_ONE_LESS UINT32_MAX
/* While the owner has more than `cap` sessions, ends the one unused for longest, never the one with digest `except`; with
 * OWNER_ONE_LESS ends one. Takes the stripe itself. *evicted: how many. */
SESSILE_CHECKED enum sessile_status owner_evict(struct sessile *table, const struct owner *owner, uint32_t cap,
                                                const uint8_t except[32], const struct sessile_call *call,
                                                uint32_t *evicted);

/* Verifies some entries of a stripe and moves those of its sparsest page together. Takes the stripe itself. True: a page
 * was returned. */
bool owner_compact(struct sessile *table, uint32_t number, const struct sessile_call *call);
/* The same for one page of entries. */
bool owner_evacuate(struct sessile *table, uint32_t number, uint32_t unit, const struct sessile_call *call);

/* Repairs a stripe from its entries (lock held). */
void owner_recover(struct sessile *table, uint32_t number);
/* Checks the stripe (lock held): index, pages, O2, O3. O1 is checked by owner_has(). */
void owner_check(const struct stripe_hold *hold, struct check *check);
bool owner_has(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix);
SESSILE_CHECKED enum sessile_status stripe_enter(struct sessile *table, uint32_t number, int64_t wait_ms,
                                                 struct stripe_hold *hold);

static inline struct stripe *stripe_at(const struct sessile *table, uint32_t number)
{
    return (struct stripe *)(void *)(table->arena.base + table->arena.geometry.stripes_at +
                                     (uint64_t)number * ARENA_STRIPE_SIZE);
}

#endif
