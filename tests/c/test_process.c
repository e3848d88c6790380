/* test_process.c - csrc/process.c: process slots, proof of death, and what a process takes over before it attaches; P1 to P3.
 *
 * In the private home there is one process and no proof; what is left of the tests then says so.
 */
#define _GNU_SOURCE
#include "tables.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sessile *table;
static struct process *process;

/* What parent and child tell each other. */
static struct shared {
    _Atomic uint32_t word, step;
    _Atomic int result;
} *shared;

static void with_table(void (*body)(void))
{
    table = open_table(1000, 2 << 20, 0.5);
    process = &table->arena.process;
    memset((void *)shared, 0, sizeof *shared);
    body();
    CHECK_CLEAN(table);
    sessile_close(table);
}

#define RUN_WITH_TABLE(test) (with_table(test), (void)check_passed++)

static pid_t start(void (*body)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    return child;
}

static void expect_success(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void kill_now(pid_t child)
{
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void wait_for(uint32_t step)
{
    while (atomic_load(&shared->step) != step)
        sched_yield();
}

static void tell_and_stay(void)
{
    atomic_store(&shared->word, process_word(process));
    atomic_store(&shared->step, 1);
    for (;;)
        pause();
}

/* ---- attaching ---- */

static void each_process_has_a_slot_of_its_own_p1(void)
{
    uint32_t mine = process_word(process);
    CHECK(mine != 0 && lock_owner_slot(mine) == 0 && mine >> 16 == 1 && !(mine & LOCK_WAITERS));
    CHECK(process_count(process) == 1);
    pid_t child = start(tell_and_stay);
    wait_for(1);
    uint32_t others = atomic_load(&shared->word);
    CHECK(others != 0 && lock_owner_slot(others) == 1);
    CHECK(process_count(process) == 2 && !process_reap(process, 1) && !process_reap(process, 0));
    CHECK(!process_reap(process, SESSILE_PROCESSES_MAX) && !process_reap(process, UINT32_MAX));
    kill_now(child);
    CHECK(process_reap(process, 1) && process_count(process) == 1);
    CHECK(process_word(process) == mine);
}

/* The same slot, another word: a lock word tells the two apart. */
static void a_slot_that_is_given_again_has_another_generation(void)
{
    uint32_t words[3];
    for (int i = 0; i < 3; i++) {
        atomic_store(&shared->step, 0);
        pid_t child = start(tell_and_stay);
        wait_for(1);
        words[i] = atomic_load(&shared->word);
        kill_now(child);
        CHECK(lock_owner_slot(words[i]) == 1 && words[i] >> 16 == (uint32_t)i + 1);
    }
    atomic_store(&process->slots[1].generation, PROCESS_GENERATIONS);
    atomic_store(&shared->step, 0);
    pid_t child = start(tell_and_stay);
    wait_for(1);
    CHECK(atomic_load(&shared->word) >> 16 == 1);
    kill_now(child);
}

/* A zombie is dead: its parent may take its time. */
static void death_is_proven_before_the_parent_has_waited(void)
{
    int status;
    pid_t child = start(tell_and_stay);
    wait_for(1);
    CHECK(kill(child, SIGKILL) == 0);
    while (!process_reap(process, 1))
        sched_yield();
    CHECK(waitpid(child, &status, WNOHANG) == child || waitpid(child, &status, 0) == child);
}

static void close_all_and_stay(void)
{
    for (int descriptor = 0; descriptor < 64; descriptor++)
        close(descriptor);
    tell_and_stay();
}

/* os.closerange() of a daemon, or of a careless library. */
static void a_process_that_closes_its_descriptors_is_alive_p1(void)
{
    pid_t child = start(close_all_and_stay);
    wait_for(1);
    for (int i = 0; i < 20; i++)
        CHECK(!process_reap(process, 1));
    kill_now(child);
    CHECK(process_reap(process, 1));
}

static void fork_and_die(void)
{
    pid_t grandchild = fork();
    CHECK(grandchild >= 0);
    if (grandchild == 0)
        tell_and_stay();
    wait_for(1);
    atomic_store(&shared->result, grandchild);
}

/* A child does not keep its dead parent's slot: it has one of its own. */
static void a_forked_child_is_no_proof_of_life_for_its_parent(void)
{
    expect_success(start(fork_and_die));
    uint32_t grandchild = lock_owner_slot(atomic_load(&shared->word));
    CHECK(grandchild == 2 && process_reap(process, 1) && !process_reap(process, 2));
    CHECK(kill(atomic_load(&shared->result), SIGKILL) == 0);
    while (!process_reap(process, 2))
        sched_yield();
}

/* ---- refusals ---- */

static void try_to_attach(void)
{
    struct sessile_session got;
    atomic_store(&shared->word, process_word(process));
    atomic_store(&shared->result, load(table, 1, 0, &got));
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_DETACHED);
    uint64_t count;
    CHECK(sessile_owner_revoke(table, &waits, (const uint8_t *)"alice", 5, 0, 0, &count) == SESSILE_DETACHED);
    CHECK(sessile_sweep(table, &waits, 10, &count) == SESSILE_DETACHED);
}

static void expect_detached(void)
{
    expect_success(start(try_to_attach));
    CHECK(atomic_load(&shared->word) == 0 && atomic_load(&shared->result) == SESSILE_DETACHED);
    /* P2: and it left no lock taken. */
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++)
        CHECK(atomic_load(&shard_at(table, number)->lock.word) == 0 && atomic_load(&stripe_at(table, number)->lock.word) == 0);
}

static enum system_operation refused;
static int refuse(enum system_operation operation)
{
    return operation == refused ? EMFILE : 0;
}

static void a_child_that_cannot_attach_is_told_so_p2(void)
{
    static const enum system_operation operations[] = {SYSTEM_OPEN, SYSTEM_STAT, SYSTEM_BYTE_LOCK, SYSTEM_MMAP};
    for (unsigned i = 0; i < 4; i++) {
        refused = operations[i];
        system_fault = refuse;
        expect_detached();
        system_fault = NULL;
    }
}

/* The number of the table's descriptor may have come to mean another file. */
static void another_file_under_the_same_number_is_noticed(void)
{
    int kept = dup(process->descriptor), other = open("/dev/null", O_RDWR);
    CHECK(kept >= 0 && other >= 0 && dup2(other, process->descriptor) == process->descriptor);
    expect_detached();
    CHECK(dup2(kept, process->descriptor) == process->descriptor);
    CHECK(close(kept) == 0 && close(other) == 0);
}

static void all_slots_may_be_taken(void)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)PROCESS_BYTES_AT + 1,
                        .l_len = SESSILE_PROCESSES_MAX - 1};
    int descriptor = system_reopen(process->descriptor);
    CHECK(descriptor >= 0 && fcntl(descriptor, F_OFD_SETLK, &all) == 0);
    expect_detached();
    CHECK(close(descriptor) == 0);
}

/* ---- taking over ---- */

static void take_locks_and_stay(void)
{
    struct stripe_hold stripe;
    struct hold hold;
    CHECK(stripe_enter(table, 3, 1000, &stripe) == SESSILE_OK);
    CHECK(shard_enter(table, 2, 1000, &hold) == SESSILE_OK);
    CHECK(lock_try(&table->arena.header->pool_lock, process_word(process), LOCK_POOL));
    tell_and_stay();
}

static void check_free(void)
{
    CHECK(atomic_load(&shard_at(table, 2)->lock.word) == 0 && atomic_load(&stripe_at(table, 3)->lock.word) == 0);
    CHECK(atomic_load(&table->arena.header->pool_lock.word) == 0);
}

/* P3: whoever gets the slot of a dead process first takes over what that one held. */
static void what_the_dead_held_is_taken_over_before_their_slot_is_given_p3(void)
{
    pid_t child = start(take_locks_and_stay);
    wait_for(1);
    CHECK(lock_owner_slot(atomic_load(&shard_at(table, 2)->lock.word)) == 1);
    kill_now(child);
    CHECK(atomic_load(&shard_at(table, 2)->lock.word) != 0);
    atomic_store(&shared->step, 0);
    child = start(tell_and_stay);
    wait_for(1);
    CHECK(lock_owner_slot(atomic_load(&shared->word)) == 1);
    check_free();
    kill_now(child);
}

static void who_waits_takes_over(void)
{
    struct hold hold;
    struct stripe_hold stripe;
    pid_t child = start(take_locks_and_stay);
    wait_for(1);
    CHECK(shard_enter(table, 2, 10, &hold) == SESSILE_BUSY && stripe_enter(table, 3, 10, &stripe) == SESSILE_BUSY);
    kill_now(child);
    CHECK(shard_enter(table, 2, 60000, &hold) == SESSILE_OK);
    shard_leave(&hold);
    CHECK(stripe_enter(table, 3, 0, &stripe) == SESSILE_OK);
    owner_leave(&stripe);
    CHECK((atomic_load(&table->arena.header->pool_lock.word) & ~LOCK_WAITERS) == 0);
}

/* Stopped is not dead. */
static void a_stopped_process_keeps_its_locks(void)
{
    struct hold hold;
    int status;
    pid_t child = start(take_locks_and_stay);
    wait_for(1);
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    CHECK(shard_enter(table, 2, 50, &hold) == SESSILE_BUSY && !process_reap(process, 1));
    kill_now(child);
    CHECK(shard_enter(table, 2, 60000, &hold) == SESSILE_OK);
    shard_leave(&hold);
}

/* ---- the private home ---- */

static void a_child_of_the_private_home_is_detached(void)
{
    struct sessile_session got;
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_OK && process_count(process) == 1);
    CHECK(!process_reap(process, 0) && !process_reap(process, 1));
    expect_detached();
    CHECK(load(table, 1, 0, &got) == SESSILE_OK);
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    if (home_is_private()) {
        RUN_WITH_TABLE(a_child_of_the_private_home_is_detached);
        return check_summary();
    }
    RUN_WITH_TABLE(each_process_has_a_slot_of_its_own_p1);
    RUN_WITH_TABLE(a_slot_that_is_given_again_has_another_generation);
    RUN_WITH_TABLE(death_is_proven_before_the_parent_has_waited);
    RUN_WITH_TABLE(a_process_that_closes_its_descriptors_is_alive_p1);
    RUN_WITH_TABLE(a_forked_child_is_no_proof_of_life_for_its_parent);
    RUN_WITH_TABLE(a_child_that_cannot_attach_is_told_so_p2);
    RUN_WITH_TABLE(another_file_under_the_same_number_is_noticed);
    RUN_WITH_TABLE(all_slots_may_be_taken);
    RUN_WITH_TABLE(what_the_dead_held_is_taken_over_before_their_slot_is_given_p3);
    RUN_WITH_TABLE(who_waits_takes_over);
    RUN_WITH_TABLE(a_stopped_process_keeps_its_locks);
    return check_summary();
}
