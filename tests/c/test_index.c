/* test_index.c - csrc/index.c against an array: I1 and I2 after every kind of change, at every size, up to its load and beyond. */
#include "check.h"
#include "index.h"

#include <string.h>

#define MOST 4096u

static _Atomic uint64_t region[MOST];
static uint32_t hashes[MOST], slots[MOST], count;
static uint64_t state = 1;

static struct index fresh(uint32_t active)
{
    struct index index = index_view(region, MOST, MOST);
    index_clear(&index);
    count = 0;
    return index_view(region, active, MOST);
}

/* Does the index hold exactly what the array does? */
static void agree(const struct index *index)
{
    uint32_t broken;
    CHECK(index_count(index, &broken) == count && broken == 0);
    for (uint32_t i = 0; i < count; i++) {
        struct index_cursor cursor = index_start(index, hashes[i]);
        uint32_t slot, times = 0;
        while ((slot = index_next(index, hashes[i], &cursor)) != 0)
            times += slot == slots[i];
        CHECK(times == 1);
    }
    for (uint32_t at = index->active; at < index->most; at++)
        CHECK(atomic_load(&region[at]) == 0);
}

static void add(struct index *index, uint32_t hash, uint32_t slot)
{
    if (index_should_grow(index, count))
        index_grow(index);
    CHECK(index_insert(index, hash, slot));
    hashes[count] = hash;
    slots[count++] = slot;
}

static void drop(struct index *index, uint32_t at)
{
    CHECK(index_remove(index, hashes[at], slots[at]));
    CHECK(!index_remove(index, hashes[at], slots[at]));
    hashes[at] = hashes[--count];
    slots[at] = slots[count];
}

static void it_holds_what_was_entered_while_it_grows_i1_i2(void)
{
    struct index index = fresh(INDEX_FIRST);
    uint32_t grown = 0;
    for (uint32_t slot = 1; index_has_room(&index, count); slot++) {
        uint32_t active = index.active;
        add(&index, (uint32_t)check_random(&state), slot);
        if (index.active == active && slot % 97 != 0)
            continue;
        grown += index.active != active;
        agree(&index);
    }
    CHECK(grown == 4 && index.active == MOST && count == MOST / 8 * 5);
    agree(&index);
}

static void it_holds_what_is_left_after_any_removals_i1_i2(void)
{
    /* Hashes of few homes, so that runs are long and wrap around the end. */
    static const uint32_t masks[] = {UINT32_MAX, 0xff00000fu, 0xfff80000u, 0x00ffffffu, 0xf0000000u};
    for (unsigned which = 0; which < 5; which++) {
        struct index index = fresh(INDEX_FIRST);
        for (uint32_t step = 0, slot = 1; step < 4000; step++) {
            uint32_t hash = (uint32_t)check_random(&state) & masks[which];
            if (which == 3)
                hash |= 0xff000000u;
            if (count < 120 && check_random(&state) % 5 < 3)
                add(&index, hash, slot++);
            else if (count > 0)
                drop(&index, (uint32_t)(check_random(&state) % count));
            if (step % 16 == 0)
                agree(&index);
        }
        while (count > 0)
            drop(&index, count - 1);
        agree(&index);
    }
}

/* TABLE 3: without tombstones the probes stay short, however long a table lives. */
static void churn_does_not_lengthen_probes(void)
{
    struct index index = fresh(1024);
    uint32_t slot = 1, longest = 0;
    while (count < 512)
        add(&index, (uint32_t)check_random(&state), slot++);
    index.active = 1024;
    for (uint32_t step = 0; step < 300000; step++) {
        drop(&index, (uint32_t)(check_random(&state) % count));
        uint32_t hash = (uint32_t)check_random(&state);
        CHECK(index_insert(&index, hash, slot));
        hashes[count] = hash;
        slots[count++] = slot++ & 0x7fffffff;
        struct index_cursor cursor = index_start(&index, hash ^ 1);
        while (index_next(&index, hash ^ 1, &cursor) != 0)
            continue;
        longest = cursor.probes > longest ? cursor.probes : longest;
    }
    CHECK(longest < 100);
    agree(&index);
}

static void one_store_replaces_a_slot(void)
{
    struct index index = fresh(INDEX_FIRST);
    add(&index, 5, 10);
    add(&index, 5, 11);
    CHECK(index_replace(&index, 5, 10, 12) && !index_replace(&index, 5, 10, 13) && !index_replace(&index, 6, 11, 13));
    slots[0] = 12;
    agree(&index);
}

static void several_slots_may_have_one_hash(void)
{
    struct index index = fresh(INDEX_FIRST);
    for (uint32_t slot = 1; slot <= 40; slot++)
        add(&index, 0xfffffff0u, slot);
    agree(&index);
    for (uint32_t at = 20; at-- > 0;)
        drop(&index, at * 2);
    agree(&index);
}

static void a_size_from_the_mapping_that_cannot_be_is_corrected(void)
{
    CHECK(index_view(region, 0, MOST).active == MOST);
    CHECK(index_view(region, 3, MOST).active == MOST);
    CHECK(index_view(region, MOST * 2, MOST).active == MOST);
    CHECK(index_view(region, UINT32_MAX, MOST).active == MOST);
    CHECK(index_view(region, 512, MOST).active == 512);
}

/* A full table, which only damage makes, ends every loop. */
static void a_full_table_is_survived(void)
{
    struct index index = fresh(256);
    for (uint32_t at = 0; at < 256; at++)
        atomic_store(&region[at], (uint64_t)check_random(&state) | 1);
    struct index_cursor cursor = index_start(&index, 77);
    while (index_next(&index, 77, &cursor) != 0)
        continue;
    CHECK(cursor.probes <= INDEX_PROBES);
    CHECK(!index_insert(&index, 77, 5) && !index_remove(&index, 77, 5) && !index_replace(&index, 77, 5, 6));
    uint64_t entry = atomic_load(&region[9]);
    index_remove(&index, (uint32_t)(entry >> 32), (uint32_t)entry);
    index_grow(&index);
    uint32_t broken;
    CHECK(index.active == 512 && index_count(&index, &broken) <= 256);
}

static void the_count_names_what_cannot_be_found_i1(void)
{
    struct index index = fresh(INDEX_FIRST);
    uint32_t broken;
    for (uint32_t slot = 1; slot <= 20; slot++)
        add(&index, 0x80000000u, slot);
    uint32_t home = index_home(0x80000000u, index.active);
    atomic_store(&region[home + 5], 0);
    CHECK(index_count(&index, &broken) == 19 && broken == 14);
}

int main(void)
{
    RUN(it_holds_what_was_entered_while_it_grows_i1_i2);
    RUN(it_holds_what_is_left_after_any_removals_i1_i2);
    RUN(churn_does_not_lengthen_probes);
    RUN(one_store_replaces_a_slot);
    RUN(several_slots_may_have_one_hash);
    RUN(a_size_from_the_mapping_that_cannot_be_is_corrected);
    RUN(a_full_table_is_survived);
    RUN(the_count_names_what_cannot_be_found_i1);
    return check_summary();
}
