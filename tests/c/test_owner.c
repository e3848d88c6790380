/* test_owner.c - csrc/owner.c: an owner's sessions are listed, counted, capped and revoked; references go stale and away; O1 to O3 and their
 * repair.
 */
#include "tables.h"

static struct sessile *table;

static void with_table(void (*body)(void))
{
    table = open_table(8000, 4 << 20, 0.5);
    body();
    CHECK_CLEAN(table);
    sessile_close(table);
}

#define RUN_WITH_TABLE(test) (with_table(test), (void)check_passed++)

static uint64_t list(const void *owner, size_t owner_length)
{
    static _Alignas(8) uint8_t buffer[1 << 20];
    uint64_t count;
    size_t length;
    CHECK(sessile_owner_list(table, &waits, owner, (uint32_t)owner_length, buffer, sizeof buffer, &count, &length) ==
          SESSILE_OK);
    uint64_t seen = 0;
    for (size_t at = 0; at < length; seen++) {
        struct sessile_session session;
        memcpy(&session, buffer + at, sizeof session);
        CHECK(session.owner_length == owner_length && memcmp(buffer + at + sizeof session, owner, owner_length) == 0);
        at += (sizeof session + session.owner_length + session.device_length + 7) & ~(size_t)7;
    }
    CHECK(seen == count);
    return count;
}

static uint64_t listed(const char *owner)
{
    return list(owner, strlen(owner));
}

static uint64_t revoke(const char *owner, uint64_t keep, uint64_t only)
{
    uint64_t count;
    CHECK(sessile_owner_revoke(table, &waits, (const uint8_t *)owner, (uint32_t)strlen(owner), keep, only, &count) ==
          SESSILE_OK);
    return count;
}

static struct sessile_session made(uint64_t number, const char *owner)
{
    struct sessile_session session;
    CHECK(create(table, number, owner, 20, &session) == SESSILE_OK);
    return session;
}

static struct sessile_stats stats(void)
{
    struct sessile_stats now;
    sessile_stats(table, &now);
    return now;
}

/* Slots of entries and nodes that are taken, over all stripes. */
static void count_small(uint32_t *entries, uint32_t *nodes)
{
    *entries = *nodes = 0;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        *entries += stripe_at(table, number)->lists.live[ARENA_OWNED][ARENA_ENTRY];
        *nodes += stripe_at(table, number)->lists.live[ARENA_OWNED][ARENA_NODE];
    }
}

/* ---- lists ---- */

static void an_owner_s_sessions_are_listed_and_nobody_else_s(void)
{
    static const uint8_t odd[][4] = {{0}, {0, 0}, {0, 0, 0}, {'a', 0}, {0xff, 0xfe}};
    static const uint8_t lengths[] = {1, 2, 3, 2, 2};
    struct sessile_session got;
    for (uint64_t i = 0; i < 30; i++)
        made(i, i % 3 == 0 ? "a" : i % 3 == 1 ? "aa" : NULL);
    CHECK(listed("a") == 10 && listed("aa") == 10 && listed("aaa") == 0 && listed("A") == 0);
    CHECK(list("", 0) == 0);
    for (unsigned i = 0; i < 5; i++) {
        struct sessile_content content = content_of(NULL, "f", 1);
        content.owner = odd[i];
        content.owner_length = lengths[i];
        CHECK(create_with(table, &waits, 100 + i, &content, &got) == SESSILE_OK);
    }
    for (unsigned i = 0; i < 5; i++)
        CHECK(list(odd[i], lengths[i]) == 1);
}

static void a_list_leaves_out_what_is_past_its_deadline(void)
{
    struct sessile_content content = content_of("alice", "f", 1);
    struct sessile_session got;
    made(1, "alice");
    content.idle_ms = MINUTES(5);
    CHECK(create_with(table, &waits, 2, &content, &got) == SESSILE_OK);
    CHECK(listed("alice") == 2);
    sessile_advance(table, MINUTES(6));
    CHECK(listed("alice") == 1);
}

static void a_short_buffer_is_told_how_much_is_needed(void)
{
    _Alignas(8) uint8_t buffer[4096];
    uint64_t count;
    size_t length, needed;
    for (uint64_t i = 0; i < 5; i++)
        made(i, "alice");
    CHECK(sessile_owner_list(table, &waits, (const uint8_t *)"alice", 5, NULL, 0, &count, &needed) == SESSILE_BUFFER);
    CHECK(count == 5 && needed % 8 == 0);
    CHECK(sessile_owner_list(table, &waits, (const uint8_t *)"alice", 5, buffer, needed - 1, &count, &length) ==
          SESSILE_BUFFER);
    CHECK(sessile_owner_list(table, &waits, (const uint8_t *)"alice", 5, buffer, needed, &count, &length) == SESSILE_OK);
    CHECK(count == 5 && length == needed);
}

static void an_owner_may_have_many_sessions(void)
{
    uint32_t entries, nodes;
    for (uint64_t i = 0; i < 3000; i++)
        made(i, "alice");
    for (uint64_t i = 3000; i < 3100; i++)
        made(i, "bob");
    CHECK(listed("alice") == 3000 && listed("bob") == 100);
    count_small(&entries, &nodes);
    CHECK(entries == 2 && nodes >= (3000 - 4) / 7 && nodes <= 3000 / 7 + 100 / 7 + 2);
    CHECK(revoke("alice", 0, 0) == 3000 && listed("alice") == 0 && listed("bob") == 100);
    count_small(&entries, &nodes);
    CHECK(entries == 1 && nodes <= 100 / 7 + 1);
    CHECK(revoke("bob", 0, 0) == 100);
    count_small(&entries, &nodes);
    CHECK(entries == 0 && nodes == 0);
}

/* ---- revocation ---- */

static void a_revocation_can_keep_one_or_end_one(void)
{
    static _Alignas(8) uint8_t buffer[4096];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    struct sessile_session sessions[6], got;
    uint64_t count;
    for (uint64_t i = 0; i < 6; i++)
        sessions[i] = made(i, i < 5 ? "alice" : "bob");
    CHECK(revoke("alice", 0, sessions[2].handle) == 1 && listed("alice") == 4);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS);
    CHECK(revoke("alice", 0, sessions[2].handle) == 0);
    CHECK(revoke("alice", 0, sessions[5].handle) == 0 && load(table, 5, 0, &got) == SESSILE_OK);
    CHECK(sessile_owner_revoke(table, &call, (const uint8_t *)"alice", 5, sessions[3].handle, 0, &count) == SESSILE_OK);
    CHECK(count == 3 && listed("alice") == 1 && load(table, 3, 0, &got) == SESSILE_OK && listed("bob") == 1);
    unsigned reports = 0;
    for (size_t at = 0; at < sink.used; reports++) {
        const struct sessile_report *report = (const void *)(buffer + at);
        CHECK(report->reason == SESSILE_REVOKED && report->owner_length == 5 && report->fields_length == 20);
        at += report->size;
    }
    CHECK(reports == 3);
    CHECK(revoke("nobody", 0, 0) == 0 && revoke("", 0, 0) == 0);
    CHECK(stats().revoked == 4 && stats().sessions == 2);
}

/* A session of this owner that was stored before the revocation, and one after it. */
static void a_log_in_after_a_revocation_stands(void)
{
    struct sessile_session got;
    made(1, "alice");
    CHECK(revoke("alice", 0, 0) == 1);
    made(2, "alice");
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS && load(table, 2, 0, &got) == SESSILE_OK && listed("alice") == 1);
}

static struct owner_entry *entry_of(const char *owner, uint32_t *stripe)
{
    struct owner named = owner_named(table, (const uint8_t *)owner, (uint32_t)strlen(owner));
    struct stripe_hold hold;
    struct owner_entry *entry = NULL;
    *stripe = (uint32_t)(named.key[0] >> table->arena.geometry.shard_shift);
    CHECK(stripe_enter(table, *stripe, 1000, &hold) == SESSILE_OK);
    for (uint32_t at = 0; at < hold.index.active && !entry; at++) {
        uint32_t slot = (uint32_t)atomic_load(&hold.index.entries[at]) & 0x7fffffffu;
        struct owner_entry *found = (void *)(table->arena.base + (uint64_t)slot * ARENA_SLOT);
        if (slot && atomic_load(&found->key[0]) == named.key[0] && atomic_load(&found->key[1]) == named.key[1])
            entry = found;
    }
    owner_leave(&hold);
    CHECK(entry);
    return entry;
}

/* O2: what a killed revoker left is finished before the next that is done for the owner. */
static void a_revocation_left_behind_is_finished_o2(void)
{
    struct sessile_session got, kept;
    uint32_t stripe;
    for (int turn = 0; turn < 2; turn++) {
        for (uint64_t i = 0; i < 20; i++)
            made(i, "alice");
        CHECK(load(table, 7, 0, &kept) == SESSILE_OK);
        struct owner_entry *entry = entry_of("alice", &stripe);
        atomic_store(&stripe_at(table, stripe)->revoking, 1);
        atomic_store(&stripe_at(table, stripe)->revoking, 1);
        atomic_store(&entry->state, turn == 0 ? 1 : kept.handle | 1);
        CHECK(listed("alice") == (turn == 0 ? 0 : 1));
        made(30, "alice");
        CHECK(listed("alice") == (turn == 0 ? 1 : 2));
        CHECK(load(table, 7, 0, &got) == (turn == 0 ? SESSILE_MISS : SESSILE_OK));
        CHECK(revoke("alice", 0, 0) == (turn == 0 ? 1 : 2));
    }
}

static void the_check_finds_a_revocation_left_behind_o2(void)
{
    struct findings findings;
    struct sessile_session session = made(1, "alice");
    uint32_t stripe;
    struct owner_entry *entry = entry_of("alice", &stripe);
    struct sessile_reference reference = reference_to(&session, "alice");
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    atomic_store(&entry->state, 1);
    find(table, false, &findings);
    CHECK(names(&findings, "O2"));
    atomic_store(&stripe_at(table, stripe)->revoking, 1);
    CHECK(listed("alice") == 0);
}

static void revoke_all_empties_the_stripes_too(void)
{
    uint32_t entries, nodes;
    uint64_t count;
    struct sessile_session got;
    for (uint64_t i = 0; i < 500; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)(i / 10));
        made(i, i % 5 == 4 ? NULL : owner);
    }
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == 500);
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS && stats().sessions == 0 && stats().revoked == 500);
    made(1, "owner1");
    CHECK(listed("owner1") == 1 && listed("owner2") == 0);
    CHECK_CLEAN(table);
    count_small(&entries, &nodes);
    CHECK(entries == 1 && nodes == 0);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == 1);
    CHECK(listed("owner1") == 0);
}

/* ---- the cap ---- */

static void set_cap(uint32_t cap)
{
    struct sessile_policy policy = test_policy;
    policy.sessions_per_owner = cap;
    sessile_set_policy(table, &policy);
}

static void above_the_cap_the_session_unused_for_longest_ends(void)
{
    static _Alignas(8) uint8_t buffer[4096];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    struct sessile_content content = content_of("alice", "f", 1);
    struct sessile_session got;
    set_cap(3);
    for (uint64_t i = 1; i <= 3; i++) {
        made(i, "alice");
        sessile_advance(table, MINUTES(1));
    }
    made(10, "bob");
    CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_OK);
    CHECK(create_with(table, &call, 4, &content, &got) == SESSILE_OK);
    const struct sessile_report *report = (const void *)buffer;
    CHECK(sink.used == report->size && report->reason == SESSILE_EVICTED);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && load(table, 3, 0, &got) == SESSILE_OK);
    CHECK(load(table, 4, 0, &got) == SESSILE_OK && listed("alice") == 3 && listed("bob") == 1);
    /* A smaller cap ends as many as it takes, but never the new one. */
    set_cap(1);
    made(5, "alice");
    CHECK(listed("alice") == 1 && load(table, 5, 0, &got) == SESSILE_OK && stats().evicted == 4);
    set_cap(0);
    for (uint64_t i = 20; i < 60; i++)
        made(i, "alice");
    CHECK(listed("alice") == 41);
}

static void renewals_and_rotations_do_not_count_as_log_ins(void)
{
    struct sessile_session got, first;
    set_cap(3);
    for (uint64_t i = 1; i <= 3; i++)
        made(i, "alice");
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_OK);
    CHECK(rotate(table, &got, "alice", SESSILE_RENEW, 11, &got) == SESSILE_OK);
    CHECK(load(table, 2, 0, &first) == SESSILE_OK && rotate(table, &first, "alice", SESSILE_ROTATE, 12, &first) == SESSILE_OK);
    CHECK(listed("alice") == 3 && stats().evicted == 0);
    /* A log-in from one of the owner's own sessions takes its place: nobody has to go. */
    CHECK(rotate(table, &first, "alice", SESSILE_LOGIN, 13, &first) == SESSILE_OK);
    CHECK(listed("alice") == 3 && stats().evicted == 0);
    made(4, NULL);
    CHECK(load(table, 4, 0, &got) == SESSILE_OK && rotate(table, &got, "alice", SESSILE_LOGIN, 14, &got) == SESSILE_OK);
    CHECK(listed("alice") == 3 && stats().evicted == 1 && load(table, 14, 0, &got) == SESSILE_OK);
}

static void what_is_past_its_deadline_does_not_count_for_the_cap(void)
{
    struct sessile_content content = content_of("alice", "f", 1);
    struct sessile_session got;
    set_cap(2);
    content.idle_ms = MINUTES(1);
    CHECK(create_with(table, &waits, 1, &content, &got) == SESSILE_OK);
    made(2, "alice");
    sessile_advance(table, MINUTES(2));
    made(3, "alice");
    CHECK(listed("alice") == 2 && load(table, 2, 0, &got) == SESSILE_OK && stats().evicted == 0);
}

/* ---- stale references ---- */

static void references_of_sessions_that_ended_do_not_pile_up(void)
{
    uint32_t entries, nodes;
    for (uint64_t i = 1; i < 5000; i++) {
        struct sessile_session session = made(i, "alice");
        struct sessile_reference reference = reference_to(&session, "alice");
        CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    }
    count_small(&entries, &nodes);
    CHECK(entries == 1 && nodes < 20);
    CHECK(listed("alice") == 0);
    count_small(&entries, &nodes);
    CHECK(entries == 0 && nodes == 0);
}

static void owners_without_sessions_do_not_pile_up(void)
{
    uint32_t entries, nodes;
    for (uint64_t i = 1; i < 20000; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        struct sessile_session session = made(i, owner);
        struct sessile_reference reference = reference_to(&session, owner);
        CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    }
    count_small(&entries, &nodes);
    CHECK(entries <= 16 * table->arena.geometry.shards + 64 && nodes == 0);
}

/* Few owners are left on many pages: they move together, and nothing of them is lost. */
static void entries_move_together(void)
{
    for (uint64_t i = 0; i < 3000; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        made(i, owner);
        if (i % 50 == 0)
            for (uint64_t more = 1; more < 20; more++)
                made(i * 100 + 100000 + more, owner);
    }
    for (uint64_t i = 0; i < 3000; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        CHECK(i % 50 == 0 || revoke(owner, 0, 0) == 1);
    }
    uint32_t returned = 0, left = 0, per_page = table->arena.geometry.unit_size / 64;
    for (int turn = 0; turn < 100; turn++)
        for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
            returned += owner_compact(table, number, &waits);
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
        left += stripe_at(table, number)->lists.live[ARENA_OWNED][ARENA_ENTRY] +
                stripe_at(table, number)->lists.free[ARENA_OWNED][ARENA_ENTRY];
    CHECK(returned > 0 && left <= table->arena.geometry.shards * per_page);
    for (uint64_t i = 0; i < 3000; i += 50) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        CHECK(listed(owner) == 20);
    }
}

/* ---- damage and repair ---- */

/* O1: a session whose reference is gone is neither listed nor revocable; the check finds it and a repair brings it back. */
static void a_lost_reference_is_found_and_restored_o1(void)
{
    struct findings findings;
    uint32_t stripe;
    for (uint64_t i = 0; i < 6; i++)
        made(i, "alice");
    struct owner_entry *entry = entry_of("alice", &stripe);
    atomic_store(&entry->ref[1], 0);
    CHECK(listed("alice") == 5);
    find(table, false, &findings);
    CHECK(findings.count == 1 && names(&findings, "O1"));
    find(table, true, &findings);
    CHECK(findings.count == 1);
    CHECK_CLEAN(table);
    CHECK(listed("alice") == 6);
}

/* A repair that needs memory reserves it. */
static void a_reference_is_restored_where_all_reserved_memory_is_taken_o1(void)
{
    struct findings findings;
    struct stripe_hold hold;
    struct sessile_session got;
    const struct arena_header *header = table->arena.header;
    struct owner alice = owner_named(table, (const uint8_t *)"alice", 5);
    made(0, "alice");
    CHECK(owner_enter(table, &alice, &waits, &hold) == SESSILE_OK);
    owner_unclaim(&hold, &alice, record_prefix(digest_of(table, 0, got.digest)));
    for (uint64_t i = 1; atomic_load(&header->used_units) < atomic_load(&header->frontier); i++)
        CHECK(create(table, i, NULL, 500, &got) == SESSILE_OK);
    uint32_t frontier = atomic_load(&header->frontier);
    find(table, true, &findings);
    CHECK(findings.count == 1 && names(&findings, "O1") && atomic_load(&header->frontier) > frontier);
    CHECK_CLEAN(table);
    CHECK(listed("alice") == 1);
}

/* The bytes of a stripe and of its index, without `seq`, which counts. */
static uint64_t fingerprint(uint32_t number)
{
    const struct geometry *geometry = &table->arena.geometry;
    const uint8_t *index = table->arena.base + geometry->stripe_index + (uint64_t)number * geometry->index_entries * 8;
    struct stripe stripe;
    memcpy((void *)&stripe, (const void *)stripe_at(table, number), sizeof stripe);
    atomic_store(&stripe.seq, 0);
    uint64_t sum = crc32c(0, &stripe, sizeof stripe);
    return sum << 32 | crc32c(0, index, geometry->index_entries * 8);
}

static void recover_stripe(uint32_t number)
{
    struct stripe_hold hold;
    CHECK(stripe_enter(table, number, 1000, &hold) == SESSILE_OK);
    owner_recover(table, number);
    owner_leave(&hold);
}

static void populate(void)
{
    for (uint64_t i = 0; i < 600; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", (unsigned)(i % 40));
        made(i, owner);
    }
}

static void check_population(void)
{
    for (unsigned i = 0; i < 40; i++) {
        char owner[16];
        snprintf(owner, sizeof owner, "owner%u", i);
        CHECK(listed(owner) == 15);
    }
}

static void recovery_of_a_sound_stripe_changes_nothing(void)
{
    populate();
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        recover_stripe(number);
        uint64_t once = fingerprint(number);
        recover_stripe(number);
        CHECK(fingerprint(number) == once);
    }
    CHECK_CLEAN(table);
    check_population();
}

static void a_stripe_whose_index_is_lost_is_rebuilt_i1(void)
{
    struct findings findings;
    const struct geometry *geometry = &table->arena.geometry;
    populate();
    for (uint32_t number = 0; number < geometry->shards; number++) {
        memset(table->arena.base + geometry->stripe_index + (uint64_t)number * geometry->index_entries * 8, 0x5a,
               geometry->index_entries * 8);
        memset((void *)&stripe_at(table, number)->lists, 0x77, sizeof(struct page_lists));
        stripe_at(table, number)->entries = 12345;
        recover_stripe(number);
    }
    CHECK_CLEAN(table);
    check_population();
    for (uint32_t number = 0; number < geometry->shards; number++) {
        if (stripe_at(table, number)->entries == 0)
            continue;
        stripe_at(table, number)->entries++;
        find(table, false, &findings);
        CHECK(names(&findings, "I1, I2"));
        find(table, true, &findings);
        CHECK_CLEAN(table);
    }
    check_population();
}

/* O3: two chains that share a node, a chain that leads astray, a node that no chain has. */
static void a_chain_that_leads_astray_is_found_and_cut_o3(void)
{
    struct findings findings;
    uint32_t stripe;
    for (int turn = 0; turn < 3; turn++) {
        for (uint64_t i = 0; i < 40; i++)
            made(i, "alice");
        struct owner_entry *entry = entry_of("alice", &stripe);
        uint32_t first = atomic_load(&entry->next);
        struct owner_node *node = (void *)(table->arena.base + (uint64_t)first * ARENA_SLOT);
        if (turn == 0)
            atomic_store(&node->next, first);
        else if (turn == 1)
            atomic_store(&node->next, first + 1000003);
        else
            atomic_store(&entry->next, atomic_load(&node->next));
        find(table, false, &findings);
        CHECK(names(&findings, "O3"));
        find(table, true, &findings);
        /* The references that were lost with the chain are restored from the sessions, by the same call or the next. */
        find(table, true, &findings);
        CHECK_CLEAN(table);
        CHECK(listed("alice") == 40 && revoke("alice", 0, 0) == 40);
    }
}

/* Killed between the two halves of an entry's move: both say the same, one goes, nothing of the chain is lost. */
static void an_entry_that_was_being_moved_is_there_once(void)
{
    uint32_t stripe, slot, entries, nodes;
    struct stripe_hold hold;
    for (uint64_t i = 0; i < 40; i++)
        made(i, "alice");
    struct owner_entry *entry = entry_of("alice", &stripe);
    CHECK(stripe_enter(table, stripe, 1000, &hold) == SESSILE_OK);
    CHECK(arena_take_small(&table->arena, &hold.stripe->lists, table->arena.geometry.shards + stripe, ARENA_ENTRY, 0,
                           &slot) == ARENA_OK);
    memcpy(table->arena.base + (uint64_t)slot * ARENA_SLOT, (const void *)entry, sizeof *entry);
    atomic_store(&hold.stripe->seq, atomic_load(&hold.stripe->seq) | 1);
    owner_recover(table, stripe);
    owner_leave(&hold);
    count_small(&entries, &nodes);
    CHECK(entries == 1 && listed("alice") == 40);
}

int main(void)
{
    RUN_WITH_TABLE(an_owner_s_sessions_are_listed_and_nobody_else_s);
    RUN_WITH_TABLE(a_list_leaves_out_what_is_past_its_deadline);
    RUN_WITH_TABLE(a_short_buffer_is_told_how_much_is_needed);
    RUN_WITH_TABLE(an_owner_may_have_many_sessions);
    RUN_WITH_TABLE(a_revocation_can_keep_one_or_end_one);
    RUN_WITH_TABLE(a_log_in_after_a_revocation_stands);
    RUN_WITH_TABLE(a_revocation_left_behind_is_finished_o2);
    RUN_WITH_TABLE(the_check_finds_a_revocation_left_behind_o2);
    RUN_WITH_TABLE(revoke_all_empties_the_stripes_too);
    RUN_WITH_TABLE(above_the_cap_the_session_unused_for_longest_ends);
    RUN_WITH_TABLE(renewals_and_rotations_do_not_count_as_log_ins);
    RUN_WITH_TABLE(what_is_past_its_deadline_does_not_count_for_the_cap);
    RUN_WITH_TABLE(references_of_sessions_that_ended_do_not_pile_up);
    RUN_WITH_TABLE(owners_without_sessions_do_not_pile_up);
    RUN_WITH_TABLE(entries_move_together);
    RUN_WITH_TABLE(a_lost_reference_is_found_and_restored_o1);
    RUN_WITH_TABLE(a_reference_is_restored_where_all_reserved_memory_is_taken_o1);
    RUN_WITH_TABLE(recovery_of_a_sound_stripe_changes_nothing);
    RUN_WITH_TABLE(a_stripe_whose_index_is_lost_is_rebuilt_i1);
    RUN_WITH_TABLE(a_chain_that_leads_astray_is_found_and_cut_o3);
    RUN_WITH_TABLE(an_entry_that_was_being_moved_is_there_once);
    return check_summary();
}
