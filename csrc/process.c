/* process.c - see process.h. Attaching is safe in the child of a fork: no allocation, no stdio, no locks of libc. */
#include "process.h"

#include <errno.h>

static int fresh_descriptor(const struct process *process)
{
    struct system_identity identity;
    int descriptor = system_reopen(process->descriptor);
    if (descriptor < 0)
        return descriptor;
    /* After os.closerange() the number may be somebody else's file. */
    if (system_identify(descriptor, &identity) < 0 || identity.device != process->identity.device ||
        identity.inode != process->identity.inode) {
        system_close(descriptor);
        return -EBADF;
    }
    return descriptor;
}

static uint32_t next_generation(uint32_t generation)
{
    return generation >= PROCESS_GENERATIONS ? 1 : generation + 1;
}

/* Takes slot `number`, whose byte the caller holds through `descriptor` (P3). */
static enum sessile_status own(struct process *process, uint32_t number, int descriptor)
{
    struct process_slot *slot = &process->slots[number];
    uint32_t generation = next_generation(atomic_load(&slot->generation) & PROCESS_GENERATIONS);
    uint32_t word = generation << 16 | number;
    process->take_over(process->context, number, word);
    void *pin = NULL;
    if (system_pin(descriptor, &pin) < 0)
        return SESSILE_SYSTEM;
    atomic_store(&slot->process_id, system_process_id());
    atomic_store(&slot->attached_ms, system_clock_ms());
    atomic_store(&slot->generation, generation);
    process->local->pin = pin;
    atomic_store_explicit(&process->local->word, word, memory_order_release);
    return SESSILE_OK;
}

static enum sessile_status find_slot(struct process *process)
{
    int descriptor = fresh_descriptor(process);
    if (descriptor < 0)
        return SESSILE_DETACHED;
    enum sessile_status status = SESSILE_PROCESSES;
    for (uint32_t number = 0; number < SESSILE_PROCESSES_MAX; number++) {
        int locked = system_byte_lock(descriptor, PROCESS_BYTES_AT + number);
        if (locked == -EAGAIN)
            continue;
        status = locked < 0 ? SESSILE_SYSTEM : own(process, number, descriptor);
        break;
    }
    if (status != SESSILE_OK)
        system_close(descriptor);
    return status;
}

/* Private memory has no file and no other process; a forked child holds a copy that no log-out would ever reach. */
static enum sessile_status attach_private(struct process *process)
{
    if (process->copied)
        return SESSILE_DETACHED;
    process->copied = true;
    atomic_store(&process->local->word, 1u << 16);
    return SESSILE_OK;
}

enum sessile_status process_attach(struct process *process)
{
    /* One thread attaches; the others wait for it, which is a matter of microseconds. */
    while (atomic_exchange(&process->local->attaching, 1))
        system_pause();
    enum sessile_status status = SESSILE_OK;
    if (process_word(process) == 0)
        status = process->descriptor < 0 ? attach_private(process) : find_slot(process);
    atomic_store(&process->local->attaching, 0);
    return status;
}

void process_detach(struct process *process)
{
    if (process_word(process) == 0)
        return;
    atomic_store(&process->local->word, 0);
    if (process->local->pin)
        system_unpin(process->local->pin);
    process->local->pin = NULL;
}

bool process_reap(struct process *process, uint32_t slot)
{
    if (slot >= SESSILE_PROCESSES_MAX || process->descriptor < 0)
        return false;
    int descriptor = fresh_descriptor(process);
    if (descriptor < 0)
        return false;    /* no proof to be had: wait on */
    bool dead = system_byte_lock(descriptor, PROCESS_BYTES_AT + slot) == 0;
    if (dead)
        process->take_over(process->context, slot, process_word(process));
    system_close(descriptor);
    return dead;
}

uint32_t process_count(struct process *process)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < SESSILE_PROCESSES_MAX; slot++)
        if (atomic_load(&process->slots[slot].generation) != 0 &&
            (process->descriptor < 0 || slot == lock_owner_slot(process_word(process)) || !process_reap(process, slot)))
            count++;
    return process->descriptor < 0 ? 1 : count;
}
