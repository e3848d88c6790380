/* arena.h - the mapping: header, geometry, page directory, size classes, slots.
 *
 *   header | process slots | shards | stripes | shards' index | stripes' index | directory | pages | free units | data
 *
 * Everything in the mapping is named by offset or number; nothing in it is a pointer. A *slot number* counts 32 bytes from
 * the start of the mapping, so 0 is no slot. Data is cut into *units* of 4 KiB. A *page* is a
 * run of units lent to one shard (or owner stripe), one size class and one pool, cut into slots of that class. A record
 * larger than the largest class has a page of its own.
 *
 * The directory has one 8-byte word a unit. Authoritative:
 *   HEAD {state 2 | class 6 | pool 1 | - 7 | units 16 | holder 32}   TAIL {state 2 | - 14 | distance to its head 16 | -}
 * Derived, rebuilt by recovery: struct page beside each head, the lists of pages in a shard, the bitmap of free units.
 *
 * A1  The store of a HEAD word is the lending, the store of 0 over it the return; TAIL words are written before and count
 *     only under a HEAD that covers them.
 * A2  A unit is read or written only below the reserved frontier: what lies above may be a hole, whose read can be SIGBUS.
 * A3  Pages of the anonymous pool take at most `anonymous_units`.
 * A4  A create never takes the last free slot of a (holder, class, pool) nor the last `reserve_units` free units; an update
 *     takes the last free slot only of the class that it gives one back to: one of no larger size always finds its spare.
 * A5  live + free slots of a page = slots of its class; a page is on its list if and only if it has a free slot.
 *
 * Locks: slots and pages of a holder belong to the holder's lock; directory words, the bitmap and the counts of units to
 * the pool lock (the innermost), except that recovery of a holder reads directory words without it.
 */
#ifndef SESSILE_ARENA_H
#define SESSILE_ARENA_H

#include "lock.h"
#include "process.h"
#include "record.h"

#define ARENA_MAGIC 0x31454c4953534553ull /* "SESSILE1" */
#define ARENA_FORMAT 2u
#define ARENA_HEADER_SIZE 4096u
#define ARENA_CLASSES 24u                 /* record classes at the most */
#define ARENA_ENTRY 24u                   /* class of owner entries, 64 bytes */
#define ARENA_NODE 25u                    /* class of owner overflow nodes, 64 bytes */
#define ARENA_LARGE 26u                   /* one record a page */
#define ARENA_LISTS 27u
#define ARENA_SLOT 32u
#define ARENA_CHUNK (2u << 20)            /* bytes reserved from the system at a time */
/* Reserved behind the data: the fixed part of a RETIRED record's payload may be read in any slot, also a short last one. */
#define ARENA_TAIL 4096u
#define ARENA_RUNS 16u
#define ARENA_ORIGIN_MS (800ll * 86400 * 1000)

enum arena_pool { ARENA_OWNED, ARENA_ANONYMOUS, ARENA_POOLS };

struct geometry {                         /* private, validated once: the numbers that every access is checked against */
    uint64_t capacity, anonymous_capacity, memory, memory_most;
    double anonymous_share;
    uint32_t shards, shard_shift;         /* shard of a prefix = prefix >> shard_shift */
    uint32_t unit_size, units, anonymous_units, reserve_units;
    uint32_t unit_slots_shift;            /* log2 of the steps of slot numbers in a unit */
    uint32_t first_slot, end_slot;        /* of data */
    uint32_t class_count;
    uint32_t class_size[ARENA_LISTS], class_units[ARENA_LISTS], class_slots[ARENA_LISTS];
    uint32_t index_entries;               /* of one shard's or stripe's region, a power of two */
    uint32_t shard_bound, retired_bound;  /* sessions that the layout allows a shard; dead retired records it keeps */
    uint64_t processes, shards_at, stripes_at, shard_index, stripe_index, directory, pages, free_units, data, size;
    uint64_t index_size;
};

/* The first page of the mapping. Constants first, under their own checksum; then what changes, by line. */
struct arena_header {
    uint64_t magic;
    uint32_t format, layout;              /* layout: a hash of every size and offset that the code relies on */
    uint8_t uuid[16], boot_id[16];
    uint64_t time_namespace;
    int64_t origin_ms;                    /* boot-time clock at the origin of the table's clock */
    uint64_t capacity, memory, anonymous_share_ppb;
    uint8_t owner_key[DIGEST_BLOCK];      /* random: keys of owners and handles must outlive a rotated secret */
    uint32_t constants_checksum;
    uint32_t reserved0;
    _Alignas(64) _Atomic uint64_t key_ids[SESSILE_KEYS_MAX];
    _Alignas(64) _Atomic uint64_t key_uses[SESSILE_KEYS_MAX];     /* what key_clock was when that key was last attached with */
    _Alignas(64) _Atomic uint64_t key_clock;      /* counts up with each use of a key */
    _Alignas(64) _Atomic uint64_t epoch;          /* revoke_all counts it up */
    _Atomic int64_t advance_ms;                   /* tests move the clock */
    _Alignas(64) _Atomic int64_t sessions;        /* SESSION and PENDING records of all shards */
    _Atomic int64_t anonymous;
    _Alignas(64) struct lock pool_lock;
    _Atomic uint32_t pool_seq;
    _Atomic uint32_t frontier;                    /* units below it are reserved (A2) */
    _Atomic uint32_t used_units, used_anonymous_units;
    _Atomic uint32_t search;                      /* where the next search for a free unit starts */
    _Atomic uint32_t search_run[ARENA_RUNS];      /* no run of so many units is free below */
    _Alignas(64) _Atomic uint32_t hand;           /* the next other shard to be advanced */
    _Atomic uint32_t recount_due;
    _Atomic uint32_t writer;                      /* process word of the snapshot's writer; 0: none */
    _Atomic uint64_t malformed, full, recoveries, quarantined;
    _Alignas(64) _Atomic uint64_t generation;     /* of the image published last (persist.c); 0: none */
    _Atomic uint64_t complete;                    /* of the image that is complete on disk */
    _Atomic int64_t complete_ms;
    _Atomic uint32_t lost;                        /* 1: it was told that the file of this table has no name any more */
};
_Static_assert(sizeof(struct arena_header) <= ARENA_HEADER_SIZE, "the header fits its page");

struct page {                             /* derived; one a unit, of use at heads */
    uint16_t live;                        /* slots taken */
    uint16_t bump;                        /* slots from here on were never used since the page was lent */
    uint16_t free_slot;                   /* 1 + number of the first free slot below bump; 0: none */
    uint16_t listed;                      /* 1: on its list; 2: withheld from it while it is emptied */
    uint32_t next, prev;                  /* 1 + unit of the head; 0: none */
};

struct page_lists {                       /* in each shard and stripe; derived */
    uint32_t head[ARENA_POOLS][ARENA_LISTS];   /* 1 + unit: pages with a free slot */
    uint32_t free[ARENA_POOLS][ARENA_LISTS];   /* free slots */
    uint32_t live[ARENA_POOLS][ARENA_LISTS];   /* slots taken; of ARENA_LARGE: units */
};

struct arena {
    uint8_t *base;
    struct arena_header *header;
    _Atomic uint32_t frontier_seen;       /* a private copy of the frontier, which only grows */
    struct geometry geometry;
    struct home {                         /* the file behind the mapping */
        int descriptor;                   /* -1: private memory */
        struct system_identity identity;
    } home;
    struct process process;
    struct lock_watch watch;              /* told after each slice of a wait for any lock of the table */
    struct arena_order *order;            /* private; NULL but while all holders are recovered one after the other */
};

enum arena_answer {
    ARENA_OK,
    ARENA_NEED_RESERVE,                   /* arena_reserve(), outside every lock, then again */
    ARENA_NEED_PAGE,                      /* no page is free for this purpose */
    ARENA_BUSY                            /* the pool lock is taken */
};
/* Purpose: create, or update (which may use the reserve); or-ed: a larger class will do, do not wait, have no page lent. */
enum { ARENA_CREATE = 0, ARENA_UPDATE = 1, ARENA_ANY_CLASS = 2, ARENA_NO_WAIT = 4, ARENA_NO_LEND = 8 };
/* Or-ed to an update: the class of the slot that it will give back, the only one whose last free slot it may take (A4). */
#define ARENA_OWN_CLASS(class) ((int)((class) + 1) << 8)
#define ARENA_SHARD_SIZE 4096u
#define ARENA_STRIPE_SIZE 1024u

/* Fills every number from capacity, memory and share. False: they make no table; *least is the least memory that would do,
 * geometry->memory_most the most. */
bool arena_geometry(struct geometry *geometry, uint64_t capacity, uint64_t memory, double share, uint64_t *least);
uint32_t arena_layout(void);

/* Clock of the table. */
int64_t arena_now(const struct arena *arena);

/* The class for so many bytes; ARENA_LARGE above the largest. */
uint32_t arena_class(const struct geometry *geometry, uint32_t size);
/* Takes a slot of at least `size` bytes for `holder` (shards count from 0, stripes from `shards`). Its commit word is 0.
 * ANY_CLASS: a larger class will do. NO_WAIT: BUSY instead of waiting for the pool lock. Holder's lock. */
enum arena_answer arena_take(struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                             uint32_t size, int purpose, uint32_t *slot);
/* The same for a slot of 64 bytes: ARENA_ENTRY or ARENA_NODE. */
enum arena_answer arena_take_small(struct arena *arena, struct page_lists *lists, uint32_t holder, uint32_t class,
                                   int purpose, uint32_t *slot);
/* Gives a wiped slot back, and its page where that is empty and not the spare (unless the pool lock is taken: an empty
 * page then waits on its list for arena_return_page()). Holder's lock. */
void arena_give(struct arena *arena, struct page_lists *lists, uint32_t holder, uint32_t slot);
/* Returns an empty page to the table. False: it is not empty, or the pool lock is taken. Holder's lock. */
bool arena_return_page(struct arena *arena, struct page_lists *lists, uint32_t unit);
/* Reserves one more chunk, if not all is reserved by now; outside every lock. May take a millisecond. `touch`: all of it is
 * about to be written, so that one call is cheaper than a fault for each page. 0, or the negative errno of a system that
 * refuses what the table was promised. */
int arena_reserve(struct arena *arena, bool touch);
/* Reserves, again where that is so, all up to a unit: repair of a frontier that lies below a page. */
int arena_reserve_to(struct arena *arena, uint32_t unit);

/* A slot number from the mapping, checked: NULL unless it lies in reserved data with room for a record's header. */
struct record *arena_record(const struct arena *arena, uint32_t slot);
/* The bytes of a slot for `length` from its start, checked against the end of reserved data. */
bool arena_within(const struct arena *arena, uint32_t slot, uint64_t length);
struct arena_page {
    uint32_t unit, class, units, slots, size;
    enum arena_pool pool;
};
/* The page that a slot belongs to: unit of its head and size of its slots. False: the slot is not in a lent page of this
 * holder, or not at the start of a slot. */
struct arena_place {
    uint32_t unit, number, class, size;
    enum arena_pool pool;
};
bool arena_place(const struct arena *arena, uint32_t holder, uint32_t slot, struct arena_place *place);
uint32_t arena_slot_of(const struct arena *arena, uint32_t unit, uint32_t number, uint32_t size);
/* May the page go, its records moved elsewhere, or would records of its class be left without a spare slot (A4)? Listed page,
 * holder's lock. */
bool arena_may_go(const struct arena *arena, const struct page_lists *lists, const struct arena_page *page);
/* The page with the fewest records among those of this pool's lists that may go and whose records fit elsewhere in the same
 * lists, also into larger slots: unit of its head, or UINT32_MAX. Holder's lock. */
uint32_t arena_sparsest(const struct arena *arena, const struct page_lists *lists, enum arena_pool pool);
/* The run of `units` units, at a multiple of that, from which the fewest records must be moved to make it free, looked for
 * in a stretch of the data from unit `from` on: its first unit, or UINT32_MAX. No lock: a guess. */
uint32_t arena_cheapest_run(const struct arena *arena, uint32_t units, uint32_t from);
/* The page that covers a unit, and its holder. False: it is free. No lock: a guess. */
bool arena_page_at(const struct arena *arena, uint32_t unit, uint32_t *holder, struct arena_page *page);
/* Units of a page for records of so many bytes. */
uint32_t arena_units_for(const struct geometry *geometry, uint32_t size);
/* Takes a page off its list so that nothing is allotted from it, and puts it back. Holder's lock. */
void arena_unlist(struct arena *arena, struct page_lists *lists, uint32_t unit);
void arena_relist(struct arena *arena, struct page_lists *lists, uint32_t unit);

/* Walks the pages of a holder by the directory: start with *unit = 0; false at the end. Each call answers one head. */
bool arena_next_page(const struct arena *arena, uint32_t holder, uint32_t *unit, struct arena_page *page);
/* From here to arena_forget_order() that walk is as long as the holder has pages, not as the directory: for who visits all
 * holders, in a process of which no other thread uses the table yet. Takes effect where there is memory for it, and as long as
 * no page is lent or returned. */
void arena_order_pages(struct arena *arena);
void arena_forget_order(struct arena *arena);

/* Recovery, holder's lock: forgets the lists, then, page by page, slot by slot, is told which are taken. */
void arena_rebuild_begin(struct page_lists *lists);
void arena_rebuild_page(struct arena *arena, struct page_lists *lists, const struct arena_page *page,
                        bool (*taken)(void *context, uint32_t slot), void *context);
/* Recovery of the bitmap and counts of units from the directory. Pool lock. */
void arena_rebuild_units(struct arena *arena);

/* Checks A5 for one holder (its lock), and A1 and A3 for the table (pool lock is taken). `report` is told each finding. */
struct check {
    void (*report)(void *context, const char *finding);
    void *context;
    uint64_t findings;
};
__attribute__((format(printf, 2, 3))) void check_finding(struct check *check, const char *format, ...);
void arena_check_holder(const struct arena *arena, const struct page_lists *lists, uint32_t holder, struct check *check);
void arena_check_units(struct arena *arena, struct check *check);
/* Checks A2: answers the end of the highest page that is lent. No lock. */
uint32_t arena_check_frontier(const struct arena *arena, struct check *check);

/* Bytes of the slots that hold something. */
uint64_t arena_bytes_used(const struct geometry *geometry, const struct page_lists *lists);

static inline uint32_t arena_me(const struct arena *arena)
{
    return process_word(&arena->process);
}

static inline _Atomic uint64_t *arena_directory(const struct arena *arena)
{
    return (_Atomic uint64_t *)(void *)(arena->base + arena->geometry.directory);
}

#endif
