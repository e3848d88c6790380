/* test_rotation.c - csrc/rotation.c and csrc/succession.c: log-in, rotation, renewal, theft, and T1 to T5 with a rotation that is stopped
 * or left behind between its steps.
 */
#define _GNU_SOURCE
#include "tables.h"

#include <pthread.h>
#include <sched.h>

static struct sessile *table;

static void with_table(void (*body)(void))
{
    table = open_table(2000, 4 << 20, 0.5);
    body();
    CHECK_CLEAN(table);
    sessile_close(table);
}

#define RUN_WITH_TABLE(test) (with_table(test), (void)check_passed++)

static uint64_t sessions(void)
{
    struct sessile_stats stats;
    sessile_stats(table, &stats);
    return stats.sessions;
}

static struct sessile_session made(uint64_t number, const char *owner)
{
    struct sessile_session session;
    CHECK(create(table, number, owner, 100, &session) == SESSILE_OK);
    return session;
}

static struct sessile_session presented(uint64_t number)
{
    struct sessile_session session;
    CHECK(load(table, number, SESSILE_PRESENT, &session) == SESSILE_OK);
    return session;
}

static uint64_t listed(const char *owner)
{
    static _Alignas(8) uint8_t buffer[1 << 16];
    uint64_t count;
    size_t length;
    CHECK(sessile_owner_list(table, &waits, (const uint8_t *)owner, (uint32_t)strlen(owner), buffer, sizeof buffer, &count,
                             &length) == SESSILE_OK);
    return count;
}

/* ---- what each kind of rotation does ---- */

static void a_log_in_gives_another_session_under_another_id(void)
{
    struct sessile_session old = made(1, NULL), new, got;
    uint8_t buffer[64];
    char id[SESSILE_ID_LENGTH + 1];
    sessile_advance(table, MINUTES(10));
    struct sessile_reference reference = reference_to(&old, NULL);
    struct sessile_content content = content_of("alice", "kept", 4);
    content.device = (const uint8_t *)"device";
    content.device_length = 6;
    CHECK(sessile_rotate(table, &waits, &reference, old.version, SESSILE_LOGIN, id_of(2, id), NULL, &content, &new) ==
          SESSILE_OK);
    CHECK(new.handle != old.handle && new.created_ms == old.created_ms && new.authenticated_ms > old.created_ms);
    CHECK(new.idle_deadline_ms == new.now_ms + MINUTES(30) && new.absolute_deadline_ms == new.now_ms + HOURS(8));
    CHECK(new.flags & SESSILE_OWNED && !(new.flags & SESSILE_PROVEN) && new.rotations == 0 && new.rotates == 0);
    CHECK(sessile_load(table, &waits, id_of(2, id), SESSILE_ID_LENGTH, 0, &got, buffer, sizeof buffer) == SESSILE_OK);
    CHECK(memcmp(buffer, "alicedevicekept", 15) == 0 && got.handle == new.handle && got.version == new.version);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS);
    CHECK(update(table, &old, NULL, 1, &got) == SESSILE_GONE);
    CHECK(sessions() == 1 && listed("alice") == 1);
}

static void a_rotation_keeps_all_but_the_id_and_the_fields(void)
{
    struct sessile_session old, new, got;
    uint8_t buffer[64];
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_content content = content_of("alice", "before", 6);
    content.device = (const uint8_t *)"device";
    content.device_length = 6;
    content.idle_ms = MINUTES(50);
    CHECK(create_with(table, &waits, 1, &content, &old) == SESSILE_OK);
    sessile_advance(table, MINUTES(10));
    struct sessile_reference reference = reference_to(&old, "alice");
    content = content_of("mallory", "after", 5);
    CHECK(sessile_rotate(table, &waits, &reference, 1, SESSILE_ROTATE, id_of(2, id), NULL, &content, &new) == SESSILE_OK);
    CHECK(new.handle == old.handle && new.created_ms == old.created_ms && new.authenticated_ms == old.authenticated_ms);
    CHECK(new.absolute_deadline_ms == old.absolute_deadline_ms && new.idle_ms == MINUTES(50) && new.issued_ms > old.issued_ms);
    CHECK(new.rotations == 1 && new.rotates == 1);
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH, 0, &got, buffer, sizeof buffer) == SESSILE_OK);
    CHECK(memcmp(buffer, "alicedeviceafter", 16) == 0);
    CHECK(sessile_rotate(table, &waits, &(struct sessile_reference){.handle = 1}, 1, SESSILE_ROTATE, id_of(3, id), NULL, NULL,
                         &got) == SESSILE_GONE);
    reference = reference_to(&new, "alice");
    CHECK(sessile_rotate(table, &waits, &reference, new.version, SESSILE_ROTATE, id, NULL, NULL, &got) == SESSILE_OK);
    CHECK(got.fields_length == 5 && got.device_length == 6 && got.rotates == 2);
    CHECK(update(table, &old, "alice", 1, &got) == SESSILE_GONE);
}

/* SID: an id is dead at once; ten seconds late is late, and after that a theft, for ten minutes. */
static void a_retired_id_of_an_owned_session_tells_a_theft(void)
{
    struct sessile_session old = made(1, "alice"), new, got;
    CHECK(rotate(table, &old, "alice", SESSILE_ROTATE, 2, &new) == SESSILE_OK);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_RETIRED);
    CHECK(got.handle == old.handle && memcmp(got.digest, old.digest, 32) == 0);
    sessile_advance(table, SHARD_LATE_MS - 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_RETIRED);
    sessile_advance(table, 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_THEFT);
    CHECK(got.handle == old.handle && memcmp(got.digest, old.digest, 32) == 0);
    sessile_advance(table, SHARD_RETIRED_MS - SHARD_LATE_MS - 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_THEFT);
    sessile_advance(table, 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS);
    CHECK(load(table, 2, 0, &got) == SESSILE_OK);
}

static void a_theft_ends_the_session_that_the_id_led_to(void)
{
    static _Alignas(8) uint8_t buffer[1024];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    struct sessile_session first = made(1, "alice"), got = first;
    uint64_t handle = 0;
    for (uint64_t next = 2; next < 8; next++)
        CHECK(rotate(table, &got, "alice", SESSILE_ROTATE, next, &got) == SESSILE_OK);
    CHECK(sessile_end_theft(table, &call, first.digest, &handle) == SESSILE_OK && handle == first.handle);
    const struct sessile_report *report = (const void *)buffer;
    CHECK(sink.used == report->size && report->reason == SESSILE_STOLEN && report->handle == handle);
    CHECK(load(table, 7, 0, &got) == SESSILE_MISS && sessions() == 0);
    CHECK(sessile_end_theft(table, &call, first.digest, &handle) == SESSILE_GONE);
    uint8_t digest[32];
    CHECK(sessile_end_theft(table, &call, digest_of(table, 99, digest), &handle) == SESSILE_GONE);
}

static void an_anonymous_session_s_old_id_tells_nothing(void)
{
    struct sessile_session old = made(1, NULL), got;
    CHECK(rotate(table, &old, NULL, SESSILE_ROTATE, 2, &got) == SESSILE_OK);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS);
    sessile_advance(table, SHARD_LATE_MS + 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS);
    CHECK(presented(2).flags & SESSILE_FIRST);
}

/* ---- renewal ---- */

static void only_an_owned_session_whose_id_was_presented_is_renewed(void)
{
    struct sessile_session anonymous = made(1, NULL), owned = made(2, "alice"), got;
    char id[SESSILE_ID_LENGTH + 1];
    presented(1);
    CHECK(rotate(table, &anonymous, NULL, SESSILE_RENEW, 3, &got) == SESSILE_INVALID);
    CHECK(rotate(table, &owned, "alice", SESSILE_RENEW, 3, &got) == SESSILE_INVALID);
    presented(2);
    struct sessile_reference reference = reference_to(&owned, "alice");
    CHECK(sessile_rotate(table, &waits, &reference, 1, SESSILE_RENEW, id_of(3, id), NULL, NULL, &got) == SESSILE_INVALID);
    CHECK(sessile_rotate(table, &at_once, &reference, 1, SESSILE_RENEW, id, owned.digest, NULL, &got) == SESSILE_INVALID);
    CHECK(rotate(table, &owned, "alice", SESSILE_RENEW, 3, &got) == SESSILE_OK);
    /* Its new id was not presented yet: one successor at a time (LIF-09). */
    CHECK(rotate(table, &got, "alice", SESSILE_RENEW, 4, &got) == SESSILE_INVALID);
    CHECK(sessions() == 2);
}

static void a_renewed_id_forwards_until_the_new_one_was_presented_and_drained(void)
{
    struct sessile_session old = made(1, "alice"), new, got;
    presented(1);
    CHECK(rotate(table, &old, "alice", SESSILE_RENEW, 2, &new) == SESSILE_OK);
    CHECK(new.handle == old.handle && new.rotations == 1 && new.rotates == 0 && new.absolute_deadline_ms ==
          old.absolute_deadline_ms);
    /* However long, while it is used. */
    for (int i = 0; i < 4; i++) {
        sessile_advance(table, MINUTES(20));
        CHECK(load(table, 1, SESSILE_PRESENT | SESSILE_TOUCH, &got) == SESSILE_OK);
        CHECK(got.flags & SESSILE_FORWARDED && !(got.flags & (SESSILE_PROVEN | SESSILE_FIRST)));
        CHECK(got.nonce[0] == 9 && memcmp(got.digest, new.digest, 32) == 0 && got.key_index == 255);
        CHECK(got.idle_deadline_ms == got.now_ms + MINUTES(30));
    }
    got = presented(2);
    CHECK(got.flags & SESSILE_FIRST && got.flags & SESSILE_PROVEN && !(got.flags & SESSILE_FORWARDED));
    CHECK(!(presented(2).flags & SESSILE_FIRST));
    sessile_advance(table, SHARD_DRAIN_MS - 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_OK && got.flags & SESSILE_FORWARDED);
    sessile_advance(table, 1000);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_RETIRED);
    sessile_advance(table, SHARD_LATE_MS);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_THEFT);
    sessile_advance(table, SHARD_RETIRED_MS - SHARD_LATE_MS);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS);
    CHECK(load(table, 2, 0, &got) == SESSILE_OK);
}

static void a_reference_follows_renewals_however_much_later(void)
{
    struct sessile_session old = made(1, "alice"), current = old, got;
    struct sessile_reference reference = reference_to(&old, "alice");
    for (uint64_t next = 2; next < 30; next++) {
        presented(next - 1);
        CHECK(rotate(table, &current, "alice", SESSILE_RENEW, next, &current) == SESSILE_OK);
        presented(next);
        CHECK(sessile_read(table, &waits, &reference, SESSILE_TOUCH, &got, NULL, 0) == SESSILE_OK);
        CHECK(got.flags & SESSILE_FORWARDED && memcmp(got.digest, current.digest, 32) == 0);
        CHECK(update(table, &old, "alice", 10, &got) == (current.version == old.version ? SESSILE_OK : SESSILE_CHANGED));
        current.version = got.version;
        CHECK(sessile_read(table, &waits, &reference, 0, &current, NULL, 0) == SESSILE_OK);
        old.version = current.version;
        sessile_advance(table, MINUTES(15));
    }
    /* By now the first records have been gone for hours. */
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS);
    CHECK(listed("alice") == 1);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    CHECK(load(table, 29, 0, &got) == SESSILE_MISS && sessions() == 0);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_GONE);
}

/* Two renewals and a write between them: who read before all that must not overwrite what was written. */
static void versions_go_on_across_renewals(void)
{
    struct sessile_session read = made(1, "alice"), second, written, third, got;
    presented(1);
    CHECK(rotate(table, &read, "alice", SESSILE_RENEW, 2, &second) == SESSILE_OK);
    CHECK(second.version == read.version);
    CHECK(update(table, &second, "alice", 33, &written) == SESSILE_OK);
    presented(2);
    CHECK(rotate(table, &written, "alice", SESSILE_RENEW, 3, &third) == SESSILE_OK);
    CHECK(update(table, &read, "alice", 44, &got) == SESSILE_CHANGED);
    CHECK(load(table, 3, 0, &got) == SESSILE_OK && got.fields_length == 33 && got.version == written.version);
    /* Nothing was written since: the renewals are no change. */
    CHECK(update(table, &written, "alice", 55, &got) == SESSILE_OK);
    CHECK(load(table, 3, 0, &got) == SESSILE_OK && got.fields_length == 55);
}

/* A log-out that another request still holds by the older id must not find the rotated session. */
static void a_reference_does_not_follow_a_rotation(void)
{
    struct sessile_session old = made(1, "alice"), renewed, got;
    struct sessile_reference reference = reference_to(&old, "alice");
    presented(1);
    CHECK(rotate(table, &old, "alice", SESSILE_RENEW, 2, &renewed) == SESSILE_OK);
    presented(2);
    CHECK(rotate(table, &renewed, "alice", SESSILE_ROTATE, 3, &got) == SESSILE_OK);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_GONE);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_GONE);
    sessile_advance(table, MINUTES(25));
    CHECK(load(table, 3, SESSILE_TOUCH, &got) == SESSILE_OK);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_GONE);
    CHECK(load(table, 3, 0, &got) == SESSILE_OK);
}

static void the_end_of_a_session_ends_the_id_that_forwards_to_it(void)
{
    struct sessile_session old = made(1, "alice"), new, got;
    presented(1);
    CHECK(rotate(table, &old, "alice", SESSILE_RENEW, 2, &new) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&old, "alice");
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_MISS && load(table, 2, SESSILE_PRESENT, &got) == SESSILE_MISS);
    uint64_t forwarding = 0;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
        forwarding += shard_at(table, number)->forwarding;
    CHECK(forwarding == 0);
}

/* ---- refusals ---- */

static void a_refused_rotation_leaves_nothing_behind(void)
{
    struct sessile_session old = made(1, "alice"), second, got;
    char id[SESSILE_ID_LENGTH + 1];
    CHECK(update(table, &old, "alice", 50, &second) == SESSILE_OK);
    CHECK(rotate(table, &old, "alice", SESSILE_LOGIN, 2, &got) == SESSILE_CHANGED);
    CHECK(rotate(table, &second, "alice", SESSILE_ROTATE, 1, &got) == SESSILE_EXISTS);
    made(3, "bob");
    CHECK(rotate(table, &second, "alice", SESSILE_ROTATE, 3, &got) == SESSILE_EXISTS);
    struct sessile_reference reference = reference_to(&second, "alice");
    CHECK(sessile_rotate(table, &waits, &reference, 2, SESSILE_LOGIN, id_of(2, id), NULL, NULL, &got) == SESSILE_INVALID);
    CHECK(sessions() == 2 && listed("alice") == 1 && listed("bob") == 1);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && got.version == 2 && got.fields_length == 50);
}

/* ---- much of it ---- */

static void retired_ids_stay_few_however_often_a_session_rotates(void)
{
    struct sessile_session got = made(1, "alice"), read;
    struct sessile_reference first = reference_to(&got, "alice");
    struct sessile_stats stats;
    uint32_t most = 0;
    for (uint64_t next = 2; next < 20000; next++) {
        CHECK(rotate(table, &got, "alice", SESSILE_ROTATE, next, &got) == SESSILE_OK);
        CHECK(got.rotations == (next - 1) % RECORD_ROTATIONS && got.rotates == next - 1);
        /* Long after the records that led away from it are gone, the first id's reference leads nowhere. */
        if ((next - 1) % 1024 == 0)
            CHECK(sessile_read(table, &waits, &first, 0, &read, NULL, 0) == SESSILE_GONE);
        for (uint32_t number = 0; next % 100 == 0 && number < table->arena.geometry.shards; number++)
            most = shard_at(table, number)->retired > most ? shard_at(table, number)->retired : most;
    }
    CHECK(most <= table->arena.geometry.retired_bound + SHARD_WORK);
    sessile_stats(table, &stats);
    CHECK(stats.sessions == 1 && stats.memory_used < 200000);
    CHECK(listed("alice") == 1);
    CHECK(load(table, 19999, 0, &got) == SESSILE_OK);
}

/* The same for the web layer's renewals, whose old ids first forward. */
static void forwarding_ids_stay_few_however_often_a_session_is_renewed(void)
{
    struct sessile_session got = made(1, "alice");
    struct sessile_stats stats;
    for (uint64_t next = 2; next < 5000; next++) {
        presented(next - 1);
        CHECK(rotate(table, &got, "alice", SESSILE_RENEW, next, &got) == SESSILE_OK);
        if (next % 16 == 0)
            sessile_advance(table, MINUTES(1));
    }
    sessile_stats(table, &stats);
    CHECK(stats.sessions == 1 && stats.memory_used < 200000);
    CHECK(listed("alice") == 1);
}

/* TABLE 4: a log-in never fails for the capacity of its own session. */
static void a_log_in_is_not_checked_against_the_capacity(void)
{
    struct sessile *small = open_table(64, 2 << 20, 1.0);
    struct sessile_session session, got;
    struct sessile_stats stats;
    char owner[16];
    for (uint64_t i = 0; i < 64; i++) {
        snprintf(owner, sizeof owner, "owner%u", (unsigned)i);
        CHECK(create(small, i, i == 0 ? NULL : owner, 50, &session) == SESSILE_OK);
        if (i == 0)
            got = session;
    }
    CHECK(create(small, 99, "more", 50, &session) == SESSILE_OK);
    sessile_stats(small, &stats);
    CHECK(stats.sessions == 64 && stats.evicted == 1);
    CHECK(load(small, 0, 0, &session) == SESSILE_MISS);
    CHECK(load(small, 1, 0, &got) == SESSILE_OK);
    CHECK(rotate(small, &got, "owner1", SESSILE_LOGIN, 100, &session) == SESSILE_OK);
    sessile_stats(small, &stats);
    CHECK(stats.sessions == 64 && stats.evicted == 1);
    CHECK_CLEAN(small);
    sessile_close(small);
}

/* ---- between the steps ---- */

/* Stores a PENDING child, as a rotation does that dies after step 1. Its data is the parent's. */
static void leave_child(const struct sessile_session *parent, const char *owner, uint64_t number)
{
    struct hold hold;
    struct record *record;
    struct image image, copy;
    size_t needed;
    image_begin(&image);
    image_begin(&copy);
    CHECK(shard_enter(table, shard_number(table, parent->digest), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, parent->digest, &record) != 0);
    CHECK(shard_copy(&hold, record, &copy, &needed) == SESSILE_OK);
    shard_leave(&hold);
    struct record *child = image.record, *from = copy.record;
    uint32_t length = record_payload_length(from->lengths);
    memcpy((void *)child, (const void *)from, RECORD_HEADER);
    memcpy(child->payload, parent->digest, 32);
    memcpy(child->payload + 32, from->payload, length);
    digest_of(table, number, child->digest);
    child->terms = record_of_kind(from->terms, RECORD_PENDING) | RECORD_HAS_PARENT;
    child->lengths = record_lengths(length + 32, record_owner_length(from->lengths));
    child->issued_s = (uint32_t)(sessile_now(table) / 1000);
    if (owner) {
        struct stripe_hold stripe;
        enum arena_answer answer;
        struct owner named = owner_named(table, (const uint8_t *)owner, (uint32_t)strlen(owner));
        CHECK(owner_claim(table, &named, record_prefix(child->digest), &waits, &stripe, &answer) == SESSILE_OK);
        CHECK(answer == ARENA_OK);
        owner_leave(&stripe);
    }
    CHECK(shard_enter(table, shard_number(table, child->digest), 1000, &hold) == SESSILE_OK);
    CHECK(shard_insert(&hold, child, 1, false, 0) == SHARD_OK);
    shard_leave(&hold);
}

/* Step 2 for it. */
static void commit_child(const struct sessile_session *parent, uint64_t number)
{
    struct hold hold;
    struct record *record;
    struct image image;
    struct retired retired = {.drain_until_ms = 0};
    uint32_t slot;
    digest_of(table, number, retired.child);
    image_begin(&image);
    CHECK(shard_enter(table, shard_number(table, parent->digest), 1000, &hold) == SESSILE_OK);
    CHECK((slot = shard_find(&hold, parent->digest, &record)) != 0);
    memcpy((void *)image.record, (const void *)record, RECORD_HEADER);
    image.record->terms = record_terms(hold.now + SHARD_RETIRED_MS, RECORD_RETIRED, 0, 0);
    image.record->lengths = record_lengths(sizeof retired, 0);
    memcpy(image.record->payload, &retired, sizeof retired);
    CHECK(shard_replace(&hold, slot, image.record, 0) == SHARD_OK);
    shard_leave(&hold);
}

static enum record_kind kind_of(const uint8_t digest[32])
{
    struct hold hold;
    struct record *record;
    CHECK(shard_enter(table, shard_number(table, digest), 1000, &hold) == SESSILE_OK);
    enum record_kind kind = shard_find(&hold, digest, &record) ? record_kind(record->terms) : 0;
    shard_leave(&hold);
    return kind;
}

static uint64_t scanned(void)
{
    static _Alignas(8) uint8_t buffer[1 << 16];
    uint64_t total = 0, count;
    size_t length;
    for (uint32_t shard = 0; shard < table->arena.geometry.shards; shard++) {
        CHECK(sessile_scan(table, &waits, shard, buffer, sizeof buffer, &count, &length) == SESSILE_OK);
        total += count;
    }
    return total;
}

/* T1, R4: before the commit the parent is valid and the child is not; after it, the other way round. */
static void exactly_one_of_parent_and_child_is_valid_t1(void)
{
    for (int by = 0; by < 4; by++) {
        struct sessile_session parent = made(1, "alice"), got;
        uint8_t child[32];
        leave_child(&parent, "alice", 2);
        digest_of(table, 2, child);
        CHECK(load(table, 2, SESSILE_PRESENT, &got) == SESSILE_MISS && load(table, 1, 0, &got) == SESSILE_OK);
        CHECK(listed("alice") == 1 && scanned() == 1);
        CHECK(kind_of(child) == RECORD_PENDING);
        commit_child(&parent, 2);
        CHECK(kind_of(child) == RECORD_PENDING);
        /* Whoever meets the child promotes it. */
        struct sessile_reference reference = {.handle = parent.handle, .owner = (const uint8_t *)"alice", .owner_length = 5};
        memcpy(reference.digest, child, 32);
        if (by == 0)
            CHECK(load(table, 2, 0, &got) == SESSILE_OK);
        else if (by == 1)
            CHECK(listed("alice") == 1);
        else if (by == 2)
            CHECK(scanned() == 1);
        else
            CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_OK);
        CHECK(kind_of(child) == RECORD_SESSION);
        CHECK(load(table, 1, 0, &got) == SESSILE_RETIRED);
        CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
        CHECK(load(table, 2, 0, &got) == SESSILE_MISS);
        /* The next turn begins with an empty table. */
        uint64_t count;
        CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && count == 0);
    }
}

/* T2: a child that was not committed goes, but not before it is due; one that was committed never goes. */
static void a_child_left_behind_is_dropped_when_it_is_due_t2(void)
{
    struct sessile_session parent = made(1, NULL), other = made(10, NULL), got;
    uint8_t child[32];
    leave_child(&parent, NULL, 2);
    leave_child(&other, NULL, 11);
    digest_of(table, 2, child);
    sessile_advance(table, (SHARD_PENDING_S - 1) * 1000);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS && kind_of(child) == RECORD_PENDING && sessions() == 4);
    commit_child(&other, 11);
    sessile_advance(table, 3000);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS && kind_of(child) == 0 && sessions() == 2);
    CHECK(load(table, 11, 0, &got) == SESSILE_OK);
}

/* The wheel meets it as well, without anybody asking for it. */
static void a_sweep_settles_children_left_behind(void)
{
    struct sessile_session parent = made(1, NULL), other = made(10, NULL), got;
    uint64_t count;
    uint8_t child[32];
    leave_child(&parent, NULL, 2);
    leave_child(&other, NULL, 11);
    commit_child(&other, 11);
    sessile_advance(table, (SHARD_PENDING_S + 2) * 1000);
    CHECK(sessile_sweep(table, &waits, 1000, &count) == SESSILE_OK && count == 0);
    CHECK(kind_of(digest_of(table, 2, child)) == 0 && kind_of(digest_of(table, 11, child)) == RECORD_SESSION);
    CHECK(load(table, 11, 0, &got) == SESSILE_OK && sessions() == 2);
}

/* T3: the RETIRED record, which is what makes the child valid, does not go before the child stands without it. */
static void a_retired_record_promotes_its_child_before_it_goes_t3(void)
{
    struct sessile_session parent = made(1, "alice"), got;
    uint64_t count, next = 100;
    uint8_t child[32];
    leave_child(&parent, "alice", 2);
    commit_child(&parent, 2);
    digest_of(table, 2, child);
    uint32_t number = shard_number(table, parent.digest);
    /* By number: more retired ids in that shard than it keeps. */
    for (uint32_t i = 0; i < table->arena.geometry.retired_bound + 2 * SHARD_WORK; i++) {
        struct sessile_session other = made(id_in_shard(table, number, &next), "bob");
        CHECK(rotate(table, &other, "bob", SESSILE_ROTATE, next++, &got) == SESSILE_OK);
    }
    CHECK(sessile_sweep(table, &waits, 1, &count) == SESSILE_OK);
    CHECK(kind_of(parent.digest) == 0 && kind_of(child) == RECORD_SESSION);
    /* By age. */
    parent = made(3, "alice");
    leave_child(&parent, "alice", 4);
    commit_child(&parent, 4);
    sessile_advance(table, SHARD_RETIRED_MS + 1000);
    for (int i = 0; i < 200 && kind_of(parent.digest) != 0; i++)
        CHECK(sessile_sweep(table, &waits, 1, &count) == SESSILE_OK);
    CHECK(kind_of(parent.digest) == 0 && kind_of(digest_of(table, 4, child)) == RECORD_SESSION);
    CHECK(load(table, 2, 0, &got) == SESSILE_OK && load(table, 4, 0, &got) == SESSILE_OK);
}

/* ---- a rotation that is stopped ---- */

struct stopped {
    pthread_t thread;
    struct sessile_session old, new;
    enum sessile_status status;
    uint64_t id;
    unsigned flags;
};

static void *log_in(void *context)
{
    struct stopped *stopped = context;
    stopped->status = rotate(table, &stopped->old, "alice", SESSILE_LOGIN, stopped->id, &stopped->new);
    return NULL;
}

static void *present(void *context)
{
    struct stopped *stopped = context;
    stopped->status = load(table, stopped->id, SESSILE_PRESENT, &stopped->new);
    return NULL;
}

static struct lock *lock_of(const uint8_t digest[32])
{
    return &shard_at(table, shard_number(table, digest))->lock;
}

static struct lock *stripe_lock(const char *owner)
{
    struct owner named = owner_named(table, (const uint8_t *)owner, (uint32_t)strlen(owner));
    return &stripe_at(table, (uint32_t)(named.key[0] >> table->arena.geometry.shard_shift))->lock;
}

/* In place of a process that works in the shard. */
static void take(struct lock *lock)
{
    uint32_t nobody = 0;
    while (!atomic_compare_exchange_strong(&lock->word, &nobody, arena_me(&table->arena))) {
        nobody = 0;
        sched_yield();
    }
}

static void until_somebody_waits(struct lock *lock)
{
    while (!(atomic_load(&lock->word) & LOCK_WAITERS))
        sched_yield();
}

/* Ids of two shards. */
static uint64_t id_elsewhere(const uint8_t digest[32])
{
    uint64_t next = 50;
    return id_in_shard(table, (shard_number(table, digest) + 1) % table->arena.geometry.shards, &next);
}

/* Starts a log-in and stops it between its steps 1 and 2: `a` is the lock of the old session's shard. */
static void stop_before_the_commit(struct stopped *stopped, struct lock *a)
{
    struct lock *stripe = stripe_lock("alice");
    take(stripe);
    CHECK(pthread_create(&stopped->thread, NULL, log_in, stopped) == 0);
    until_somebody_waits(stripe);    /* the old session was read */
    take(a);
    lock_drop(stripe);
    until_somebody_waits(a);
}

/* T4: from before the child is stored until it is promoted nobody else touches the owner's references. */
static void the_owner_s_stripe_is_held_until_the_child_stands_t4(void)
{
    struct stopped stopped = {.old = made(1, NULL)};
    struct sessile_call shortly = {.wait_ms = 10};
    uint8_t child[32];
    uint64_t count;
    stopped.id = id_elsewhere(stopped.old.digest);
    digest_of(table, stopped.id, child);
    struct lock *a = lock_of(stopped.old.digest), *b = lock_of(child), *stripe = stripe_lock("alice");
    stop_before_the_commit(&stopped, a);
    CHECK(kind_of(child) == RECORD_PENDING && atomic_load(&stripe->word) != 0);
    CHECK(sessile_owner_revoke(table, &shortly, (const uint8_t *)"alice", 5, 0, 0, &count) == SESSILE_BUSY);
    take(b);
    lock_drop(a);
    until_somebody_waits(b);
    CHECK(kind_of(stopped.old.digest) == RECORD_RETIRED && atomic_load(&stripe->word) != 0);
    CHECK(sessile_owner_revoke(table, &shortly, (const uint8_t *)"alice", 5, 0, 0, &count) == SESSILE_BUSY);
    lock_drop(b);
    CHECK(pthread_join(stopped.thread, NULL) == 0 && stopped.status == SESSILE_OK);
    CHECK(listed("alice") == 1);
    CHECK(sessile_owner_revoke(table, &waits, (const uint8_t *)"alice", 5, 0, 0, &count) == SESSILE_OK && count == 1);
}

/* T2: a rotation that was stopped for longer than its child lives does not commit any more. */
static void a_rotation_that_comes_too_late_does_not_commit_t2(void)
{
    struct stopped stopped = {.old = made(1, NULL)};
    struct sessile_session got;
    uint8_t child[32];
    stopped.id = id_elsewhere(stopped.old.digest);
    digest_of(table, stopped.id, child);
    struct lock *a = lock_of(stopped.old.digest);
    stop_before_the_commit(&stopped, a);
    sessile_advance(table, (SHARD_PENDING_S + 1) * 1000);
    lock_drop(a);
    CHECK(pthread_join(stopped.thread, NULL) == 0 && stopped.status == SESSILE_CHANGED);
    CHECK(kind_of(child) == 0 && load(table, 1, 0, &got) == SESSILE_OK && sessions() == 1 && listed("alice") == 0);
}

static void a_rotation_does_not_outlive_revoke_all(void)
{
    struct stopped stopped = {.old = made(1, NULL)};
    struct sessile_session got;
    uint64_t count;
    stopped.id = id_elsewhere(stopped.old.digest);
    struct lock *a = lock_of(stopped.old.digest);
    stop_before_the_commit(&stopped, a);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK);
    lock_drop(a);
    CHECK(pthread_join(stopped.thread, NULL) == 0 && stopped.status == SESSILE_GONE);
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS && load(table, stopped.id, 0, &got) == SESSILE_MISS);
    CHECK(sessions() == 0 && scanned() == 0);
}

/* T5: first the old id's drain begins, then the new one counts as presented. */
static void the_drain_begins_before_the_new_id_counts_as_presented_t5(void)
{
    struct stopped stopped = {.old = made(1, "alice")};
    struct sessile_session new, got;
    struct hold hold;
    struct record *record;
    struct retired retired;
    presented(1);
    stopped.id = id_elsewhere(stopped.old.digest);
    CHECK(rotate(table, &stopped.old, "alice", SESSILE_RENEW, stopped.id, &new) == SESSILE_OK);
    struct lock *a = lock_of(stopped.old.digest), *b = lock_of(new.digest);
    take(a);
    CHECK(pthread_create(&stopped.thread, NULL, present, &stopped) == 0);
    until_somebody_waits(a);
    CHECK(shard_enter(table, shard_number(table, new.digest), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, new.digest, &record) != 0 && !record_is_proven(record));
    shard_leave(&hold);
    take(b);
    lock_drop(a);
    until_somebody_waits(b);
    CHECK(shard_enter(table, shard_number(table, stopped.old.digest), 1000, &hold) == SESSILE_OK);
    CHECK(succession_find(&hold, stopped.old.digest, new.digest, &record, &retired) != 0 && retired.drain_until_ms != 0);
    shard_leave(&hold);
    lock_drop(b);
    CHECK(pthread_join(stopped.thread, NULL) == 0 && stopped.status == SESSILE_OK && stopped.new.flags & SESSILE_FIRST);
    sessile_advance(table, SHARD_DRAIN_MS);
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_RETIRED);
}

/* R5: the checksum of a record holds before and after its promotion. */
static void a_promotion_needs_neither_room_nor_another_checksum_r5(void)
{
    struct sessile_session parent = made(1, NULL), got;
    struct sessile_stats before, after;
    leave_child(&parent, NULL, 2);
    CHECK_CLEAN(table);
    commit_child(&parent, 2);
    sessile_stats(table, &before);
    CHECK(load(table, 2, 0, &got) == SESSILE_OK && got.version == 1);
    sessile_stats(table, &after);
    CHECK(before.memory_used == after.memory_used && after.quarantined == 0);
    struct hold hold;
    struct record *record;
    CHECK(shard_enter(table, shard_number(table, got.digest), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, got.digest, &record) != 0);
    CHECK((uint32_t)atomic_load(&record->commit) == record_checksum(record, record->lengths));
    shard_recover(table, hold.number);
    shard_leave(&hold);
    CHECK(load(table, 2, 0, &got) == SESSILE_OK);
}

int main(void)
{
    RUN_WITH_TABLE(a_log_in_gives_another_session_under_another_id);
    RUN_WITH_TABLE(a_rotation_keeps_all_but_the_id_and_the_fields);
    RUN_WITH_TABLE(a_retired_id_of_an_owned_session_tells_a_theft);
    RUN_WITH_TABLE(a_theft_ends_the_session_that_the_id_led_to);
    RUN_WITH_TABLE(an_anonymous_session_s_old_id_tells_nothing);
    RUN_WITH_TABLE(only_an_owned_session_whose_id_was_presented_is_renewed);
    RUN_WITH_TABLE(a_renewed_id_forwards_until_the_new_one_was_presented_and_drained);
    RUN_WITH_TABLE(a_reference_follows_renewals_however_much_later);
    RUN_WITH_TABLE(versions_go_on_across_renewals);
    RUN_WITH_TABLE(a_reference_does_not_follow_a_rotation);
    RUN_WITH_TABLE(the_end_of_a_session_ends_the_id_that_forwards_to_it);
    RUN_WITH_TABLE(a_refused_rotation_leaves_nothing_behind);
    RUN_WITH_TABLE(retired_ids_stay_few_however_often_a_session_rotates);
    RUN_WITH_TABLE(forwarding_ids_stay_few_however_often_a_session_is_renewed);
    RUN(a_log_in_is_not_checked_against_the_capacity);
    RUN_WITH_TABLE(exactly_one_of_parent_and_child_is_valid_t1);
    RUN_WITH_TABLE(a_child_left_behind_is_dropped_when_it_is_due_t2);
    RUN_WITH_TABLE(a_sweep_settles_children_left_behind);
    RUN_WITH_TABLE(a_retired_record_promotes_its_child_before_it_goes_t3);
    RUN_WITH_TABLE(the_owner_s_stripe_is_held_until_the_child_stands_t4);
    RUN_WITH_TABLE(a_rotation_that_comes_too_late_does_not_commit_t2);
    RUN_WITH_TABLE(a_rotation_does_not_outlive_revoke_all);
    RUN_WITH_TABLE(the_drain_begins_before_the_new_id_counts_as_presented_t5);
    RUN_WITH_TABLE(a_promotion_needs_neither_room_nor_another_checksum_r5);
    return check_summary();
}
