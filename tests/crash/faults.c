/* faults.c - every call that the table makes to the C library fails once, and then always, with each plausible error.
 *
 *     faults [--size short|ci|full]
 *
 * The linker puts the functions below in the place of those of the C library. For each act and each kind of call, the first
 * one fails, then the second, until the act no longer makes so many. After each the table must be sound, every session that
 * was stored must be there, the answer must say what happened, and no descriptor and no mapping may be left behind. In the
 * short form every third error is tried.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "owner.h"

/* ---- the calls ---- */

enum call {
    OPEN, OPENAT, FSTAT, STAT, LSTAT, FSTATFS, FCNTL, MMAP, MADVISE, FALLOCATE, FTRUNCATE, MEMFD, FCHMOD, LINKAT, GETRANDOM,
    FUTEX, READ, MALLOC, ALIGNED, CALLS
};

static const struct {
    const char *name;
    int errors[8];
} calls[CALLS] = {
    [OPEN] = {"open", {EMFILE, ENFILE, EACCES, ENOENT, EINTR, ENOMEM, EIO}},
    [OPENAT] = {"openat", {EMFILE, EACCES, EINTR, ENOSPC, EOPNOTSUPP, EIO}},
    [FSTAT] = {"fstat", {EIO, ENOMEM, EBADF}},
    [STAT] = {"stat", {ENOENT, EACCES}},
    [LSTAT] = {"lstat", {ENOENT, EACCES}},
    [FSTATFS] = {"fstatfs", {EIO, ENOSYS, EINTR}},
    [FCNTL] = {"fcntl", {ENOLCK, EINTR, EAGAIN, EDEADLK, EIO, EINVAL}},
    [MMAP] = {"mmap", {ENOMEM, EACCES, EAGAIN, ENODEV}},
    [MADVISE] = {"madvise", {EINVAL, ENOMEM, EAGAIN, EFAULT}},
    [FALLOCATE] = {"fallocate", {ENOSPC, EDQUOT, EINTR, EIO, EOPNOTSUPP}},
    [FTRUNCATE] = {"ftruncate", {EFBIG, EIO, EINTR, ENOSPC}},
    [MEMFD] = {"memfd_create", {EMFILE, ENOMEM, ENOSYS}},
    [FCHMOD] = {"fchmod", {EPERM, EIO}},
    [LINKAT] = {"linkat", {ENOSPC, EACCES, EROFS, EEXIST, ENOENT, EIO}},
    [GETRANDOM] = {"getrandom", {ENOSYS, EIO, EINTR}},
    [FUTEX] = {"futex", {EINTR, ENOSYS, EAGAIN, ENOMEM}},
    [READ] = {"read", {EIO, EINTR}},
    [MALLOC] = {"malloc", {ENOMEM}},
    [ALIGNED] = {"aligned_alloc", {ENOMEM}},
};

static struct {
    bool armed, always, hit;
    enum call call;
    unsigned left;                 /* calls that succeed first */
    int error;
} fault;
static char context[256];

static bool fails(enum call call)
{
    if (!fault.armed || call != fault.call)
        return false;
    if (fault.left > 0) {
        fault.left--;
        return false;
    }
    /* What is to be tried again after EINTR would never end. */
    if (fault.hit && (!fault.always || fault.error == EINTR))
        return false;
    fault.hit = true;
    errno = fault.error;
    return true;
}

#define REPLACE(result, name, parameters, arguments, call, failure) \
    result __real_##name parameters;                                \
    result __wrap_##name parameters;                                \
    result __wrap_##name parameters                                 \
    {                                                               \
        if (fails(call))                                            \
            return failure;                                         \
        return __real_##name arguments;                             \
    }

REPLACE(int, fstat, (int file, struct stat *facts), (file, facts), FSTAT, -1)
REPLACE(int, stat, (const char *path, struct stat *facts), (path, facts), STAT, -1)
REPLACE(int, lstat, (const char *path, struct stat *facts), (path, facts), LSTAT, -1)
REPLACE(int, fstatfs, (int file, struct statfs *facts), (file, facts), FSTATFS, -1)
REPLACE(void *, mmap, (void *address, size_t size, int protection, int flags, int file, off_t offset),
        (address, size, protection, flags, file, offset), MMAP, MAP_FAILED)
REPLACE(int, madvise, (void *address, size_t size, int advice), (address, size, advice), MADVISE, -1)
REPLACE(int, fallocate, (int file, int mode, off_t offset, off_t length), (file, mode, offset, length), FALLOCATE, -1)
REPLACE(int, ftruncate, (int file, off_t length), (file, length), FTRUNCATE, -1)
REPLACE(int, memfd_create, (const char *name, unsigned flags), (name, flags), MEMFD, -1)
REPLACE(int, fchmod, (int file, mode_t mode), (file, mode), FCHMOD, -1)
REPLACE(int, linkat, (int from_directory, const char *from, int to_directory, const char *to, int flags),
        (from_directory, from, to_directory, to, flags), LINKAT, -1)
REPLACE(ssize_t, getrandom, (void *bytes, size_t length, unsigned flags), (bytes, length, flags), GETRANDOM, -1)
REPLACE(ssize_t, read, (int file, void *bytes, size_t length), (file, bytes, length), READ, -1)
REPLACE(void *, malloc, (size_t size), (size), MALLOC, NULL)
REPLACE(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), ALIGNED, NULL)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails(OPEN) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails(OPENAT) ? -1 : __real_openat(directory, path, flags, mode);
}

int __real_fcntl(int file, int command, ...);
int __wrap_fcntl(int file, int command, ...);
int __wrap_fcntl(int file, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return fails(FCNTL) ? -1 : __real_fcntl(file, command, argument);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    long a = va_arg(arguments, long), b = va_arg(arguments, long), c = va_arg(arguments, long), d = va_arg(arguments, long);
    va_end(arguments);
    return number == SYS_futex && fails(FUTEX) ? -1 : __real_syscall(number, a, b, c, d, 0l, 0l);
}

/* ---- a table ---- */

#define SESSIONS 12u

static struct {
    char directory[64], path[96];
    struct sessile_options options;
    uint8_t keys[1][SESSILE_KEY_SIZE];
    struct sessile *table;
    struct sessile_session sessions[SESSIONS];
    uint8_t fields[40000], buffer[60000];
    unsigned runs, acts;
} test;
static const struct sessile_call call = {.wait_ms = 12};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "FAILED %s: ", context);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void crashed(int number)
{
    static const char text[] = "FAILED (crashed) ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, context, strlen(context));
    (void)!write(2, "\n", 1);
    signal(number, SIG_DFL);
    raise(number);
}

static const char *id_of(unsigned number, char id[SESSILE_ID_LENGTH + 1])
{
    snprintf(id, SESSILE_ID_LENGTH + 1, "session-number-%017u", number);
    return id;
}

/* Every other one has an owner; one is too large for a private copy on the stack. */
static struct sessile_content content_of(unsigned number)
{
    static const char owner[] = "somebody";
    struct sessile_content content = {.fields = test.fields + number, .fields_length = number == 5 ? 30000 : 100 + number};
    if (number % 2) {
        content.owner = (const uint8_t *)owner;
        content.owner_length = sizeof owner - 1;
    }
    return content;
}

static struct sessile_reference reference_to(unsigned number)
{
    struct sessile_content content = content_of(number);
    struct sessile_reference reference = {.handle = test.sessions[number].handle, .rotates = test.sessions[number].rotates,
                                          .owner = content.owner, .owner_length = content.owner_length};
    memcpy(reference.digest, test.sessions[number].digest, sizeof reference.digest);
    return reference;
}

static enum sessile_status open_table(const char *path, bool must_exist, struct sessile **table)
{
    struct sessile_problem problem;
    struct sessile_options options = test.options;
    options.path = path;
    options.must_exist = must_exist;
    enum sessile_status status = sessile_open(&options, table, &problem);
    if (status == SESSILE_SYSTEM && problem.operation == NULL)
        fail("SESSILE_SYSTEM without saying which call");
    return status;
}

static enum sessile_status create(unsigned number)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_content content = content_of(number);
    return sessile_create(test.table, &call, id_of(number, id), &content, &test.sessions[number]);
}

static enum sessile_status load(unsigned number)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session session;
    return sessile_load(test.table, &call, id_of(number, id), SESSILE_ID_LENGTH, SESSILE_TOUCH | SESSILE_PRESENT, &session,
                        test.buffer, sizeof test.buffer);
}

static void fill(const char *path)
{
    if (open_table(path, false, &test.table) != SESSILE_OK)
        fail("no table to begin with");
    for (unsigned i = 0; i < SESSIONS; i++)
        if (create(i) != SESSILE_OK)
            fail("no session to begin with");
}

static void tell(void *context_of_check, const char *finding)
{
    (void)context_of_check;
    fail("sessile_check: %s", finding);
}

/* All sessions but `but` are there, or the table is not what it was. */
static void check(int but)
{
    uint64_t findings;
    for (unsigned i = 0; i < SESSIONS; i++) {
        enum sessile_status status = (int)i == but ? SESSILE_OK : load(i);
        if (status != SESSILE_OK)
            fail("session %u answers %s afterwards", i, sessile_status_name(status));
    }
    if (sessile_check(test.table, &call, false, tell, NULL, &findings) != SESSILE_OK)
        fail("the check could not be made");
}

/* ---- acts: prepared, done with the fault armed, judged without ---- */

struct act {
    const char *name;
    void (*prepare)(void);
    enum sessile_status (*run)(void);
    void (*judge)(enum sessile_status status);
    uint64_t allowed;              /* answers besides OK */
};

static void prepare_table(void)
{
    fill(NULL);
}

static void prepare_path(void)
{
    fill(test.path);
}

static void prepare_nothing(void)
{
    test.table = NULL;
}

static enum sessile_status run_open_memory(void)
{
    return open_table(NULL, false, &test.table);
}

static enum sessile_status run_open_path(void)
{
    return open_table(test.path, false, &test.table);
}

/* A table that was made works; one that was not left nothing, and another try succeeds. */
static void judge_opened(enum sessile_status status)
{
    if (status != SESSILE_OK && test.table)
        fail("a table and %s", sessile_status_name(status));
    if (status != SESSILE_OK && run_open_path() != SESSILE_OK)
        fail("the next try fails, too");
    for (unsigned i = 0; i < SESSIONS; i++)
        if (create(i) != SESSILE_OK)
            fail("a new table stores nothing");
    check(-1);
}

static struct sessile *second;

static enum sessile_status run_attach(void)
{
    return open_table(test.path, true, &second);
}

static void judge_attached(enum sessile_status status)
{
    if ((status == SESSILE_OK) != (second != NULL))
        fail("a table and %s", sessile_status_name(status));
    sessile_close(second);
    second = NULL;
    check(-1);
}

static enum sessile_status run_load(void)
{
    return load(5);
}

static void judge_same(enum sessile_status status)
{
    (void)status;
    check(-1);
}

static enum sessile_status run_create(void)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session session;
    struct sessile_content content = content_of(5);
    return sessile_create(test.table, &call, id_of(99, id), &content, &session);
}

static void judge_created(enum sessile_status status)
{
    if ((load(99) == SESSILE_OK) != (status == SESSILE_OK))
        fail("create answered %s, load says otherwise", sessile_status_name(status));
    check(-1);
}

/* Memory that is reserved already is used up. */
static void prepare_full_chunk(void)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session session;
    fill(test.path);
    const struct arena_header *header = test.table->arena.header;
    for (unsigned i = 1000; atomic_load(&header->used_units) + 16 < atomic_load(&header->frontier); i++) {
        struct sessile_content content = {.fields = test.fields, .fields_length = 30000};
        if (sessile_create(test.table, &call, id_of(i, id), &content, &session) != SESSILE_OK)
            fail("the chunk was not filled");
    }
}

static enum sessile_status run_fill_further(void)
{
    enum sessile_status status = SESSILE_OK;
    for (unsigned i = 0; i < 4 && status == SESSILE_OK; i++) {
        char id[SESSILE_ID_LENGTH + 1];
        struct sessile_session session;
        struct sessile_content content = {.fields = test.fields, .fields_length = 30000};
        status = sessile_create(test.table, &call, id_of(5000 + i, id), &content, &session);
    }
    return status;
}

static enum sessile_status run_update(void)
{
    struct sessile_reference reference = reference_to(5);
    struct sessile_session session;
    struct sessile_content content = content_of(5);
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    content.fields_length = 25000;
    return sessile_update(test.table, &call, &reference, test.sessions[5].version, 0, &content, &session);
}

static enum sessile_status rotate(enum sessile_rotation how)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_reference reference = reference_to(5);
    struct sessile_session session;
    struct sessile_content content = content_of(5);
    return sessile_rotate(test.table, &call, &reference, test.sessions[5].version, how, id_of(77, id),
                          how == SESSILE_RENEW ? test.fields : NULL, how == SESSILE_RENEW ? NULL : &content, &session);
}

static enum sessile_status run_login(void)
{
    return rotate(SESSILE_LOGIN);
}

static enum sessile_status run_renew(void)
{
    if (load(5) != SESSILE_OK)
        return SESSILE_NO_MEMORY;
    return rotate(SESSILE_RENEW);
}

/* Exactly one of the two ids is the session's own. */
static void judge_rotated(enum sessile_status status)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session session;
    enum sessile_status old = sessile_load(test.table, &call, id_of(5, id), SESSILE_ID_LENGTH, 0, &session, test.buffer,
                                           sizeof test.buffer);
    bool own = old == SESSILE_OK && !(session.flags & SESSILE_FORWARDED);
    if (own == (load(77) == SESSILE_OK) || own == (status == SESSILE_OK))
        fail("rotate answered %s, the old id %s, the new id %s", sessile_status_name(status), sessile_status_name(old),
             sessile_status_name(load(77)));
    check(5);
}

static enum sessile_status run_revoke(void)
{
    uint64_t count;
    return sessile_owner_revoke(test.table, &call, (const uint8_t *)"somebody", 8, 0, 0, &count);
}

static void judge_revoked(enum sessile_status status)
{
    unsigned gone = 0;
    for (unsigned i = 1; i < SESSIONS; i += 2)
        gone += load(i) != SESSILE_OK;
    if (gone != 0 && gone != SESSIONS / 2)
        fail("%u of %u sessions are revoked after %s", gone, SESSIONS / 2, sessile_status_name(status));
    if (gone == 0 && status == SESSILE_OK)
        fail("revoked, and they are there");
}

static enum sessile_status run_check(void)
{
    uint64_t findings;
    return sessile_check(test.table, &call, false, tell, NULL, &findings);
}

static enum sessile_status run_stats(void)
{
    struct sessile_stats stats;
    sessile_stats(test.table, &stats);
    return SESSILE_OK;
}

/* ---- beside another process ---- */

static int holder;

/* A child that holds the lock of the shard of session 5, alive or dead. */
static void hold_shard(bool dies)
{
    int ends[2];
    uint8_t ready = 0;
    if (pipe(ends) != 0)
        fail("pipe");
    holder = fork();
    if (holder == 0) {
        struct hold hold;
        if (shard_enter(test.table, shard_number(test.table, test.sessions[5].digest), 100, &hold) != SESSILE_OK)
            _exit(1);
        shard_seq_begin(hold.shard);
        (void)!write(ends[1], &ready, 1);
        if (dies)
            raise(SIGKILL);
        for (;;)
            pause();
    }
    close(ends[1]);
    if (__real_read(ends[0], &ready, 1) != 1)
        fail("the other process did not get the lock");
    close(ends[0]);
    if (dies)
        waitpid(holder, NULL, 0);
}

static void prepare_dead_holder(void)
{
    fill(test.path);
    hold_shard(true);
}

static void prepare_living_holder(void)
{
    fill(test.path);
    hold_shard(false);
}

/* Whatever call fails: the living are not robbed. */
static void judge_robbed(enum sessile_status status)
{
    uint32_t word = atomic_load(&shard_at(test.table, shard_number(test.table, test.sessions[5].digest))->lock.word);
    if (status != SESSILE_BUSY || lock_owner_slot(word) == lock_owner_slot(arena_me(&test.table->arena)) || word == 0)
        fail("a living process was robbed: %s", sessile_status_name(status));
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    check(-1);
}

/* The child of a fork takes a process slot of its own, or says that it could not. */
static enum sessile_status run_fork(void)
{
    int child = fork(), status;
    if (child == 0) {
        enum sessile_status answer = load(5);
        _exit(answer == SESSILE_OK || answer == SESSILE_DETACHED || answer == SESSILE_NO_MEMORY ? (fault.hit ? 2 : 0) : 1);
    }
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        fail("the forked child ended with %#x", status);
    fault.hit |= WEXITSTATUS(status) == 2;
    return SESSILE_OK;
}

#define ANSWER(status) ((uint64_t)1 << (status))
#define REFUSED (ANSWER(SESSILE_SYSTEM) | ANSWER(SESSILE_NO_MEMORY) | ANSWER(SESSILE_NO_SPACE) | ANSWER(SESSILE_DETACHED))
#define PLACES (ANSWER(SESSILE_PLACE) | ANSWER(SESSILE_FOREIGN) | ANSWER(SESSILE_FORMAT) | ANSWER(SESSILE_ABSENT) | \
                ANSWER(SESSILE_BUSY) | ANSWER(SESSILE_PROCESSES))

static const struct act acts[] = {
    {"open memory", prepare_nothing, run_open_memory, judge_opened, REFUSED | PLACES},
    {"open a new file", prepare_nothing, run_open_path, judge_opened, REFUSED | PLACES},
    {"attach", prepare_path, run_attach, judge_attached, REFUSED | PLACES},
    {"load", prepare_table, run_load, judge_same, ANSWER(SESSILE_NO_MEMORY)},
    {"create", prepare_table, run_create, judge_created, ANSWER(SESSILE_NO_MEMORY)},
    {"chunk", prepare_full_chunk, run_fill_further, judge_same, ANSWER(SESSILE_NO_MEMORY) | ANSWER(SESSILE_FULL)},
    {"update", prepare_table, run_update, judge_same, ANSWER(SESSILE_NO_MEMORY)},
    {"log-in", prepare_table, run_login, judge_rotated, ANSWER(SESSILE_NO_MEMORY)},
    {"renewal", prepare_table, run_renew, judge_rotated, ANSWER(SESSILE_NO_MEMORY)},
    {"revoke", prepare_table, run_revoke, judge_revoked, ANSWER(SESSILE_NO_MEMORY)},
    {"check", prepare_table, run_check, judge_same, ANSWER(SESSILE_NO_MEMORY)},
    {"stats", prepare_path, run_stats, judge_same, 0},
    {"a dead holder", prepare_dead_holder, run_load, judge_same, ANSWER(SESSILE_BUSY) | ANSWER(SESSILE_NO_MEMORY)},
    {"a living holder", prepare_living_holder, run_load, judge_robbed, ANSWER(SESSILE_BUSY)},
    {"fork", prepare_path, run_fork, judge_same, 0},
};

/* ---- all of it ---- */

static unsigned count_entries(const char *directory)
{
    char command[64];
    unsigned count = 0, length;
    snprintf(command, sizeof command, "%s", directory);
    int file = __real_open(command, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    char room[4096];
    while ((length = (unsigned)__real_syscall(SYS_getdents64, (long)file, (long)room, (long)sizeof room, 0l, 0l, 0l)) > 0 &&
           length <= sizeof room)
        for (unsigned at = 0; at < length; at += *(uint16_t *)(void *)(room + at + 16))
            count++;
    close(file);
    return count;
}

static unsigned count_mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    while (file && fgets(line, sizeof line, file))
        count += strstr(line, "sessile") != NULL;
    if (file)
        fclose(file);
    return count;
}

/* One run. True: the act made the call that was to fail. */
static bool try(const struct act *act, enum call kind, int error, unsigned nth, bool always)
{
    snprintf(context, sizeof context, "%s, %s %u%s fails with errno %d", act->name, calls[kind].name, nth,
             always ? " and all later ones" : "", error);
    unsigned descriptors = count_entries("/proc/self/fd"), mappings = count_mappings();
    act->prepare();
    fault.call = kind;
    fault.error = error;
    fault.left = nth;
    fault.always = always;
    fault.hit = false;
    fault.armed = true;
    enum sessile_status status = act->run();
    fault.armed = false;
    if (status != SESSILE_OK && !(act->allowed & ANSWER(status)))
        fail("answered %s", sessile_status_name(status));
    act->judge(status);
    sessile_close(test.table);
    test.table = NULL;
    unlink(test.path);
    if (count_entries("/proc/self/fd") != descriptors || count_mappings() != mappings)
        fail("left %u descriptors and %u mappings behind", count_entries("/proc/self/fd") - descriptors,
             count_mappings() - mappings);
    test.runs++;
    return fault.hit;
}

static void try_all(const struct act *act, unsigned stride)
{
    for (unsigned kind = 0; kind < CALLS; kind++)
        for (unsigned e = (kind + test.acts) % stride; calls[kind].errors[e % 8] != 0 && e < 8; e += stride)
            for (unsigned always = 0; always < 2; always++)
                for (unsigned nth = 0; try(act, (enum call)kind, calls[kind].errors[e], nth, always); nth++)
                    continue;
    test.acts++;
}

int main(int count, char **arguments)
{
    unsigned stride = 3;
    if (count == 3 && strcmp(arguments[1], "--size") == 0)
        stride = strcmp(arguments[2], "short") == 0 ? 3 : 1;
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    snprintf(test.directory, sizeof test.directory, "/dev/shm/sessile-faults-XXXXXX");
    if (!mkdtemp(test.directory))
        fail("no directory");
    snprintf(test.path, sizeof test.path, "%s/table", test.directory);
    for (size_t i = 0; i < sizeof test.fields; i++)
        test.fields[i] = (uint8_t)(i * 7 + 1);
    test.options = (struct sessile_options){
        .capacity = 1000, .memory = 6u << 20, .anonymous_share = 1.0, .key_count = 1,
        .keys = (const uint8_t (*)[SESSILE_KEY_SIZE])test.keys,
        .policy = {.owned_idle_ms = 1800000, .owned_absolute_ms = 28800000, .anonymous_idle_ms = 1800000,
                   .anonymous_absolute_ms = 28800000, .fields_max = SESSILE_FIELDS_MAX},
    };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        unsigned before = test.runs;
        try_all(&acts[i], stride);
        printf("%-16s %5u runs\n", acts[i].name, test.runs - before);
        fflush(stdout);
    }
    rmdir(test.directory);
    printf("%u runs, 0 failures\n", test.runs);
    return 0;
}
