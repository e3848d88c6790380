/* test_room.c - csrc/room.c: what goes first when a table is full, what never goes, the two pools, moved records, and FULL. */
#define _GNU_SOURCE
#include "tables.h"

#include <errno.h>

#define MANY 40000u

static struct sessile *table;
static struct sessile_session *stored;           /* of MANY */
static bool alive[MANY];
static uint64_t stored_count;
static _Alignas(8) uint8_t reports[4 << 20];
static struct sessile_sink sink = {.buffer = reports, .capacity = sizeof reports};
static const struct sessile_call reporting = {.wait_ms = 5000, .sink = &sink};

static void use(uint64_t capacity, uint64_t memory, double share)
{
    table = open_table(capacity, memory, share);
    stored_count = 0;
    sink.used = 0;
    memset(alive, 0, sizeof alive);
}

static void done(void)
{
    CHECK_CLEAN(table);
    sessile_close(table);
}

static struct sessile_stats stats(void)
{
    struct sessile_stats now;
    sessile_stats(table, &now);
    return now;
}

/* Stores session number `stored_count`; an owner "" stands for one of its own. */
static enum sessile_status store(const char *owner, size_t length)
{
    static uint8_t fields[SESSILE_FIELDS_MAX];
    char own[24];
    snprintf(own, sizeof own, "owner%u", (unsigned)stored_count);
    struct sessile_content content = content_of(owner && !*owner ? own : owner, fields, length);
    CHECK(stored_count < MANY);
    enum sessile_status status = create_with(table, &reporting, stored_count, &content, &stored[stored_count]);
    alive[stored_count] = status == SESSILE_OK;
    stored_count += status == SESSILE_OK;
    return status;
}

static uint64_t fill(const char *owner, size_t length)
{
    uint64_t before = stored_count;
    while (store(owner, length) == SESSILE_OK)
        continue;
    return stored_count - before;
}

static void destroy(uint64_t number)
{
    struct sessile_reference reference = reference_to(&stored[number], NULL);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_DESTROYED) == SESSILE_OK);
    alive[number] = false;
}

static uint64_t count_loaded(uint64_t from, uint64_t to)
{
    struct sessile_session got;
    uint64_t count = 0;
    for (uint64_t number = from; number < to; number++)
        count += load(table, number, 0, &got) == SESSILE_OK;
    return count;
}

/* ---- the order ---- */

static enum sessile_reason next_reason(size_t *at, uint64_t *number)
{
    const struct sessile_report *report = (const void *)(reports + *at);
    CHECK(*at < sink.used);
    *at += report->size;
    for (*number = 0; stored[*number].handle != report->handle; ++*number)
        CHECK(*number < stored_count);
    return (enum sessile_reason)report->reason;
}

/* DESIGN 5: due ones first, then anonymous ones that never came back, then the longest idle anonymous ones, else FULL. */
static void the_order_of_eviction(void)
{
    enum { EACH = 40 };
    struct sessile_session got;
    size_t at = 0;
    uint64_t number;
    use(4 * EACH, 4 << 20, 1.0);
    struct sessile_content brief = content_of(NULL, "f", 1);
    brief.idle_ms = 1000;
    for (unsigned i = 0; i < 4 * EACH; i++) {
        if (i % 4 == 0) {
            CHECK(create_with(table, &waits, stored_count, &brief, &stored[stored_count]) == SESSILE_OK);
            stored_count++;
        } else {
            CHECK(store(i % 4 == 3 ? "" : NULL, 50) == SESSILE_OK);
        }
        if (i % 4 == 2)
            CHECK(load(table, i, SESSILE_PRESENT, &got) == SESSILE_OK);
    }
    sessile_advance(table, 5000);
    sink.used = 0;
    for (unsigned i = 0; i < 3 * EACH; i++)
        CHECK(store("", 50) == SESSILE_OK);
    for (unsigned i = 0; i < EACH; i++)
        CHECK(next_reason(&at, &number) == SESSILE_IDLE && number % 4 == 0);
    for (unsigned i = 0; i < EACH; i++)
        CHECK(next_reason(&at, &number) == SESSILE_EVICTED && number % 4 == 1);
    for (unsigned i = 0; i < EACH; i++)
        CHECK(next_reason(&at, &number) == SESSILE_EVICTED && number % 4 == 2);
    CHECK(at == sink.used);
    uint64_t full = stats().full;
    CHECK(store("", 50) == SESSILE_FULL && store(NULL, 50) == SESSILE_FULL);
    CHECK(sink.used == at && stats().full == full + 2 && stats().sessions == 4 * EACH);
    CHECK(count_loaded(0, stored_count) == 4 * EACH);
    /* At last the owner's own session. */
    CHECK(store("owner3", 50) == SESSILE_OK);
    CHECK(next_reason(&at, &number) == SESSILE_EVICTED && number == 3);
    done();
}

/* Within a shard the order is that of the deadlines, to a bucket. */
static void of_two_kinds_alike_the_longer_unused_goes_first(void)
{
    uint64_t next = 0, first, second, other;
    struct sessile_session got;
    for (int proven = 0; proven < 2; proven++) {
        use(3, 4 << 20, 1.0);
        first = id_in_shard(table, 0, &next);
        second = id_in_shard(table, 0, &next);
        other = id_in_shard(table, 0, &next);
        CHECK(create(table, second, NULL, 10, &got) == SESSILE_OK && create(table, first, NULL, 10, &got) == SESSILE_OK);
        if (proven)
            CHECK(load(table, first, SESSILE_PRESENT, &got) == SESSILE_OK &&
                  load(table, second, SESSILE_PRESENT, &got) == SESSILE_OK);
        sessile_advance(table, MINUTES(15));
        CHECK(load(table, second, SESSILE_TOUCH, &got) == SESSILE_OK);
        CHECK(create(table, other, "alice", 10, &got) == SESSILE_OK);
        CHECK(create(table, id_in_shard(table, 0, &next), "bob", 10, &got) == SESSILE_OK);
        CHECK(load(table, first, 0, &got) == SESSILE_MISS && load(table, second, 0, &got) == SESSILE_OK);
        done();
    }
}

/* A session on its way to an owner is not evicted to make room for itself, though it is the first in the order. */
static void a_log_in_does_not_evict_the_session_that_logs_in(void)
{
    struct sessile_session got;
    uint64_t next = 0;
    use(64, 2 << 20, 1.0);
    uint64_t mine = id_in_shard(table, 0, &next), other = id_in_shard(table, 0, &next);
    CHECK(create(table, other, NULL, 100, &got) == SESSILE_OK);
    CHECK(create(table, mine, NULL, 100, &stored[0]) == SESSILE_OK);
    struct hold hold;
    CHECK(shard_enter(table, 0, 1000, &hold) == SESSILE_OK);
    CHECK(shard_evict(&hold, WHEEL_PROBATION, stored[0].digest, NULL));
    CHECK(!shard_evict(&hold, WHEEL_PROBATION, stored[0].digest, NULL));
    shard_leave(&hold);
    CHECK(load(table, mine, 0, &got) == SESSILE_OK && load(table, other, 0, &got) == SESSILE_MISS);
    done();
}

static void an_owned_session_never_goes_for_somebody_else(void)
{
    use(100, 4 << 20, 0.5);
    while (stored_count < 100)
        CHECK(store("", 50) == SESSILE_OK);
    for (int i = 0; i < 10; i++)
        CHECK(store(NULL, 50) == SESSILE_FULL && store("another", 50) == SESSILE_FULL);
    CHECK(sink.used == 0 && count_loaded(0, 100) == 100);
    done();
    use(20000, 2 << 20, 0.5);
    CHECK(fill("", 1000) > 1000);
    uint64_t all = stored_count;
    for (int i = 0; i < 10; i++)
        CHECK(store(NULL, 1000) == SESSILE_FULL && store("another", 1000) == SESSILE_FULL);
    CHECK(sink.used == 0 && count_loaded(0, all) == all);
    done();
}

/* ---- the pools ---- */

static void anonymous_sessions_have_their_share_of_the_capacity(void)
{
    use(200, 4 << 20, 0.25);
    for (unsigned i = 0; i < 150; i++)
        CHECK(store(NULL, 50) == SESSILE_OK && stats().anonymous <= 50);
    CHECK(stats().anonymous == 50 && stats().evicted == 100);
    for (unsigned i = 0; i < 150; i++)
        CHECK(store("", 50) == SESSILE_OK);
    CHECK(stats().anonymous == 50 && stats().owned == 150 && stats().evicted == 100);
    CHECK(store("", 50) == SESSILE_OK && stats().anonymous == 49);
    CHECK(store(NULL, 50) == SESSILE_OK && stats().anonymous == 49 && stats().owned == 151);
    done();
}

/* A3: and of the pages: else large anonymous ones block every log-in. */
static void anonymous_sessions_have_their_share_of_the_pages_a3(void)
{
    const struct arena_header *header;
    use(30000, 4 << 20, 0.25);
    header = table->arena.header;
    for (unsigned i = 0; i < 400; i++) {
        CHECK(store(NULL, i % 2 ? 8000 : 300) == SESSILE_OK);
        CHECK(atomic_load(&header->used_anonymous_units) <= table->arena.geometry.anonymous_units);
    }
    uint64_t evicted = stats().evicted;
    CHECK(evicted > 0);
    uint64_t owned = fill("", 8000);
    CHECK(owned * 8192 > (4 << 20) * 0.70);
    done();
}

static void the_check_names_a3(void)
{
    struct findings findings;
    use(1000, 2 << 20, 0.5);
    CHECK(store(NULL, 3000) == SESSILE_OK);
    table->arena.geometry.anonymous_units = 0;
    find(table, false, &findings);
    CHECK(names(&findings, "A3"));
    table->arena.geometry.anonymous_units = table->arena.geometry.units / 2;
    done();
}

/* What can never be stored is refused before anything goes for it. */
static void what_is_too_large_for_its_pool_evicts_nobody(void)
{
    use(1000, 4 << 20, 0.1);
    for (unsigned i = 0; i < 40; i++)
        CHECK(store(NULL, 100) == SESSILE_OK);
    CHECK(store(NULL, 500000) == SESSILE_FULL);
    CHECK(sink.used == 0 && count_loaded(0, 40) == 40);
    CHECK(store("alice", 500000) == SESSILE_OK && count_loaded(0, 40) == 40);
    done();
}

/* ---- FULL changes nothing ---- */

static void a_refused_update_leaves_the_old_record(void)
{
    struct sessile_session got;
    use(20000, 2 << 20, 0.5);
    fill("", 1000);
    for (uint64_t i = 0; i < stored_count; i += 97) {
        enum sessile_status status = SESSILE_CHANGED;
        /* The search for room may have moved the record itself, which counts as a version. */
        for (int tries = 0; tries < 10 && status == SESSILE_CHANGED; tries++) {
            status = update(table, &stored[i], NULL, 900000, &got);
            CHECK(load(table, i, 0, &stored[i]) == SESSILE_OK && stored[i].fields_length == 1000);
        }
        CHECK(status == SESSILE_FULL);
    }
    CHECK(sink.used == 0 && count_loaded(0, stored_count) == stored_count);
    done();
}

/* A4: in a table where nothing more fits, every record can still be replaced by one of no larger size. */
static void an_update_of_no_larger_size_always_finds_room_a4(void)
{
    static const uint32_t sizes[] = {0, 60, 158, 400, 900, 2000, 3500};
    struct sessile_session got;
    for (unsigned which = 0; which < sizeof sizes / sizeof *sizes; which++) {
        use(30000, 2 << 20, 0.5);
        fill("", sizes[which]);
        for (uint64_t i = 0; i < stored_count; i++) {
            CHECK(update(table, &stored[i], NULL, sizes[which], &got) == SESSILE_OK);
            CHECK(update(table, &got, NULL, sizes[which] / 2, &stored[i]) == SESSILE_OK);
        }
        CHECK(count_loaded(0, stored_count) == stored_count);
        done();
    }
}

/* The same among records that grew: a larger one must not take the room that others were promised. */
static void growing_records_leave_the_others_their_room_a4(void)
{
    struct sessile_session got;
    uint64_t random = 5, grown = 0, refused = 0;
    use(30000, 2 << 20, 0.5);
    for (;;)
        if (store("", 40 + check_random(&random) % 1500) != SESSILE_OK)
            break;
    CHECK(fill("", 20) < 5000);
    for (int turn = 0; turn < 4; turn++)
        for (uint64_t i = 0; i < stored_count; i++) {
            CHECK(load(table, i, 0, &stored[i]) == SESSILE_OK);
            uint32_t length = stored[i].fields_length;
            if (check_random(&random) % 3 == 0) {
                enum sessile_status status = update(table, &stored[i], NULL, length + 200, &got);
                CHECK(status == SESSILE_OK || status == SESSILE_FULL);
                grown += status == SESSILE_OK;
                refused += status == SESSILE_FULL;
            } else {
                CHECK(update(table, &stored[i], NULL, length, &got) == SESSILE_OK);
            }
        }
    CHECK(grown > 0 && refused > 0);
    CHECK(count_loaded(0, stored_count) == stored_count);
    done();
}

/* ... nor one that needs a run of pages, which are emptied for it. */
static void large_records_leave_the_others_their_room_a4(void)
{
    struct sessile_session got;
    for (uint64_t seed = 1; seed < 8; seed++) {
        uint64_t random = seed, refused = 0;
        use(30000, 2 << 20, 0.5);
        while (refused < 40)
            refused += store("", check_random(&random) % 3 ? 40 + check_random(&random) % 1500
                                                           : 5000 + check_random(&random) % 20000) != SESSILE_OK;
        for (uint64_t i = 0; i < stored_count; i++) {
            CHECK(load(table, i, 0, &got) == SESSILE_OK);
            CHECK(update(table, &got, NULL, got.fields_length < 4000 ? got.fields_length : 100, &got) == SESSILE_OK);
        }
        CHECK(count_loaded(0, stored_count) == stored_count);
        done();
    }
}

/* ... nor does a log-in, whose old id leaves a record behind, or a renewal. */
static void rotations_leave_the_others_their_room_a4(void)
{
    struct sessile_session got;
    uint64_t random = 5, rotated = 0, next = MANY;
    use(30000, 2 << 20, 0.5);
    for (;;)
        if (store("", 40 + check_random(&random) % 1500) != SESSILE_OK)
            break;
    fill("", 20);
    for (uint64_t i = 0; i < stored_count; i++) {
        char owner[24];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        if (i % 3 == 0) {
            CHECK(load(table, i, SESSILE_PRESENT, &got) == SESSILE_OK);
            enum sessile_status status = rotate(table, &got, owner, i % 2 ? SESSILE_RENEW : SESSILE_ROTATE, next++, &got);
            CHECK(status == SESSILE_OK || status == SESSILE_FULL);
            CHECK(load(table, status == SESSILE_OK ? next - 1 : i, 0, &got) == SESSILE_OK);
            rotated += status == SESSILE_OK;
        } else {
            CHECK(load(table, i, 0, &stored[i]) == SESSILE_OK);
            CHECK(update(table, &stored[i], NULL, stored[i].fields_length, &got) == SESSILE_OK);
        }
    }
    CHECK(rotated > 0);
    done();
}

/* ---- memory comes back ---- */

static void what_is_past_its_deadline_makes_room(void)
{
    use(30000, 2 << 20, 0.5);
    uint64_t first = fill("", 700);
    sessile_advance(table, MINUTES(31));
    CHECK(fill("", 700) >= first * 95 / 100);
    done();
}

static void what_revoke_all_ended_makes_room(void)
{
    uint64_t count;
    use(30000, 2 << 20, 0.5);
    uint64_t first = fill("", 700);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == first);
    CHECK(fill("", 700) >= first * 98 / 100);
    done();
    use(500, 2 << 20, 0.5);
    CHECK(fill("", 20) == 500);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == 500);
    CHECK(fill("", 20) == 500);
    done();
}

/* What is left on many sparse pages moves together, and nobody has to go for it. */
static void sparse_pages_are_emptied(void)
{
    struct sessile_session got;
    for (unsigned anonymous = 0; anonymous < 2; anonymous++) {
        use(20000, 2 << 20, 1.0);
        while (stats().memory_used < (2 << 20) * 9 / 10)
            CHECK(store(anonymous ? NULL : "", 150) == SESSILE_OK);
        uint64_t small = stored_count, kept = 0;
        for (uint64_t i = 0; i < small; i++) {
            if (i % 10 != 0)
                destroy(i);
            kept += i % 10 == 0;
        }
        unsigned large = 0;
        while (stats().memory_used < (2 << 20) * 7 / 10) {
            CHECK(store("large", 5000) == SESSILE_OK);
            large++;
        }
        CHECK(large > 100 && stats().evicted == 0 && sink.used == 0);
        for (uint64_t i = 0; i < small; i += 10)
            CHECK(load(table, i, 0, &got) == SESSILE_OK && got.fields_length == 150);
        CHECK(stats().sessions == kept + large);
        done();
    }
}

static void a_large_record_finds_its_run_of_pages(void)
{
    use(40000, 4 << 20, 1.0);
    while (stats().memory_used < (4 << 20) * 9 / 10)
        CHECK(store("", 300) == SESSILE_OK);
    for (uint64_t i = 0; i < stored_count; i++)
        if (i % 3 != 0)
            destroy(i);
    uint64_t before = stats().sessions;
    for (int i = 0; i < 5; i++)
        CHECK(store("", 200000) == SESSILE_OK);
    CHECK(stats().sessions == before + 5 && stats().evicted == 0);
    done();
}

/* ---- the system refuses ---- */

static int refusal;
static int refuse_reservation(enum system_operation operation)
{
    return operation == SYSTEM_RESERVE ? refusal : 0;
}

/* Sizes of 50 bytes to 8 KiB, as many in each doubling. */
static size_t mixed_size(uint64_t *random)
{
    size_t doubling = (size_t)50 << check_random(random) % 8;
    size_t size = doubling + check_random(random) % doubling;
    return size < 8192 ? size : 8192;
}

/* A small table has few pages for each shard, so that half-empty ones weigh most. */
static void sessions_of_mixed_sizes_fill_a_small_table(void)
{
    for (uint64_t seed = 1; seed < 4; seed++)
        for (unsigned each = 1; each <= 10; each += 9) {
            uint64_t random = seed;
            char owner[24];
            use(4000, 2 << 20, 0.5);
            do
                snprintf(owner, sizeof owner, "owner%u", (unsigned)(stored_count / each));
            while (store(owner, mixed_size(&random)) == SESSILE_OK);
            CHECK(stats().memory_used >= stats().memory / 100 * (each == 1 ? 84 : 82));
            done();
        }
}

/* Whatever was there before, of whatever size: nine tenths of what a fresh table would hold find room. */
static void another_size_takes_the_room_of_the_first(void)
{
    static const uint32_t pairs[][2] = {{50, 20000}, {158, 50}, {158, 20000}, {500, 6000}, {50, 8192}, {20000, 50}, {50, 50}};
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        use(20000, 2 << 20, 0.5);
        uint64_t fresh = fill("", pairs[i][1]);
        done();
        use(20000, 2 << 20, 0.5);
        uint64_t before = fill("", pairs[i][0]);
        for (uint64_t number = 0; number < before; number++) {
            destroy(number);
            (void)store("", pairs[i][1]);
        }
        fill("", pairs[i][1]);
        CHECK((stored_count - before) * 100 >= fresh * 90);
        done();
    }
}

static void memory_that_the_system_refuses_is_a_status(void)
{
    static const int errors[] = {ENOSPC, ENOMEM, EINTR};
    for (unsigned i = 0; i < 3; i++) {
        use(20000, 8 << 20, 0.5);
        if (table->arena.home.descriptor >= 0) {
            refusal = errors[i];
            system_fault = refuse_reservation;
            uint64_t some = fill("", 5000);
            enum sessile_status status = store("", 5000);
            system_fault = NULL;
            CHECK(status == SESSILE_NO_MEMORY);
            struct sessile_problem problem = sessile_problem(table);
            CHECK(problem.error == errors[i] && strcmp(problem.operation, "fallocate") == 0);
            CHECK(some > 100 && count_loaded(0, some) == some && stats().sessions == some);
        }
        CHECK(store("", 5000) == SESSILE_OK);
        done();
    }
}

/* A store that may not wait answers so before it has changed anything. */
static void making_room_waits_for_a_call_that_may_wait(void)
{
    struct sessile_session got;
    use(10, 2 << 20, 1.0);
    while (stored_count < 10)
        CHECK(store(NULL, 10) == SESSILE_OK);
    struct sessile_content content = content_of(NULL, "f", 1);
    CHECK(create_with(table, &at_once, 100, &content, &got) == SESSILE_WOULD_BLOCK);
    CHECK(stats().sessions == 10 && stats().evicted == 0);
    CHECK(create_with(table, &waits, 100, &content, &got) == SESSILE_OK && stats().evicted == 1);
    done();
}

int main(void)
{
    stored = malloc(MANY * sizeof *stored);
    CHECK(stored);
    RUN(the_order_of_eviction);
    RUN(of_two_kinds_alike_the_longer_unused_goes_first);
    RUN(a_log_in_does_not_evict_the_session_that_logs_in);
    RUN(an_owned_session_never_goes_for_somebody_else);
    RUN(anonymous_sessions_have_their_share_of_the_capacity);
    RUN(anonymous_sessions_have_their_share_of_the_pages_a3);
    RUN(the_check_names_a3);
    RUN(what_is_too_large_for_its_pool_evicts_nobody);
    RUN(a_refused_update_leaves_the_old_record);
    RUN(an_update_of_no_larger_size_always_finds_room_a4);
    RUN(growing_records_leave_the_others_their_room_a4);
    RUN(large_records_leave_the_others_their_room_a4);
    RUN(rotations_leave_the_others_their_room_a4);
    RUN(what_is_past_its_deadline_makes_room);
    RUN(what_revoke_all_ended_makes_room);
    RUN(sparse_pages_are_emptied);
    RUN(a_large_record_finds_its_run_of_pages);
    RUN(sessions_of_mixed_sizes_fill_a_small_table);
    RUN(another_size_takes_the_room_of_the_first);
    RUN(memory_that_the_system_refuses_is_a_status);
    RUN(making_room_waits_for_a_call_that_may_wait);
    free(stored);
    return check_summary();
}
