/* stepper.c - kills a process at every instruction of every operation on a table, and recovers.
 *
 *     stepper [--size short|ci|full] [--seed N] [--seeds N] [--scene NAME [--variant N]] [--form kill|beside|resume]
 *             [--share K/N] [--work-every N] [--seconds S] [--quiet]
 *
 * A share K/N is for N builds that do all variants of a scene together: each does every Nth of them, from K on. Each does at
 * least one, but of scenes that take long: those with large tables and those that begin after a crash.
 *
 * For each scene (scenes.h) and variant: a child process does the operation one instruction at a time (tracer.h). After
 * each instruction that stored something into the table, the bytes of the table are what a SIGKILL at that instruction
 * leaves; they are judged (judge.h). A *point* is an instruction after which the table was looked at, a *state* one that
 * had changed it and was judged. The last line sums up; the exit status is 0 if and only if nothing failed.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "beside.h"
#include "tracer.h"

enum form { FORM_KILL = 1, FORM_BESIDE = 2, FORM_RESUME = 4 };

struct settings {
    const char *scene;
    int variant;                   /* -1: all that the size asks for */
    uint64_t seed;
    unsigned forms;
    unsigned variants, crashes, seeds; /* of each scene at the most, and of each that begins after a crash; of the whole */
    unsigned attach_every;         /* states of which one is recovered by an attach, too */
    unsigned work_every;           /* states of which one is worked with after its recovery */
    unsigned beside_every;         /* states of which one is judged beside each of the others */
    unsigned resumes;              /* points of an operation at which each of the others comes between */
    unsigned share, shares;        /* which part of what takes long, of how many */
    double seconds;                /* rounds of one variant a scene, until so much time is over; 0: one round */
    bool quiet, is_short, is_full;
};

struct sums {
    uint64_t points, states, attached, beside, resumed, busy, failures, runs;
};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Tracer and traced take turns: on one processor they need not wake each other up. */
static void stay_here(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
}

/* While a large copy or wipe goes on, byte by byte or vector by vector, one state in eight is judged. */
static bool goes_on(const struct trace_change *change, struct trace_change *last)
{
    bool adjacent = (change->first == last->last + 1 || change->last + 1 == last->first) && change->last - change->first < 64;
    *last = *change;
    return adjacent;
}

#define KEPT 4096u

struct walk {                      /* one operation, stepped through */
    const struct settings *settings;
    struct sums *sums;
    struct trace trace;
    struct judge judge;
    struct beside besides[16];
    uint8_t *before;               /* the state before the operation */
    uint64_t changes[KEPT];        /* points that changed the table: the first so many */
    unsigned changed;
};

static bool has_one_commit(const struct walk *walk)
{
    return walk->trace.scene->one_commit && !walk->trace.world->several_commits;
}

static void judge_change(struct walk *walk, uint64_t nth)
{
    const struct settings *settings = walk->settings;
    if (settings->forms & FORM_KILL)
        judge_state(&walk->judge, walk->trace.shadow);
    if (!has_one_commit(walk) || !(settings->forms & FORM_BESIDE))
        return;
    for (unsigned i = 0; i < other_count; i++)
        if ((nth + i) % settings->beside_every == 0)
            beside_kill(&walk->besides[i], walk->trace.shadow);
}

static bool step_through(struct walk *walk)
{
    struct trace_change change = {0}, last = {0};
    unsigned run = 0;
    for (uint64_t nth = 0;;) {
        enum trace_stop stop = trace_step(&walk->trace, &change);
        walk->judge.point = walk->trace.steps;
        if (stop == TRACE_DONE)
            return true;
        if (stop == TRACE_CRASHED) {
            judge_fail(&walk->judge, "the operation crashed");
            return false;
        }
        if (stop != TRACE_CHANGED)
            continue;
        walk->sums->states++;
        if (walk->changed < KEPT)
            walk->changes[walk->changed++] = walk->trace.steps;
        run = goes_on(&change, &last) ? run + 1 : 0;
        if (run < 8 || run % 8 == 0)
            judge_change(walk, nth++);
    }
}

/* The other form of two processes: each of the others comes between at some points, and the operation goes on. */
static void resume(struct walk *walk)
{
    const struct settings *settings = walk->settings;
    for (unsigned i = 0; i < other_count; i++)
        for (unsigned n = 0; n < settings->resumes && walk->changed; n++) {
            unsigned at = (unsigned)(((uint64_t)n * walk->changed / settings->resumes + i + settings->seed) % walk->changed);
            walk->judge.point = walk->changes[at];
            beside_resume(&walk->besides[i], walk->before, walk->changes[at]);
            walk->sums->resumed++;
        }
}

static void begin_walk(struct walk *walk, const struct scene *scene, struct world *world)
{
    trace_begin(&walk->trace, scene, world, 1);
    uint32_t dead[2] = {walk->trace.slot, world->dead_slot};
    unsigned count = world->dead_slot && world->dead_slot != walk->trace.slot ? 2 : 1;
    judge_begin(&walk->judge, scene, world, walk->trace.shadow, walk->trace.size, dead, count);
    walk->judge.attach_every = walk->settings->attach_every;
    walk->judge.work_every = walk->settings->work_every;
    walk->before = malloc(walk->trace.size);
    if (!walk->before)
        world_fail("no memory");
    memcpy(walk->before, walk->trace.shadow, walk->trace.size);
    for (unsigned i = 0; i < other_count && has_one_commit(walk); i++)
        beside_begin(&walk->besides[i], &walk->judge, &others[i], walk->before);
}

/* Steps through `scene` from the state that the world is in (its table is closed by now). */
static void step_world(const struct scene *scene, struct world *world, const struct settings *settings, struct sums *sums)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk)
        world_fail("no memory");
    walk->settings = settings;
    walk->sums = sums;
    begin_walk(walk, scene, world);
    if (step_through(walk) && settings->forms & FORM_KILL)
        judge_end_state(&walk->judge, walk->trace.shadow, trace_status(&walk->trace));
    sums->points += walk->trace.steps;
    trace_end(&walk->trace);
    bool beside = has_one_commit(walk);
    if (beside && settings->forms & FORM_RESUME)
        resume(walk);
    for (unsigned i = 0; i < other_count && beside; i++) {
        sums->beside += walk->besides[i].pairs;
        sums->busy += walk->besides[i].busy;
        beside_end(&walk->besides[i]);
    }
    sums->attached += walk->judge.attached;
    sums->failures += walk->judge.failures;
    judge_end(&walk->judge);
    free(walk->before);
    free(walk);
}

#define LARGE_RECORD 12u           /* the variant of `create` whose record is in a page of several units */

/* Which scene, which variant and which state of it. */
static const struct scene *choose_crash(unsigned variant, uint64_t *random, unsigned *of, uint64_t *target)
{
    unsigned plain = 0;
    *target = 0;
    while (plain < scene_count && scenes[plain].prepare && !scenes[plain].from_opening)
        plain++;
    const struct scene *scene = &scenes[variant % plain];
    *of = (unsigned)(world_random(random) % scene->variants);
    if (variant < SCENES_CRASHES)
        return scene;
    unsigned nth = variant - SCENES_CRASHES;
    *target = nth % SCENES_STATES + 1;
    *of = nth < SCENES_STATES ? 1 : nth < 2 * SCENES_STATES ? 7 : LARGE_RECORD;
    return scene_named(nth < SCENES_STATES ? "update" : nth < 2 * SCENES_STATES ? "create-owned" : "create");
}

/* Does a state count on the way to the one that is chosen? */
static bool counts(const struct trace *trace, unsigned variant)
{
    const struct arena_header *header = (const void *)trace->shadow;
    return variant < SCENES_CRASHES + 2 * SCENES_STATES || (atomic_load(&header->pool_seq) & 1);
}

/* Leaves the world as a kill at some instruction of some operation does. */
static void crash_world(struct world *world, unsigned variant, uint64_t seed)
{
    struct trace trace;
    struct trace_change change;
    uint64_t states = 0, random = seed * 64 + variant, target;
    unsigned of;
    const struct scene *scene = choose_crash(variant, &random, &of, &target);
    for (;;) {
        scene->prepare(world, of, seed);
        world_close(world);
        trace_begin(&trace, scene, world, variant & 32 ? 3 : 1);
        enum trace_stop stop = TRACE_SAME;
        for (states = 0; stop != TRACE_DONE && (target == 0 || states < target);)
            states += (stop = trace_step(&trace, &change)) == TRACE_CHANGED && counts(&trace, variant);
        world->dead_slot = trace.slot;
        trace_end(&trace);
        if (target != 0 || states == 0)
            return;
        target = 1 + world_random(&random) % states;
        world_end(world);
    }
}

static void step_scene(const struct scene *scene, unsigned variant, const struct settings *settings, struct sums *sums)
{
    struct world *world = malloc(sizeof *world);
    if (!world)
        world_fail("no memory");
    if (scene->after_crash) {
        crash_world(world, variant, settings->seed);
    } else {
        scene->prepare(world, variant, settings->seed + variant);
        world->other = world_id(world, variant % 2 ? WORLD_ANYWHERE : 5, WORLD_ANYWHERE);
        world->members[world->other].group = WORLD_UNORDERED;
        world_close(world);
    }
    step_world(scene, world, settings, sums);
    world_end(world);
    free(world);
}

static void report(const struct scene *scene, const struct sums *before, const struct sums *after, double began)
{
    printf("%-16s %4" PRIu64 " runs %9" PRIu64 " points %8" PRIu64 " states %3" PRIu64 " failures %6.1f s\n", scene->name,
           after->runs - before->runs, after->points - before->points, after->states - before->states,
           after->failures - before->failures, seconds() - began);
    fflush(stdout);
}

/* The nth variant of `count`, if it falls to this build. */
static void step_share(const struct scene *scene, unsigned nth, unsigned count, unsigned variant,
                       const struct settings *settings, struct sums *sums)
{
    bool must = !scene->heavy && !scene->after_crash && count < settings->shares;
    unsigned shares = must ? count : settings->shares;
    if (nth % shares != settings->share % shares)
        return;
    uint64_t failures = sums->failures;
    step_scene(scene, variant, settings, sums);
    sums->runs++;
    if (sums->failures > failures)
        printf("again: --scene %s --variant %u --seed %" PRIu64 "\n", scene->name, variant, settings->seed);
}

static void step_variants(const struct scene *scene, const struct settings *settings, struct sums *sums)
{
    struct sums before = *sums;
    double began = seconds();
    unsigned count = scene->after_crash ? settings->crashes : settings->variants;
    count = count < scene->variants ? count : scene->variants;
    for (unsigned i = 0; i < count; i++) {
        unsigned variant = (unsigned)(((uint64_t)i * scene->variants / count + settings->seed) % scene->variants);
        /* Small tables only. */
        if (settings->is_short && scene->after_crash)
            variant = SCENES_CRASHES + variant % (2 * SCENES_STATES);
        if (settings->variant >= 0)
            variant = (unsigned)settings->variant;
        step_share(scene, i, count, variant, settings, sums);
        if (settings->variant >= 0)
            break;
    }
    if (!settings->quiet)
        report(scene, &before, sums, began);
}

static const struct size {
    const char *name;
    unsigned variants, crashes, seeds, attach_every, work_every, beside_every, resumes;
    double seconds;
} sizes[] = {{"short", 1, 1, 1, 8, 4, 16, 1, 0}, {"ci", 1, 1, 1, 4, 2, 8, 2, 20}, {"full", 60, 36, 1, 4, 2, 4, 2, 0}};

static bool set_size(struct settings *settings, const char *name)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(name, sizes[i].name) == 0) {
            settings->is_short = i == 0;
            settings->is_full = i == 2;
            settings->variants = sizes[i].variants;
            settings->crashes = sizes[i].crashes;
            settings->seeds = sizes[i].seeds;
            settings->attach_every = sizes[i].attach_every;
            settings->work_every = sizes[i].work_every;
            settings->beside_every = sizes[i].beside_every;
            settings->resumes = sizes[i].resumes;
            settings->seconds = sizes[i].seconds;
            return true;
        }
    return false;
}

static bool set_form(struct settings *settings, const char *name)
{
    static const char *const names[] = {"kill", "beside", "resume"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            settings->forms = 1u << i;
            return true;
        }
    return false;
}

static bool set(struct settings *settings, const char *name, const char *value)
{
    if (strcmp(name, "--size") == 0)
        return set_size(settings, value);
    if (strcmp(name, "--form") == 0)
        return set_form(settings, value);
    if (strcmp(name, "--scene") == 0)
        settings->scene = value;
    else if (strcmp(name, "--seed") == 0)
        settings->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seeds") == 0)
        settings->seeds = (unsigned)atoi(value);
    else if (strcmp(name, "--variant") == 0)
        settings->variant = atoi(value);
    else if (strcmp(name, "--work-every") == 0)
        settings->work_every = (unsigned)atoi(value);
    else if (strcmp(name, "--seconds") == 0)
        settings->seconds = atof(value);
    else if (strcmp(name, "--share") == 0)
        return sscanf(value, "%u/%u", &settings->share, &settings->shares) == 2 && settings->share < settings->shares;
    else
        return false;
    return true;
}

static bool parse(int count, char **arguments, struct settings *settings)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--quiet") == 0)
            settings->quiet = true;
        else if (i + 1 == count || !set(settings, arguments[i], arguments[i + 1]))
            return false;
        else
            i++;
    }
    return !settings->scene || scene_named(settings->scene);
}

static void step_round(const struct settings *settings, struct sums *sums)
{
    for (unsigned i = 0; i < scene_count; i++)
        if (settings->scene ? strcmp(scenes[i].name, settings->scene) == 0
                            : settings->is_full || (!scenes[i].full_only && !(settings->is_short && scenes[i].heavy)))
            step_variants(&scenes[i], settings, sums);
}

int main(int count, char **arguments)
{
    struct settings settings = {.variant = -1, .forms = FORM_KILL | FORM_BESIDE | FORM_RESUME, .shares = 1,
                                .seed = (uint64_t)time(NULL)};
    struct sums sums = {0};
    double began = seconds();
    if (!set_size(&settings, "short") || !parse(count, arguments, &settings)) {
        fprintf(stderr, "usage: stepper [--size short|ci|full] [--seed N] [--seeds N] [--scene NAME [--variant N]] "
                        "[--form kill|beside|resume] [--share K/N] [--work-every N] [--seconds S] [--quiet]\n");
        return 2;
    }
    stay_here();
    printf("seed %" PRIu64 "\n", settings.seed);
    for (unsigned round = 0; round < settings.seeds || seconds() - began < settings.seconds; round++, settings.seed++)
        step_round(&settings, &sums);
    printf("%" PRIu64 " points, %" PRIu64 " states after changes, %" PRIu64 " recovered by an attach, %" PRIu64
           " beside another process (%" PRIu64 " of them resumed, %" PRIu64 " waited), %" PRIu64 " failures, %.1f s\n",
           sums.points, sums.states, sums.attached, sums.beside, sums.resumed, sums.busy, sums.failures, seconds() - began);
    return sums.failures ? 1 : 0;
}
