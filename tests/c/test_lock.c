/* test_lock.c - csrc/lock.c: one word, its waits, its wakes, its taking over; and the order of locks where that is asserted. */
#define _GNU_SOURCE
#include "check.h"
#include "lock.h"
#include "system.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#define ME ((uint32_t)3 << 16 | 5)
#define OTHER ((uint32_t)7 << 16 | 9)

static struct lock lock;

static void a_free_word_is_taken_and_given_back(void)
{
    atomic_store(&lock.word, 0);
    CHECK(lock_try(&lock, ME, LOCK_SHARD) && atomic_load(&lock.word) == ME);
    CHECK(!lock_try(&lock, OTHER, LOCK_SHARD));
    lock_release(&lock, LOCK_SHARD);
    CHECK(atomic_load(&lock.word) == 0);
    CHECK(lock_take(&lock, ME, LOCK_SHARD, 0, NULL) == SESSILE_OK);
    lock_release(&lock, LOCK_SHARD);
    CHECK(lock_owner_slot(ME) == 5 && lock_owner_slot(OTHER | LOCK_WAITERS) == 9);
}

static unsigned asked;

/* Who holds it is asked about after each slice: is it dead? Gives it free the third time. */
static void note(void *context, uint32_t word)
{
    CHECK(context == &lock && lock_owner_slot(word) == 9);
    if (++asked == 3)
        atomic_store(&lock.word, 0);
}

static void who_holds_it_is_asked_about_after_each_slice(void)
{
    struct lock_watch watch = {.waited = note, .context = &lock};
    atomic_store(&lock.word, OTHER);
    CHECK(lock_take(&lock, ME, LOCK_SHARD, 0, &watch) == SESSILE_WOULD_BLOCK);
    CHECK(asked == 0 && atomic_load(&lock.word) == OTHER);
    CHECK(lock_take(&lock, ME, LOCK_SHARD, 60000, &watch) == SESSILE_OK && asked == 3);
    lock_release(&lock, LOCK_SHARD);
}

static void a_taken_word_is_waited_for_no_longer_than_allowed(void)
{
    atomic_store(&lock.word, OTHER);
    int64_t before = system_monotonic_ms();
    CHECK(lock_take(&lock, ME, LOCK_SHARD, 30, NULL) == SESSILE_BUSY);
    CHECK(system_monotonic_ms() - before >= 29);
    CHECK((atomic_load(&lock.word) & ~LOCK_WAITERS) == OTHER);
}

static void give_up(void *context, uint32_t word)
{
    (void)context;
    (void)word;
    atomic_store(&lock.word, 0);
}

/* Its owner was killed between the release and the wake: a waiter loses one slice. */
static void a_wake_that_never_comes_costs_one_slice(void)
{
    struct lock_watch watch = {.waited = give_up, .context = &lock};
    atomic_store(&lock.word, OTHER);
    CHECK(lock_take(&lock, ME, LOCK_SHARD, 60000, &watch) == SESSILE_OK);
    CHECK((atomic_load(&lock.word) & ~LOCK_WAITERS) == ME);
    lock_release(&lock, LOCK_SHARD);
}

static void only_the_word_of_a_dead_slot_is_taken_over(void)
{
    atomic_store(&lock.word, OTHER | LOCK_WAITERS);
    CHECK(!lock_steal(&lock, 5, ME) && !lock_steal(&lock, 10, ME));
    CHECK(lock_steal(&lock, 9, ME) && (atomic_load(&lock.word) & ~LOCK_WAITERS) == ME);
    CHECK(!lock_steal(&lock, 9, ME));
    lock_drop(&lock);
    CHECK(atomic_load(&lock.word) == 0 && !lock_steal(&lock, 0, ME));
}

/* ---- many threads ---- */

enum { THREADS = 6, TURNS = 20000 };
static uint64_t guarded, inside;

static void *count_up(void *context)
{
    uint32_t me = ME + (uint32_t)(uintptr_t)context;
    for (unsigned i = 0; i < TURNS; i++) {
        CHECK(lock_take(&lock, me, LOCK_SHARD, 60000, NULL) == SESSILE_OK);
        CHECK(inside++ == 0);
        guarded++;
        if (i % 64 == 0)
            sched_yield();
        inside--;
        CHECK((atomic_load(&lock.word) & ~LOCK_WAITERS) == me);
        lock_release(&lock, LOCK_SHARD);
    }
    return NULL;
}

static void one_at_a_time(void)
{
    pthread_t threads[THREADS];
    atomic_store(&lock.word, 0);
    guarded = 0;
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count_up, (void *)i) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(guarded == (uint64_t)THREADS * TURNS && atomic_load(&lock.word) == 0);
}

/* ---- the order of locks, which SESSILE_DEBUG asserts ---- */

static bool dies(void (*body)(void))
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(freopen("/dev/null", "w", stderr));
        body();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct lock second;
static void shard_then_stripe(void)
{
    (void)lock_try(&lock, ME, LOCK_SHARD);
    (void)lock_try(&second, ME, LOCK_STRIPE);
}

static void two_shards(void)
{
    (void)lock_try(&lock, ME, LOCK_SHARD);
    (void)lock_try(&second, ME, LOCK_SHARD);
}

static void pool_then_shard(void)
{
    (void)lock_try(&lock, ME, LOCK_POOL);
    CHECK(lock_take(&second, ME, LOCK_SHARD, 0, NULL) == SESSILE_OK);
}

static void a_release_of_what_is_not_held(void)
{
    lock_release(&lock, LOCK_POOL);
}

static void all_in_order(void)
{
    struct lock third = {0};
    CHECK(lock_try(&lock, ME, LOCK_STRIPE) && lock_try(&second, ME, LOCK_SHARD) && lock_try(&third, ME, LOCK_POOL));
    lock_release(&third, LOCK_POOL);
    lock_release(&second, LOCK_SHARD);
    CHECK(lock_try(&second, ME, LOCK_SHARD));
    lock_release(&second, LOCK_SHARD);
    lock_release(&lock, LOCK_STRIPE);
    /* The recount takes every shard. */
    CHECK(lock_try(&lock, ME, LOCK_RECOUNT) && lock_try(&second, ME, LOCK_RECOUNT));
    lock_release(&second, LOCK_RECOUNT);
    lock_release(&lock, LOCK_RECOUNT);
}

static void locks_are_taken_in_their_order(void)
{
#ifdef SESSILE_DEBUG
    bool asserted = true;
#else
    bool asserted = false;
#endif
    atomic_store(&lock.word, 0);
    CHECK(dies(shard_then_stripe) == asserted);
    CHECK(dies(two_shards) == asserted);
    CHECK(dies(pool_then_shard) == asserted);
    CHECK(dies(a_release_of_what_is_not_held) == asserted);
    CHECK(!dies(all_in_order));
}

int main(void)
{
    RUN(a_free_word_is_taken_and_given_back);
    RUN(a_taken_word_is_waited_for_no_longer_than_allowed);
    RUN(who_holds_it_is_asked_about_after_each_slice);
    RUN(a_wake_that_never_comes_costs_one_slice);
    RUN(only_the_word_of_a_dead_slot_is_taken_over);
    RUN(one_at_a_time);
    RUN(locks_are_taken_in_their_order);
    return check_summary();
}
