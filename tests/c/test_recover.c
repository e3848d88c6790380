/* test_recover.c - csrc/recover.c: whatever is derived can be lost and is rebuilt from the records, twice is as once; and any bytes
 * whatsoever in the mapping give an error or a quarantined record, never an access outside it, never an endless loop.
 */
#define _GNU_SOURCE
#include "tables.h"

#include <sys/wait.h>
#include <unistd.h>

#define SESSIONS 900u

static struct sessile *table;
static struct sessile_session sessions[SESSIONS];
static uint64_t state = 1;

static const char *owner_of(uint64_t number)
{
    static char name[16];
    snprintf(name, sizeof name, "owner%u", (unsigned)(number % 60));
    return number % 3 == 0 ? NULL : name;
}

/* Sessions of every kind: anonymous, presented, owned, rotated, renewed. */
static void populate(void)
{
    struct sessile_session got;
    table = open_table(8000, 4 << 20, 0.5);
    for (uint64_t i = 0; i < SESSIONS; i++) {
        CHECK(create(table, i, owner_of(i), i % 40 == 0 ? 5000 : i % 400, &sessions[i]) == SESSILE_OK);
        if (i % 5 == 0)
            CHECK(load(table, i, SESSILE_PRESENT, &got) == SESSILE_OK);
        if (i % 10 == 5 && owner_of(i))
            CHECK(rotate(table, &sessions[i], owner_of(i), i % 20 == 5 ? SESSILE_ROTATE : SESSILE_RENEW, 10000 + i,
                         &sessions[i]) == SESSILE_OK);
    }
}

static uint64_t id_now(uint64_t i)
{
    return i % 10 == 5 && owner_of(i) ? 10000 + i : i;
}

static void check_everything_is_there(void)
{
    struct sessile_session got;
    struct sessile_stats stats;
    CHECK_CLEAN(table);
    for (uint64_t i = 0; i < SESSIONS; i++) {
        CHECK(load(table, id_now(i), 0, &got) == SESSILE_OK);
        CHECK(got.handle == sessions[i].handle && got.fields_length == sessions[i].fields_length);
        if (id_now(i) != i) {
            enum sessile_status status = load(table, i, 0, &got);
            CHECK(status == (i % 20 == 5 ? SESSILE_RETIRED : SESSILE_OK));
        }
    }
    sessile_stats(table, &stats);
    CHECK(stats.sessions == SESSIONS && stats.anonymous == SESSIONS / 3);
    CHECK(atomic_load(&table->arena.header->sessions) == SESSIONS);
}

static void recover_all(void)
{
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        struct hold hold;
        struct stripe_hold stripe;
        CHECK(shard_enter(table, number, 1000, &hold) == SESSILE_OK);
        shard_recover(table, number);
        shard_leave(&hold);
        CHECK(stripe_enter(table, number, 1000, &stripe) == SESSILE_OK);
        owner_recover(table, number);
        owner_leave(&stripe);
    }
    arena_rebuild_units(&table->arena);
    shard_recount(table);
}

/* All of the mapping but counters that only count, and the locks. */
static uint32_t fingerprint(void)
{
    const struct geometry *geometry = &table->arena.geometry;
    uint32_t sum = 0;
    for (uint32_t number = 0; number < geometry->shards; number++) {
        struct shard shard;
        struct stripe stripe;
        memcpy((void *)&shard, (const void *)shard_at(table, number), sizeof shard);
        memcpy((void *)&stripe, (const void *)stripe_at(table, number), sizeof stripe);
        atomic_store(&shard.seq, 0);
        shard.lsn = 0;
        atomic_store(&stripe.seq, 0);
        sum = crc32c(sum, &shard, sizeof shard);
        sum = crc32c(sum, &stripe, sizeof stripe);
    }
    return crc32c(sum, table->arena.base + geometry->shard_index, geometry->size - geometry->shard_index);
}

static void a_second_recovery_changes_nothing(void)
{
    populate();
    recover_all();
    uint32_t once = fingerprint();
    recover_all();
    CHECK(fingerprint() == once);
    check_everything_is_there();
    sessile_close(table);
}

static void scribble(void *at, size_t length)
{
    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint64_t value = check_random(&state) >> check_random(&state) % 64;
        memcpy((uint8_t *)at + i, &value, 8);
    }
}

/* Nothing that is derived is read by recovery. */
static void what_is_derived_may_be_anything(void)
{
    for (unsigned turn = 0; turn < 6; turn++) {
        populate();
        const struct geometry *geometry = &table->arena.geometry;
        scribble(table->arena.base + geometry->shard_index, 2 * geometry->index_size);
        scribble(table->arena.base + geometry->pages, geometry->units * sizeof(struct page));
        scribble(table->arena.base + geometry->free_units, (geometry->units + 63) / 64 * 8);
        for (uint32_t number = 0; number < geometry->shards; number++) {
            struct shard *shard = shard_at(table, number);
            struct stripe *stripe = stripe_at(table, number);
            scribble((void *)&shard->lists, sizeof shard->lists);
            scribble((void *)shard->wheels, sizeof shard->wheels);
            scribble((void *)&stripe->lists, sizeof stripe->lists);
            shard->active = stripe->active = (uint32_t)check_random(&state);
            shard->entries = shard->retired = shard->retired_head = (uint32_t)check_random(&state);
            shard->retired_tail = shard->forwarding = stripe->entries = (uint32_t)check_random(&state);
            shard->tick = shard->next_fire = (uint32_t)check_random(&state);
            atomic_store(&shard->sessions, 5);
            struct arena_page page;
            for (uint32_t unit = 0; arena_next_page(&table->arena, number, &unit, &page);)
                for (uint32_t i = 0; i < page.slots; i++) {
                    struct record *record = arena_record(&table->arena, arena_slot_of(&table->arena, page.unit, i, page.size));
                    atomic_store(&record->next, (uint32_t)check_random(&state));
                    atomic_store(&record->prev, (uint32_t)check_random(&state));
                }
        }
        recover_all();
        check_everything_is_there();
        sessile_close(table);
    }
}

/* A damaged record costs itself, and no other. */
static void damaged_records_go_and_no_others(void)
{
    struct sessile_session got;
    struct sessile_stats stats;
    uint64_t damaged = 0, lost = 0;
    populate();
    for (uint64_t i = 0; i < SESSIONS; i++) {
        struct hold hold;
        struct record *record;
        if (i % 7 != 0)
            continue;
        CHECK(shard_enter(table, shard_number(table, sessions[i].digest), 1000, &hold) == SESSILE_OK);
        CHECK(shard_find(&hold, sessions[i].digest, &record) != 0);
        uint32_t length = RECORD_HEADER + record_payload_length(record->lengths);
        uint32_t at = (uint32_t)(check_random(&state) % length);
        /* Not in what no checksum covers. */
        bool covered = !(at >= 40 && at < 48) && !(at >= 72 && at < 80) && !(at >= 88 && at < 92) && at >= 4;
        if (covered) {
            ((uint8_t *)record)[at] ^= (uint8_t)(1u << check_random(&state) % 8);
            damaged++;
        }
        shard_leave(&hold);
    }
    recover_all();
    CHECK_CLEAN(table);
    for (uint64_t i = 0; i < SESSIONS; i++) {
        bool there = load(table, id_now(i), 0, &got) == SESSILE_OK;
        CHECK(there || i % 7 == 0);
        lost += !there;
    }
    sessile_stats(table, &stats);
    /* A flipped version bit is no damage that can be seen, and does none. */
    CHECK(lost <= damaged && lost >= damaged * 9 / 10 && stats.quarantined == lost && stats.sessions == SESSIONS - lost);
    sessile_close(table);
}

/* ---- hostile bytes ---- */

static void use_the_table(void)
{
    struct sessile_session got;
    struct sessile_stats stats;
    static _Alignas(8) uint8_t buffer[1 << 20];
    uint64_t count;
    size_t length;
    struct sessile_call call = {.wait_ms = 3};
    for (unsigned i = 0; i < 150; i++) {
        uint64_t number = check_random(&state) % SESSIONS;
        const char *owner = owner_of(number);
        char id[SESSILE_ID_LENGTH + 1];
        struct sessile_reference reference = reference_to(&sessions[number], owner);
        struct sessile_content content = content_of(owner, buffer, check_random(&state) % 3000);
        enum sessile_status status = SESSILE_OK;
        id_of(check_random(&state) % 4 ? id_now(number) : 50000 + i, id);
        switch (check_random(&state) % 10) {
        case 0: status = sessile_create(table, &call, id, &content, &got); break;
        case 1: status = sessile_update(table, &call, &reference, sessions[number].version, 1, &content, &got); break;
        case 2: status = sessile_remove(table, &call, &reference, SESSILE_LOGOUT); break;
        case 3: status = sessile_rotate(table, &call, &reference, sessions[number].version, SESSILE_LOGIN, id, NULL, &content,
                                        &got); break;
        case 4: status = sessile_rotate(table, &call, &reference, sessions[number].version, SESSILE_RENEW, id, buffer, NULL,
                                        &got); break;
        case 5: status = sessile_owner_list(table, &call, (const uint8_t *)"owner1", 6, buffer, sizeof buffer, &count,
                                            &length); break;
        case 6: status = sessile_scan(table, &call, (uint32_t)number % 8, buffer, sizeof buffer, &count, &length); break;
        case 7: status = sessile_owner_revoke(table, &call, (const uint8_t *)"owner2", 6, 0, 0, &count); break;
        case 8: status = sessile_end_theft(table, &call, sessions[number].digest, &count); break;
        default: status = sessile_load(table, &call, id, SESSILE_ID_LENGTH, 3, &got, buffer, sizeof buffer); break;
        }
        CHECK(status < SESSILE_STATUS_COUNT);
    }
    enum sessile_status status = sessile_sweep(table, &call, 100, &count);
    status = sessile_check(table, &call, check_random(&state) % 2, NULL, NULL, &count);
    CHECK(status < SESSILE_STATUS_COUNT);
    sessile_stats(table, &stats);
}

/* Values that hurt: small numbers, slot numbers, lengths at their ends, random ones. */
static uint64_t hostile_value(void)
{
    static const uint64_t values[] = {0, 1, 2, UINT64_MAX, UINT32_MAX, 0x80000000u, 0x7fffffffu, 0xc0000000u, 1ull << 63};
    uint64_t random = check_random(&state);
    if (random % 4 == 0)
        return values[check_random(&state) % 9];
    if (random % 4 == 1)
        return (uint64_t)(table->arena.geometry.first_slot + check_random(&state) %
                          (table->arena.geometry.units * 128ull)) * 0x100000001ull;
    return check_random(&state) >> check_random(&state) % 64;
}

/* Anywhere but in the constants of the header, which are checked at opening, the frontier, and words of locks. */
static void put_hostile_bytes(unsigned how_many)
{
    const struct geometry *geometry = &table->arena.geometry;
    uint64_t used = (uint64_t)atomic_load(&table->arena.header->frontier) * geometry->unit_size;
    while (how_many-- > 0) {
        uint64_t value = hostile_value(), at;
        uint32_t number = (uint32_t)(check_random(&state) % geometry->shards);
        switch (check_random(&state) % 6) {
        case 0: at = geometry->data + check_random(&state) % (used / 8 - 1) * 8; break;
        case 1: at = geometry->data + check_random(&state) % (used / 64 - 2) * 64 + check_random(&state) % 12 * 8; break;
        case 2: at = geometry->shard_index + check_random(&state) % (geometry->index_size / 4) * 8; break;
        case 3: at = geometry->directory + check_random(&state) % geometry->units * 8; break;
        case 4: at = geometry->pages + check_random(&state) % (geometry->units * 2) * 8; break;
        default: at = (check_random(&state) % 2 ? geometry->shards_at + (uint64_t)number * ARENA_SHARD_SIZE +
                                                  check_random(&state) % (sizeof(struct shard) / 4 - 3) * 4
                                                : geometry->stripes_at + (uint64_t)number * ARENA_STRIPE_SIZE +
                                                  check_random(&state) % (sizeof(struct stripe) / 4 - 3) * 4) + 4; break;
        }
        memcpy(table->arena.base + at, &value, 8);
    }
}

static void any_bytes_are_survived(void)
{
    for (unsigned turn = 0; turn < 40; turn++) {
        int status;
        uint64_t seed = state = 1000 + turn;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(100);
            populate();
            for (unsigned i = 0; i < 12; i++) {
                put_hostile_bytes(1u << check_random(&state) % 10);
                use_the_table();
            }
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fprintf(stderr, "seed %llu: status %x\n", (unsigned long long)seed, (unsigned)status);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* A2: a frontier that lies below pages hides what is on them, from who rebuilds too; a repair finds all of it again. */
static void a_lost_frontier_is_found_a2(void)
{
    struct findings found;
    populate();
    atomic_store(&table->arena.header->frontier, 5);
    atomic_store(&table->arena.frontier_seen, 5);
    recover_all();
    find(table, false, &found);
    CHECK(names(&found, "A2"));
    find(table, true, &found);
    CHECK(names(&found, "A2"));
    check_everything_is_there();
    sessile_close(table);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        state = strtoull(argv[1], NULL, 10);
        populate();
        for (unsigned i = 0; i < 12; i++) {
            put_hostile_bytes(1u << check_random(&state) % 10);
            use_the_table();
        }
        return 0;
    }
    RUN(a_second_recovery_changes_nothing);
    RUN(what_is_derived_may_be_anything);
    RUN(damaged_records_go_and_no_others);
    RUN(a_lost_frontier_is_found_a2);
    RUN(any_bytes_are_survived);
    return check_summary();
}
