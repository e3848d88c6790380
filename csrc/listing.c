/* listing.c - many sessions: an owner's, a shard's, all; sweep, figures, checks. See sessile.h. */
#include "table.h"

#include <stdlib.h>

#define SWEEP_BATCH 64u

/* ---- lists ---- */

struct list {
    struct sessile *table;
    uint8_t *buffer;
    size_t capacity, length;
    uint64_t count;
    struct deferred pending;
};

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* Appends facts, owner and device of a record; beyond the capacity only counts. */
static void list_record(struct list *list, const struct hold *hold, uint32_t slot, const struct record *record)
{
    struct image header;
    struct record_parts parts;
    struct arena_place place;
    image_begin(&header);
    memcpy((void *)header.record, (const void *)record, RECORD_HEADER);
    uint32_t length = record_payload_length(header.record->lengths);
    if (!arena_place(&list->table->arena, hold->number, slot, &place) || length > place.size - RECORD_HEADER ||
        !record_parts(header.record->terms, header.record->lengths, record->payload, &parts))
        return;
    size_t size = padded(sizeof(struct sessile_session) + parts.owner_length + parts.device_length);
    if (list->length + size <= list->capacity) {
        struct sessile_session session;
        uint8_t *next = list->buffer + list->length;
        memset(&session, 0, sizeof session);
        table_facts_of(list->table, header.record, &parts, hold->now, &session);
        memcpy(next, &session, sizeof session);
        next += sizeof session;
        memcpy(next, parts.owner, parts.owner_length);
        next += parts.owner_length;
        if (parts.device_length)
            memcpy(next, parts.device, parts.device_length);
    }
    list->length += size;
    list->count++;
}

static enum owner_next list_owned(void *context, struct hold *hold, uint32_t slot, struct record *record)
{
    list_record(context, hold, slot, record);
    return OWNER_GO_ON;
}

static enum sessile_status list_status(const struct list *list, uint64_t *count, size_t *length)
{
    *count = list->count;
    *length = list->length;
    return list->length <= list->capacity ? SESSILE_OK : SESSILE_BUFFER;
}

enum sessile_status sessile_owner_list(struct sessile *table, const struct sessile_call *call, const uint8_t *owner,
                                       uint32_t owner_length, uint8_t *buffer, size_t capacity, uint64_t *count,
                                       size_t *length)
{
    struct stripe_hold hold;
    struct list list = {.table = table, .buffer = buffer, .capacity = capacity};
    if (owner_length == 0 || owner_length > SESSILE_OWNER_MAX)
        return list_status(&list, count, length);
    struct owner named = owner_named(table, owner, owner_length);
    enum sessile_status status = owner_enter(table, &named, call, &hold);
    if (status != SESSILE_OK)
        return status;
    status = owner_walk(&hold, &named, call, list_owned, &list);
    owner_leave(&hold);
    return status == SESSILE_OK ? list_status(&list, count, length) : status;
}

/* All sessions of a held shard; committed children that wait for their promotion are noted. */
static void list_shard(struct list *list, const struct hold *hold)
{
    struct arena_page page;
    const struct arena *arena = &list->table->arena;
    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);)
        for (uint32_t i = 0; i < page.slots; i++) {
            uint32_t slot = arena_slot_of(arena, page.unit, i, page.size);
            const struct record *record = arena_record(arena, slot);
            if (!record || !record_is_live(atomic_load_explicit(&record->commit, memory_order_acquire)))
                continue;
            enum record_kind kind = record_kind(record_read_terms(record));
            if (kind == RECORD_SESSION && !shard_is_due(list->table, record, hold->now)) {
                list_record(list, hold, slot, record);
            } else if (kind == RECORD_PENDING && list->pending.count < SHARD_WORK) {
                memcpy(list->pending.records[list->pending.count].digest, record->digest, 32);
                list->pending.records[list->pending.count++].kind = RECORD_PENDING;
            }
        }
}

enum sessile_status sessile_scan(struct sessile *table, const struct sessile_call *call, uint32_t shard, uint8_t *buffer,
                                 size_t capacity, uint64_t *count, size_t *length)
{
    struct list list = {.table = table};
    if (shard >= table->arena.geometry.shards)
        return SESSILE_INVALID;
    for (int tries = 0; tries < 2; tries++) {
        struct hold hold;
        list = (struct list){.table = table, .buffer = buffer, .capacity = capacity};
        enum sessile_status status = shard_enter(table, shard, call->wait_ms, &hold);
        if (status != SESSILE_OK)
            return status;
        list_shard(&list, &hold);
        shard_leave(&hold);
        if (list.pending.count == 0)
            break;
        room_settle(table, &list.pending, call->wait_ms);
    }
    return list_status(&list, count, length);
}

/* ---- revocation ---- */

struct only {
    uint64_t handle;
    struct sessile_sink *sink;
    uint64_t count;
};

static enum owner_next end_handle(void *context, struct hold *hold, uint32_t slot, struct record *record)
{
    struct only *only = context;
    if (record->handle != only->handle)
        return OWNER_GO_ON;
    shard_report(hold, only->sink, record, SESSILE_REVOKED, true);
    hold->shard->revoked++;
    shard_remove(hold, slot);
    only->count++;
    return OWNER_REMOVED;
}

enum sessile_status sessile_owner_revoke(struct sessile *table, const struct sessile_call *call, const uint8_t *owner,
                                         uint32_t owner_length, uint64_t keep, uint64_t only, uint64_t *count)
{
    struct stripe_hold hold;
    *count = 0;
    if (owner_length == 0 || owner_length > SESSILE_OWNER_MAX)
        return SESSILE_OK;
    struct owner named = owner_named(table, owner, owner_length);
    enum sessile_status status = owner_enter(table, &named, call, &hold);
    if (status != SESSILE_OK)
        return status;
    if (only != 0) {
        struct only search = {.handle = only, .sink = call->sink};
        status = owner_walk(&hold, &named, call, end_handle, &search);
        *count = search.count;
    } else {
        status = owner_revoke(&hold, &named, keep, call, count);
    }
    owner_leave(&hold);
    return status;
}

enum sessile_status sessile_revoke_all(struct sessile *table, uint64_t *count)
{
    struct process *process = &table->arena.process;
    uint32_t epoch = shard_epoch(table);
    *count = 0;
    if (process->descriptor < 0 && process_attach(process) != SESSILE_OK)
        return SESSILE_DETACHED;    /* a copy, whose epoch nobody else would ever see */
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
        if (atomic_load(&shard_at(table, number)->epoch) == epoch)
            *count += atomic_load(&shard_at(table, number)->sessions);
    atomic_fetch_add(&table->arena.header->epoch, 1);
    return SESSILE_OK;
}

/* ---- sweep ---- */

enum sessile_status sessile_sweep(struct sessile *table, const struct sessile_call *call, uint64_t budget, uint64_t *count)
{
    uint32_t shards = table->arena.geometry.shards;
    uint32_t number = atomic_load(&table->arena.header->hand) % shards, idle = 0, rounds = 0;
    *count = 0;
    while (idle < shards && *count < budget) {
        struct hold hold;
        struct deferred deferred = {0};
        enum sessile_status status = shard_enter(table, number, call->wait_ms, &hold);
        if (status != SESSILE_OK)
            return status;
        uint64_t left = budget - *count;
        bool more;
        uint32_t ended = shard_advance(&hold, left < SWEEP_BATCH ? (uint32_t)left : SWEEP_BATCH, true, call->sink, &deferred,
                                       &more);
        shard_leave(&hold);
        room_settle(table, &deferred, call->wait_ms);
        *count += ended;
        if (call->sink && call->sink->used > call->sink->capacity / 2)
            break;    /* the caller takes the reports, and goes on */
        struct stripe_hold stripe;
        if (atomic_load(&stripe_at(table, number)->revoking) && stripe_enter(table, number, call->wait_ms, &stripe) == SESSILE_OK)
            owner_leave(&stripe);
        /* Wheels whose bytes are not what they should be may never be empty. */
        if (more && ++rounds < table->arena.geometry.index_entries)
            continue;
        rounds = 0;
        if (ended > 0)
            idle = 0;
        idle++;
        number = (number + 1) % shards;
    }
    atomic_store(&table->arena.header->hand, number);
    if (atomic_load(&table->arena.header->recount_due))
        shard_recount(table);
    return SESSILE_OK;
}

/* ---- figures ---- */

/* Without locks: figures of a moment, that a stopped process cannot hold up. */
__attribute__((no_sanitize("thread"))) static void add_shard(const struct sessile *table, uint32_t number, struct sessile_stats *stats)
{
    const struct shard *shard = shard_at(table, number);
    bool current = atomic_load(&shard->epoch) == shard_epoch(table);
    uint32_t sessions = current ? atomic_load(&shard->sessions) : 0;
    uint32_t anonymous = current ? atomic_load(&shard->anonymous) : 0;
    stats->sessions += sessions;
    stats->anonymous += anonymous;
    stats->owned += sessions - anonymous;
    stats->loads += atomic_load(&shard->loads);
    stats->misses += atomic_load(&shard->misses);
    stats->created += atomic_load(&shard->created);
    stats->expired += atomic_load(&shard->expired);
    stats->evicted += atomic_load(&shard->evicted);
    stats->revoked += atomic_load(&shard->revoked) + (current ? 0 : atomic_load(&shard->sessions));
    if (current)
        stats->memory_used += arena_bytes_used(&table->arena.geometry, &shard->lists);
    stats->memory_used += arena_bytes_used(&table->arena.geometry, &stripe_at(table, number)->lists);
}

void sessile_stats(struct sessile *table, struct sessile_stats *stats)
{
    const struct arena_header *header = table->arena.header;
    memset(stats, 0, sizeof *stats);
    stats->capacity = table->arena.geometry.capacity;
    stats->memory = table->arena.geometry.memory;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
        add_shard(table, number, stats);
    stats->malformed = atomic_load(&header->malformed);
    stats->full = atomic_load(&header->full);
    stats->recoveries = atomic_load(&header->recoveries);
    stats->quarantined = atomic_load(&header->quarantined);
    stats->memory_lent = (uint64_t)atomic_load(&header->used_units) * table->arena.geometry.unit_size;
    stats->processes = process_count(&table->arena.process);
}

/* ---- checks ---- */

struct owned_list {
    struct {
        uint8_t digest[32];
        uint64_t handle;
        uint32_t owner_length;
        uint8_t owner[SESSILE_OWNER_MAX];
    } *sessions;
    uint32_t count, capacity;
};

/* Owned sessions of a held shard, for the audit of O1. */
static void note_owned(const struct hold *hold, struct owned_list *owned)
{
    const struct arena *arena = &hold->table->arena;
    struct arena_page page;
    for (uint32_t unit = 0; arena_next_page(arena, hold->number, &unit, &page);)
        for (uint32_t i = 0; i < page.slots && owned->count < owned->capacity; i++) {
            const struct record *record = arena_record(arena, arena_slot_of(arena, page.unit, i, page.size));
            struct record_parts parts;
            if (!record || !record_is_live(atomic_load(&record->commit)) || !record_is_owned(record))
                continue;
            uint64_t terms = record_read_terms(record);
            uint32_t lengths = record_read_lengths(record);
            if (record_kind(terms) != RECORD_SESSION || record_payload_length(lengths) > page.size - RECORD_HEADER ||
                !record_parts(terms, lengths, record->payload, &parts) || shard_is_due(hold->table, record, hold->now))
                continue;
            memcpy(owned->sessions[owned->count].digest, record->digest, 32);
            owned->sessions[owned->count].handle = record->handle;
            memcpy(owned->sessions[owned->count].owner, parts.owner, parts.owner_length);
            owned->sessions[owned->count++].owner_length = parts.owner_length;
        }
}

static bool restore_reference(struct sessile *table, const struct sessile_call *call, const struct owner *owner,
                              const uint8_t digest[32])
{
    struct stripe_hold stripe;
    enum arena_answer answer = ARENA_NEED_RESERVE;
    while (answer == ARENA_NEED_RESERVE) {
        if (owner_enter(table, owner, call, &stripe) != SESSILE_OK)
            return false;
        answer = owner_has(&stripe, owner, record_prefix(digest)) ? ARENA_OK
                                                                  : owner_add(&stripe, owner, record_prefix(digest));
        owner_leave(&stripe);
        if (answer == ARENA_NEED_RESERVE && arena_reserve(&table->arena, false) != 0)
            return false;
    }
    return answer == ARENA_OK;
}

/* O1: each has its reference, or ended meanwhile. */
static void audit_references(struct sessile *table, const struct sessile_call *call, const struct owned_list *owned,
                             bool repair, struct check *check)
{
    for (uint32_t i = 0; i < owned->count; i++) {
        struct stripe_hold stripe;
        struct hold hold;
        struct record *record;
        const uint8_t *digest = owned->sessions[i].digest;
        struct owner owner = owner_named(table, owned->sessions[i].owner, owned->sessions[i].owner_length);
        bool lacking = false;
        if (owner_enter(table, &owner, call, &stripe) != SESSILE_OK)
            continue;
        if (!owner_has(&stripe, &owner, record_prefix(digest)) &&
            shard_enter(table, shard_number(table, digest), call->wait_ms, &hold) == SESSILE_OK) {
            lacking = shard_find(&hold, digest, &record) != 0 && record_kind(record->terms) == RECORD_SESSION &&
                      record->handle == owned->sessions[i].handle;
            shard_leave(&hold);
        }
        owner_leave(&stripe);
        if (lacking)
            check_finding(check, "O1: a session in shard %u has no reference from its owner", shard_number(table, digest));
        if (lacking && repair && !restore_reference(table, call, &owner, digest))
            check_finding(check, "O1: no room for the reference");
    }
}

static enum sessile_status check_shard(struct sessile *table, uint32_t number, const struct sessile_call *call, bool repair,
                                       struct check *check)
{
    struct hold hold;
    enum sessile_status status = shard_enter(table, number, call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    uint64_t before = check->findings;
    shard_check(&hold, check);
    if (repair && check->findings > before)
        shard_recover(table, number);
    uint32_t sessions = atomic_load(&hold.shard->sessions), most = table->arena.geometry.index_entries;
    struct owned_list owned = {.capacity = sessions < most ? sessions : most};
    shard_leave(&hold);
    if (owned.capacity == 0)
        return SESSILE_OK;
    owned.sessions = malloc(owned.capacity * sizeof *owned.sessions);
    if (!owned.sessions)
        return SESSILE_NO_MEMORY;
    status = shard_enter(table, number, call->wait_ms, &hold);
    if (status == SESSILE_OK) {
        note_owned(&hold, &owned);
        shard_leave(&hold);
        audit_references(table, call, &owned, repair, check);
    }
    free(owned.sessions);
    return status;
}

static enum sessile_status check_stripe(struct sessile *table, uint32_t number, const struct sessile_call *call, bool repair,
                                        struct check *check)
{
    struct stripe_hold hold;
    enum sessile_status status = stripe_enter(table, number, call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    uint64_t before = check->findings;
    owner_check(&hold, check);
    if (repair && check->findings > before)
        owner_recover(table, number);
    owner_leave(&hold);
    return SESSILE_OK;
}

static enum sessile_status check_pool(struct sessile *table, const struct sessile_call *call, bool repair,
                                      struct check *check)
{
    struct lock *lock = &table->arena.header->pool_lock;
    enum sessile_status status = lock_take(lock, arena_me(&table->arena), LOCK_POOL, call->wait_ms,
                                           &table->arena.watch);
    if (status != SESSILE_OK)
        return status;
    uint64_t before = check->findings;
    arena_check_units(&table->arena, check);
    if (repair && check->findings > before)
        arena_rebuild_units(&table->arena);
    lock_release(lock, LOCK_POOL);
    return SESSILE_OK;
}

enum sessile_status sessile_check(struct sessile *table, const struct sessile_call *call, bool repair,
                                  void (*report)(void *context, const char *finding), void *context, uint64_t *findings)
{
    struct check check = {.report = report, .context = context};
    enum sessile_status status = SESSILE_OK;
    /* Before anything is rebuilt: what lies above the frontier is not looked at. */
    uint32_t lent = arena_check_frontier(&table->arena, &check);
    if (repair && check.findings > 0 && arena_reserve_to(&table->arena, lent) != 0)
        check_finding(&check, "A2: what lies there cannot be reserved");
    /* Stripes before shards, whose owned sessions are looked for in them. */
    for (uint32_t number = 0; status == SESSILE_OK && number < table->arena.geometry.shards; number++)
        status = check_stripe(table, number, call, repair, &check);
    for (uint32_t number = 0; status == SESSILE_OK && number < table->arena.geometry.shards; number++)
        status = check_shard(table, number, call, repair, &check);
    if (status == SESSILE_OK)
        status = check_pool(table, call, repair, &check);
    if (repair)
        atomic_store(&table->arena.header->recount_due, 1);
    if (atomic_load(&table->arena.header->recount_due))
        shard_recount(table);
    *findings = check.findings;
    return status;
}
