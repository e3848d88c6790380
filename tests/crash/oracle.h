/* oracle.h - what the table must hold, kept beside it by the processes that work on it, in memory of their own.
 *
 * Each key is a session, or none, that only its worker writes. Before an operation the worker writes down what the key will
 * be, and marks it as begun; after it, one store of `word` makes that what the key is. So after a kill the table must hold
 * one or the other, and without a begun operation exactly what is written down.
 */
#ifndef SESSILE_TESTS_CRASH_ORACLE_H
#define SESSILE_TESTS_CRASH_ORACLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sessile.h"

#define WORKERS_MAX 32u
#define KEYS 40u
#define FIELDS_MAX 9000u

struct key_state {
    uint32_t present, owned;
    uint64_t value;                /* counts the key's operations; the fields follow from it */
    uint64_t id_value;             /* a random number; the id follows from it, and is never used again */
    uint64_t epoch;                /* of its worker's revocations, when it got its owner */
    uint32_t forwards;             /* the id before it may go on */
};

enum { KEY_CURRENT = 1, KEY_BEGUN = 2 };

struct key {
    _Atomic uint32_t word;         /* which of the states is the key's, and is the other one begun? */
    struct key_state states[2];
};

struct worker {
    _Atomic int pid;
    _Atomic uint32_t process_word; /* as it stands in the locks that it owns */
    _Atomic uint32_t recovering;   /* it repairs a shard right now */
    _Atomic uint64_t revoked, revoking; /* revocations of its owner: returned, begun */
    _Atomic uint64_t operations, busy, worst_us;
    struct key keys[KEYS];
};

struct oracle {
    _Atomic uint32_t stop;
    _Atomic uint64_t violations;
    _Atomic uint32_t told;
    char first[512];               /* the first violation */
    uint64_t seed;
    int64_t wait_ms;
    uint32_t workers;
    bool may_be_busy;
    struct worker of[WORKERS_MAX];
};

struct setting {                   /* how a worker begins */
    const char *path;              /* opens the table by it; NULL: uses what it inherited */
    bool close_descriptors, threads, slow_recovery;
    uint32_t ballast_mib;
};

__attribute__((format(printf, 2, 3))) void violation(struct oracle *oracle, const char *format, ...);
/* Checks the worker's keys against the table, then works until it is killed or told to stop. */
void work(struct oracle *oracle, uint32_t number, struct sessile *table);
/* Checks and settles only: what is there when all is over. */
void settle_all(struct oracle *oracle, uint32_t number, struct sessile *table);
uint64_t next_random(uint64_t *state);

#endif
