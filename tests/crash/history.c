/* history.c - records what several processes do to a few shared sessions, and when, while some of them are killed.
 *
 *     history [--rounds N] [--processes N] [--seed N]
 *
 * One line an operation on standard output, for linearize.py:
 *
 *     round key process operation expected-handle expected-version value invoked returned status handle version value
 *
 * Times in nanoseconds; returned 0: the process was killed in it. In each round the processes work on new ids.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shard.h"

#define KEYS 3u
#define PROCESSES_MAX 8u
#define OPERATIONS 120u

enum operation { LOAD, CREATE, UPDATE, REMOVE, OPERATION_COUNT };
static const char *const names[OPERATION_COUNT] = {"load", "create", "update", "remove"};

struct entry {
    uint32_t key, operation;
    uint64_t expected_handle, value; /* the value that it stores */
    uint32_t expected_version, status;
    uint64_t handle, found;        /* of what it stored or found */
    uint32_t version;
    int64_t invoked, returned;
};

struct log {
    _Atomic uint32_t count;
    struct entry entries[OPERATIONS];
};

struct seen {                      /* what this process knows of a key */
    uint64_t handle;
    uint32_t version;
    uint8_t digest[SESSILE_DIGEST_SIZE];
};

static struct log *logs;
static _Atomic uint32_t *gate;
static const struct sessile_call call = {.wait_ms = 10000};

static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

/* An operation takes less than a microsecond: so that they overlap, some give the processor away inside and outside of the
 * lock (the linker puts this in the place of the table's function). */
static uint64_t yields = 1;

enum sessile_status __real_shard_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct hold *hold);
enum sessile_status __wrap_shard_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct hold *hold);
enum sessile_status __wrap_shard_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct hold *hold)
{
    if (next_random(&yields) % 4 == 0)
        sched_yield();
    enum sessile_status status = __real_shard_enter(table, number, wait_ms, hold);
    if (next_random(&yields) % 8 == 0)
        sched_yield();
    return status;
}

static void id_of(uint32_t round, uint32_t key, char id[SESSILE_ID_LENGTH + 1])
{
    snprintf(id, SESSILE_ID_LENGTH + 1, "history%012ukey%010u", round, key);
}

/* ---- a process ---- */

static enum sessile_status do_load(struct sessile *table, const char *id, struct entry *entry, struct seen *seen)
{
    struct sessile_session session;
    uint8_t buffer[64];
    enum sessile_status status = sessile_load(table, &call, id, SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer,
                                              sizeof buffer);
    if (status != SESSILE_OK)
        return status;
    memcpy(&entry->found, buffer, sizeof entry->found);
    entry->handle = seen->handle = session.handle;
    entry->version = seen->version = session.version;
    memcpy(seen->digest, session.digest, sizeof seen->digest);
    return status;
}

static enum sessile_status do_write(struct sessile *table, const char *id, struct entry *entry, const struct seen *seen)
{
    struct sessile_session session = {.handle = 0};
    struct sessile_content content = {.fields = (const uint8_t *)&entry->value, .fields_length = sizeof entry->value};
    struct sessile_reference reference = {.handle = seen->handle};
    memcpy(reference.digest, seen->digest, sizeof reference.digest);
    enum sessile_status status;
    if (entry->operation == CREATE)
        status = sessile_create(table, &call, id, &content, &session);
    else if (entry->operation == REMOVE)
        return sessile_remove(table, &call, &reference, SESSILE_DESTROYED);
    else {
        content.idle_ms = content.absolute_ms = SESSILE_KEEP;
        status = sessile_update(table, &call, &reference, seen->version, 0, &content, &session);
    }
    entry->handle = status == SESSILE_OK ? session.handle : 0;
    entry->version = status == SESSILE_OK ? session.version : 0;
    return status;
}

__attribute__((noreturn)) static void be_process(struct sessile *table, uint32_t round, uint32_t number, uint64_t random)
{
    struct log *log = &logs[number];
    struct seen seen[KEYS] = {{0}};
    char id[SESSILE_ID_LENGTH + 1];
    yields = random;
    while (!atomic_load(gate))
        continue;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        struct entry *entry = &log->entries[i];
        uint32_t choice = (uint32_t)(next_random(&random) % 10);
        entry->key = (uint32_t)(next_random(&random) % KEYS);
        entry->operation = choice < 4 ? LOAD : choice < 6 ? CREATE : choice < 9 ? UPDATE : REMOVE;
        if (entry->operation >= UPDATE && seen[entry->key].handle == 0)
            entry->operation = LOAD;
        entry->value = (uint64_t)number << 32 | (i + 1);
        entry->expected_handle = seen[entry->key].handle;
        entry->expected_version = seen[entry->key].version;
        id_of(round, entry->key, id);
        entry->invoked = now();
        atomic_store(&log->count, i + 1);
        entry->status = entry->operation == LOAD ? do_load(table, id, entry, &seen[entry->key])
                                                 : do_write(table, id, entry, &seen[entry->key]);
        entry->returned = now();
    }
    _exit(0);
}

/* ---- rounds ---- */

static void print_log(uint32_t round, uint32_t number)
{
    const struct log *log = &logs[number];
    for (uint32_t i = 0; i < atomic_load(&log->count); i++) {
        const struct entry *entry = &log->entries[i];
        printf("%u %u %u %s %" PRIu64 " %u %" PRIu64 " %" PRId64 " %" PRId64 " %s %" PRIu64 " %u %" PRIu64 "\n", round,
               entry->key, number, names[entry->operation], entry->expected_handle, entry->expected_version, entry->value,
               entry->invoked, entry->returned, sessile_status_name((enum sessile_status)entry->status) + 8, entry->handle,
               entry->version, entry->found);
    }
}

static void run_round(struct sessile *table, uint32_t round, uint32_t processes, uint64_t *random)
{
    pid_t children[PROCESSES_MAX];
    memset(logs, 0, PROCESSES_MAX * sizeof *logs);
    atomic_store(gate, 0);
    fflush(stdout);
    for (uint32_t i = 0; i < processes; i++) {
        uint64_t seed = next_random(random);
        children[i] = fork();
        if (children[i] == 0)
            be_process(table, round, i, seed);
        if (children[i] < 0) {
            perror("fork");
            exit(2);
        }
    }
    atomic_store(gate, 1);
    for (uint32_t i = 0; i < processes / 2; i++) {
        usleep((useconds_t)(next_random(random) % 400));
        kill(children[next_random(random) % processes], SIGKILL);
    }
    for (uint32_t i = 0; i < processes; i++)
        waitpid(children[i], NULL, 0);
    for (uint32_t i = 0; i < processes; i++)
        print_log(round, i);
}

static uint64_t option(int count, char **arguments, const char *name, uint64_t otherwise)
{
    for (int i = 1; i + 1 < count; i += 2)
        if (strcmp(arguments[i], name) == 0)
            return strtoull(arguments[i + 1], NULL, 10);
    return otherwise;
}

int main(int count, char **arguments)
{
    static const uint8_t keys[1][SESSILE_KEY_SIZE] = {{1}};
    uint64_t random = option(count, arguments, "--seed", (uint64_t)time(NULL));
    uint32_t rounds = (uint32_t)option(count, arguments, "--rounds", 50);
    uint32_t processes = (uint32_t)option(count, arguments, "--processes", 4);
    struct sessile_problem problem;
    struct sessile *table;
    /* Room for all that is left of every round: what is evicted is gone in no order of what the processes did. */
    struct sessile_options options = {
        .capacity = 1000 + (uint64_t)KEYS * rounds, .memory = (4u << 20) + 1024ull * KEYS * rounds, .anonymous_share = 1.0, .keys = keys, .key_count = 1,
        .policy = {.owned_idle_ms = 1800000, .owned_absolute_ms = 28800000, .anonymous_idle_ms = 1800000,
                   .anonymous_absolute_ms = 28800000, .fields_max = 1024},
    };
    size_t size = PROCESSES_MAX * sizeof *logs + 64;
    if (processes < 2 || processes > PROCESSES_MAX || sessile_open(&options, &table, &problem) != SESSILE_OK)
        return 2;
    gate = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (gate == MAP_FAILED)
        return 2;
    logs = (struct log *)(void *)((uint8_t *)gate + 64);
    for (uint32_t round = 0; round < rounds; round++)
        run_round(table, round, processes, &random);
    sessile_close(table);
    return 0;
}
