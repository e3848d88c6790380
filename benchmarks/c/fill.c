/* fill.c - how full a table is when it first refuses a session.
 *
 *     cc -O2 -std=c11 -Icsrc -pthread -o fill benchmarks/c/fill.c csrc/[a-z]*.c -lm && ./fill [first | replace [1 | 2 | 3]]
 *
 * first     owned sessions of 50 bytes to 8 KB, no cap, capacity out of reach: memory_used / memory at the first refusal.
 *           "records" counts headers, owners and fields only, without what the size of a slot rounds up.
 * replace   fills with fields of X bytes until the table refuses, then replaces every session by one of Y bytes (one out,
 *           one in, then more until it refuses): sessions of Y held, as a fraction of what a fresh table holds. Tables of
 *           2, 16 and 64 MiB; the number says how many of them, because each takes eight times as long as the one before.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sessile.h"

#define HEADER 96u
#define LARGEST 65536u

static uint64_t state = 1;
static uint8_t fields[LARGEST];
static const struct sessile_call call = {.wait_ms = 1000};

static uint64_t random_number(void)
{
    uint64_t mixed = state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sessile *open_table(uint64_t capacity, uint64_t memory)
{
    static const uint8_t key[1][SESSILE_KEY_SIZE] = {{1}};
    struct sessile_options options = {.capacity = capacity, .memory = memory, .anonymous_share = 0.5, .keys = key,
                                      .key_count = 1, .policy = {1800000, 28800000, 1800000, 28800000, 0, LARGEST}};
    struct sessile *table;
    struct sessile_problem problem;
    enum sessile_status status = sessile_open(&options, &table, &problem);
    if (status != SESSILE_OK) {
        fprintf(stderr, "sessile_open: %s, wanted %llu\n", sessile_status_name(status), (unsigned long long)problem.wanted);
        exit(1);
    }
    return table;
}

static enum sessile_status add(struct sessile *table, const char *owner, uint32_t length, struct sessile_session *session)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char id[SESSILE_ID_LENGTH];
    for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++)
        id[i] = letters[random_number() & 63];
    struct sessile_content content = {.owner = (const uint8_t *)owner, .owner_length = (uint32_t)strlen(owner),
                                      .fields = fields, .fields_length = length};
    return sessile_create(table, &call, id, &content, session);
}

static double used(struct sessile *table)
{
    struct sessile_stats stats;
    sessile_stats(table, &stats);
    return (double)stats.memory_used / (double)stats.memory;
}

/* An owner of its own for each session: a full table would else end the owner's oldest. */
static const char *owner_of(uint64_t number)
{
    static char owner[32];
    snprintf(owner, sizeof owner, "user%llu", (unsigned long long)number);
    return owner;
}

/* ---- first ---- */

static uint32_t any_size(void)
{
    return 50 + (uint32_t)(random_number() % 8143);
}

/* As many sessions in each doubling of the size. */
static uint32_t mostly_small(void)
{
    double u = (double)(random_number() >> 11) / 9007199254740992.0;
    return (uint32_t)(50 * pow(8192.0 / 50, u));
}

static void first_refusal(const char *name, uint32_t (*size)(void), double mean, uint64_t sessions, unsigned per_owner)
{
    uint64_t memory = (uint64_t)((double)sessions * (mean + HEADER + 70) * 1.1);
    if (memory < SESSILE_MEMORY_MIN)
        memory = SESSILE_MEMORY_MIN;
    struct sessile *table = open_table(sessions * 4, memory);
    struct sessile_session session;
    uint64_t count = 0;
    double bytes = 0, start = now();
    for (;;) {
        uint32_t length = size();
        const char *owner = owner_of(count / per_owner);
        if (add(table, owner, length, &session) != SESSILE_OK)
            break;
        bytes += HEADER + (double)strlen(owner) + length;
        count++;
    }
    struct sessile_facts facts = sessile_facts(table);
    printf("%-14s %9llu %3u %10llu %7u %6u %9llu %8.3f %8.3f %8.2f\n", name, (unsigned long long)sessions, per_owner,
           (unsigned long long)memory, facts.unit_size, facts.shards, (unsigned long long)count, used(table),
           bytes / (double)memory, (now() - start) / (double)(count + 1) * 1e6);
    fflush(stdout);
    sessile_close(table);
}

static void first(void)
{
    static const uint64_t sizes[] = {1000, 10000, 200000};
    printf("%-14s %9s %3s %10s %7s %6s %9s %8s %8s %8s\n", "sizes", "about", "own", "memory", "unit", "shards", "stored",
           "used", "records", "us each");
    for (unsigned i = 0; i < 3; i++) {
        first_refusal("50..8192", any_size, 4121, sizes[i], 1);
        first_refusal("50..8192 log", mostly_small, 1597, sizes[i], 1);
        first_refusal("50..8192 log", mostly_small, 1597, sizes[i], 10);
    }
}

/* ---- replace ---- */

static uint64_t fill(struct sessile *table, uint32_t length, struct sessile_session *sessions, uint64_t most)
{
    uint64_t count = 0;
    while (count < most && add(table, owner_of(count), length, &sessions[count]) == SESSILE_OK)
        count++;
    return count;
}

static uint64_t held(uint64_t capacity, uint64_t memory, uint32_t x, uint32_t y, double *full)
{
    struct sessile *table = open_table(capacity, memory);
    struct sessile_session *sessions = malloc(sizeof *sessions * (capacity + 1)), session;
    uint64_t count = fill(table, x, sessions, capacity), stored = 0;
    *full = used(table);
    for (uint64_t i = 0; y != 0 && i < count; i++) {
        const char *owner = owner_of(i);
        struct sessile_reference reference = {.handle = sessions[i].handle, .rotates = sessions[i].rotates,
                                              .owner = (const uint8_t *)owner, .owner_length = (uint32_t)strlen(owner)};
        memcpy(reference.digest, sessions[i].digest, sizeof reference.digest);
        if (sessile_remove(table, &call, &reference, SESSILE_DESTROYED) != SESSILE_OK)
            exit(2);
        stored += add(table, owner_of(capacity + i), y, &session) == SESSILE_OK;
    }
    for (uint64_t next = 2 * capacity; y != 0 && stored < capacity; next++, stored++)
        if (add(table, owner_of(next), y, &session) != SESSILE_OK)
            break;
    sessile_close(table);
    free(sessions);
    return y != 0 ? stored : count;
}

static void replace(uint64_t capacity, uint64_t memory)
{
    static const uint32_t sizes[] = {50, 158, 500, 1500, 3000, 6000, 8192, 20000};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    double worst = 1, full;
    printf("\nmemory %llu, capacity %llu: sessions of Y (across) after X (down), of a fresh table's\n%7s",
           (unsigned long long)memory, (unsigned long long)capacity, "");
    for (unsigned i = 0; i < COUNT; i++)
        printf(" %7u", sizes[i]);
    printf("\n%7s", "fresh");
    uint64_t fresh[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        fresh[i] = held(capacity, memory, sizes[i], 0, &full);
        printf(" %7llu", (unsigned long long)fresh[i]);
    }
    printf("\n%7s", "used");
    for (unsigned i = 0; i < COUNT; i++) {
        (void)held(capacity, memory, sizes[i], 0, &full);
        printf(" %7.3f", full);
    }
    for (unsigned x = 0; x < COUNT; x++) {
        printf("\n%7u", sizes[x]);
        for (unsigned y = 0; y < COUNT; y++) {
            double fraction = (double)held(capacity, memory, sizes[x], sizes[y], &full) / (double)fresh[y];
            worst = fraction < worst ? fraction : worst;
            printf(" %7.3f", fraction);
            fflush(stdout);
        }
    }
    printf("\nworst %.3f\n", worst);
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "first") == 0)
        first();
    if (argc < 2 || strcmp(argv[1], "replace") == 0) {
        static const struct { uint64_t capacity, memory; } tables[] = {
            {20000, 2 << 20}, {100000, 16 << 20}, {400000, 64 << 20}};
        unsigned count = argc > 2 ? (unsigned)atoi(argv[2]) : 3;
        for (unsigned i = 0; i < count && i < 3; i++)
            replace(tables[i].capacity, tables[i].memory);
    }
    return 0;
}
