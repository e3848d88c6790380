/* persist.c - what the processes of a table agree on about its images: who writes, which one is the latest, what time it
 * was. See sessile.h, "persistence".
 *
 * header.writer is the process word of the one writer, or 0. It is taken by compare-and-swap: from 0, or from the word of a
 * process that is proven dead (process.h). Either its slot's byte can be taken, or the slot has another generation by now.
 */
#include "crc32c.h"
#include "table.h"

static bool is_dead(struct sessile *table, uint32_t word)
{
    struct process *process = &table->arena.process;
    uint32_t slot = lock_owner_slot(word);
    if (slot >= SESSILE_PROCESSES_MAX)
        return true;
    uint32_t generation = atomic_load(&process->slots[slot].generation) & PROCESS_GENERATIONS;
    if (process->descriptor < 0)
        return false;
    return generation != word >> 16 || process_reap(process, slot);
}

bool sessile_writer_claim(struct sessile *table)
{
    _Atomic uint32_t *writer = &table->arena.header->writer;
    uint32_t me = arena_me(&table->arena), found = 0;
    if (me == 0) {
        if (process_attach(&table->arena.process) != SESSILE_OK)
            return false;
        me = arena_me(&table->arena);
    }
    if (atomic_compare_exchange_strong(writer, &found, me) || found == me)
        return true;
    return is_dead(table, found) && atomic_compare_exchange_strong(writer, &found, me);
}

void sessile_writer_release(struct sessile *table)
{
    uint32_t me = arena_me(&table->arena);
    if (me != 0)
        atomic_compare_exchange_strong(&table->arena.header->writer, &me, 0);
}

struct sessile_generation sessile_generation(const struct sessile *table)
{
    const struct arena_header *header = table->arena.header;
    return (struct sessile_generation){.published = atomic_load(&header->generation),
                                       .complete = atomic_load(&header->complete),
                                       .complete_ms = atomic_load(&header->complete_ms)};
}

void sessile_publish(struct sessile *table, uint64_t generation)
{
    atomic_store(&table->arena.header->generation, generation);
}

void sessile_complete(struct sessile *table, uint64_t generation, int64_t begun_ms)
{
    atomic_store(&table->arena.header->complete_ms, begun_ms);
    atomic_store(&table->arena.header->complete, generation);
}

void sessile_restore_clock(struct sessile *table, int64_t now_ms)
{
    int64_t behind = now_ms - arena_now(&table->arena);
    if (behind > 0)
        atomic_fetch_add(&table->arena.header->advance_ms, behind);
}

uint32_t sessile_epoch(const struct sessile *table)
{
    return shard_epoch(table);
}

void sessile_restore_epoch(struct sessile *table, uint32_t epoch)
{
    if ((int32_t)(epoch - shard_epoch(table)) > 0)
        atomic_store(&table->arena.header->epoch, epoch);
}

uint32_t sessile_checksum(uint32_t sum, const void *data, size_t length)
{
    return crc32c(sum, data, length);
}
