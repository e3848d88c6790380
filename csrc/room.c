/* room.c - see room.h. */
#include "room.h"

#define EVACUATE_SHARDS 16u
#define COMPACT_STRIPES 4u
#define RUNS 16u
#define EXPIRE_BATCH 64u
#define EMPTY_TRIES 8u
#define SWEPT_MS 250                      /* a full table looks for due sessions everywhere so often at the most */

/* ---- what every write pays for ---- */

static uint32_t next_hand(struct sessile *table)
{
    return atomic_fetch_add_explicit(&table->arena.header->hand, 1, memory_order_relaxed) % table->arena.geometry.shards;
}

static void retire_collect(struct sessile *table, const uint8_t digest[32], int64_t wait_ms);

void room_tend(struct sessile *table, uint32_t number, const struct sessile_call *call)
{
    struct hold hold;
    if (shard_enter(table, number, call->wait_ms, &hold) == SESSILE_OK)
        room_leave(&hold, call);
}

void room_settle(struct sessile *table, const struct deferred *deferred, int64_t wait_ms)
{
    for (unsigned i = 0; i < deferred->count; i++) {
        const uint8_t *digest = deferred->records[i].digest;
        if (deferred->records[i].kind == RECORD_RETIRED)
            retire_collect(table, digest, wait_ms);
        else if (succession_settle(table, digest, wait_ms) != SESSILE_OK)
            continue;    /* it stays filed, and comes back */
    }
}

/* Anything for an advance to do in this shard? Read without its lock: a hint. */
static bool has_work(const struct sessile *table, uint32_t number)
{
    const struct shard *shard = shard_at(table, number);
    uint32_t now = (uint32_t)(arena_now(&table->arena) / 1000);
    return atomic_load_explicit(&shard->next_fire, memory_order_relaxed) <= now ||
           atomic_load_explicit(&shard->retired, memory_order_relaxed) != 0;
}

static uint32_t advance_shard(struct sessile *table, uint32_t number, uint32_t budget, bool sweep,
                              const struct sessile_call *call, int64_t wait_ms)
{
    bool more;
    struct hold hold;
    struct deferred deferred = {0};
    if (shard_enter(table, number, wait_ms, &hold) != SESSILE_OK)
        return 0;
    uint32_t ended = shard_advance(&hold, budget, sweep, call->sink, &deferred, &more);
    shard_leave(&hold);
    room_settle(table, &deferred, wait_ms);
    return ended;
}

void room_leave(struct hold *hold, const struct sessile_call *call)
{
    struct sessile *table = hold->table;
    struct deferred deferred = {0};
    bool more;
    shard_advance(hold, SHARD_WORK, false, call->sink, &deferred, &more);
    shard_leave(hold);
    if (deferred.count)
        room_settle(table, &deferred, 0);
    uint32_t other = next_hand(table);
    if (has_work(table, other))
        advance_shard(table, other, SHARD_WORK, false, call, 0);
    if (atomic_load_explicit(&table->arena.header->recount_due, memory_order_relaxed))
        shard_recount(table);
}

/* A RETIRED record that is to go for its age or for its number: only after its child was looked up under the child's lock
 * and, if PENDING, promoted; else the child would lose what makes it valid. */
static void retire_collect(struct sessile *table, const uint8_t digest[32], int64_t wait_ms)
{
    struct hold hold;
    struct record *record;
    struct retired retired;
    if (shard_enter(table, shard_number(table, digest), wait_ms, &hold) != SESSILE_OK)
        return;
    uint32_t slot = shard_find(&hold, digest, &record);
    bool is_retired = slot != 0 && record_kind(record->terms) == RECORD_RETIRED;
    uint32_t version = slot ? record_version(atomic_load(&record->commit)) : 0;
    if (is_retired)
        memcpy(&retired, record->payload, sizeof retired);
    shard_leave(&hold);
    if (!is_retired)
        return;
    enum sessile_status settled = succession_settle(table, retired.child, wait_ms);
    if (settled != SESSILE_OK && settled != SESSILE_GONE)
        return;
    if (shard_enter(table, shard_number(table, digest), wait_ms, &hold) != SESSILE_OK)
        return;
    slot = shard_find(&hold, digest, &record);
    if (slot != 0 && record_kind(record->terms) == RECORD_RETIRED &&
        record_version(atomic_load(&record->commit)) == version &&
        (shard_is_due(table, record, hold.now) || hold.shard->retired > table->arena.geometry.retired_bound))
        shard_remove(&hold, slot);
    shard_leave(&hold);
}

/* ---- when there is no room ---- */

static bool reset_stale(struct sessile *table)
{
    uint32_t epoch = shard_epoch(table);
    bool any = false;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        struct hold hold;
        if (atomic_load(&shard_at(table, number)->epoch) != epoch && shard_enter(table, number, 0, &hold) == SESSILE_OK) {
            shard_leave(&hold);
            any = true;
        }
        struct stripe_hold stripe;
        if (atomic_load(&stripe_at(table, number)->epoch) != epoch && stripe_enter(table, number, 0, &stripe) == SESSILE_OK) {
            owner_leave(&stripe);
            any = true;
        }
    }
    return any;
}

static bool expire_somewhere(struct sessile *table, const struct sessile_call *call, uint32_t first)
{
    uint32_t shards = table->arena.geometry.shards;
    int64_t now = arena_now(&table->arena);
    if (now - atomic_load(&table->swept_ms) < SWEPT_MS)
        return false;
    for (uint32_t i = 0; i < shards; i++) {
        uint32_t number = (first + i) % shards;
        if (atomic_load(&shard_at(table, number)->sessions) != 0 &&
            advance_shard(table, number, EXPIRE_BATCH, true, call, call->wait_ms) > 0)
            return true;
    }
    atomic_store(&table->swept_ms, now);
    return false;
}

static bool evacuate_one(struct sessile *table, uint32_t number, bool owned_too, int64_t wait_ms)
{
    struct hold hold;
    if (shard_enter(table, number, wait_ms, &hold) != SESSILE_OK)
        return false;
    bool freed = shard_evacuate(&hold, ARENA_ANONYMOUS) || (owned_too && shard_evacuate(&hold, ARENA_OWNED)) ||
                 shard_send_home(&hold, ARENA_ANONYMOUS) || (owned_too && shard_send_home(&hold, ARENA_OWNED));
    shard_leave(&hold);
    return freed;
}

static bool evacuate_somewhere(struct sessile *table, const struct sessile_call *call, struct room *room, uint32_t number,
                               bool owned_too)
{
    if (evacuate_one(table, number, owned_too, call->wait_ms))
        return true;
    for (uint32_t i = 0; i < EVACUATE_SHARDS && room->evacuated < table->arena.geometry.shards; i++) {
        room->evacuated++;
        if (evacuate_one(table, next_hand(table), owned_too, 0))
            return true;
    }
    return false;
}

static bool evacuate_page(struct sessile *table, uint32_t number, uint32_t unit, const struct sessile_call *call)
{
    struct hold hold;
    if (shard_enter(table, number, call->wait_ms, &hold) != SESSILE_OK)
        return false;
    bool freed = shard_evacuate_page(&hold, unit);
    shard_leave(&hold);
    return freed;
}

/* Frees the cheapest run of units that a page for the record needs: pages of any shard, one after the other. */
static bool clear_run(struct sessile *table, const struct sessile_call *call, struct room *room)
{
    uint32_t units = arena_units_for(&table->arena.geometry, room->size), unit, holder;
    struct arena_page page;
    if (units < 2 || room->runs++ >= RUNS)
        return false;
    uint32_t from = arena_cheapest_run(&table->arena, units, room->runs == 1 ? 0 : next_hand(table) * units);
    bool any = false;
    for (unit = from; from != UINT32_MAX && unit < from + units; unit++) {
        if (!arena_page_at(&table->arena, unit, &holder, &page))
            continue;
        any |= holder < table->arena.geometry.shards
                   ? evacuate_page(table, holder, page.unit, call)
                   : owner_evacuate(table, holder - table->arena.geometry.shards, page.unit, call);
        unit = page.unit + page.units - 1;
    }
    return any;
}

/* Owners without sessions go, and the entries that stay move together. */
static bool compact_owners(struct sessile *table, const struct sessile_call *call)
{
    for (uint32_t i = 0; i < COMPACT_STRIPES; i++)
        if (owner_compact(table, next_hand(table), call))
            return true;
    return false;
}

static bool evict_one(struct sessile *table, uint32_t number, enum wheel_kind kind, const struct sessile_call *call,
                      const uint8_t except[32])
{
    struct hold hold;
    if (atomic_load(&shard_at(table, number)->anonymous) == 0 ||
        shard_enter(table, number, call->wait_ms, &hold) != SESSILE_OK)
        return false;
    bool evicted = shard_evict(&hold, kind, except, call->sink);
    shard_leave(&hold);
    return evicted;
}

static bool evict_anonymous(struct sessile *table, const struct sessile_call *call, uint32_t number,
                            const uint8_t except[32])
{
    uint32_t shards = table->arena.geometry.shards, from = next_hand(table);
    if (atomic_load(&table->arena.header->anonymous) <= 0)
        return false;
    for (unsigned kind = WHEEL_PROBATION; kind <= WHEEL_PROVEN; kind++) {
        if (evict_one(table, number, (enum wheel_kind)kind, call, except))
            return true;
        for (uint32_t i = 0; i < shards; i++)
            if (evict_one(table, (from + i) % shards, (enum wheel_kind)kind, call, except))
                return true;
    }
    return false;
}

/* The owner's own session that was unused for longest. */
static bool evict_own(struct sessile *table, const struct owner *owner, const uint8_t except[32],
                      const struct sessile_call *call)
{
    uint32_t evicted = 0;
    return owner_evict(table, owner, OWNER_ONE_LESS, except, call, &evicted) == SESSILE_OK && evicted > 0;
}

/* Ends one session that may go for another: of the same shard only, where it is that shard's index that is full. */
static bool evict(struct sessile *table, const struct sessile_call *call, enum shard_answer answer, uint32_t number,
                  const struct owner *owner, const uint8_t except[32])
{
    if (answer == SHARD_INDEX)
        return evict_one(table, number, WHEEL_PROBATION, call, except) ||
               evict_one(table, number, WHEEL_PROVEN, call, except);
    return evict_anonymous(table, call, number, except) || (owner && evict_own(table, owner, except, call));
}

/* Pages for a record: could there ever be so many, and is it the anonymous pool's limit (A3) that keeps them? */
static bool can_fit(const struct sessile *table, const struct room *room, enum arena_pool pool, bool *by_pool)
{
    const struct geometry *geometry = &table->arena.geometry;
    uint32_t units = arena_units_for(geometry, room->size);
    *by_pool = pool == ARENA_ANONYMOUS &&
               atomic_load(&table->arena.header->used_anonymous_units) + units > geometry->anonymous_units;
    return units <= (pool == ARENA_ANONYMOUS ? geometry->anonymous_units : geometry->units - geometry->reserve_units);
}

/* Moves records together so that pages become free. Where the anonymous pool is at its limit only its own pages help. */
static bool gather(struct sessile *table, const struct sessile_call *call, struct room *room, uint32_t number, bool by_pool)
{
    if (by_pool)
        return evacuate_somewhere(table, call, room, number, false);
    return clear_run(table, call, room) || evacuate_somewhere(table, call, room, number, true) || compact_owners(table, call);
}

enum sessile_status room_make(struct sessile *table, const struct sessile_call *call, struct room *room,
                              enum shard_answer answer, uint32_t number, enum arena_pool pool, const struct owner *owner,
                              const uint8_t except[32])
{
    bool by_pool = false;
    if (call->wait_ms == 0)
        return SESSILE_WOULD_BLOCK;
    if (room->tries++ >= ROOM_TRIES)
        return answer == SHARD_BUSY ? SESSILE_BUSY : SESSILE_FULL;
    if (answer == SHARD_BUSY)
        return SESSILE_OK;
    if (answer == SHARD_RESERVE) {
        int status = arena_reserve(&table->arena, false);
        if (status == 0)
            return SESSILE_OK;
        table->problem = (struct sessile_problem){.error = -status, .operation = "fallocate"};
        return SESSILE_NO_MEMORY;
    }
    if (!room->swept) {
        if (reset_stale(table) || expire_somewhere(table, call, number))
            return SESSILE_OK;
        room->swept = true;
    }
    if (answer == SHARD_PAGE && !can_fit(table, room, pool, &by_pool)) {
        atomic_fetch_add(&table->arena.header->full, 1);
        return SESSILE_FULL;
    }
    /* Half of the tries are left for evictions. */
    if (answer == SHARD_PAGE && room->tries < ROOM_TRIES / 2 && gather(table, call, room, number, by_pool))
        return SESSILE_OK;
    if (answer == SHARD_PAGE && !(room->purpose & ARENA_ANY_CLASS)) {
        room->purpose |= ARENA_ANY_CLASS;
        return SESSILE_OK;
    }
    room->evacuated = 0;
    room->runs = 0;
    /* Nothing to evict may mean that others ended sessions since the try that was refused: only refusals in a row count.
     * Where threads fill and empty a tiny table without end, that can happen several times. */
    room->empty = evict(table, call, answer, number, owner, except) ? 0 : room->empty + 1;
    if (room->empty <= (answer == SHARD_CAPACITY ? EMPTY_TRIES : 1))
        return SESSILE_OK;
    atomic_fetch_add(&table->arena.header->full, 1);
    return SESSILE_FULL;
}
