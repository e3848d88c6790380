/* process.h - the processes attached to a table, and proof that one of them is dead.
 *
 * Each attached process owns one of 1,024 process slots by holding an open-file-description lock on one byte of the
 * table's own file, far beyond its end. The description is pinned by a mapping of one page that no child inherits
 * (system_pin), so it cannot be closed by accident, and the kernel releases the byte when the process is gone, zombie or
 * not. Whoever can take that byte holds the proof, and the exclusive right to take over what that slot's process held,
 * until it lets go of the byte.
 *
 * P1  A slot's byte is held by the living process that owns the slot, by one that is taking over from a dead one, or by none.
 * P2  A process puts its word into a lock only while it holds its byte.
 * P3  A process attaches in a slot only after everything that the slot's former process held was taken over.
 *
 * Slot and generation of this process lie on a page that reads as zeroes in a forked child: however the child was made,
 * it is detached until it attaches on its own.
 */
#ifndef SESSILE_PROCESS_H
#define SESSILE_PROCESS_H

#include "lock.h"
#include "system.h"

#define PROCESS_BYTES_AT ((uint64_t)1 << 40)
#define PROCESS_GENERATIONS 0x7fffu

struct process_slot {
    _Atomic uint32_t generation;
    _Atomic uint32_t process_id;   /* for people; proves nothing */
    _Atomic int64_t attached_ms;
    uint64_t reserved[2];
};

struct process_local {             /* on the page that a child reads as zeroes */
    _Atomic uint32_t word;         /* generation << 16 | slot; 0: detached */
    _Atomic uint32_t attaching;
    void *pin;
};

struct process {                   /* private */
    struct process_slot *slots;
    int descriptor;                /* of the table's file, kept to reopen it; -1: private memory */
    bool copied;                   /* private memory, attached: a process that finds itself detached is a forked child */
    struct system_identity identity;
    struct process_local *local;
    /* Takes over every lock of a dead slot, as `me`, and repairs what it guarded. */
    void (*take_over)(void *context, uint32_t dead_slot, uint32_t me);
    void *context;
};

/* The caller's process word; 0: detached. */
static inline uint32_t process_word(const struct process *process)
{
    return atomic_load_explicit(&process->local->word, memory_order_acquire);
}

/* Attaches this process. OK, PROCESSES, DETACHED (the descriptor is gone or means another file), SYSTEM. (child) */
enum sessile_status process_attach(struct process *process);
void process_detach(struct process *process);
/* If the process of this slot is dead, takes over what it held. True: it was dead. */
bool process_reap(struct process *process, uint32_t slot);
/* Attached processes, by their bytes; reaps the dead on the way. */
uint32_t process_count(struct process *process);

#endif
