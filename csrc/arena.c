/* arena.c - see arena.h. */
#include "arena.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SMALL_TABLE (64ull << 20)
#define LARGEST_CLASS 16384u
#define HEAD 1u
#define TAIL 2u
#define MAPPING_MOST ((uint64_t)ARENA_SLOT << 31) /* slot numbers have 31 bits */
#define POOL_WAIT_MS 1000
#define SPARSE_LOOKS 16u
#define RUN_STRETCH 8192u  /* units that one search for a run looks at */
#define RUN_FIXED (1u << 20)
#define WITHHELD 2u      /* struct page.listed: its free slots are neither counted nor allotted */

/* ---- geometry ---- */

static uint64_t power_of_two(uint64_t least)
{
    uint64_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}

static uint32_t log_of_two(uint64_t power)
{
    return (uint32_t)__builtin_ctzll(power);
}

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

/* Units of a page of this class: the fewest, up to 8, that leave at most 1/16 over, else those that leave the least. */
static uint32_t page_units(uint32_t size, uint32_t unit)
{
    uint32_t best = 1;
    double best_waste = 1;
    for (uint32_t units = 1; units <= 8; units++) {
        double waste = (double)(units * unit % size) / (double)(units * unit);
        if (units * unit / size == 0)
            continue;
        if (waste <= 1.0 / 16)
            return units;
        if (waste < best_waste) {
            best = units;
            best_waste = waste;
        }
    }
    return best;
}

static void set_class(struct geometry *geometry, uint32_t class, uint32_t size)
{
    geometry->class_size[class] = size;
    geometry->class_units[class] = page_units(size, geometry->unit_size);
    geometry->class_slots[class] = geometry->class_units[class] * geometry->unit_size / size;
}

/* A small table has few pages for each shard: sizes that cut a page of one unit without rest. A large one: 64-byte steps
 * to 512, then x 1.25, up to 16 KiB; and 288, because 256 with an owner is what most sessions of a site become. */
static void set_classes(struct geometry *geometry)
{
    static const uint16_t small[] = {128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1344, 2048, 2688, 4096};
    uint32_t class = 0;
    if (geometry->memory < SMALL_TABLE) {
        for (; class < sizeof small / sizeof *small; class++)
            set_class(geometry, class, small[class]);
    } else {
        for (uint32_t size = 128; size < LARGEST_CLASS; class++) {
            set_class(geometry, class, size);
            uint32_t step = size == 256 || size == 288 ? 32 : 64;
            size = size < 512 ? size + step : (uint32_t)round_up(size + size / 4, 64);
        }
        set_class(geometry, class++, LARGEST_CLASS);
    }
    geometry->class_count = class;
    set_class(geometry, ARENA_ENTRY, 64);
    set_class(geometry, ARENA_NODE, 64);
}

/* Places one part behind the others, on a boundary of 4 KiB. */
static uint64_t place(uint64_t *end, uint64_t size)
{
    uint64_t at = *end;
    *end = round_up(at + size, 4096);
    return at;
}

static void set_layout(struct geometry *geometry)
{
    uint64_t end = 0;
    place(&end, ARENA_HEADER_SIZE);
    geometry->processes = place(&end, SESSILE_PROCESSES_MAX * sizeof(struct process_slot));
    geometry->shards_at = place(&end, (uint64_t)geometry->shards * ARENA_SHARD_SIZE);
    geometry->stripes_at = place(&end, (uint64_t)geometry->shards * ARENA_STRIPE_SIZE);
    uint64_t index = (uint64_t)geometry->shards * geometry->index_entries * 8;
    geometry->shard_index = place(&end, index);
    geometry->stripe_index = place(&end, index);
    geometry->directory = place(&end, (uint64_t)geometry->units * 8);
    geometry->pages = place(&end, (uint64_t)geometry->units * sizeof(struct page));
    geometry->free_units = place(&end, round_up(geometry->units, 64) / 8);
    end = round_up(end, geometry->unit_size);
    geometry->data = end;
    geometry->size = end + (uint64_t)geometry->units * geometry->unit_size + ARENA_TAIL;
    geometry->first_slot = (uint32_t)(geometry->data / ARENA_SLOT);
    geometry->end_slot = (uint32_t)((geometry->size - ARENA_TAIL) / ARENA_SLOT);
    geometry->index_size = index;
}

static void set_stripes(struct geometry *geometry)
{
    uint64_t most = geometry->memory / (geometry->memory < SMALL_TABLE ? 256u << 10 : 1u << 20);
    uint64_t shards = power_of_two((geometry->capacity + 4095) / 4096);
    while (shards > 8 && shards > most)
        shards /= 2;
    geometry->shards = (uint32_t)(shards < 8 ? 8 : shards);
    geometry->shard_shift = 64 - log_of_two(geometry->shards);
    double mean = (double)geometry->capacity / (double)geometry->shards;
    double bound = mean + 6 * sqrt(mean) + 16;
    double retired = mean / 8 < 16 ? 16 : mean / 8;
    geometry->shard_bound = (uint32_t)bound;
    geometry->retired_bound = (uint32_t)retired;
    uint64_t entries = power_of_two((uint64_t)(1.6 * (bound + retired)));
    geometry->index_entries = (uint32_t)(entries < 256 ? 256 : entries);
}

/* The largest memory with which there are slot numbers for the whole mapping, to the MiB. */
static uint64_t most_memory(const struct geometry *geometry)
{
    uint64_t unit_bits = (geometry->unit_size + 8 + sizeof(struct page)) * 8 + 1;
    uint64_t fixed = geometry->directory + ARENA_TAIL + (1u << 20);
    return fixed < MAPPING_MOST ? (MAPPING_MOST - fixed) * 8 / unit_bits * geometry->unit_size >> 20 << 20 : 0;
}

bool arena_geometry(struct geometry *geometry, uint64_t capacity, uint64_t memory, double share, uint64_t *least)
{
    memset(geometry, 0, sizeof *geometry);
    *least = SESSILE_MEMORY_MIN;
    if (capacity == 0 || capacity > SESSILE_CAPACITY_MAX || !(share > 0 && share <= 1))
        return false;
    /* As the header keeps it, so that whoever attaches comes to the same bounds. */
    share = floor(share * 1e9 + 0.5) / 1e9;
    share = share > 0 ? share : 1e-9;
    geometry->capacity = capacity;
    geometry->memory = memory;
    geometry->anonymous_share = share;
    geometry->unit_size = 4096;
    geometry->unit_slots_shift = log_of_two(geometry->unit_size / ARENA_SLOT);
    geometry->units = (uint32_t)((memory < MAPPING_MOST ? memory : MAPPING_MOST) / geometry->unit_size);
    set_stripes(geometry);
    set_classes(geometry);
    set_layout(geometry);
    uint64_t by_index = geometry->index_size * 4;
    *least = by_index > SESSILE_MEMORY_MIN ? by_index : SESSILE_MEMORY_MIN;
    geometry->anonymous_capacity = (uint64_t)((double)capacity * share);
    if (geometry->anonymous_capacity == 0)
        geometry->anonymous_capacity = 1;
    geometry->anonymous_units = (uint32_t)((double)geometry->units * share);
    geometry->reserve_units = geometry->shards;
    geometry->memory_most = most_memory(geometry);
    return memory >= *least && memory <= geometry->memory_most && geometry->size < MAPPING_MOST;
}

uint32_t arena_layout(void)
{
    const uint32_t numbers[] = {
        sizeof(struct arena_header), sizeof(struct record), sizeof(struct page), sizeof(struct page_lists),
        sizeof(struct process_slot), sizeof(struct retired), ARENA_SHARD_SIZE, ARENA_STRIPE_SIZE, ARENA_CLASSES, ARENA_SLOT,
        offsetof(struct arena_header, epoch), offsetof(struct arena_header, pool_lock), SESSILE_PROCESSES_MAX,
    };
    return crc32c(ARENA_FORMAT, numbers, sizeof numbers);
}

int64_t arena_now(const struct arena *arena)
{
    /* Whatever the header says, a time as records keep it: sums of it with timeouts do not overflow. */
    uint64_t now = (uint64_t)system_clock_ms() - (uint64_t)arena->header->origin_ms +
                   (uint64_t)atomic_load_explicit(&arena->header->advance_ms, memory_order_relaxed);
    return (int64_t)(now & RECORD_TIME_MASK);
}

uint32_t arena_class(const struct geometry *geometry, uint32_t size)
{
    for (uint32_t class = 0; class < geometry->class_count; class++)
        if (size <= geometry->class_size[class])
            return class;
    return ARENA_LARGE;
}

/* For figures of a moment, read without the holder's lock. */
__attribute__((no_sanitize("thread"))) uint64_t arena_bytes_used(const struct geometry *geometry,
                                                                 const struct page_lists *lists)
{
    uint64_t bytes = 0;
    for (unsigned pool = 0; pool < ARENA_POOLS; pool++) {
        for (unsigned class = 0; class < ARENA_LARGE; class++)
            bytes += (uint64_t)lists->live[pool][class] * geometry->class_size[class];
        bytes += (uint64_t)lists->live[pool][ARENA_LARGE] * geometry->unit_size;
    }
    return bytes;
}

/* ---- addresses, all checked ---- */

static uint32_t frontier(const struct arena *arena)
{
    uint32_t units = atomic_load_explicit(&arena->header->frontier, memory_order_acquire);
    return units < arena->geometry.units ? units : arena->geometry.units;
}

bool arena_within(const struct arena *arena, uint32_t slot, uint64_t length)
{
    const struct geometry *geometry = &arena->geometry;
    if (slot < geometry->first_slot || slot >= geometry->end_slot)
        return false;
    uint64_t end = (uint64_t)(slot - geometry->first_slot) * ARENA_SLOT + length;
    uint64_t seen = atomic_load_explicit(&arena->frontier_seen, memory_order_relaxed);
    if (end <= seen * geometry->unit_size)
        return true;
    uint32_t now = frontier(arena);
    atomic_store_explicit(&((struct arena *)(uintptr_t)arena)->frontier_seen, now, memory_order_relaxed);
    return end <= (uint64_t)now * geometry->unit_size;
}

struct record *arena_record(const struct arena *arena, uint32_t slot)
{
    if (!arena_within(arena, slot, RECORD_HEADER))
        return NULL;
    return (struct record *)(void *)(arena->base + (uint64_t)slot * ARENA_SLOT);
}

uint32_t arena_slot_of(const struct arena *arena, uint32_t unit, uint32_t number, uint32_t size)
{
    return arena->geometry.first_slot + (unit << arena->geometry.unit_slots_shift) + number * (size / ARENA_SLOT);
}

static struct page *pages(const struct arena *arena)
{
    return (struct page *)(void *)(arena->base + arena->geometry.pages);
}

static _Atomic uint64_t *free_units(const struct arena *arena)
{
    return (_Atomic uint64_t *)(void *)(arena->base + arena->geometry.free_units);
}

/* Reads a HEAD word and checks it against the geometry. */
static bool read_head(const struct arena *arena, uint32_t unit, uint32_t *holder, struct arena_page *page)
{
    const struct geometry *geometry = &arena->geometry;
    uint64_t word = atomic_load_explicit(&arena_directory(arena)[unit], memory_order_acquire);
    page->unit = unit;
    page->class = (uint32_t)(word >> 2) & 63;
    page->pool = word >> 8 & 1 ? ARENA_ANONYMOUS : ARENA_OWNED;
    page->units = (uint32_t)(word >> 16) & 0xffff;
    *holder = (uint32_t)(word >> 32);
    if ((word & 3) != HEAD || page->units == 0 || page->units > geometry->units - unit)
        return false;
    /* Entries and nodes are a stripe's, records a shard's. */
    bool is_small = page->class == ARENA_ENTRY || page->class == ARENA_NODE;
    if (is_small != (*holder >= geometry->shards) || *holder >= 2 * geometry->shards)
        return false;
    if (page->class == ARENA_LARGE) {
        page->slots = 1;
        page->size = page->units * geometry->unit_size;
        return true;
    }
    if (page->class >= ARENA_LARGE || geometry->class_size[page->class] == 0 ||
        page->units != geometry->class_units[page->class])
        return false;
    page->slots = geometry->class_slots[page->class];
    page->size = geometry->class_size[page->class];
    return true;
}

/* The head of the page that covers a unit. */
static bool find_head(const struct arena *arena, uint32_t unit, uint32_t *holder, struct arena_page *page)
{
    if (unit >= arena->geometry.units)
        return false;
    uint64_t word = atomic_load_explicit(&arena_directory(arena)[unit], memory_order_acquire);
    uint32_t head = unit;
    if ((word & 3) == TAIL) {
        uint32_t distance = (uint32_t)(word >> 16) & 0xffff;
        if (distance > unit)
            return false;
        head = unit - distance;
    }
    return read_head(arena, head, holder, page) && unit - head < page->units;
}

bool arena_place(const struct arena *arena, uint32_t holder, uint32_t slot, struct arena_place *place)
{
    const struct geometry *geometry = &arena->geometry;
    uint32_t found;
    struct arena_page page;
    if (slot < geometry->first_slot || slot >= geometry->end_slot ||
        !find_head(arena, (slot - geometry->first_slot) >> geometry->unit_slots_shift, &found, &page) || found != holder)
        return false;
    uint32_t offset = slot - arena_slot_of(arena, page.unit, 0, page.size);
    uint32_t step = page.size / ARENA_SLOT;
    *place = (struct arena_place){.unit = page.unit, .number = offset / step, .class = page.class, .size = page.size,
                                  .pool = page.pool};
    return offset % step == 0 && place->number < page.slots && arena_within(arena, slot, page.size);
}

/* Heads by holder, ascending. What is lent or returned later counts pool_seq up, and whoever holds the holder's lock sees it. */
struct arena_order {
    uint32_t pool_seq;
    uint32_t *heads;                      /* behind `first` */
    uint32_t first[];                     /* of each holder its first in `heads`; one more: the end */
};

/* The next head of any holder from *unit on, and *unit behind it. */
static bool next_head(const struct arena *arena, uint32_t end, uint32_t *unit, uint32_t *holder, struct arena_page *page)
{
    while (*unit < end) {
        if (read_head(arena, *unit, holder, page) && page->units <= end - *unit) {
            *unit += page->units;
            return true;
        }
        *unit += 1;
    }
    return false;
}

static bool next_in_order(const struct arena *arena, uint32_t holder, uint32_t *unit, struct arena_page *page)
{
    const struct arena_order *order = arena->order;
    uint32_t low = order->first[holder], end = order->first[holder + 1], high = end, found;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order->heads[middle] < *unit)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < end; low++)
        if (read_head(arena, order->heads[low], &found, page) && found == holder) {
            *unit = page->unit + page->units;
            return true;
        }
    return false;
}

bool arena_next_page(const struct arena *arena, uint32_t holder, uint32_t *unit, struct arena_page *page)
{
    uint32_t found, end = frontier(arena);
    if (arena->order && arena->order->pool_seq == atomic_load(&arena->header->pool_seq))
        return next_in_order(arena, holder, unit, page);
    while (next_head(arena, end, unit, &found, page))
        if (found == holder)
            return true;
    return false;
}

/* Counts heads by holder, then places them. Two walks may differ where others lend meanwhile: what is too many is left out. */
static void fill_order(const struct arena *arena, struct arena_order *order, uint32_t holders, uint32_t most)
{
    uint32_t found, end = frontier(arena), *first = order->first;
    struct arena_page page;
    for (uint32_t unit = 0; next_head(arena, end, &unit, &found, &page);)
        first[found + 1]++;
    for (uint32_t holder = 0; holder < holders; holder++)
        first[holder + 1] += first[holder];
    for (uint32_t unit = 0; next_head(arena, end, &unit, &found, &page);)
        if (first[found] < most)
            order->heads[first[found]++] = page.unit;
    for (uint32_t holder = holders; holder > 0; holder--)
        first[holder] = first[holder - 1];
    first[0] = 0;
}

void arena_order_pages(struct arena *arena)
{
    uint32_t holders = 2 * arena->geometry.shards, most = arena->geometry.units;
    struct arena_order *order = calloc(1, sizeof *order + ((size_t)holders + 1 + most) * sizeof *order->first);
    if (!order)
        return;
    order->pool_seq = atomic_load(&arena->header->pool_seq);
    order->heads = order->first + holders + 1;
    fill_order(arena, order, holders, most);
    arena->order = order;
}

void arena_forget_order(struct arena *arena)
{
    free(arena->order);
    arena->order = NULL;
}

/* ---- the lists of a holder ---- */

static void list_add(const struct arena *arena, struct page_lists *lists, const struct arena_page *where)
{
    struct page *all = pages(arena), *page = &all[where->unit];
    uint32_t *head = &lists->head[where->pool][where->class], next = *head;
    page->next = next;
    page->prev = 0;
    page->listed = 1;
    if (next != 0 && next <= arena->geometry.units)
        all[next - 1].prev = where->unit + 1;
    *head = where->unit + 1;
}

static void list_remove(const struct arena *arena, struct page_lists *lists, const struct arena_page *where)
{
    struct page *all = pages(arena), *page = &all[where->unit];
    uint32_t next = page->next, prev = page->prev;
    if (prev != 0 && prev <= arena->geometry.units)
        all[prev - 1].next = next;
    else
        lists->head[where->pool][where->class] = next;
    if (next != 0 && next <= arena->geometry.units)
        all[next - 1].prev = prev;
    page->listed = 0;
    page->next = page->prev = 0;
}

/* Where a free slot keeps the number of the next: inside `next` of a record, at the end of a 64-byte slot. Neither place
 * is where a commit word of another class may come to lie, which is the first 8 of any 32 bytes. */
static _Atomic uint32_t *link_of(const struct arena *arena, uint32_t slot, uint32_t size)
{
    uint8_t *start = arena->base + (uint64_t)slot * ARENA_SLOT;
    return (_Atomic uint32_t *)(void *)(start + (size == 64 ? 60 : offsetof(struct record, next)));
}

static uint32_t weight(const struct arena_page *page)
{
    return page->class == ARENA_LARGE ? page->units : 1;
}

/* Takes a slot of a listed page; the caller knows that it has one. */
static uint32_t pop_slot(const struct arena *arena, struct page_lists *lists, const struct arena_page *where)
{
    struct page *page = &pages(arena)[where->unit];
    uint32_t number = page->free_slot;
    uint32_t slot;
    if (number != 0 && number <= where->slots) {
        slot = arena_slot_of(arena, where->unit, number - 1, where->size);
        _Atomic uint32_t *link = link_of(arena, slot, where->size);
        uint32_t next = atomic_load_explicit(link, memory_order_relaxed);
        page->free_slot = (uint16_t)(next <= where->slots ? next : 0);
        atomic_store_explicit(link, 0, memory_order_relaxed);
    } else {
        number = page->bump < where->slots ? page->bump : where->slots - 1;
        slot = arena_slot_of(arena, where->unit, number, where->size);
        page->bump = (uint16_t)(number + 1);
    }
    page->live++;
    lists->free[where->pool][where->class]--;
    lists->live[where->pool][where->class] += weight(where);
    if (page->live >= where->slots)
        list_remove(arena, lists, where);
    return slot;
}

static bool take_listed(const struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                        uint32_t class, uint32_t *slot)
{
    uint32_t head = lists->head[pool][class], found;
    struct arena_page page;
    if (head == 0 || head > arena->geometry.units || !read_head(arena, head - 1, &found, &page) || found != holder ||
        page.class != class || page.pool != pool || pages(arena)[head - 1].live >= page.slots)
        return false;
    *slot = pop_slot(arena, lists, &page);
    return true;
}

/* ---- free units, pool lock ---- */

static bool unit_is_free(const struct arena *arena, uint32_t unit)
{
    return atomic_load_explicit(&free_units(arena)[unit / 64], memory_order_relaxed) >> (unit % 64) & 1;
}

static void set_units(const struct arena *arena, uint32_t unit, uint32_t count, bool is_free)
{
    _Atomic uint64_t *words = free_units(arena);
    for (uint32_t i = unit; i < unit + count; i++) {
        uint64_t bit = (uint64_t)1 << (i % 64), word = atomic_load_explicit(&words[i / 64], memory_order_relaxed);
        atomic_store_explicit(&words[i / 64], is_free ? word | bit : word & ~bit, memory_order_relaxed);
    }
}

/* First run of `count` free units in [from, end); end where there is none. */
static uint32_t find_run(const struct arena *arena, uint32_t from, uint32_t end, uint32_t count)
{
    uint32_t run = 0;
    for (uint32_t unit = from; unit < end; unit++) {
        if (unit % 64 == 0 && run == 0)
            while (unit + 64 <= end && atomic_load_explicit(&free_units(arena)[unit / 64], memory_order_relaxed) == 0)
                unit += 64;
        if (unit >= end)
            break;
        run = unit_is_free(arena, unit) ? run + 1 : 0;
        if (run == count)
            return unit + 1 - count;
    }
    return end;
}

/* The same at a multiple of `count`: pages of one size then leave no gaps too small for another. */
static uint32_t find_tile(const struct arena *arena, uint32_t from, uint32_t end, uint32_t count)
{
    for (uint32_t unit = from / count * count; unit + count <= end; unit += count) {
        uint32_t i = 0;
        while (i < count && unit_is_free(arena, unit + i))
            i++;
        if (i == count)
            return unit;
    }
    return end;
}

static enum arena_answer find_units(struct arena *arena, enum arena_pool pool, uint32_t count, int purpose, uint32_t *unit)
{
    struct arena_header *header = arena->header;
    const struct geometry *geometry = &arena->geometry;
    uint32_t used = atomic_load(&header->used_units), end = frontier(arena);
    uint32_t kept = purpose & ARENA_UPDATE ? 0 : geometry->reserve_units;
    if (used + count + kept > geometry->units)
        return ARENA_NEED_PAGE;
    if (pool == ARENA_ANONYMOUS && atomic_load(&header->used_anonymous_units) + count > geometry->anonymous_units)
        return ARENA_NEED_PAGE;
    uint32_t hint = atomic_load(&header->search);
    if (hint >= end)
        hint = 0;
    if (count > 1) {
        /* Runs lie as low as they can, so that single units have the rest to themselves. */
        _Atomic uint32_t *lowest = &header->search_run[count % ARENA_RUNS];
        *unit = find_tile(arena, count < ARENA_RUNS ? atomic_load(lowest) : 0, end, count);
        if (*unit != end) {
            atomic_store(lowest, *unit);
            return ARENA_OK;
        }
        if (end < geometry->units)
            return ARENA_NEED_RESERVE;
        /* Large records do not move: a short run anywhere would break up the places of others for good. Those of a run are
         * emptied for it (room.c). */
        if (count < ARENA_RUNS)
            return ARENA_NEED_PAGE;
    }
    *unit = find_run(arena, hint, end, count);
    if (*unit == end && hint > 0)
        *unit = find_run(arena, 0, end, count);
    if (*unit != end) {
        atomic_store(&header->search, count == 1 ? *unit + 1 : hint);
        return ARENA_OK;
    }
    return end < geometry->units ? ARENA_NEED_RESERVE : ARENA_NEED_PAGE;
}

static void pool_begin(struct arena *arena)
{
    atomic_fetch_add_explicit(&arena->header->pool_seq, 1, memory_order_relaxed);
    record_order();
}

static void pool_end(struct arena *arena)
{
    record_order();
    atomic_fetch_add_explicit(&arena->header->pool_seq, 1, memory_order_relaxed);
    lock_release(&arena->header->pool_lock, LOCK_POOL);
}

static void count_units(struct arena *arena, enum arena_pool pool, uint32_t by)
{
    atomic_fetch_add(&arena->header->used_units, by);
    if (pool == ARENA_ANONYMOUS)
        atomic_fetch_add(&arena->header->used_anonymous_units, by);
}

/* Lends a page and puts it on the holder's list (A1). */
static enum arena_answer lend(struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                              uint32_t class, uint32_t units, int purpose)
{
    if (lock_take(&arena->header->pool_lock, arena_me(arena), LOCK_POOL, purpose & ARENA_NO_WAIT ? 0 : POOL_WAIT_MS,
                  &arena->watch) != SESSILE_OK)
        return ARENA_BUSY;
    uint32_t unit = 0;
    enum arena_answer answer = find_units(arena, pool, units, purpose, &unit);
    pool_begin(arena);
    if (answer == ARENA_OK) {
        _Atomic uint64_t *directory = arena_directory(arena);
        set_units(arena, unit, units, false);
        count_units(arena, pool, units);
        for (uint32_t i = 1; i < units; i++)
            atomic_store_explicit(&directory[unit + i], TAIL | (uint64_t)i << 16, memory_order_relaxed);
        pages(arena)[unit] = (struct page){0};
        atomic_store_explicit(&directory[unit], HEAD | (uint64_t)class << 2 | (uint64_t)(pool == ARENA_ANONYMOUS) << 8 |
                              (uint64_t)units << 16 | (uint64_t)holder << 32, memory_order_release);
    }
    pool_end(arena);
    if (answer != ARENA_OK)
        return answer;
    uint32_t found;
    struct arena_page page;
    if (!read_head(arena, unit, &found, &page))
        return ARENA_NEED_PAGE;
    list_add(arena, lists, &page);
    lists->free[pool][class] += page.slots;
    return ARENA_OK;
}

bool arena_return_page(struct arena *arena, struct page_lists *lists, uint32_t unit)
{
    uint32_t holder;
    struct arena_page where;
    if (!read_head(arena, unit, &holder, &where) || pages(arena)[unit].live != 0 || pages(arena)[unit].listed != 1 ||
        !lock_try(&arena->header->pool_lock, arena_me(arena), LOCK_POOL))
        return false;
    list_remove(arena, lists, &where);
    lists->free[where.pool][where.class] -= where.slots;
    pool_begin(arena);
    atomic_store_explicit(&arena_directory(arena)[unit], 0, memory_order_release);
    for (uint32_t i = 1; i < where.units; i++)
        atomic_store_explicit(&arena_directory(arena)[unit + i], 0, memory_order_relaxed);
    set_units(arena, unit, where.units, true);
    count_units(arena, where.pool, -where.units);
    if (unit < atomic_load(&arena->header->search))
        atomic_store(&arena->header->search, unit);
    for (uint32_t run = 0; run < ARENA_RUNS; run++)
        if (unit < atomic_load_explicit(&arena->header->search_run[run], memory_order_relaxed))
            atomic_store_explicit(&arena->header->search_run[run], unit, memory_order_relaxed);
    pool_end(arena);
    return true;
}

/* ---- slots ---- */

/* The smallest empty page of the list that is large enough, among the first few. */
static bool take_large_listed(const struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                              uint32_t units, uint32_t *slot)
{
    uint32_t head = lists->head[pool][ARENA_LARGE];
    for (uint32_t look = 0; look < SPARSE_LOOKS && head != 0 && head <= arena->geometry.units; look++) {
        uint32_t found;
        struct arena_page page;
        if (!read_head(arena, head - 1, &found, &page) || found != holder || page.class != ARENA_LARGE)
            return false;
        if (page.units >= units && pages(arena)[head - 1].live == 0) {
            *slot = pop_slot(arena, lists, &page);
            return true;
        }
        head = pages(arena)[head - 1].next;
    }
    return false;
}

static enum arena_answer take_large(struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                                    uint32_t size, int purpose, uint32_t *slot)
{
    uint32_t units = (size + arena->geometry.unit_size - 1) / arena->geometry.unit_size;
    if (take_large_listed(arena, lists, holder, pool, units, slot))
        return ARENA_OK;
    if (purpose & ARENA_NO_LEND)
        return ARENA_NEED_PAGE;
    enum arena_answer answer = lend(arena, lists, holder, pool, ARENA_LARGE, units, purpose);
    if (answer != ARENA_OK)
        return answer;
    return take_large_listed(arena, lists, holder, pool, units, slot) ? ARENA_OK : ARENA_NEED_PAGE;
}

/* How many free slots of a class must stay (A4). */
static uint32_t spare_of(uint32_t class, int purpose)
{
    if (class >= ARENA_CLASSES)
        return 0;
    return purpose & ARENA_UPDATE && (uint32_t)purpose >> 8 == class + 1 ? 0 : 1;
}

static enum arena_answer take_class(struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                                    uint32_t class, int purpose, uint32_t *slot)
{
    uint32_t spare = spare_of(class, purpose);
    for (int tries = 0; lists->free[pool][class] <= spare && tries < 2; tries++) {
        if (purpose & ARENA_NO_LEND)
            return ARENA_NEED_PAGE;
        enum arena_answer answer = lend(arena, lists, holder, pool, class, arena->geometry.class_units[class], purpose);
        if (answer != ARENA_OK)
            return answer;
    }
    return take_listed(arena, lists, holder, pool, class, slot) ? ARENA_OK : ARENA_NEED_PAGE;
}

enum arena_answer arena_take(struct arena *arena, struct page_lists *lists, uint32_t holder, enum arena_pool pool,
                             uint32_t size, int purpose, uint32_t *slot)
{
    uint32_t class = arena_class(&arena->geometry, size);
    if (class == ARENA_LARGE)
        return take_large(arena, lists, holder, pool, size, purpose, slot);
    enum arena_answer answer = take_class(arena, lists, holder, pool, class, purpose, slot);
    if (answer != ARENA_NEED_PAGE || !(purpose & ARENA_ANY_CLASS))
        return answer;
    while (++class < arena->geometry.class_count)
        if (lists->free[pool][class] > spare_of(class, purpose) && take_listed(arena, lists, holder, pool, class, slot))
            return ARENA_OK;
    return ARENA_NEED_PAGE;
}

enum arena_answer arena_take_small(struct arena *arena, struct page_lists *lists, uint32_t holder, uint32_t class,
                                   int purpose, uint32_t *slot)
{
    return take_class(arena, lists, holder, ARENA_OWNED, class, purpose | ARENA_UPDATE, slot);
}

/* Does a listed page with `live` records hold the only free slots of a class with other records (A4)? It may not go then. */
static bool spared(const struct page_lists *lists, const struct arena_page *page, uint32_t live)
{
    return page->class < ARENA_CLASSES && lists->live[page->pool][page->class] > live &&
           lists->free[page->pool][page->class] <= page->slots - live;
}

bool arena_may_go(const struct arena *arena, const struct page_lists *lists, const struct arena_page *page)
{
    return !spared(lists, page, pages(arena)[page->unit].live);
}

void arena_give(struct arena *arena, struct page_lists *lists, uint32_t holder, uint32_t slot)
{
    struct arena_place place;
    uint32_t found;
    struct arena_page where;
    if (!arena_place(arena, holder, slot, &place) || !read_head(arena, place.unit, &found, &where))
        return;
    struct page *page = &pages(arena)[place.unit];
    if (page->live == 0)
        return;
    atomic_store_explicit(link_of(arena, slot, where.size), page->free_slot, memory_order_relaxed);
    page->free_slot = (uint16_t)(place.number + 1);
    page->live--;
    lists->live[where.pool][where.class] -= weight(&where);
    if (page->listed == WITHHELD)
        return;
    lists->free[where.pool][where.class]++;
    if (!page->listed)
        list_add(arena, lists, &where);
    if (page->live == 0 && !spared(lists, &where, 0))
        arena_return_page(arena, lists, place.unit);
}

/* Free slots that may be taken in larger classes, of up to twice the size: more of a slot is not to be wasted. */
static uint32_t room_above(const struct geometry *geometry, const struct page_lists *lists, enum arena_pool pool,
                           uint32_t class)
{
    uint32_t room = 0, most = geometry->class_size[class] * 2;
    while (++class < geometry->class_count && geometry->class_size[class] <= most)
        room += lists->free[pool][class] > 1 ? lists->free[pool][class] - 1 : 0;
    return room;
}

uint32_t arena_sparsest(const struct arena *arena, const struct page_lists *lists, enum arena_pool pool)
{
    uint32_t best = UINT32_MAX, best_live = UINT32_MAX;
    for (uint32_t class = 0; class < ARENA_LISTS; class++) {
        uint32_t head = lists->head[pool][class], above = room_above(&arena->geometry, lists, pool, class);
        for (uint32_t look = 0; look < SPARSE_LOOKS && head != 0 && head <= arena->geometry.units; look++) {
            const struct page *page = &pages(arena)[head - 1];
            uint32_t holder;
            struct arena_page where;
            if (!read_head(arena, head - 1, &holder, &where))
                break;
            uint32_t others = lists->free[pool][class] - (where.slots - page->live);
            uint32_t room = above + (others > 1 ? others - 1 : 0);
            bool fits = page->live == 0 || (class <= ARENA_ENTRY && room >= page->live);
            if (fits && page->live < best_live && !spared(lists, &where, page->live)) {
                best = head - 1;
                best_live = page->live;
            }
            head = page->next;
        }
    }
    return best;
}

bool arena_page_at(const struct arena *arena, uint32_t unit, uint32_t *holder, struct arena_page *page)
{
    return find_head(arena, unit, holder, page);
}

uint32_t arena_units_for(const struct geometry *geometry, uint32_t size)
{
    uint32_t class = arena_class(geometry, size);
    return class == ARENA_LARGE ? (size + geometry->unit_size - 1) / geometry->unit_size : geometry->class_units[class];
}

/* What it costs to free a unit: a share of what its page holds. Large records and owners' overflow nodes do not move. */
__attribute__((no_sanitize("thread"))) static uint32_t unit_cost(const struct arena *arena, uint32_t unit)
{
    uint32_t holder;
    struct arena_page page;
    if (!find_head(arena, unit, &holder, &page))
        return 0;
    uint32_t live = pages(arena)[page.unit].live;
    if (live != 0 && page.class > ARENA_ENTRY)
        return RUN_FIXED;
    return live == 0 ? 1 : live * 16 / page.units;
}

uint32_t arena_cheapest_run(const struct arena *arena, uint32_t units, uint32_t from)
{
    uint32_t end = frontier(arena), best = UINT32_MAX;
    uint64_t sum = 0, least = RUN_FIXED;
    if (units > end)
        return UINT32_MAX;
    from = from % (end - units + 1) / units * units;
    if (end > from + RUN_STRETCH + units)
        end = from + RUN_STRETCH + units;
    for (uint32_t unit = from; unit < end; unit++) {
        sum += unit_cost(arena, unit);
        if (unit - from >= units)
            sum -= unit_cost(arena, unit - units);
        if (unit + 1 - from >= units && (unit + 1) % units == 0 && sum < least) {
            least = sum;
            best = unit + 1 - units;
        }
    }
    return best;
}

void arena_unlist(struct arena *arena, struct page_lists *lists, uint32_t unit)
{
    uint32_t holder;
    struct arena_page where;
    struct page *page = &pages(arena)[unit];
    if (!read_head(arena, unit, &holder, &where) || page->listed != 1)
        return;
    list_remove(arena, lists, &where);
    page->listed = WITHHELD;
    lists->free[where.pool][where.class] -= where.slots - page->live;
}

void arena_relist(struct arena *arena, struct page_lists *lists, uint32_t unit)
{
    uint32_t holder;
    struct arena_page where;
    struct page *page = &pages(arena)[unit];
    if (!read_head(arena, unit, &holder, &where) || page->listed != WITHHELD)
        return;
    page->listed = 0;
    if (page->live >= where.slots)
        return;
    list_add(arena, lists, &where);
    lists->free[where.pool][where.class] += where.slots - page->live;
}

/* ---- reservation ---- */

/* Makes a part of the mapping safe to touch. */
static int reserve_part(const struct arena *arena, uint64_t at, uint64_t length, bool touch)
{
    struct system_identity identity;
    if (arena->home.descriptor < 0)
        return 0;
    if (touch && system_populate(arena->base + at, length) == 0)
        return 0;
    bool ours = system_identify(arena->home.descriptor, &identity) == 0 &&
                identity.device == arena->home.identity.device && identity.inode == arena->home.identity.inode;
    return ours ? system_reserve(arena->home.descriptor, at, length) : system_populate(arena->base + at, length);
}

int arena_reserve(struct arena *arena, bool touch)
{
    struct arena_header *header = arena->header;
    const struct geometry *geometry = &arena->geometry;
    uint32_t from = frontier(arena);
    uint32_t units = ARENA_CHUNK / geometry->unit_size;
    if (from >= geometry->units)
        return 0;
    if (units > geometry->units - from)
        units = geometry->units - from;
    uint64_t at = geometry->data + (uint64_t)from * geometry->unit_size, length = (uint64_t)units * geometry->unit_size;
    int status = reserve_part(arena, at, length, touch);
    if (status < 0)
        return status;
    uint32_t seen = from;
    /* Two threads may have reserved the same chunk, which is harmless: the frontier only grows. */
    atomic_compare_exchange_strong(&header->frontier, &seen, from + units);
    return 0;
}

int arena_reserve_to(struct arena *arena, uint32_t unit)
{
    int status = 0;
    while (status == 0 && frontier(arena) < unit && frontier(arena) < arena->geometry.units)
        status = arena_reserve(arena, false);
    return status;
}

/* ---- recovery ---- */

void arena_rebuild_begin(struct page_lists *lists)
{
    memset(lists, 0, sizeof *lists);
}

void arena_rebuild_page(struct arena *arena, struct page_lists *lists, const struct arena_page *where,
                        bool (*taken)(void *context, uint32_t slot), void *context)
{
    struct page *page = &pages(arena)[where->unit];
    *page = (struct page){0};
    for (uint32_t number = 0; number < where->slots; number++) {
        uint32_t slot = arena_slot_of(arena, where->unit, number, where->size);
        _Atomic uint32_t *link = link_of(arena, slot, where->size);
        if (taken && taken(context, slot)) {
            page->live++;
            lists->live[where->pool][where->class] += weight(where);
            continue;
        }
        atomic_store_explicit(link, page->free_slot, memory_order_relaxed);
        page->free_slot = (uint16_t)(number + 1);
        lists->free[where->pool][where->class]++;
    }
    page->bump = (uint16_t)where->slots;
    if (page->live < where->slots)
        list_add(arena, lists, where);
}

void arena_rebuild_units(struct arena *arena)
{
    struct arena_header *header = arena->header;
    uint32_t used[ARENA_POOLS] = {0};
    set_units(arena, 0, arena->geometry.units, true);
    for (uint32_t unit = 0; unit < arena->geometry.units;) {
        uint32_t holder;
        struct arena_page page;
        if (!read_head(arena, unit, &holder, &page)) {
            atomic_store_explicit(&arena_directory(arena)[unit], 0, memory_order_relaxed);
            unit++;
            continue;
        }
        set_units(arena, unit, page.units, false);
        used[page.pool] += page.units;
        unit += page.units;
    }
    atomic_store(&header->used_units, used[ARENA_OWNED] + used[ARENA_ANONYMOUS]);
    atomic_store(&header->used_anonymous_units, used[ARENA_ANONYMOUS]);
    atomic_store(&header->search, 0);
    for (uint32_t run = 0; run < ARENA_RUNS; run++)
        atomic_store(&header->search_run[run], 0);
}

/* ---- checks ---- */

void check_finding(struct check *check, const char *format, ...)
{
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    check->findings++;
    if (check->report)
        check->report(check->context, text);
}

static void check_page(const struct arena *arena, const struct arena_page *where, struct check *check)
{
    const struct page *page = &pages(arena)[where->unit];
    uint32_t chained = 0, number = page->free_slot;
    while (number != 0 && number <= where->slots && chained <= where->slots) {
        chained++;
        number = atomic_load(link_of(arena, arena_slot_of(arena, where->unit, number - 1, where->size), where->size));
    }
    if (page->live + chained + (where->slots - page->bump) != where->slots)
        check_finding(check, "A5: page at unit %u: %u live, %u free below %u of %u slots", where->unit, page->live, chained,
                      page->bump, where->slots);
    if ((page->live < where->slots) != (page->listed != 0))
        check_finding(check, "A5: page at unit %u: %u of %u slots live but listed is %u", where->unit, page->live,
                      where->slots, page->listed);
}

void arena_check_holder(const struct arena *arena, const struct page_lists *lists, uint32_t holder, struct check *check)
{
    uint32_t live[ARENA_POOLS][ARENA_LISTS] = {{0}}, unlisted[ARENA_POOLS][ARENA_LISTS] = {{0}};
    struct arena_page page;
    for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);) {
        check_page(arena, &page, check);
        live[page.pool][page.class] += pages(arena)[page.unit].live * weight(&page);
        unlisted[page.pool][page.class] += page.slots - pages(arena)[page.unit].live;
    }
    for (unsigned pool = 0; pool < ARENA_POOLS; pool++)
        for (unsigned class = 0; class < ARENA_LISTS; class++)
            if (live[pool][class] != lists->live[pool][class] || unlisted[pool][class] != lists->free[pool][class])
                check_finding(check, "A5: holder %u pool %u class %u: counts %u live %u free, pages say %u and %u", holder,
                              pool, class, lists->live[pool][class], lists->free[pool][class], live[pool][class],
                              unlisted[pool][class]);
}

void arena_check_units(struct arena *arena, struct check *check)
{
    const struct geometry *geometry = &arena->geometry;
    uint32_t used = 0, anonymous = 0;
    for (uint32_t unit = 0; unit < geometry->units;) {
        uint32_t holder, covered = 1;
        struct arena_page page;
        bool lent = read_head(arena, unit, &holder, &page);
        if (lent) {
            covered = page.units;
            used += covered;
            anonymous += page.pool == ARENA_ANONYMOUS ? covered : 0;
        }
        for (uint32_t i = 0; i < covered; i++)
            if (unit_is_free(arena, unit + i) == lent)
                check_finding(check, "A1: unit %u is %s in the bitmap but not in the directory", unit + i,
                              lent ? "free" : "taken");
        unit += covered;
    }
    if (used != atomic_load(&arena->header->used_units) || anonymous != atomic_load(&arena->header->used_anonymous_units))
        check_finding(check, "A1: counts of lent units differ from the directory");
    if (anonymous > geometry->anonymous_units)
        check_finding(check, "A3: %u units of the anonymous pool, %u allowed", anonymous, geometry->anonymous_units);
}

uint32_t arena_check_frontier(const struct arena *arena, struct check *check)
{
    uint32_t end = 0;
    for (uint32_t unit = 0; unit < arena->geometry.units;) {
        uint32_t holder;
        struct arena_page page;
        bool lent = read_head(arena, unit, &holder, &page);
        unit += lent ? page.units : 1;
        end = lent ? unit : end;
    }
    /* Read after the directory: pages are lent below a frontier that only grows. */
    if (end > frontier(arena))
        check_finding(check, "A2: pages lie above the reserved frontier, up to unit %u", end);
    return end;
}
