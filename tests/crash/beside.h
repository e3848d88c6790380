/* beside.h - two processes: one is stopped in the middle of its operation, another one does something whole, then the first
 * one is killed, or goes on. Whatever both answered and whatever is there afterwards must be what some order of the two
 * would have given; the living are waited for (SESSILE_BUSY), never robbed. */
#ifndef SESSILE_TESTS_CRASH_BESIDE_H
#define SESSILE_TESTS_CRASH_BESIDE_H

#include "judge.h"

struct outcome {
    enum sessile_status first, second;     /* answers of the stopped operation and of the other one */
    struct sight *sights;
};

struct beside {
    struct judge *judge;
    const struct scene *other;
    struct outcome alone, one_two, two_one, now;
    uint64_t pairs, busy;          /* states that were tried; of them such where the other one had to wait */
};

/* `state`: before both. */
void beside_begin(struct beside *beside, struct judge *judge, const struct scene *other, const uint8_t *state);
/* The first one is stopped in this state, the other one runs, the first one is killed. */
void beside_kill(struct beside *beside, const uint8_t *state);
/* The same with the first one going on to its end: runs it anew from `state`, up to `steps` instructions. */
void beside_resume(struct beside *beside, const uint8_t *state, uint64_t steps);
void beside_end(struct beside *beside);

#endif
