/* scenes.h - states of a table and the operations that are stepped through from them. */
#ifndef SESSILE_TESTS_CRASH_SCENES_H
#define SESSILE_TESTS_CRASH_SCENES_H

#include "world.h"

struct scene {
    const char *name;
    unsigned variants;
    void (*prepare)(struct world *world, unsigned variant, uint64_t seed);
    /* The operation. With `from_opening` the table is NULL, and act() opens it. */
    enum sessile_status (*act)(struct sessile *table, const struct world *world);
    bool from_opening;
    bool after_crash;              /* the state before is one that a crash in another scene leaves */
    /* More that must hold after a recovery; answers what does not, or NULL. May change the table. */
    const char *(*also)(struct sessile *table, const struct world *world);
    bool heavy;                    /* a state takes long: not in short runs */
    bool full_only;                /* not in those of CI either */
    bool one_commit;               /* takes effect at one instruction: may be compared with what others do before or after */
};

#define SCENES_CRASHES 64u         /* variants after a crash somewhere; then come the states of two operations */
#define SCENES_STATES 56u          /* an update, and a log-in that adds a reference in a further node */
#define SCENES_POOL 6u             /* then those of a create in which the pool of units is written to */
#define SCENES_AFTER (SCENES_CRASHES + 2 * SCENES_STATES + SCENES_POOL)
extern const struct scene scenes[];
extern const unsigned scene_count;
/* What another process does while the first one is stopped in the middle of its operation. */
extern const struct scene others[];
extern const unsigned other_count;
const struct scene *scene_named(const char *name);

#endif
