/* judge.c - see judge.h. */
#define _GNU_SOURCE
#include "judge.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "owner.h"
#include "tracer.h"

#define FAILURES_SHOWN 12u
#define SLACK ((size_t)256 << 10)  /* beyond what a state has: room for pages that recovery or an operation is lent */

void judge_fail(struct judge *judge, const char *format, ...)
{
    static unsigned shown;
    judge->failures++;
    if (shown++ >= FAILURES_SHOWN)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED %s, point %" PRIu64 ": ", judge->scene->name, judge->point);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    va_end(arguments);
}

/* ---- looking ---- */

static uint64_t hash(const uint8_t *bytes, size_t length)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        value = (value ^ bytes[i]) * 0x100000001b3u;
    return value;
}

/* A revocation whose process died is finished by the next who uses the owner. */
static void finish_revocations(struct sessile *table, const struct world *world)
{
    static uint8_t buffer[1 << 16];
    for (unsigned i = 0; i < world->count; i++) {
        const char *owner = world->members[i].owner;
        uint64_t count;
        size_t length;
        if (!owner[0])
            continue;
        enum sessile_status status = sessile_owner_list(table, &world_call, (const uint8_t *)owner, (uint32_t)strlen(owner),
                                                        buffer, sizeof buffer, &count, &length);
        if (status != SESSILE_OK && status != SESSILE_BUFFER)
            world_fail("the list of an owner answered %s", sessile_status_name(status));
    }
}

void judge_look(struct sessile *table, const struct world *world, struct sight *sights)
{
    static uint8_t buffer[WORLD_FIELDS + 2048];
    finish_revocations(table, world);
    memset(sights, 0, world->count * sizeof *sights);
    for (unsigned i = 0; i < world->count; i++) {
        struct sight *sight = &sights[i];
        struct sessile_session session;
        sight->status = (uint64_t)sessile_load(table, &world_call, world->members[i].id, SESSILE_ID_LENGTH, 0, &session,
                                               buffer, sizeof buffer);
        /* A dead id of an anonymous session is kept or not: it tells nothing. */
        if (sight->status == SESSILE_RETIRED && !world->members[i].owner[0])
            sight->status = SESSILE_MISS;
        if (sight->status != SESSILE_OK)
            continue;
        sight->handle = session.handle;
        sight->content = hash(buffer, (size_t)session.owner_length + session.device_length + session.fields_length);
        sight->created_ms = session.created_ms;
        sight->authenticated_ms = session.authenticated_ms;
        sight->last_used_ms = session.last_used_ms;
        sight->idle_deadline_ms = session.idle_deadline_ms;
        sight->absolute_deadline_ms = session.absolute_deadline_ms;
        sight->version = session.version;
        sight->flags = session.flags;
        sight->fields_length = session.fields_length;
        sight->rotations = session.rotations;
    }
}

/* Moves give a record the next version; they are no change of a session. */
bool judge_same(const struct sight *a, const struct sight *b, bool with_version)
{
    struct sight left = *a, right = *b;
    if (!with_version)
        left.version = right.version = 0;
    return memcmp(&left, &right, sizeof left) == 0;
}

/* Each fact is old or new: of an operation that renews deadlines, then does something else. */
static bool between(const struct sight *now, const struct sight *old, const struct sight *new)
{
    const uint64_t *is = (const uint64_t *)(const void *)now, *was = (const uint64_t *)(const void *)old;
    const uint64_t *will = (const uint64_t *)(const void *)new;
    for (size_t i = 0; i < sizeof *now / sizeof *is; i++)
        if (is[i] != was[i] && is[i] != will[i])
            return false;
    return true;
}

static const char *show(const struct sight *sight, char text[160])
{
    snprintf(text, 160, "%s handle %016" PRIx64 " version %" PRIu64 " flags %" PRIu64 " length %" PRIu64 " content %08x used %"
             PRId64, sessile_status_name((enum sessile_status)sight->status), sight->handle, sight->version, sight->flags,
             sight->fields_length, (unsigned)sight->content, sight->last_used_ms);
    return text;
}

static void fail_sight(struct judge *judge, unsigned member, const char *what)
{
    char now[160], old[160], new[160];
    judge_fail(judge, "session %u (group %d) %s:\n    is  %s\n    old %s\n    new %s", member,
         judge->world->members[member].group, what, show(&judge->now[member], now), show(&judge->old[member], old),
         show(&judge->new[member], new));
}

/* ---- invariants ---- */

static char finding_text[256];

struct findings {
    unsigned count;
    bool unfinished;               /* a revocation may be half done */
};

static void note_finding(void *context, const char *finding)
{
    struct findings *findings = context;
    if (findings->unfinished && strncmp(finding, "O2", 2) == 0)
        return;
    if (findings->count++ == 0)
        snprintf(finding_text, sizeof finding_text, "%s", finding);
}

__attribute__((format(printf, 1, 2))) static const char *finding(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding_text, sizeof finding_text, format, arguments);
    va_end(arguments);
    return finding_text;
}

/* Is this part of a slot zero? But for 8 to 15 and 28 to 31 of each 32 bytes: the links of free slots and of wheels may stay
 * there, which hold slot numbers. */
static bool is_wiped(const uint8_t *bytes, size_t from, size_t to)
{
    uint64_t any = 0;
    for (; from < to && from % 8 != 0; from++)
        any |= from % ARENA_SLOT >= 28 || (from % ARENA_SLOT >= 8 && from % ARENA_SLOT < 16) ? 0 : bytes[from];
    for (; from + 8 <= to; from += 8) {
        uint64_t word;
        memcpy(&word, bytes + from, sizeof word);
        any |= from % ARENA_SLOT == 8 ? 0 : from % ARENA_SLOT == 24 ? word & 0xffffffff : word;
    }
    return any == 0;
}

static const char *check_wiped_record(const struct arena *arena, const struct arena_page *page, uint32_t slot)
{
    const struct record *record = arena_record(arena, slot);
    uint64_t commit = atomic_load(&record->commit);
    if (!record_is_live(commit) && (commit != 0 || !is_wiped((const uint8_t *)record, 0, page->size)))
        return finding("STO-06: free slot %u was not wiped", slot);
    if (record_is_live(commit) &&
        !is_wiped((const uint8_t *)record, RECORD_HEADER + record_payload_length(record->lengths), page->size))
        return finding("STO-06: slot %u was not wiped behind its record", slot);
    return NULL;
}

/* Of owners without an entry nothing is left, and no more nodes have something in them than are taken. */
static const char *check_wiped_owners(struct sessile *table)
{
    const struct arena *arena = &table->arena;
    for (uint32_t number = 0; number < arena->geometry.shards; number++) {
        const struct page_lists *lists = &stripe_at(table, number)->lists;
        uint32_t nodes = 0, taken = lists->live[ARENA_OWNED][ARENA_NODE] + lists->live[ARENA_ANONYMOUS][ARENA_NODE];
        struct arena_page page;
        for (uint32_t unit = 0; arena_next_page(arena, arena->geometry.shards + number, &unit, &page);)
            for (uint32_t i = 0; i < page.slots; i++) {
                uint32_t slot = arena_slot_of(arena, page.unit, i, page.size);
                const uint8_t *bytes = arena->base + (uint64_t)slot * ARENA_SLOT;
                const struct owner_entry *entry = (const void *)bytes;
                if (page.class == ARENA_NODE)
                    nodes += !is_wiped(bytes, 0, page.size);
                else if (atomic_load(&entry->key[0]) == 0 && !is_wiped(bytes, 0, page.size))
                    return finding("STO-06: slot %u is of no owner and was not wiped", slot);
            }
        if (nodes > taken)
            return finding("STO-06: stripe %u: %u nodes have something in them, %u are taken", number, nodes, taken);
    }
    return NULL;
}

/* Nothing of an ended session is left anywhere in pages of records and in pages that are lent to nobody. */
static const char *check_wiped(const struct arena *arena)
{
    const struct geometry *geometry = &arena->geometry;
    for (uint32_t holder = 0; holder < geometry->shards; holder++) {
        struct arena_page page;
        for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);)
            for (uint32_t i = 0; i < page.slots; i++) {
                const char *found = check_wiped_record(arena, &page, arena_slot_of(arena, page.unit, i, page.size));
                if (found)
                    return found;
            }
    }
    for (uint32_t unit = 0; unit < atomic_load(&arena->header->frontier) && unit < geometry->units; unit++) {
        uint64_t word = atomic_load(&arena_directory(arena)[unit]);
        const uint8_t *bytes = arena->base + geometry->data + (uint64_t)unit * geometry->unit_size;
        if (word == 0 && !is_wiped(bytes, 0, geometry->unit_size))
            return finding("STO-06: unit %u is lent to nobody and was not wiped", unit);
    }
    return NULL;
}

/* The table's counters are the sums of the shards' (a recount that is due was made by sessile_check()). */
static const char *check_counters(struct sessile *table)
{
    const struct arena_header *header = table->arena.header;
    int64_t sessions = 0, anonymous = 0;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        sessions += atomic_load(&shard_at(table, number)->sessions);
        anonymous += atomic_load(&shard_at(table, number)->anonymous);
    }
    if (atomic_load(&header->recount_due))
        return finding("a recount is due and nobody made it");
    if (sessions != atomic_load(&header->sessions) || anonymous != atomic_load(&header->anonymous))
        return finding("the table counts %" PRId64 " sessions, %" PRId64 " anonymous; its shards %" PRId64 ", %" PRId64,
                       atomic_load(&header->sessions), atomic_load(&header->anonymous), sessions, anonymous);
    return NULL;
}

static const char *check_invariants(struct sessile *table, bool unfinished)
{
    struct findings findings = {.unfinished = unfinished};
    uint64_t count = 0;
    enum sessile_status status = sessile_check(table, &world_call, false, note_finding, &findings, &count);
    if (status != SESSILE_OK)
        return finding("sessile_check answered %s", sessile_status_name(status));
    if (findings.count)
        return finding_text;
    /* A kill leaves old or new: what fails its checksum was committed before it was complete. */
    if (atomic_load(&table->arena.header->quarantined) != 0)
        return finding("%" PRIu64 " records were quarantined", atomic_load(&table->arena.header->quarantined));
    const char *found = check_counters(table);
    if (!found)
        found = check_wiped_owners(table);
    return found ? found : check_wiped(&table->arena);
}

const char *judge_invariants(struct sessile *table)
{
    return check_invariants(table, false);
}

/* ---- the second recovery ---- */

static void recover_all(struct sessile *table)
{
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        shard_recover(table, number);
        owner_recover(table, number);
    }
    arena_rebuild_units(&table->arena);
    shard_recount(table);
}

/* An image without what counts recoveries. */
static void take_image(const struct judge *judge, uint8_t *image)
{
    const struct geometry *geometry = &judge->survivor->arena.geometry;
    memcpy(image, judge->bytes, judge->length);
    struct arena_header *header = (struct arena_header *)(void *)image;
    atomic_store(&header->recoveries, 0);
    atomic_store(&header->recount_due, 0);
    for (uint32_t number = 0; number < geometry->shards; number++) {
        struct shard *shard = (void *)(image + geometry->shards_at + (uint64_t)number * ARENA_SHARD_SIZE);
        struct stripe *stripe = (void *)(image + geometry->stripes_at + (uint64_t)number * ARENA_STRIPE_SIZE);
        atomic_store(&shard->seq, 0);
        atomic_store(&stripe->seq, 0);
        shard->lsn = 0;
    }
}

static void judge_second_recovery(struct judge *judge)
{
    recover_all(judge->survivor);
    const char *found = judge_invariants(judge->survivor);
    if (found)
        judge_fail(judge, "after a second recovery: %s", found);
    take_image(judge, judge->first);
    recover_all(judge->survivor);
    take_image(judge, judge->second);
    size_t at = 0;
    if (memcmp(judge->first, judge->second, judge->length) == 0)
        return;
    while (judge->first[at] == judge->second[at])
        at++;
    judge_fail(judge, "a second recovery changes byte %zu of the table", at);
}

/* ---- old or new ---- */

static bool judge_group(struct judge *judge, int group, bool *is_new)
{
    const struct world *world = judge->world;
    bool old = true, new = true, changes = false;
    for (unsigned i = 0; i < world->count; i++) {
        if (world->members[i].group != group)
            continue;
        old &= judge_same(&judge->now[i], &judge->old[i], true);
        new &= judge_same(&judge->now[i], &judge->new[i], true);
        changes |= !judge_same(&judge->old[i], &judge->new[i], true);
    }
    *is_new = new;
    if (!old && !new)
        for (unsigned i = 0; i < world->count; i++)
            if (world->members[i].group == group)
                fail_sight(judge, i, "neither all old nor all new");
    return changes;
}

void judge_sights(struct judge *judge, bool must_be_new)
{
    const struct world *world = judge->world;
    int last = 0;
    for (unsigned i = 0; i < world->count; i++) {
        int group = world->members[i].group;
        bool old = judge_same(&judge->now[i], &judge->old[i], group != WORLD_BYSTANDER);
        bool new = judge_same(&judge->now[i], &judge->new[i], group != WORLD_BYSTANDER);
        last = group > last ? group : last;
        if (group == WORLD_IN_STEPS && !must_be_new)
            old = between(&judge->now[i], &judge->old[i], &judge->new[i]);
        if (must_be_new ? !new : !old && !new)
            fail_sight(judge, i, must_be_new ? "is not new though the operation returned" : "is neither old nor new");
    }
    bool before_is_new = true;
    for (int group = 1; group <= last; group++) {
        bool is_new;
        if (!judge_group(judge, group, &is_new))
            continue;
        if (is_new && !before_is_new)
            judge_fail(judge, "group %d is new, one before it is not", group);
        before_is_new = is_new;
    }
}

/* ---- a state ---- */

void judge_put(struct judge *judge, const uint8_t *state)
{
    memcpy(judge->bytes, state, judge->length);
}

bool judge_reap(struct judge *judge)
{
    for (unsigned i = 0; i < judge->dead_count; i++)
        if (!process_reap(&judge->survivor->arena.process, judge->dead[i])) {
            judge_fail(judge, "the death of process slot %u is not seen", judge->dead[i]);
            return false;
        }
    return true;
}

static void judge_table(struct judge *judge, struct sessile *table, bool must_be_new)
{
    const char *found = check_invariants(table, true);
    if (found)
        judge_fail(judge, "%s", found);
    judge_look(table, judge->world, judge->now);
    judge_sights(judge, must_be_new);
    found = judge_invariants(table);
    if (found)
        judge_fail(judge, "after use: %s", found);
}

static void judge_by_attach(struct judge *judge, const uint8_t *state, bool must_be_new)
{
    struct sessile_options options = judge->world->options;
    struct sessile_problem problem;
    struct sessile *table;
    options.path = judge->attach_path;
    int file = open(judge->attach_path, O_RDWR | O_CLOEXEC);
    uint8_t *bytes = mmap(NULL, judge->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || bytes == MAP_FAILED)
        world_fail("cannot map %s", judge->attach_path);
    memcpy(bytes, state, judge->length);
    munmap(bytes, judge->size);
    close(file);
    enum sessile_status status = sessile_open(&options, &table, &problem);
    judge->attached++;
    if (status != SESSILE_OK) {
        judge_fail(judge, "attach answered %s", sessile_status_name(status));
        return;
    }
    judge_table(judge, table, must_be_new);
    sessile_close(table);
}

/* ---- work after a recovery ---- */

/* New ids for the work, all in one shard but for every fourth. */
static void choose_ids(struct judge *judge)
{
    const struct world *world = judge->world;
    const struct member *near = &world->members[world->fresh ? world->fresh : world->target];
    uint32_t shard = shard_number(judge->survivor, near->session.digest);
    unsigned count = 0;
    for (unsigned i = 0; count < JUDGE_IDS; i++) {
        uint8_t digest[SESSILE_DIGEST_SIZE];
        char *id = judge->ids[count];
        snprintf(id, sizeof judge->ids[0], "afterwards%022u", i);
        if (sessile_digest(judge->survivor, 0, id, SESSILE_ID_LENGTH, digest) &&
            (count % 4 == 3 || shard_number(judge->survivor, digest) == shard))
            count++;
    }
}

/* Owned ones with `alice`, in all classes. What was stored is ended again. */
static void store_anew(struct judge *judge, unsigned nth)
{
    static const uint32_t lengths[] = {2500, 20, 160, 2500, 420, 1500, 5000};
    const struct world *world = judge->world;
    struct sessile_session session;
    struct sessile_content content = {.fields = world->bytes, .fields_length = lengths[nth % 7]};
    if (nth % 2) {
        content.owner = (const uint8_t *)"alice";
        content.owner_length = 5;
    }
    enum sessile_status status = sessile_create(judge->survivor, &world_call, judge->ids[nth], &content, &session);
    judge->stored[nth] = status == SESSILE_OK;
    judge->sessions[nth] = session;
    if (status != SESSILE_OK && status != SESSILE_FULL)
        judge_fail(judge, "a create afterwards answers %s", sessile_status_name(status));
}

static void end_anew(struct judge *judge, unsigned nth)
{
    struct sessile_reference reference = {.handle = judge->sessions[nth].handle};
    memcpy(reference.digest, judge->sessions[nth].digest, sizeof reference.digest);
    enum sessile_status status = sessile_remove(judge->survivor, &world_call, &reference, SESSILE_DESTROYED);
    /* At capacity one of the others may have taken its place. */
    if (status != SESSILE_OK && status != SESSILE_GONE)
        judge_fail(judge, "a remove afterwards answers %s", sessile_status_name(status));
}

/* Changes or ends the session of a member; what is not there answers so. */
static void change(struct judge *judge, unsigned nth)
{
    const struct member *member = &judge->world->members[nth % judge->world->count];
    struct sessile_reference reference = world_reference(member);
    struct sessile_session session;
    struct sessile_content content = {.fields = judge->world->bytes, .fields_length = nth * 37 % 2000,
                                      .idle_ms = SESSILE_KEEP, .absolute_ms = SESSILE_KEEP};
    enum sessile_status status = SESSILE_GONE;
    if (member->session.handle != 0 && nth % 3 == 0)
        status = sessile_remove(judge->survivor, &world_call, &reference, SESSILE_DESTROYED);
    else if (member->session.handle != 0)
        status = sessile_update(judge->survivor, &world_call, &reference, member->session.version, 0, &content, &session);
    if (status != SESSILE_OK && status != SESSILE_GONE && status != SESSILE_CHANGED && status != SESSILE_FULL &&
        status != SESSILE_EXPIRED)
        judge_fail(judge, "work afterwards answers %s", sessile_status_name(status));
}

/* A table that looks sound is of no use if the next operations break it. */
static void judge_work(struct judge *judge)
{
    for (unsigned i = 0; i < JUDGE_IDS; i++) {
        store_anew(judge, i);
        change(judge, (unsigned)judge->judged * 5 + i * 7);
    }
    for (unsigned i = 0; i < JUDGE_IDS; i++)
        if (judge->stored[i])
            end_anew(judge, i);
    const char *found = judge_invariants(judge->survivor);
    if (found)
        judge_fail(judge, "after work: %s", found);
}

static void judge_one(struct judge *judge, const uint8_t *state, bool must_be_new)
{
    judge->judged++;
    judge_put(judge, state);
    if (!judge_reap(judge))
        return;
    judge_table(judge, judge->survivor, must_be_new);
    const char *found = judge->scene->also ? judge->scene->also(judge->survivor, judge->world) : NULL;
    if (found)
        judge_fail(judge, "%s", found);
    judge_second_recovery(judge);
    if (judge->work_every && judge->judged % judge->work_every == 0)
        judge_work(judge);
    if (judge->attach_every && judge->judged % judge->attach_every == 0)
        judge_by_attach(judge, state, must_be_new);
}

void judge_state(struct judge *judge, const uint8_t *state)
{
    judge_one(judge, state, false);
}

void judge_end_state(struct judge *judge, const uint8_t *state, enum sessile_status answer)
{
    if (answer != judge->answer)
        judge_fail(judge, "the operation answered %s; without the tracer %s", sessile_status_name(answer),
             sessile_status_name(judge->answer));
    judge_one(judge, state, true);
}

/* ---- beginning and end ---- */

static void make_file(const char *path, const uint8_t *state, size_t size)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size) < 0)
        world_fail("cannot make %s", path);
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        world_fail("cannot map %s", path);
    memcpy(bytes, state, size);
    munmap(bytes, size);
    close(file);
}

static size_t used_length(const uint8_t *state, size_t size)
{
    while (size > 0 && state[size - 1] == 0)
        size--;
    return size;
}

void judge_begin(struct judge *judge, const struct scene *scene, const struct world *world, const uint8_t *state,
                 size_t size, const uint32_t *dead, unsigned dead_count)
{
    struct sessile_options options = world->options;
    struct sessile_problem problem;
    memset(judge, 0, sizeof *judge);
    judge->scene = scene;
    judge->world = world;
    judge->size = size;
    judge->length = used_length(state, size) + SLACK < size ? (used_length(state, size) + SLACK) & ~(size_t)4095 : size;
    judge->dead_count = dead_count;
    memcpy(judge->dead, dead, dead_count * sizeof *dead);
    snprintf(judge->path, sizeof judge->path, "%s/copy", world->directory);
    snprintf(judge->attach_path, sizeof judge->attach_path, "%s/attach", world->directory);
    make_file(judge->path, state, size);
    make_file(judge->attach_path, state, size);
    judge->file = open(judge->path, O_RDWR | O_CLOEXEC);
    judge->old = calloc(world->count, sizeof *judge->old);
    judge->new = calloc(world->count, sizeof *judge->new);
    judge->now = calloc(world->count, sizeof *judge->now);
    judge->first = malloc(size);
    judge->second = malloc(size);
    if (judge->file < 0 || !judge->old || !judge->new || !judge->now || !judge->first || !judge->second)
        world_fail("no memory for the judge");
    options.path = judge->path;
    if (sessile_open(&options, &judge->survivor, &problem) != SESSILE_OK)
        world_fail("the survivor cannot attach");
    judge->bytes = judge->survivor->arena.base;
    choose_ids(judge);
    judge_put(judge, state);
    judge_reap(judge);
    judge_look(judge->survivor, world, judge->old);
    judge_put(judge, state);
    if (scene->from_opening)
        judge_reap(judge);
    judge->answer = scene->from_opening ? SESSILE_OK : scene->act(judge->survivor, world);
    judge_look(judge->survivor, world, judge->new);
    if (judge->answer != SESSILE_OK)
        judge_fail(judge, "the operation answers %s", sessile_status_name(judge->answer));
    for (unsigned i = 0; i < world->count; i++)
        if (world->members[i].group == WORLD_BYSTANDER && !judge_same(&judge->old[i], &judge->new[i], false))
            fail_sight(judge, i, "changes though it is none of the operation's");
}

void judge_end(struct judge *judge)
{
    /* What was never copied was never written to, or the copies were no copies. */
    if (used_length(judge->bytes, judge->size) > judge->length)
        world_fail("%s: the table was written to beyond what is copied", judge->scene->name);
    sessile_close(judge->survivor);
    close(judge->file);
    unlink(judge->path);
    unlink(judge->attach_path);
    free(judge->old);
    free(judge->new);
    free(judge->now);
    free(judge->first);
    free(judge->second);
}
