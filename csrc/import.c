/* import.c - reads the records of an image into a fresh table. See sessile.h, "persistence".
 *
 * An image was authenticated by the caller; it is checked here all the same, record by record, before anything of it is
 * stored. Shards are computed anew, because the new table may have more or fewer of them.
 *
 * What is not stored: PENDING and dead RETIRED records; sessions that are past a deadline, were revoked after the image was
 * taken, or got another id while it was taken; what cannot be (created in the future, a lifetime above 400 days).
 * A session that got another id after the image was taken is stored under that one.
 *
 * Records go through in batches: first the references of a batch's owners (a superset of the truth, stored before it: O1),
 * then its records, with one hold for each run of them in a shard. Nobody else uses the table meanwhile; were somebody to,
 * no promise of the table would break.
 */
#include "packed.h"
#include "table.h"

#include <stdlib.h>

#define BATCH 64u
#define LIFETIME_MAX_MS (SESSILE_TIMEOUT_MAX_MS + 1000)

struct entry {                            /* a record of the batch that is to be stored */
    const uint8_t *packed;
    const struct sessile_rekey *rekey;    /* NULL: as it is */
};

struct import {
    struct sessile *table;
    const struct sessile_call *call;
    const struct sessile_rules *rules;
    struct sessile_import_counts *counts;
    struct image image;
    int64_t now;
    struct entry entries[BATCH];
    uint32_t count;
    struct hold hold;
    bool held;
};

/* ---- what the rules say ---- */

static size_t place_of_handle(const void *base, size_t count, size_t stride, size_t offset, uint64_t handle)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t found;
        memcpy(&found, (const uint8_t *)base + middle * stride + offset, sizeof found);
        if (found == handle)
            return middle;
        if (found < handle)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

/* The order in which the caller sorted them: of bytes, from the first. Neither is a secret of a client. */
static int order_of(const uint8_t a[32], const uint8_t b[32])
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t left, right;
        memcpy(&left, a + 8 * i, 8);
        memcpy(&right, b + 8 * i, 8);
        if (left != right)
            return __builtin_bswap64(left) < __builtin_bswap64(right) ? -1 : 1;
    }
    return 0;
}

static bool is_superseded(const struct sessile_rules *rules, const uint8_t digest[32])
{
    size_t low = 0, high = rules->superseded_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = order_of(rules->superseded[middle], digest);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Is `a` more rotations than `b`, modulo 8192? */
static bool is_more(uint32_t a, uint32_t b)
{
    uint32_t difference = (a - b) % RECORD_ROTATIONS;
    return difference != 0 && difference < RECORD_ROTATIONS / 2;
}

static const struct sessile_rekey *rekey_of(const struct sessile_rules *rules, uint64_t handle)
{
    size_t place = place_of_handle(rules->rekeys, rules->rekey_count, sizeof *rules->rekeys,
                                   offsetof(struct sessile_rekey, handle), handle);
    return place == SIZE_MAX ? NULL : &rules->rekeys[place];
}

/* Did the session of a record have more rotations than `rotations` by the end of the image? */
static bool is_older(const struct sessile_rules *rules, uint64_t handle, uint32_t rotations)
{
    size_t place = place_of_handle(rules->newer, rules->newer_count, sizeof *rules->newer,
                                   offsetof(struct sessile_note, handle), handle);
    return place != SIZE_MAX && is_more(rules->newer[place].rotations, rotations);
}

static bool is_revoked(const struct sessile_rules *rules, uint64_t handle)
{
    return place_of_handle(rules->revoked, rules->revoked_count, sizeof *rules->revoked, 0, handle) != SIZE_MAX;
}

static void note_seen(const struct sessile_rules *rules, uint64_t handle)
{
    size_t place = place_of_handle(rules->watched, rules->watched_count, sizeof *rules->watched, 0, handle);
    if (place != SIZE_MAX)
        rules->seen[place] = 1;
}

/* ---- what a record says ---- */

static bool is_possible(const struct import *import, const struct record *record)
{
    int64_t created = (int64_t)record->created_s * 1000, authenticated = (int64_t)record->authenticated_s * 1000;
    int64_t since = authenticated > created ? authenticated : created;
    return since <= import->now && (int64_t)record->issued_s * 1000 <= import->now &&
           record_absolute_ms(record->terms) - since <= LIFETIME_MAX_MS &&
           (int64_t)record->idle * RECORD_IDLE_STEP_MS <= SESSILE_TIMEOUT_MAX_MS;
}

/* Is a RETIRED record to be stored? Only one that forwards, and to the id that its session still has. */
static bool wants_retired(const struct import *import, const struct record *record)
{
    const struct sessile_rules *rules = import->rules;
    const struct sessile_rekey *rekey = rekey_of(rules, record->handle);
    uint32_t child = record_rotations(record->terms) + 1;
    return !shard_is_dead_retired(record) && is_possible(import, record) &&
           !shard_is_due(import->table, record, import->now) && !is_revoked(rules, record->handle) &&
           !is_older(rules, record->handle, child) && !(rekey && is_more(rekey->rotations, child));
}

/* Is a SESSION record to be stored, and under which id? Counts why not. */
static bool wants_session(struct import *import, const struct record *record, const struct sessile_rekey **rekey)
{
    const struct sessile_rules *rules = import->rules;
    uint32_t rotations = record_rotations(record->terms);
    bool revoked = is_revoked(rules, record->handle), due = shard_is_due(import->table, record, import->now);
    bool superseded = is_older(rules, record->handle, rotations) || is_superseded(rules, record->digest);
    bool possible = is_possible(import, record);
    note_seen(rules, record->handle);
    import->counts->revoked += revoked;
    import->counts->superseded += !revoked && superseded;
    import->counts->impossible += !revoked && !superseded && !possible;
    import->counts->expired += !revoked && !superseded && possible && due;
    *rekey = rekey_of(rules, record->handle);
    if (*rekey && !is_more((*rekey)->rotations, rotations))
        *rekey = NULL;
    return !revoked && !superseded && possible && !due;
}

/* The header of a packed record and as much of its payload as a RETIRED one has. */
struct header {
    _Alignas(8) uint8_t bytes[RECORD_HEADER + sizeof(struct retired)];
};

static const struct record *read_header(const uint8_t *packed, struct header *header)
{
    struct record *record = (struct record *)(void *)header->bytes;
    memset(header, 0, sizeof *header);
    memcpy((void *)record, packed, PACKED_COMMON);
    memcpy(&record->created_s, packed + PACKED_TIMES, 8);
    memcpy(&record->issued_s, packed + PACKED_ISSUED, 4);
    if (record_payload_length(record->lengths) >= sizeof(struct retired))
        memcpy(record->payload, packed + SESSILE_IMAGE_HEADER, sizeof(struct retired));
    return record;
}

/* Is what lies at `place` a whole, undamaged record that makes sense? */
static bool is_sound(const uint8_t *image, size_t place, size_t length)
{
    struct record_parts parts;
    if (length - place < SESSILE_IMAGE_HEADER)
        return false;
    const uint8_t *packed = image + place;
    uint32_t lengths = packed_word(packed, PACKED_LENGTHS), payload = record_payload_length(lengths);
    uint64_t commit, terms;
    memcpy(&commit, packed, sizeof commit);
    memcpy(&terms, packed + PACKED_TERMS, sizeof terms);
    enum record_kind kind = record_kind(terms);
    if (payload > RECORD_PAYLOAD_MAX || packed_size(lengths) > length - place || !record_is_live(commit) ||
        !packed_is_sound(packed) || kind < RECORD_SESSION || kind > RECORD_RETIRED)
        return false;
    if (!record_parts(terms, lengths, packed + SESSILE_IMAGE_HEADER, &parts))
        return false;
    if (kind == RECORD_RETIRED)
        return payload == sizeof(struct retired);
    bool owned = packed_word(packed, PACKED_TIMES + 4) != 0;
    return owned == (parts.owner_length != 0) && parts.device_length <= SESSILE_DEVICE_MAX &&
           parts.fields_length <= SESSILE_FIELDS_MAX;
}

/* ---- storing ---- */

static enum sessile_status reserve(struct sessile *table)
{
    return arena_reserve(&table->arena, true) == 0 ? SESSILE_OK : SESSILE_NO_MEMORY;
}

/* The owner of a session that is to be stored, and the first bytes of the digest that it will have. False: it has none. */
static bool owner_of(const struct sessile *table, const struct entry *entry, struct owner *owner, uint64_t *prefix)
{
    struct record_parts parts;
    uint64_t terms;
    memcpy(&terms, entry->packed + PACKED_TERMS, sizeof terms);
    if (record_kind(terms) != RECORD_SESSION ||
        !record_parts(terms, packed_word(entry->packed, PACKED_LENGTHS), entry->packed + SESSILE_IMAGE_HEADER, &parts) ||
        parts.owner_length == 0)
        return false;
    *owner = owner_named(table, parts.owner, parts.owner_length);
    *prefix = record_prefix(entry->rekey ? entry->rekey->digest : entry->packed + PACKED_DIGEST);
    return true;
}

static enum sessile_status refer(struct import *import, const struct entry *entry)
{
    struct sessile *table = import->table;
    struct stripe_hold stripe;
    struct owner owner;
    uint64_t prefix;
    enum sessile_status status = SESSILE_OK;
    enum arena_answer answer = ARENA_BUSY;
    if (!owner_of(table, entry, &owner, &prefix))
        return SESSILE_OK;
    while (status == SESSILE_OK && answer != ARENA_OK) {
        status = owner_enter(table, &owner, import->call, &stripe);
        if (status != SESSILE_OK)
            return status;
        answer = owner_add(&stripe, &owner, prefix);
        owner_leave(&stripe);
        if (answer == ARENA_NEED_PAGE)
            return SESSILE_FULL;
        if (answer == ARENA_NEED_RESERVE)
            status = reserve(table);
    }
    return status;
}

/* The session was in the table already: it is to have one reference, not two. */
static enum sessile_status unrefer(struct import *import, const struct entry *entry)
{
    struct stripe_hold stripe;
    struct owner owner;
    uint64_t prefix;
    if (!owner_of(import->table, entry, &owner, &prefix))
        return SESSILE_OK;
    enum sessile_status status = owner_enter(import->table, &owner, import->call, &stripe);
    if (status == SESSILE_OK)
        owner_unclaim(&stripe, &owner, prefix);
    return status;
}

static void let_go(struct import *import)
{
    if (import->held)
        shard_leave(&import->hold);
    import->held = false;
}

/* Holds the shard of a digest; its wheels start at the time as it is by now. */
static enum sessile_status take_hold(struct import *import, const uint8_t digest[32])
{
    uint32_t number = shard_number(import->table, digest);
    struct deferred deferred = {0};
    bool more;
    if (import->held && import->hold.number == number)
        return SESSILE_OK;
    let_go(import);
    enum sessile_status status = shard_enter(import->table, number, import->call->wait_ms, &import->hold);
    import->held = status == SESSILE_OK;
    if (import->held && import->hold.shard->entries == 0)
        shard_advance(&import->hold, 0, false, NULL, &deferred, &more);
    return status;
}

/* Stores the record in import->image. */
static enum sessile_status insert(struct import *import, uint64_t *counted)
{
    struct record *record = import->image.record;
    bool limits = record_kind(record->terms) == RECORD_SESSION;
    int purpose = ARENA_UPDATE;
    for (;;) {
        enum sessile_status status = take_hold(import, record->digest);
        if (status != SESSILE_OK)
            return status;
        enum shard_answer answer = shard_insert(&import->hold, record, 1, limits, purpose);
        if (answer == SHARD_OK || answer == SHARD_EXISTS) {
            *(answer == SHARD_OK ? counted : &import->counts->known) += 1;
            return SESSILE_OK;
        }
        let_go(import);
        if (answer == SHARD_RESERVE)
            status = reserve(import->table);
        else if (answer == SHARD_PAGE && !(purpose & ARENA_ANY_CLASS))
            purpose |= ARENA_ANY_CLASS;
        else if (answer != SHARD_BUSY)
            status = SESSILE_FULL;
        if (status != SESSILE_OK)
            return status;
    }
}

/* Gives the record in import->image the id of a later rotation. The image has room for a parent. */
static void give_new_id(struct record *record, const struct sessile_rekey *rekey)
{
    bool renewed = rekey->how == SESSILE_RENEW, had_parent = (record->terms & RECORD_HAS_PARENT) != 0;
    uint32_t length = record_payload_length(record->lengths);
    if (had_parent && !renewed) {
        length -= 32;
        memmove(record->payload, record->payload + 32, length);
    } else if (renewed && !had_parent) {
        memmove(record->payload + 32, record->payload, length);
        length += 32;
    }
    if (renewed)
        memcpy(record->payload, rekey->parent, 32);
    uint64_t flags = (record->terms & (RECORD_DEFAULT_IDLE | RECORD_DEFAULT_ABSOLUTE | RECORD_HAS_DEVICE)) |
                     (renewed ? RECORD_HAS_PARENT : 0);
    record->terms = record_terms(record_absolute_ms(record->terms), RECORD_SESSION, flags, rekey->rotations);
    uint32_t rotates = record_rotates(atomic_load_explicit(&record->used, memory_order_relaxed)) + (renewed ? 0 : 1);
    record->lengths = record_lengths(length, record_owner_length(record->lengths));
    record->issued_s = (uint32_t)(rekey->at_ms / 1000);
    memcpy(record->digest, rekey->digest, 32);
    atomic_store_explicit(&record->used, record_used(record_used_ms(record), rotates), memory_order_relaxed);
}

/* Of the session in import->image, which it leaves as the record of the id that forwards to it. */
static void make_forwarding(struct record *record, const struct sessile_rekey *rekey)
{
    struct retired retired = {.drain_until_ms = 0};
    memcpy(retired.child, rekey->digest, 32);
    memcpy(retired.nonce, rekey->nonce, 32);
    memcpy(record->digest, rekey->parent, 32);
    record->terms = record_terms(record_absolute_ms(record->terms), RECORD_RETIRED,
                                 record->terms & (RECORD_DEFAULT_IDLE | RECORD_DEFAULT_ABSOLUTE), rekey->rotations - 1);
    record->lengths = record_lengths(sizeof retired, 0);
    atomic_store_explicit(&record->used, (uint64_t)record_used_ms(record) | RECORD_PROVEN, memory_order_relaxed);
    memcpy(record->payload, &retired, sizeof retired);
}

static enum sessile_status store(struct import *import, const struct entry *entry)
{
    uint32_t lengths = packed_word(entry->packed, PACKED_LENGTHS);
    if (!image_grow(&import->image, RECORD_HEADER + 32 + sizeof(struct retired) + record_payload_length(lengths)))
        return SESSILE_NO_MEMORY;
    struct record *record = import->image.record;
    packed_read(entry->packed, record);
    /* Never younger than now: an idle deadline may come early, not late. */
    uint64_t used = atomic_load_explicit(&record->used, memory_order_relaxed);
    if (record_used_ms(record) > import->now)
        atomic_store_explicit(&record->used, (uint64_t)import->now | (used & ~RECORD_TIME_MASK), memory_order_relaxed);
    if (entry->rekey)
        give_new_id(record, entry->rekey);
    bool session = record_kind(record->terms) == RECORD_SESSION;
    uint64_t known = import->counts->known;
    enum sessile_status status = insert(import, session ? &import->counts->imported : &import->counts->forwarding);
    if (status == SESSILE_OK && import->counts->known != known) {
        let_go(import);
        return unrefer(import, entry);
    }
    if (status == SESSILE_OK && entry->rekey && entry->rekey->how == SESSILE_RENEW && record_is_owned(record)) {
        make_forwarding(record, entry->rekey);
        status = insert(import, &import->counts->forwarding);
    }
    return status;
}

static enum sessile_status store_batch(struct import *import)
{
    enum sessile_status status = SESSILE_OK;
    let_go(import);    /* a stripe's lock comes before a shard's */
    for (uint32_t i = 0; status == SESSILE_OK && i < import->count; i++)
        status = refer(import, &import->entries[i]);
    for (uint32_t i = 0; status == SESSILE_OK && i < import->count; i++)
        status = store(import, &import->entries[i]);
    let_go(import);
    import->count = 0;
    return status;
}

static void consider(struct import *import, const uint8_t *packed)
{
    struct header header;
    struct entry entry = {.packed = packed};
    const struct record *record = read_header(packed, &header);
    enum record_kind kind = record_kind(record->terms);
    if (kind == RECORD_SESSION ? wants_session(import, record, &entry.rekey)
                               : kind == RECORD_RETIRED && wants_retired(import, record))
        import->entries[import->count++] = entry;
}

enum sessile_status sessile_import(struct sessile *table, const struct sessile_call *call, const uint8_t *image,
                                   size_t length, const struct sessile_rules *rules, struct sessile_import_counts *counts)
{
    struct import import = {.table = table, .call = call, .rules = rules, .counts = counts,
                            .now = arena_now(&table->arena)};
    enum sessile_status status = SESSILE_OK;
    size_t place = 0;
    if (call->wait_ms == 0)
        return SESSILE_INVALID;
    for (; place < length; place += packed_size(packed_word(image + place, PACKED_LENGTHS)))
        if (!is_sound(image, place, length))
            return SESSILE_DAMAGED;
    image_begin(&import.image);
    for (place = 0; status == SESSILE_OK && place < length;) {
        consider(&import, image + place);
        place += packed_size(packed_word(image + place, PACKED_LENGTHS));
        if (import.count == BATCH || place == length)
            status = store_batch(&import);
    }
    image_end(&import.image);
    return status;
}
