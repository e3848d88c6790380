/* world.c - see world.h. */
#define _GNU_SOURCE
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct sessile_call world_call = {.wait_ms = 20};

void world_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void expect(enum sessile_status status, const char *what)
{
    if (status != SESSILE_OK)
        world_fail("preparation: %s answered %s", what, sessile_status_name(status));
}

uint64_t world_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

/* A directory in memory: the files are copied at every state. */
static void make_directory(struct world *world)
{
    snprintf(world->directory, sizeof world->directory, "/dev/shm/sessile-stepper-XXXXXX");
    if (!mkdtemp(world->directory)) {
        snprintf(world->directory, sizeof world->directory, "/tmp/sessile-stepper-XXXXXX");
        if (!mkdtemp(world->directory))
            world_fail("no directory for the tables");
    }
    snprintf(world->path, sizeof world->path, "%s/table", world->directory);
}

void world_begin(struct world *world, uint64_t capacity, uint64_t memory, double share, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->random = seed;
    doors.random = seed + 1;
    doors.clock_ms = 1000000000;
    for (size_t i = 0; i < sizeof world->bytes; i++)
        world->bytes[i] = (uint8_t)(world_random(&world->random) | 1);    /* never 0: what is left over is seen */
    for (size_t i = 0; i < SESSILE_KEY_SIZE; i++)
        world->keys[0][i] = (uint8_t)i;
    make_directory(world);
    world->options = (struct sessile_options){
        .path = world->path, .capacity = capacity, .memory = memory, .anonymous_share = share,
        .keys = (const uint8_t (*)[SESSILE_KEY_SIZE])world->keys, .key_count = 1,
        .policy = {.owned_idle_ms = 1800000, .owned_absolute_ms = 28800000, .anonymous_idle_ms = 1800000,
                   .anonymous_absolute_ms = 28800000, .sessions_per_owner = 0, .fields_max = SESSILE_FIELDS_MAX},
    };
    world_open(world);
}

void world_open(struct world *world)
{
    struct sessile_problem problem;
    enum sessile_status status = sessile_open(&world->options, &world->table, &problem);
    if (status != SESSILE_OK)
        world_fail("cannot open %s: %s (%s, %d, %llu)", world->path, sessile_status_name(status),
                   problem.operation ? problem.operation : "-", problem.error, (unsigned long long)problem.wanted);
}

void world_close(struct world *world)
{
    sessile_close(world->table);
    world->table = NULL;
}

void world_end(struct world *world)
{
    if (world->table)
        world_close(world);
    unlink(world->path);
    rmdir(world->directory);
}

static bool fits(const struct sessile *table, const uint8_t digest[32], uint32_t shard, uint32_t home)
{
    uint64_t prefix = record_prefix(digest);
    uint32_t number = (uint32_t)(prefix >> table->arena.geometry.shard_shift);
    return (shard == WORLD_ANYWHERE || number == shard) &&
           (home == WORLD_ANYWHERE || index_home((uint32_t)prefix, shard_at(table, number)->active) == home);
}

unsigned world_id(struct world *world, uint32_t shard, uint32_t home)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (world->count == WORLD_MEMBERS)
        world_fail("too many sessions for a scene");
    struct member *member = &world->members[world->count];
    memset(member, 0, sizeof *member);
    do {
        for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++)
            member->id[i] = alphabet[world_random(&world->random) & 63];
        if (!sessile_digest(world->table, 0, member->id, SESSILE_ID_LENGTH, member->session.digest))
            world_fail("no digest");
    } while (!fits(world->table, member->session.digest, shard, home));
    return world->count++;
}

const uint8_t *world_fields(const struct world *world, unsigned member, uint32_t version)
{
    return world->bytes + (member * 7 + version * 31) % 256;
}

struct sessile_content world_content(const struct world *world, unsigned member, uint32_t version, uint32_t length)
{
    const struct member *of = &world->members[member];
    struct sessile_content content = {.fields = world_fields(world, member, version), .fields_length = length};
    if (of->owner[0]) {
        content.owner = (const uint8_t *)of->owner;
        content.owner_length = (uint32_t)strlen(of->owner);
    }
    return content;
}

struct sessile_reference world_reference(const struct member *member)
{
    struct sessile_reference reference = {.handle = member->session.handle, .rotates = member->session.rotates};
    memcpy(reference.digest, member->session.digest, sizeof reference.digest);
    if (member->owner[0]) {
        reference.owner = (const uint8_t *)member->owner;
        reference.owner_length = (uint32_t)strlen(member->owner);
    }
    return reference;
}

static void set_owner(struct member *member, const char *owner)
{
    char copy[sizeof member->owner] = {0};    /* it may be a member's own */
    memccpy(copy, owner ? owner : "", 0, sizeof copy - 1);
    memcpy(member->owner, copy, sizeof copy);
}

void world_create(struct world *world, unsigned member, const char *owner, uint32_t length)
{
    struct member *of = &world->members[member];
    set_owner(of, owner);
    struct sessile_content content = world_content(world, member, 1, length);
    content.idle_ms = world->idle_ms;
    expect(sessile_create(world->table, &world_call, of->id, &content, &of->session), "create");
}

unsigned world_add_in(struct world *world, uint32_t shard, const char *owner, uint32_t length, int group)
{
    unsigned member = world_id(world, shard, WORLD_ANYWHERE);
    world->members[member].group = group;
    world_create(world, member, owner, length);
    return member;
}

unsigned world_add(struct world *world, const char *owner, uint32_t length, int group)
{
    return world_add_in(world, WORLD_ANYWHERE, owner, length, group);
}

void world_update(struct world *world, unsigned member, uint32_t length)
{
    struct member *of = &world->members[member];
    struct sessile_content content = world_content(world, member, of->session.version + 1, length);
    struct sessile_reference reference = world_reference(of);
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    expect(sessile_update(world->table, &world_call, &reference, of->session.version, 0, &content, &of->session), "update");
}

void world_rotate(struct world *world, unsigned from, unsigned to, enum sessile_rotation how, const char *owner)
{
    struct member *old = &world->members[from], *new = &world->members[to];
    struct sessile_reference reference = world_reference(old);
    set_owner(new, how == SESSILE_LOGIN ? owner : old->owner);
    struct sessile_content content = world_content(world, to, 1, 40);
    expect(sessile_rotate(world->table, &world_call, &reference, old->session.version, how, new->id,
                          how == SESSILE_RENEW ? world->bytes : NULL, how == SESSILE_RENEW ? NULL : &content,
                          &new->session), "rotate");
}

void world_present(struct world *world, unsigned member)
{
    static uint8_t buffer[WORLD_FIELDS];
    struct member *of = &world->members[member];
    expect(sessile_load(world->table, &world_call, of->id, SESSILE_ID_LENGTH, SESSILE_PRESENT, &of->session, buffer,
                        sizeof buffer), "load");
}

void world_remove(struct world *world, unsigned member)
{
    struct sessile_reference reference = world_reference(&world->members[member]);
    expect(sessile_remove(world->table, &world_call, &reference, SESSILE_DESTROYED), "remove");
}

void world_move_clock(int64_t milliseconds)
{
    doors.clock_ms += milliseconds;
}

uint32_t world_length_for(uint32_t size, const char *owner)
{
    return size - RECORD_HEADER - (uint32_t)(owner ? strlen(owner) : 0);
}
