/* succession.c - see succession.h. */
#include "succession.h"

bool succession_is_renewal(const struct retired *retired)
{
    uint8_t any = 0;
    for (size_t i = 0; i < sizeof retired->nonce; i++)
        any |= retired->nonce[i];
    return any != 0;
}

bool succession_forwards(const struct retired *retired, int64_t now)
{
    return succession_is_renewal(retired) && (retired->drain_until_ms == 0 || now < (int64_t)retired->drain_until_ms);
}

/* ---- PENDING ---- */

static const uint8_t *parent_of(const struct record *record)
{
    return record->terms & RECORD_HAS_PARENT && record_payload_length(record->lengths) >= 32 ? record->payload : NULL;
}

enum sessile_status succession_promote(struct sessile *table, const uint8_t digest[32], const uint8_t parent[32],
                                       int64_t wait_ms)
{
    struct hold hold;
    struct record *record;
    enum sessile_status status = shard_enter(table, shard_number(table, digest), wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    uint32_t slot = shard_find(&hold, digest, &record);
    if (slot == 0)
        status = SESSILE_GONE;
    else if (record_kind(record_read_terms(record)) == RECORD_PENDING) {
        if (parent_of(record) && digest_equal(parent_of(record), parent))
            shard_promote(&hold, slot, record);
        else
            status = SESSILE_GONE;
    }
    shard_leave(&hold);
    return status;
}

struct pending {
    uint8_t parent[32];
    uint32_t issued_s;
};

static enum sessile_status read_pending(struct sessile *table, const uint8_t digest[32], int64_t wait_ms,
                                        struct pending *pending)
{
    struct hold hold;
    struct record *record;
    enum sessile_status status = shard_enter(table, shard_number(table, digest), wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    status = SESSILE_GONE;
    if (shard_find(&hold, digest, &record) != 0) {
        status = SESSILE_OK;
        if (record_kind(record->terms) == RECORD_PENDING && parent_of(record)) {
            memcpy(pending->parent, parent_of(record), 32);
            pending->issued_s = record->issued_s;
            status = SESSILE_CHANGED;
        }
    }
    shard_leave(&hold);
    return status;
}

void succession_drop(struct sessile *table, const uint8_t digest[32], const uint8_t parent[32], uint32_t issued_s,
                     int64_t wait_ms)
{
    struct hold hold;
    struct record *record;
    if (shard_enter(table, shard_number(table, digest), wait_ms, &hold) != SESSILE_OK)
        return;
    uint32_t slot = shard_find(&hold, digest, &record);
    if (slot != 0 && record_kind(record->terms) == RECORD_PENDING && parent_of(record) &&
        digest_equal(parent_of(record), parent) && record->issued_s == issued_s)
        shard_remove(&hold, slot);
    shard_leave(&hold);
}

enum sessile_status succession_settle(struct sessile *table, const uint8_t digest[32], int64_t wait_ms)
{
    struct pending pending;
    enum sessile_status status = read_pending(table, digest, wait_ms, &pending);
    if (status != SESSILE_CHANGED)
        return status;    /* OK: it is no PENDING; GONE */
    struct hold hold;
    struct record *record;
    struct retired retired;
    status = shard_enter(table, shard_number(table, pending.parent), wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    bool committed = shard_find(&hold, pending.parent, &record) != 0 && record_kind(record->terms) == RECORD_RETIRED;
    if (committed) {
        memcpy(&retired, record->payload, sizeof retired);
        committed = digest_equal(retired.child, digest);
    }
    bool due = hold.now >= ((int64_t)pending.issued_s + SHARD_PENDING_S + 1) * 1000;    /* read under lock A (T2) */
    shard_leave(&hold);
    if (committed)
        return succession_promote(table, digest, pending.parent, wait_ms);
    if (!due)
        return SESSILE_CHANGED;
    succession_drop(table, digest, pending.parent, pending.issued_s, wait_ms);
    return SESSILE_GONE;
}

/* ---- after a renewal ---- */

/* A RETIRED record of `parent` that names `child`, in a held shard. */
uint32_t succession_find(struct hold *hold, const uint8_t parent[32], const uint8_t child[32], struct record **record,
                             struct retired *retired)
{
    uint32_t slot = shard_find(hold, parent, record);
    if (slot == 0 || record_kind((*record)->terms) != RECORD_RETIRED)
        return 0;
    memcpy(retired, (*record)->payload, sizeof *retired);
    return digest_equal(retired->child, child) ? slot : 0;
}

bool succession_first(struct sessile *table, const struct sessile_call *call, const uint8_t parent[32], const uint8_t child[32])
{
    struct hold hold;
    struct record *record;
    struct retired retired;
    struct image image;
    size_t needed;
    if (shard_enter(table, shard_number(table, parent), call->wait_ms, &hold) != SESSILE_OK)
        return false;
    image_begin(&image);
    uint32_t slot = succession_find(&hold, parent, child, &record, &retired);
    bool done = true;
    if (slot != 0 && succession_is_renewal(&retired) && retired.drain_until_ms == 0) {
        retired.drain_until_ms = (uint64_t)(hold.now + SHARD_DRAIN_MS);
        done = shard_copy(&hold, record, &image, &needed) == SESSILE_OK && shard_verify(&image, parent);
        memcpy(image.record->payload, &retired, sizeof retired);
        image.record->terms = (image.record->terms & ~RECORD_TIME_MASK) |
                              (uint64_t)(hold.now + SHARD_DRAIN_MS + SHARD_RETIRED_MS);
        /* Not done for want of a slot: the next presentation tries again. */
        done = done && shard_replace(&hold, slot, image.record, ARENA_ANY_CLASS | ARENA_NO_WAIT) == SHARD_OK;
    }
    shard_leave(&hold);
    if (!done || shard_enter(table, shard_number(table, child), call->wait_ms, &hold) != SESSILE_OK)
        return false;
    slot = shard_find(&hold, child, &record);
    done = slot != 0 && record_kind(record->terms) == RECORD_SESSION && !record_is_proven(record);
    if (done)
        atomic_fetch_or(&record->used, RECORD_PROVEN);
    shard_leave(&hold);
    return done;
}
