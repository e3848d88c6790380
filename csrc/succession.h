/* succession.h - what a rotation leaves between two records: a PENDING child, a RETIRED parent that names it.
 *
 * T1  PENDING is valid if and only if the record of its parent is RETIRED and names it. So at every instant exactly one
 *     of parent and child is valid, whoever is killed or stopped wherever.
 * T2  A due PENDING is dropped only after its parent was read, under the parent's lock, at or after the due time; the commit
 *     of a rotation reads the clock under the same lock, so that none can follow.
 * T3  A RETIRED record is removed only after its child was looked up and, if PENDING, promoted (room.c).
 * T5  First presentation of a renewed id: drain_until is set in the parent, then proven in the child. In the other order a
 *     kill between the two would let the old id forward for good.
 *
 * No function here may be called with a shard held, but for succession_find(); each holds one shard at a time.
 * tests/models/model_rotation.py (T1 to T3) and model_renewal.py (T5) are these rules, with every order of steps searched.
 */
#ifndef SESSILE_SUCCESSION_H
#define SESSILE_SUCCESSION_H

#include "shard.h"

/* Was the id retired by a renewal, and does it forward at `now`? */
bool succession_is_renewal(const struct retired *retired);
bool succession_forwards(const struct retired *retired, int64_t now);
/* The slot of a RETIRED record of `parent` that names `child`, in a held shard, or 0. */
uint32_t succession_find(struct hold *hold, const uint8_t parent[32], const uint8_t child[32], struct record **record,
                         struct retired *retired);
/* PENDING to SESSION, in place; needs no room. The caller knows that its parent is RETIRED and names it. OK (also when it
 * was promoted before), GONE, WOULD_BLOCK, BUSY, DETACHED. */
SESSILE_CHECKED enum sessile_status succession_promote(struct sessile *table, const uint8_t digest[32],
                                                       const uint8_t parent[32], int64_t wait_ms);
/* Removes the PENDING child of `parent` that was issued at that second. The caller knows that no commit of it can follow;
 * another try of the same rotation may have put a younger one in its place. */
void succession_drop(struct sessile *table, const uint8_t digest[32], const uint8_t parent[32], uint32_t issued_s,
                     int64_t wait_ms);
/* Decides what a PENDING record is: promotes it when its parent is RETIRED and names it; drops it when it is due and its
 * parent is not. OK: it is no PENDING any more; GONE; CHANGED: undecided, its rotation is under way. */
SESSILE_CHECKED enum sessile_status succession_settle(struct sessile *table, const uint8_t digest[32], int64_t wait_ms);
/* The first presentation of a renewed id: ends the forwarding of its parent after a drain, then marks the child (T5). True:
 * this call did it. */
bool succession_first(struct sessile *table, const struct sessile_call *call, const uint8_t parent[32],
                      const uint8_t child[32]);
#endif
