/* test_fork.c - the children of a fork use the table of their parent, all at once, each in a process slot of its own; killed
 * ones block nobody, and leave nothing behind that the survivors trip over.
 *
 *     test_fork [turns]
 */
#define _GNU_SOURCE
#include "tables.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 6u
#define COUNTERS 5u
#define IDS 60u

static unsigned turns = 800;
static struct sessile *table;
static const struct sessile_call patient = {.wait_ms = 60000};

/* What all processes tell each other. */
static struct shared {
    _Atomic uint64_t tried[COUNTERS], done[COUNTERS];
    _Atomic uint64_t next_id;
    _Atomic uint32_t going, stop;
} *shared;

static void use(uint64_t capacity)
{
    table = open_table(capacity, 2 << 20, 0.5);
    memset((void *)shared, 0, sizeof *shared);
    atomic_store(&shared->next_id, 1000000);
}

static void done(void)
{
    CHECK_CLEAN(table);
    sessile_close(table);
}

static pid_t start(void (*body)(uint64_t), uint64_t argument)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* A test that fails leaves no child at work. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(argument);
        _exit(0);
    }
    return child;
}

static void expect_success(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- sharing ---- */

static void see_and_change(uint64_t argument)
{
    struct sessile_session got;
    (void)argument;
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_OK && got.flags & SESSILE_FIRST);
    CHECK(update(table, &got, "alice", 77, &got) == SESSILE_OK);
    CHECK(create(table, 2, NULL, 5, &got) == SESSILE_OK);
    sessile_close(table);
}

static void a_child_shares_the_table_of_its_parent(void)
{
    struct sessile_session got;
    struct sessile_stats stats;
    use(1000);
    CHECK(create(table, 1, "alice", 10, &got) == SESSILE_OK);
    expect_success(start(see_and_change, 0));
    CHECK(load(table, 1, SESSILE_PRESENT, &got) == SESSILE_OK && got.fields_length == 77 && !(got.flags & SESSILE_FIRST));
    CHECK(load(table, 2, 0, &got) == SESSILE_OK);
    sessile_stats(table, &stats);
    CHECK(stats.processes == 1 && stats.sessions == 2);
    done();
}

static void *fork_in_a_thread(void *context)
{
    (void)context;
    for (int i = 0; i < 20; i++) {
        struct sessile_session got;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(load(table, 1, 0, &got) == SESSILE_OK ? 0 : 1);
        expect_success(child);
    }
    atomic_store(&shared->stop, 1);
    return NULL;
}

/* Fork while other threads hold locks: the words are the parent's, and the parent releases them. */
static void a_fork_among_busy_threads(void)
{
    pthread_t thread;
    struct sessile_session got;
    use(1000);
    CHECK(create(table, 1, NULL, 10, &got) == SESSILE_OK);
    CHECK(pthread_create(&thread, NULL, fork_in_a_thread, NULL) == 0);
    for (uint64_t i = 10; !atomic_load(&shared->stop); i++) {
        CHECK(create(table, i, "alice", 10, &got) == SESSILE_OK);
        struct sessile_reference reference = reference_to(&got, "alice");
        CHECK(sessile_remove(table, &patient, &reference, SESSILE_LOGOUT) == SESSILE_OK);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    done();
}

static void grandchild(uint64_t depth)
{
    struct sessile_session got;
    CHECK(create(table, 10 + depth, NULL, 5, &got) == SESSILE_OK);
    if (depth > 0)
        expect_success(start(grandchild, depth - 1));
}

static void children_have_children(void)
{
    struct sessile_session got;
    use(1000);
    expect_success(start(grandchild, 8));
    for (uint64_t i = 10; i <= 18; i++)
        CHECK(load(table, i, 0, &got) == SESSILE_OK);
    done();
}

/* ---- many at once ---- */

static const char *counter_owner(uint64_t counter)
{
    static const char *const names[COUNTERS] = {"c0", "c1", "c2", "c3", "c4"};
    return names[counter];
}

static void increment(uint64_t counter)
{
    uint8_t buffer[64];
    struct sessile_session session, got;
    char id[SESSILE_ID_LENGTH + 1];
    atomic_fetch_add(&shared->tried[counter], 1);
    for (;;) {
        uint64_t count;
        CHECK(sessile_load(table, &patient, id_of(counter, id), SESSILE_ID_LENGTH, SESSILE_TOUCH, &session, buffer,
                           sizeof buffer) == SESSILE_OK);
        memcpy(&count, buffer + session.owner_length, sizeof count);
        count++;
        struct sessile_reference reference = reference_to(&session, counter_owner(counter));
        struct sessile_content content = content_of(NULL, &count, sizeof count);
        content.idle_ms = content.absolute_ms = SESSILE_KEEP;
        enum sessile_status status = sessile_update(table, &patient, &reference, session.version, 0, &content, &got);
        if (status == SESSILE_OK)
            break;
        CHECK(status == SESSILE_CHANGED);
    }
    atomic_fetch_add(&shared->done[counter], 1);
}

static void come_and_go(uint64_t *state)
{
    struct sessile_session got, next;
    uint64_t number = 1000 + check_random(state) % IDS, count;
    const char *owner = number % 3 ? "alice" : NULL;
    enum sessile_status status = load(table, number, 3, &got);
    if (status == SESSILE_MISS || status == SESSILE_RETIRED || status == SESSILE_THEFT) {
        status = create(table, number, owner, check_random(state) % 3000, &got);
        CHECK(status == SESSILE_OK || status == SESSILE_EXISTS);
        return;
    }
    CHECK(status == SESSILE_OK);
    struct sessile_reference reference = reference_to(&got, owner);
    switch (check_random(state) % 8) {
    case 0:
    case 1: status = sessile_remove(table, &patient, &reference, SESSILE_LOGOUT); break;
    case 2: status = rotate(table, &got, "bob", SESSILE_LOGIN, atomic_fetch_add(&shared->next_id, 1), &next); break;
    case 3: status = rotate(table, &got, owner, SESSILE_RENEW, atomic_fetch_add(&shared->next_id, 1), &next); break;
    case 4: status = sessile_owner_revoke(table, &patient, (const uint8_t *)"bob", 3, 0, 0, &count); break;
    case 5: status = sessile_sweep(table, &patient, 10, &count); break;
    default: status = update(table, &got, owner, check_random(state) % 3000, &next);
    }
    CHECK(status == SESSILE_OK || status == SESSILE_CHANGED || status == SESSILE_GONE || status == SESSILE_INVALID);
}

static void work(uint64_t number)
{
    uint64_t state = number + 1;
    atomic_fetch_add(&shared->going, 1);
    for (unsigned turn = 0; turn < turns && !atomic_load(&shared->stop); turn++) {
        if (check_random(&state) % 3 == 0)
            increment(check_random(&state) % COUNTERS);
        else
            come_and_go(&state);
    }
}

static void make_counters(void)
{
    struct sessile_session got;
    uint64_t zero = 0;
    for (uint64_t counter = 0; counter < COUNTERS; counter++) {
        struct sessile_content content = content_of(counter_owner(counter), &zero, sizeof zero);
        CHECK(create_with(table, &patient, counter, &content, &got) == SESSILE_OK);
    }
}

static void check_counters(void)
{
    for (uint64_t counter = 0; counter < COUNTERS; counter++) {
        uint8_t buffer[64];
        struct sessile_session got;
        char id[SESSILE_ID_LENGTH + 1];
        /* Others may go on meanwhile: what was done before the look-up is in it, and nothing that was not tried by its end.
         * Those in flight when their process was killed are in it, or are not. */
        uint64_t count, done_before = atomic_load(&shared->done[counter]);
        CHECK(sessile_load(table, &patient, id_of(counter, id), SESSILE_ID_LENGTH, 0, &got, buffer, sizeof buffer) ==
              SESSILE_OK);
        memcpy(&count, buffer + got.owner_length, sizeof count);
        CHECK(count >= done_before && count <= atomic_load(&shared->tried[counter]));
    }
}

static void processes_work_at_once_and_lose_nothing(void)
{
    pid_t children[CHILDREN];
    use(300);
    make_counters();
    for (unsigned i = 0; i < CHILDREN; i++)
        children[i] = start(work, i);
    work(CHILDREN);
    for (unsigned i = 0; i < CHILDREN; i++)
        expect_success(children[i]);
    check_counters();
    for (unsigned counter = 0; counter < COUNTERS; counter++)
        CHECK(atomic_load(&shared->done[counter]) == atomic_load(&shared->tried[counter]));
    done();
}

/* ---- killed ---- */

static void kill_one(pid_t child)
{
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

/* Whoever is killed, wherever: survivors go on, returned operations are there, invariants hold. */
static void the_killed_block_nobody(void)
{
    pid_t children[3];
    uint64_t state = 3;
    struct sessile_stats stats;
    unsigned long_turns = turns;
    use(300);
    make_counters();
    turns = 1u << 30;
    for (unsigned i = 0; i < 3; i++)
        children[i] = start(work, i);
    for (unsigned killed = 0; killed < long_turns / 8; killed++) {
        unsigned i = (unsigned)(check_random(&state) % 3);
        for (uint64_t pause = check_random(&state) % 400; pause-- > 0;)
            come_and_go(&state);
        kill_one(children[i]);
        CHECK_CLEAN(table);
        check_counters();
        children[i] = start(work, check_random(&state));
    }
    atomic_store(&shared->stop, 1);
    for (unsigned i = 0; i < 3; i++)
        expect_success(children[i]);
    turns = long_turns;
    check_counters();
    sessile_stats(table, &stats);
    CHECK(stats.processes == 1 && stats.quarantined == 0);
    done();
}

int main(int argc, char **argv)
{
    if (argc > 1)
        turns = (unsigned)strtoul(argv[1], NULL, 10);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    if (home_is_private()) {
        printf("the private home is not shared with children: see test_process\n");
        return check_summary();
    }
    RUN(a_child_shares_the_table_of_its_parent);
    RUN(a_fork_among_busy_threads);
    RUN(children_have_children);
    RUN(processes_work_at_once_and_lose_nothing);
    RUN(the_killed_block_nobody);
    return check_summary();
}
