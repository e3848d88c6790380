/* shard.h - one stripe of the table: its lock, index, wheels, pages, counters, and what is done to one record in it.
 *
 * Also the process-private view of a whole table, struct sessile, which every function is given.
 */
#ifndef SESSILE_SHARD_H
#define SESSILE_SHARD_H

#include "arena.h"
#include "index.h"
#include "wheel.h"

#define SHARD_DRAIN_MS 10000              /* how long an id goes on after its successor was first presented */
#define SHARD_LATE_MS 10000               /* a dead retired id is merely late for so long */
#define SHARD_RETIRED_MS 600000           /* how long a dead retired id is kept */
#define SHARD_PENDING_S 10                /* a child that was not committed in that time is dropped */
#define SHARD_ORPHANS 4u
#define SHARD_WORK 4u                     /* expirations that a write pays for */

/* In the mapping. The first line is what a look-up touches. */
struct shard {
    struct lock lock;
    _Atomic uint32_t seq;                 /* odd: a write has begun and not ended */
    _Atomic uint32_t epoch;               /* differs from the table's: everything in here was revoked */
    uint32_t active;                      /* entries of the index in use */
    uint32_t entries;
    _Atomic uint32_t sessions, anonymous; /* SESSION and PENDING records; those without an owner */
    uint32_t lsn;
    _Atomic uint64_t loads, misses;
    uint32_t tick;                        /* wheels have fired up to here */
    _Atomic uint32_t next_fire;           /* nothing fires before */
    _Atomic uint32_t retired;             /* dead RETIRED records: a list, oldest first */
    uint32_t retired_head;
    uint32_t retired_tail, forwarding;    /* RETIRED records that still forward: in the owned wheel */
    _Atomic uint64_t created, expired, evicted, revoked;
    uint64_t reserved[3];
    struct page_lists lists;
    struct wheel wheels[WHEEL_COUNT];
};
_Static_assert(sizeof(struct shard) <= ARENA_SHARD_SIZE, "a shard fits the room that the layout gives it");
_Static_assert(offsetof(struct shard, retired_tail) == 64, "a look-up touches one line of the shard");

struct sessile_keys {                     /* on a page that is not dumped */
    struct digest_key ids[SESSILE_KEYS_MAX];
    struct digest_key owner;
};

struct sessile {                          /* private to this process */
    struct arena arena;
    struct sessile_policy policy;
    struct sessile_keys *keys;
    unsigned key_count;
    bool created_here;
    struct sessile_problem problem;
    _Atomic int64_t swept_ms;             /* when room.c last found nothing due anywhere */
    _Atomic uint32_t recovered, quarantined;  /* by this process, not yet told by sessile_repairs() */
    struct sessile *next;                 /* list of open tables, for the child of a fork */
};

/* A private copy of a record, or one under construction: on the stack up to 2 KiB, else on the heap. */
struct image {
    struct record *record;
    size_t capacity;
    uint8_t *heap;
    _Alignas(8) uint8_t small[2048];
};
void image_begin(struct image *image);
bool image_grow(struct image *image, size_t size);   /* false: no memory; what was in it is lost */
void image_end(struct image *image);                 /* wipes */

struct deadlines {
    int64_t idle_ms, absolute_ms;
};
/* Deadlines of a record of kind SESSION, PENDING or forwarding RETIRED, as this process's policy sees them. */
struct deadlines shard_deadlines(const struct sessile *table, const struct record *record);
bool shard_is_due(const struct sessile *table, const struct record *record, int64_t now);

static inline struct shard *shard_at(const struct sessile *table, uint32_t number)
{
    return (struct shard *)(void *)(table->arena.base + table->arena.geometry.shards_at +
                                    (uint64_t)number * ARENA_SHARD_SIZE);
}

static inline uint32_t shard_number(const struct sessile *table, const uint8_t digest[32])
{
    return (uint32_t)(record_prefix(digest) >> table->arena.geometry.shard_shift);
}

static inline int64_t record_used_ms(const struct record *record)
{
    return (int64_t)(atomic_load_explicit(&record->used, memory_order_relaxed) & RECORD_TIME_MASK);
}

static inline bool record_is_proven(const struct record *record)
{
    return (atomic_load_explicit(&record->used, memory_order_relaxed) & RECORD_PROVEN) != 0;
}

static inline bool record_is_owned(const struct record *record)
{
    return record->authenticated_s != 0;
}

struct orphan {                           /* a session that ended, and the record that forwards to it */
    uint8_t parent[32], child[32];
};

/* A shard in hand: locked, its epoch current, its index in view. tests/models/model_epoch.py is the specification of the
 * epochs. */
struct hold {
    struct sessile *table;
    struct shard *shard;
    uint32_t number;
    struct index index;
    int64_t now;
    unsigned orphan_count;                /* shard_leave() sees to them */
    struct orphan orphans[SHARD_ORPHANS];
};

/* Locks a shard, repairing or resetting it where that is due. OK, WOULD_BLOCK, BUSY, DETACHED. */
SESSILE_CHECKED enum sessile_status shard_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct hold *hold);
void shard_leave(struct hold *hold);

/* This digest will soon be looked for: has its line of the index fetched meanwhile. Needs no lock. */
void shard_expect(const struct sessile *table, const uint8_t digest[32]);
/* The slot of a digest, or 0. *record stays valid while the shard is held. */
uint32_t shard_find(struct hold *hold, const uint8_t digest[32], struct record **record);
/* Copies a record out. OK, BUFFER (image_grow() to *needed, outside the lock, and look it up again), DAMAGED. Its checksum
 * is verified by shard_verify(), which needs no lock. */
SESSILE_CHECKED enum sessile_status shard_copy(const struct hold *hold, const struct record *record, struct image *image,
                                               size_t *needed);
bool shard_verify(const struct image *image, const uint8_t digest[32]);

enum shard_answer { SHARD_OK, SHARD_EXISTS, SHARD_CAPACITY, SHARD_RESERVE, SHARD_PAGE, SHARD_BUSY, SHARD_INDEX };
enum shard_answer shard_answer(enum arena_answer answer);
/* Stores a new record. Its `lengths`, `terms` and the rest are set by the caller. `limits`: checked against the capacity.
 * purpose: ARENA_CREATE or ARENA_UPDATE, with ARENA_ANY_CLASS and ARENA_NO_WAIT. */
SESSILE_CHECKED enum shard_answer shard_insert(struct hold *hold, struct record *image, uint32_t version, bool limits,
                                               int purpose);
/* Replaces the record in a slot by another one of the same digest: version + 1. */
SESSILE_CHECKED enum shard_answer shard_replace(struct hold *hold, uint32_t slot, struct record *image, int purpose);
/* PENDING to SESSION, in place (R5). */
void shard_promote(struct hold *hold, uint32_t slot, struct record *record);
/* Takes a record out and wipes it. */
void shard_remove(struct hold *hold, uint32_t slot);
/* Takes out a record that fails its checksum, if it still does. */
void shard_quarantine(struct hold *hold, const uint8_t digest[32]);

/* Appends the report of a session's end to the sink. False: it did not fit, and was not written (`must`: written cut). */
bool shard_report(const struct hold *hold, struct sessile_sink *sink, const struct record *record,
                  enum sessile_reason reason, bool must);
void sink_note(struct sessile_sink *sink, enum sessile_reason reason, uint64_t handle, int64_t at_ms);

/* What cannot be decided under one shard's lock: a due PENDING, or a RETIRED that is to go. */
struct deferred {
    unsigned count;
    struct {
        uint8_t digest[32];
        uint32_t kind;
    } records[SHARD_WORK];
};
/* Drops or files anew up to `budget` records that fire; with `sweep` all that are due, also where their bucket fires later.
 * Answers how many sessions it ended; *more: the budget was not enough. */
uint32_t shard_advance(struct hold *hold, uint32_t budget, bool sweep, struct sessile_sink *sink,
                       struct deferred *deferred, bool *more);
/* Ends the session of `kind` that is first in the order of eviction, but never the one with digest `except`. */
bool shard_evict(struct hold *hold, enum wheel_kind kind, const uint8_t except[32], struct sessile_sink *sink);
/* Moves the records of the sparsest page of a pool elsewhere and returns it. False: there is none, or nothing came of it. */
bool shard_evacuate(struct hold *hold, enum arena_pool pool);
/* The same for one page, whatever it costs. */
bool shard_evacuate_page(struct hold *hold, uint32_t unit);
/* Moves the records of a page whose slots are too large for them into slots of their own size, if there is such a page among
 * those of a sample. True: there is more room for records of their size. */
bool shard_send_home(struct hold *hold, enum arena_pool pool);

/* Parts that recovery is made of (recover.c). */
void shard_clear_derived(struct hold *hold, uint32_t entries);    /* of which the index will soon have so many: a hint */
void shard_file(struct hold *hold, uint32_t slot, struct record *record);
bool shard_is_dead_retired(const struct record *record);
void shard_wipe(struct record *record, uint32_t size);
void shard_view_index(struct hold *hold);
void shard_seq_begin(struct shard *shard);
void shard_seq_end(struct shard *shard);

/* Rebuilds everything derived from the records (the lock is held, by whatever means). Idempotent. */
void shard_recover(struct sessile *table, uint32_t number);
/* Sums the shards' counters into the table's, if that is due and no shard is locked. */
void shard_recount(struct sessile *table);
/* Checks S1-S6 and all below. The lock is held. */
void shard_check(const struct hold *hold, struct check *check);

static inline uint32_t shard_epoch(const struct sessile *table)
{
    return (uint32_t)atomic_load_explicit(&table->arena.header->epoch, memory_order_acquire);
}

#endif
