/* rotation.c - a session gets a new id: log-in, rotation, renewal; one commit, one shard lock at a time.
 *
 *   0  lock the owner's stripe, if the child has an owner, until step 3 is done; add the reference to the child
 *   1  lock B: the child as PENDING{parent}, data copied at version v, due in ten seconds
 *   2  lock A: the old record still a SESSION at version v, and the child not due? replace it by RETIRED{child}: THE commit
 *              else lock B: remove the child
 *   3  lock B: PENDING becomes SESSION
 *
 * T1, T2, T3 and T5, about the two records between the steps, are in succession.h.
 * T4  The stripe's lock is held to the end of step 3: else a sweep or a revocation drops the reference of a child that is
 *     about to be committed, and a live session is neither listed nor revocable.
 *
 * tests/models/model_rotation.py and model_owners.py (T4) are the specification, with every order of steps searched.
 *
 * An id retired by log-in or rotation is dead at once. One retired by a renewal forwards until the child's id was
 * presented, then for a drain of ten seconds. Dead ones are kept for ten minutes to tell a theft, unless anonymous.
 */
#include "table.h"

/* ---- rotate ---- */

struct rotation {
    struct sessile *table;
    const struct sessile_call *call;
    enum sessile_rotation how;
    const uint8_t *nonce;
    uint8_t parent[32], child[32];
    uint32_t version;
    uint32_t child_version;        /* of the child: see first_version() */
    bool parent_owned;
    const struct record *old;      /* a verified copy of the parent at `version` */
    struct owner owner;            /* of the child; text NULL: anonymous */
    struct record *image;          /* of the child, PENDING */
    struct stripe_hold stripe;
    bool striped;
    enum sessile_status promoted;  /* of step 3 */
    bool exceeds;                  /* the owner may have more sessions than the cap */
    struct room room;
};

/* Why a step did not go through. */
struct refusal {
    enum sessile_status status;    /* OK: make room for `answer` and start over */
    enum shard_answer answer;
    uint32_t number;
};

/* Step 0. */
static bool take_stripe(struct rotation *rotation, struct refusal *refusal)
{
    enum arena_answer answer = ARENA_OK;
    rotation->striped = false;
    if (!rotation->owner.text)
        return true;
    refusal->status = owner_claim(rotation->table, &rotation->owner, record_prefix(rotation->child), rotation->call,
                                  &rotation->stripe, &answer);
    refusal->answer = shard_answer(answer);
    rotation->striped = refusal->status == SESSILE_OK && answer == ARENA_OK;
    return rotation->striped;
}

/* In a shard of another epoch than the stripe's, revoke_all came between. */
static bool same_epoch(const struct rotation *rotation, const struct hold *hold)
{
    return !rotation->striped || atomic_load(&rotation->stripe.stripe->epoch) == atomic_load(&hold->shard->epoch);
}

/* Step 1. */
static bool add_child(struct rotation *rotation, struct refusal *refusal)
{
    struct hold hold;
    struct record *image = rotation->image;
    refusal->number = shard_number(rotation->table, rotation->child);
    refusal->status = shard_enter(rotation->table, refusal->number, rotation->call->wait_ms, &hold);
    if (refusal->status != SESSILE_OK)
        return false;
    image->issued_s = (uint32_t)(hold.now / 1000);
    if (!same_epoch(rotation, &hold)) {
        refusal->status = SESSILE_GONE;
    } else {
        refusal->answer = shard_insert(&hold, image, rotation->child_version, false, rotation->room.purpose);
        if (refusal->answer == SHARD_EXISTS)
            refusal->status = SESSILE_EXISTS;
    }
    shard_leave(&hold);
    return refusal->status == SESSILE_OK && refusal->answer == SHARD_OK;
}

/* The record that takes the old one's place, `stored`. It keeps the handle for events, and the old one's pool: from the copy
 * that was verified, for it gets a checksum of its own. */
static void make_retired(const struct rotation *rotation, const struct record *stored, int64_t now, struct record *image)
{
    struct retired retired = {.drain_until_ms = 0};
    const struct record *old = rotation->old;
    bool renewal = rotation->how == SESSILE_RENEW;
    memcpy(retired.child, rotation->child, 32);
    if (renewal)
        memcpy(retired.nonce, rotation->nonce, 32);
    memcpy(image->digest, old->digest, 32);
    image->handle = old->handle;
    image->idle = old->idle;
    image->created_s = old->created_s;
    image->authenticated_s = old->authenticated_s;
    image->issued_s = old->issued_s;
    uint64_t defaults = old->terms & (RECORD_DEFAULT_IDLE | RECORD_DEFAULT_ABSOLUTE);
    image->terms = record_terms(renewal ? record_absolute_ms(old->terms) : now + SHARD_RETIRED_MS, RECORD_RETIRED,
                                renewal ? defaults : 0, record_rotations(old->terms));
    image->lengths = record_lengths(sizeof retired, 0);
    uint64_t used = renewal ? (uint64_t)record_used_ms(stored) : (uint64_t)now;
    atomic_store_explicit(&image->used, used | RECORD_PROVEN, memory_order_relaxed);
    memcpy(image->payload, &retired, sizeof retired);
}

/* Renewals leave room in the index for as many sessions as the shard may hold. */
static bool has_room_to_forward(const struct hold *hold)
{
    const struct geometry *geometry = &hold->table->arena.geometry;
    return hold->shard->forwarding + hold->shard->retired + geometry->shard_bound < geometry->index_entries / 8 * 5;
}

/* Step 2: the commit. */
static bool retire(struct rotation *rotation, struct refusal *refusal)
{
    struct sessile *table = rotation->table;
    struct hold hold;
    struct record *record;
    struct image image;
    refusal->number = shard_number(table, rotation->parent);
    refusal->status = shard_enter(table, refusal->number, rotation->call->wait_ms, &hold);
    if (refusal->status != SESSILE_OK)
        return false;
    uint32_t slot = shard_find(&hold, rotation->parent, &record);
    bool renewal = rotation->how == SESSILE_RENEW;
    int64_t child_due = ((int64_t)rotation->image->issued_s + SHARD_PENDING_S + 1) * 1000;
    if (slot == 0 || !same_epoch(rotation, &hold)) {
        refusal->status = SESSILE_GONE;
    } else if (record_kind(record->terms) != RECORD_SESSION ||
               record_version(atomic_load(&record->commit)) != rotation->version || hold.now >= child_due) {
        refusal->status = SESSILE_CHANGED;
    } else if (shard_is_due(table, record, hold.now)) {
        refusal->status = SESSILE_EXPIRED;
    } else if (renewal && !has_room_to_forward(&hold)) {
        refusal->status = SESSILE_FULL;
    } else {
        image_begin(&image);
        make_retired(rotation, record, hold.now, image.record);
        refusal->answer = shard_replace(&hold, slot, image.record, rotation->room.purpose);
        image_end(&image);
    }
    shard_leave(&hold);
    return refusal->status == SESSILE_OK && refusal->answer == SHARD_OK;
}

static void drop_child(struct rotation *rotation)
{
    succession_drop(rotation->table, rotation->child, rotation->parent, rotation->image->issued_s,
                    rotation->call->wait_ms);
}

/* One try of all steps. */
static bool attempt(struct rotation *rotation, struct refusal *refusal)
{
    *refusal = (struct refusal){.number = shard_number(rotation->table, rotation->child)};
    if (!take_stripe(rotation, refusal))
        return false;
    bool added = add_child(rotation, refusal);
    bool committed = added && retire(rotation, refusal);
    if (added && !committed)
        drop_child(rotation);
    if (committed)
        rotation->promoted = succession_promote(rotation->table, rotation->child, rotation->parent,
                                                rotation->call->wait_ms);
    if (rotation->striped && committed) {
        rotation->exceeds = owner_exceeds(&rotation->stripe, &rotation->owner, rotation->table->policy.sessions_per_owner);
        owner_leave(&rotation->stripe);
    } else if (rotation->striped)
        owner_unclaim(&rotation->stripe, &rotation->owner, record_prefix(rotation->child));
    return committed;
}

/* An anonymous session's old id tells no theft: its record goes once the child stands without it (T3). */
static void forget_anonymous(const struct rotation *rotation)
{
    struct hold hold;
    struct record *record;
    struct retired retired;
    if (rotation->promoted != SESSILE_OK ||
        shard_enter(rotation->table, shard_number(rotation->table, rotation->parent), rotation->call->wait_ms, &hold) !=
            SESSILE_OK)
        return;
    uint32_t slot = succession_find(&hold, rotation->parent, rotation->child, &record, &retired);
    if (slot != 0)
        shard_remove(&hold, slot);
    room_leave(&hold, rotation->call);
}

/* The child: all from content at a log-in, else what the old record has with the fields of content. */
static void make_child(struct rotation *rotation, const struct image *old, const struct sessile_content *content, int64_t now)
{
    const struct record *from = old->record;
    struct record *child = rotation->image;
    struct record_parts parts;
    record_own_parts(from, &parts);
    struct sessile_content kept = {.owner = parts.owner_length ? parts.owner : NULL, .owner_length = parts.owner_length,
                                   .device = parts.device, .device_length = parts.device_length, .fields = parts.fields,
                                   .fields_length = parts.fields_length};
    if (rotation->how == SESSILE_LOGIN)
        kept = *content;
    else if (content) {
        kept.fields = content->fields;
        kept.fields_length = content->fields_length;
    }
    table_fill(rotation->table, child, &kept, now);
    uint32_t length = record_payload_length(child->lengths), owner = record_owner_length(child->lengths);
    memmove(child->payload + 32, child->payload, length);
    memcpy(child->payload, rotation->parent, 32);
    memcpy(child->digest, rotation->child, 32);
    uint32_t rotations = 0, rotates = 0;
    child->created_s = from->created_s;
    if (rotation->how == SESSILE_LOGIN) {
        child->handle = table_handle(rotation->table, rotation->child, now);
    } else {
        child->handle = from->handle;
        child->authenticated_s = from->authenticated_s;
        child->idle = from->idle;
        rotations = record_rotations(from->terms) + 1;
        rotates = record_rotates(atomic_load_explicit(&from->used, memory_order_relaxed)) +
                  (rotation->how == SESSILE_ROTATE ? 1 : 0);
        child->terms = (from->terms & (RECORD_TIME_MASK | RECORD_DEFAULT_IDLE | RECORD_DEFAULT_ABSOLUTE)) |
                       (child->terms & RECORD_HAS_DEVICE);
    }
    uint64_t flags = (child->terms & (RECORD_DEFAULT_IDLE | RECORD_DEFAULT_ABSOLUTE | RECORD_HAS_DEVICE)) | RECORD_HAS_PARENT;
    child->terms = record_terms(record_absolute_ms(child->terms), RECORD_PENDING, flags, rotations);
    child->lengths = record_lengths(length + 32, owner);
    atomic_store_explicit(&child->used, record_used(now, rotates), memory_order_relaxed);
}

/* Copies the old record as it is at `version`. */
static enum sessile_status read_old(struct sessile *table, const struct sessile_call *call,
                                    const struct sessile_reference *reference, uint32_t version, struct image *image,
                                    int64_t *now)
{
    for (;;) {
        struct located located;
        size_t needed = 0;
        enum sessile_status status = table_locate(table, call, reference, &located);
        if (status != SESSILE_OK)
            return status;
        *now = located.hold.now;
        if (shard_is_due(table, located.record, *now))
            status = SESSILE_EXPIRED;
        else if (located.forwarded || record_version(atomic_load(&located.record->commit)) != version)
            status = SESSILE_CHANGED;
        else
            status = shard_copy(&located.hold, located.record, image, &needed);
        shard_leave(&located.hold);
        if (status == SESSILE_OK && !shard_verify(image, reference->digest))
            status = SESSILE_DAMAGED;
        if (status == SESSILE_DAMAGED)
            table_quarantine(table, call, reference->digest);
        if (status != SESSILE_BUFFER)
            return status;
        if (!image_grow(image, needed))
            return SESSILE_NO_MEMORY;
    }
}

static enum sessile_status run(struct rotation *rotation)
{
    for (;;) {
        struct refusal refusal;
        if (attempt(rotation, &refusal))
            return SESSILE_OK;
        if (refusal.status != SESSILE_OK)
            return refusal.status;
        bool may_evict_own = rotation->how == SESSILE_LOGIN && rotation->owner.text;
        enum sessile_status status = room_make(rotation->table, rotation->call, &rotation->room, refusal.answer,
                                               refusal.number, rotation->owner.text ? ARENA_OWNED : ARENA_ANONYMOUS,
                                               may_evict_own ? &rotation->owner : NULL, rotation->parent);
        if (status != SESSILE_OK)
            return status;
    }
}

/* After the commit nothing may fail: what is busy now is left to the next log-in. */
static void after_commit(struct rotation *rotation, struct sessile_session *session, int64_t now)
{
    struct sessile *table = rotation->table;
    struct image described = {.record = rotation->image};
    uint32_t evicted;
    if (rotation->parent_owned)
        room_tend(table, shard_number(table, rotation->parent), rotation->call);
    else
        forget_anonymous(rotation);
    if (rotation->how == SESSILE_LOGIN && rotation->exceeds) {
        enum sessile_status ignored = owner_evict(table, &rotation->owner, table->policy.sessions_per_owner,
                                                  rotation->child, rotation->call, &evicted);
        (void)ignored;
    }
    atomic_store_explicit(&rotation->image->commit, record_commit(rotation->child_version, 0), memory_order_relaxed);
    table_describe(table, &described, now, session);
}

static enum sessile_status commit_rotation(struct rotation *rotation, const struct image *old,
                                           const struct sessile_content *content, int64_t now,
                                           struct sessile_session *session)
{
    struct image child;
    struct record_parts parts;
    uint64_t length = RECORD_HEADER + 32 + record_payload_length(old->record->lengths);
    if (content)
        length += SESSILE_OWNER_MAX + SESSILE_DEVICE_MAX + 2 + content->fields_length;
    image_begin(&child);
    if (!image_grow(&child, length)) {
        image_end(&child);
        return SESSILE_NO_MEMORY;
    }
    rotation->image = child.record;
    rotation->old = old->record;
    rotation->parent_owned = record_is_owned(old->record);
    make_child(rotation, old, content, now);
    enum sessile_status status = SESSILE_INVALID;
    if (record_own_parts(child.record, &parts)) {
        rotation->room.size = RECORD_HEADER + record_payload_length(child.record->lengths);
        if (parts.owner_length)
            rotation->owner = owner_named(rotation->table, parts.owner, parts.owner_length);
        status = run(rotation);
    }
    if (status == SESSILE_OK)
        after_commit(rotation, session, now);
    image_end(&child);
    return status;
}

/* Versions go on across renewals: who read the session under its old id, and follows, must find another version if and
 * only if it was changed since. */
static uint32_t first_version(enum sessile_rotation how, uint32_t version)
{
    if (how == SESSILE_LOGIN)
        return 1;
    return how == SESSILE_RENEW ? version : (version + 1) & RECORD_VERSION_MASK;
}

enum sessile_status sessile_rotate(struct sessile *table, const struct sessile_call *call,
                                   const struct sessile_reference *reference, uint32_t version, enum sessile_rotation how,
                                   const char id[SESSILE_ID_LENGTH], const uint8_t *nonce,
                                   const struct sessile_content *content, struct sessile_session *session)
{
    struct rotation rotation = {.table = table, .call = call, .how = how, .nonce = nonce, .version = version,
                                .child_version = first_version(how, version)};
    struct image old;
    int64_t now = 0;
    if (call->wait_ms == 0 || (how == SESSILE_RENEW) != (nonce != NULL) || (how == SESSILE_LOGIN && !content) ||
        (content && !table_content_ok(table, content)))
        return SESSILE_INVALID;
    memcpy(rotation.parent, reference->digest, 32);
    shard_expect(table, rotation.parent);
    enum sessile_status status = table_new_digest(table, id, rotation.child);
    if (status != SESSILE_OK)
        return status;
    shard_expect(table, rotation.child);
    image_begin(&old);
    status = read_old(table, call, reference, version, &old, &now);
    if (status == SESSILE_OK && how == SESSILE_RENEW && !(record_is_owned(old.record) && record_is_proven(old.record)))
        status = SESSILE_INVALID;
    if (status == SESSILE_OK)
        status = commit_rotation(&rotation, &old, how == SESSILE_RENEW ? NULL : content, now, session);
    image_end(&old);
    return status;
}

/* ---- theft ---- */

enum sessile_status sessile_end_theft(struct sessile *table, const struct sessile_call *call,
                                      const uint8_t digest[SESSILE_DIGEST_SIZE], uint64_t *handle)
{
    uint8_t next[32];
    memcpy(next, digest, sizeof next);
    for (unsigned hop = 0; hop < TABLE_HOPS; hop++) {
        struct hold hold;
        struct record *record;
        enum sessile_status settled = succession_settle(table, next, call->wait_ms);
        if (settled == SESSILE_BUSY || settled == SESSILE_DETACHED)
            return settled;
        enum sessile_status status = shard_enter(table, shard_number(table, next), call->wait_ms, &hold);
        if (status != SESSILE_OK)
            return status;
        uint32_t slot = shard_find(&hold, next, &record);
        if (slot != 0 && record_kind(record->terms) == RECORD_RETIRED) {
            struct retired retired;
            memcpy(&retired, record->payload, sizeof retired);
            memcpy(next, retired.child, sizeof next);
            *handle = record->handle;
            shard_leave(&hold);
            continue;
        }
        bool alive = slot != 0 && !shard_is_due(table, record, hold.now);
        if (alive) {
            *handle = record->handle;
            shard_report(&hold, call->sink, record, SESSILE_STOLEN, true);
            hold.shard->revoked++;
            shard_remove(&hold, slot);
        }
        shard_leave(&hold);
        return alive ? SESSILE_OK : SESSILE_GONE;
    }
    return SESSILE_GONE;
}
