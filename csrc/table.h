/* table.h - what table.c, rotation.c, listing.c and opening.c share. */
#ifndef SESSILE_TABLE_H
#define SESSILE_TABLE_H

#include "room.h"

#define TABLE_HOPS 64u             /* renewals and rotations that one follow goes through */

/* Where a reference led: a held shard with a SESSION record in it. */
struct located {
    struct hold hold;
    uint32_t slot;
    struct record *record;
    bool forwarded;
    uint8_t nonce[32];             /* of the last renewal that was followed */
};

/* Follows a reference through renewals to its session, and holds its shard. OK, GONE, WOULD_BLOCK, BUSY, DETACHED. */
SESSILE_CHECKED enum sessile_status table_locate(struct sessile *table, const struct sessile_call *call,
                                                 const struct sessile_reference *reference, struct located *located);
/* Facts of a private copy, but for forwarding and key. */
void table_describe(const struct sessile *table, const struct image *image, int64_t now, struct sessile_session *session);
/* The same from a private copy of the header and the parts of the payload. */
void table_facts_of(const struct sessile *table, const struct record *record, const struct record_parts *parts, int64_t now,
                    struct sessile_session *session);
/* The digest of a new id, by the first key. */
SESSILE_CHECKED enum sessile_status table_new_digest(const struct sessile *table, const char id[SESSILE_ID_LENGTH],
                                                     uint8_t digest[32]);
/* Fills everything of a record but digest, handle and version, from content. `now`: creation; `record` has the room. */
void table_fill(const struct sessile *table, struct record *record, const struct sessile_content *content, int64_t now);
/* A handle for a digest: another keyed hash, never 0. */
uint64_t table_handle(const struct sessile *table, const uint8_t digest[32], int64_t now);
bool table_content_ok(const struct sessile *table, const struct sessile_content *content);
/* Takes out the record of a digest if it fails its checksum. No shard held. */
void table_quarantine(struct sessile *table, const struct sessile_call *call, const uint8_t digest[32]);

#endif
