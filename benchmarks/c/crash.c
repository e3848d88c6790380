/* crash.c - what a death costs, and what it costs to be ready for one. Run by `python -m benchmarks.crash`.
 *
 *     crash repair           repairs of one shard of about 4,000 records: microseconds for each 4,000, median and worst
 *     crash attach N         attaches to a table of N sessions: clean, and after a process died inside a lock
 *     crash lookup N         a round of look-ups of N sessions in random order for each line of input: nanoseconds of
 *                        processor time each
 *     crash threads N        the same look-ups, every twentieth followed by an update, by one thread and by two at once, in turn:
 *                        processor time of one, of each of two, and how many times one's work two would do on two processors
 *
 * Figures go to standard output, one a line.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shard.h"

#define FIELDS 158u                /* six fields of a shop's visitor */
#define REPAIRS 400u
#define ATTACHES 15u
#define THREAD_LOADS 200000u
#define THREAD_ROUNDS 11u

static const struct sessile_call call = {.wait_ms = 1000};
static char directory[64], path[96];

static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static double clock_us(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static double now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

__attribute__((noreturn)) static void fail(const char *what, enum sessile_status status)
{
    fprintf(stderr, "%s: %s\n", what, sessile_status_name(status));
    exit(1);
}

static struct sessile *open_table(uint64_t capacity)
{
    static const uint8_t key[1][SESSILE_KEY_SIZE] = {{1}};
    struct sessile_options options = {
        .path = path[0] ? path : NULL, .capacity = capacity, .memory = capacity * 600 + SESSILE_MEMORY_MIN,
        .anonymous_share = 1.0, .keys = key, .key_count = 1,
        .policy = {1800000, 28800000, 1800000, 28800000, 0, SESSILE_FIELDS_MAX},
    };
    struct sessile *table;
    struct sessile_problem problem;
    enum sessile_status status = sessile_open(&options, &table, &problem);
    if (status != SESSILE_OK)
        fail("sessile_open", status);
    return table;
}

static void id_of(uint64_t number, char id[SESSILE_ID_LENGTH + 1])
{
    uint64_t state = number;
    snprintf(id, SESSILE_ID_LENGTH + 1, "%016llx%016llx", (unsigned long long)number,
             (unsigned long long)next_random(&state));
}

/* Every fourth session has an owner. */
static void fill(struct sessile *table, uint64_t count)
{
    static uint8_t fields[FIELDS];
    char id[SESSILE_ID_LENGTH + 1], owner[24];
    for (uint64_t i = 0; i < count; i++) {
        struct sessile_session session;
        struct sessile_content content = {.fields = fields, .fields_length = FIELDS};
        if (i % 4 == 0) {
            content.owner_length = (uint32_t)snprintf(owner, sizeof owner, "user%llu", (unsigned long long)i);
            content.owner = (const uint8_t *)owner;
        }
        id_of(i, id);
        enum sessile_status status = sessile_create(table, &call, id, &content, &session);
        if (status != SESSILE_OK)
            fail("sessile_create", status);
    }
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void print_spread(double *times, unsigned count)
{
    qsort(times, count, sizeof *times, ascending);
    printf("%.1f %.1f %.1f\n", times[0], times[count / 2], times[count - 1]);
}

/* ---- repair ---- */

static void repair(void)
{
    static double times[REPAIRS];
    struct sessile *table = open_table(8 * 4096);
    uint32_t shards = table->arena.geometry.shards;
    fill(table, 4000u * shards);
    for (unsigned i = 0; i < REPAIRS; i++) {
        struct hold hold;
        enum sessile_status status = shard_enter(table, i % shards, call.wait_ms, &hold);
        if (status != SESSILE_OK)
            fail("shard_enter", status);
        uint32_t records = hold.shard->entries;
        double began = now_us();
        shard_recover(table, i % shards);
        times[i] = (now_us() - began) / records * 4000;
        shard_leave(&hold);
    }
    print_spread(times, REPAIRS);
    sessile_close(table);
}

/* ---- attach ---- */

static void measure_attaches(uint64_t capacity, void (*before)(uint64_t))
{
    double times[ATTACHES];
    for (unsigned i = 0; i < ATTACHES; i++) {
        if (before)
            before(capacity);
        double began = now_us();
        struct sessile *table = open_table(capacity);
        times[i] = now_us() - began;
        sessile_close(table);
    }
    print_spread(times, ATTACHES);
}

/* A process dies in the middle of a write to a shard. */
static void die_inside(uint64_t capacity)
{
    pid_t child = fork();
    if (child == 0) {
        struct sessile *table = open_table(capacity);
        struct hold hold;
        if (shard_enter(table, 3, call.wait_ms, &hold) != SESSILE_OK)
            _exit(1);
        shard_seq_begin(hold.shard);
        kill(getpid(), SIGKILL);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) {
        fprintf(stderr, "the child did not die inside a lock\n");
        exit(1);
    }
}

static void attach(uint64_t count)
{
    uint64_t capacity = count;
    snprintf(directory, sizeof directory, "/dev/shm/sessile-benchmark-XXXXXX");
    if (!mkdtemp(directory))
        exit(1);
    snprintf(path, sizeof path, "%s/table", directory);
    struct sessile *table = open_table(capacity);
    fill(table, count);
    sessile_close(table);
    measure_attaches(capacity, NULL);
    measure_attaches(capacity, die_inside);
    table = open_table(capacity);
    struct sessile_stats stats;
    sessile_stats(table, &stats);
    printf("%llu %llu\n", (unsigned long long)stats.sessions, (unsigned long long)stats.recoveries);
    sessile_close(table);
}

/* ---- look-up ---- */

static void lookup(uint64_t count)
{
    char line[16];
    struct sessile *table = open_table(count + count / 4);
    char (*ids)[SESSILE_ID_LENGTH] = malloc(count * sizeof *ids);
    uint64_t random = 1;
    if (!ids)
        exit(1);
    fill(table, count);
    for (uint64_t i = 0; i < count; i++) {
        char id[SESSILE_ID_LENGTH + 1];
        id_of(next_random(&random) % count, id);
        memcpy(ids[i], id, sizeof *ids);
    }
    while (fgets(line, sizeof line, stdin)) {
        struct sessile_session session;
        uint8_t buffer[1024];
        double began = clock_us(CLOCK_PROCESS_CPUTIME_ID);
        for (uint64_t i = 0; i < count; i++) {
            enum sessile_status status = sessile_load(table, &call, ids[i], SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer,
                                                      sizeof buffer);
            if (status != SESSILE_OK)
                fail("sessile_load", status);
        }
        printf("%.2f\n", (clock_us(CLOCK_PROCESS_CPUTIME_ID) - began) * 1e3 / (double)count);
        fflush(stdout);
    }
    free(ids);
    sessile_close(table);
}

/* ---- threads ---- */

struct worker {
    struct sessile *table;
    pthread_barrier_t *begin;
    char (*ids)[SESSILE_ID_LENGTH + 1];
    double spent;                  /* nanoseconds of processor time an operation */
};

static void load_and_save(struct sessile *table, const char *id, bool save)
{
    static const uint8_t fields[FIELDS];
    struct sessile_content content = {.fields = fields, .fields_length = FIELDS, .idle_ms = SESSILE_KEEP,
                                      .absolute_ms = SESSILE_KEEP};
    struct sessile_session session;
    uint8_t buffer[1024];
    enum sessile_status status = sessile_load(table, &call, id, SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer,
                                              sizeof buffer);
    if (status != SESSILE_OK)
        fail("sessile_load", status);
    if (!save)
        return;
    struct sessile_reference reference = {.handle = session.handle, .rotates = session.rotates};
    memcpy(reference.digest, session.digest, sizeof reference.digest);
    status = sessile_update(table, &call, &reference, session.version, 0, &content, &session);
    if (status != SESSILE_OK && status != SESSILE_CHANGED)
        fail("sessile_update", status);
}

static void *work(void *pointer)
{
    struct worker *worker = pointer;
    pthread_barrier_wait(worker->begin);
    double began = clock_us(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < THREAD_LOADS; i++)
        load_and_save(worker->table, worker->ids[i], i % 20 == 0);
    worker->spent = (clock_us(CLOCK_THREAD_CPUTIME_ID) - began) * 1e3 / THREAD_LOADS;
    return NULL;
}

/* Processor time of an operation while so many threads work. */
static double by_threads(struct worker *workers, unsigned count)
{
    pthread_t threads[2];
    pthread_barrier_t begin;
    double spent = 0;
    pthread_barrier_init(&begin, NULL, count);
    for (unsigned i = 0; i < count; i++) {
        workers[i].begin = &begin;
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            exit(1);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        spent += workers[i].spent / count;
    }
    pthread_barrier_destroy(&begin);
    return spent;
}

static void threads(uint64_t count)
{
    static double one[THREAD_ROUNDS], two[THREAD_ROUNDS], ratios[THREAD_ROUNDS];
    struct worker workers[2];
    uint64_t random = 1;
    struct sessile *table = open_table(count + count / 4);
    fill(table, count);
    for (unsigned i = 0; i < 2; i++) {
        workers[i] = (struct worker){.table = table, .ids = malloc(THREAD_LOADS * sizeof *workers[i].ids)};
        if (!workers[i].ids)
            exit(1);
        for (unsigned j = 0; j < THREAD_LOADS; j++) {
            uint64_t number = next_random(&random) % (count - count / 4);
            id_of(number / 3 * 4 + number % 3 + 1, workers[i].ids[j]);    /* without an owner */
        }
    }
    for (unsigned i = 0; i < THREAD_ROUNDS; i++) {
        one[i] = by_threads(workers, 1);
        two[i] = by_threads(workers, 2);
        ratios[i] = 2 * one[i] / two[i];
    }
    qsort(one, THREAD_ROUNDS, sizeof *one, ascending);
    qsort(two, THREAD_ROUNDS, sizeof *two, ascending);
    qsort(ratios, THREAD_ROUNDS, sizeof *ratios, ascending);
    printf("%.1f %.1f %.3f\n", one[THREAD_ROUNDS / 2], two[THREAD_ROUNDS / 2], ratios[THREAD_ROUNDS / 2]);
    free(workers[0].ids);
    free(workers[1].ids);
    sessile_close(table);
}

static void tidy_up(void)
{
    if (path[0])
        unlink(path);
    if (directory[0])
        rmdir(directory);
}

int main(int count, char **arguments)
{
    uint64_t number = count == 3 ? strtoull(arguments[2], NULL, 10) : 0;
    atexit(tidy_up);
    if (count == 2 && strcmp(arguments[1], "repair") == 0)
        repair();
    else if (number > 0 && strcmp(arguments[1], "attach") == 0)
        attach(number);
    else if (number > 0 && strcmp(arguments[1], "lookup") == 0)
        lookup(number);
    else if (number > 0 && strcmp(arguments[1], "threads") == 0)
        threads(number);
    else {
        fprintf(stderr, "usage: crash repair | attach N | lookup N | threads N\n");
        return 2;
    }
    return 0;
}
