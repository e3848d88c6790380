/* test_table.c - csrc/table.c and csrc/listing.c through sessile.h: one session after the other, every status, in one process. */
#define _GNU_SOURCE
#include "tables.h"

#include <pthread.h>

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

/* ---- create and load ---- */

static void what_was_created_is_loaded(void)
{
    struct sessile_session made, got;
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t buffer[64];
    struct sessile_content content = content_of("alice", "fields", 6);
    content.device = (const uint8_t *)"device";
    content.device_length = 6;
    content.idle_ms = 60001;
    CHECK(create_with(table, &waits, 1, &content, &made) == SESSILE_OK);
    CHECK(sessile_load(table, &at_once, id_of(1, id), SESSILE_ID_LENGTH, 0, &got, buffer, sizeof buffer) == SESSILE_OK);
    CHECK(got.owner_length == 5 && got.device_length == 6 && got.fields_length == 6);
    CHECK(memcmp(buffer, "alicedevicefields", 17) == 0);
    CHECK(got.handle == made.handle && got.handle != 0 && memcmp(got.digest, made.digest, 32) == 0);
    CHECK(got.version == 1 && got.rotations == 0 && got.rotates == 0 && got.key_index == 0);
    CHECK(got.flags == (SESSILE_OWNED | SESSILE_ABSOLUTE_IS_DEFAULT));
    CHECK(got.idle_ms == 60010);
    CHECK(got.created_ms == got.authenticated_ms && got.created_ms == got.issued_ms && got.created_ms % 1000 == 0);
    CHECK(got.created_ms <= got.last_used_ms && got.last_used_ms < got.created_ms + 1000);
    CHECK(got.idle_deadline_ms == got.last_used_ms + 60010);
    CHECK(got.absolute_deadline_ms == got.last_used_ms + HOURS(8));
}

static void nothing_but_the_id_finds_a_session(void)
{
    struct sessile_session got;
    struct sessile_stats before, after;
    char id[SESSILE_ID_LENGTH + 2];
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_OK);
    CHECK(load(table, 2, SESSILE_PRESENT, &got) == SESSILE_MISS);
    id_of(1, id);
    sessile_stats(table, &before);
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH - 1, 0, &got, NULL, 0) == SESSILE_MISS);
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH + 1, 0, &got, NULL, 0) == SESSILE_MISS);
    CHECK(sessile_load(table, &waits, id, 0, 0, &got, NULL, 0) == SESSILE_MISS);
    static const char wrong[] = {'+', '/', '=', '.', ' ', 0, '\n', (char)0x80, (char)0xff};
    for (size_t i = 0; i < sizeof wrong; i++) {
        id[i * 3] = wrong[i];
        CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH, 0, &got, NULL, 0) == SESSILE_MISS);
        id_of(1, id);
    }
    sessile_stats(table, &after);
    CHECK(after.malformed == before.malformed + 3 + sizeof wrong);
    CHECK(after.misses == before.misses && after.loads == before.loads);
    CHECK(load(table, 2, 0, &got) == SESSILE_MISS && load(table, 1, 0, &got) == SESSILE_OK);
    sessile_stats(table, &after);
    CHECK(after.misses == before.misses + 1 && after.loads == before.loads + 1);
}

static void an_id_is_presented_first_only_once(void)
{
    /* Of any size: also of a record that a look-up has no room for at first. */
    static const size_t lengths[] = {0, 100, 5000, 70000};
    for (uint64_t i = 0; i < 4; i++) {
        struct sessile_session got;
        CHECK(create(table, 1 + i, NULL, lengths[i], &got) == SESSILE_OK && !(got.flags & SESSILE_PROVEN));
        CHECK(load(table, 1 + i, SESSILE_TOUCH, &got) == SESSILE_OK && !(got.flags & (SESSILE_PROVEN | SESSILE_FIRST)));
        CHECK(load(table, 1 + i, SESSILE_PRESENT, &got) == SESSILE_OK);
        CHECK(got.flags & SESSILE_PROVEN && got.flags & SESSILE_FIRST);
        CHECK(load(table, 1 + i, SESSILE_PRESENT, &got) == SESSILE_OK);
        CHECK(got.flags & SESSILE_PROVEN && !(got.flags & SESSILE_FIRST));
    }
}

static void a_short_buffer_is_told_the_lengths_and_changes_nothing(void)
{
    struct sessile_session made, got;
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t buffer[3000];
    CHECK(create(table, 1, "alice", 2990, &made) == SESSILE_OK);
    sessile_advance(table, MINUTES(20));
    id_of(1, id);
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH, SESSILE_TOUCH | SESSILE_PRESENT, &got, buffer, 2994) ==
          SESSILE_BUFFER);
    CHECK(got.owner_length == 5 && got.device_length == 0 && got.fields_length == 2990);
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH, 0, &got, buffer, 2995) == SESSILE_OK);
    CHECK(got.last_used_ms == made.last_used_ms && !(got.flags & SESSILE_PROVEN));
    CHECK(sessile_load(table, &waits, id, SESSILE_ID_LENGTH, SESSILE_TOUCH | SESSILE_PRESENT, &got, buffer, 2995) ==
          SESSILE_OK);
    CHECK(got.last_used_ms == got.now_ms && got.flags & SESSILE_FIRST);
    struct sessile_reference reference = reference_to(&got, "alice");
    CHECK(sessile_read(table, &waits, &reference, 0, &got, buffer, 10) == SESSILE_BUFFER && got.fields_length == 2990);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_OK && got.fields_length == 2990);
}

static void an_id_is_given_once(void)
{
    struct sessile_session got;
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_OK);
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_EXISTS);
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_EXISTS);
    CHECK(sessions() == 1);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && !(got.flags & SESSILE_OWNED));
}

static void arguments_out_of_bounds_change_nothing(void)
{
    struct sessile_session made, got;
    static uint8_t bytes[SESSILE_FIELDS_MAX + 1];
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_policy policy = test_policy;
    policy.fields_max = 1000;
    sessile_set_policy(table, &policy);
    memset(bytes, 'o', sizeof bytes);
    struct sessile_content good = content_of("alice", bytes, 1000);
    struct sessile_content bad[7];
    for (unsigned i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].owner_length = 0;
    bad[1].owner = bytes, bad[1].owner_length = SESSILE_OWNER_MAX + 1;
    bad[2].device = bytes, bad[2].device_length = SESSILE_DEVICE_MAX + 1;
    bad[3].fields_length = 1001;
    bad[4].fields_length = SESSILE_FIELDS_MAX + 1;
    bad[5].idle_ms = SESSILE_TIMEOUT_MAX_MS + 1;
    bad[6].absolute_ms = SESSILE_TIMEOUT_MAX_MS + 1;
    for (unsigned i = 0; i < 7; i++)
        CHECK(create_with(table, &waits, 1, &bad[i], &got) == SESSILE_INVALID);
    CHECK(sessile_create(table, &waits, "not an id: it has 32 characters.", &good, &got) == SESSILE_INVALID);
    CHECK(sessions() == 0);
    CHECK(create_with(table, &waits, 1, &good, &made) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&made, "alice");
    for (unsigned i = 2; i < 7; i++)
        CHECK(sessile_update(table, &waits, &reference, 1, 0, &bad[i], &got) == SESSILE_INVALID);
    for (unsigned i = 0; i < 7; i++)
        CHECK(sessile_rotate(table, &waits, &reference, 1, SESSILE_LOGIN, id_of(2, id), NULL, &bad[i], &got) ==
              SESSILE_INVALID);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && got.version == 1 && got.fields_length == 1000);
}

static void what_is_just_allowed_is_stored(void)
{
    struct sessile_session got;
    static uint8_t bytes[SESSILE_FIELDS_MAX];
    struct sessile_content content = content_of("x", bytes, SESSILE_FIELDS_MAX);
    content.owner = bytes;
    content.owner_length = SESSILE_OWNER_MAX;
    content.device = bytes;
    content.device_length = SESSILE_DEVICE_MAX;
    content.idle_ms = content.absolute_ms = SESSILE_TIMEOUT_MAX_MS;
    CHECK(create_with(table, &waits, 1, &content, &got) == SESSILE_OK);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
    CHECK(got.owner_length == SESSILE_OWNER_MAX && got.device_length == SESSILE_DEVICE_MAX);
    CHECK(got.fields_length == SESSILE_FIELDS_MAX);
    CHECK(got.absolute_deadline_ms == got.last_used_ms + SESSILE_TIMEOUT_MAX_MS);
    sessile_advance(table, SESSILE_TIMEOUT_MAX_MS - 60000);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
    sessile_advance(table, 60000);
    CHECK(load(table, 1, 0, &got) == SESSILE_EXPIRED);
}

/* ---- deadlines ---- */

static void a_session_expires_at_its_idle_deadline(void)
{
    struct sessile_session got, at;
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_OK);
    sessile_advance(table, got.idle_deadline_ms - 500 - sessile_now(table));
    CHECK(load(table, 1, 0, &at) == SESSILE_OK && at.now_ms < got.idle_deadline_ms);
    sessile_advance(table, got.idle_deadline_ms - sessile_now(table));
    CHECK(load(table, 1, 0, &at) == SESSILE_EXPIRED);
    CHECK(at.handle == got.handle && memcmp(at.digest, got.digest, 32) == 0);
    struct sessile_reference reference = reference_to(&got, NULL);
    CHECK(sessile_read(table, &waits, &reference, 0, &at, NULL, 0) == SESSILE_EXPIRED);
    CHECK(update(table, &got, NULL, 10, &at) == SESSILE_EXPIRED);
    CHECK(rotate(table, &got, NULL, SESSILE_ROTATE, 2, &at) == SESSILE_EXPIRED);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_GONE);
    CHECK(load(table, 1, 0, &at) == SESSILE_MISS);
}

static void use_renews_the_idle_deadline_but_never_the_absolute_one(void)
{
    struct sessile_session first, got;
    CHECK(create(table, 1, NULL, 10, &first) == SESSILE_OK);
    /* Younger than idle / 64: not renewed, so that a look-up need not write. */
    sessile_advance(table, MINUTES(30) / 64 - 2000);
    CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_OK && got.last_used_ms == first.last_used_ms);
    sessile_advance(table, 2000);
    CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_OK && got.last_used_ms == got.now_ms);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && got.last_used_ms != got.now_ms + 1);
    for (int i = 0; i < 15; i++) {
        sessile_advance(table, MINUTES(29));
        CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_OK);
        CHECK(got.idle_deadline_ms == got.now_ms + MINUTES(30));
        CHECK(got.absolute_deadline_ms == first.absolute_deadline_ms);
    }
    sessile_advance(table, first.absolute_deadline_ms - MINUTES(20) - sessile_now(table));
    CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_OK);
    sessile_advance(table, MINUTES(20));
    CHECK(load(table, 1, SESSILE_TOUCH, &got) == SESSILE_EXPIRED);
}

static struct sessile_sink *one_kilobyte(void)
{
    static _Alignas(8) uint8_t buffer[1024];
    static struct sessile_sink sink;
    sink = (struct sessile_sink){.buffer = buffer, .capacity = sizeof buffer};
    return &sink;
}

static void what_expired_is_collected_with_a_report(void)
{
    struct sessile_session got;
    struct sessile_sink *sink = one_kilobyte();
    struct sessile_call call = {.wait_ms = 1000, .sink = sink};
    CHECK(create(table, 1, "alice", 20, &got) == SESSILE_OK);
    CHECK(sessile_collect(table, &call, got.digest) == SESSILE_MISS && sink->used == 0);
    sessile_advance(table, MINUTES(31));
    CHECK(sessile_collect(table, &call, got.digest) == SESSILE_OK);
    const struct sessile_report *report = (const void *)sink->buffer;
    CHECK(sink->used == report->size && report->reason == SESSILE_IDLE && !report->cut && report->handle == got.handle);
    CHECK(report->owner_length == 5 && report->fields_length == 20);
    CHECK(memcmp(report + 1, "alicexxxxxxxxxxxxxxxxxxxx", 25) == 0);
    CHECK(sessile_collect(table, &call, got.digest) == SESSILE_MISS);
    CHECK(sessions() == 0);
}

/* DESIGN 5, configuration between deploys: default timeouts are each process's own, to shorten only. */
static void a_shorter_policy_acts_at_once_on_sessions_with_default_timeouts(void)
{
    struct sessile_session defaults, explicit, got;
    struct sessile_policy policy = test_policy;
    struct sessile_content content = content_of("alice", "f", 1);
    CHECK(create_with(table, &waits, 1, &content, &defaults) == SESSILE_OK);
    content.idle_ms = HOURS(2);
    content.absolute_ms = HOURS(4);
    CHECK(create_with(table, &waits, 2, &content, &explicit) == SESSILE_OK);
    policy.owned_idle_ms = MINUTES(10);
    policy.owned_absolute_ms = HOURS(1);
    sessile_set_policy(table, &policy);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
    CHECK(got.idle_deadline_ms == got.last_used_ms + MINUTES(10));
    CHECK(got.absolute_deadline_ms == defaults.authenticated_ms + 999 + HOURS(1));
    CHECK(load(table, 2, 0, &got) == SESSILE_OK);
    CHECK(got.idle_deadline_ms == explicit.idle_deadline_ms && got.absolute_deadline_ms == explicit.absolute_deadline_ms);
    policy.owned_idle_ms = HOURS(24);
    policy.owned_absolute_ms = HOURS(24 * 7);
    sessile_set_policy(table, &policy);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
    CHECK(got.idle_deadline_ms == defaults.idle_deadline_ms);
    CHECK(got.absolute_deadline_ms == defaults.absolute_deadline_ms);
    sessile_set_policy(table, &test_policy);
}

/* ---- update ---- */

static void an_update_replaces_the_fields_and_keeps_the_rest(void)
{
    struct sessile_session made, got;
    uint8_t buffer[64];
    struct sessile_content content = content_of("alice", "old", 3);
    content.device = (const uint8_t *)"device";
    content.device_length = 6;
    CHECK(create_with(table, &waits, 1, &content, &made) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&made, "alice");
    content = content_of("bob", "new fields", 10);
    content.device = (const uint8_t *)"x";
    content.device_length = 1;
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    CHECK(sessile_update(table, &waits, &reference, made.version, 0, &content, &got) == SESSILE_OK);
    CHECK(got.version == 2 && got.handle == made.handle && got.idle_deadline_ms == made.idle_deadline_ms &&
          got.absolute_deadline_ms == made.absolute_deadline_ms && got.flags == made.flags);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, buffer, sizeof buffer) == SESSILE_OK);
    CHECK(memcmp(buffer, "alicedevicenew fields", 21) == 0 && got.fields_length == 10 && got.version == 2);
    content.idle_ms = HOURS(1);
    content.absolute_ms = HOURS(2);
    CHECK(sessile_update(table, &waits, &reference, 2, SESSILE_TOUCH, &content, &got) == SESSILE_OK);
    CHECK(got.idle_ms == HOURS(1) && got.absolute_deadline_ms == made.authenticated_ms + 999 + HOURS(2));
    CHECK(!(got.flags & (SESSILE_IDLE_IS_DEFAULT | SESSILE_ABSOLUTE_IS_DEFAULT)));
    content.idle_ms = content.absolute_ms = SESSILE_DEFAULT;
    CHECK(sessile_update(table, &waits, &reference, 3, 0, &content, &got) == SESSILE_OK);
    CHECK(got.idle_ms == MINUTES(30) && got.absolute_deadline_ms == made.authenticated_ms + 999 + HOURS(8));
    CHECK((got.flags & (SESSILE_IDLE_IS_DEFAULT | SESSILE_ABSOLUTE_IS_DEFAULT)) ==
          (SESSILE_IDLE_IS_DEFAULT | SESSILE_ABSOLUTE_IS_DEFAULT));
}

static void an_update_of_another_version_changes_nothing(void)
{
    struct sessile_session made, second, got;
    CHECK(create(table, 1, NULL, 10, &made) == SESSILE_OK);
    CHECK(update(table, &made, NULL, 20, &second) == SESSILE_OK && second.version == 2);
    CHECK(update(table, &made, NULL, 30, &got) == SESSILE_CHANGED);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && got.fields_length == 20 && got.version == 2);
}

static void of_a_session_that_ended_nothing_is_created_again(void)
{
    struct sessile_session made, got;
    CHECK(create(table, 1, "alice", 10, &made) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&made, "alice");
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS);
    CHECK(update(table, &made, "alice", 10, &got) == SESSILE_GONE);
    CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_GONE);
    CHECK(rotate(table, &made, "alice", SESSILE_ROTATE, 2, &got) == SESSILE_GONE);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_GONE);
    CHECK(sessile_remove_version(table, &waits, &reference, 1, SESSILE_LOGOUT) == SESSILE_GONE);
    CHECK(sessions() == 0);
    /* Another session under the same id is not the one that the reference names. */
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_OK);
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_GONE || got.handle == made.handle);
}

static void a_removal_of_another_version_changes_nothing(void)
{
    struct sessile_session made, got;
    struct sessile_sink *sink = one_kilobyte();
    struct sessile_call call = {.wait_ms = 1000, .sink = sink};
    CHECK(create(table, 1, NULL, 10, &made) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&made, NULL);
    CHECK(update(table, &made, NULL, 0, &got) == SESSILE_OK);
    CHECK(sessile_remove_version(table, &call, &reference, made.version, SESSILE_DESTROYED) == SESSILE_CHANGED);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && sink->used == 0);
    CHECK(sessile_remove_version(table, &call, &reference, got.version, SESSILE_DESTROYED) == SESSILE_OK);
    const struct sessile_report *report = (const void *)sink->buffer;
    CHECK(sink->used == report->size && report->reason == SESSILE_DESTROYED && report->fields_length == 0);
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS);
}

/* ---- wiping, STO-06 ---- */

static bool is_in_mapping(const char *text)
{
    return memmem(table->arena.base, (size_t)table->arena.geometry.data + (2 << 20), text, strlen(text)) != NULL;
}

static void nothing_of_an_ended_or_replaced_record_stays_sto_06(void)
{
    struct sessile_session made, got;
    struct sessile_content content = content_of("the-owner-of-it", "a secret of the first version", 29);
    CHECK(create_with(table, &waits, 1, &content, &made) == SESSILE_OK);
    CHECK(is_in_mapping("a secret of the first version"));
    struct sessile_reference reference = reference_to(&made, "the-owner-of-it");
    content = content_of(NULL, "and one of the second, which is longer", 38);
    CHECK(sessile_update(table, &waits, &reference, 1, 0, &content, &got) == SESSILE_OK);
    CHECK(!is_in_mapping("a secret of the first") && is_in_mapping("and one of the second"));
    CHECK(sessile_remove(table, &waits, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    CHECK(!is_in_mapping("and one of the second") && !is_in_mapping("the-owner-of-it"));
    CHECK(memmem(table->arena.base + table->arena.geometry.data, 2 << 20, made.digest, 32) == NULL);
    content = content_of(NULL, "one that expires", 16);
    CHECK(create_with(table, &waits, 2, &content, &made) == SESSILE_OK);
    sessile_advance(table, MINUTES(31));
    uint64_t count;
    CHECK(sessile_sweep(table, &waits, 100, &count) == SESSILE_OK && count == 1);
    CHECK(!is_in_mapping("one that expires"));
}

static void an_id_is_nowhere_in_the_mapping(void)
{
    struct sessile_session got;
    char id[SESSILE_ID_LENGTH + 1];
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_OK && rotate(table, &got, "alice", SESSILE_ROTATE, 2, &got) ==
          SESSILE_OK);
    CHECK(!is_in_mapping(id_of(1, id)) && !is_in_mapping(id_of(2, id)));
}

/* ---- waiting ---- */

static enum sessile_status every_call(unsigned which, const struct sessile_call *call, const struct sessile_session *made)
{
    struct sessile_session got;
    struct sessile_reference reference = reference_to(made, NULL);
    struct sessile_content content = content_of(NULL, "f", 1);
    char id[SESSILE_ID_LENGTH + 1];
    uint64_t count;
    switch (which) {
    case 0: return sessile_load(table, call, id_of(1, id), SESSILE_ID_LENGTH, SESSILE_TOUCH | SESSILE_PRESENT, &got, NULL, 0);
    case 1: return sessile_read(table, call, &reference, SESSILE_TOUCH, &got, NULL, 0);
    case 2: return sessile_update(table, call, &reference, made->version, 0, &content, &got);
    case 3: return sessile_remove(table, call, &reference, SESSILE_LOGOUT);
    case 4: return sessile_remove_version(table, call, &reference, made->version, SESSILE_LOGOUT);
    case 5: return sessile_collect(table, call, made->digest);
    case 6: return sessile_create(table, call, id_of(1, id), &content, &got);
    default: return sessile_sweep(table, call, 10, &count);
    }
}

static void a_taken_lock_is_waited_for_and_never_robbed_from_the_living(void)
{
    struct sessile_session made, got;
    CHECK(create(table, 1, NULL, 10, &made) == SESSILE_OK);
    struct lock *lock = &shard_at(table, shard_number(table, made.digest))->lock;
    struct sessile_call shortly = {.wait_ms = 15};
    atomic_store(&lock->word, arena_me(&table->arena));
    for (unsigned which = 0; which < 8; which++) {
        CHECK(every_call(which, &at_once, &made) == SESSILE_WOULD_BLOCK);
        CHECK(every_call(which, &shortly, &made) == SESSILE_BUSY);
    }
    atomic_store(&lock->word, 0);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK && got.version == 1 && !(got.flags & SESSILE_PROVEN));
    CHECK(got.last_used_ms == made.last_used_ms && sessions() == 1);
}

static void *release_later(void *lock)
{
    struct timespec pause = {.tv_nsec = 30000000};
    nanosleep(&pause, NULL);
    lock_drop(lock);
    return NULL;
}

static void a_lock_that_is_released_is_taken_by_who_waits(void)
{
    struct sessile_session made, got;
    pthread_t thread;
    CHECK(create(table, 1, NULL, 10, &made) == SESSILE_OK);
    struct lock *lock = &shard_at(table, shard_number(table, made.digest))->lock;
    atomic_store(&lock->word, arena_me(&table->arena));
    CHECK(pthread_create(&thread, NULL, release_later, lock) == 0);
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK((atomic_load(&lock->word) & ~LOCK_WAITERS) == 0);
}

/* ---- damage ---- */

static struct record *record_of(uint64_t number)
{
    uint8_t digest[32];
    struct hold hold;
    struct record *record;
    CHECK(shard_enter(table, shard_number(table, digest_of(table, number, digest)), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, digest, &record) != 0);
    shard_leave(&hold);
    return record;
}

static void a_damaged_record_is_taken_out(void)
{
    struct sessile_session made, got;
    uint32_t recovered, quarantined;
    for (uint64_t number = 1; number <= 3; number++) {
        CHECK(create(table, number, "alice", 5000, &made) == SESSILE_OK);
        record_of(number)->payload[4000] ^= 1;
        struct sessile_reference reference = reference_to(&made, "alice");
        struct sessile_content content = content_of(NULL, "f", 1);
        if (number == 1)
            CHECK(load(table, number, 0, &got) == SESSILE_DAMAGED);
        else if (number == 2)
            CHECK(sessile_read(table, &waits, &reference, 0, &got, NULL, 0) == SESSILE_DAMAGED);
        else
            CHECK(rotate(table, &made, "alice", SESSILE_ROTATE, 9, &got) == SESSILE_DAMAGED);
        (void)content;
        CHECK(load(table, number, 0, &got) == SESSILE_MISS);
        sessile_repairs(table, &recovered, &quarantined);
        CHECK(recovered == 1 && quarantined == 1);
    }
    struct sessile_stats stats;
    sessile_stats(table, &stats);
    CHECK(stats.quarantined == 3 && stats.recoveries == 3 && stats.sessions == 0);
}

/* An update computes a new checksum: it must not make one for damage that it copied. */
static void an_update_does_not_pass_damage_on(void)
{
    struct sessile_session made, got;
    CHECK(create(table, 1, "alice", 100, &made) == SESSILE_OK);
    record_of(1)->payload[2] ^= 1;
    CHECK(update(table, &made, "alice", 100, &got) == SESSILE_DAMAGED);
    CHECK(load(table, 1, 0, &got) == SESSILE_MISS);
}

/* ---- keys ---- */

static void every_key_finds_its_sessions(void)
{
    struct sessile *both;
    struct sessile_problem problem;
    struct sessile_session got;
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t digest[32];
    struct sessile_options options = test_options(100, 2 << 20, 0.5);
    options.key_count = 2;
    CHECK(sessile_open(&options, &both, &problem) == SESSILE_OK);
    CHECK(create(both, 1, NULL, 10, &got) == SESSILE_OK && got.key_index == 0);
    CHECK(load(both, 1, 0, &got) == SESSILE_OK && got.key_index == 0);
    CHECK(!sessile_digest(both, 2, id_of(1, id), 32, digest) && sessile_digest(both, 1, id, 32, digest));
    /* As if the second key had been the first when the session was made. */
    struct digest_key first = both->keys->ids[0];
    both->keys->ids[0] = both->keys->ids[1];
    both->keys->ids[1] = first;
    CHECK(load(both, 1, SESSILE_PRESENT, &got) == SESSILE_OK && got.key_index == 1);
    CHECK(got.flags & SESSILE_FIRST);
    CHECK(load(both, 2, 0, &got) == SESSILE_MISS);
    struct sessile_stats stats;
    sessile_stats(both, &stats);
    CHECK(stats.misses == 1 && stats.loads == 2);
    sessile_close(both);
}

static void without_keys_no_id_is_looked_up(void)
{
    struct sessile *none;
    struct sessile_problem problem;
    struct sessile_session got;
    struct sessile_options options = test_options(100, 2 << 20, 0.5);
    options.key_count = 0;
    CHECK(sessile_open(&options, &none, &problem) == SESSILE_OK);
    CHECK(create(none, 1, NULL, 10, &got) == SESSILE_INVALID);
    CHECK(load(none, 1, 0, &got) == SESSILE_MISS);
    sessile_close(none);
}

/* ---- many ---- */

static void a_scan_lists_every_session_once(void)
{
    static _Alignas(8) uint8_t buffer[1 << 20];
    static bool seen[300];
    struct sessile_session got;
    uint64_t count, total = 0;
    size_t length;
    for (uint64_t i = 0; i < 300; i++)
        CHECK(create(table, i, i % 2 ? "alice" : NULL, i, &got) == SESSILE_OK);
    memset(seen, 0, sizeof seen);
    for (uint32_t shard = 0; shard < table->arena.geometry.shards; shard++) {
        CHECK(sessile_scan(table, &waits, shard, buffer, sizeof buffer, &count, &length) == SESSILE_OK);
        for (size_t at = 0; at < length;) {
            memcpy(&got, buffer + at, sizeof got);
            CHECK(got.fields_length < 300 && !seen[got.fields_length]);
            seen[got.fields_length] = true;
            CHECK(got.owner_length == (got.fields_length % 2 ? 5 : 0));
            CHECK(memcmp(buffer + at + sizeof got, "alice", got.owner_length) == 0);
            at += (sizeof got + got.owner_length + 7) & ~(size_t)7;
        }
        total += count;
        size_t needed = length;
        if (length > 0) {
            CHECK(sessile_scan(table, &waits, shard, buffer, needed - 1, &count, &length) == SESSILE_BUFFER);
            CHECK(length == needed);
        }
    }
    CHECK(total == 300);
    CHECK(sessile_scan(table, &waits, table->arena.geometry.shards, buffer, 0, &count, &length) == SESSILE_INVALID);
}

static void a_sweep_ends_within_its_budget_and_reports_each(void)
{
    static _Alignas(8) uint8_t buffer[1 << 20];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    struct sessile_session got;
    uint64_t count;
    for (uint64_t i = 0; i < 100; i++)
        CHECK(create(table, i, i % 2 ? "alice" : NULL, 50, &got) == SESSILE_OK);
    CHECK(sessile_sweep(table, &call, 1000, &count) == SESSILE_OK && count == 0);
    sessile_advance(table, MINUTES(31));
    CHECK(sessile_sweep(table, &call, 0, &count) == SESSILE_OK && count == 0);
    CHECK(sessile_sweep(table, &call, 30, &count) == SESSILE_OK && count == 30 && sessions() == 70);
    CHECK(sessile_sweep(table, &call, 1000, &count) == SESSILE_OK && count == 70 && sessions() == 0);
    unsigned reports = 0;
    for (size_t at = 0; at < sink.used; reports++)
        at += ((const struct sessile_report *)(const void *)(buffer + at))->size;
    CHECK(reports == 100);
}

static void a_sweep_ends_also_where_no_report_fits(void)
{
    struct sessile_session got;
    uint64_t count;
    _Alignas(8) uint8_t buffer[128];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    CHECK(create(table, 1, NULL, 1000, &got) == SESSILE_OK && create(table, 2, NULL, 10, &got) == SESSILE_OK);
    sessile_advance(table, MINUTES(31));
    CHECK(sessile_sweep(table, &call, 10, &count) == SESSILE_OK && count == 1 && sessions() == 1);
    CHECK(sessile_sweep(table, &waits, 10, &count) == SESSILE_OK && count == 1 && sessions() == 0);
}

/* A removal goes on when its report does not fit, and says what it can. */
static void a_report_that_does_not_fit_is_cut(void)
{
    struct sessile_session got;
    _Alignas(8) uint8_t buffer[sizeof(struct sessile_report) + 8];
    struct sessile_sink sink = {.buffer = buffer, .capacity = sizeof buffer};
    struct sessile_call call = {.wait_ms = 1000, .sink = &sink};
    CHECK(create(table, 1, "alice", 1000, &got) == SESSILE_OK);
    struct sessile_reference reference = reference_to(&got, "alice");
    CHECK(sessile_remove(table, &call, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    const struct sessile_report *report = (const void *)buffer;
    CHECK(sink.used == sizeof *report && report->size == sizeof *report && report->cut);
    CHECK(report->handle == got.handle && report->reason == SESSILE_LOGOUT && report->owner_length == 0);
}

static void every_status_has_a_name(void)
{
    for (int status = 0; status < SESSILE_STATUS_COUNT; status++) {
        CHECK(strncmp(sessile_status_name((enum sessile_status)status), "SESSILE_", 8) == 0);
        CHECK(strcmp(sessile_status_name((enum sessile_status)status), "SESSILE_UNKNOWN") != 0);
    }
    CHECK(strcmp(sessile_status_name(SESSILE_STATUS_COUNT), "SESSILE_UNKNOWN") == 0);
}

int main(void)
{
    RUN_WITH_TABLE(what_was_created_is_loaded);
    RUN_WITH_TABLE(nothing_but_the_id_finds_a_session);
    RUN_WITH_TABLE(an_id_is_presented_first_only_once);
    RUN_WITH_TABLE(a_short_buffer_is_told_the_lengths_and_changes_nothing);
    RUN_WITH_TABLE(an_id_is_given_once);
    RUN_WITH_TABLE(arguments_out_of_bounds_change_nothing);
    RUN_WITH_TABLE(what_is_just_allowed_is_stored);
    RUN_WITH_TABLE(a_session_expires_at_its_idle_deadline);
    RUN_WITH_TABLE(use_renews_the_idle_deadline_but_never_the_absolute_one);
    RUN_WITH_TABLE(what_expired_is_collected_with_a_report);
    RUN_WITH_TABLE(a_shorter_policy_acts_at_once_on_sessions_with_default_timeouts);
    RUN_WITH_TABLE(an_update_replaces_the_fields_and_keeps_the_rest);
    RUN_WITH_TABLE(an_update_of_another_version_changes_nothing);
    RUN_WITH_TABLE(of_a_session_that_ended_nothing_is_created_again);
    RUN_WITH_TABLE(a_removal_of_another_version_changes_nothing);
    RUN_WITH_TABLE(nothing_of_an_ended_or_replaced_record_stays_sto_06);
    RUN_WITH_TABLE(an_id_is_nowhere_in_the_mapping);
    RUN_WITH_TABLE(a_taken_lock_is_waited_for_and_never_robbed_from_the_living);
    RUN_WITH_TABLE(a_lock_that_is_released_is_taken_by_who_waits);
    RUN_WITH_TABLE(a_damaged_record_is_taken_out);
    RUN_WITH_TABLE(an_update_does_not_pass_damage_on);
    RUN(every_key_finds_its_sessions);
    RUN(without_keys_no_id_is_looked_up);
    RUN_WITH_TABLE(a_scan_lists_every_session_once);
    RUN_WITH_TABLE(a_sweep_ends_within_its_budget_and_reports_each);
    RUN_WITH_TABLE(a_sweep_ends_also_where_no_report_fits);
    RUN_WITH_TABLE(a_report_that_does_not_fit_is_cut);
    RUN(every_status_has_a_name);
    return check_summary();
}
