/* shard.c - see shard.h.
 *
 * Lock order: owner stripe < one shard < page pool. Every function here needs the lock of its one shard.
 *
 * Orders of stores, and what a kill after each leaves:
 *   create   commit := dirty, the rest, commit := LIVE (the commit), index, wheel, counters
 *   update   as create with version + 1 (the commit; two LIVE slots, the later wins), index entry := new slot,
 *            old: wheel, commit := dirty, wipe, commit := 0, free; new: wheel
 *   remove   commit := dirty (the commit), index, wheel, wipe, commit := 0, free
 *   promote  one aligned store of `terms` (the commit), between leaving one wheel and entering another
 *   renewal  one aligned store of `used`
 * `seq` is odd from before the first of these stores to after the last, so that whoever takes the lock over knows that the
 * derived state (index, wheels, lists, counters) is to be rebuilt from the records.
 *
 * S1  every LIVE record of the shard's pages is valid, belongs to this shard by its digest, and is in the index, once.
 * S2  every index entry leads to a LIVE record with that hash.
 * S3  SESSION, PENDING and forwarding RETIRED records are in a wheel; dead RETIRED ones in the retired list.
 * S4  sessions, anonymous, retired, forwarding, entries are the counts of what is there.
 * S5  no record's deadline is before next_fire's bucket could fire.
 * S6  no slot is dirty while `seq` is even.
 */
#include "shard.h"

#include <stdlib.h>

#define RETIRED_FIRST 0xc0000000u         /* `prev` of the first record of the retired list */
#define EVICT_LOOKS 8u
#define EVACUATE_MOVES 64u
#define HOME_LOOKS 64u
#define HOME_PAGES 4u
#define PENDING_AGAIN_S 10u

/* ---- private copies ---- */

void image_begin(struct image *image)
{
    image->heap = NULL;
    image->record = (struct record *)(void *)image->small;
    image->capacity = sizeof image->small;
}

bool image_grow(struct image *image, size_t size)
{
    if (size <= image->capacity)
        return true;
    image_end(image);
    image->heap = malloc(size);
    if (!image->heap) {
        image_begin(image);
        return false;
    }
    image->record = (struct record *)(void *)image->heap;
    image->capacity = size;
    return true;
}

void image_end(struct image *image)
{
    if (image->heap) {
        system_wipe(image->heap, image->capacity);
        free(image->heap);
        image->heap = NULL;
    }
}

/* ---- deadlines ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct deadlines shard_deadlines(const struct sessile *table, const struct record *record)
{
    bool owned = record_is_owned(record);
    int64_t idle = (int64_t)record->idle * RECORD_IDLE_STEP_MS;
    struct deadlines deadlines = {.absolute_ms = record_absolute_ms(record->terms)};
    if (record->terms & RECORD_DEFAULT_IDLE)
        idle = least(idle, owned ? table->policy.owned_idle_ms : table->policy.anonymous_idle_ms);
    if (record->terms & RECORD_DEFAULT_ABSOLUTE) {
        uint32_t since = record->authenticated_s > record->created_s ? record->authenticated_s : record->created_s;
        int64_t ours = owned ? table->policy.owned_absolute_ms : table->policy.anonymous_absolute_ms;
        /* Creation is kept to the second: never earlier than the exact deadline would be. */
        deadlines.absolute_ms = least(deadlines.absolute_ms, (int64_t)since * 1000 + 999 + ours);
    }
    deadlines.idle_ms = record_used_ms(record) + idle;
    return deadlines;
}

static int64_t pending_until(const struct record *record)
{
    return ((int64_t)record->issued_s + SHARD_PENDING_S + 1) * 1000;
}

bool shard_is_dead_retired(const struct record *record)
{
    static const uint8_t nothing[32];
    struct retired retired;
    if (record_kind(record->terms) != RECORD_RETIRED)
        return false;
    memcpy(&retired, record->payload, sizeof retired);
    uint8_t any = 0;
    for (size_t i = 0; i < sizeof nothing; i++)
        any |= retired.nonce[i];
    return any == 0 || retired.drain_until_ms != 0;
}

static int64_t due_at(const struct sessile *table, const struct record *record)
{
    if (record_kind(record->terms) == RECORD_PENDING)
        return pending_until(record);
    if (shard_is_dead_retired(record))
        return record_absolute_ms(record->terms);
    struct deadlines deadlines = shard_deadlines(table, record);
    return least(deadlines.idle_ms, deadlines.absolute_ms);
}

bool shard_is_due(const struct sessile *table, const struct record *record, int64_t now)
{
    return now >= due_at(table, record);
}

/* ---- the lists that a record is in ---- */

static enum wheel_kind wheel_of(const struct record *record)
{
    if (record_kind(record->terms) != RECORD_SESSION || record_is_owned(record))
        return WHEEL_OWNED;
    return record_is_proven(record) ? WHEEL_PROVEN : WHEEL_PROBATION;
}

static void retired_add(struct hold *hold, uint32_t slot, struct record *record)
{
    struct shard *shard = hold->shard;
    struct record *last = shard->retired_tail ? arena_record(&hold->table->arena, shard->retired_tail) : NULL;
    atomic_store_explicit(&record->next, 0, memory_order_relaxed);
    atomic_store_explicit(&record->prev, last ? shard->retired_tail : RETIRED_FIRST, memory_order_relaxed);
    if (last)
        atomic_store_explicit(&last->next, slot, memory_order_relaxed);
    else
        shard->retired_head = slot;
    shard->retired_tail = slot;
    shard->retired++;
}

static void retired_remove(struct hold *hold, struct record *record)
{
    struct shard *shard = hold->shard;
    uint32_t next = atomic_load_explicit(&record->next, memory_order_relaxed);
    uint32_t prev = atomic_load_explicit(&record->prev, memory_order_relaxed);
    struct record *follower = next ? arena_record(&hold->table->arena, next) : NULL;
    struct record *leader = prev == RETIRED_FIRST ? NULL : arena_record(&hold->table->arena, prev);
    if (leader)
        atomic_store_explicit(&leader->next, next, memory_order_relaxed);
    else
        shard->retired_head = next;
    if (follower)
        atomic_store_explicit(&follower->prev, prev, memory_order_relaxed);
    else
        shard->retired_tail = leader ? prev : 0;
    atomic_store_explicit(&record->next, 0, memory_order_relaxed);
    atomic_store_explicit(&record->prev, 0, memory_order_relaxed);
    shard->retired--;
}

void shard_file(struct hold *hold, uint32_t slot, struct record *record)
{
    if (shard_is_dead_retired(record)) {
        retired_add(hold, slot, record);
        return;
    }
    int64_t due = due_at(hold->table, record);
    uint32_t deadline = due / 1000 + 1 >= WHEEL_NEVER ? WHEEL_NEVER - 1 : (uint32_t)((due + 999) / 1000);
    uint32_t fires = wheel_add(&hold->table->arena, hold->shard->wheels, wheel_of(record), slot, deadline,
                               hold->shard->tick);
    if (fires < hold->shard->next_fire)
        hold->shard->next_fire = fires;
}

static void unfile_record(struct hold *hold, uint32_t slot, struct record *record)
{
    if (shard_is_dead_retired(record))
        retired_remove(hold, record);
    else
        wheel_remove(&hold->table->arena, hold->shard->wheels, slot);
}

/* ---- counters: those of the table by fetch_add, all while `seq` is odd, so that a drift implies a recovery ---- */

static void count_own(_Atomic uint32_t *count, int by)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + (uint32_t)by, memory_order_relaxed);
}

static void count_record(struct hold *hold, const struct record *record, int by)
{
    struct arena_header *header = hold->table->arena.header;
    if (record_kind(record->terms) == RECORD_RETIRED) {
        if (!shard_is_dead_retired(record))
            hold->shard->forwarding += (uint32_t)by;
        return;
    }
    count_own(&hold->shard->sessions, by);
    atomic_fetch_add(&header->sessions, by);
    if (!record_is_owned(record)) {
        count_own(&hold->shard->anonymous, by);
        atomic_fetch_add(&header->anonymous, by);
    }
}

static bool has_capacity(const struct hold *hold, const struct record *record)
{
    const struct arena_header *header = hold->table->arena.header;
    const struct geometry *geometry = &hold->table->arena.geometry;
    if (atomic_load(&header->sessions) >= (int64_t)geometry->capacity)
        return false;
    return record_is_owned(record) || atomic_load(&header->anonymous) < (int64_t)geometry->anonymous_capacity;
}

/* ---- entering ---- */

void shard_seq_begin(struct shard *shard)
{
    uint32_t seq = atomic_load_explicit(&shard->seq, memory_order_relaxed);
    atomic_store_explicit(&shard->seq, seq | 1, memory_order_relaxed);
    record_order();
}

void shard_seq_end(struct shard *shard)
{
    record_order();
    uint32_t seq = atomic_load_explicit(&shard->seq, memory_order_relaxed);
    atomic_store_explicit(&shard->seq, (seq | 1) + 1, memory_order_relaxed);
}

static void *index_region(const struct sessile *table, uint32_t number)
{
    const struct geometry *geometry = &table->arena.geometry;
    return table->arena.base + geometry->shard_index + (uint64_t)number * geometry->index_entries * 8;
}

__attribute__((no_sanitize("thread"))) void shard_expect(const struct sessile *table, const uint8_t digest[32])
{
    uint32_t number = shard_number(table, digest);
    struct index index = index_view(index_region(table, number), shard_at(table, number)->active,
                                    table->arena.geometry.index_entries);
    __builtin_prefetch(&index.entries[index_home((uint32_t)record_prefix(digest), index.active)], 1);
}

void shard_view_index(struct hold *hold)
{
    hold->index = index_view(index_region(hold->table, hold->number), hold->shard->active,
                             hold->table->arena.geometry.index_entries);
}

void shard_wipe(struct record *record, uint32_t size)
{
    system_wipe(record->digest, sizeof record->digest);
    atomic_store_explicit(&record->used, 0, memory_order_relaxed);
    system_wipe(&record->terms, offsetof(struct record, next) - offsetof(struct record, terms));
    atomic_store_explicit(&record->prev, 0, memory_order_relaxed);
    system_wipe(&record->created_s, size - offsetof(struct record, created_s));
}

/* Empties the derived state: what follows is filled from the records. */
void shard_clear_derived(struct hold *hold, uint32_t entries)
{
    struct shard *shard = hold->shard;
    struct index *index = &hold->index;
    index->active = INDEX_FIRST < index->most ? INDEX_FIRST : index->most;
    while (entries > 0 && index_should_grow(index, entries - 1))
        index->active *= 2;
    index_clear(index);    /* what lies beyond is emptied when the index grows */
    shard->active = index->active;
    shard->entries = 0;
    shard->retired = shard->retired_head = shard->retired_tail = shard->forwarding = 0;
    atomic_store(&shard->sessions, 0);
    atomic_store(&shard->anonymous, 0);
    shard->tick = (uint32_t)(hold->now / 1000);
    shard->next_fire = WHEEL_NEVER;
    for (unsigned kind = 0; kind < WHEEL_COUNT; kind++)
        wheel_clear(&shard->wheels[kind]);
}

/* After revoke_all: kills every commit word first, then wipes, empties what is derived, returns the pages; the epoch is
 * the last store, so that a kill anywhere leaves it to be done again. */
static void reset(struct hold *hold, uint32_t epoch)
{
    struct shard *shard = hold->shard;
    struct arena *arena = &hold->table->arena;
    struct arena_page page;
    int64_t sessions = atomic_load(&shard->sessions), anonymous = atomic_load(&shard->anonymous);
    shard_seq_begin(shard);
    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);)
        for (uint32_t i = 0; i < page.slots; i++) {
            struct record *record = arena_record(arena, arena_slot_of(arena, page.unit, i, page.size));
            if (record && atomic_load_explicit(&record->commit, memory_order_relaxed) != 0)
                atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);
        }
    record_order();
    arena_rebuild_begin(&shard->lists);
    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);) {
        system_wipe(arena->base + (uint64_t)arena_slot_of(arena, page.unit, 0, page.size) * ARENA_SLOT,
                    (size_t)page.units * arena->geometry.unit_size);
        arena_rebuild_page(arena, &shard->lists, &page, NULL, NULL);
        arena_return_page(arena, &shard->lists, page.unit);
    }
    shard_clear_derived(hold, 0);
    atomic_fetch_sub(&arena->header->sessions, sessions);
    atomic_fetch_sub(&arena->header->anonymous, anonymous);
    shard->revoked += (uint64_t)sessions;
    record_order();
    atomic_store_explicit(&shard->epoch, epoch, memory_order_release);
    shard_seq_end(shard);
}

enum sessile_status shard_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct hold *hold)
{
    struct shard *shard = shard_at(table, number);
    uint32_t me = arena_me(&table->arena);
    if (__builtin_expect(me == 0, 0)) {
        if (process_attach(&table->arena.process) != SESSILE_OK)
            return SESSILE_DETACHED;
        me = arena_me(&table->arena);
    }
    if (!lock_try(&shard->lock, me, LOCK_SHARD)) {
        enum sessile_status status = lock_take(&shard->lock, me, LOCK_SHARD, wait_ms, &table->arena.watch);
        if (status != SESSILE_OK)
            return status;
    }
    hold->table = table;
    hold->shard = shard;
    hold->number = number;
    hold->now = arena_now(&table->arena);
    hold->orphan_count = 0;
    shard_view_index(hold);
    uint32_t epoch = shard_epoch(table);
    if (__builtin_expect(atomic_load_explicit(&shard->epoch, memory_order_relaxed) != epoch, 0))
        reset(hold, epoch);
    return SESSILE_OK;
}

/* The forwarding record of a session that ended goes with it; where it cannot now, its own deadline ends it. */
static void forget_parent(struct sessile *table, const struct orphan *orphan)
{
    struct hold hold;
    struct record *record;
    struct retired retired;
    if (shard_enter(table, shard_number(table, orphan->parent), 0, &hold) != SESSILE_OK)
        return;
    uint32_t slot = shard_find(&hold, orphan->parent, &record);
    if (slot != 0 && record_kind(record_read_terms(record)) == RECORD_RETIRED && !shard_is_dead_retired(record)) {
        memcpy(&retired, record->payload, sizeof retired);
        if (digest_equal(retired.child, orphan->child))
            shard_remove(&hold, slot);
    }
    shard_leave(&hold);
}

void shard_leave(struct hold *hold)
{
    lock_release(&hold->shard->lock, LOCK_SHARD);
    for (unsigned i = 0; i < hold->orphan_count; i++)
        forget_parent(hold->table, &hold->orphans[i]);
    hold->orphan_count = 0;
}

/* Was none of a session's ids given by a renewal? Then none of them forwards. A log-in counts both from 0; after 8,192 renewals
 * the answer is wrong, and what forwards ends by its own deadline. */
static bool never_renewed(const struct record *record, uint64_t terms)
{
    uint32_t rotates = record_rotates(atomic_load_explicit(&record->used, memory_order_relaxed));
    return record_rotations(terms) == rotates % RECORD_ROTATIONS;
}

/* A session whose own id was never presented leaves, and its parent forwards to nothing. */
static void note_orphan(struct hold *hold, const struct record *record)
{
    uint64_t terms = record_read_terms(record);
    if (record_kind(terms) != RECORD_SESSION || !(terms & RECORD_HAS_PARENT) || record_is_proven(record) ||
        never_renewed(record, terms) || record_payload_length(record_read_lengths(record)) < 32 || hold->orphan_count == SHARD_ORPHANS)
        return;
    struct orphan *orphan = &hold->orphans[hold->orphan_count++];
    memcpy(orphan->parent, record->payload, 32);
    memcpy(orphan->child, record->digest, 32);
}

/* ---- finding ---- */

uint32_t shard_find(struct hold *hold, const uint8_t digest[32], struct record **record)
{
    uint32_t hash = (uint32_t)record_prefix(digest), slot;
    struct index_cursor cursor = index_start(&hold->index, hash);
    while ((slot = index_next(&hold->index, hash, &cursor)) != 0) {
        struct record *found = arena_record(&hold->table->arena, slot);
        if (found && record_is_live(atomic_load_explicit(&found->commit, memory_order_acquire)) &&
            digest_equal(found->digest, digest)) {
            *record = found;
            return slot;
        }
    }
    return 0;
}

enum sessile_status shard_copy(const struct hold *hold, const struct record *record, struct image *image, size_t *needed)
{
    uint32_t slot = (uint32_t)((uint64_t)((const uint8_t *)record - hold->table->arena.base) / ARENA_SLOT);
    memcpy((void *)image->record, (const void *)record, RECORD_HEADER);
    uint32_t length = record_payload_length(image->record->lengths);
    *needed = RECORD_HEADER + (size_t)length;
    if (length > RECORD_PAYLOAD_MAX || !arena_within(&hold->table->arena, slot, *needed))
        return SESSILE_DAMAGED;
    if (*needed > image->capacity)
        return SESSILE_BUFFER;
    memcpy(image->record->payload, record->payload, length);
    return SESSILE_OK;
}

bool shard_verify(const struct image *image, const uint8_t digest[32])
{
    const struct record *record = image->record;
    uint64_t commit = atomic_load_explicit(&record->commit, memory_order_relaxed);
    return digest_equal(record->digest, digest) && (uint32_t)commit == record_checksum(record, record->lengths);
}

/* ---- storing ---- */

static enum arena_pool pool_of(const struct record *record)
{
    return record_is_owned(record) ? ARENA_OWNED : ARENA_ANONYMOUS;
}

enum shard_answer shard_answer(enum arena_answer answer)
{
    switch (answer) {
    case ARENA_OK: return SHARD_OK;
    case ARENA_NEED_RESERVE: return SHARD_RESERVE;
    case ARENA_NEED_PAGE: return SHARD_PAGE;
    case ARENA_BUSY: return SHARD_BUSY;
    }
    return SHARD_BUSY;
}

static size_t image_size(const struct record *image)
{
    return RECORD_HEADER + (size_t)record_payload_length(image->lengths);
}

/* Fills a clean slot from `image`, of which `lengths` was read once, and commits it. */
static void commit_copy(struct hold *hold, struct record *slot, const struct record *image, uint32_t lengths,
                        uint32_t version)
{
    uint64_t used = atomic_load_explicit(&image->used, memory_order_relaxed);
    uint64_t commit = record_commit(version, record_checksum(image, lengths));
    atomic_store_explicit(&slot->commit, RECORD_DIRTY, memory_order_release);
    record_order();
    memcpy(slot->digest, image->digest, sizeof slot->digest);
    atomic_store_explicit(&slot->used, used, memory_order_relaxed);
    memcpy((void *)&slot->terms, (const void *)&image->terms, offsetof(struct record, next) - offsetof(struct record, terms));
    slot->created_s = image->created_s;
    slot->authenticated_s = image->authenticated_s;
    slot->lsn = ++hold->shard->lsn;
    slot->issued_s = image->issued_s;
    memcpy(slot->payload, image->payload, record_payload_length(lengths));
    record_order();
    atomic_store_explicit(&slot->commit, commit, memory_order_release);
    record_order();
}

static void commit_record(struct hold *hold, struct record *slot, const struct record *image, uint32_t version)
{
    commit_copy(hold, slot, image, image->lengths, version);
}

static void grow_index(struct hold *hold)
{
    if (!index_should_grow(&hold->index, hold->shard->entries))
        return;
    index_grow(&hold->index);
    record_order();
    hold->shard->active = hold->index.active;
}

enum shard_answer shard_insert(struct hold *hold, struct record *image, uint32_t version, bool limits, int purpose)
{
    struct shard *shard = hold->shard;
    struct arena *arena = &hold->table->arena;
    struct record *record;
    uint32_t slot;
    if (shard_find(hold, image->digest, &record))
        return SHARD_EXISTS;
    if (!index_has_room(&hold->index, shard->entries))
        return SHARD_INDEX;
    if (limits && !has_capacity(hold, image))
        return SHARD_CAPACITY;
    shard_seq_begin(shard);
    enum arena_answer answer = arena_take(arena, &shard->lists, hold->number, pool_of(image), (uint32_t)image_size(image),
                                          purpose, &slot);
    if (answer != ARENA_OK) {
        shard_seq_end(shard);
        return shard_answer(answer);
    }
    /* Counted first: two that see the last free place cannot both take it. */
    count_record(hold, image, 1);
    const struct arena_header *header = arena->header;
    if (limits && (atomic_load(&header->sessions) > (int64_t)arena->geometry.capacity ||
                   (!record_is_owned(image) &&
                    atomic_load(&header->anonymous) > (int64_t)arena->geometry.anonymous_capacity))) {
        count_record(hold, image, -1);
        arena_give(arena, &shard->lists, hold->number, slot);
        shard_seq_end(shard);
        return SHARD_CAPACITY;
    }
    record = arena_record(arena, slot);
    commit_record(hold, record, image, version);
    grow_index(hold);
    if (!index_insert(&hold->index, (uint32_t)record_prefix(image->digest), slot)) {
        shard_recover(hold->table, hold->number);
        shard_view_index(hold);
        return SHARD_OK;
    }
    shard->entries++;
    shard_file(hold, slot, record);
    shard_seq_end(shard);
    return SHARD_OK;
}

/* The commit of a removal, then the wipe; the slot is given back by the caller's order of things. */
static void kill_record(struct hold *hold, uint32_t slot, struct record *record, uint32_t size)
{
    atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);
    record_order();
    shard_wipe(record, size);
    record_order();
    atomic_store_explicit(&record->commit, 0, memory_order_release);
    arena_give(&hold->table->arena, &hold->shard->lists, hold->number, slot);
}

static uint32_t slot_size(const struct hold *hold, uint32_t slot)
{
    struct arena_place place;
    return arena_place(&hold->table->arena, hold->number, slot, &place) ? place.size : RECORD_HEADER;
}

/* Two sessions with owners, or two without: the line of the table's counters, which all processes write, is left alone. */
static bool counts_alike(const struct record *a, const struct record *b)
{
    return record_kind(a->terms) != RECORD_RETIRED && record_kind(b->terms) != RECORD_RETIRED &&
           record_is_owned(a) == record_is_owned(b);
}

/* Puts the committed record `to` in the place of `from`, and ends `from`. */
static void supersede(struct hold *hold, uint32_t from, uint32_t to)
{
    struct record *old = arena_record(&hold->table->arena, from), *new = arena_record(&hold->table->arena, to);
    index_replace(&hold->index, (uint32_t)record_prefix(new->digest), from, to);
    record_order();
    unfile_record(hold, from, old);
    if (!counts_alike(old, new)) {
        count_record(hold, old, -1);
        count_record(hold, new, 1);
    }
    kill_record(hold, from, old, slot_size(hold, from));
    shard_file(hold, to, new);
}

/* A slot for a new version: of its own size; else, where the pool changes or nothing fits, as the old one's. */
static enum arena_answer take_for_update(struct hold *hold, uint32_t old, const struct record *image, int purpose,
                                         uint32_t *slot)
{
    struct arena_place place;
    if (arena_place(&hold->table->arena, hold->number, old, &place))
        purpose |= ARENA_OWN_CLASS(place.class);
    return arena_take(&hold->table->arena, &hold->shard->lists, hold->number, pool_of(image),
                      (uint32_t)image_size(image), purpose | ARENA_UPDATE, slot);
}

enum shard_answer shard_replace(struct hold *hold, uint32_t slot, struct record *image, int purpose)
{
    struct shard *shard = hold->shard;
    struct record *old = arena_record(&hold->table->arena, slot);
    uint32_t version = record_version(atomic_load_explicit(&old->commit, memory_order_relaxed));
    uint32_t to;
    shard_seq_begin(shard);
    enum arena_answer answer = take_for_update(hold, slot, image, purpose, &to);
    if (answer == ARENA_OK) {
        if (record_kind(image->terms) == RECORD_RETIRED)
            note_orphan(hold, old);
        commit_record(hold, arena_record(&hold->table->arena, to), image, version + 1);
        supersede(hold, slot, to);
    }
    shard_seq_end(shard);
    return shard_answer(answer);
}

void shard_promote(struct hold *hold, uint32_t slot, struct record *record)
{
    uint64_t terms = record_of_kind(record_read_terms(record), RECORD_SESSION);
    shard_seq_begin(hold->shard);
    unfile_record(hold, slot, record);
    record->lsn = ++hold->shard->lsn;
    record_order();
    __atomic_store_n(&record->terms, terms, __ATOMIC_RELEASE);
    record_order();
    shard_file(hold, slot, record);
    shard_seq_end(hold->shard);
}

void shard_remove(struct hold *hold, uint32_t slot)
{
    struct shard *shard = hold->shard;
    struct record *record = arena_record(&hold->table->arena, slot);
    uint32_t hash = (uint32_t)record_prefix(record->digest), size = slot_size(hold, slot);
    note_orphan(hold, record);
    shard_seq_begin(shard);
    shard->lsn++;
    atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);
    record_order();
    if (index_remove(&hold->index, hash, slot))
        shard->entries--;
    unfile_record(hold, slot, record);
    count_record(hold, record, -1);
    kill_record(hold, slot, record, size);
    shard_seq_end(shard);
}

void shard_quarantine(struct hold *hold, const uint8_t digest[32])
{
    struct record *record;
    uint32_t slot = shard_find(hold, digest, &record);
    struct arena_place place;
    if (slot == 0)
        return;
    uint32_t lengths = record_read_lengths(record), length = record_payload_length(lengths);
    bool sound = arena_place(&hold->table->arena, hold->number, slot, &place) && length <= place.size - RECORD_HEADER &&
                 (uint32_t)atomic_load(&record->commit) == record_checksum(record, lengths);
    if (sound)
        return;
    /* Its lists may be wrong with it: rebuilding takes it out. */
    shard_recover(hold->table, hold->number);
    shard_view_index(hold);
}

/* ---- reports ---- */

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static struct sessile_report *append(struct sessile_sink *sink, size_t size)
{
    if (sink->capacity - sink->used < size)
        return NULL;
    struct sessile_report *report = (struct sessile_report *)(void *)(sink->buffer + sink->used);
    sink->used += size;
    memset(report, 0, sizeof *report);
    report->size = (uint32_t)size;
    return report;
}

void sink_note(struct sessile_sink *sink, enum sessile_reason reason, uint64_t handle, int64_t at_ms)
{
    struct sessile_report *report = sink ? append(sink, sizeof *report) : NULL;
    if (!report)
        return;
    report->reason = (uint8_t)reason;
    report->handle = handle;
    report->at_ms = at_ms;
    report->cut = 1;
}

bool shard_report(const struct hold *hold, struct sessile_sink *sink, const struct record *record,
                  enum sessile_reason reason, bool must)
{
    struct record_parts parts;
    if (!sink)
        return true;
    struct arena_place place;
    uint32_t slot = (uint32_t)((uint64_t)((const uint8_t *)record - hold->table->arena.base) / ARENA_SLOT);
    uint32_t lengths = record_read_lengths(record), length = record_payload_length(lengths);
    bool sound = arena_place(&hold->table->arena, hold->number, slot, &place) && length <= place.size - RECORD_HEADER &&
                 record_parts(record_read_terms(record), lengths, record->payload, &parts);
    struct sessile_report *report = NULL;
    if (sound)
        report = append(sink, padded(sizeof *report + parts.owner_length + (size_t)parts.fields_length));
    if (!report) {
        if (must)
            sink_note(sink, reason, record->handle, hold->now);
        return must;
    }
    report->reason = (uint8_t)reason;
    report->handle = record->handle;
    report->at_ms = hold->now;
    report->owner_length = (uint16_t)parts.owner_length;
    report->fields_length = parts.fields_length;
    uint8_t *data = (uint8_t *)(report + 1);
    memcpy(data, parts.owner, parts.owner_length);
    memcpy(data + parts.owner_length, parts.fields, parts.fields_length);
    return true;
}

/* ---- expiry and eviction ---- */

static enum sessile_reason reason_of(const struct hold *hold, const struct record *record)
{
    struct deadlines deadlines = shard_deadlines(hold->table, record);
    return hold->now >= deadlines.absolute_ms && deadlines.absolute_ms <= deadlines.idle_ms ? SESSILE_ABSOLUTE
                                                                                           : SESSILE_IDLE;
}

static void refile(struct hold *hold, uint32_t slot, struct record *record)
{
    unfile_record(hold, slot, record);
    shard_file(hold, slot, record);
}

static void defer(struct deferred *deferred, const struct record *record)
{
    if (deferred && deferred->count < SHARD_WORK) {
        memcpy(deferred->records[deferred->count].digest, record->digest, 32);
        deferred->records[deferred->count++].kind = (uint32_t)record_kind(record->terms);
    }
}

/* Files a record that is due but cannot be dropped here a little later than its true deadline. */
static void postpone(struct hold *hold, uint32_t slot, struct record *record)
{
    unfile_record(hold, slot, record);
    uint32_t fires = wheel_add(&hold->table->arena, hold->shard->wheels, wheel_of(record), slot,
                               (uint32_t)(hold->now / 1000) + PENDING_AGAIN_S, hold->shard->tick);
    if (fires < hold->shard->next_fire)
        hold->shard->next_fire = fires;
}

/* One record whose bucket fired. False: its report did not fit, stop here. */
static bool fire(struct hold *hold, uint32_t slot, struct record *record, struct sessile_sink *sink,
                 struct deferred *deferred, uint32_t *ended)
{
    shard_seq_begin(hold->shard);
    if (!shard_is_due(hold->table, record, hold->now)) {
        refile(hold, slot, record);
    } else if (record_kind(record->terms) != RECORD_SESSION) {
        defer(deferred, record);
        postpone(hold, slot, record);
    } else {
        if (!shard_report(hold, sink, record, reason_of(hold, record), false)) {
            shard_seq_end(hold->shard);
            return false;
        }
        hold->shard->expired++;
        *ended += 1;
        shard_remove(hold, slot);
        return true;
    }
    shard_seq_end(hold->shard);
    return true;
}

static uint32_t first_to_fire(const struct shard *shard, bool opens, uint32_t *slot)
{
    uint32_t best = WHEEL_NEVER;
    for (unsigned kind = 0; kind < WHEEL_COUNT; kind++) {
        uint32_t found = 0, tick = wheel_first(&shard->wheels[kind], shard->tick, opens, &found);
        if (tick < best) {
            best = tick;
            *slot = found;
        }
    }
    return best;
}

static void defer_retired(struct hold *hold, struct deferred *deferred)
{
    struct shard *shard = hold->shard;
    struct record *record = shard->retired_head ? arena_record(&hold->table->arena, shard->retired_head) : NULL;
    if (record && (shard->retired > hold->table->arena.geometry.retired_bound ||
                   shard_is_due(hold->table, record, hold->now)))
        defer(deferred, record);
}

/* The wheels may be taken to have fired up to the tick before the first bucket that fires. */
static void raise_tick(struct shard *shard, uint32_t now)
{
    uint32_t slot, fires = first_to_fire(shard, false, &slot);
    shard->next_fire = fires;
    uint32_t reached = fires - 1 < now ? fires - 1 : now;
    if (reached > shard->tick)
        shard->tick = reached;
}

uint32_t shard_advance(struct hold *hold, uint32_t budget, bool sweep, struct sessile_sink *sink,
                       struct deferred *deferred, bool *more)
{
    struct shard *shard = hold->shard;
    uint32_t now = (uint32_t)(hold->now / 1000), ended = 0;
    *more = false;
    if (shard->retired)
        defer_retired(hold, deferred);
    while (sweep || shard->next_fire <= now) {
        uint32_t slot = 0;
        raise_tick(shard, now);
        if (first_to_fire(shard, sweep, &slot) > now)
            break;
        struct record *record = arena_record(&hold->table->arena, slot);
        if (!record || !record_is_live(atomic_load_explicit(&record->commit, memory_order_relaxed))) {
            shard_recover(hold->table, hold->number);
            shard_view_index(hold);
            return ended;
        }
        *more = budget == 0;
        if (*more || !fire(hold, slot, record, sink, deferred, &ended))
            return ended;
        budget--;
    }
    if (now > shard->tick)
        shard->tick = now;
    return ended;
}

/* The first record in the order of eviction but the one with digest `except`, which may hide others of its bucket. */
static uint32_t first_victim(struct hold *hold, enum wheel_kind kind, const uint8_t except[32])
{
    struct shard *shard = hold->shard;
    struct record *spared = NULL;
    uint32_t first = 0, slot = except ? shard_find(hold, except, &spared) : 0;
    shard_seq_begin(shard);
    if (slot)
        unfile_record(hold, slot, spared);
    bool any = wheel_first(&shard->wheels[kind], shard->tick, false, &first) != WHEEL_NEVER;
    if (slot)
        shard_file(hold, slot, spared);
    shard_seq_end(shard);
    return any ? first : 0;
}

bool shard_evict(struct hold *hold, enum wheel_kind kind, const uint8_t except[32], struct sessile_sink *sink)
{
    struct shard *shard = hold->shard;
    for (uint32_t look = 0; look < EVICT_LOOKS; look++) {
        uint32_t slot = first_victim(hold, kind, except);
        if (slot == 0)
            return false;
        struct record *record = arena_record(&hold->table->arena, slot);
        if (!record || !record_is_live(atomic_load_explicit(&record->commit, memory_order_relaxed))) {
            shard_recover(hold->table, hold->number);
            shard_view_index(hold);
            return false;
        }
        uint32_t prev = atomic_load_explicit(&record->prev, memory_order_relaxed);
        shard_seq_begin(shard);
        refile(hold, slot, record);
        shard_seq_end(shard);
        bool is_first = prev == atomic_load_explicit(&record->prev, memory_order_relaxed) && wheel_of(record) == kind;
        if (!is_first && look + 1 < EVICT_LOOKS)
            continue;
        if (wheel_of(record) != kind)
            continue;
        shard_report(hold, sink, record, SESSILE_EVICTED, true);
        shard->evicted++;
        shard_remove(hold, slot);
        return true;
    }
    return false;
}

/* Moves one record into another free slot, with its version: until the old copy is gone the two are alike, and recovery may
 * keep either. */
static bool move(struct hold *hold, uint32_t slot, struct record *record, enum arena_pool pool, int purpose)
{
    struct arena *arena = &hold->table->arena;
    uint64_t commit = atomic_load_explicit(&record->commit, memory_order_relaxed);
    uint32_t lengths = record_read_lengths(record), size = RECORD_HEADER + record_payload_length(lengths), to;
    struct arena_place place;
    if (!arena_place(arena, hold->number, slot, &place) || size > place.size ||
        (uint32_t)commit != record_checksum(record, lengths) ||
        arena_take(arena, &hold->shard->lists, hold->number, pool, size, purpose | ARENA_NO_WAIT, &to) != ARENA_OK)
        return false;
    commit_copy(hold, arena_record(arena, to), record, lengths, record_version(commit));
    supersede(hold, slot, to);
    return true;
}

bool shard_evacuate_page(struct hold *hold, uint32_t unit)
{
    struct arena *arena = &hold->table->arena;
    struct shard *shard = hold->shard;
    uint32_t next = unit;
    struct arena_page page;
    if (!arena_next_page(arena, hold->number, &next, &page) || page.unit != unit ||
        !arena_may_go(arena, &shard->lists, &page))
        return false;
    shard_seq_begin(shard);
    arena_unlist(arena, &shard->lists, unit);
    uint32_t moves = 0;
    bool moved = true;
    for (uint32_t i = 0; i < page.slots && moved && moves < EVACUATE_MOVES; i++) {
        uint32_t slot = arena_slot_of(arena, unit, i, page.size);
        struct record *record = arena_record(arena, slot);
        if (!record || !record_is_live(atomic_load_explicit(&record->commit, memory_order_relaxed)))
            continue;
        /* No page is lent for it, else emptying one page would fill another. */
        moved = move(hold, slot, record, page.pool, ARENA_ANY_CLASS | ARENA_NO_LEND);
        moves += moved;
    }
    arena_relist(arena, &shard->lists, unit);
    bool returned = arena_return_page(arena, &shard->lists, unit);
    shard_seq_end(shard);
    return returned || moves == EVACUATE_MOVES;
}

static struct record *live_record(const struct hold *hold, uint32_t slot)
{
    struct record *record = arena_record(&hold->table->arena, slot);
    return record && record_is_live(atomic_load_explicit(&record->commit, memory_order_relaxed)) ? record : NULL;
}

static uint32_t own_class(const struct hold *hold, const struct record *record)
{
    return arena_class(&hold->table->arena.geometry, RECORD_HEADER + record_payload_length(record_read_lengths(record)));
}

/* Would each record of a page fit a smaller class, with at most one page lent for them, no larger than theirs? */
static bool can_send_home(const struct hold *hold, const struct arena_page *page)
{
    const struct arena *arena = &hold->table->arena;
    const struct page_lists *lists = &hold->shard->lists;
    uint32_t count[ARENA_LISTS] = {0}, live = 0, lent = 0;
    for (uint32_t i = 0; i < page->slots; i++) {
        const struct record *record = live_record(hold, arena_slot_of(arena, page->unit, i, page->size));
        uint32_t class = record ? own_class(hold, record) : 0;
        if (record && class >= page->class)
            return false;
        count[class] += record != NULL;
        live += record != NULL;
    }
    for (uint32_t class = 0; class < page->class; class++) {
        uint32_t free = lists->free[page->pool][class], room = free > 1 ? free - 1 : 0;
        if (room >= count[class])
            continue;
        room += arena->geometry.class_slots[class];
        if (room < count[class] || arena->geometry.class_units[class] > page->units || lent++ > 0)
            return false;
    }
    return live > 0 && live <= EVACUATE_MOVES;
}

/* Moves the records of a page into slots of their own size. A page that is lent for them may be of the reserve: this one is
 * returned for it under the same lock. */
static bool send_home(struct hold *hold, const struct arena_page *page)
{
    bool moved = true;
    shard_seq_begin(hold->shard);
    for (uint32_t i = 0; i < page->slots && moved; i++) {
        uint32_t slot = arena_slot_of(&hold->table->arena, page->unit, i, page->size);
        struct record *record = live_record(hold, slot);
        moved = !record || move(hold, slot, record, page->pool, ARENA_UPDATE);
    }
    shard_seq_end(hold->shard);
    return moved;
}

bool shard_send_home(struct hold *hold, enum arena_pool pool)
{
    const struct arena *arena = &hold->table->arena;
    uint32_t place = hold->shard->lsn * 0x9e3779b1u;
    for (uint32_t look = 0, pages = 0; look < HOME_LOOKS && pages < HOME_PAGES; look++, place++) {
        uint64_t entry = atomic_load(&hold->index.entries[place & (hold->index.active - 1)]);
        uint32_t slot = (uint32_t)entry & 0x7fffffffu, unit, holder;
        const struct record *record = entry ? live_record(hold, slot) : NULL;
        struct arena_place where;
        struct arena_page page;
        if (!record || !arena_place(arena, hold->number, slot, &where) || where.pool != pool ||
            where.class >= arena->geometry.class_count || own_class(hold, record) >= where.class)
            continue;
        pages++;
        unit = where.unit;
        if (arena_page_at(arena, unit, &holder, &page) && can_send_home(hold, &page))
            return send_home(hold, &page);
    }
    return false;
}

bool shard_evacuate(struct hold *hold, enum arena_pool pool)
{
    uint32_t unit = arena_sparsest(&hold->table->arena, &hold->shard->lists, pool);
    return unit != UINT32_MAX && shard_evacuate_page(hold, unit);
}
