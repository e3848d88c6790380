/* tracer.h - runs one operation on a table in a child process, instruction by instruction, and shows the bytes of the
 * table after each of them.
 *
 * The child's mapping is read-only at first: the first store to a page is a signal, its handler opens the page, and from
 * then on that page is compared after each instruction. So a step costs the comparison of the few pages that the
 * operation writes to, and no store can be missed.
 */
#ifndef SESSILE_TESTS_CRASH_TRACER_H
#define SESSILE_TESTS_CRASH_TRACER_H

#include <sys/types.h>

#include "world.h"

struct scene;

struct trace_change {              /* what the last instruction stored: bytes [first, last] of the table */
    size_t first, last;
};

struct trace {
    const struct scene *scene;
    const struct world *world;
    struct trace_control *control; /* shared with the child */
    pid_t child;
    int file;                      /* holds the lock of process slot 0: the tracer's part as a living process */
    uint8_t *bytes;                /* the child's table, as this process maps it */
    size_t size;
    uint8_t *shadow;               /* the same at the last stop */
    uint32_t *pages;               /* that the child writes to */
    uint32_t page_count;
    uint32_t slot;                 /* the child's process slot */
    uint64_t steps;
};

enum trace_stop { TRACE_SAME, TRACE_CHANGED, TRACE_DONE, TRACE_CRASHED };

/* Forks the child, which opens the table of `world` (closed by now) and stops right before the operation; of a scene
 * `from_opening` right before it opens the table. The bytes of the table are then the state before. Process slots below
 * `living` are taken, so that the child's is `living`, unless that is the slot of a dead process which it must find. */
void trace_begin(struct trace *trace, const struct scene *scene, const struct world *world, uint32_t living);
/* The same, with the table brought into this state first. */
void trace_begin_from(struct trace *trace, const struct scene *scene, const struct world *world, const uint8_t *state);
/* One instruction. `change` is set with TRACE_CHANGED. */
enum trace_stop trace_step(struct trace *trace, struct trace_change *change);
/* Lets the child run to the end of the operation. */
enum trace_stop trace_run(struct trace *trace);
/* The child's clock shows what this process's does from now on. */
void trace_set_clock(struct trace *trace);
/* What the operation answered. */
enum sessile_status trace_status(const struct trace *trace);
/* Kills the child if it lives, and waits for its locks to be released. */
void trace_kill(struct trace *trace);
void trace_end(struct trace *trace);

/* The lock of one process slot's byte of a table's file, held through `descriptor`. */
void slot_lock(int descriptor, uint32_t slot);
void slot_unlock(int descriptor, uint32_t slot);

#endif
