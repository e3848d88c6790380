/* scenes.c - see scenes.h. A variant is a size of the record, a state of the table before, or both. */
#include "scenes.h"

#include <stdio.h>
#include <string.h>

#include "owner.h"

/* ---- states before ---- */

enum before {
    EMPTY,                         /* nothing but what the operation needs */
    SPARSE,                        /* some sessions of all sizes and owners */
    CHAIN,                         /* a run in the index of the target's shard, around the region's end */
    LAST_SLOT,                     /* of the target's class only the spare slot is free */
    FULL_PAGE,                     /* the same, and the spare is taken: an update needs a page */
    BUCKET,                        /* neighbours in the wheel's bucket, at a border of its levels */
    BEFORES
};

#define SHARD 5u
#define CLASSES 15u                /* of records in a small table, the last one for larger than all */

static uint32_t class_size(const struct world *world, unsigned class)
{
    const struct geometry *geometry = &world->table->arena.geometry;
    if (geometry->class_count != CLASSES - 1)
        world_fail("a small table has %u classes of records", geometry->class_count);
    return class < geometry->class_count ? geometry->class_size[class] : 2 * geometry->unit_size;
}

static void add_some(struct world *world, unsigned count)
{
    static const uint32_t lengths[] = {10, 100, 158, 300, 700, 1500, 3000, 6000};
    static const char *const owners[] = {NULL, "alice", "bob", NULL};
    for (unsigned i = 0; i < count; i++)
        world_add(world, owners[i % 4], lengths[i % 8], WORLD_BYSTANDER);
}

static uint32_t free_slots(const struct world *world, uint32_t shard, const char *owner, uint32_t length)
{
    const struct page_lists *lists = &shard_at(world->table, shard)->lists;
    uint32_t size = RECORD_HEADER + length + (uint32_t)(owner ? strlen(owner) : 0);
    return lists->free[owner ? ARENA_OWNED : ARENA_ANONYMOUS][arena_class(&world->table->arena.geometry, size)];
}

static void fill_class(struct world *world, const char *owner, uint32_t length, uint32_t left)
{
    do
        world_add_in(world, SHARD, owner, length, WORLD_BYSTANDER);
    while (free_slots(world, SHARD, owner, length) > left);
}

static void begin(struct world *world, uint64_t seed)
{
    world_begin(world, 400, SESSILE_MEMORY_MIN, 1.0, seed);
}

static uint32_t home_for(enum before before, unsigned nth)
{
    return before == CHAIN ? (253 + nth) % 256 : WORLD_ANYWHERE;
}

/* Makes the state around a session of `owner` and `length`; the answer is its id, which is not stored yet. */
static unsigned set(struct world *world, enum before before, const char *owner, uint32_t length)
{
    if (before == SPARSE)
        add_some(world, 24);
    for (unsigned i = 0; before == CHAIN && i < 8; i++) {
        unsigned member = world_id(world, SHARD, home_for(before, i / 2));
        world_create(world, member, i % 2 ? "carol" : NULL, 20);
    }
    unsigned member = world_id(world, SHARD, home_for(before, 1));
    if (before == LAST_SLOT && length < 4096 - RECORD_HEADER)
        fill_class(world, owner, length, 1);
    if (before == BUCKET) {
        world->idle_ms = 64 * 64 * 1000;
        for (unsigned i = 0; i < 4; i++)
            world_add_in(world, SHARD, owner, length < 200 ? length : 200, WORLD_BYSTANDER);
    }
    return member;
}

/* The same with the session stored; more of its chain, page and bucket come after it. */
static unsigned set_stored(struct world *world, enum before before, const char *owner, uint32_t length)
{
    unsigned member = set(world, before, owner, length);
    world_create(world, member, owner, length);
    for (unsigned i = 0; before == CHAIN && i < 4; i++)
        world_create(world, world_id(world, SHARD, home_for(before, 1 + i % 2)), NULL, 20);
    if (before == BUCKET)
        for (unsigned i = 0; i < 2; i++)
            world_add_in(world, SHARD, owner, length < 200 ? length : 200, WORLD_BYSTANDER);
    if (before == FULL_PAGE && length < 4096 - RECORD_HEADER) {
        fill_class(world, owner, length, 1);
        /* An update that grows into this class takes the spare. */
        unsigned smaller = world_add_in(world, SHARD, owner, 20, WORLD_BYSTANDER);
        world_update(world, smaller, length);
    }
    world->members[member].group = 1;
    world->target = member;
    return member;
}

/* ---- one session ---- */

static void prepare_create(struct world *world, unsigned variant, uint64_t seed, const char *owner)
{
    begin(world, seed);
    enum before before = (enum before)(variant / CLASSES);
    uint32_t length = world_length_for(class_size(world, variant % CLASSES), owner);
    world->fresh = set(world, before, owner, length);
    world->length = length;
    world->members[world->fresh].group = 1;
    snprintf(world->members[world->fresh].owner, sizeof world->members[0].owner, "%s", owner ? owner : "");
}

static void prepare_create_anonymous(struct world *world, unsigned variant, uint64_t seed)
{
    prepare_create(world, variant, seed, NULL);
}

/* Owners with no session, few, as many as fit the entry, its node, and two nodes; and chains of stale references. */
static void prepare_create_owned(struct world *world, unsigned variant, uint64_t seed)
{
    static const unsigned counts[] = {0, 1, 3, 4, 5, 10, 11, 12, 18};
    prepare_create(world, variant < 9 ? 1 : (variant - 9) % 5 * CLASSES + 1, seed, "dave");
    unsigned count = variant < 9 ? counts[variant] : 6;
    for (unsigned i = 0; i < count; i++) {
        unsigned member = world_add(world, "dave", 30, WORLD_BYSTANDER);
        if (variant >= 9 && i % 2)
            world_remove(world, member);
    }
}

static enum sessile_status act_create(struct sessile *table, const struct world *world)
{
    struct sessile_session session;
    struct sessile_content content = world_content(world, world->fresh, 1, world->length);
    return sessile_create(table, &world_call, world->members[world->fresh].id, &content, &session);
}

static void prepare_load(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    const char *owner = variant / BEFORES % 2 ? "erin" : NULL;
    set_stored(world, (enum before)(variant % BEFORES), owner, 100);
    world->flags = variant / BEFORES / 2 ? SESSILE_TOUCH : SESSILE_TOUCH | SESSILE_PRESENT;
    world_move_clock(60 * 1000);
}

static enum sessile_status act_load(struct sessile *table, const struct world *world)
{
    static uint8_t buffer[WORLD_FIELDS];
    struct sessile_session session;
    const char *id = world->members[world->target].id;
    return sessile_load(table, &world_call, id, SESSILE_ID_LENGTH, world->flags, &session, buffer, sizeof buffer);
}

/* Each size class to itself, to the next smaller and larger one, to the smallest and to the largest. */
static void prepare_update(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    unsigned class = variant % CLASSES, to[] = {class, class + 1, class - 1, 0, CLASSES - 1};
    unsigned step = variant / CLASSES;
    const char *owner = step % 2 ? "frank" : NULL;
    uint32_t length = world_length_for(class_size(world, class), owner);
    set_stored(world, (enum before)((class + step * 5) % BEFORES), owner, length);
    world->length = world_length_for(class_size(world, to[step % 5] < CLASSES ? to[step % 5] : class), owner);
}

static enum sessile_status act_update(struct sessile *table, const struct world *world)
{
    struct sessile_session session;
    const struct member *target = &world->members[world->target];
    struct sessile_reference reference = world_reference(target);
    struct sessile_content content = world_content(world, world->target, target->session.version + 1, world->length);
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    return sessile_update(table, &world_call, &reference, target->session.version, SESSILE_TOUCH, &content, &session);
}

static void prepare_remove(struct world *world, unsigned variant, uint64_t seed)
{
    static const uint32_t lengths[] = {100, 2500, 5000, 30, 900};
    begin(world, seed);
    set_stored(world, (enum before)(variant % BEFORES), variant / BEFORES % 2 ? "gina" : NULL,
               lengths[variant % 5]);
}

static enum sessile_status act_remove(struct sessile *table, const struct world *world)
{
    static uint8_t room[1 << 14];
    struct sessile_sink sink = {.buffer = room, .capacity = sizeof room};
    struct sessile_call call = {.wait_ms = world_call.wait_ms, .sink = &sink};
    struct sessile_reference reference = world_reference(&world->members[world->target]);
    return sessile_remove(table, &call, &reference, SESSILE_DESTROYED);
}

/* ---- the end by time, and room ---- */

static void prepare_sweep(struct world *world, unsigned variant, uint64_t seed)
{
    static const int64_t idles[] = {5000, 63000, 64000, 65000, 4095000, 4097000};
    begin(world, seed);
    add_some(world, 8);
    world->idle_ms = idles[variant % 6];
    for (unsigned i = 0; i < 3 + variant / 6; i++)
        world_add_in(world, i % 3, i % 2 ? "hans" : NULL, 50 + 400 * i, WORLD_UNORDERED);
    for (unsigned i = 0; i < world->count; i++)
        world->members[i].group = world->idle_ms >= 1800000 && i < 8 ? WORLD_UNORDERED : world->members[i].group;
    world_move_clock(world->idle_ms + 1000);
    world->idle_ms = 0;
}

static enum sessile_status act_sweep(struct sessile *table, const struct world *world)
{
    uint64_t count;
    (void)world;
    return sessile_sweep(table, &world_call, 100, &count);
}

/* A session past its deadline is met by its id, and ended. */
static void prepare_collect(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    world->idle_ms = 5000;
    set_stored(world, variant % 2 ? EMPTY : CHAIN, variant / 2 ? "ida" : NULL, 100);
    for (unsigned i = 0; i < world->count; i++)
        world->members[i].group = WORLD_UNORDERED;
    world_move_clock(6000);
}

static enum sessile_status act_collect(struct sessile *table, const struct world *world)
{
    return sessile_collect(table, &world_call, world->members[world->target].session.digest);
}

/* At capacity: an anonymous one goes before the new one comes. */
static void prepare_evict(struct world *world, unsigned variant, uint64_t seed)
{
    world_begin(world, 24, SESSILE_MEMORY_MIN, 1.0, seed);
    for (unsigned i = 0; i < 24; i++)
        world_add(world, i % 3 ? NULL : "jack", 40 + 30 * i, WORLD_UNORDERED);
    for (unsigned i = 0; i < 24; i += 2)
        if (variant % 2)
            world_present(world, i);
    world->fresh = world_id(world, WORLD_ANYWHERE, WORLD_ANYWHERE);
    world->members[world->fresh].group = 1;
    world->length = 200;
    if (variant / 2)
        snprintf(world->members[world->fresh].owner, sizeof world->members[0].owner, "kate");
}

static bool has_units(const struct world *world, uint32_t units)
{
    const struct arena *arena = &world->table->arena;
    return atomic_load(&arena->header->used_units) + units <= arena->geometry.units - arena->geometry.reserve_units;
}

static bool has_pages(const struct world *world)
{
    return has_units(world, 1);
}

/* No page is free: records of a sparse page are moved together before a new session finds room. */
static void prepare_evacuate(struct world *world, unsigned variant, uint64_t seed)
{
    world_begin(world, 4000, SESSILE_MEMORY_MIN, 1.0, seed);
    static const uint32_t lengths[] = {3500, 2500, 3000};
    uint32_t length = lengths[variant % 3];
    unsigned added = 0;
    /* Pages of the longer ones may have two units: where only one is left, others would go for such a session. */
    while (world->count < WORLD_MEMBERS - 2 && has_units(world, 2))
        world_add(world, NULL, added++ % 3 ? 150 : length, WORLD_UNORDERED);
    for (unsigned i = 0; i < world->count; i++)
        if (world_random(&world->random) % 5 < 3 && world->members[i].session.fields_length <= 150)
            world_remove(world, i);
    /* Pages that became free are taken by sessions that fill one each. */
    while (world->count < WORLD_MEMBERS - 2 && has_pages(world))
        world_add(world, NULL, 3900, WORLD_UNORDERED);
    if (has_pages(world))
        world_fail("preparation: pages are left");
    world->fresh = world_id(world, variant / 3 ? SHARD : 0, WORLD_ANYWHERE);
    world->length = 3900;
    world->members[world->fresh].group = 1;
}

/* The same for a session that needs several units in a row: pages of any shard are emptied. */
static void prepare_run(struct world *world, unsigned variant, uint64_t seed)
{
    prepare_evacuate(world, 1 + variant, seed);
    world->length = 7000;
}

/* Not even the reserve has a page, and none can be emptied: for an update another session of the shard is evicted, and the
 * one that is updated is spared. */
static void prepare_make_room(struct world *world, unsigned variant, uint64_t seed)
{
    const struct arena *arena;
    (void)variant;
    world_begin(world, 4000, SESSILE_MEMORY_MIN, 1.0, seed);
    arena = &world->table->arena;
    /* One in a page of its own; others of which all but one then take the pages that only updates are lent. */
    for (unsigned i = 0; i < 13; i++)
        world_add_in(world, i == 0 ? SHARD : SHARD + 1, NULL, 300, WORLD_UNORDERED);
    while (has_pages(world))
        world_add(world, NULL, 3900, WORLD_UNORDERED);
    for (unsigned i = 1; i < 13 && atomic_load(&arena->header->used_units) < arena->geometry.units; i++)
        world_update(world, i, 3900);
    if (atomic_load(&arena->header->used_units) < arena->geometry.units)
        world_fail("preparation: pages are left");
    world->members[0].group = 1;
    world->length = 3900;
}

/* Records that shrank while no page was free lie in slots too large for them; a page is lent, and they move there. */
static void prepare_home(struct world *world, unsigned variant, uint64_t seed)
{
    world_begin(world, 4000, SESSILE_MEMORY_MIN, 1.0, seed);
    struct arena *arena = &world->table->arena;
    for (unsigned i = 0; i < 8; i++)
        world_add_in(world, SHARD, variant % 2 ? "lena" : NULL, variant / 2 ? 900 : 1900, WORLD_BYSTANDER);
    uint32_t taken = arena->geometry.units - atomic_load(&arena->header->used_units);
    atomic_fetch_add(&arena->header->used_units, taken);
    for (unsigned i = 0; i < world->count; i++)
        world_update(world, i, 50 + i);
    atomic_fetch_sub(&arena->header->used_units, taken);
    /* The search looks at some entries of the index from one on that the shard's number of changes chooses. */
    struct hold hold;
    if (shard_enter(world->table, SHARD, world_call.wait_ms, &hold) != SESSILE_OK)
        world_fail("preparation: the shard");
    while (atomic_load(&hold.index.entries[hold.shard->lsn * 0x9e3779b1u & (hold.index.active - 1)]) == 0)
        hold.shard->lsn++;
    shard_leave(&hold);
}

static enum sessile_status act_home(struct sessile *table, const struct world *world)
{
    struct hold hold;
    enum arena_pool pool = world->members[0].owner[0] ? ARENA_OWNED : ARENA_ANONYMOUS;
    enum sessile_status status = shard_enter(table, SHARD, world_call.wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    bool moved = shard_send_home(&hold, pool);
    shard_leave(&hold);
    return moved ? SESSILE_OK : SESSILE_GONE;
}

/* The first chunk is used up: one more is reserved from the system. */
static void prepare_chunk(struct world *world, unsigned variant, uint64_t seed)
{
    (void)variant;
    world_begin(world, 1000, 2 * SESSILE_MEMORY_MIN, 1.0, seed);
    while (atomic_load(&world->table->arena.header->used_units) + 2 <= atomic_load(&world->table->arena.header->frontier))
        world_add(world, NULL, 7500, WORLD_BYSTANDER);
    world->fresh = world_id(world, SHARD, WORLD_ANYWHERE);
    world->length = 40;
    world->members[world->fresh].group = 1;
}

/* The index of the shard is at half load: it doubles. */
static void prepare_doubling(struct world *world, unsigned variant, uint64_t seed)
{
    world_begin(world, 2000, 2 * SESSILE_MEMORY_MIN, 1.0, seed);
    struct shard *shard = shard_at(world->table, SHARD);
    for (unsigned i = 0; shard->entries < INDEX_FIRST / 2; i++) {
        unsigned member = world_id(world, SHARD, variant && i < 60 ? (250 + i / 6) % 256 : WORLD_ANYWHERE);
        world_create(world, member, NULL, 10);
    }
    world->fresh = world_id(world, SHARD, WORLD_ANYWHERE);
    world->length = 10;
    world->members[world->fresh].group = 1;
}

/* A large table has slots of other sizes, 288 among them: a session grows from 256 into one, and shrinks again. */
static void prepare_large_table(struct world *world, unsigned variant, uint64_t seed)
{
    const char *owner = variant / 2 ? "lars" : NULL;
    world_begin(world, 400, 64u << 20, 1.0, seed);
    uint32_t lengths[] = {world_length_for(256, owner), world_length_for(288, owner)};
    for (unsigned i = 0; i < 6; i++)
        world_add_in(world, SHARD, owner, lengths[i % 2], WORLD_BYSTANDER);
    world->target = world_add_in(world, SHARD, owner, lengths[variant % 2], 1);
    world_remove(world, world_add_in(world, SHARD, owner, lengths[1], WORLD_BYSTANDER));
    world->length = lengths[1 - variant % 2];
    if (shard_at(world->table, SHARD)->lists.live[owner ? ARENA_OWNED : ARENA_ANONYMOUS]
                                                 [arena_class(&world->table->arena.geometry, 288)] == 0)
        world_fail("preparation: no slots of 288 bytes");
}

/* ---- rotation ---- */

static void prepare_rotation(struct world *world, enum before before, const char *owner, const char *new_owner)
{
    set_stored(world, before, owner, 120);
    world->fresh = world_id(world, 2, WORLD_ANYWHERE);
    world->members[world->fresh].group = 1;
    world->length = 90;
    snprintf(world->owner, sizeof world->owner, "%s", new_owner ? new_owner : "");
}

/* From nobody or another owner or the same one; the new owner has no, few and many sessions; with and without the cap. */
static void prepare_login(struct world *world, unsigned variant, uint64_t seed)
{
    static const unsigned counts[] = {0, 3, 4, 11};
    begin(world, seed);
    const char *from = variant % 3 == 0 ? NULL : variant % 3 == 1 ? "mia" : "nora";
    for (unsigned i = 0; i < counts[variant / 3 % 4]; i++) {
        world_add(world, "nora", 30, WORLD_BYSTANDER);
        world_move_clock(100000);
    }
    prepare_rotation(world, (enum before)(variant % BEFORES), from, "nora");
    if (variant >= 12) {
        /* After its commit it ends what is above the cap. */
        world->options.policy.sessions_per_owner = 3;
        world->several_commits = true;
        for (unsigned i = 0; i < world->count; i++)
            if (strcmp(world->members[i].owner, "nora") == 0 && world->members[i].group == WORLD_BYSTANDER)
                world->members[i].group = WORLD_UNORDERED;
    }
}

static enum sessile_status rotate(struct sessile *table, const struct world *world, enum sessile_rotation how)
{
    struct sessile_session session;
    const struct member *target = &world->members[world->target];
    struct sessile_reference reference = world_reference(target);
    struct sessile_content content = world_content(world, world->fresh, 1, world->length);
    content.owner = world->owner[0] ? (const uint8_t *)world->owner : NULL;
    content.owner_length = (uint32_t)strlen(world->owner);
    return sessile_rotate(table, &world_call, &reference, target->session.version, how, world->members[world->fresh].id,
                          how == SESSILE_RENEW ? world->bytes : NULL, how == SESSILE_RENEW ? NULL : &content, &session);
}

static enum sessile_status act_login(struct sessile *table, const struct world *world)
{
    return rotate(table, world, SESSILE_LOGIN);
}

static void prepare_rotate(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    prepare_rotation(world, (enum before)(variant % BEFORES), variant / BEFORES % 2 ? "olga" : NULL, NULL);
}

static enum sessile_status act_rotate(struct sessile *table, const struct world *world)
{
    return rotate(table, world, SESSILE_ROTATE);
}

static void prepare_renew(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    prepare_rotation(world, (enum before)(variant % BEFORES), "paul", NULL);
    world_present(world, world->target);
}

static enum sessile_status act_renew(struct sessile *table, const struct world *world)
{
    return rotate(table, world, SESSILE_RENEW);
}

/* The child's id comes from a client for the first time: the old id begins its drain, then the child is proven. */
static void prepare_first(struct world *world, unsigned variant, uint64_t seed)
{
    prepare_renew(world, variant, seed);
    world_rotate(world, world->target, world->fresh, SESSILE_RENEW, NULL);
    world->target = world->fresh;
    world->flags = SESSILE_TOUCH | SESSILE_PRESENT;
    world_move_clock(60000);
    for (unsigned i = 0; i < world->count; i++)
        if (world->members[i].group == 1)
            world->members[i].group = WORLD_IN_STEPS;
}

/* T5: a child that is proven has ended the forwarding of its parent. */
static const char *drains(struct sessile *table, const struct world *world)
{
    static uint8_t buffer[WORLD_FIELDS];
    struct sessile_session session;
    unsigned parent = 0;
    while (world->members[parent].group != WORLD_IN_STEPS)
        parent++;
    const char *child_id = world->members[world->target].id, *parent_id = world->members[parent].id;
    if (sessile_load(table, &world_call, child_id, SESSILE_ID_LENGTH, 0, &session, buffer, sizeof buffer) != SESSILE_OK)
        return "the child of the renewal is not there";
    if (!(session.flags & SESSILE_PROVEN))
        return NULL;
    world_move_clock(SHARD_DRAIN_MS + 1000);
    enum sessile_status status = sessile_load(table, &world_call, parent_id, SESSILE_ID_LENGTH, 0, &session, buffer,
                                              sizeof buffer);
    world_move_clock(-SHARD_DRAIN_MS - 1000);
    return status == SESSILE_OK ? "the new id is proven, and the old one goes on forwarding" : NULL;
}

/* Through the old id of a renewal: both records are renewed. */
static void prepare_forwarded(struct world *world, unsigned variant, uint64_t seed)
{
    prepare_renew(world, variant, seed);
    unsigned old = world->target;
    world_rotate(world, old, world->fresh, SESSILE_RENEW, NULL);
    world->flags = SESSILE_TOUCH | SESSILE_PRESENT;
    world_move_clock(60000);
}

/* A retired id of an owner comes back after its grace: the session ends. */
static void prepare_theft(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    prepare_rotation(world, (enum before)(variant % BEFORES), "rita", NULL);
    world_rotate(world, world->target, world->fresh, SESSILE_ROTATE, NULL);
    world_move_clock(20000);
}

static enum sessile_status act_theft(struct sessile *table, const struct world *world)
{
    uint64_t handle;
    return sessile_end_theft(table, &world_call, world->members[world->target].session.digest, &handle);
}

/* Dead retired records are past their ten minutes. */
static void prepare_retired(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    for (unsigned i = 0; i < 2 + variant; i++) {
        unsigned from = world_add(world, "sara", 60, WORLD_UNORDERED), to = world_id(world, SHARD, WORLD_ANYWHERE);
        world->members[to].group = WORLD_UNORDERED;
        world_rotate(world, from, to, SESSILE_ROTATE, NULL);
        world_move_clock(1000);
    }
    world_move_clock(601 * 1000);
}

/* ---- owners and all ---- */

static void prepare_revoke(struct world *world, unsigned variant, uint64_t seed)
{
    static const unsigned counts[] = {1, 4, 5, 12};
    begin(world, seed);
    add_some(world, 6);
    unsigned count = counts[variant % 4], kept = 0;
    for (unsigned i = 0; i < count; i++) {
        kept = world_add(world, "tom", 30 + 200 * (i % 3), 1);
        if (variant / 12 && i % 2 == 0)
            world_remove(world, world_add(world, "tom", 10, WORLD_BYSTANDER));
    }
    if (variant / 4 % 3 == 1) {
        world->handle = world->members[kept].session.handle;
        world->members[kept].group = WORLD_BYSTANDER;
    }
    if (variant / 4 % 3 == 2)
        for (unsigned i = 0; i < world->count; i++)
            if (world->members[i].group == 1)
                world->members[i].group = i == kept ? 1 : WORLD_BYSTANDER;
    world->target = kept;
    world->flags = variant / 4 % 3 == 2;
    snprintf(world->owner, sizeof world->owner, "tom");
}

static enum sessile_status act_revoke(struct sessile *table, const struct world *world)
{
    uint64_t count, only = world->flags ? world->members[world->target].session.handle : 0;
    return sessile_owner_revoke(table, &world_call, (const uint8_t *)world->owner, (uint32_t)strlen(world->owner),
                                world->handle, only, &count);
}

static void prepare_revoke_all(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    add_some(world, 10 + 10 * variant);
    for (unsigned i = 0; i < world->count; i++)
        world->members[i].group = 1;
}

static enum sessile_status act_revoke_all(struct sessile *table, const struct world *world)
{
    uint64_t count;
    (void)world;
    return sessile_revoke_all(table, &count);
}

/* The first log-in after revoke_all empties a shard and a stripe. */
static void prepare_reset(struct world *world, unsigned variant, uint64_t seed)
{
    uint64_t count;
    begin(world, seed);
    for (unsigned i = 0; i < 5 + 8 * variant; i++)
        world_add_in(world, SHARD, i % 2 ? "uma" : NULL, 50 + 300 * (i % 4), WORLD_BYSTANDER);
    if (sessile_revoke_all(world->table, &count) != SESSILE_OK)
        world_fail("preparation: revoke_all");
    world->fresh = world_id(world, SHARD, WORLD_ANYWHERE);
    world->length = 60;
    world->members[world->fresh].group = 1;
    snprintf(world->members[world->fresh].owner, sizeof world->members[0].owner, "uma");
}

/* A list drops the references of sessions that ended, the nodes that held them, the entry of an owner without any. */
static void prepare_list(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    unsigned count = 3 + 5 * (variant % 3), kept = variant / 3 % 3;
    for (unsigned i = 0; i < count; i++) {
        unsigned member = world_add(world, "vera", 20, WORLD_BYSTANDER);
        if (i % 3 >= kept)
            world_remove(world, member);
    }
    snprintf(world->owner, sizeof world->owner, "vera");
}

static enum sessile_status act_list(struct sessile *table, const struct world *world)
{
    static uint8_t buffer[1 << 14];
    uint64_t count;
    size_t length;
    return sessile_owner_list(table, &world_call, (const uint8_t *)world->owner, (uint32_t)strlen(world->owner), buffer,
                              sizeof buffer, &count, &length);
}

#define STRIPE 3u

/* Two pages of entries in a stripe, one of them sparse: its entries move into the other. */
static void prepare_compact(struct world *world, unsigned variant, uint64_t seed)
{
    char name[24];
    uint8_t buffer[256];
    uint64_t count;
    size_t length;
    begin(world, seed);
    unsigned each = 1 + variant / 2 * 2;
    for (unsigned i = 0; world->count < 84 * each; i++) {
        snprintf(name, sizeof name, "owner %u", i);
        struct owner owner = owner_named(world->table, (const uint8_t *)name, (uint32_t)strlen(name));
        if (owner.key[0] >> world->table->arena.geometry.shard_shift != STRIPE)
            continue;
        for (unsigned n = 0; n < each; n++)
            world_add(world, name, 10, WORLD_BYSTANDER);
    }
    for (unsigned i = 0; i < world->count; i++) {
        unsigned nth = i / each;
        if (variant % 2 ? nth < 64 && nth % 9 : nth % 3 && nth != 70)
            world_remove(world, i);
    }
    for (unsigned i = 0; i < world->count; i++) {
        const char *owner = world->members[i].owner;
        if (sessile_owner_list(world->table, &world_call, (const uint8_t *)owner, (uint32_t)strlen(owner), buffer, 0, &count,
                               &length) == SESSILE_BUSY)
            world_fail("preparation: list");
    }
}

static enum sessile_status act_compact(struct sessile *table, const struct world *world)
{
    (void)world;
    return owner_compact(table, STRIPE, &world_call) ? SESSILE_OK : SESSILE_FULL;
}

/* ---- recovery itself ---- */

static void prepare_recount(struct world *world, unsigned variant, uint64_t seed)
{
    begin(world, seed);
    add_some(world, 12 + variant);
    atomic_store(&world->table->arena.header->recount_due, 1);
    atomic_fetch_add(&world->table->arena.header->sessions, 3);
    atomic_fetch_sub(&world->table->arena.header->anonymous, 2);
}

static enum sessile_status act_recount(struct sessile *table, const struct world *world)
{
    (void)world;
    shard_recount(table);
    return SESSILE_OK;
}

static enum sessile_status act_attach(struct sessile *table, const struct world *world)
{
    struct sessile_problem problem;
    (void)table;
    return sessile_open(&world->options, &table, &problem);
}

/* A living process proves the death of the other one, and takes over from it. */
static enum sessile_status act_take_over(struct sessile *table, const struct world *world)
{
    return process_reap(&table->arena.process, world->dead_slot) ? SESSILE_OK : SESSILE_BUSY;
}

const struct scene scenes[] = {
    {"create", CLASSES * BEFORES, prepare_create_anonymous, act_create, .one_commit = true},
    {"create-owned", 14, prepare_create_owned, act_create, .one_commit = true},
    {"load", BEFORES * 4, prepare_load, act_load, .one_commit = true},
    {"update", CLASSES * 10, prepare_update, act_update, .one_commit = true},
    {"remove", BEFORES * 10, prepare_remove, act_remove, .one_commit = true},
    {"sweep", 18, prepare_sweep, act_sweep, .one_commit = false},
    {"collect", 4, prepare_collect, act_collect, .one_commit = false},
    {"evict", 4, prepare_evict, act_create, .one_commit = false},
    {"evacuate", 6, prepare_evacuate, act_create, .heavy = true},
    {"run", 4, prepare_run, act_create, .heavy = true},
    {"make-room", 1, prepare_make_room, act_update, .heavy = true},
    {"home", 4, prepare_home, act_home, .one_commit = false},
    {"chunk", 1, prepare_chunk, act_create, .one_commit = false},
    {"doubling", 2, prepare_doubling, act_create, .one_commit = false},
    {"login", 24, prepare_login, act_login, .one_commit = true},
    {"rotate", BEFORES * 2, prepare_rotate, act_rotate, .one_commit = true},
    {"renew", BEFORES, prepare_renew, act_renew, .one_commit = true},
    {"first", BEFORES, prepare_first, act_load, .also = drains},
    {"forwarded", BEFORES, prepare_forwarded, act_load, .one_commit = false},
    {"theft", BEFORES, prepare_theft, act_theft, .one_commit = false},
    {"retired", 6, prepare_retired, act_sweep, .one_commit = false},
    {"revoke", 24, prepare_revoke, act_revoke, .one_commit = false},
    {"revoke-all", 3, prepare_revoke_all, act_revoke_all, .one_commit = false},
    {"reset", 3, prepare_reset, act_create, .heavy = true},
    {"list", 9, prepare_list, act_list, .one_commit = false},
    {"compact", 4, prepare_compact, act_compact, .one_commit = false},
    {"recount", 3, prepare_recount, act_recount, .one_commit = false},
    {"attach", 2, prepare_revoke_all, act_attach, .from_opening = true},
    {"large-table", 4, prepare_large_table, act_update, .heavy = true, .full_only = true},
    {"take-over", SCENES_AFTER, NULL, act_take_over, .after_crash = true},
    {"attach-unclean", SCENES_AFTER, NULL, act_attach, .from_opening = true, .after_crash = true},
};
const unsigned scene_count = sizeof scenes / sizeof *scenes;

/* ---- what others do meanwhile ---- */

static enum sessile_status other_rotate(struct sessile *table, const struct world *world, enum sessile_rotation how,
                                        const char *owner)
{
    struct sessile_session session;
    const struct member *target = &world->members[world->target];
    struct sessile_reference reference = world_reference(target);
    struct sessile_content content = {.fields = world->bytes, .fields_length = 77};
    if (owner) {
        content.owner = (const uint8_t *)owner;
        content.owner_length = (uint32_t)strlen(owner);
    }
    return sessile_rotate(table, &world_call, &reference, target->session.version, how, world->members[world->other].id,
                          how == SESSILE_RENEW ? world->bytes + 9 : NULL, how == SESSILE_RENEW ? NULL : &content, &session);
}

static enum sessile_status other_rotation(struct sessile *table, const struct world *world)
{
    return other_rotate(table, world, SESSILE_ROTATE, NULL);
}

static enum sessile_status other_login(struct sessile *table, const struct world *world)
{
    return other_rotate(table, world, SESSILE_LOGIN, "nora");
}

static enum sessile_status other_load(struct sessile *table, const struct world *world, unsigned member)
{
    static uint8_t buffer[WORLD_FIELDS];
    struct sessile_session session;
    return sessile_load(table, &world_call, world->members[member].id, SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer,
                        sizeof buffer);
}

static enum sessile_status other_load_target(struct sessile *table, const struct world *world)
{
    return other_load(table, world, world->target);
}

static enum sessile_status other_load_fresh(struct sessile *table, const struct world *world)
{
    return other_load(table, world, world->fresh);
}

/* Long after: an undecided child of a rotation is past its time. */
static enum sessile_status other_load_later(struct sessile *table, const struct world *world)
{
    uint64_t count;
    world_move_clock(12000);
    if (sessile_sweep(table, &world_call, 100, &count) != SESSILE_OK)
        return SESSILE_BUSY;
    return other_load(table, world, world->fresh);
}

static enum sessile_status other_update(struct sessile *table, const struct world *world)
{
    struct sessile_session session;
    const struct member *target = &world->members[world->target];
    struct sessile_reference reference = world_reference(target);
    struct sessile_content content = {.fields = world->bytes + 5, .fields_length = 333, .idle_ms = SESSILE_KEEP,
                                      .absolute_ms = SESSILE_KEEP};
    return sessile_update(table, &world_call, &reference, target->session.version, 0, &content, &session);
}

static enum sessile_status other_create(struct sessile *table, const struct world *world)
{
    struct sessile_session session;
    struct sessile_content content = {.fields = world->bytes + 3, .fields_length = 111};
    return sessile_create(table, &world_call, world->members[world->other].id, &content, &session);
}

static enum sessile_status other_revoke(struct sessile *table, const struct world *world)
{
    uint64_t count;
    const char *owner = world->members[world->target].owner;
    if (!owner[0])
        owner = "nora";
    return sessile_owner_revoke(table, &world_call, (const uint8_t *)owner, (uint32_t)strlen(owner), 0, 0, &count);
}

const struct scene others[] = {
    {.name = "rotate", .act = other_rotation},    {.name = "login", .act = other_login},
    {.name = "load", .act = other_load_target},   {.name = "load the fresh id", .act = other_load_fresh},
    {.name = "load later", .act = other_load_later}, {.name = "update", .act = other_update},
    {.name = "create", .act = other_create},      {.name = "remove", .act = act_remove},
    {.name = "revoke", .act = other_revoke},      {.name = "revoke all", .act = act_revoke_all},
};
const unsigned other_count = sizeof others / sizeof *others;

const struct scene *scene_named(const char *name)
{
    for (unsigned i = 0; i < scene_count; i++)
        if (strcmp(scenes[i].name, name) == 0)
            return &scenes[i];
    return NULL;
}
