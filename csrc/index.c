/* index.c - see index.h. */
#include "index.h"

#define MARK ((uint64_t)1 << 31)

static uint64_t read_entry(const struct index *index, uint32_t place)
{
    return atomic_load_explicit(&index->entries[place], memory_order_relaxed);
}

static void write_entry(const struct index *index, uint32_t place, uint64_t entry)
{
    atomic_store_explicit(&index->entries[place], entry, memory_order_relaxed);
}

static uint64_t make_entry(uint32_t hash, uint32_t slot)
{
    return (uint64_t)hash << 32 | slot;
}

static uint32_t entry_hash(uint64_t entry)
{
    return (uint32_t)(entry >> 32);
}

struct index index_view(void *entries, uint32_t active, uint32_t most)
{
    if (active == 0 || active > most || (active & (active - 1)) != 0)
        active = most;
    return (struct index){entries, active, most};
}

bool index_has_room(const struct index *index, uint32_t count)
{
    return count < index->most / 8 * 5;
}

bool index_should_grow(const struct index *index, uint32_t count)
{
    return index->active < index->most && count >= index->active / 2;
}

static bool find_place(const struct index *index, uint32_t hash, uint32_t slot, uint32_t *place)
{
    uint32_t at = index_home(hash, index->active);
    for (uint32_t probes = 0; probes < INDEX_PROBES; probes++) {
        uint64_t entry = read_entry(index, at);
        if (entry == 0)
            return false;
        if (entry == make_entry(hash, slot)) {
            *place = at;
            return true;
        }
        at = (at + 1) & (index->active - 1);
    }
    return false;
}

bool index_insert(const struct index *index, uint32_t hash, uint32_t slot)
{
    uint32_t at = index_home(hash, index->active);
    for (uint32_t probes = 0; probes < INDEX_PROBES && probes < index->active; probes++) {
        if (read_entry(index, at) == 0) {
            write_entry(index, at, make_entry(hash, slot));
            return true;
        }
        at = (at + 1) & (index->active - 1);
    }
    return false;
}

bool index_replace(const struct index *index, uint32_t hash, uint32_t from, uint32_t to)
{
    uint32_t place;
    if (!find_place(index, hash, from, &place))
        return false;
    write_entry(index, place, make_entry(hash, to));
    return true;
}

/* Closes the gap at `hole`: moves back each following entry whose home does not lie behind the hole. */
static void close_gap(const struct index *index, uint32_t hole)
{
    uint32_t mask = index->active - 1, at = hole;
    for (uint32_t steps = 0; steps < index->active; steps++) {
        at = (at + 1) & mask;
        uint64_t entry = read_entry(index, at);
        if (entry == 0)
            break;
        uint32_t home = index_home(entry_hash(entry), index->active);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            write_entry(index, hole, entry);
            hole = at;
        }
    }
    write_entry(index, hole, 0);
}

bool index_remove(const struct index *index, uint32_t hash, uint32_t slot)
{
    uint32_t place;
    if (!find_place(index, hash, slot, &place))
        return false;
    close_gap(index, place);
    return true;
}

/* Puts a taken-out entry at its new place; an unplaced entry that is met there is taken out in turn. */
static void settle(const struct index *index, uint64_t entry)
{
    while (entry != 0) {
        uint32_t at = index_home(entry_hash(entry), index->active);
        uint64_t met;
        while ((met = read_entry(index, at)) != 0 && !(met & MARK))
            at = (at + 1) & (index->active - 1);
        write_entry(index, at, entry);
        entry = met & ~MARK;
    }
}

void index_grow(struct index *index)
{
    uint32_t old = index->active;
    for (uint32_t at = 0; at < old; at++) {
        uint64_t entry = read_entry(index, at);
        if (entry != 0)
            write_entry(index, at, entry | MARK);
    }
    for (uint32_t at = old; at < old * 2; at++)
        write_entry(index, at, 0);
    index->active = old * 2;
    for (uint32_t at = 0; at < old; at++) {
        uint64_t entry = read_entry(index, at);
        if (!(entry & MARK))
            continue;
        write_entry(index, at, 0);
        settle(index, entry & ~MARK);
    }
}

void index_clear(const struct index *index)
{
    for (uint32_t at = 0; at < index->active; at++)
        write_entry(index, at, 0);
}

uint32_t index_count(const struct index *index, uint32_t *broken)
{
    uint32_t count = 0;
    *broken = 0;
    for (uint32_t at = 0; at < index->active; at++) {
        uint64_t entry = read_entry(index, at);
        if (entry == 0)
            continue;
        count++;
        uint32_t from = index_home(entry_hash(entry), index->active);
        while (from != at && read_entry(index, from) != 0)
            from = (from + 1) & (index->active - 1);
        if (from != at || entry & MARK)
            *broken += 1;
    }
    return count;
}
