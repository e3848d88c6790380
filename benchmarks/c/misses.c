/* misses.c - look-ups of random sessions among many, for callgrind's model of the caches: see ../misses.py.
 *
 *     misses SESSIONS
 *
 * Half of the look-ups fill the modelled caches, the other half are counted, under the name "load".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sessile.h"

#define FIELDS 158u                /* bytes of six fields, as ../workload.py has them */
#define LOADS 40000u               /* 9 lines each: more than a last-level cache of 32 MiB has */
#define DAYS ((int64_t)24 * 3600 * 1000)

void mark_begin(void);
void mark_end(const char *name);

static uint8_t fields[FIELDS], buffer[1024];
static char ids[2 * LOADS][SESSILE_ID_LENGTH];
static const struct sessile_call call = {.wait_ms = 1000};

static uint64_t mixed(uint64_t number)
{
    number += 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

static void id_of(uint64_t number, char id[SESSILE_ID_LENGTH])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t words[2] = {number, mixed(number)};
    for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++)
        id[i] = digits[words[i / 16] >> i % 16 * 4 & 15];
}

static void expect(enum sessile_status status, const char *what)
{
    if (status == SESSILE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, sessile_status_name(status));
    exit(1);
}

static struct sessile *open_filled(uint64_t count)
{
    static const uint8_t key[1][SESSILE_KEY_SIZE] = {{1}};
    struct sessile_options options = {.capacity = count * 2, .memory = count * 640, .anonymous_share = 1, .keys = key,
                                      .key_count = 1, .policy = {30 * DAYS, 90 * DAYS, 30 * DAYS, 90 * DAYS, 10, 65536}};
    struct sessile_problem problem;
    struct sessile_session session;
    struct sessile_content content = {.fields = fields, .fields_length = FIELDS};
    struct sessile *table;
    char id[SESSILE_ID_LENGTH];
    if (options.memory < 2 * SESSILE_MEMORY_MIN)
        options.memory = 2 * SESSILE_MEMORY_MIN;
    expect(sessile_open(&options, &table, &problem), "sessile_open");
    for (uint64_t number = 0; number < count; number++) {
        id_of(number, id);
        expect(sessile_create(table, &call, id, &content, &session), "sessile_create");
    }
    return table;
}

static void load_some(struct sessile *table, unsigned from)
{
    struct sessile_session session;
    for (unsigned i = from; i < from + LOADS; i++)
        expect(sessile_load(table, &call, ids[i], SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer, sizeof buffer),
               "sessile_load");
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: misses SESSIONS\n");
        return 2;
    }
    struct sessile *table = open_filled(count);
    for (unsigned i = 0; i < 2 * LOADS; i++)
        id_of(mixed(i) % count, ids[i]);
    mark_begin();
    load_some(table, 0);
    mark_begin();    /* what the first half did is forgotten, what it brought into the caches is not */
    load_some(table, LOADS);
    mark_end("load");
    printf("%u\n", LOADS);
    sessile_close(table);
    return 0;
}
