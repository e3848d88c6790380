/* judge.h - decides about one state of a table: the process that made it dies here, another one recovers, and everything
 * that the table promises is checked. Works on a copy of the state in a file of its own. */
#ifndef SESSILE_TESTS_CRASH_JUDGE_H
#define SESSILE_TESTS_CRASH_JUDGE_H

#include "scenes.h"

struct sight {                     /* a session as sessile_load() shows it; all of 8 bytes, to be compared as such */
    uint64_t status, handle, content;  /* content: hash of owner, device and fields */
    int64_t created_ms, authenticated_ms, last_used_ms, idle_deadline_ms, absolute_deadline_ms;
    uint64_t version, flags, fields_length, rotations;
};

#define JUDGE_IDS 14u

struct judge {
    const struct scene *scene;
    const struct world *world;
    struct sessile *survivor;      /* this process's part in the copy: process slot 0 */
    uint8_t *bytes;                /* the copy, as the survivor maps it */
    uint8_t *first, *second;       /* room for two images of it */
    size_t size, length;           /* of the table; of what is ever written to */
    int file;                      /* a description of the copy that holds the bytes of who is to seem alive */
    char path[160], attach_path[160];
    uint32_t dead[2];              /* process slots */
    unsigned dead_count;
    struct sight *old, *new, *now;
    enum sessile_status answer;    /* of the operation when nobody dies */
    uint64_t judged, attached, failures;
    unsigned attach_every;         /* each so many states are also recovered by an attach */
    unsigned work_every;           /* after the recovery of each so many the table is worked with */
    uint64_t point;                /* for messages */
    char ids[JUDGE_IDS][SESSILE_ID_LENGTH + 1]; /* for the work after a recovery */
    struct sessile_session sessions[JUDGE_IDS];
    bool stored[JUDGE_IDS];
};

void judge_begin(struct judge *judge, const struct scene *scene, const struct world *world, const uint8_t *state,
                 size_t size, const uint32_t *dead, unsigned dead_count);
/* The dead processes died in this state. */
void judge_state(struct judge *judge, const uint8_t *state);
/* The operation returned with `answer`, then they died. */
void judge_end_state(struct judge *judge, const uint8_t *state, enum sessile_status answer);
void judge_end(struct judge *judge);
__attribute__((format(printf, 2, 3))) void judge_fail(struct judge *judge, const char *format, ...);

/* What the sessions of a world look like, after a first use of each owner. */
void judge_look(struct sessile *table, const struct world *world, struct sight *sights);
/* The same facts, with or without the versions: moves give a record the next version, and are no change of a session. */
bool judge_same(const struct sight *a, const struct sight *b, bool with_version);
/* Puts a state into the copy. */
void judge_put(struct judge *judge, const uint8_t *state);
/* The dead are found dead by the survivor, and taken over from. */
bool judge_reap(struct judge *judge);
/* Old or new, each session and each group. */
void judge_sights(struct judge *judge, bool must_be_new);
/* Invariants that need no other state to compare with. Answers a finding, or NULL. */
const char *judge_invariants(struct sessile *table);

#endif
