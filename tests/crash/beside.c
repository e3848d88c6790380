/* beside.c - see beside.h. */
#include "beside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tracer.h"

#define UNKNOWN SESSILE_STATUS_COUNT   /* the answer of an operation that never returned */

static void look(struct beside *beside, struct sessile *table, struct outcome *outcome)
{
    judge_look(table, beside->judge->world, outcome->sights);
}

static struct sight *room(const struct judge *judge)
{
    struct sight *sights = calloc(judge->world->count, sizeof *sights);
    if (!sights)
        world_fail("no memory");
    return sights;
}

void beside_begin(struct beside *beside, struct judge *judge, const struct scene *other, const uint8_t *state)
{
    const struct world *world = judge->world;
    struct sessile *table = judge->survivor;
    int64_t clock_ms = doors.clock_ms;
    *beside = (struct beside){.judge = judge, .other = other, .alone = {UNKNOWN, SESSILE_OK, room(judge)},
                              .one_two = {SESSILE_OK, SESSILE_OK, room(judge)},
                              .two_one = {SESSILE_OK, SESSILE_OK, room(judge)}, .now = {UNKNOWN, SESSILE_OK, room(judge)}};
    judge_put(judge, state);
    beside->alone.second = other->act(table, world);
    doors.clock_ms = clock_ms;
    look(beside, table, &beside->alone);
    judge_put(judge, state);
    beside->one_two.first = judge->scene->act(table, world);
    beside->one_two.second = other->act(table, world);
    doors.clock_ms = clock_ms;
    look(beside, table, &beside->one_two);
    judge_put(judge, state);
    beside->two_one.second = other->act(table, world);
    doors.clock_ms = clock_ms;    /* the one that is stopped took the time at its beginning */
    beside->two_one.first = judge->scene->act(table, world);
    look(beside, table, &beside->two_one);
}

/* Who read a session before it changed under its hands is told CHANGED, and who came after GONE: both did nothing. A retired
 * id is forgotten at some time. */
static enum sessile_status plain(enum sessile_status status)
{
    return status == SESSILE_CHANGED ? SESSILE_GONE : status == SESSILE_RETIRED ? SESSILE_MISS : status;
}

static bool same_answer(enum sessile_status a, enum sessile_status b)
{
    return plain(a) == plain(b);
}

static bool waited(const struct outcome *outcome)
{
    return outcome->second == SESSILE_BUSY || outcome->second == SESSILE_WOULD_BLOCK;
}

/* What waited in vain did nothing; but a revocation that began is finished by whoever comes next. */
static bool matches(const struct beside *beside, const struct outcome *outcome)
{
    const struct outcome *now = &beside->now;
    if ((!waited(now) && !same_answer(now->second, outcome->second)) ||
        (now->first != UNKNOWN && outcome->first != UNKNOWN && !same_answer(now->first, outcome->first)))
        return false;
    for (unsigned i = 0; i < beside->judge->world->count; i++)
        if (!judge_same(&now->sights[i], &outcome->sights[i], false))
            return false;
    return true;
}

static void explain(const struct beside *beside, const char *name, const struct outcome *outcome)
{
    const struct outcome *now = &beside->now;
    const struct world *world = beside->judge->world;
    judge_fail(beside->judge, "  %s: answers %s and %s", name,
               outcome->first == UNKNOWN ? "-" : sessile_status_name(outcome->first), sessile_status_name(outcome->second));
    for (unsigned i = 0; i < world->count; i++)
        if (!judge_same(&now->sights[i], &outcome->sights[i], false))
            judge_fail(beside->judge, "    session %u: %s length %" PRIu64 " flags %" PRIu64 ", now %s length %" PRIu64
                       " flags %" PRIu64, i, sessile_status_name((enum sessile_status)outcome->sights[i].status),
                       outcome->sights[i].fields_length, outcome->sights[i].flags,
                       sessile_status_name((enum sessile_status)now->sights[i].status), now->sights[i].fields_length,
                       now->sights[i].flags);
}

/* Compares what is there now with the orders that were possible. Who was told CHANGED did nothing. */
static void decide(struct beside *beside, bool both_ended)
{
    struct judge *judge = beside->judge;
    bool may_be_alone = !both_ended || beside->now.first == SESSILE_CHANGED;
    beside->busy += waited(&beside->now);
    if (matches(beside, &beside->one_two) || matches(beside, &beside->two_one) ||
        (may_be_alone && matches(beside, &beside->alone)))
        return;
    if (waited(&beside->now)) {
        memcpy(judge->now, beside->now.sights, judge->world->count * sizeof *judge->now);
        judge_sights(judge, both_ended);
        return;
    }
    judge_fail(judge, "beside '%s': answers %s and %s and what is there come of no order", beside->other->name,
               beside->now.first == UNKNOWN ? "-" : sessile_status_name(beside->now.first),
               sessile_status_name(beside->now.second));
    explain(beside, "the other one alone", &beside->alone);
    explain(beside, "the other one last", &beside->one_two);
    explain(beside, "the other one first", &beside->two_one);
}

static void check(struct beside *beside, struct sessile *table)
{
    const char *found = judge_invariants(table);
    if (found)
        judge_fail(beside->judge, "beside '%s': %s", beside->other->name, found);
}

void beside_kill(struct beside *beside, const uint8_t *state)
{
    struct judge *judge = beside->judge;
    int64_t clock_ms = doors.clock_ms;
    beside->pairs++;
    judge_put(judge, state);
    slot_lock(judge->file, judge->dead[0]);
    beside->now.first = UNKNOWN;
    beside->now.second = beside->other->act(judge->survivor, judge->world);
    doors.clock_ms = clock_ms;
    slot_unlock(judge->file, judge->dead[0]);
    if (!judge_reap(judge))
        return;
    look(beside, judge->survivor, &beside->now);
    decide(beside, false);
    check(beside, judge->survivor);
}

static struct sessile *join(const struct world *world)
{
    struct sessile_problem problem;
    struct sessile *table;
    if (sessile_open(&world->options, &table, &problem) != SESSILE_OK)
        world_fail("the other process cannot attach");
    return table;
}

static bool run_up_to(struct trace *trace, uint64_t steps)
{
    struct trace_change change;
    while (trace->steps < steps) {
        enum trace_stop stop = trace_step(trace, &change);
        if (stop == TRACE_DONE || stop == TRACE_CRASHED)
            return false;
    }
    return true;
}

void beside_resume(struct beside *beside, const uint8_t *state, uint64_t steps)
{
    struct judge *judge = beside->judge;
    struct trace trace;
    trace_begin_from(&trace, judge->scene, judge->world, state);
    beside->pairs++;
    if (!run_up_to(&trace, steps))
        world_fail("%s: not the same instructions again", judge->scene->name);
    struct sessile *table = join(judge->world);
    int64_t clock_ms = doors.clock_ms;
    beside->now.second = beside->other->act(table, judge->world);
    if (!waited(&beside->now))
        trace_set_clock(&trace);    /* the time that passed meanwhile did so for both */
    enum trace_stop stop = trace_run(&trace);
    doors.clock_ms = clock_ms;
    if (stop == TRACE_CRASHED) {
        judge_fail(judge, "beside '%s': the operation crashed when it went on", beside->other->name);
    } else {
        beside->now.first = trace_status(&trace);
        trace_kill(&trace);
        look(beside, table, &beside->now);
        decide(beside, true);
        check(beside, table);
    }
    sessile_close(table);
    trace_end(&trace);
}

void beside_end(struct beside *beside)
{
    free(beside->alone.sights);
    free(beside->one_two.sights);
    free(beside->two_one.sights);
    free(beside->now.sights);
}
