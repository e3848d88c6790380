/* recover.c - rebuilds what is derived from the records, and checks it: shard_recover(), shard_recount(), shard_check().
 *
 * Recovery trusts only what is authoritative: the commit words of slots, the checksums under them, the directory of pages.
 * It serves a lock taken over from a dead process, an unclean attach, a repair that was asked for, and damage met in
 * passing. It can be killed at any instruction and done again: it only takes out what is invalid, and `seq` stays odd
 * until all is rebuilt. tests/models/model_counters.py is the specification of the table's counters and their recount.
 */
#include "shard.h"

struct recovery {
    struct hold hold;
    uint32_t slot_size;
    uint32_t quarantined, sessions, anonymous;
};

/* Ends a slot that is not to be LIVE. */
static void discard(struct recovery *recovery, struct record *record)
{
    atomic_store_explicit(&record->commit, RECORD_DIRTY, memory_order_release);
    record_order();
    shard_wipe(record, recovery->slot_size);
    record_order();
    atomic_store_explicit(&record->commit, 0, memory_order_release);
}

/* Is this LIVE slot what it says? Lengths are read once and bounded by the slot before anything else is touched. */
static bool is_sound(const struct recovery *recovery, const struct record *record)
{
    uint64_t commit = atomic_load_explicit(&record->commit, memory_order_relaxed);
    uint32_t lengths = record_read_lengths(record), length = record_payload_length(lengths);
    uint64_t terms = record_read_terms(record);
    enum record_kind kind = record_kind(terms);
    struct record_parts parts;
    if (length > recovery->slot_size - RECORD_HEADER || length > RECORD_PAYLOAD_MAX)
        return false;
    if (kind < RECORD_SESSION || kind > RECORD_RETIRED || (kind == RECORD_RETIRED && length < sizeof(struct retired)))
        return false;
    return (uint32_t)commit == record_checksum(record, lengths) && record_parts(terms, lengths, record->payload, &parts) &&
           shard_number(recovery->hold.table, record->digest) == recovery->hold.number;
}

static void grow(struct hold *hold)
{
    while (index_should_grow(&hold->index, hold->shard->entries)) {
        index_grow(&hold->index);
        hold->shard->active = hold->index.active;
    }
}

/* Enters a sound record into the index; of two with one digest the later version stays. */
static void enter(struct recovery *recovery, uint32_t slot, struct record *record)
{
    struct hold *hold = &recovery->hold;
    struct record *other = NULL;
    uint32_t hash = (uint32_t)record_prefix(record->digest), met = shard_find(hold, record->digest, &other);
    if (met != 0) {
        struct arena_place place;
        uint32_t ours = record_version(atomic_load(&record->commit)), theirs = record_version(atomic_load(&other->commit));
        if (record_later(ours, theirs)) {
            index_replace(&hold->index, hash, met, slot);
            record = other;
        }
        uint32_t kept = recovery->slot_size;
        if (record == other && arena_place(&hold->table->arena, hold->number, met, &place))
            recovery->slot_size = place.size;
        discard(recovery, record);
        recovery->slot_size = kept;
        return;
    }
    grow(hold);
    if (index_has_room(&hold->index, hold->shard->entries) && index_insert(&hold->index, hash, slot)) {
        hold->shard->entries++;
        return;
    }
    recovery->quarantined++;
    discard(recovery, record);
}

static void examine(struct recovery *recovery, uint32_t slot)
{
    struct record *record = arena_record(&recovery->hold.table->arena, slot);
    if (!record)
        return;
    uint64_t commit = atomic_load_explicit(&record->commit, memory_order_relaxed);
    if (commit == 0)
        return;
    if (!record_is_live(commit)) {
        discard(recovery, record);
    } else if (!is_sound(recovery, record)) {
        recovery->quarantined++;
        discard(recovery, record);
    } else {
        enter(recovery, slot, record);
    }
}

/* Is the slot taken? Then files and counts its record. */
static bool adopt(void *context, uint32_t slot)
{
    struct recovery *recovery = context;
    struct hold *hold = &recovery->hold;
    struct record *record = arena_record(&hold->table->arena, slot);
    if (!record || !record_is_live(atomic_load_explicit(&record->commit, memory_order_relaxed)))
        return false;
    atomic_store_explicit(&record->next, 0, memory_order_relaxed);
    atomic_store_explicit(&record->prev, 0, memory_order_relaxed);
    shard_file(hold, slot, record);
    if (record_kind(record->terms) != RECORD_RETIRED) {
        recovery->sessions++;
        recovery->anonymous += !record_is_owned(record);
    } else if (!shard_is_dead_retired(record)) {
        hold->shard->forwarding++;
    }
    return true;
}

void shard_recover(struct sessile *table, uint32_t number)
{
    struct arena *arena = &table->arena;
    struct recovery recovery = {.hold = {.table = table, .shard = shard_at(table, number), .number = number,
                                         .now = arena_now(arena)}};
    struct shard *shard = recovery.hold.shard;
    struct arena_page page;
    shard_seq_begin(shard);
    atomic_store(&arena->header->recount_due, 1);
    shard_view_index(&recovery.hold);
    shard_clear_derived(&recovery.hold, shard->entries);
    for (uint32_t unit = 0; arena_next_page(arena, number, &unit, &page);) {
        recovery.slot_size = page.size;
        for (uint32_t i = 0; i < page.slots; i++)
            examine(&recovery, arena_slot_of(arena, page.unit, i, page.size));
    }
    arena_rebuild_begin(&shard->lists);
    for (uint32_t unit = 0; arena_next_page(arena, number, &unit, &page);)
        arena_rebuild_page(arena, &shard->lists, &page, adopt, &recovery);
    atomic_store(&shard->sessions, recovery.sessions);
    atomic_store(&shard->anonymous, recovery.anonymous);
    shard->lsn++;
    atomic_fetch_add(&arena->header->recoveries, 1);
    atomic_fetch_add(&arena->header->quarantined, recovery.quarantined);
    atomic_fetch_add(&table->recovered, 1);
    atomic_fetch_add(&table->quarantined, recovery.quarantined);
    shard_seq_end(shard);
}

/* ---- the table's counters ---- */

static uint32_t lock_all(struct sessile *table)
{
    uint32_t number = 0;
    while (number < table->arena.geometry.shards &&
           lock_try(&shard_at(table, number)->lock, arena_me(&table->arena), LOCK_RECOUNT))
        number++;
    return number;
}

void shard_recount(struct sessile *table)
{
    struct arena_header *header = table->arena.header;
    uint32_t shards = table->arena.geometry.shards, locked = lock_all(table);
    if (locked == shards) {
        int64_t sessions = 0, anonymous = 0;
        for (uint32_t number = 0; number < shards; number++) {
            sessions += atomic_load(&shard_at(table, number)->sessions);
            anonymous += atomic_load(&shard_at(table, number)->anonymous);
        }
        atomic_store(&header->sessions, sessions);
        atomic_store(&header->anonymous, anonymous);
        /* Last: whoever is killed before leaves it to be done again. */
        atomic_store(&header->recount_due, 0);
    }
    while (locked-- > 0)
        lock_release(&shard_at(table, locked)->lock, LOCK_RECOUNT);
}

/* ---- checks ---- */

struct audit {
    const struct hold *hold;
    struct check *check;
    uint32_t sessions, anonymous, retired, forwarding, live;
};

static void audit_live(struct audit *audit, uint32_t slot, const struct record *record, const struct arena_page *page)
{
    const struct hold *hold = audit->hold;
    struct recovery recovery = {.hold = *hold, .slot_size = page->size};
    struct hold finder = *hold;
    struct record *found = NULL;
    audit->live++;
    if (!is_sound(&recovery, record)) {
        check_finding(audit->check, "S1: the record in slot %u of shard %u is damaged", slot, hold->number);
        return;
    }
    if (shard_find(&finder, record->digest, &found) != slot)
        check_finding(audit->check, "S1: the record in slot %u of shard %u is not in its index", slot, hold->number);
    if (atomic_load(&record->prev) == 0)
        check_finding(audit->check, "S3: the record in slot %u of shard %u is in no list", slot, hold->number);
    if (record_kind(record->terms) == RECORD_RETIRED) {
        if (shard_is_dead_retired(record))
            audit->retired++;
        else
            audit->forwarding++;
        return;
    }
    audit->sessions++;
    audit->anonymous += record_is_owned(record) ? 0 : 1;
}

static void audit_page(struct audit *audit, const struct arena_page *page)
{
    const struct arena *arena = &audit->hold->table->arena;
    for (uint32_t i = 0; i < page->slots; i++) {
        uint32_t slot = arena_slot_of(arena, page->unit, i, page->size);
        const struct record *record = arena_record(arena, slot);
        uint64_t commit = record ? atomic_load(&record->commit) : 0;
        if (record_is_live(commit))
            audit_live(audit, slot, record, page);
        else if (commit != 0)
            check_finding(audit->check, "S6: slot %u of shard %u is dirty", slot, audit->hold->number);
    }
}

static void audit_index(struct audit *audit)
{
    const struct hold *hold = audit->hold;
    uint32_t broken, count = index_count(&hold->index, &broken);
    if (broken)
        check_finding(audit->check, "I1: shard %u: %u entries cannot be found from their home", hold->number, broken);
    if (count != hold->shard->entries)
        check_finding(audit->check, "I2: shard %u: %u entries, counted as %u", hold->number, count, hold->shard->entries);
    for (uint32_t at = 0; at < hold->index.active; at++) {
        uint64_t entry = atomic_load(&hold->index.entries[at]);
        const struct record *record = entry ? arena_record(&hold->table->arena, (uint32_t)entry & 0x7fffffffu) : NULL;
        if (entry && (!record || !record_is_live(atomic_load(&record->commit)) ||
                      (uint32_t)record_prefix(record->digest) != (uint32_t)(entry >> 32)))
            check_finding(audit->check, "S2: shard %u: index entry %u leads to no such record", hold->number, at);
    }
}

static void audit_counts(struct audit *audit)
{
    const struct shard *shard = audit->hold->shard;
    if (audit->sessions != atomic_load(&shard->sessions) || audit->anonymous != atomic_load(&shard->anonymous) ||
        audit->retired != shard->retired || audit->forwarding != shard->forwarding || audit->live != shard->entries)
        check_finding(audit->check,
                      "S4: shard %u counts %u sessions, %u anonymous, %u retired, %u forwarding, %u entries; has %u, %u, %u, "
                      "%u, %u", audit->hold->number, atomic_load(&shard->sessions), atomic_load(&shard->anonymous),
                      shard->retired, shard->forwarding, shard->entries, audit->sessions, audit->anonymous, audit->retired,
                      audit->forwarding, audit->live);
}

static void audit_lists(struct audit *audit)
{
    const struct hold *hold = audit->hold;
    uint32_t filed, listed = 0, slot = hold->shard->retired_head, fires = 0;
    wheel_check(&hold->table->arena, hold->shard->wheels, &filed, audit->check);
    while (slot != 0 && listed <= hold->shard->retired) {
        const struct record *record = arena_record(&hold->table->arena, slot);
        slot = record ? atomic_load(&record->next) : 0;
        listed++;
    }
    if (listed != hold->shard->retired)
        check_finding(audit->check, "S3: shard %u: retired list has %u records, counted as %u", hold->number, listed,
                      hold->shard->retired);
    if (filed != audit->sessions + audit->forwarding)
        check_finding(audit->check, "S3: shard %u: %u records in wheels, %u should be", hold->number, filed,
                      audit->sessions + audit->forwarding);
    for (unsigned kind = 0; kind < WHEEL_COUNT; kind++) {
        uint32_t first = wheel_first(&hold->shard->wheels[kind], hold->shard->tick, false, &fires);
        if (first < hold->shard->next_fire)
            check_finding(audit->check, "S5: shard %u: wheel %u fires at %u, before %u", hold->number, kind, first,
                          hold->shard->next_fire);
    }
}

void shard_check(const struct hold *hold, struct check *check)
{
    struct audit audit = {.hold = hold, .check = check};
    struct arena_page page;
    if (atomic_load(&hold->shard->seq) & 1)
        check_finding(check, "S6: shard %u is in the middle of a write", hold->number);
    for (uint32_t unit = 0; arena_next_page(&hold->table->arena, hold->number, &unit, &page);)
        audit_page(&audit, &page);
    audit_index(&audit);
    audit_counts(&audit);
    audit_lists(&audit);
    arena_check_holder(&hold->table->arena, &hold->shard->lists, hold->number, check);
}
