/* lock.c - see lock.h. The slow path sets the waiters bit and sleeps in slices of 2 to 20 ms; a thread that wakes takes the
 * word with the bit kept, for it cannot know that it was the last. */
#include "lock.h"

#include <assert.h>

#include "system.h"

#define SPINS 100
#define FIRST_SLICE_MS 2
#define LAST_SLICE_MS 20

#ifdef SESSILE_DEBUG
static _Thread_local unsigned held;
static void note_taken(enum lock_rank rank)
{
    if (rank == LOCK_RECOUNT)
        return;
    assert(held < (unsigned)rank);
    held |= (unsigned)rank;
}
static void note_released(enum lock_rank rank)
{
    if (rank == LOCK_RECOUNT)
        return;
    assert(held & (unsigned)rank);
    held &= ~(unsigned)rank;
}
#else
static void note_taken(enum lock_rank rank)
{
    (void)rank;
}
static void note_released(enum lock_rank rank)
{
    (void)rank;
}
#endif

static bool swap(struct lock *lock, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong_explicit(&lock->word, &from, to, memory_order_acquire, memory_order_relaxed);
}

bool lock_try(struct lock *lock, uint32_t me, enum lock_rank rank)
{
    if (!swap(lock, 0, me))
        return false;
    note_taken(rank);
    return true;
}

static bool spin(struct lock *lock, uint32_t me)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 && swap(lock, 0, me))
            return true;
        system_pause();
    }
    return false;
}

/* Takes a free word with the waiters bit, or marks a taken one. True: taken. *word: what to sleep on. */
static bool take_or_mark(struct lock *lock, uint32_t me, uint32_t *word)
{
    for (;;) {
        uint32_t seen = atomic_load_explicit(&lock->word, memory_order_relaxed);
        if (seen == 0) {
            if (swap(lock, 0, me | LOCK_WAITERS))
                return true;
        } else if (seen & LOCK_WAITERS || swap(lock, seen, seen | LOCK_WAITERS)) {
            *word = seen | LOCK_WAITERS;
            return false;
        }
    }
}

enum sessile_status lock_take(struct lock *lock, uint32_t me, enum lock_rank rank, int64_t wait_ms,
                              const struct lock_watch *watch)
{
    if (lock_try(lock, me, rank))
        return SESSILE_OK;
    if (wait_ms == 0)
        return SESSILE_WOULD_BLOCK;
    if (spin(lock, me)) {
        note_taken(rank);
        return SESSILE_OK;
    }
    int64_t end = system_monotonic_ms() + wait_ms;
    int64_t slice = FIRST_SLICE_MS;
    uint32_t word;
    while (!take_or_mark(lock, me, &word)) {
        int64_t left = end - system_monotonic_ms();
        if (left <= 0)
            return SESSILE_BUSY;
        system_futex_wait(&lock->word, word, slice < left ? slice : left);
        slice = slice * 2 < LAST_SLICE_MS ? slice * 2 : LAST_SLICE_MS;
        uint32_t now = atomic_load_explicit(&lock->word, memory_order_relaxed);
        if (now != 0 && watch)
            watch->waited(watch->context, now);
    }
    note_taken(rank);
    return SESSILE_OK;
}

void lock_drop(struct lock *lock)
{
    uint32_t was = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
    if (was & LOCK_WAITERS)
        system_futex_wake(&lock->word);
}

void lock_release(struct lock *lock, enum lock_rank rank)
{
    note_released(rank);
    lock_drop(lock);
}

bool lock_steal(struct lock *lock, uint32_t dead_slot, uint32_t me)
{
    uint32_t seen;
    /* Again where a waiter set its bit meanwhile: nobody else changes the word of the dead, and one that stayed would be
     * taken for the next process of that slot. */
    while ((seen = atomic_load_explicit(&lock->word, memory_order_relaxed)) != 0 && lock_owner_slot(seen) == dead_slot)
        if (swap(lock, seen, me | LOCK_WAITERS))
            return true;
    return false;
}
