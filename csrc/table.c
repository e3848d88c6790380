/* table.c - one session of the table: load, read, create, update, remove, collect. See sessile.h for what each promises.
 *
 * A look-up costs: one hash, one lock, a probe of the index, the record. It copies under the lock and verifies the
 * checksum after it.
 */
#include "table.h"

/* ---- facts ---- */

bool sessile_digest(const struct sessile *table, unsigned key_index, const char *id, size_t id_length,
                    uint8_t digest[SESSILE_DIGEST_SIZE])
{
    if (key_index >= table->key_count || !digest_id_wellformed((const uint8_t *)id, id_length))
        return false;
    digest_id(&table->keys->ids[key_index], (const uint8_t *)id, digest);
    return true;
}

enum sessile_status table_new_digest(const struct sessile *table, const char id[SESSILE_ID_LENGTH], uint8_t digest[32])
{
    return sessile_digest(table, 0, id, SESSILE_ID_LENGTH, digest) ? SESSILE_OK : SESSILE_INVALID;
}

uint64_t table_handle(const struct sessile *table, const uint8_t digest[32], int64_t now)
{
    uint8_t text[40], hash[32];
    memcpy(text, digest, 32);
    memcpy(text + 32, &now, 8);
    digest_text(&table->keys->owner, text, sizeof text, hash);
    uint64_t handle = record_prefix(hash);
    return handle ? handle : 1;
}

void table_facts_of(const struct sessile *table, const struct record *record, const struct record_parts *parts, int64_t now,
                    struct sessile_session *session)
{
    struct deadlines deadlines = shard_deadlines(table, record);
    memcpy(session->digest, record->digest, 32);
    session->handle = record->handle;
    session->now_ms = now;
    session->created_ms = (int64_t)record->created_s * 1000;
    session->authenticated_ms = (int64_t)record->authenticated_s * 1000;
    session->issued_ms = (int64_t)record->issued_s * 1000;
    session->last_used_ms = record_used_ms(record);
    session->idle_deadline_ms = deadlines.idle_ms;
    session->absolute_deadline_ms = deadlines.absolute_ms;
    session->idle_ms = (int64_t)record->idle * RECORD_IDLE_STEP_MS;
    session->version = record_version(atomic_load_explicit(&record->commit, memory_order_relaxed));
    session->flags = (record_is_owned(record) ? SESSILE_OWNED : 0u) | (record_is_proven(record) ? SESSILE_PROVEN : 0u) |
                     (record->terms & RECORD_DEFAULT_IDLE ? SESSILE_IDLE_IS_DEFAULT : 0u) |
                     (record->terms & RECORD_DEFAULT_ABSOLUTE ? SESSILE_ABSOLUTE_IS_DEFAULT : 0u);
    session->owner_length = parts->owner_length;
    session->device_length = parts->device_length;
    session->fields_length = parts->fields_length;
    session->rotations = (uint16_t)record_rotations(record->terms);
    session->rotates = (uint16_t)record_rotates(atomic_load_explicit(&record->used, memory_order_relaxed));
    session->key_index = 255;
}

void table_describe(const struct sessile *table, const struct image *image, int64_t now, struct sessile_session *session)
{
    struct record_parts parts;
    record_own_parts(image->record, &parts);
    table_facts_of(table, image->record, &parts, now, session);
}

/* The variable part of a verified copy: owner, device, fields, without gaps. */
static enum sessile_status give(const struct image *image, const struct sessile_session *session, uint8_t *buffer,
                                size_t capacity)
{
    struct record_parts parts;
    if (!record_own_parts(image->record, &parts))
        return SESSILE_DAMAGED;
    if (!buffer)
        return SESSILE_OK;
    if ((size_t)session->owner_length + session->device_length + session->fields_length > capacity)
        return SESSILE_BUFFER;
    memcpy(buffer, parts.owner, parts.owner_length);
    buffer += parts.owner_length;
    if (parts.device_length)
        memcpy(buffer, parts.device, parts.device_length);
    memcpy(buffer + parts.device_length, parts.fields, parts.fields_length);
    return SESSILE_OK;
}

bool table_content_ok(const struct sessile *table, const struct sessile_content *content)
{
    if (content->owner && (content->owner_length == 0 || content->owner_length > SESSILE_OWNER_MAX))
        return false;
    return content->device_length <= SESSILE_DEVICE_MAX && content->fields_length <= SESSILE_FIELDS_MAX &&
           content->fields_length <= table->policy.fields_max && content->idle_ms <= SESSILE_TIMEOUT_MAX_MS &&
           content->absolute_ms <= SESSILE_TIMEOUT_MAX_MS;
}

static uint32_t idle_steps(int64_t idle_ms)
{
    return (uint32_t)((idle_ms + RECORD_IDLE_STEP_MS - 1) / RECORD_IDLE_STEP_MS);
}

void table_fill(const struct sessile *table, struct record *record, const struct sessile_content *content, int64_t now)
{
    bool owned = content->owner != NULL;
    bool idle_default = content->idle_ms <= 0, absolute_default = content->absolute_ms <= 0;
    const struct sessile_policy *policy = &table->policy;
    int64_t idle = idle_default ? (owned ? policy->owned_idle_ms : policy->anonymous_idle_ms) : content->idle_ms;
    int64_t absolute = absolute_default ? (owned ? policy->owned_absolute_ms : policy->anonymous_absolute_ms)
                                        : content->absolute_ms;
    uint32_t owner = owned ? content->owner_length : 0, device = content->device ? content->device_length : 0;
    uint8_t *next = record->payload;
    if (owner)
        memcpy(next, content->owner, owner);
    next += owner;
    if (content->device) {
        *next++ = (uint8_t)device;
        *next++ = (uint8_t)(device >> 8);
        memcpy(next, content->device, device);
        next += device;
    }
    if (content->fields_length)
        memcpy(next, content->fields, content->fields_length);
    next += content->fields_length;
    uint64_t flags = (idle_default ? RECORD_DEFAULT_IDLE : 0) | (absolute_default ? RECORD_DEFAULT_ABSOLUTE : 0) |
                     (content->device ? RECORD_HAS_DEVICE : 0);
    record->terms = record_terms(now + absolute, RECORD_SESSION, flags, 0);
    record->idle = idle_steps(idle);
    record->lengths = record_lengths((uint32_t)(next - record->payload), owner);
    record->created_s = (uint32_t)(now / 1000);
    record->authenticated_s = owned ? (uint32_t)(now / 1000) : 0;
    record->issued_s = (uint32_t)(now / 1000);
    atomic_store_explicit(&record->used, record_used(now, 0), memory_order_relaxed);
    atomic_store_explicit(&record->next, 0, memory_order_relaxed);
    atomic_store_explicit(&record->prev, 0, memory_order_relaxed);
}

/* ---- look-up ---- */

struct lookup {
    struct sessile *table;
    const struct sessile_call *call;
    unsigned flags;
    uint8_t digest[32];
    struct image image;
    const uint8_t *buffer;         /* the caller's; NULL: facts only */
    size_t capacity;
    int64_t now;
    uint64_t handle;               /* of a record that is due */
    bool last_key;                 /* a miss is a miss */
    bool first;                    /* the copy is of a session whose own id was not presented before */
};

/* Renews the idle deadline by one aligned store, unless the last renewal is younger than idle / 64; marks a presented id. */
static void touch(struct record *record, int64_t now, unsigned flags)
{
    uint64_t used = atomic_load_explicit(&record->used, memory_order_relaxed), renewed = used;
    int64_t idle = (int64_t)record->idle * RECORD_IDLE_STEP_MS;
    if (flags & SESSILE_TOUCH && now - (int64_t)(used & RECORD_TIME_MASK) >= idle / 64)
        renewed = ((uint64_t)now & RECORD_TIME_MASK) | (used & ~RECORD_TIME_MASK);
    if (flags & SESSILE_PRESENT && !(record->terms & RECORD_HAS_PARENT))
        renewed |= RECORD_PROVEN;
    if (renewed != used)
        atomic_store_explicit(&record->used, renewed, memory_order_relaxed);
}

/* A copy is made before the record is touched: one that does not fit changes nothing. */
static void copy_used(const struct image *image, const struct record *record)
{
    atomic_store_explicit(&image->record->used, atomic_load_explicit(&record->used, memory_order_relaxed),
                          memory_order_relaxed);
}

/* Under the shard's lock; figures are read without it. */
static void count(_Atomic uint64_t *figure)
{
    atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Does the copy fit the caller's buffer? Else nothing is to be changed: the call is repeated. */
static bool fits(const struct lookup *lookup)
{
    struct record_parts parts;
    return !lookup->buffer || !record_own_parts(lookup->image.record, &parts) ||
           (size_t)parts.owner_length + parts.device_length + parts.fields_length <= lookup->capacity;
}

/* Looks a digest up once: a copy of whatever record is there. OK, MISS, EXPIRED, and what shard_enter(), shard_copy() say. */
static enum sessile_status copy_once(struct lookup *lookup, size_t *needed)
{
    struct hold hold;
    struct record *record;
    struct sessile *table = lookup->table;
    enum sessile_status status = shard_enter(table, shard_number(table, lookup->digest), lookup->call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    lookup->now = hold.now;
    uint32_t slot = shard_find(&hold, lookup->digest, &record);
    if (slot == 0) {
        status = SESSILE_MISS;
    } else {
        enum record_kind kind = record_kind(record->terms);
        bool due = kind != RECORD_PENDING && shard_is_due(table, record, hold.now);
        bool dead = kind == RECORD_RETIRED && shard_is_dead_retired(record);
        if (due && dead) {
            status = SESSILE_MISS;
        } else if (due) {
            lookup->handle = record->handle;
            status = SESSILE_EXPIRED;
        } else {
            lookup->first = kind == RECORD_SESSION && !record_is_proven(record);
            status = shard_copy(&hold, record, &lookup->image, needed);
            if (status == SESSILE_OK && kind == RECORD_SESSION && fits(lookup)) {
                touch(record, hold.now, lookup->flags);
                copy_used(&lookup->image, record);
                count(&hold.shard->loads);
            } else if (status == SESSILE_OK && kind == RECORD_RETIRED && !dead) {
                touch(record, hold.now, lookup->flags & SESSILE_TOUCH);
            }
        }
    }
    if (status == SESSILE_MISS && lookup->last_key)
        count(&hold.shard->misses);
    shard_leave(&hold);
    return status;
}

void table_quarantine(struct sessile *table, const struct sessile_call *call, const uint8_t digest[32])
{
    struct hold hold;
    if (shard_enter(table, shard_number(table, digest), call->wait_ms, &hold) != SESSILE_OK)
        return;    /* whoever meets it next does it */
    shard_quarantine(&hold, digest);
    shard_leave(&hold);
}

/* A verified copy; a damaged record is quarantined. */
static enum sessile_status copy_record(struct lookup *lookup)
{
    for (;;) {
        size_t needed = 0;
        enum sessile_status status = copy_once(lookup, &needed);
        if (status == SESSILE_BUFFER) {
            if (image_grow(&lookup->image, needed))
                continue;
            return SESSILE_NO_MEMORY;
        }
        if (status == SESSILE_OK && !shard_verify(&lookup->image, lookup->digest))
            status = SESSILE_DAMAGED;
        if (status == SESSILE_DAMAGED)
            table_quarantine(lookup->table, lookup->call, lookup->digest);
        return status;
    }
}

/* What a retired id means to the client that presents it. */
static enum sessile_status retired_verdict(const struct lookup *lookup, const struct retired *retired)
{
    const struct record *record = lookup->image.record;
    int64_t since = retired->drain_until_ms ? (int64_t)retired->drain_until_ms : record_used_ms(record);
    if (!record_is_owned(record) || lookup->now < since + SHARD_LATE_MS)
        return SESSILE_RETIRED;
    return SESSILE_THEFT;
}

/* A copy of a SESSION, through a forwarding id where there is one. */
static enum sessile_status resolve(struct lookup *lookup, struct sessile_session *session, bool *forwarded)
{
    *forwarded = false;
    for (unsigned hop = 0; hop < TABLE_HOPS; hop++) {
        enum sessile_status status = copy_record(lookup);
        if (status != SESSILE_OK)
            return *forwarded && status == SESSILE_EXPIRED ? SESSILE_MISS : status;
        const struct record *record = lookup->image.record;
        enum record_kind kind = record_kind(record->terms);
        if (kind == RECORD_SESSION)
            return SESSILE_OK;
        if (kind == RECORD_PENDING) {
            status = succession_settle(lookup->table, lookup->digest, lookup->call->wait_ms);
            if (status != SESSILE_OK)
                return status == SESSILE_GONE || status == SESSILE_CHANGED ? SESSILE_MISS : status;
            continue;
        }
        struct retired retired;
        memcpy(&retired, record->payload, sizeof retired);
        if (!succession_forwards(&retired, lookup->now)) {
            memcpy(session->digest, lookup->digest, 32);
            session->handle = record->handle;
            return *forwarded ? SESSILE_MISS : retired_verdict(lookup, &retired);
        }
        *forwarded = true;
        memcpy(session->nonce, retired.nonce, sizeof retired.nonce);
        memcpy(lookup->digest, retired.child, 32);
        lookup->flags &= ~(unsigned)SESSILE_PRESENT;
    }
    return SESSILE_MISS;
}

static enum sessile_status load_digest(struct lookup *lookup, struct sessile_session *session, uint8_t *buffer,
                                       size_t capacity)
{
    bool forwarded, present = (lookup->flags & SESSILE_PRESENT) != 0;
    enum sessile_status status = resolve(lookup, session, &forwarded);
    if (status == SESSILE_EXPIRED) {
        memcpy(session->digest, lookup->digest, 32);
        session->handle = lookup->handle;
    }
    if (status != SESSILE_OK)
        return status;
    table_describe(lookup->table, &lookup->image, lookup->now, session);
    status = give(&lookup->image, session, buffer, capacity);
    if (forwarded)
        session->flags |= SESSILE_FORWARDED;
    else if (present && lookup->first && status == SESSILE_OK) {
        const struct record *record = lookup->image.record;
        bool renewed = record->terms & RECORD_HAS_PARENT && record_payload_length(record->lengths) >= 32;
        if (!renewed || succession_first(lookup->table, lookup->call, record->payload, lookup->digest))
            session->flags |= SESSILE_FIRST | SESSILE_PROVEN;
    }
    return status;
}

enum sessile_status sessile_load(struct sessile *table, const struct sessile_call *call, const char *id, size_t id_length,
                                 unsigned flags, struct sessile_session *session, uint8_t *buffer, size_t capacity)
{
    struct lookup lookup;
    enum sessile_status status = SESSILE_MISS;
    if (!digest_id_wellformed((const uint8_t *)id, id_length)) {
        atomic_fetch_add_explicit(&table->arena.header->malformed, 1, memory_order_relaxed);
        return SESSILE_MISS;
    }
    lookup.table = table;
    lookup.call = call;
    lookup.buffer = buffer;
    lookup.capacity = capacity;
    image_begin(&lookup.image);
    unsigned key = 0;
    for (; key < table->key_count; key++) {
        lookup.flags = flags;
        lookup.last_key = key + 1 == table->key_count;
        digest_id(&table->keys->ids[key], (const uint8_t *)id, lookup.digest);
        status = load_digest(&lookup, session, buffer, capacity);
        if (status != SESSILE_MISS)
            break;
    }
    if (status == SESSILE_OK)
        session->key_index = session->flags & SESSILE_FORWARDED ? 255 : (uint8_t)key;
    image_end(&lookup.image);
    return status;
}

/* ---- by reference ---- */

struct handle_search {
    uint64_t handle;
    uint16_t rotates;
    uint8_t digest[32];
    bool found;
};

static enum owner_next has_handle(void *context, struct hold *hold, uint32_t slot, struct record *record)
{
    struct handle_search *search = context;
    (void)hold;
    (void)slot;
    if (record->handle != search->handle ||
        record_rotates(atomic_load_explicit(&record->used, memory_order_relaxed)) != search->rotates)
        return OWNER_GO_ON;
    memcpy(search->digest, record->digest, 32);
    search->found = true;
    return OWNER_STOP;
}

/* The record of a renewal goes after a while; what held a session from before then finds it by owner and handle. */
static enum sessile_status find_by_handle(struct sessile *table, const struct sessile_call *call,
                                          const struct sessile_reference *reference, uint8_t digest[32])
{
    struct stripe_hold hold;
    struct handle_search search = {.handle = reference->handle, .rotates = reference->rotates};
    if (!reference->owner)
        return SESSILE_GONE;
    struct owner owner = owner_named(table, reference->owner, reference->owner_length);
    enum sessile_status status = owner_enter(table, &owner, call, &hold);
    if (status != SESSILE_OK)
        return status;
    status = owner_walk(&hold, &owner, call, has_handle, &search);
    owner_leave(&hold);
    if (status != SESSILE_OK)
        return status;
    memcpy(digest, search.digest, 32);
    return search.found ? SESSILE_OK : SESSILE_GONE;
}

/* One hop of table_locate(). OK: located; CHANGED: go on with `digest`; MISS: no such record. */
static enum sessile_status locate_once(struct sessile *table, const struct sessile_call *call,
                                       const struct sessile_reference *reference, uint8_t digest[32],
                                       struct located *located)
{
    enum sessile_status status = shard_enter(table, shard_number(table, digest), call->wait_ms, &located->hold);
    if (status != SESSILE_OK)
        return status;
    located->slot = shard_find(&located->hold, digest, &located->record);
    if (located->slot == 0) {
        shard_leave(&located->hold);
        return SESSILE_MISS;
    }
    enum record_kind kind = record_kind(located->record->terms);
    if (kind == RECORD_SESSION) {
        if (located->record->handle == reference->handle)
            return SESSILE_OK;
        shard_leave(&located->hold);
        return SESSILE_GONE;
    }
    struct retired retired = {.drain_until_ms = 0};
    if (kind == RECORD_RETIRED)
        memcpy(&retired, located->record->payload, sizeof retired);
    shard_leave(&located->hold);
    if (kind == RECORD_PENDING) {
        status = succession_settle(table, digest, call->wait_ms);
        return status == SESSILE_OK ? SESSILE_CHANGED : status == SESSILE_CHANGED ? SESSILE_GONE : status;
    }
    if (!succession_is_renewal(&retired))
        return SESSILE_GONE;
    located->forwarded = true;
    memcpy(located->nonce, retired.nonce, sizeof located->nonce);
    memcpy(digest, retired.child, 32);
    return SESSILE_CHANGED;
}

enum sessile_status table_locate(struct sessile *table, const struct sessile_call *call,
                                 const struct sessile_reference *reference, struct located *located)
{
    uint8_t digest[32];
    bool searched = false;
    memcpy(digest, reference->digest, sizeof digest);
    located->forwarded = false;
    for (unsigned hop = 0; hop < TABLE_HOPS; hop++) {
        enum sessile_status status = locate_once(table, call, reference, digest, located);
        if (status == SESSILE_CHANGED)
            continue;
        if (status != SESSILE_MISS || searched)
            return status == SESSILE_MISS ? SESSILE_GONE : status;
        searched = true;
        status = find_by_handle(table, call, reference, digest);
        if (status != SESSILE_OK)
            return status;
        located->forwarded = true;
        memset(located->nonce, 0, sizeof located->nonce);
    }
    return SESSILE_GONE;
}

static void note_forwarding(const struct located *located, struct sessile_session *session)
{
    if (!located->forwarded)
        return;
    session->flags |= SESSILE_FORWARDED;
    memcpy(session->nonce, located->nonce, sizeof session->nonce);
}

enum sessile_status sessile_read(struct sessile *table, const struct sessile_call *call,
                                 const struct sessile_reference *reference, unsigned flags,
                                 struct sessile_session *session, uint8_t *buffer, size_t capacity)
{
    struct image image;
    struct located located;
    enum sessile_status status;
    int64_t now = 0;
    image_begin(&image);
    for (;;) {
        size_t needed = 0;
        status = table_locate(table, call, reference, &located);
        if (status != SESSILE_OK)
            break;
        now = located.hold.now;
        if (shard_is_due(table, located.record, now)) {
            memcpy(session->digest, located.record->digest, 32);
            status = SESSILE_EXPIRED;
        } else {
            status = shard_copy(&located.hold, located.record, &image, &needed);
            if (status == SESSILE_OK) {
                touch(located.record, now, flags & SESSILE_TOUCH);
                copy_used(&image, located.record);
            }
        }
        shard_leave(&located.hold);
        if (status != SESSILE_BUFFER)
            break;
        if (!image_grow(&image, needed)) {
            status = SESSILE_NO_MEMORY;
            break;
        }
    }
    if (status == SESSILE_OK && !shard_verify(&image, image.record->digest))
        status = SESSILE_DAMAGED;
    if (status == SESSILE_DAMAGED)
        table_quarantine(table, call, image.record->digest);
    if (status == SESSILE_OK) {
        table_describe(table, &image, now, session);
        note_forwarding(&located, session);
        status = give(&image, session, buffer, capacity);
    }
    image_end(&image);
    return status;
}

/* ---- create ---- */

static size_t content_size(const struct sessile_content *content)
{
    return RECORD_HEADER + 32 + content->owner_length + content->device_length + 2 + (size_t)content->fields_length;
}

/* Inserts in the shard of the record; `stripe`: held by the caller for an owned one. */
static enum sessile_status insert(struct sessile *table, const struct sessile_call *call, struct record *record,
                                  const struct stripe_hold *stripe, int purpose, enum shard_answer *answer)
{
    struct hold hold;
    enum sessile_status status = shard_enter(table, shard_number(table, record->digest), call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    if (stripe && atomic_load(&stripe->stripe->epoch) != atomic_load(&hold.shard->epoch)) {
        shard_leave(&hold);
        *answer = SHARD_BUSY;    /* revoke_all came between: start over */
        return SESSILE_OK;
    }
    *answer = shard_insert(&hold, record, 1, true, purpose | (call->wait_ms == 0 ? ARENA_NO_WAIT : 0));
    if (*answer != SHARD_OK) {
        shard_leave(&hold);
        return *answer == SHARD_EXISTS ? SESSILE_EXISTS : SESSILE_OK;
    }
    hold.shard->created++;
    room_leave(&hold, call);
    return SESSILE_OK;
}

static enum sessile_status place(struct sessile *table, const struct sessile_call *call, struct record *record,
                                 const struct owner *owner, bool *exceeds)
{
    struct room room = {.size = RECORD_HEADER + record_payload_length(record->lengths)};
    *exceeds = false;
    for (;;) {
        struct stripe_hold stripe;
        enum arena_answer claimed = ARENA_OK;
        enum shard_answer answer = SHARD_OK;
        enum sessile_status status = SESSILE_OK;
        uint64_t prefix = record_prefix(record->digest);
        if (owner->text)
            status = owner_claim(table, owner, prefix, call, &stripe, &claimed);
        if (status != SESSILE_OK)
            return status;
        answer = shard_answer(claimed);
        if (claimed == ARENA_OK) {
            status = insert(table, call, record, owner->text ? &stripe : NULL, room.purpose, &answer);
            bool stored = status == SESSILE_OK && answer == SHARD_OK;
            if (owner->text && stored) {
                *exceeds = owner_exceeds(&stripe, owner, table->policy.sessions_per_owner);
                owner_leave(&stripe);
            } else if (owner->text)
                owner_unclaim(&stripe, owner, prefix);
            if (status != SESSILE_OK || stored)
                return status;
        }
        status = room_make(table, call, &room, answer, shard_number(table, record->digest),
                           owner->text ? ARENA_OWNED : ARENA_ANONYMOUS, owner->text ? owner : NULL, NULL);
        if (status != SESSILE_OK)
            return status;
    }
}

static void keep_cap(struct sessile *table, const struct sessile_call *call, const struct owner *owner,
                     const uint8_t except[32])
{
    uint32_t evicted;
    /* The session is stored: what is busy now is left to the next log-in. */
    enum sessile_status ignored = owner_evict(table, owner, table->policy.sessions_per_owner, except, call, &evicted);
    (void)ignored;
}

enum sessile_status sessile_create(struct sessile *table, const struct sessile_call *call,
                                   const char id[SESSILE_ID_LENGTH], const struct sessile_content *content,
                                   struct sessile_session *session)
{
    struct image image;
    struct owner owner = {.text = NULL};
    bool exceeds = false;
    if (!table_content_ok(table, content) || (content->owner && call->wait_ms == 0))
        return content->owner && call->wait_ms == 0 ? SESSILE_WOULD_BLOCK : SESSILE_INVALID;
    image_begin(&image);
    if (!image_grow(&image, content_size(content))) {
        image_end(&image);
        return SESSILE_NO_MEMORY;
    }
    struct record *record = image.record;
    int64_t now = arena_now(&table->arena);
    enum sessile_status status = table_new_digest(table, id, record->digest);
    if (status == SESSILE_OK) {
        shard_expect(table, record->digest);
        table_fill(table, record, content, now);
        record->handle = table_handle(table, record->digest, now);
        if (content->owner)
            owner = owner_named(table, content->owner, content->owner_length);
        status = place(table, call, record, &owner, &exceeds);
    }
    if (status == SESSILE_OK) {
        if (exceeds)
            keep_cap(table, call, &owner, record->digest);
        atomic_store_explicit(&record->commit, record_commit(1, 0), memory_order_relaxed);
        table_describe(table, &image, now, session);
        session->key_index = 0;
    }
    image_end(&image);
    return status;
}

/* ---- update ---- */

#define PREFIX_MAX (32u + SESSILE_OWNER_MAX + 2 + SESSILE_DEVICE_MAX)    /* of a payload, before the fields */

/* The new version: header, owner and device of the stored record, fields and timeouts of content. */
static bool make_update(const struct located *located, const struct sessile_content *content, unsigned flags,
                        struct image *image)
{
    const struct sessile *table = located->hold.table;
    const struct record *old = located->record;
    struct record *new = image->record;
    struct record_parts parts;
    memcpy((void *)new, (const void *)old, RECORD_HEADER);
    uint32_t length = record_payload_length(new->lengths);
    if (length > RECORD_PAYLOAD_MAX || !arena_within(&table->arena, located->slot, RECORD_HEADER + (uint64_t)length) ||
        !record_parts(new->terms, new->lengths, old->payload, &parts) || length - parts.fields_length > PREFIX_MAX)
        return false;
    /* What is kept gets a new checksum: the old one must hold. */
    if ((uint32_t)atomic_load(&old->commit) != record_checksum(old, new->lengths))
        return false;
    /* Once its own id was presented, the parent does not forward any more. */
    uint32_t skipped = parts.parent && record_is_proven(new) ? 32 : 0;
    uint32_t prefix = length - parts.fields_length - skipped;
    if (skipped)
        new->terms &= ~RECORD_HAS_PARENT;
    memcpy(new->payload, old->payload + skipped, prefix);
    if (content->fields_length)
        memcpy(new->payload + prefix, content->fields, content->fields_length);
    new->lengths = record_lengths(prefix + content->fields_length, parts.owner_length);
    bool owned = record_is_owned(new);
    if (content->idle_ms >= 0) {
        bool is_default = content->idle_ms == SESSILE_DEFAULT;
        int64_t ours = owned ? table->policy.owned_idle_ms : table->policy.anonymous_idle_ms;
        new->idle = idle_steps(is_default ? ours : content->idle_ms);
        new->terms = (new->terms & ~RECORD_DEFAULT_IDLE) | (is_default ? RECORD_DEFAULT_IDLE : 0);
    }
    if (content->absolute_ms >= 0) {
        bool is_default = content->absolute_ms == SESSILE_DEFAULT;
        int64_t ours = owned ? table->policy.owned_absolute_ms : table->policy.anonymous_absolute_ms;
        uint32_t since = new->authenticated_s > new->created_s ? new->authenticated_s : new->created_s;
        int64_t until = (int64_t)since * 1000 + 999 + (is_default ? ours : content->absolute_ms);
        new->terms = (new->terms & ~(RECORD_DEFAULT_ABSOLUTE | RECORD_TIME_MASK)) |
                     ((uint64_t)until & RECORD_TIME_MASK) | (is_default ? RECORD_DEFAULT_ABSOLUTE : 0);
    }
    if (flags & SESSILE_TOUCH)
        touch(new, located->hold.now, SESSILE_TOUCH);
    return true;
}

/* One try; the shard is released. */
static enum sessile_status update_once(struct located *located, const struct sessile_call *call, uint32_t version,
                                       unsigned flags, const struct sessile_content *content, int purpose,
                                       struct image *image, enum shard_answer *answer)
{
    struct hold *hold = &located->hold;
    enum sessile_status status = SESSILE_OK;
    *answer = SHARD_OK;
    if (shard_is_due(hold->table, located->record, hold->now))
        status = SESSILE_EXPIRED;
    else if (record_version(atomic_load(&located->record->commit)) != version)
        status = SESSILE_CHANGED;
    else if (!make_update(located, content, flags, image))
        status = SESSILE_DAMAGED;
    if (status == SESSILE_OK)
        *answer = shard_replace(hold, located->slot, image->record,
                                purpose | (call->wait_ms == 0 ? ARENA_NO_WAIT : 0));
    if (status == SESSILE_OK && *answer == SHARD_OK)
        room_leave(hold, call);
    else
        shard_leave(hold);
    return status;
}

enum sessile_status sessile_update(struct sessile *table, const struct sessile_call *call,
                                   const struct sessile_reference *reference, uint32_t version, unsigned flags,
                                   const struct sessile_content *content, struct sessile_session *session)
{
    struct image image;
    struct located located;
    struct room room = {.size = RECORD_HEADER + content->fields_length};
    enum sessile_status status;
    if (!table_content_ok(table, content))
        return SESSILE_INVALID;
    image_begin(&image);
    if (!image_grow(&image, RECORD_HEADER + PREFIX_MAX + content->fields_length)) {
        image_end(&image);
        return SESSILE_NO_MEMORY;
    }
    for (;;) {
        enum shard_answer answer;
        status = table_locate(table, call, reference, &located);
        if (status != SESSILE_OK)
            break;
        uint32_t number = located.hold.number;
        status = update_once(&located, call, version, flags, content, room.purpose, &image, &answer);
        if (status != SESSILE_OK || answer == SHARD_OK)
            break;
        status = room_make(table, call, &room, answer, number, reference->owner ? ARENA_OWNED : ARENA_ANONYMOUS, NULL,
                           reference->digest);
        if (status != SESSILE_OK)
            break;
    }
    if (status == SESSILE_DAMAGED)
        table_quarantine(table, call, image.record->digest);
    if (status == SESSILE_OK) {
        atomic_store_explicit(&image.record->commit, record_commit(version + 1, 0), memory_order_relaxed);
        table_describe(table, &image, located.hold.now, session);
        note_forwarding(&located, session);
    }
    image_end(&image);
    return status;
}

/* ---- the end ---- */

/* Ends a located session with a report. */
static void end_located(struct located *located, const struct sessile_call *call, enum sessile_reason reason)
{
    shard_report(&located->hold, call->sink, located->record, reason, true);
    shard_remove(&located->hold, located->slot);
    room_leave(&located->hold, call);
}

static enum sessile_status remove_located(struct sessile *table, const struct sessile_call *call,
                                          const struct sessile_reference *reference, const uint32_t *version,
                                          enum sessile_reason reason)
{
    struct located located;
    enum sessile_status status = table_locate(table, call, reference, &located);
    if (status != SESSILE_OK)
        return status;
    if (version && record_version(atomic_load(&located.record->commit)) != *version) {
        shard_leave(&located.hold);
        return SESSILE_CHANGED;
    }
    bool due = shard_is_due(table, located.record, located.hold.now);
    if (!due && reason == SESSILE_REVOKED)
        located.hold.shard->revoked++;
    if (due) {
        shard_leave(&located.hold);
        status = sessile_collect(table, call, reference->digest);
        return status == SESSILE_OK || status == SESSILE_MISS ? SESSILE_GONE : status;
    }
    end_located(&located, call, reason);
    return SESSILE_OK;
}

enum sessile_status sessile_remove(struct sessile *table, const struct sessile_call *call,
                                   const struct sessile_reference *reference, enum sessile_reason reason)
{
    return remove_located(table, call, reference, NULL, reason);
}

enum sessile_status sessile_remove_version(struct sessile *table, const struct sessile_call *call,
                                           const struct sessile_reference *reference, uint32_t version,
                                           enum sessile_reason reason)
{
    return remove_located(table, call, reference, &version, reason);
}

enum sessile_status sessile_collect(struct sessile *table, const struct sessile_call *call,
                                    const uint8_t digest[SESSILE_DIGEST_SIZE])
{
    struct located located = {.forwarded = false};
    enum sessile_status status = shard_enter(table, shard_number(table, digest), call->wait_ms, &located.hold);
    if (status != SESSILE_OK)
        return status;
    located.slot = shard_find(&located.hold, digest, &located.record);
    if (located.slot == 0 || record_kind(located.record->terms) != RECORD_SESSION ||
        !shard_is_due(table, located.record, located.hold.now)) {
        shard_leave(&located.hold);
        return SESSILE_MISS;
    }
    struct deadlines deadlines = shard_deadlines(table, located.record);
    located.hold.shard->expired++;
    end_located(&located, call, deadlines.absolute_ms <= deadlines.idle_ms ? SESSILE_ABSOLUTE : SESSILE_IDLE);
    return SESSILE_OK;
}
