/* opening.c - sessile_open(), sessile_close(), the child of a fork, and taking over from the dead.
 *
 * A table is made complete (header, shards, first reservation) before anybody else can see it; there is no state in
 * between. Constants of the header lie under a checksum and are copied once into struct geometry, against which every
 * later access is checked.
 */
#include "home.h"
#include "table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define OPEN_TRIES 100
#define SETTLE_WAIT_MS 1000
#define SETTLE_ALONE 64u                  /* shards of a table that a second thread is not worth its start for */

/* ---- taking over ---- */

static void repair_pool(struct sessile *table)
{
    struct arena_header *header = table->arena.header;
    if (!(atomic_load(&header->pool_seq) & 1))
        return;
    arena_rebuild_units(&table->arena);
    atomic_fetch_add(&header->pool_seq, 1);
}

/* The lock of each is ours by now. An even `seq` says that its dead owner had not begun to write. */
static void repair_shard(struct sessile *table, uint32_t number)
{
    if (atomic_load(&shard_at(table, number)->seq) & 1)
        shard_recover(table, number);
}

static void repair_stripe(struct sessile *table, uint32_t number)
{
    if (atomic_load(&stripe_at(table, number)->seq) & 1)
        owner_recover(table, number);
}

static void take_over(void *context, uint32_t dead_slot, uint32_t me)
{
    struct sessile *table = context;
    struct lock *pool = &table->arena.header->pool_lock;
    if (lock_steal(pool, dead_slot, me)) {
        repair_pool(table);
        lock_drop(pool);
    }
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        if (lock_steal(&shard_at(table, number)->lock, dead_slot, me)) {
            repair_shard(table, number);
            lock_drop(&shard_at(table, number)->lock);
        }
        if (lock_steal(&stripe_at(table, number)->lock, dead_slot, me)) {
            repair_stripe(table, number);
            lock_drop(&stripe_at(table, number)->lock);
        }
    }
}

static void waited(void *context, uint32_t word)
{
    struct arena *arena = context;
    if (lock_owner_slot(word) != lock_owner_slot(arena_me(arena)))
        process_reap(&arena->process, lock_owner_slot(word));
}

/* Did somebody die inside a lock or a write? To be asked before join(), which may itself take over from the dead. */
static bool is_unclean(const struct sessile *table)
{
    const struct arena *arena = &table->arena;
    const struct arena_header *header = arena->header;
    bool unclean = atomic_load(&header->pool_lock.word) != 0 || atomic_load(&header->pool_seq) & 1;
    for (uint32_t number = 0; !unclean && number < arena->geometry.shards; number++)
        unclean = atomic_load(&shard_at(table, number)->lock.word) != 0 || atomic_load(&shard_at(table, number)->seq) & 1 ||
                  atomic_load(&stripe_at(table, number)->lock.word) != 0 || atomic_load(&stripe_at(table, number)->seq) & 1;
    return unclean;
}

struct settling {
    struct sessile *table;
    _Atomic uint32_t next;         /* number of the shard, and of the stripe, that whoever is idle takes next */
};

static void settle_next(void *context)
{
    struct settling *settling = context;
    struct sessile *table = settling->table;
    uint32_t number;
    while ((number = atomic_fetch_add(&settling->next, 1)) < table->arena.geometry.shards) {
        struct hold hold;
        struct stripe_hold stripe;
        if (shard_enter(table, number, SETTLE_WAIT_MS, &hold) == SESSILE_OK) {
            shard_recover(table, number);
            shard_leave(&hold);
        }
        if (stripe_enter(table, number, SETTLE_WAIT_MS, &stripe) == SESSILE_OK) {
            owner_recover(table, number);
            owner_leave(&stripe);
        }
    }
}

/* After an unclean end, with nobody else attached: everything is checked and made anew, so that the first requests need
 * not. What a living process holds a lock of for a moment looks the same, but then it is attached. Shards are independent of
 * each other: a large table's are done by two threads. */
static void settle(struct sessile *table)
{
    struct arena *arena = &table->arena;
    struct settling settling = {.table = table};
    if (process_count(&arena->process) != 1)
        return;
    arena_order_pages(arena);
    if (arena->geometry.shards < SETTLE_ALONE)
        settle_next(&settling);
    else
        system_both(settle_next, &settling);
    arena_forget_order(arena);
    shard_recount(table);
}

/* ---- the child of a fork ---- */

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sessile *tables;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&tables_lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&tables_lock);
}

/* At once, because later the child may have given up the right to reopen the file (setuid), or its descriptor. */
static void after_fork_in_child(void)
{
    for (struct sessile *table = tables; table; table = table->next) {
        table->created_here = false;
        if (table->arena.process.descriptor >= 0 && process_attach(&table->arena.process) != SESSILE_OK)
            table->problem = (struct sessile_problem){.error = EBADF, .operation = "attach after fork"};
    }
    pthread_mutex_unlock(&tables_lock);
}

static void register_fork(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void list_table(struct sessile *table)
{
    pthread_once(&registered, register_fork);
    pthread_mutex_lock(&tables_lock);
    table->next = tables;
    tables = table;
    pthread_mutex_unlock(&tables_lock);
}

static void unlist_table(const struct sessile *table)
{
    pthread_mutex_lock(&tables_lock);
    struct sessile **link = &tables;
    while (*link && *link != table)
        link = &(*link)->next;
    if (*link)
        *link = table->next;
    pthread_mutex_unlock(&tables_lock);
}

/* ---- keys ---- */

static uint64_t key_id(const struct digest_key *key)
{
    static const uint8_t label[] = "sessile key id";
    uint8_t digest[32];
    digest_text(key, label, sizeof label - 1, digest);
    return record_prefix(digest) | 1;
}

static enum sessile_status take_keys(struct sessile *table, const struct sessile_options *options)
{
    void *page;
    if (options->key_count > SESSILE_KEYS_MAX || system_secret_page(&page, system_page_size()) < 0)
        return SESSILE_NO_MEMORY;
    table->keys = page;
    table->key_count = options->key_count;
    for (unsigned i = 0; i < options->key_count; i++)
        digest_key_init(&table->keys->ids[i], options->keys[i]);
    return SESSILE_OK;
}

/* Is it the id of one of this process's keys? */
static bool is_ours(const struct sessile *table, uint64_t id)
{
    for (unsigned i = 0; i < table->key_count; i++)
        if (id == key_id(&table->keys->ids[i]))
            return true;
    return false;
}

static bool has_key(const struct arena_header *header, uint64_t id)
{
    for (unsigned i = 0; i < SESSILE_KEYS_MAX; i++)
        if (atomic_load(&header->key_ids[i]) == id)
            return true;
    return false;
}

/* The place of the key that was not attached with for longest, and is none of this process's: an empty one first. One of its
 * keys is unknown yet, so there is always such a place, unless others add its keys at this moment. *found: what was there. */
static unsigned oldest_key(const struct sessile *table, uint64_t *found)
{
    const struct arena_header *header = table->arena.header;
    unsigned oldest = SESSILE_KEYS_MAX;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < SESSILE_KEYS_MAX; i++) {
        uint64_t id = atomic_load(&header->key_ids[i]);
        uint64_t used = id == 0 ? 0 : atomic_load(&header->key_uses[i]);
        if (used < least && !is_ours(table, id)) {
            oldest = i;
            least = used;
            *found = id;
        }
    }
    return oldest;
}

static void note_use(struct arena_header *header, unsigned place)
{
    atomic_store(&header->key_uses[place], atomic_fetch_add(&header->key_clock, 1) + 1);
}

/* Adds the first key for others to see. The use of a key is noted before the key is stored, and read after it: of two
 * processes that add one at once, neither takes the other's place for the oldest. */
static void add_key(struct sessile *table, uint64_t id)
{
    struct arena_header *header = table->arena.header;
    while (!has_key(header, id)) {
        uint64_t old = 0;
        unsigned place = oldest_key(table, &old);
        if (place == SESSILE_KEYS_MAX)
            return;
        note_use(header, place);
        atomic_compare_exchange_strong(&header->key_ids[place], &old, id);
    }
}

/* One key in common makes a member. The table remembers the eight keys that were attached with last: secrets may be rotated
 * for as long as it lives. */
static enum sessile_status check_keys(struct sessile *table)
{
    struct arena_header *header = table->arena.header;
    bool known = table->key_count == 0;
    for (unsigned place = 0; place < SESSILE_KEYS_MAX; place++)
        if (is_ours(table, atomic_load(&header->key_ids[place]))) {
            known = true;
            note_use(header, place);
        }
    if (known && table->key_count > 0)
        add_key(table, key_id(&table->keys->ids[0]));
    return known ? SESSILE_OK : SESSILE_KEY;
}

/* ---- the mapping ---- */

static enum sessile_status failed(struct sessile_problem *problem, const char *operation, int error)
{
    problem->operation = operation;
    problem->error = error;
    return error == ENOMEM ? SESSILE_NO_MEMORY : error == ENOSPC ? SESSILE_NO_SPACE : SESSILE_SYSTEM;
}

static uint32_t constants_checksum(const struct arena_header *header)
{
    return crc32c(0, header, offsetof(struct arena_header, constants_checksum));
}

static enum sessile_status write_header(struct sessile *table, const struct sessile_options *options,
                                        struct sessile_problem *problem)
{
    struct arena_header *header = table->arena.header;
    header->magic = ARENA_MAGIC;
    header->format = ARENA_FORMAT;
    header->layout = arena_layout();
    header->capacity = options->capacity;
    header->memory = options->memory;
    header->anonymous_share_ppb = (uint64_t)(table->arena.geometry.anonymous_share * 1e9 + 0.5);
    header->time_namespace = system_time_namespace();
    header->origin_ms = system_clock_ms() - ARENA_ORIGIN_MS;
    (void)system_boot_id(header->boot_id);    /* zeroes where it is not to be had */
    int status = system_random(header->uuid, sizeof header->uuid);
    if (status == 0)
        status = system_random(header->owner_key, sizeof header->owner_key);
    if (status < 0)
        return failed(problem, "getrandom", -status);
    header->constants_checksum = constants_checksum(header);
    for (unsigned i = 0; i < table->key_count; i++) {
        note_use(header, i);
        atomic_store(&header->key_ids[i], key_id(&table->keys->ids[i]));
    }
    return SESSILE_OK;
}

static void write_shards(struct sessile *table)
{
    uint32_t tick = (uint32_t)(arena_now(&table->arena) / 1000);
    uint32_t most = table->arena.geometry.index_entries, active = INDEX_FIRST < most ? INDEX_FIRST : most;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        struct shard *shard = shard_at(table, number);
        shard->active = active;
        shard->tick = tick;
        shard->next_fire = WHEEL_NEVER;
        stripe_at(table, number)->active = active;
    }
    arena_rebuild_units(&table->arena);
}

static enum sessile_status map(struct sessile *table, const struct home_file *file, struct sessile_problem *problem)
{
    struct arena *arena = &table->arena;
    void *base;
    arena->home.descriptor = arena->process.descriptor = file->descriptor;    /* release() closes it, whatever fails */
    int status = system_map(file->descriptor, arena->geometry.size, &base);
    if (status < 0)
        return failed(problem, "mmap", -status);
    arena->base = base;
    arena->header = base;
    arena->home.identity = arena->process.identity = file->identity;
    arena->process.slots = (struct process_slot *)(void *)(arena->base + arena->geometry.processes);
    arena->process.take_over = take_over;
    arena->process.context = table;
    arena->watch = (struct lock_watch){.waited = waited, .context = arena};
    void *page;
    status = system_wiped_page(&page);
    if (status < 0)
        return failed(problem, "mmap", -status);
    arena->process.local = page;
    return SESSILE_OK;
}

/* Reserves the fixed part and the tail, then fills the new table. */
static enum sessile_status fill(struct sessile *table, const struct sessile_options *options, struct sessile_problem *problem)
{
    const struct geometry *geometry = &table->arena.geometry;
    int status = 0;
    if (table->arena.home.descriptor >= 0) {
        status = system_reserve(table->arena.home.descriptor, 0, geometry->data);
        if (status == 0)
            status = system_reserve(table->arena.home.descriptor, geometry->size - ARENA_TAIL, ARENA_TAIL);
    }
    if (status < 0)
        return failed(problem, "fallocate", -status);
    enum sessile_status written = write_header(table, options, problem);
    if (written != SESSILE_OK)
        return written;
    write_shards(table);
    status = arena_reserve(&table->arena, false);
    table->created_here = true;
    return status < 0 ? failed(problem, "fallocate", -status) : SESSILE_OK;
}

static void owner_key(struct sessile *table)
{
    digest_key_init(&table->keys->owner, table->arena.header->owner_key);
}

static enum sessile_status join(struct sessile *table, struct sessile_problem *problem)
{
    enum sessile_status status = process_attach(&table->arena.process);
    if (status == SESSILE_SYSTEM || status == SESSILE_DETACHED)
        problem->operation = "attach";
    return status;
}

/* ---- homes ---- */

static enum sessile_status open_private(struct sessile *table, const struct sessile_options *options,
                                        struct sessile_problem *problem)
{
    struct home_file file = {.descriptor = -1};
#ifndef SESSILE_PRIVATE_HOME
    int made = home_memory(table->arena.geometry.size, &file);
    if (made < 0)
        return failed(problem, "memfd_create", -made);
#endif
    enum sessile_status status = map(table, &file, problem);
    if (status == SESSILE_OK)
        status = fill(table, options, problem);
    if (status == SESSILE_OK) {
        owner_key(table);
        status = join(table, problem);
    }
    return status;
}

/* Reads and checks the constants of a file that is there. */
static enum sessile_status read_header(const struct home_file *file, struct geometry *geometry,
                                       struct sessile_problem *problem)
{
    void *page;
    uint64_t size = home_size(file), least;
    problem->wanted = ARENA_FORMAT;
    problem->found = 0;
    if (size < ARENA_HEADER_SIZE)
        return SESSILE_FORMAT;
    int status = system_map(file->descriptor, ARENA_HEADER_SIZE, &page);
    if (status < 0)
        return failed(problem, "mmap", -status);
    const struct arena_header *header = page;
    enum sessile_status answer = SESSILE_OK;
    problem->found = header->magic == ARENA_MAGIC ? header->format : 0;
    if (header->magic != ARENA_MAGIC || header->format != ARENA_FORMAT || header->layout != arena_layout() ||
        header->constants_checksum != constants_checksum(header) ||
        !arena_geometry(geometry, header->capacity, header->memory, (double)header->anonymous_share_ppb / 1e9, &least) ||
        geometry->size != size)
        answer = SESSILE_FORMAT;
    uint8_t boot[16];
    uint64_t here = system_time_namespace();
    if (answer == SESSILE_OK && system_boot_id(boot) == 0) {
        uint8_t differs = 0;
        for (size_t i = 0; i < sizeof boot; i++)
            differs |= boot[i] ^ header->boot_id[i];
        if (differs)
            answer = SESSILE_GONE;    /* of an earlier boot */
    }
    if (answer == SESSILE_OK && here != 0 && header->time_namespace != 0 && here != header->time_namespace) {
        problem->operation = "time namespace";
        answer = SESSILE_BOOT;
    }
    system_unmap(page, ARENA_HEADER_SIZE);
    return answer;
}

/* A table of an earlier boot with nobody attached: its name is free for a new one. */
static bool bury(const char *path, const struct home_file *file)
{
    int descriptor = system_reopen(file->descriptor);
    if (descriptor < 0)
        return false;
    bool nobody = true;
    for (uint32_t slot = 0; nobody && slot < SESSILE_PROCESSES_MAX; slot++)
        nobody = system_byte_lock(descriptor, PROCESS_BYTES_AT + slot) == 0;
    if (nobody)
        home_forget(path, file);
    system_close(descriptor);
    return nobody;
}

static enum sessile_status attach_file(struct sessile *table, const struct sessile_options *options,
                                       const struct home_file *file, struct sessile_problem *problem)
{
    enum sessile_status status = read_header(file, &table->arena.geometry, problem);
    if (status == SESSILE_GONE)
        return bury(options->path, file) ? SESSILE_CHANGED : SESSILE_BOOT;
    if (status == SESSILE_OK)
        status = map(table, file, problem);
    if (status == SESSILE_OK)
        status = check_keys(table);
    bool unclean = status == SESSILE_OK && is_unclean(table);
    if (status == SESSILE_OK) {
        owner_key(table);
        status = join(table, problem);
    }
    if (status == SESSILE_OK && !home_is_named(options->path, file))
        return SESSILE_CHANGED;
    if (status == SESSILE_OK && unclean)
        settle(table);
    return status;
}

static enum sessile_status create_file(struct sessile *table, const struct sessile_options *options,
                                       struct sessile_problem *problem)
{
    struct home_file file;
    enum sessile_status status = home_make(options->path, table->arena.geometry.size, &file, problem);
    if (status != SESSILE_OK)
        return status;
    status = map(table, &file, problem);
    if (status == SESSILE_OK)
        status = fill(table, options, problem);
    if (status == SESSILE_OK) {
        owner_key(table);
        status = join(table, problem);
    }
    if (status == SESSILE_OK)
        status = home_name(options->path, &file, problem);
    return status == SESSILE_EXISTS ? SESSILE_CHANGED : status;
}

static void release(struct sessile *table)
{
    struct arena *arena = &table->arena;
    if (arena->process.local) {
        process_detach(&arena->process);
        system_unmap(arena->process.local, system_page_size());
    }
    if (arena->base)
        system_unmap(arena->base, arena->geometry.size);
    if (arena->home.descriptor >= 0)
        system_close(arena->home.descriptor);
    arena->process.local = NULL;
    arena->base = NULL;
    arena->header = NULL;
    arena->home.descriptor = -1;
    table->created_here = false;
}

static enum sessile_status open_path(struct sessile *table, const struct sessile_options *options,
                                     struct sessile_problem *problem)
{
    struct geometry wanted = table->arena.geometry;
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        struct home_file file = {.descriptor = -1};
        enum sessile_status status = home_open(options->path, &file, problem);
        table->arena.geometry = wanted;
        if (status == SESSILE_OK) {
            table->arena.home.descriptor = file.descriptor;
            status = attach_file(table, options, &file, problem);
        } else if (status == SESSILE_ABSENT && !options->must_exist) {
            status = create_file(table, options, problem);
        }
        if (status == SESSILE_OK)
            return status;
        release(table);
        if (status != SESSILE_CHANGED)
            return status;
    }
    return SESSILE_BUSY;
}

/* ---- the contract ---- */

enum sessile_status sessile_open(const struct sessile_options *options, struct sessile **result,
                                 struct sessile_problem *problem)
{
    uint64_t least = 0;
    *problem = (struct sessile_problem){0};
    *result = NULL;
    struct sessile *table = aligned_alloc(64, (sizeof *table + 63) / 64 * 64);
    if (!table)
        return failed(problem, "malloc", ENOMEM);
    memset((void *)table, 0, sizeof *table);
    table->arena.home.descriptor = table->arena.process.descriptor = -1;
    table->policy = options->policy;
    bool attach_only = options->path && options->must_exist;
    if (!attach_only && !arena_geometry(&table->arena.geometry, options->capacity, options->memory,
                                        options->anonymous_share, &least)) {
        bool too_much = options->memory > table->arena.geometry.memory_most && table->arena.geometry.memory_most > 0;
        problem->wanted = least;
        problem->found = too_much ? table->arena.geometry.memory_most : 0;
        free(table);
        return SESSILE_INVALID;
    }
    enum sessile_status status = take_keys(table, options);
    if (status == SESSILE_OK)
        status = options->path ? open_path(table, options, problem) : open_private(table, options, problem);
    if (status != SESSILE_OK) {
        release(table);
        if (table->keys)
            system_secret_free(table->keys, system_page_size());
        free(table);
        return status;
    }
    list_table(table);
    *result = table;
    return SESSILE_OK;
}

void sessile_close(struct sessile *table)
{
    if (!table)
        return;
    unlist_table(table);
    release(table);
    system_secret_free(table->keys, system_page_size());
    free(table);
}

bool sessile_file_lost(struct sessile *table)
{
    return home_is_lost(&table->arena.home) && atomic_exchange(&table->arena.header->lost, 1) == 0;
}

void sessile_set_policy(struct sessile *table, const struct sessile_policy *policy)
{
    table->policy = *policy;
}

struct sessile_problem sessile_problem(const struct sessile *table)
{
    return table->problem;
}

struct sessile_facts sessile_facts(const struct sessile *table)
{
    const struct geometry *geometry = &table->arena.geometry;
    struct sessile_facts facts = {
        .capacity = geometry->capacity, .memory = geometry->memory, .anonymous_share = geometry->anonymous_share,
        .shards = geometry->shards, .unit_size = geometry->unit_size, .created_here = table->created_here,
        .mapping_size = geometry->size, .index_size = geometry->index_size,
    };
    memcpy(facts.uuid, table->arena.header->uuid, sizeof facts.uuid);
    return facts;
}

int64_t sessile_now(const struct sessile *table)
{
    return arena_now(&table->arena);
}

void sessile_advance(struct sessile *table, int64_t milliseconds)
{
    atomic_fetch_add(&table->arena.header->advance_ms, milliseconds);
}

void sessile_repairs(struct sessile *table, uint32_t *recovered, uint32_t *quarantined)
{
    *recovered = atomic_exchange(&table->recovered, 0);
    *quarantined = atomic_exchange(&table->quarantined, 0);
}

const char *sessile_status_name(enum sessile_status status)
{
    static const char *const names[SESSILE_STATUS_COUNT] = {
        [SESSILE_OK] = "SESSILE_OK", [SESSILE_MISS] = "SESSILE_MISS", [SESSILE_EXPIRED] = "SESSILE_EXPIRED",
        [SESSILE_RETIRED] = "SESSILE_RETIRED", [SESSILE_THEFT] = "SESSILE_THEFT", [SESSILE_GONE] = "SESSILE_GONE",
        [SESSILE_CHANGED] = "SESSILE_CHANGED", [SESSILE_EXISTS] = "SESSILE_EXISTS",
        [SESSILE_WOULD_BLOCK] = "SESSILE_WOULD_BLOCK", [SESSILE_BUFFER] = "SESSILE_BUFFER",
        [SESSILE_INVALID] = "SESSILE_INVALID", [SESSILE_FULL] = "SESSILE_FULL", [SESSILE_BUSY] = "SESSILE_BUSY",
        [SESSILE_DAMAGED] = "SESSILE_DAMAGED", [SESSILE_NO_MEMORY] = "SESSILE_NO_MEMORY",
        [SESSILE_DETACHED] = "SESSILE_DETACHED", [SESSILE_PROCESSES] = "SESSILE_PROCESSES",
        [SESSILE_SYSTEM] = "SESSILE_SYSTEM", [SESSILE_NO_SPACE] = "SESSILE_NO_SPACE", [SESSILE_FORMAT] = "SESSILE_FORMAT",
        [SESSILE_FOREIGN] = "SESSILE_FOREIGN", [SESSILE_KEY] = "SESSILE_KEY", [SESSILE_BOOT] = "SESSILE_BOOT",
        [SESSILE_PLACE] = "SESSILE_PLACE", [SESSILE_ABSENT] = "SESSILE_ABSENT",
    };
    return (unsigned)status < SESSILE_STATUS_COUNT && names[status] ? names[status] : "SESSILE_UNKNOWN";
}
