/* test_shard.c - csrc/shard.c and the checks of csrc/recover.c: S1 to S6, R1 to R3, I1 and I2 are found when they are broken, and repaired;
 * versions, resets, and work that is bounded.
 */
#define _GNU_SOURCE
#include "tables.h"

static struct sessile *table;
static uint64_t next_id;

static void with_table(void (*body)(void))
{
    table = open_table(4000, 4 << 20, 0.5);
    next_id = 1;
    body();
    CHECK_CLEAN(table);
    sessile_close(table);
}

#define RUN_WITH_TABLE(test) (with_table(test), (void)check_passed++)

/* A session in shard 0. */
static struct sessile_session made(const char *owner, size_t length, uint64_t *number)
{
    struct sessile_session session;
    *number = id_in_shard(table, 0, &next_id);
    CHECK(create(table, *number, owner, length, &session) == SESSILE_OK);
    return session;
}

static struct hold held(void)
{
    struct hold hold;
    CHECK(shard_enter(table, 0, 1000, &hold) == SESSILE_OK);
    return hold;
}

static struct record *record_of(const struct sessile_session *session, uint32_t *slot)
{
    struct hold hold = held();
    struct record *record;
    CHECK((*slot = shard_find(&hold, session->digest, &record)) != 0);
    shard_leave(&hold);
    return record;
}

static struct shard *shard(void)
{
    return shard_at(table, 0);
}

static struct sessile_stats stats(void)
{
    struct sessile_stats now;
    sessile_stats(table, &now);
    return now;
}

/* The check names the invariant, a repair mends it, and `left` sessions can be loaded. */
static void expect_finding(const char *invariant, uint64_t left)
{
    struct findings findings;
    struct sessile_session got;
    uint64_t loaded = 0;
    find(table, false, &findings);
    if (!names(&findings, invariant))
        print_findings(&findings);
    CHECK(findings.count > 0 && names(&findings, invariant));
    find(table, true, &findings);
    CHECK(findings.count > 0);
    CHECK_CLEAN(table);
    for (uint64_t number = 1; number < next_id; number++)
        loaded += load(table, number, 0, &got) == SESSILE_OK;
    CHECK(loaded == left && stats().sessions == left);
}

/* ---- each invariant, broken ---- */

static void the_check_names_s1(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session first = made("alice", 100, &number);
    made(NULL, 100, &number);
    record_of(&first, &slot)->payload[50] ^= 4;
    expect_finding("S1", 1);
    first = made("alice", 100, &number);
    record_of(&first, &slot)->lengths ^= 0x40000;
    expect_finding("S1", 1);
    first = made("alice", 100, &number);
    record_of(&first, &slot)->terms ^= (uint64_t)4 << 44;
    expect_finding("S1", 1);
    /* Sound, but not in the index. */
    first = made("alice", 100, &number);
    record_of(&first, &slot);
    struct hold hold = held();
    CHECK(index_remove(&hold.index, (uint32_t)record_prefix(first.digest), slot));
    shard_leave(&hold);
    expect_finding("S1", 2);
}

static void the_check_names_s2(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session first = made("alice", 100, &number);
    record_of(&first, &slot);
    struct hold hold = held();
    CHECK(index_insert(&hold.index, 12345, slot));
    shard()->entries++;
    shard_leave(&hold);
    expect_finding("S2", 1);
    hold = held();
    CHECK(index_insert(&hold.index, 12345, 0x7ffffff0));
    shard()->entries++;
    shard_leave(&hold);
    expect_finding("S2", 1);
}

static void the_check_names_s3(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session first = made("alice", 100, &number), got;
    record_of(&first, &slot);
    struct hold hold = held();
    wheel_remove(&table->arena, shard()->wheels, slot);
    shard_leave(&hold);
    expect_finding("S3", 1);
    /* The list of dead retired records. */
    CHECK(rotate(table, &first, "alice", SESSILE_ROTATE, id_in_shard(table, 0, &next_id), &got) == SESSILE_OK);
    CHECK(shard()->retired == 1);
    shard()->retired_head = 0;
    expect_finding("S3", 1);
}

static void the_check_names_s4(void)
{
    uint64_t number;
    made("alice", 100, &number);
    made(NULL, 100, &number);
    atomic_fetch_add(&shard()->sessions, 1);
    expect_finding("S4", 2);
    atomic_fetch_sub(&shard()->anonymous, 1);
    expect_finding("S4", 2);
    shard()->forwarding++;
    expect_finding("S4", 2);
}

static void the_check_names_s5(void)
{
    uint64_t number;
    made("alice", 100, &number);
    shard()->next_fire = WHEEL_NEVER;
    expect_finding("S5", 1);
}

static void the_check_names_s6(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session first = made("alice", 100, &number);
    made(NULL, 100, &number);
    atomic_fetch_or(&shard()->seq, 1);
    expect_finding("S6", 2);
    /* A removal that was committed, and not finished. */
    atomic_store(&record_of(&first, &slot)->commit, RECORD_DIRTY);
    expect_finding("S6", 1);
}

static void the_check_names_i1_and_i2(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session first = made("alice", 100, &number);
    uint32_t hash = (uint32_t)record_prefix(first.digest);
    record_of(&first, &slot);
    struct hold hold = held();
    uint32_t home = index_home(hash, hold.index.active), away = (home + 9) & (hold.index.active - 1);
    atomic_store(&hold.index.entries[away], atomic_load(&hold.index.entries[home]));
    atomic_store(&hold.index.entries[home], 0);
    shard_leave(&hold);
    expect_finding("I1", 1);
    shard()->entries += 3;
    expect_finding("I2", 1);
}

/* ---- R1 to R3 ---- */

static void whoever_reads_sees_a_whole_record_r1(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session session = made("alice", 100, &number), got;
    struct record *record = record_of(&session, &slot);
    uint64_t commit = atomic_load(&record->commit);
    atomic_store(&record->commit, RECORD_DIRTY);
    CHECK(load(table, number, 0, &got) == SESSILE_MISS);
    atomic_store(&record->commit, commit & ~RECORD_LIVE);
    CHECK(load(table, number, 0, &got) == SESSILE_MISS);
    atomic_store(&record->commit, commit);
    CHECK(load(table, number, 0, &got) == SESSILE_OK);
    atomic_store(&record->commit, commit ^ 1);
    CHECK(load(table, number, 0, &got) == SESSILE_DAMAGED);
}

static void versions_count_on_across_their_end_r2(void)
{
    uint64_t number;
    uint32_t slot;
    struct sessile_session session = made("alice", 100, &number), got;
    CHECK(record_later(1, 0) && record_later(0, 0x7fffffff) && record_later(5, 0x7ffffff0) && !record_later(0x7fffffff, 0));
    CHECK(!record_later(7, 7) && record_later(0x40000000, 1) && !record_later(1, 0x40000000));
    struct record *record = record_of(&session, &slot);
    uint64_t commit = atomic_load(&record->commit);
    atomic_store(&record->commit, record_commit(0x7ffffffe, (uint32_t)commit));
    CHECK(load(table, number, 0, &session) == SESSILE_OK && session.version == 0x7ffffffe);
    CHECK(update(table, &session, "alice", 10, &session) == SESSILE_OK && session.version == 0x7fffffff);
    CHECK(update(table, &session, "alice", 20, &session) == SESSILE_OK && session.version == 0);
    CHECK(update(table, &session, "alice", 30, &got) == SESSILE_OK && got.version == 1);
    CHECK(update(table, &session, "alice", 40, &session) == SESSILE_CHANGED);
    CHECK(load(table, number, 0, &got) == SESSILE_OK && got.version == 1 && got.fields_length == 30);
}

/* Leaves two LIVE slots of one digest, as an update does that is killed behind its commit. */
static void leave_two(const struct sessile_session *session, uint32_t version_of_second)
{
    struct hold hold = held();
    struct record *record, *copy;
    struct image image;
    size_t needed;
    uint32_t slot;
    image_begin(&image);
    CHECK(shard_find(&hold, session->digest, &record) != 0);
    CHECK(shard_copy(&hold, record, &image, &needed) == SESSILE_OK);
    CHECK(arena_take(&table->arena, &shard()->lists, 0, ARENA_OWNED, (uint32_t)needed, 0, &slot) == ARENA_OK);
    copy = arena_record(&table->arena, slot);
    image.record->payload[20] ^= 1;
    memcpy((void *)copy, (const void *)image.record, needed);
    atomic_store(&copy->commit, record_commit(version_of_second, record_checksum(copy, copy->lengths)));
    atomic_fetch_or(&shard()->seq, 1);
    shard_recover(table, 0);
    shard_leave(&hold);
}

static void of_two_live_records_the_later_stays_r2(void)
{
    static const struct {
        uint32_t first, second;
        bool second_stays;
    } pairs[] = {{5, 6, true}, {6, 5, false}, {0x7fffffff, 0, true}, {0, 0x7fffffff, false}};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t number;
        uint32_t slot;
        struct sessile_session session = made("alice", 100, &number), got;
        struct record *record = record_of(&session, &slot);
        uint8_t before = record->payload[20];
        atomic_store(&record->commit, record_commit(pairs[i].first, (uint32_t)atomic_load(&record->commit)));
        leave_two(&session, pairs[i].second);
        CHECK_CLEAN(table);
        CHECK(load(table, number, 0, &got) == SESSILE_OK);
        CHECK(got.version == (pairs[i].second_stays ? pairs[i].second : pairs[i].first));
        CHECK((record_of(&session, &slot)->payload[20] == before) == !pairs[i].second_stays);
        CHECK(stats().sessions == i + 1 && stats().quarantined == 0);
    }
}

static bool is_wiped(const struct record *record, uint32_t size)
{
    const uint8_t *bytes = (const uint8_t *)record;
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != 0 && !(i >= offsetof(struct record, next) && i < offsetof(struct record, next) + 4))
            return false;
    return true;
}

static void a_clean_slot_has_been_wiped_r3(void)
{
    uint64_t number;
    uint32_t slot;
    struct arena_place place;
    for (int turn = 0; turn < 3; turn++) {
        struct sessile_session session = made("alice", 300, &number);
        made("alice", 300, &number);    /* keeps the page */
        struct record *record = record_of(&session, &slot);
        CHECK(arena_place(&table->arena, 0, slot, &place) && !is_wiped(record, place.size));
        struct hold hold = held();
        if (turn == 0) {
            shard_remove(&hold, slot);
        } else {
            /* Killed in the middle of it; and of a record that is damaged. */
            if (turn == 1)
                atomic_store(&record->commit, RECORD_DIRTY);
            else
                record->payload[0] ^= 1;
            shard_recover(table, 0);
        }
        CHECK(is_wiped(record, place.size));
        shard_leave(&hold);
    }
}

/* ---- bounds ---- */

static void a_write_pays_for_few_expirations(void)
{
    uint64_t number;
    struct sessile_content brief = content_of(NULL, "f", 1);
    struct sessile_session got;
    brief.idle_ms = 1000;
    for (int i = 0; i < 100; i++)
        CHECK(create_with(table, &waits, id_in_shard(table, 0, &next_id), &brief, &got) == SESSILE_OK);
    sessile_advance(table, 10000);
    for (uint64_t expired = 0; expired < 100;) {
        made("alice", 10, &number);
        uint64_t now = stats().expired;
        CHECK(now > expired && now - expired <= 2 * SHARD_WORK);
        expired = now;
    }
}

/* Everything of a shard may be due in one tick: each call still does a bounded part of it. */
static void an_advance_keeps_to_its_budget(void)
{
    uint64_t number;
    bool more;
    for (int i = 0; i < 200; i++)
        made(NULL, 10, &number);
    sessile_advance(table, MINUTES(40));
    for (uint32_t left = 200; left > 0;) {
        struct hold hold = held();
        struct deferred deferred = {0};
        uint32_t budget = left % 7 + 1, ended = shard_advance(&hold, budget, true, NULL, &deferred, &more);
        CHECK(ended <= budget && ended > 0);
        left -= ended;
        CHECK(more == (left > 0));
        shard_leave(&hold);
    }
}

static void a_shard_whose_index_is_full_refuses_or_evicts_its_own(void)
{
    struct sessile *small = open_table(1000, 2 << 20, 1.0);
    struct sessile_session got;
    struct sessile_stats now;
    uint64_t next = 1, stored = 0, elsewhere = 0;
    CHECK(create(small, (elsewhere = id_in_shard(small, 1, &next)), NULL, 0, &got) == SESSILE_OK);
    while (create(small, id_in_shard(small, 0, &next), "alice", 0, &got) == SESSILE_OK && stored < 1000)
        stored++;
    uint32_t most = small->arena.geometry.index_entries / 8 * 5;
    sessile_stats(small, &now);
    CHECK(stored == 1000 || (stored == most && now.evicted == 0));
    CHECK(load(small, elsewhere, 0, &got) == SESSILE_OK || stored == 1000);
    CHECK_CLEAN(small);
    sessile_close(small);
}

/* ---- revoke_all ---- */

static void a_reset_that_was_killed_is_done_again(void)
{
    uint64_t number, count;
    struct sessile_session got;
    for (int i = 0; i < 50; i++)
        made(i % 2 ? "alice" : NULL, 100, &number);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == 50);
    /* Killed after half of the commit words. */
    struct arena_page page;
    uint32_t killed = 0;
    for (uint32_t unit = 0; killed < 25 && arena_next_page(&table->arena, 0, &unit, &page);)
        for (uint32_t i = 0; i < page.slots && killed < 25; i++) {
            struct record *record = arena_record(&table->arena, arena_slot_of(&table->arena, page.unit, i, page.size));
            if (atomic_load(&record->commit) != 0) {
                atomic_store(&record->commit, RECORD_DIRTY);
                killed++;
            }
        }
    atomic_fetch_or(&shard()->seq, 1);
    shard_recover(table, 0);
    CHECK(killed == 25);
    for (uint64_t id = 1; id < next_id; id++)
        CHECK(load(table, id, 0, &got) == SESSILE_MISS);
    uint32_t unit = 0;
    CHECK(stats().sessions == 0 && !arena_next_page(&table->arena, 0, &unit, &page));
    CHECK(atomic_load(&table->arena.header->recount_due) == 1);
    made("alice", 10, &number);
    CHECK(atomic_load(&table->arena.header->recount_due) == 0 && atomic_load(&table->arena.header->sessions) == 1);
    CHECK(atomic_load(&table->arena.header->anonymous) == 0);
}

/* The table's counters follow the shards' after a repair. */
static void a_recount_sums_the_shards(void)
{
    uint64_t number;
    for (int i = 0; i < 30; i++)
        made(i % 3 ? "alice" : NULL, 10, &number);
    atomic_store(&table->arena.header->sessions, 77);
    atomic_store(&table->arena.header->anonymous, -5);
    shard_recount(table);
    CHECK(atomic_load(&table->arena.header->sessions) == 30 && atomic_load(&table->arena.header->anonymous) == 10);
    /* Not while somebody holds a shard. */
    atomic_store(&table->arena.header->sessions, 77);
    atomic_store(&shard_at(table, 5)->lock.word, arena_me(&table->arena));
    shard_recount(table);
    CHECK(atomic_load(&table->arena.header->sessions) == 77);
    for (uint32_t other = 0; other < table->arena.geometry.shards; other++)
        CHECK((atomic_load(&shard_at(table, other)->lock.word) != 0) == (other == 5));
    atomic_store(&shard_at(table, 5)->lock.word, 0);
    shard_recount(table);
    CHECK(atomic_load(&table->arena.header->sessions) == 30);
}

int main(void)
{
    RUN_WITH_TABLE(the_check_names_s1);
    RUN_WITH_TABLE(the_check_names_s2);
    RUN_WITH_TABLE(the_check_names_s3);
    RUN_WITH_TABLE(the_check_names_s4);
    RUN_WITH_TABLE(the_check_names_s5);
    RUN_WITH_TABLE(the_check_names_s6);
    RUN_WITH_TABLE(the_check_names_i1_and_i2);
    RUN_WITH_TABLE(whoever_reads_sees_a_whole_record_r1);
    RUN_WITH_TABLE(versions_count_on_across_their_end_r2);
    RUN_WITH_TABLE(of_two_live_records_the_later_stays_r2);
    RUN_WITH_TABLE(a_clean_slot_has_been_wiped_r3);
    RUN_WITH_TABLE(a_write_pays_for_few_expirations);
    RUN_WITH_TABLE(an_advance_keeps_to_its_budget);
    RUN(a_shard_whose_index_is_full_refuses_or_evicts_its_own);
    RUN_WITH_TABLE(a_reset_that_was_killed_is_done_again);
    RUN_WITH_TABLE(a_recount_sums_the_shards);
    return check_summary();
}
