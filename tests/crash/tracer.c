/* tracer.c - see tracer.h. */
#define _GNU_SOURCE
#include "tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenes.h"

#define PAGE 4096u

struct trace_control {
    volatile uint32_t begun, done, watching;
    volatile uint32_t status, slot;
    uint8_t *volatile base;        /* in the child */
    volatile int64_t clock_ms;
};

static struct trace_control *in_child;
static size_t size_in_child;

void slot_lock(int descriptor, uint32_t slot)
{
    if (system_byte_lock(descriptor, PROCESS_BYTES_AT + slot) != 0)
        world_fail("the byte of process slot %u is taken", slot);
}

void slot_unlock(int descriptor, uint32_t slot)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = (off_t)(PROCESS_BYTES_AT + slot), .l_len = 1};
    if (fcntl(descriptor, F_OFD_SETLK, &lock) != 0)
        world_fail("cannot unlock the byte of process slot %u", slot);
}

/* ---- in the child ---- */

/* The first store to a page. What is no page of the table is a crash of the operation: the next fault ends the child. */
static void open_page(int number, siginfo_t *info, void *context)
{
    (void)context;
    uint8_t *address = info->si_addr;
    if (address < in_child->base || address >= in_child->base + size_in_child)
        signal(number, SIG_DFL);
    else
        mprotect((void *)((uintptr_t)address & ~(uintptr_t)(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
}

static void *watch(void *base, size_t size)
{
    in_child->base = base;
    size_in_child = size;
    if (in_child->watching)
        mprotect(base, size, PROT_READ);
    return base;
}

static void watch_stores(void)
{
    struct sigaction action = {.sa_sigaction = open_page, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    in_child->watching = 1;
    if (in_child->base)
        mprotect(in_child->base, size_in_child, PROT_READ);
}

__attribute__((noreturn)) static void be_child(struct trace *trace)
{
    struct sessile_problem problem;
    struct sessile *table = NULL;
    in_child = trace->control;
    in_child->clock_ms = doors.clock_ms;
    doors.clock = &in_child->clock_ms;
    doors.mapped = watch;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(77);
    if (!trace->scene->from_opening && sessile_open(&trace->world->options, &table, &problem) != SESSILE_OK)
        _exit(4);
    if (table)
        in_child->slot = lock_owner_slot(arena_me(&table->arena));
    watch_stores();
    raise(SIGSTOP);
    in_child->begun = 1;
    in_child->status = trace->scene->act(table, trace->world);
    in_child->done = 1;
    raise(SIGSTOP);
    _exit(0);
}

/* ---- in the tracer ---- */

static int open_file(const struct world *world)
{
    int file = open(world->path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        world_fail("cannot open %s", world->path);
    return file;
}

static int wait_for(struct trace *trace)
{
    int status;
    while (waitpid(trace->child, &status, __WALL) < 0)
        if (errno != EINTR)
            world_fail("waitpid: %s", strerror(errno));
    return status;
}

static void map_table(struct trace *trace)
{
    struct stat facts;
    trace->file = open_file(trace->world);
    if (fstat(trace->file, &facts) < 0)
        world_fail("fstat: %s", strerror(errno));
    trace->size = (size_t)facts.st_size;
    trace->bytes = mmap(NULL, trace->size, PROT_READ | PROT_WRITE, MAP_SHARED, trace->file, 0);
    trace->shadow = malloc(trace->size);
    trace->pages = malloc(trace->size / PAGE * sizeof *trace->pages);
    if (trace->bytes == MAP_FAILED || !trace->shadow || !trace->pages)
        world_fail("no memory for the tracer");
}

/* The tracer holds bytes of process slots as living processes would. To one that counts the living they are not there. */
static void take_slots(struct trace *trace, uint32_t living)
{
    struct geometry geometry;
    uint64_t least;
    const struct sessile_options *options = &trace->world->options;
    if (!arena_geometry(&geometry, options->capacity, options->memory, options->anonymous_share, &least))
        world_fail("no geometry");
    struct process_slot *slots = (void *)(trace->bytes + geometry.processes);
    for (uint32_t slot = 0; slot < living; slot++) {
        slot_lock(trace->file, slot);
        if (trace->scene->from_opening)
            atomic_store(&slots[slot].generation, 0);
    }
}

static void begin_child(struct trace *trace, uint32_t living)
{
    const struct scene *scene = trace->scene;
    const struct world *world = trace->world;
    trace->control = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (trace->control == MAP_FAILED)
        world_fail("no memory for the tracer");
    take_slots(trace, living);
    bool hide = world->dead_slot && !scene->from_opening;
    if (hide)
        slot_lock(trace->file, world->dead_slot);    /* else the child would take that slot over as it attaches */
    trace->child = fork();
    if (trace->child == 0)
        be_child(trace);
    int status = wait_for(trace);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        printf("the system does not allow to trace a child\n");
        exit(77);
    }
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
        world_fail("%s: the child did not begin (%#x)", scene->name, status);
    ptrace(PTRACE_SETOPTIONS, trace->child, NULL, PTRACE_O_EXITKILL);
    if (hide)
        slot_unlock(trace->file, world->dead_slot);
    trace->slot = scene->from_opening ? living : trace->control->slot;
    memcpy(trace->shadow, trace->bytes, trace->size);
}

void trace_begin(struct trace *trace, const struct scene *scene, const struct world *world, uint32_t living)
{
    *trace = (struct trace){.scene = scene, .world = world};
    map_table(trace);
    begin_child(trace, living);
}

void trace_begin_from(struct trace *trace, const struct scene *scene, const struct world *world, const uint8_t *state)
{
    *trace = (struct trace){.scene = scene, .world = world};
    map_table(trace);
    memcpy(trace->bytes, state, trace->size);
    begin_child(trace, 1);
}

static void add_page(struct trace *trace, uint32_t page)
{
    for (uint32_t i = 0; i < trace->page_count; i++)
        if (trace->pages[i] == page)
            return;
    trace->pages[trace->page_count++] = page;
}

/* A fault in the child: of the table, a page to watch from now on; else the operation crashed. */
static bool note_fault(struct trace *trace)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, trace->child, NULL, &info) < 0)
        world_fail("PTRACE_GETSIGINFO: %s", strerror(errno));
    uint8_t *address = info.si_addr, *base = trace->control->base;
    if (!base || address < base || address >= base + trace->size)
        return false;
    add_page(trace, (uint32_t)((size_t)(address - base) / PAGE));
    return true;
}

static bool compare_page(struct trace *trace, uint32_t page, struct trace_change *change, bool any)
{
    size_t at = (size_t)page * PAGE, length = trace->size - at < PAGE ? trace->size - at : PAGE;
    const uint8_t *now = trace->bytes + at, *before = trace->shadow + at;
    if (memcmp(now, before, length) == 0)
        return any;
    size_t first = 0, last = length - 1;
    while (now[first] == before[first])
        first++;
    while (now[last] == before[last])
        last--;
    if (!any || at + first < change->first)
        change->first = at + first;
    if (!any || at + last > change->last)
        change->last = at + last;
    memcpy(trace->shadow + at, now, length);
    return true;
}

static enum trace_stop compare(struct trace *trace, struct trace_change *change)
{
    bool any = false;
    for (uint32_t i = 0; i < trace->page_count; i++)
        any = compare_page(trace, trace->pages[i], change, any);
    return any ? TRACE_CHANGED : TRACE_SAME;
}

enum trace_stop trace_step(struct trace *trace, struct trace_change *change)
{
    int deliver = 0;
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, trace->child, NULL, (void *)(intptr_t)deliver) < 0)
            world_fail("PTRACE_SINGLESTEP: %s", strerror(errno));
        int status = wait_for(trace);
        if (!WIFSTOPPED(status))
            return TRACE_CRASHED;
        if (trace->control->done)
            return TRACE_DONE;
        if (WSTOPSIG(status) == SIGSEGV && note_fault(trace)) {
            deliver = SIGSEGV;
            continue;
        }
        if (WSTOPSIG(status) != SIGTRAP)
            return TRACE_CRASHED;
        if (!trace->control->begun)
            return TRACE_SAME;
        trace->steps++;
        return compare(trace, change);
    }
}

enum trace_stop trace_run(struct trace *trace)
{
    int deliver = 0;
    for (;;) {
        if (ptrace(PTRACE_CONT, trace->child, NULL, (void *)(intptr_t)deliver) < 0)
            world_fail("PTRACE_CONT: %s", strerror(errno));
        int status = wait_for(trace);
        if (trace->control->done && WIFSTOPPED(status))
            return TRACE_DONE;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSEGV || !note_fault(trace))
            return TRACE_CRASHED;
        deliver = SIGSEGV;
    }
}

void trace_set_clock(struct trace *trace)
{
    trace->control->clock_ms = doors.clock_ms;
}

enum sessile_status trace_status(const struct trace *trace)
{
    return (enum sessile_status)trace->control->status;
}

void trace_kill(struct trace *trace)
{
    if (trace->child <= 0)
        return;
    kill(trace->child, SIGKILL);
    int status = wait_for(trace);
    while (!WIFEXITED(status) && !WIFSIGNALED(status))
        status = wait_for(trace);
    trace->child = 0;
}

void trace_end(struct trace *trace)
{
    trace_kill(trace);
    munmap(trace->control, PAGE);
    munmap(trace->bytes, trace->size);
    close(trace->file);
    free(trace->shadow);
    free(trace->pages);
}
