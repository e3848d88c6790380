/* world.h - a table with sessions in chosen places, made through the public interface, for the tests that kill.
 *
 * Clock, waits and randomness of the table are the world's own (doors.c takes the place of a few functions of system.c when
 * the program is linked): the same seed makes the same bytes and takes the same instructions, and nothing really waits.
 */
#ifndef SESSILE_TESTS_CRASH_WORLD_H
#define SESSILE_TESTS_CRASH_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "sessile.h"
#include "shard.h"

#define WORLD_MEMBERS 2048u
#define WORLD_FIELDS (20u << 10)
#define WORLD_ANYWHERE UINT32_MAX
#define WORLD_DAY_MS (86400ll * 1000)

/* Which sessions an operation may change together: they are all old or all new. Groups above 0 change in their order; each
 * unordered session changes on its own; of one that changes in steps, each fact does. */
enum { WORLD_BYSTANDER = 0, WORLD_UNORDERED = -1, WORLD_IN_STEPS = -2 };

struct member {                    /* an id, and what is known of its session */
    char id[SESSILE_ID_LENGTH + 1];
    char owner[24];                /* empty: anonymous */
    struct sessile_session session;
    int group;
};

struct world {
    char directory[96], path[128];
    struct sessile_options options;
    uint8_t keys[1][SESSILE_KEY_SIZE];
    struct sessile *table;         /* while it is being prepared; NULL while it is stepped */
    uint64_t random;
    unsigned count;
    struct member members[WORLD_MEMBERS];
    uint8_t bytes[WORLD_FIELDS + 256];
    /* What the operation of a scene is about. */
    unsigned target, fresh, other; /* `other`: an id for what another process does meanwhile */
    uint32_t length, flags;
    int64_t idle_ms;
    char owner[24];
    uint64_t handle;
    bool several_commits;          /* though the scene has one */
    uint32_t dead_slot;            /* of a process that died before the scene began; 0: none */
};

/* ---- doors.c ---- */

struct doors {
    int64_t clock_ms, monotonic_ms;
    const volatile int64_t *clock; /* of another process, in place of clock_ms; or NULL */
    uint64_t random;
    void *(*mapped)(void *base, size_t size); /* is told of each mapping of a whole table, and may move it; or NULL */
};
extern struct doors doors;

/* ---- world.c ---- */

uint64_t world_random(uint64_t *state);
/* A new empty table in a file of its own. Ends the program where that fails. */
void world_begin(struct world *world, uint64_t capacity, uint64_t memory, double share, uint64_t seed);
void world_open(struct world *world);
/* Closes the table, as the last process of it. */
void world_close(struct world *world);
void world_end(struct world *world);

/* A new id, not stored yet, whose digest lies in a shard, and there at a home of the index (of `active` entries). */
unsigned world_id(struct world *world, uint32_t shard, uint32_t home);
const uint8_t *world_fields(const struct world *world, unsigned member, uint32_t version);
struct sessile_content world_content(const struct world *world, unsigned member, uint32_t version, uint32_t length);
struct sessile_reference world_reference(const struct member *member);
extern const struct sessile_call world_call;

/* These store, and note what was stored; not OK ends the program. */
void world_create(struct world *world, unsigned member, const char *owner, uint32_t length);
unsigned world_add(struct world *world, const char *owner, uint32_t length, int group);
unsigned world_add_in(struct world *world, uint32_t shard, const char *owner, uint32_t length, int group);
void world_update(struct world *world, unsigned member, uint32_t length);
void world_rotate(struct world *world, unsigned from, unsigned to, enum sessile_rotation how, const char *owner);
void world_present(struct world *world, unsigned member);
void world_remove(struct world *world, unsigned member);
void world_move_clock(int64_t milliseconds);
/* Lengths of fields that make a record of `size` bytes for this owner. */
uint32_t world_length_for(uint32_t size, const char *owner);
__attribute__((noreturn, format(printf, 1, 2))) void world_fail(const char *format, ...);

#endif
