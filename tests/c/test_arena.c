/* test_arena.c - csrc/arena.c: geometry; slots against a map of who has which bytes; A1 to A5, their checks and their rebuilding. */
#include "tables.h"

#define TAKEN_MAX 20000u

static struct sessile *table;
static struct arena *arena;
static uint64_t state = 1;
static struct {
    uint32_t holder, slot, size;
    enum arena_pool pool;
} taken[TAKEN_MAX];
static uint32_t taken_count;
static uint8_t *bytes_taken;                 /* one for each 64 bytes of data */

static void use(uint64_t capacity, uint64_t memory, double share)
{
    table = open_table(capacity, memory, share);
    arena = &table->arena;
    taken_count = 0;
    bytes_taken = calloc(arena->geometry.end_slot - arena->geometry.first_slot, 1);
    CHECK(bytes_taken);
}

static void done(void)
{
    free(bytes_taken);
    sessile_close(table);
}

static struct page_lists *lists_of(uint32_t holder)
{
    uint32_t shards = arena->geometry.shards;
    return holder < shards ? &shard_at(table, holder)->lists : &stripe_at(table, holder - shards)->lists;
}

static void look(struct findings *found)
{
    struct check check = {.report = note_finding, .context = found};
    memset(found, 0, sizeof *found);
    for (uint32_t holder = 0; holder < 2 * arena->geometry.shards; holder++)
        arena_check_holder(arena, lists_of(holder), holder, &check);
    arena_check_units(arena, &check);
}

static void check_sound(void)
{
    struct findings found;
    look(&found);
    print_findings(&found);
    CHECK(found.count == 0);
}

static void mark(uint32_t slot, uint32_t size, uint8_t is, uint8_t was)
{
    for (uint32_t i = 0; i < size / ARENA_SLOT; i++) {
        CHECK(bytes_taken[slot - arena->geometry.first_slot + i] == was);
        bytes_taken[slot - arena->geometry.first_slot + i] = is;
    }
}

static enum arena_answer take(uint32_t holder, enum arena_pool pool, uint32_t size, int purpose)
{
    uint32_t slot;
    struct arena_place place;
    bool small = holder >= arena->geometry.shards;
    enum arena_answer answer;
    do
        answer = small ? arena_take_small(arena, lists_of(holder), holder, size, purpose, &slot)
                       : arena_take(arena, lists_of(holder), holder, pool, size, purpose, &slot);
    while (answer == ARENA_NEED_RESERVE && arena_reserve(arena, false) == 0);
    if (answer != ARENA_OK)
        return answer;
    CHECK(arena_place(arena, holder, slot, &place) && (small || (place.size >= size && place.pool == pool)));
    CHECK(arena_place(arena, holder, slot, &place));
    /* A2 */
    uint32_t frontier = atomic_load(&arena->header->frontier);
    CHECK(slot >= arena->geometry.first_slot && place.unit < frontier);
    CHECK((uint64_t)(slot - arena->geometry.first_slot) * ARENA_SLOT + place.size <=
          (uint64_t)frontier * arena->geometry.unit_size);
    CHECK(small || atomic_load(&arena_record(arena, slot)->commit) == 0);
    mark(slot, place.size, 1, 0);
    CHECK(taken_count < TAKEN_MAX);
    taken[taken_count].holder = holder;
    taken[taken_count].slot = slot;
    taken[taken_count].size = place.size;
    taken[taken_count++].pool = place.pool;
    return ARENA_OK;
}

static void give(uint32_t at)
{
    mark(taken[at].slot, taken[at].size, 0, 1);
    arena_give(arena, lists_of(taken[at].holder), taken[at].holder, taken[at].slot);
    taken[at] = taken[--taken_count];
}

static uint32_t some_size(void)
{
    uint32_t size = RECORD_HEADER + (uint32_t)(check_random(&state) % 900);
    if (check_random(&state) % 8 == 0)
        size += (uint32_t)(check_random(&state) % 9000);
    if (check_random(&state) % 100 == 0)
        size += (uint32_t)(check_random(&state) % 100000);
    return size;
}

/* One random step: more is taken while `growing`. */
static void step(bool growing)
{
    const struct geometry *geometry = &arena->geometry;
    if (taken_count > 0 && check_random(&state) % 10 < (growing ? 3u : 7u)) {
        give((uint32_t)(check_random(&state) % taken_count));
        return;
    }
    uint32_t holder = (uint32_t)(check_random(&state) % (2 * geometry->shards));
    enum arena_pool pool = (enum arena_pool)(check_random(&state) % 2);
    if (holder >= geometry->shards) {
        (void)take(holder, ARENA_OWNED, check_random(&state) % 2 ? ARENA_ENTRY : ARENA_NODE, 0);
        return;
    }
    uint32_t size = some_size();
    int purpose = check_random(&state) % 8 == 0 ? ARENA_ANY_CLASS : 0;
    enum arena_answer answer = take(holder, pool, size, purpose);
    CHECK(answer == ARENA_OK || answer == ARENA_NEED_PAGE);
    struct arena_place place;
    if (answer == ARENA_OK && arena_class(geometry, size) != ARENA_LARGE) {
        /* A4: a create leaves a spare of what it took. */
        CHECK(arena_place(arena, holder, taken[taken_count - 1].slot, &place));
        CHECK(lists_of(holder)->free[pool][place.class] >= 1);
    }
    CHECK(atomic_load(&arena->header->used_anonymous_units) <= geometry->anonymous_units);
}

/* ---- geometry ---- */

static void a_geometry_is_made_for_every_sensible_table(void)
{
    static const uint64_t capacities[] = {1, 7, 100, 5000, 65536, 262144, 1000000, 20000000, SESSILE_CAPACITY_MAX};
    for (unsigned i = 0; i < sizeof capacities / sizeof *capacities; i++)
        for (uint64_t memory = SESSILE_MEMORY_MIN - 1; memory < (uint64_t)1 << 36; memory = memory * 5 / 2 + 4097) {
            struct geometry geometry, again;
            uint64_t least, ignored;
            if (arena_geometry(&geometry, capacities[i], memory, 0.5, &least)) {
                CHECK(memory >= SESSILE_MEMORY_MIN && geometry.shards >= 8 && (geometry.shards & (geometry.shards - 1)) == 0);
                CHECK(geometry.units == memory / geometry.unit_size && geometry.index_size * 4 <= memory);
                CHECK((geometry.index_entries & (geometry.index_entries - 1)) == 0);
                /* A shard's bound is never a reason for FULL before the capacity: it fits at 5/8. */
                CHECK(geometry.shard_bound + geometry.retired_bound <= geometry.index_entries / 8 * 5);
                CHECK((uint64_t)geometry.shard_bound * geometry.shards >= capacities[i]);
                CHECK(geometry.data % geometry.unit_size == 0 && geometry.end_slot < (uint32_t)1 << 31);
                CHECK(geometry.size == geometry.data + (uint64_t)geometry.units * geometry.unit_size + ARENA_TAIL);
            } else {
                CHECK(least > memory || memory > (uint64_t)1 << 35);
                CHECK(least >= SESSILE_MEMORY_MIN);
                if (least < (uint64_t)1 << 35)
                    CHECK(arena_geometry(&again, capacities[i], least, 0.5, &ignored));
            }
        }
}

static void a_geometry_is_refused_where_the_numbers_make_no_sense(void)
{
    struct geometry geometry;
    uint64_t least;
    CHECK(!arena_geometry(&geometry, 0, 4 << 20, 0.5, &least));
    CHECK(!arena_geometry(&geometry, SESSILE_CAPACITY_MAX + 1, (uint64_t)1 << 36, 0.5, &least));
    CHECK(!arena_geometry(&geometry, 100, 4 << 20, 0, &least) && !arena_geometry(&geometry, 100, 4 << 20, -1, &least));
    CHECK(!arena_geometry(&geometry, 100, 4 << 20, 1.001, &least));
    CHECK(!arena_geometry(&geometry, 100, 4 << 20, 0.0 / 0.0, &least));
    CHECK(!arena_geometry(&geometry, 100, SESSILE_MEMORY_MIN - 1, 0.5, &least) && least == SESSILE_MEMORY_MIN);
    for (unsigned bits = 38; bits < 64; bits++) {
        CHECK(!arena_geometry(&geometry, 100, (uint64_t)1 << bits, 0.5, &least));
        CHECK(!arena_geometry(&geometry, 100, ((uint64_t)1 << bits) + (8 << 20), 0.5, &least));
    }
    CHECK(!arena_geometry(&geometry, 100, UINT64_MAX, 0.5, &least));
    /* The most that it names is the most that there is, to a few MiB. */
    for (uint64_t capacity = 100; capacity < SESSILE_CAPACITY_MAX; capacity *= 100) {
        CHECK(!arena_geometry(&geometry, capacity, (uint64_t)1 << 37, 0.5, &least));
        uint64_t most = geometry.memory_most;
        CHECK(most > (uint64_t)50 << 30 && arena_geometry(&geometry, capacity, most, 0.5, &least));
        CHECK(!arena_geometry(&geometry, capacity, most + (1 << 20), 0.5, &least) && least < most);
        CHECK(geometry.size + (8 << 20) > (uint64_t)ARENA_SLOT << 31);
    }
}

/* Whoever attaches later reads the share from the header, and must come to the same bounds. */
static void the_share_is_kept_to_a_billionth(void)
{
    static const double shares[] = {1.0 / 3, 0.1, 0.29, 0.57, 2.0 / 3, 1e-9, 1e-12, 0.999999999999, 1};
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct geometry first, second;
        uint64_t least;
        CHECK(arena_geometry(&first, 300000, 256 << 20, shares[i], &least));
        uint64_t billionths = (uint64_t)(first.anonymous_share * 1e9 + 0.5);
        CHECK(arena_geometry(&second, 300000, 256 << 20, (double)billionths / 1e9, &least));
        CHECK(memcmp(&first, &second, sizeof first) == 0);
    }
}

static void a_class_is_the_smallest_that_is_large_enough(void)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        use(1000, turn ? 128 << 20 : 2 << 20, 0.5);
        const struct geometry *geometry = &arena->geometry;
        for (uint32_t size = 1; size < geometry->class_size[geometry->class_count - 1] + 100; size++) {
            uint32_t class = arena_class(geometry, size);
            if (class == ARENA_LARGE) {
                CHECK(size > geometry->class_size[geometry->class_count - 1]);
                continue;
            }
            CHECK(class < geometry->class_count && geometry->class_size[class] >= size);
            CHECK(class == 0 || geometry->class_size[class - 1] < size);
            CHECK(geometry->class_size[class] % ARENA_SLOT == 0 && geometry->class_slots[class] >= 1);
            CHECK(geometry->class_slots[class] * geometry->class_size[class] <=
                  geometry->class_units[class] * geometry->unit_size);
        }
        done();
    }
}

/* ---- slots ---- */

static void slots_never_overlap_and_all_come_back_a1_to_a5(void)
{
    static const struct {
        uint64_t memory;
        double share;
        uint32_t steps;
    } runs[] = {{2 << 20, 0.5, 40000}, {3 << 20, 0.1, 40000}, {80 << 20, 1.0, 30000}};
    for (unsigned run = 0; run < 3; run++) {
        use(2000, runs[run].memory, runs[run].share);
        for (uint32_t i = 0; i < runs[run].steps; i++) {
            step(i / 5000 % 2 == 0 || run == 2);
            if (i % 2000 == 0)
                check_sound();
        }
        while (taken_count > 0)
            give(taken_count - 1);
        check_sound();
        for (uint32_t holder = 0; holder < 2 * arena->geometry.shards; holder++)
            for (unsigned class = 0; class < ARENA_LISTS; class++)
                CHECK(lists_of(holder)->live[0][class] == 0 && lists_of(holder)->live[1][class] == 0);
        done();
    }
}

/* An update may take the last slot and the last units, a create may not (A4). */
static void the_last_is_for_updates_a4(void)
{
    use(1000, 2 << 20, 1.0);
    struct page_lists *lists = lists_of(0);
    while (take(0, ARENA_OWNED, 300, 0) == ARENA_OK)
        continue;
    uint32_t class = arena_class(&arena->geometry, 300);
    CHECK(lists->free[ARENA_OWNED][class] == 1);
    uint32_t left = arena->geometry.units - atomic_load(&arena->header->used_units);
    CHECK(left >= arena->geometry.reserve_units && left < arena->geometry.reserve_units + 8);
    CHECK(take(0, ARENA_OWNED, 300, ARENA_CREATE | ARENA_ANY_CLASS) == ARENA_NEED_PAGE);
    /* By the update of a record of this very class, which gives a slot back; not by that of another. */
    CHECK(take(0, ARENA_OWNED, 300, ARENA_UPDATE | ARENA_OWN_CLASS(class) | ARENA_NO_LEND) == ARENA_OK);
    CHECK(lists->free[ARENA_OWNED][class] == 0);
    give(taken_count / 2);
    CHECK(lists->free[ARENA_OWNED][class] == 1);
    CHECK(take(0, ARENA_OWNED, 300, ARENA_UPDATE | ARENA_OWN_CLASS(class + 1) | ARENA_NO_LEND) == ARENA_NEED_PAGE);
    CHECK(take(1, ARENA_OWNED, 300, ARENA_CREATE) == ARENA_NEED_PAGE);
    CHECK(take(1, ARENA_OWNED, 300, ARENA_UPDATE) == ARENA_OK);
    check_sound();
    done();
}

static void a_taken_pool_lock_is_not_waited_for_by_who_may_not(void)
{
    use(1000, 2 << 20, 1.0);
    atomic_store(&arena->header->pool_lock.word, arena_me(arena));
    CHECK(take(0, ARENA_OWNED, 300, ARENA_NO_WAIT) == ARENA_BUSY);
    atomic_store(&arena->header->pool_lock.word, 0);
    CHECK(take(0, ARENA_OWNED, 300, ARENA_NO_WAIT) == ARENA_OK);
    /* What is emptied while the lock is taken stays listed, and is returned later. */
    CHECK(take(0, ARENA_OWNED, 5000, 0) == ARENA_OK);
    struct arena_place place;
    CHECK(arena_place(arena, 0, taken[1].slot, &place));
    uint32_t used = atomic_load(&arena->header->used_units);
    atomic_store(&arena->header->pool_lock.word, arena_me(arena));
    give(1);
    CHECK(atomic_load(&arena->header->used_units) == used);
    atomic_store(&arena->header->pool_lock.word, 0);
    check_sound();
    CHECK(arena_return_page(arena, lists_of(0), place.unit) && atomic_load(&arena->header->used_units) < used);
    CHECK(!arena_return_page(arena, lists_of(0), place.unit));
    check_sound();
    done();
}

static void memory_is_reserved_before_it_is_used_a2(void)
{
    use(1000, 16 << 20, 1.0);
    uint32_t first = atomic_load(&arena->header->frontier), chunk = ARENA_CHUNK / arena->geometry.unit_size;
    CHECK(first == chunk);
    for (uint32_t end = first; end < arena->geometry.units; end += chunk) {
        CHECK(atomic_load(&arena->header->frontier) == end);
        CHECK(!arena_within(arena, arena->geometry.first_slot, (uint64_t)end * arena->geometry.unit_size + 1));
        CHECK(arena_within(arena, arena->geometry.first_slot, (uint64_t)end * arena->geometry.unit_size));
        CHECK(arena_reserve(arena, false) == 0);
    }
    CHECK(atomic_load(&arena->header->frontier) == arena->geometry.units && arena_reserve(arena, false) == 0);
    CHECK(!arena_within(arena, arena->geometry.first_slot, UINT64_MAX) && !arena_within(arena, 0, 1));
    CHECK(!arena_within(arena, arena->geometry.end_slot, 1) && !arena_within(arena, arena->geometry.first_slot - 1, 1));
    CHECK(!arena_record(arena, UINT32_MAX) && !arena_record(arena, 0));
    done();
}

/* ---- checks and rebuilding ---- */

static void populate(void)
{
    use(1000, 2 << 20, 0.5);
    for (uint32_t i = 0; i < 3000; i++)
        step(true);
    check_sound();
}

static bool is_taken(void *context, uint32_t slot)
{
    (void)context;
    return bytes_taken[slot - arena->geometry.first_slot] != 0;
}

static void rebuild(void)
{
    struct arena_page page;
    arena_rebuild_units(arena);
    for (uint32_t holder = 0; holder < 2 * arena->geometry.shards; holder++) {
        arena_rebuild_begin(lists_of(holder));
        for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);)
            arena_rebuild_page(arena, lists_of(holder), &page, is_taken, NULL);
    }
}

static void expect(const char *invariant)
{
    struct findings found;
    look(&found);
    CHECK(found.count > 0 && names(&found, invariant));
    rebuild();
    check_sound();
}

static void what_is_derived_is_rebuilt(void)
{
    populate();
    const struct geometry *geometry = &arena->geometry;
    memset(arena->base + geometry->pages, 0xa5, geometry->units * sizeof(struct page));
    memset(arena->base + geometry->free_units, 0x5a, (geometry->units + 63) / 64 * 8);
    for (uint32_t holder = 0; holder < 2 * geometry->shards; holder++)
        memset((void *)lists_of(holder), 0xff, sizeof(struct page_lists));
    atomic_store(&arena->header->used_units, 99999);
    rebuild();
    check_sound();
    uint32_t before = crc32c(0, arena->base + geometry->pages, geometry->units * sizeof(struct page));
    rebuild();
    CHECK(crc32c(0, arena->base + geometry->pages, geometry->units * sizeof(struct page)) == before);
    for (uint32_t i = 0; i < 3000; i++)
        step(i % 2);
    check_sound();
    done();
}

/* Large records do not move: each run lies where none of its length is in another's way. */
static void runs_lie_at_multiples_of_their_length(void)
{
    uint32_t slot, most = 0;
    use(1000, 4 << 20, 0.5);
    for (uint32_t turn = 0; turn < 400; turn++) {
        uint32_t units = 2 + (uint32_t)(check_random(&state) % (ARENA_RUNS - 2));
        struct arena_place place;
        enum arena_answer answer = ARENA_NEED_RESERVE;
        while (answer == ARENA_NEED_RESERVE && arena_reserve(arena, false) == 0)
            answer = arena_take(arena, lists_of(0), 0, ARENA_OWNED, units * arena->geometry.unit_size, ARENA_CREATE, &slot);
        if (answer != ARENA_OK)
            continue;
        CHECK(arena_place(arena, 0, slot, &place) && place.unit % units == 0);
        most = place.unit > most ? place.unit : most;
        if (check_random(&state) % 2)
            arena_give(arena, lists_of(0), 0, slot);
    }
    CHECK(most > arena->geometry.units / 2);
    done();
}

static void the_checks_name_a1_a2_and_a5(void)
{
    populate();
    _Atomic uint64_t *bitmap = (void *)(arena->base + arena->geometry.free_units);
    atomic_fetch_xor(&bitmap[0], 4);
    expect("A1");
    atomic_fetch_add(&arena->header->used_units, 1);
    expect("A1");
    atomic_fetch_sub(&arena->header->used_anonymous_units, 1);
    expect("A1");
    uint32_t frontier = atomic_load(&arena->header->frontier);
    struct findings found = {0};
    struct check check = {.report = note_finding, .context = &found};
    atomic_store(&arena->header->frontier, 3);
    uint32_t end = arena_check_frontier(arena, &check);
    CHECK(names(&found, "A2") && end > 3 && end <= frontier);
    CHECK(arena_reserve_to(arena, end) == 0 && atomic_load(&arena->header->frontier) >= end);
    atomic_store(&arena->header->frontier, frontier);
    struct arena_place place;
    CHECK(arena_place(arena, taken[0].holder, taken[0].slot, &place));
    struct page *page = (struct page *)(void *)(arena->base + arena->geometry.pages) + place.unit;
    page->live++;
    expect("A5");
    page->listed = !page->listed;
    expect("A5");
    lists_of(taken[0].holder)->free[taken[0].pool][place.class]++;
    expect("A5");
    lists_of(taken[0].holder)->live[taken[0].pool][place.class]--;
    expect("A5");
    done();
}

/* A killed lender: everything but the HEAD word is there. Then it was never lent (A1). */
static void half_a_lending_is_none_a1(void)
{
    populate();
    _Atomic uint64_t *directory = arena_directory(arena);
    uint32_t unit = arena->geometry.units;
    while (unit-- > 4)
        if (atomic_load(&directory[unit]) == 0 && atomic_load(&directory[unit - 1]) == 0)
            break;
    atomic_store(&directory[unit], 2 | (uint64_t)1 << 16);
    uint32_t used = atomic_load(&arena->header->used_units);
    atomic_store(&arena->header->used_units, used + 2);
    arena_rebuild_units(arena);
    CHECK(atomic_load(&directory[unit]) == 0 && atomic_load(&arena->header->used_units) == used);
    check_sound();
    done();
}

/* Any bytes in what is derived or in the directory: nothing outside is touched, and no loop is endless. */
static void damage_is_not_followed_outside(void)
{
    for (unsigned turn = 0; turn < 60; turn++) {
        struct findings found;
        populate();
        const struct geometry *geometry = &arena->geometry;
        for (unsigned i = 0; i < 200; i++) {
            uint64_t value = check_random(&state) >> check_random(&state) % 64;
            uint64_t at = check_random(&state);
            switch (check_random(&state) % 4) {
            case 0: memcpy(arena->base + geometry->directory + at % geometry->units * 8, &value, 8); break;
            case 1: memcpy(arena->base + geometry->pages + at % (geometry->units * 2) * 8, &value, 8); break;
            case 2: memcpy((uint8_t *)lists_of((uint32_t)(at % 16)) + at / 16 % (sizeof(struct page_lists) / 4 - 1) * 4,
                           &value, 4); break;
            default: memcpy(arena->base + geometry->data + at % (geometry->units * 128ull) * ARENA_SLOT + 72, &value, 4); break;
            }
        }
        for (unsigned i = 0; i < 500; i++) {
            uint32_t slot, holder = (uint32_t)(check_random(&state) % geometry->shards);
            enum arena_pool pool = (enum arena_pool)(check_random(&state) % 2);
            if (arena_take(arena, lists_of(holder), holder, pool, some_size(), (int)(check_random(&state) % 4), &slot) ==
                    ARENA_OK && arena_record(arena, slot))
                arena_give(arena, lists_of(holder), holder, slot);
            arena_give(arena, lists_of(holder), holder, (uint32_t)check_random(&state));
            arena_give(arena, lists_of(holder), holder, taken[i % taken_count].slot);
            uint32_t unit = arena_sparsest(arena, lists_of(holder), pool);
            if (unit < geometry->units) {
                arena_unlist(arena, lists_of(holder), unit);
                arena_relist(arena, lists_of(holder), unit);
            }
        }
        look(&found);
        done();
    }
}

/* While a page is emptied its free slots are withheld. It may be left so only by who is killed there, and recovery mends that. */
static void a_page_that_stays_withheld_is_named_a5(void)
{
    struct findings found;
    use(400, SESSILE_MEMORY_MIN, 1.0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(take(1, ARENA_OWNED, 200, ARENA_CREATE) == ARENA_OK);
    struct arena_place place;
    CHECK(arena_place(arena, 1, taken[0].slot, &place));
    check_sound();
    arena_unlist(arena, lists_of(1), place.unit);
    look(&found);
    CHECK(found.count == 1 && strncmp(found.text[0], "A5", 2) == 0);
    arena_relist(arena, lists_of(1), place.unit);
    check_sound();
    done();
}

int main(void)
{
    RUN(a_geometry_is_made_for_every_sensible_table);
    RUN(a_geometry_is_refused_where_the_numbers_make_no_sense);
    RUN(the_share_is_kept_to_a_billionth);
    RUN(a_class_is_the_smallest_that_is_large_enough);
    RUN(slots_never_overlap_and_all_come_back_a1_to_a5);
    RUN(the_last_is_for_updates_a4);
    RUN(a_taken_pool_lock_is_not_waited_for_by_who_may_not);
    RUN(memory_is_reserved_before_it_is_used_a2);
    RUN(what_is_derived_is_rebuilt);
    RUN(runs_lie_at_multiples_of_their_length);
    RUN(the_checks_name_a1_a2_and_a5);
    RUN(a_page_that_stays_withheld_is_named_a5);
    RUN(half_a_lending_is_none_a1);
    RUN(damage_is_not_followed_outside);
    return check_summary();
}
