/* operations.c - a fixed workload of each operation of the table, to be counted by callgrind: see ../instructions.py.
 *
 *     operations COUNT      so many of each, among ten times as many sessions
 *
 * Everything but the clock is fixed: ids, key, order. No deadline comes near, so nothing is renewed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sessile.h"

#define FIELDS 158u                /* bytes of six fields, as ../workload.py has them */
#define DAYS ((int64_t)24 * 3600 * 1000)

void mark_begin(void);
void mark_end(const char *name);

static uint64_t state = 1;
static uint8_t fields[FIELDS], buffer[4096];
static const struct sessile_call call = {.wait_ms = 1000};
static struct sessile *table;

struct named {                     /* a session and the id that it was stored under */
    char id[SESSILE_ID_LENGTH];
    struct sessile_session session;
};

static uint64_t random_number(void)
{
    uint64_t mixed = state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static void expect(enum sessile_status status, enum sessile_status wanted, const char *what)
{
    if (status == wanted)
        return;
    fprintf(stderr, "%s: %s\n", what, sessile_status_name(status));
    exit(1);
}

static void open_table(uint64_t count)
{
    static const uint8_t key[1][SESSILE_KEY_SIZE] = {{1}};
    struct sessile_options options = {.capacity = count * 4, .memory = count * 1200, .anonymous_share = 1, .keys = key,
                                      .key_count = 1, .policy = {30 * DAYS, 90 * DAYS, 30 * DAYS, 90 * DAYS, 10, 65536}};
    struct sessile_problem problem;
    if (options.memory < SESSILE_MEMORY_MIN)
        options.memory = SESSILE_MEMORY_MIN;
    expect(sessile_open(&options, &table, &problem), SESSILE_OK, "sessile_open");
}

static void new_id(char id[SESSILE_ID_LENGTH])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++)
        id[i] = letters[random_number() & 63];
}

static void create(struct named *named)
{
    struct sessile_content content = {.fields = fields, .fields_length = FIELDS};
    expect(sessile_create(table, &call, named->id, &content, &named->session), SESSILE_OK, "create");
}

static void load(const char *id, size_t length, enum sessile_status wanted)
{
    struct sessile_session session;
    expect(sessile_load(table, &call, id, length, SESSILE_TOUCH, &session, buffer, sizeof buffer), wanted, "load");
}

static struct sessile_reference reference_to(const struct named *named, const char *owner)
{
    struct sessile_reference reference = {.handle = named->session.handle, .rotates = named->session.rotates,
                                          .owner = (const uint8_t *)owner};
    reference.owner_length = owner != NULL ? (uint32_t)strlen(owner) : 0;
    memcpy(reference.digest, named->session.digest, sizeof reference.digest);
    return reference;
}

static void update(struct named *named)
{
    struct sessile_content content = {.fields = fields, .fields_length = FIELDS, .idle_ms = SESSILE_KEEP,
                                      .absolute_ms = SESSILE_KEEP};
    struct sessile_reference reference = reference_to(named, NULL);
    expect(sessile_update(table, &call, &reference, named->session.version, SESSILE_TOUCH, &content, &named->session),
           SESSILE_OK, "update");
}

static void give_id(struct named *named, enum sessile_rotation how, const char *from, const char *owner)
{
    struct sessile_content content = {.owner = (const uint8_t *)owner, .owner_length = (uint32_t)strlen(owner),
                                      .fields = fields, .fields_length = FIELDS};
    struct sessile_reference reference = reference_to(named, from);
    uint32_t version = named->session.version;
    expect(sessile_rotate(table, &call, &reference, version, how, named->id, NULL, &content, &named->session), SESSILE_OK,
           "rotate");
}

static void destroy(struct named *named, const char *owner)
{
    struct sessile_reference reference = reference_to(named, owner);
    expect(sessile_remove(table, &call, &reference, SESSILE_DESTROYED), SESSILE_OK, "remove");
}

static struct named *new_names(size_t count)
{
    struct named *names = calloc(count, sizeof *names);
    if (names == NULL)
        exit(1);
    for (size_t i = 0; i < count; i++)
        new_id(names[i].id);
    return names;
}

#define COUNTED(name, statement)                     \
    do {                                             \
        mark_begin();                                \
        for (size_t i = 0; i < count; i++)           \
            statement;                               \
        mark_end(name);                              \
    } while (0)

static void anonymous_sessions(struct named *all, size_t count)
{
    struct named *unknown = new_names(count), *made = new_names(count);
    COUNTED("load", load(all[i * 7].id, SESSILE_ID_LENGTH, SESSILE_OK));
    COUNTED("load, unknown id", load(unknown[i].id, SESSILE_ID_LENGTH, SESSILE_MISS));
    COUNTED("load, malformed id", load("no id", 5, SESSILE_MISS));
    COUNTED("update", update(&all[i * 7]));
    COUNTED("create", create(&made[i]));
    COUNTED("destroy", destroy(&made[i], NULL));
}

static void owned_sessions(struct named *all, size_t count)
{
    char (*owners)[32] = calloc(count, sizeof *owners);
    if (owners == NULL)
        exit(1);
    for (size_t i = 0; i < count; i++)
        snprintf(owners[i], sizeof owners[i], "user-%zu", i);
    for (size_t i = 0; i < count; i++)
        new_id(all[i].id);
    COUNTED("log-in", give_id(&all[i], SESSILE_LOGIN, NULL, owners[i]));
    for (size_t i = 0; i < count; i++)
        new_id(all[i].id);
    COUNTED("rotate", give_id(&all[i], SESSILE_ROTATE, owners[i], owners[i]));
    uint64_t ended;
    COUNTED("revoke", expect(sessile_owner_revoke(table, &call, (const uint8_t *)owners[i], (uint32_t)strlen(owners[i]), 0, 0,
                                                  &ended), SESSILE_OK, "revoke"));
}

int main(int argc, char **argv)
{
    size_t count = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: operations COUNT\n");
        return 2;
    }
    open_table(10 * count);
    struct named *all = new_names(10 * count);
    for (size_t i = 0; i < 10 * count; i++)
        create(&all[i]);
    anonymous_sessions(all, count);
    owned_sessions(all, count);
    sessile_close(table);
    return 0;
}
