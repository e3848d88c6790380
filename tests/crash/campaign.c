/* campaign.c - SIGKILL at random moments of many processes that work on one table, with an oracle beside it.
 *
 *     campaign [--variant NAME] [--kills N] [--seconds S] [--workers N] [--seed N] [--ballast MiB]
 *
 * With a ballast, which the system must take apart before a death can be seen, a worker is killed once it is at work, and
 * the first one never: how long it had to wait is what is then of interest.
 *
 *   plain       one at a time
 *   several     up to half of them at once, and again while the others repair
 *   repair      repairs are slow, so that most kills after one hit the process that repairs
 *   close       workers close every descriptor behind the table's back first
 *   daemon      workers are daemons: twice forked, a session of their own, every descriptor closed
 *   stop        processes are stopped and go on later: callers may be told BUSY, nobody is robbed
 *   namespaces  each worker is process 1 of a process namespace of its own
 *   exit        workers have two threads, and one ends the process while the other works
 *
 * A killed worker is replaced by one that checks everything its predecessor had written down. Prints what happened; the exit
 * status is 0 if and only if there was no violation. 77: the system does not allow the variant.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "oracle.h"
#include "owner.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum variant { PLAIN, SEVERAL, REPAIR, CLOSE, DAEMON, STOP, NAMESPACES, EXIT, VARIANTS };
static const char *const names[VARIANTS] = {"plain", "several", "repair", "close", "daemon", "stop", "namespaces", "exit"};

struct campaign {
    enum variant variant;
    uint64_t kills, in_lock, in_repair, stops, stopped_in_lock, random;
    uint64_t kills_wanted;
    double seconds_wanted;
    int controller;
    uint32_t workers, ballast_mib;
    uint64_t operations_before[WORKERS_MAX]; /* of each worker's predecessors */
    struct oracle *oracle;
    struct sessile_options options;
    uint8_t keys[1][SESSILE_KEY_SIZE];
    char directory[64], path[96];
    struct sessile *table;         /* the controller's; not attached while workers fork, so that only they are seen */
};

static struct worker *repairing;   /* whose repairs are slow, in the worker */
static struct oracle *repairing_for;

/* ---- in the worker ---- */

void __real_shard_recover(struct sessile *table, uint32_t number);
void __wrap_shard_recover(struct sessile *table, uint32_t number);

/* Says that a repair is under way, and in one variant makes it long. */
void __wrap_shard_recover(struct sessile *table, uint32_t number)
{
    if (repairing)
        atomic_store(&repairing->recovering, 1);
    __real_shard_recover(table, number);
    if (repairing) {
        if (repairing_for)
            usleep(3000);
        atomic_store(&repairing->recovering, 0);
    }
}

static struct sessile *open_table(const struct campaign *campaign)
{
    struct sessile_problem problem;
    struct sessile *table;
    struct sessile_options options = campaign->options;
    options.must_exist = true;
    for (int tries = 0; tries < 1000; tries++) {
        enum sessile_status status = sessile_open(&options, &table, &problem);
        if (status == SESSILE_OK)
            return table;
        if (status != SESSILE_BUSY)
            violation(campaign->oracle, "attach answered %s (%s %d)", sessile_status_name(status),
                      problem.operation ? problem.operation : "-", problem.error);
    }
    _exit(3);
}

static void touch_ballast(uint32_t mebibytes)
{
    size_t size = (size_t)mebibytes << 20;
    uint8_t *bytes = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
    for (size_t i = 0; bytes != MAP_FAILED && i < size; i += 4096)
        bytes[i] = 1;
}

struct thread {
    struct oracle *oracle;
    uint32_t number;
    struct sessile *table;
};

static void *work_in_thread(void *context)
{
    struct thread *thread = context;
    work(thread->oracle, thread->number, thread->table);
    return NULL;
}

/* Ends the process while the other thread is somewhere in the table. */
static void work_and_exit(struct campaign *campaign, uint32_t number, struct sessile *table)
{
    pthread_t thread;
    struct thread other = {campaign->oracle, number, table};
    uint64_t random = campaign->random ^ (uint64_t)getpid();
    if (pthread_create(&thread, NULL, work_in_thread, &other) != 0)
        _exit(3);
    usleep((useconds_t)(2000 + next_random(&random) % 8000));
    _exit(0);
}

__attribute__((noreturn)) static void be_worker(struct campaign *campaign, uint32_t number)
{
    struct worker *worker = &campaign->oracle->of[number];
    /* A daemon is the controller's child only when the process between them is gone. */
    while (campaign->variant == DAEMON && getppid() != campaign->controller)
        usleep(100);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sessile *table = open_table(campaign);
    repairing = worker;
    repairing_for = campaign->variant == REPAIR ? campaign->oracle : NULL;
    if (campaign->variant == CLOSE || campaign->variant == DAEMON)
        syscall(SYS_close_range, 3u, ~0u, 0u);
    touch_ballast(campaign->ballast_mib);
    atomic_store(&worker->process_word, arena_me(&table->arena));
    atomic_store(&worker->recovering, 0);
    if (campaign->variant == DAEMON)
        atomic_store(&worker->pid, getpid());
    if (campaign->variant == EXIT)
        work_and_exit(campaign, number, table);
    work(campaign->oracle, number, table);
    _exit(0);
}

/* ---- in the controller ---- */

static int start_in_namespace(void)
{
    return (int)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
}

static void start(struct campaign *campaign, uint32_t number)
{
    struct worker *worker = &campaign->oracle->of[number];
    fflush(stdout);
    atomic_store(&worker->process_word, 0);
    campaign->operations_before[number] = atomic_load(&worker->operations);
    if (campaign->variant == DAEMON)
        atomic_store(&worker->pid, 0);
    int child = campaign->variant == NAMESPACES ? start_in_namespace() : fork();
    if (child == 0 && campaign->variant == DAEMON) {
        setsid();
        if (fork() != 0)
            _exit(0);
    }
    if (child == 0)
        be_worker(campaign, number);
    if (child < 0) {
        printf("cannot start a worker: %s\n", strerror(errno));
        exit(errno == EPERM || errno == ENOSYS ? 77 : 2);
    }
    if (campaign->variant != DAEMON) {
        atomic_store(&worker->pid, child);
        return;
    }
    waitpid(child, NULL, 0);
    while (atomic_load(&worker->pid) == 0)
        usleep(100);
}

/* Locks whose word names this process slot. */
static unsigned locks_of(const struct campaign *campaign, uint32_t word)
{
    const struct sessile *table = campaign->table;
    unsigned count = 0;
    if (word == 0)
        return 0;
    count += (atomic_load(&table->arena.header->pool_lock.word) & ~LOCK_WAITERS) == word;
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        count += (atomic_load(&shard_at(table, number)->lock.word) & ~LOCK_WAITERS) == word;
        count += (atomic_load(&stripe_at(table, number)->lock.word) & ~LOCK_WAITERS) == word;
    }
    return count;
}

static void reap_child(int pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
}

static void kill_worker(struct campaign *campaign, uint32_t number)
{
    struct worker *worker = &campaign->oracle->of[number];
    int pid = atomic_load(&worker->pid);
    kill(pid, SIGKILL);
    reap_child(pid);
    campaign->kills++;
    campaign->in_lock += locks_of(campaign, atomic_load(&worker->process_word)) != 0;
    campaign->in_repair += atomic_load(&worker->recovering) != 0;
}

static void wait_until_at_work(const struct campaign *campaign, uint32_t number)
{
    while (atomic_load(&campaign->oracle->of[number].operations) == campaign->operations_before[number] &&
           atomic_load(&campaign->oracle->violations) == 0)
        usleep(200);
}

static void kill_some(struct campaign *campaign)
{
    uint32_t count = 1, chosen[WORKERS_MAX], spared = campaign->ballast_mib ? 1 : 0;
    if (campaign->variant == SEVERAL)
        count = 1 + (uint32_t)(next_random(&campaign->random) % (campaign->workers / 2));
    for (uint32_t i = 0; i < count; i++) {
        chosen[i] = spared + (uint32_t)(next_random(&campaign->random) % (campaign->workers - spared));
        for (uint32_t j = 0; j < i; j++)
            if (chosen[j] == chosen[i])
                return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (campaign->ballast_mib)
            wait_until_at_work(campaign, chosen[i]);
        kill_worker(campaign, chosen[i]);
        /* The next one perhaps while it takes over from this one. */
        if (i + 1 < count && next_random(&campaign->random) % 2)
            usleep((useconds_t)(next_random(&campaign->random) % 25000));
    }
    for (uint32_t i = 0; i < count; i++)
        start(campaign, chosen[i]);
}

/* The first one dies, and each that repairs what it left. */
static void kill_repairers(struct campaign *campaign)
{
    uint32_t chosen[WORKERS_MAX], count = 0;
    chosen[count++] = (uint32_t)(next_random(&campaign->random) % campaign->workers);
    uint64_t before = campaign->in_lock;
    kill_worker(campaign, chosen[0]);
    for (unsigned polls = 0; campaign->in_lock > before && polls < 200 && count < campaign->workers - 1; polls++) {
        usleep(100);
        for (uint32_t number = 0; number < campaign->workers; number++) {
            bool dead = false;
            for (uint32_t i = 0; i < count; i++)
                dead |= chosen[i] == number;
            if (dead || !atomic_load(&campaign->oracle->of[number].recovering))
                continue;
            kill_worker(campaign, number);
            chosen[count++] = number;
            break;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        start(campaign, chosen[i]);
}

/* A stopped process keeps what it holds, however long. */
static void stop_one(struct campaign *campaign)
{
    uint32_t number = (uint32_t)(next_random(&campaign->random) % campaign->workers);
    struct worker *worker = &campaign->oracle->of[number];
    int pid = atomic_load(&worker->pid), status;
    kill(pid, SIGSTOP);
    if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
        return;
    uint32_t word = atomic_load(&worker->process_word);
    unsigned held = locks_of(campaign, word);
    campaign->stops++;
    campaign->stopped_in_lock += held != 0;
    usleep((useconds_t)(next_random(&campaign->random) % (held ? 60000 : 3000)));
    if (locks_of(campaign, word) != held)
        violation(campaign->oracle, "a stopped process was robbed: it held %u locks", held);
    if (next_random(&campaign->random) % 8 == 0) {
        kill_worker(campaign, number);
        start(campaign, number);
        return;
    }
    kill(pid, SIGCONT);
    waitpid(pid, &status, WCONTINUED);
}

/* Those that end by themselves are replaced. */
static void replace_one(struct campaign *campaign)
{
    int pid = waitpid(-1, NULL, 0);
    for (uint32_t number = 0; number < campaign->workers; number++)
        if (atomic_load(&campaign->oracle->of[number].pid) == pid) {
            campaign->kills++;
            campaign->in_lock += locks_of(campaign, atomic_load(&campaign->oracle->of[number].process_word)) != 0;
            start(campaign, number);
        }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Hundredths of a second that the hypervisor gave to others. */
static uint64_t stolen(void)
{
    uint64_t user, nice, system, idle, wait, irq, soft, steal = 0;
    FILE *file = fopen("/proc/stat", "re");
    if (!file)
        return 0;
    if (fscanf(file, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &user,
               &nice, &system, &idle, &wait, &irq, &soft, &steal) != 8)
        steal = 0;
    fclose(file);
    return steal;
}

/* ---- beginning and end ---- */

static void make_table(struct campaign *campaign)
{
    struct sessile_problem problem;
    snprintf(campaign->directory, sizeof campaign->directory, "/dev/shm/sessile-campaign-XXXXXX");
    if (!mkdtemp(campaign->directory)) {
        perror("mkdtemp");
        exit(2);
    }
    snprintf(campaign->path, sizeof campaign->path, "%s/table", campaign->directory);
    campaign->options = (struct sessile_options){
        .path = campaign->path, .capacity = 8000, .memory = 32u << 20, .anonymous_share = 1.0,
        .keys = (const uint8_t (*)[SESSILE_KEY_SIZE])campaign->keys, .key_count = 1,
        .policy = {.owned_idle_ms = 1800000, .owned_absolute_ms = 28800000, .anonymous_idle_ms = 1800000,
                   .anonymous_absolute_ms = 28800000, .fields_max = SESSILE_FIELDS_MAX},
    };
    enum sessile_status status = sessile_open(&campaign->options, &campaign->table, &problem);
    if (status != SESSILE_OK) {
        printf("cannot make %s: %s\n", campaign->path, sessile_status_name(status));
        exit(2);
    }
}

static void make_oracle(struct campaign *campaign)
{
    struct oracle *oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (oracle == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    oracle->seed = campaign->random;
    oracle->workers = campaign->workers;
    oracle->wait_ms = campaign->variant == STOP ? 30 : 5000;
    oracle->may_be_busy = campaign->variant == STOP || campaign->variant == CLOSE || campaign->variant == DAEMON;
    campaign->oracle = oracle;
}

static void tell(void *context, const char *text)
{
    struct campaign *campaign = context;
    violation(campaign->oracle, "sessile_check: %s", text);
}

/* With everybody gone: what is written down is there, and the table is sound. */
static void end(struct campaign *campaign)
{
    struct sessile_call call = {.wait_ms = 5000};
    uint64_t findings = 0;
    atomic_store(&campaign->oracle->stop, 1);
    for (uint32_t number = 0; number < campaign->workers; number++) {
        kill(atomic_load(&campaign->oracle->of[number].pid), SIGKILL);
        reap_child(atomic_load(&campaign->oracle->of[number].pid));
    }
    for (uint32_t number = 0; number < campaign->workers; number++)
        settle_all(campaign->oracle, number, campaign->table);
    if (sessile_check(campaign->table, &call, false, tell, campaign, &findings) != SESSILE_OK)
        violation(campaign->oracle, "the last check could not be made");
}

static int report(struct campaign *campaign, double took, uint64_t steal)
{
    struct oracle *oracle = campaign->oracle;
    struct sessile_stats stats;
    uint64_t operations = 0, busy = 0, worst = 0;
    for (uint32_t number = 0; number < campaign->workers; number++) {
        operations += atomic_load(&oracle->of[number].operations);
        busy += atomic_load(&oracle->of[number].busy);
        uint64_t own = atomic_load(&oracle->of[number].worst_us);
        worst = own > worst ? own : worst;
    }
    sessile_stats(campaign->table, &stats);
    if (stats.quarantined)
        violation(oracle, "%" PRIu64 " records were quarantined", stats.quarantined);
    uint64_t violations = atomic_load(&oracle->violations);
    printf("%-10s %7" PRIu64 " kills, %6" PRIu64 " in a lock, %5" PRIu64 " in a repair, %6" PRIu64 " repairs, %5" PRIu64
           " stops (%" PRIu64 " in a lock), %9" PRIu64 " operations, %" PRIu64 " busy, worst %.1f ms, %.1f s, steal %.1f s, %"
           PRIu64 " violations\n", names[campaign->variant], campaign->kills, campaign->in_lock, campaign->in_repair,
           stats.recoveries, campaign->stops, campaign->stopped_in_lock, operations, busy, (double)worst / 1000, took,
           (double)steal / 100, violations);
    if (violations)
        printf("first: %s\n", oracle->first);
    sessile_close(campaign->table);
    unlink(campaign->path);
    rmdir(campaign->directory);
    return violations ? 1 : 0;
}

static int run(struct campaign *campaign)
{
    double began = seconds();
    uint64_t steal = stolen();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    campaign->controller = getpid();
    make_oracle(campaign);
    make_table(campaign);
    for (uint32_t number = 0; number < campaign->workers; number++)
        start(campaign, number);
    while (campaign->kills < campaign->kills_wanted && seconds() - began < campaign->seconds_wanted &&
           atomic_load(&campaign->oracle->violations) == 0) {
        if (campaign->variant == EXIT) {
            replace_one(campaign);
            continue;
        }
        usleep((useconds_t)(next_random(&campaign->random) % 3000));
        if (campaign->variant == STOP)
            stop_one(campaign);
        else if (campaign->variant == REPAIR)
            kill_repairers(campaign);
        else
            kill_some(campaign);
    }
    end(campaign);
    return report(campaign, seconds() - began, stolen() - steal);
}

static bool parse(int count, char **arguments, struct campaign *campaign)
{
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (strcmp(name, "--variant") == 0) {
            campaign->variant = 0;
            while (campaign->variant < VARIANTS && strcmp(names[campaign->variant], value) != 0)
                campaign->variant++;
        } else if (strcmp(name, "--kills") == 0)
            campaign->kills_wanted = strtoull(value, NULL, 10);
        else if (strcmp(name, "--seconds") == 0)
            campaign->seconds_wanted = atof(value);
        else if (strcmp(name, "--workers") == 0)
            campaign->workers = (uint32_t)atoi(value);
        else if (strcmp(name, "--seed") == 0)
            campaign->random = strtoull(value, NULL, 10);
        else if (strcmp(name, "--ballast") == 0)
            campaign->ballast_mib = (uint32_t)atoi(value);
        else
            return false;
    }
    return count % 2 == 1 && campaign->variant < VARIANTS && campaign->workers >= 2 && campaign->workers <= WORKERS_MAX;
}

int main(int count, char **arguments)
{
    static struct campaign campaign = {.kills_wanted = 1000, .seconds_wanted = 3600, .workers = 4};
    campaign.random = (uint64_t)time(NULL);
    if (!parse(count, arguments, &campaign)) {
        fprintf(stderr, "usage: campaign [--variant NAME] [--kills N] [--seconds S] [--workers N] [--seed N] "
                        "[--ballast MiB]\n");
        return 2;
    }
    printf("seed %" PRIu64 "\n", campaign.random);
    return run(&campaign);
}
