/* test_threads.c - eight threads on few sessions and shards; for the thread sanitizer too.
 *
 *     test_threads [turns of a thread]
 *
 * Increments are made by compare-and-swap on the version while ids rotate and are renewed, sessions come and go, owners
 * are revoked, pages move, and a ninth thread checks all invariants all the time: none may be lost, none may be found.
 */
#define _GNU_SOURCE
#include "tables.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 8u
#define LASTING 6u               /* sessions that stay */
#define PASSING 40u              /* ids of sessions that come and go */

static unsigned turns = 1500;
static struct sessile *table;
static const struct sessile_call patient = {.wait_ms = 60000};
static struct {
    _Atomic uint64_t id;         /* how often it was rotated, and number of its id now */
    _Atomic uint64_t increments;
} lasting[LASTING];
static _Atomic uint64_t next_id = 100000, statuses[SESSILE_STATUS_COUNT], log_ins, revoked;
static _Atomic uint32_t working;

static const char *owner_of(uint64_t number)
{
    static const char *const names[] = {"alice", "bob", "carol", "dave"};
    return names[number % 4];
}

static const char *lasting_owner(unsigned i)
{
    static const char *const names[LASTING] = {"last0", "last1", "last2", "last3", "last4", "last5"};
    return names[i];
}

static enum sessile_status noted(enum sessile_status status)
{
    atomic_fetch_add(&statuses[status], 1);
    CHECK(status != SESSILE_BUSY && status != SESSILE_DAMAGED && status != SESSILE_DETACHED);
    return status;
}

/* Loads a lasting session by its id of this moment, which may be another a moment later. */
static bool load_lasting(unsigned i, unsigned flags, struct sessile_session *session, uint8_t *buffer, size_t capacity)
{
    char id[SESSILE_ID_LENGTH + 1];
    for (;;) {
        uint64_t number = atomic_load(&lasting[i].id) & 0xffffffffffu;
        enum sessile_status status = noted(sessile_load(table, &patient, id_of(number, id), SESSILE_ID_LENGTH, flags, session,
                                                        buffer, capacity));
        if (status == SESSILE_OK)
            return true;
        /* Retired since: its successor's number is about to be told. */
        CHECK(status == SESSILE_RETIRED || status == SESSILE_MISS || status == SESSILE_THEFT);
    }
}

static void increment(unsigned i)
{
    uint8_t buffer[64];
    struct sessile_session session, got;
    const char *owner = lasting_owner(i);
    CHECK(load_lasting(i, SESSILE_TOUCH, &session, buffer, sizeof buffer));
    for (;;) {
        uint64_t count;
        CHECK(session.fields_length == sizeof count && session.owner_length == strlen(owner));
        CHECK(memcmp(buffer, owner, session.owner_length) == 0);
        memcpy(&count, buffer + session.owner_length, sizeof count);
        count++;
        struct sessile_reference reference = reference_to(&session, owner);
        struct sessile_content content = content_of(NULL, &count, sizeof count);
        content.idle_ms = content.absolute_ms = SESSILE_KEEP;
        enum sessile_status status = noted(sessile_update(table, &patient, &reference, session.version, 0, &content, &got));
        if (status == SESSILE_OK)
            break;
        CHECK(status == SESSILE_CHANGED || status == SESSILE_GONE);
        if (status == SESSILE_CHANGED)
            status = noted(sessile_read(table, &patient, &reference, 0, &session, buffer, sizeof buffer));
        if (status == SESSILE_GONE)    /* rotated away from the reference */
            CHECK(load_lasting(i, 0, &session, buffer, sizeof buffer));
    }
    atomic_fetch_add(&lasting[i].increments, 1);
}

static void rotate_lasting(unsigned i, enum sessile_rotation how)
{
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t buffer[64], nonce[SESSILE_NONCE_SIZE] = {1};
    struct sessile_session session, got;
    CHECK(load_lasting(i, SESSILE_PRESENT, &session, buffer, sizeof buffer));
    struct sessile_reference reference = reference_to(&session, lasting_owner(i));
    uint64_t number = atomic_fetch_add(&next_id, 1);
    enum sessile_status status =
        noted(sessile_rotate(table, &patient, &reference, session.version, how, id_of(number, id),
                             how == SESSILE_RENEW ? nonce : NULL, NULL, &got));
    /* A renewal by an id that forwards: the new one was not presented yet. */
    CHECK(status != SESSILE_INVALID || (how == SESSILE_RENEW && !(session.flags & SESSILE_PROVEN)));
    if (status != SESSILE_OK)
        return;
    /* Another thread, which came by the id before this one, may have rotated it on and told so first. */
    uint64_t now = (uint64_t)got.rotations << 40 | number, told = atomic_load(&lasting[i].id);
    while (told < now && !atomic_compare_exchange_weak(&lasting[i].id, &told, now))
        continue;
}

/* ---- sessions that come and go ---- */

static void come_and_go(uint64_t *state)
{
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t buffer[4096];
    struct sessile_session session;
    uint64_t number = check_random(state) % PASSING;
    id_of(number, id);
    enum sessile_status status = noted(sessile_load(table, &patient, id, SESSILE_ID_LENGTH, 3, &session, buffer,
                                                    sizeof buffer));
    if (status == SESSILE_MISS) {
        struct sessile_content content = content_of(check_random(state) % 2 ? owner_of(number) : NULL, buffer,
                                                    check_random(state) % 2000);
        memset(buffer, (int)number, sizeof buffer);
        status = noted(sessile_create(table, &patient, id, &content, &session));
        CHECK(status == SESSILE_OK || status == SESSILE_EXISTS);
        return;
    }
    if (status != SESSILE_OK)
        return;
    const uint8_t *fields = buffer + session.owner_length;
    for (uint32_t i = 0; i < session.fields_length; i++)
        CHECK(fields[i] == (uint8_t)number);
    struct sessile_reference reference = reference_to(&session, session.flags & SESSILE_OWNED ? owner_of(number) : NULL);
    struct sessile_content content = content_of(owner_of(number), fields, session.fields_length / 2);
    switch (check_random(state) % 3) {
    case 0:
        status = noted(sessile_remove(table, &patient, &reference, SESSILE_LOGOUT));
        break;
    case 1:
        content.idle_ms = content.absolute_ms = SESSILE_KEEP;
        status = noted(sessile_update(table, &patient, &reference, session.version, SESSILE_TOUCH, &content, &session));
        break;
    default:
        status = noted(sessile_rotate(table, &patient, &reference, session.version, SESSILE_LOGIN,
                                      id_of(atomic_fetch_add(&next_id, 1), id), NULL, &content, &session));
        atomic_fetch_add(&log_ins, status == SESSILE_OK);
    }
}

static void look_around(uint64_t *state)
{
    static _Thread_local _Alignas(8) uint8_t buffer[1 << 16];
    const char *owner = owner_of(check_random(state));
    uint64_t count;
    size_t length;
    struct sessile_stats stats;
    struct hold hold;
    switch (check_random(state) % 6) {
    case 0:
        CHECK(noted(sessile_owner_revoke(table, &patient, (const uint8_t *)owner, (uint32_t)strlen(owner), 0, 0, &count)) ==
              SESSILE_OK);
        atomic_fetch_add(&revoked, count);
        break;
    case 1:
        CHECK(noted(sessile_owner_list(table, &patient, (const uint8_t *)owner, (uint32_t)strlen(owner), buffer, sizeof buffer,
                                       &count, &length)) <= SESSILE_BUFFER);
        break;
    case 2:
        CHECK(noted(sessile_scan(table, &patient, (uint32_t)(check_random(state) % 8), buffer, sizeof buffer, &count,
                                 &length)) <= SESSILE_BUFFER);
        break;
    case 3:
        CHECK(noted(sessile_sweep(table, &patient, 10, &count)) == SESSILE_OK);
        break;
    case 4:
        sessile_stats(table, &stats);
        CHECK(stats.capacity == 200);
        break;
    default:
        CHECK(noted(shard_enter(table, (uint32_t)(check_random(state) % 8), 60000, &hold)) == SESSILE_OK);
        (void)shard_evacuate(&hold, ARENA_OWNED);
        shard_leave(&hold);
    }
}

static void *work(void *context)
{
    uint64_t state = (uint64_t)(uintptr_t)context + 1;
    for (unsigned turn = 0; turn < turns; turn++) {
        unsigned what = (unsigned)(check_random(&state) % 100), i = (unsigned)(check_random(&state) % LASTING);
        if (what < 35)
            increment(i);
        else if (what < 45)
            rotate_lasting(i, what < 40 ? SESSILE_ROTATE : SESSILE_RENEW);
        else if (what < 90)
            come_and_go(&state);
        else
            look_around(&state);
    }
    atomic_fetch_sub(&working, 1);
    return NULL;
}

static void *audit(void *context)
{
    uint64_t *audits = context;
    while (atomic_load(&working) > 0 || *audits == 0) {
        struct findings findings = {0};
        uint64_t count;
        CHECK(sessile_check(table, &patient, false, note_finding, &findings, &count) == SESSILE_OK);
        print_findings(&findings);
        CHECK(count == 0);
        *audits += 1;
    }
    return NULL;
}

static void nothing_is_lost_and_nothing_is_out_of_order(void)
{
    pthread_t threads[THREADS], auditor;
    struct sessile_session got;
    uint64_t audits = 0, zero = 0;
    table = open_table(200, 2 << 20, 0.5);
    for (unsigned i = 0; i < LASTING; i++) {
        struct sessile_content content = content_of(lasting_owner(i), &zero, sizeof zero);
        atomic_store(&lasting[i].id, 1000 + i);
        CHECK(create_with(table, &patient, 1000 + i, &content, &got) == SESSILE_OK);
    }
    atomic_store(&working, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    CHECK(pthread_create(&auditor, NULL, audit, &audits) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_join(auditor, NULL) == 0);
    uint64_t total = 0;
    for (unsigned i = 0; i < LASTING; i++) {
        uint8_t buffer[64];
        uint64_t count;
        CHECK(load_lasting(i, 0, &got, buffer, sizeof buffer));
        memcpy(&count, buffer + got.owner_length, sizeof count);
        CHECK(count == atomic_load(&lasting[i].increments));
        total += count;
    }
    CHECK_CLEAN(table);
    CHECK(total > THREADS * turns / 5 && atomic_load(&log_ins) > 0 && atomic_load(&revoked) > 0);
    sessile_close(table);
}

/* One id: exactly one of all that try stores it, presents it first, ends it. */
static _Atomic uint32_t stored, first, ended;
static pthread_barrier_t barrier;

static void *race(void *context)
{
    struct sessile_session got;
    char id[SESSILE_ID_LENGTH + 1];
    uint8_t byte = 1;
    (void)context;
    for (uint64_t turn = 0; turn < turns / 4; turn++) {
        struct sessile_content content = content_of(turn % 2 ? "alice" : NULL, &byte, 1);
        id_of(turn, id);
        pthread_barrier_wait(&barrier);
        atomic_fetch_add(&stored, sessile_create(table, &patient, id, &content, &got) == SESSILE_OK);
        pthread_barrier_wait(&barrier);
        CHECK(sessile_load(table, &patient, id, SESSILE_ID_LENGTH, SESSILE_PRESENT, &got, NULL, 0) == SESSILE_OK);
        atomic_fetch_add(&first, (got.flags & SESSILE_FIRST) != 0);
        pthread_barrier_wait(&barrier);
        struct sessile_reference reference = reference_to(&got, (const char *)content.owner);
        atomic_fetch_add(&ended, sessile_remove(table, &patient, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    }
    return NULL;
}

static void of_all_who_try_one_succeeds(void)
{
    pthread_t threads[THREADS];
    table = open_table(200, 2 << 20, 0.5);
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, race, NULL) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&barrier);
    CHECK(atomic_load(&stored) == turns / 4 && atomic_load(&first) == turns / 4 && atomic_load(&ended) == turns / 4);
    CHECK_CLEAN(table);
    sessile_close(table);
}

/* More threads than room: everybody evicts, nobody is refused who may evict, the bounds hold. */
static void *crowd(void *context)
{
    uint64_t state = (uint64_t)(uintptr_t)context + 77;
    for (unsigned turn = 0; turn < turns; turn++) {
        struct sessile_session got;
        CHECK(create(table, check_random(&state), NULL, check_random(&state) % 3000, &got) == SESSILE_OK);
        CHECK(atomic_load(&table->arena.header->anonymous) <= (int64_t)table->arena.geometry.anonymous_capacity + THREADS);
    }
    return NULL;
}

static void a_full_table_goes_on(void)
{
    pthread_t threads[THREADS];
    struct sessile_session got;
    struct sessile_stats stats;
    for (unsigned turn = 0; turn < 2; turn++) {
        table = open_table(turn ? 20000 : 100, 2 << 20, 0.5);
        CHECK(create(table, 1, NULL, 1, &got) == SESSILE_OK);    /* the fields that all share are made by one thread */
        for (uintptr_t i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, crowd, (void *)i) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        sessile_stats(table, &stats);
        CHECK(stats.evicted > 0 && stats.anonymous <= table->arena.geometry.anonymous_capacity);
        CHECK(atomic_load(&table->arena.header->used_anonymous_units) <= table->arena.geometry.anonymous_units);
        CHECK_CLEAN(table);
        sessile_close(table);
    }
}

/* Who finds a table full that is emptied before it looks for room is not refused: its own sessions may always go. */
static void *log_in(void *context)
{
    uint64_t state = (uint64_t)(uintptr_t)context + 99;
    for (unsigned turn = 0; turn < 4 * turns; turn++) {
        struct sessile_session got;
        CHECK(create(table, check_random(&state), "alice", 10, &got) == SESSILE_OK);
    }
    atomic_fetch_sub(&working, 1);
    return NULL;
}

static void a_log_in_is_not_refused_for_sessions_that_others_end(void)
{
    pthread_t threads[THREADS / 2];
    struct sessile_session got;
    struct sessile_stats stats;
    uint64_t count, ended_by_revocation = 0;
    table = open_table(4, 2 << 20, 0.5);
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_OK);
    atomic_store(&working, THREADS / 2);
    for (uintptr_t i = 0; i < THREADS / 2; i++)
        CHECK(pthread_create(&threads[i], NULL, log_in, (void *)i) == 0);
    while (atomic_load(&working) > 0) {
        CHECK(sessile_owner_revoke(table, &patient, (const uint8_t *)"alice", 5, 0, 0, &count) == SESSILE_OK);
        ended_by_revocation += count;
    }
    for (unsigned i = 0; i < THREADS / 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    sessile_stats(table, &stats);
    CHECK(stats.full == 0 && stats.evicted > 0 && ended_by_revocation > 0);
    CHECK_CLEAN(table);
    sessile_close(table);
}

/* ---- two threads that recover ---- */

static _Atomic uint32_t threads_asked_for;
static int thread_refused;       /* errno; 0: it starts */

static int count_threads(enum system_operation operation)
{
    if (operation != SYSTEM_THREAD)
        return 0;
    atomic_fetch_add(&threads_asked_for, 1);
    return thread_refused;
}

/* A table that was left in the middle of a write, with one damaged record among `count`; opens it again. */
static void attach_after_an_unclean_end(uint64_t capacity, uint64_t count, uint32_t threads)
{
    char directory[] = "/dev/shm/sessile-test-XXXXXX", path[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/table", directory);
    struct sessile_options options = test_options(capacity, 32 << 20, 0.9);
    options.path = path;
    struct sessile_session got;
    struct sessile_stats stats;
    struct record *record;
    struct hold hold;
    uint8_t digest[32];
    table = open_options(&options);
    for (uint64_t number = 0; number < count; number++)
        CHECK(create(table, number, number % 4 ? NULL : owner_of(number / 4), 100, &got) == SESSILE_OK);
    digest_of(table, count / 2, digest);
    CHECK(shard_enter(table, shard_number(table, digest), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, digest, &record) != 0);
    record->payload[20] ^= 1;
    shard_seq_begin(hold.shard);
    shard_leave(&hold);
    sessile_close(table);
    atomic_store(&threads_asked_for, 0);
    system_fault = count_threads;
    table = open_options(&options);
    system_fault = NULL;
    sessile_stats(table, &stats);
    CHECK(atomic_load(&threads_asked_for) == threads);
    CHECK(stats.quarantined == 1 && stats.sessions == count - 1 && stats.recoveries == sessile_facts(table).shards);
    for (uint64_t number = 0; number < count; number++)
        CHECK(load(table, number, 0, &got) == (number == count / 2 ? SESSILE_MISS : SESSILE_OK));
    CHECK_CLEAN(table);
    sessile_close(table);
    CHECK(unlink(path) == 0 && rmdir(directory) == 0);
}

static void two_threads_recover_a_large_table(void)
{
    attach_after_an_unclean_end(64 * 4096, 3000, 1);
}

static void one_thread_recovers_what_two_are_not_to_be_had_for(void)
{
    thread_refused = EAGAIN;
    attach_after_an_unclean_end(64 * 4096, 500, 1);
    thread_refused = 0;
    attach_after_an_unclean_end(8 * 4096, 500, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        turns = (unsigned)strtoul(argv[1], NULL, 10);
    RUN(nothing_is_lost_and_nothing_is_out_of_order);
    RUN(of_all_who_try_one_succeeds);
    RUN(a_full_table_goes_on);
    RUN(a_log_in_is_not_refused_for_sessions_that_others_end);
    if (!home_is_private()) {    /* which has no file to attach to */
        RUN(two_threads_recover_a_large_table);
        RUN(one_thread_recovers_what_two_are_not_to_be_had_for);
    }
    return check_summary();
}
