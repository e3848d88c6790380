/* fuzz.c - any bytes in the mapping: an error or a damaged record, never an access outside it, never an endless loop.
 *
 *     fuzz [--runs N] [--seed N]    numbered inputs from a seed
 *     fuzz FILE …                   inputs from files
 *
 * With -DLIBFUZZER this is a target of libFuzzer. An input is a list of changes to a table that holds something of everything;
 * checksums are repaired, so that what reads the table gets past them. Then a process attaches and does everything that
 * the contract offers. The mapping lies between two regions that may not be touched; sanitizers watch the rest. After a check
 * with repair another check finds nothing, and the table stores new sessions.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "owner.h"
#include "world.h"

#define GUARD ((size_t)16 << 30)
#define CHANGES_MAX 24u
#define SECONDS_MAX 20

static struct world *world;
static uint8_t *original, *bytes;  /* the table as it was made; its file, mapped */
static size_t size;
static struct geometry geometry;
static uint64_t current_seed, attached;

static struct {
    uint32_t number, size;
} slots[4096];                     /* of records in the original */
static unsigned slot_count;

/* ---- guards ---- */

static uint8_t *guarded;           /* a region that may not be touched, with room for a table in its middle */

/* An offset that leads out of the table leads into the guards, and is a crash. */
static void *between_guards(void *base, size_t length)
{
    void *moved = mremap(base, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, guarded + GUARD);
    if (moved == MAP_FAILED)
        world_fail("the table cannot be moved");
    return moved;
}

static void reserve_guards(void)
{
    guarded = mmap(NULL, 2 * GUARD + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guarded == MAP_FAILED)
        world_fail("no room for guards");
    doors.mapped = between_guards;
}

static void close_gap(void)
{
    if (mmap(guarded + GUARD, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        world_fail("the guards cannot be closed");
}

/* ---- the table that is changed ---- */

static void add_sessions(void)
{
    static const uint32_t lengths[] = {10, 158, 400, 900, 2500, 3900, 9000};
    static const char *const owners[] = {NULL, "alice", "bob", "carol"};
    for (unsigned i = 0; i < 60; i++)
        world_add(world, owners[i % 4], lengths[i % 7], WORLD_BYSTANDER);
    for (unsigned i = 0; i < 14; i++)
        world_add(world, "dave", 20, WORLD_BYSTANDER);
    for (unsigned i = 3; i < 60; i += 5)
        world_remove(world, i);
}

static void add_rotations(void)
{
    unsigned from[6], to[6];
    for (unsigned i = 0; i < 6; i++)
        from[i] = world_add(world, i == 5 ? NULL : "erin", 50, WORLD_BYSTANDER);
    for (unsigned i = 0; i < 6; i++) {
        to[i] = world_id(world, WORLD_ANYWHERE, WORLD_ANYWHERE);
        world_present(world, from[i]);
        world_rotate(world, from[i], to[i], i < 3 ? SESSILE_RENEW : i == 3 ? SESSILE_LOGIN : SESSILE_ROTATE, "erin");
    }
    world_present(world, to[0]);
    /* A child whose rotation was never decided, and one that was committed and not promoted. */
    for (unsigned i = 1; i < 3; i++) {
        struct hold hold;
        struct record *record;
        if (shard_enter(world->table, shard_number(world->table, world->members[to[i]].session.digest), 10, &hold) !=
                SESSILE_OK || shard_find(&hold, world->members[to[i]].session.digest, &record) == 0)
            world_fail("no child");
        record->terms = record_of_kind(record->terms, RECORD_PENDING);
        shard_leave(&hold);
    }
}

static void note_slots(void)
{
    const struct arena *arena = &world->table->arena;
    for (uint32_t holder = 0; holder < arena->geometry.shards; holder++) {
        struct arena_page page;
        for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);)
            for (uint32_t i = 0; i < page.slots && slot_count < 4096; i++) {
                slots[slot_count].number = arena_slot_of(arena, page.unit, i, page.size);
                slots[slot_count++].size = page.size;
            }
    }
}

/* The file, and once its name was taken away (a table of another boot is buried) another one. */
static void map_file(void)
{
    struct stat facts;
    int file = open(world->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || fstat(file, &facts) < 0 || (size && ftruncate(file, (off_t)size) < 0))
        world_fail("no file");
    if (bytes)
        munmap(bytes, size);
    size = size ? size : (size_t)facts.st_size;
    bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        world_fail("no memory");
    close(file);
}

static void timed_out(int number)
{
    (void)number;
    static const char text[] = "FAILED: an operation does not end\n";
    (void)!write(2, text, sizeof text - 1);
    abort();
}

static void at_exit(void)
{
    if (world)
        world_end(world);
}

static void prepare(void)
{
    uint64_t least;
    world = malloc(sizeof *world);
    if (!world)
        world_fail("no memory");
    world_begin(world, 300, SESSILE_MEMORY_MIN, 0.8, 1);
    atexit(at_exit);
    add_sessions();
    add_rotations();
    note_slots();
    world_close(world);
    map_file();
    original = malloc(size);
    if (!original)
        world_fail("no memory");
    memcpy(original, bytes, size);
    if (!arena_geometry(&geometry, 300, SESSILE_MEMORY_MIN, 0.8, &least))
        world_fail("no geometry");
    signal(SIGALRM, timed_out);
    reserve_guards();
}

/* ---- changes ---- */

struct input {
    const uint8_t *next, *end;
};

static uint64_t take(struct input *input, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count && input->next < input->end; i++)
        value |= (uint64_t)*input->next++ << (8 * i);
    return value;
}

/* A place within one kind of structure, where that is in use. */
static size_t place_of(unsigned region, uint32_t choice)
{
    uint64_t shard = choice % geometry.shards, at = choice >> 8;
    uint32_t used = ((struct arena_header *)(void *)original)->used_units;
    switch (region % 12) {
    case 0: return at % sizeof(struct arena_header);
    case 1: return (size_t)(geometry.processes + at % (8 * sizeof(struct process_slot)));
    case 2: return (size_t)(geometry.shards_at + shard * ARENA_SHARD_SIZE + at % 128);
    case 3: return (size_t)(geometry.shards_at + shard * ARENA_SHARD_SIZE + at % sizeof(struct shard));
    case 4: return (size_t)(geometry.stripes_at + shard * ARENA_STRIPE_SIZE + at % sizeof(struct stripe));
    case 5: return (size_t)(geometry.shard_index + shard * geometry.index_entries * 8 + at % (geometry.index_entries * 8));
    case 6: return (size_t)(geometry.stripe_index + shard * geometry.index_entries * 8 + at % (geometry.index_entries * 8));
    case 7: return (size_t)(geometry.directory + at % (((uint64_t)used + 8) * 8));
    case 8: return (size_t)(geometry.pages + at % (((uint64_t)used + 8) * sizeof(struct page)));
    case 9: return (size_t)(geometry.free_units + at % (geometry.units / 8));
    case 10: return (size_t)(geometry.data + at * 8 % ((uint64_t)used * geometry.unit_size));
    default: return (size_t)(geometry.data + at % ((uint64_t)used * geometry.unit_size / 64) * 64 + choice % 96);
    }
}

static uint64_t value_of(unsigned how, uint64_t value, uint64_t old)
{
    static const uint64_t edges[] = {0, 1, 2, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~0ull, 0x8000000000000000,
                                     0x7fffffffffffffff, 4096, 512, 513, 256, 1024};
    switch (how % 8) {
    case 0: return old ^ (uint64_t)1 << (value % 64);
    case 1: return edges[value % 16];
    case 2: return old + value % 9 - 4;
    case 3: return geometry.first_slot + value;
    case 4: return geometry.end_slot - value % 70;
    case 5: return old & ~(uint64_t)0xffffffff;
    case 6: return value;
    default: return value * 0x9e3779b97f4a7c15u;
    }
}

static void change(struct input *input)
{
    unsigned region = (unsigned)take(input, 1), how = (unsigned)take(input, 1);
    uint32_t choice = (uint32_t)take(input, 4);
    uint64_t value = take(input, 2), old = 0;
    unsigned width = 1u << (how >> 6);
    size_t at = place_of(region, choice) & ~(size_t)(width - 1);
    if (at + width > size)
        return;
    if ((how >> 3) % 8 == 7) {
        /* One structure in the place of another. */
        size_t from = place_of(region, (uint32_t)value * 2654435761u) & ~(size_t)63, to = at & ~(size_t)63;
        if (from + 64 <= size && to + 64 <= size)
            memmove(bytes + to, bytes + from, 64);
        return;
    }
    memcpy(&old, bytes + at, width);
    old = value_of(how, value, old);
    memcpy(bytes + at, &old, width);
}

/* The checksums of the header's constants and of every record where the original has a slot. */
static void repair_checksums(void)
{
    struct arena_header *header = (struct arena_header *)(void *)bytes;
    header->constants_checksum = crc32c(0, header, offsetof(struct arena_header, constants_checksum));
    for (unsigned i = 0; i < slot_count; i++) {
        struct record *record = (void *)(bytes + (uint64_t)slots[i].number * ARENA_SLOT);
        uint64_t commit = atomic_load(&record->commit);
        if (record_is_live(commit) && RECORD_HEADER + record_payload_length(record->lengths) <= slots[i].size)
            atomic_store(&record->commit, (commit & ~(uint64_t)0xffffffff) | record_checksum(record, record->lengths));
    }
}

/* ---- everything that the contract offers ---- */

static uint8_t buffer[1 << 17], sink_room[1 << 14];

static struct sessile_call a_call(struct sessile_sink *sink)
{
    *sink = (struct sessile_sink){.buffer = sink_room, .capacity = sizeof sink_room};
    return (struct sessile_call){.wait_ms = 20, .sink = sink};
}

#define IGNORE(status) ((void)!(status))

static void use_member(struct sessile *table, unsigned number)
{
    struct sessile_sink sink;
    struct sessile_call call = a_call(&sink);
    const struct member *member = &world->members[number];
    struct sessile_reference reference = world_reference(member);
    struct sessile_session session = member->session;
    struct sessile_content content = world_content(world, number, 3, number * 97 % 5000);
    char id[SESSILE_ID_LENGTH + 1];
    uint64_t handle;
    snprintf(id, sizeof id, "fuzz%028u", number);
    IGNORE(sessile_load(table, &call, member->id, SESSILE_ID_LENGTH, number % 4, &session, buffer, sizeof buffer));
    IGNORE(sessile_read(table, &call, &reference, number % 2, &session, number % 3 ? buffer : NULL,
                        number % 3 ? sizeof buffer : 0));
    IGNORE(sessile_collect(table, &call, reference.digest));
    if (number % 5 == 0)
        IGNORE(sessile_remove(table, &call, &reference, SESSILE_DESTROYED));
    else if (number % 5 == 1)
        IGNORE(sessile_rotate(table, &call, &reference, session.version, (enum sessile_rotation)(number / 5 % 3), id,
                              number / 5 % 3 == SESSILE_RENEW ? world->bytes : NULL,
                              number / 5 % 3 == SESSILE_RENEW ? NULL : &content, &session));
    else if (number % 5 == 2)
        IGNORE(sessile_end_theft(table, &call, reference.digest, &handle));
    else
        IGNORE(sessile_update(table, &call, &reference, session.version, 0, &content, &session));
}

static void use_all(struct sessile *table)
{
    static const char *const owners[] = {"alice", "bob", "dave", "erin", "nobody"};
    struct sessile_sink sink;
    struct sessile_call call = a_call(&sink);
    struct sessile_stats stats;
    uint64_t count;
    size_t length;
    for (unsigned i = 0; i < world->count; i++)
        use_member(table, i);
    for (unsigned i = 0; i < 5; i++) {
        IGNORE(sessile_owner_list(table, &call, (const uint8_t *)owners[i], (uint32_t)strlen(owners[i]), buffer, sizeof buffer,
                                  &count, &length));
        IGNORE(sessile_owner_revoke(table, &call, (const uint8_t *)owners[i], (uint32_t)strlen(owners[i]), i == 2, 0, &count));
    }
    for (uint32_t shard = 0; shard <= geometry.shards; shard++)
        IGNORE(sessile_scan(table, &call, shard, buffer, sizeof buffer, &count, &length));
    sessile_advance(table, 12000);
    IGNORE(sessile_sweep(table, &call, 50, &count));
    sessile_stats(table, &stats);
}

struct findings {
    char first[200];
    bool no_room;                  /* a repair wanted memory that the table does not have */
};

/* Where a changed header says that less is allowed than is lent, no repair can know better (A3). */
static void note(void *context, const char *finding)
{
    struct findings *findings = context;
    findings->no_room |= strstr(finding, "no room") != NULL;
    if (findings->first[0] == 0 && strncmp(finding, "A3", 2) != 0)
        snprintf(findings->first, sizeof findings->first, "%s", finding);
}

/* After a check with repair there is nothing to be found, and the table stores. */
static void repair(struct sessile *table)
{
    struct sessile_session session;
    uint64_t count;
    struct findings repaired = {.no_room = false}, left = {.no_room = false};
    enum sessile_status status = SESSILE_OK;
    for (unsigned i = 0; i < 4 && status == SESSILE_OK; i++)
        status = sessile_check(table, &world_call, true, note, &repaired, &count);
    if (status == SESSILE_OK)
        status = sessile_check(table, &world_call, false, note, &left, &count);
    if (status == SESSILE_OK && left.first[0] && !(repaired.no_room && strncmp(left.first, "O1", 2) == 0)) {
        fprintf(stderr, "FAILED: after repairs: %s\n", left.first);
        abort();
    }
    if (status != SESSILE_OK)
        return;    /* a lock that names a living process */
    struct sessile_content content = {.fields = world->bytes, .fields_length = 100};
    status = sessile_create(table, &world_call, "a-session-that-is-stored-at-last", &content, &session);
    if (status != SESSILE_OK && status != SESSILE_FULL && status != SESSILE_EXISTS && status != SESSILE_BUSY) {
        fprintf(stderr, "FAILED: after repairs a create answers %s\n", sessile_status_name(status));
        abort();
    }
}

static void attach_and_use(void)
{
    struct sessile_options options = world->options;
    struct sessile_problem problem;
    struct sessile *table;
    options.must_exist = true;
    if (sessile_open(&options, &table, &problem) != SESSILE_OK) {
        close_gap();
        return;
    }
    attached++;
    use_all(table);
    repair(table);
    sessile_close(table);
    close_gap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (!world)
        prepare();
    struct input input = {data, data + length};
    struct itimerval limit = {.it_value = {.tv_sec = SECONDS_MAX}};
    setitimer(ITIMER_REAL, &limit, NULL);
    if (access(world->path, F_OK) != 0)
        map_file();
    memcpy(bytes, original, size);
    doors.clock_ms = 1000000000;
    for (unsigned i = 0; i < CHANGES_MAX && input.next < input.end; i++)
        change(&input);
    repair_checksums();
    attach_and_use();
    return 0;
}

#ifndef LIBFUZZER
static void run_seed(uint64_t seed)
{
    uint8_t data[CHANGES_MAX * 8];
    uint64_t state = seed;
    current_seed = seed;
    size_t length = 8 * (1 + world_random(&state) % (seed % 4 ? 4 : CHANGES_MAX));
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)world_random(&state);
    LLVMFuzzerTestOneInput(data, length);
}

static void run_file(const char *path)
{
    uint8_t data[CHANGES_MAX * 8];
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t length = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, length);
}

static void say_seed(int number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "FAILED with seed %" PRIu64 "\n", current_seed);
    (void)!write(2, text, (size_t)length);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int count, char **arguments)
{
    uint64_t runs = 0, seed = 0, files = 0;
    signal(SIGABRT, say_seed);
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--runs") == 0 && i + 1 < count)
            runs = strtoull(arguments[++i], NULL, 10);
        else if (strcmp(arguments[i], "--seed") == 0 && i + 1 < count)
            seed = strtoull(arguments[++i], NULL, 10);
        else {
            run_file(arguments[i]);
            files++;
        }
    }
    for (uint64_t i = 0; i < runs; i++)
        run_seed(seed + i);
    printf("%" PRIu64 " inputs, seeds from %" PRIu64 ", %" PRIu64 " files, %" PRIu64 " of them attached to, 0 failures\n", runs,
           seed, files, attached);
    return 0;
}
#endif
