/* export.c - copies records into an image while the table works. See sessile.h, "persistence".
 *
 * A shard is copied slot by slot, some slots a hold, in passes. A record that moves (an update takes another slot) from a
 * slot that the pass has not reached to one that it has passed would be missed; but each such write counts the shard's
 * `lsn` up, and stamps the record. So:
 *
 *   the first pass copies everything; each further one only what was written after the one before began;
 *   a pass at whose end `lsn` is what it was at its beginning missed nothing, and is the last;
 *   after PASSES of them the shard is held once for a whole pass, in which almost nothing is left to copy.
 *
 * E1  Every session that was LIVE when the copy of its shard began, and still is at its end under the same id, is in the
 *     image at least once. A later copy has a later version.
 * E2  A session whose id changed after the marks were taken was copied before, or left a RETIRED record that is newer than
 *     the mark of its shard: each such record's child is noted, and copied by digest when all shards are done. So is the
 *     parent of each session that got its id since: it may forward.
 * E3  All records of one call were copied at one epoch of the shard.
 *
 * A PENDING record is not copied but noted: whoever copies it by digest settles it first.
 */
#include "packed.h"
#include "table.h"

#define BATCH 64u                         /* slots looked at in one hold */
#define PASSES 8u
#define PASSES_MOST 64u

struct copy {
    struct sessile_export *export;
    struct hold hold;
    uint8_t *buffer;
    size_t capacity;
    struct sessile_note *notes;
    uint32_t notes_capacity;
};

static bool is_after(uint32_t lsn, uint32_t mark)
{
    return (int32_t)(lsn - mark) > 0;
}

static bool add_note(struct copy *copy, struct sessile_note note)
{
    if (copy->export->notes == copy->notes_capacity)
        return false;
    copy->notes[copy->export->notes++] = note;
    return true;
}

static struct sessile_note child_note(const uint8_t digest[32])
{
    struct sessile_note note = {.kind = SESSILE_NOTE_CHILD};
    memcpy(note.digest, digest, 32);
    return note;
}

static struct sessile_note newer_note(const struct record *record, uint64_t terms)
{
    struct sessile_note note = {.kind = SESSILE_NOTE_NEWER, .handle = record->handle, .rotations = record_rotations(terms)};
    if (terms & RECORD_HAS_PARENT && record_payload_length(record_read_lengths(record)) >= 32)
        memcpy(note.digest, record->payload, 32);
    return note;
}

/* Room for one more record and one more note? */
static bool append(uint8_t *buffer, size_t capacity, size_t *length, const struct record *record, uint32_t slot_size)
{
    uint32_t lengths = record_read_lengths(record);
    size_t size = packed_size(lengths);
    if (record_payload_length(lengths) > slot_size - RECORD_HEADER || record_payload_length(lengths) > RECORD_PAYLOAD_MAX)
        return true;    /* damaged: left out */
    if (size > capacity - *length)
        return false;
    packed_write(buffer + *length, record, lengths);
    *length += size;
    return true;
}

/* One LIVE record. False: there is no room for it. */
static bool copy_record(struct copy *copy, const struct record *record, uint32_t slot_size)
{
    struct sessile_export *export = copy->export;
    uint64_t terms = record_read_terms(record);
    enum record_kind kind = record_kind(terms);
    bool newer = is_after(record->lsn, export->mark);
    struct retired retired;
    size_t before = export->length;
    uint32_t notes = export->notes;
    if (kind == RECORD_PENDING)
        return add_note(copy, child_note(record->digest));
    if (kind == RECORD_RETIRED) {
        memcpy(&retired, record->payload, sizeof retired);
        if (newer && !add_note(copy, child_note(retired.child)))
            return false;
        if (!newer && !succession_forwards(&retired, copy->hold.now))
            return true;
    } else if (shard_is_due(copy->hold.table, record, copy->hold.now)) {
        return true;
    } else if ((int64_t)record->issued_s * 1000 + 999 >= export->since_ms &&
               (record_rotations(terms) != 0 || terms & RECORD_HAS_PARENT)) {
        if (!add_note(copy, newer_note(record, terms)))
            return false;
    }
    if (!append(copy->buffer, copy->capacity, &export->length, record, slot_size)) {
        export->notes = notes;
        return false;
    }
    export->records += export->length != before;
    return true;
}

/* Slots of one page from export->slot on, at most *budget. False: the buffers are full. */
static bool copy_page(struct copy *copy, const struct arena_page *page, uint32_t *budget)
{
    struct sessile_export *export = copy->export;
    const struct arena *arena = &copy->hold.table->arena;
    while (export->slot < page->slots && *budget > 0) {
        const struct record *record = arena_record(arena, arena_slot_of(arena, page->unit, export->slot, page->size));
        bool wanted = record && record_is_live(atomic_load_explicit(&record->commit, memory_order_acquire)) &&
                      (export->pass == 0 || is_after(record->lsn, export->since));
        if (wanted && !copy_record(copy, record, page->size))
            return false;
        export->slot++;
        --*budget;
    }
    return true;
}

enum step { STEP_ON, STEP_FULL, STEP_DONE };

/* The part of a pass that one hold does. */
static enum step copy_some(struct copy *copy)
{
    struct sessile_export *export = copy->export;
    const struct arena *arena = &copy->hold.table->arena;
    bool begins = export->unit == 0 && export->slot == 0;
    uint32_t budget = begins && export->pass >= PASSES ? UINT32_MAX : BATCH, unit = export->unit;
    struct arena_page page;
    if (begins)
        export->started = copy->hold.shard->lsn;
    while (arena_next_page(arena, export->shard, &unit, &page)) {
        /* The page of the last hold may have been lent anew since: what is in it then is newer than this pass. */
        if (page.unit != export->unit || page.size != export->slot_size)
            export->slot = 0;
        export->unit = page.unit;
        export->slot_size = page.size;
        if (!copy_page(copy, &page, &budget))
            return STEP_FULL;
        if (export->slot < page.slots)
            return STEP_ON;
        export->unit = unit;
        export->slot = 0;
    }
    export->unit = export->slot = 0;
    if (copy->hold.shard->lsn == export->started)
        return STEP_DONE;
    export->since = export->started;
    export->pass++;
    return STEP_ON;
}

/* Takes damaged records out of what was copied: they must not make the whole image unreadable. */
static void drop_damaged(uint8_t *buffer, size_t from, size_t *length, uint32_t *records)
{
    size_t to = from;
    while (from < *length) {
        size_t size = packed_size(packed_word(buffer + from, PACKED_LENGTHS));
        if (packed_is_sound(buffer + from)) {
            if (to != from)
                memmove(buffer + to, buffer + from, size);
            to += size;
        } else {
            --*records;
        }
        from += size;
    }
    *length = to;
}

enum sessile_status sessile_export_marks(struct sessile *table, const struct sessile_call *call, uint32_t *marks)
{
    for (uint32_t number = 0; number < table->arena.geometry.shards; number++) {
        struct hold hold;
        enum sessile_status status = shard_enter(table, number, call->wait_ms, &hold);
        if (status != SESSILE_OK)
            return status;
        marks[number] = hold.shard->lsn;
        shard_leave(&hold);
    }
    return SESSILE_OK;
}

enum sessile_status sessile_export(struct sessile *table, const struct sessile_call *call, struct sessile_export *export,
                                   uint8_t *buffer, size_t capacity, struct sessile_note *notes, uint32_t notes_capacity)
{
    struct copy copy = {.export = export, .buffer = buffer, .capacity = capacity, .notes = notes,
                        .notes_capacity = notes_capacity};
    export->records = export->notes = 0;
    export->length = 0;
    if (export->shard >= table->arena.geometry.shards || capacity < SESSILE_IMAGE_RECORD_MAX || notes_capacity == 0)
        return SESSILE_INVALID;
    for (;;) {
        bool empty = export->length == 0 && export->notes == 0;
        enum sessile_status status = export->pass > PASSES_MOST ? SESSILE_BUSY
                                                                : shard_enter(table, export->shard, call->wait_ms, &copy.hold);
        if (status != SESSILE_OK)
            return empty ? status : SESSILE_OK;
        uint32_t epoch = atomic_load(&copy.hold.shard->epoch);
        if (!empty && epoch != export->epoch) {
            shard_leave(&copy.hold);
            return SESSILE_OK;    /* E3 */
        }
        export->epoch = epoch;
        size_t from = export->length;
        enum step step = copy_some(&copy);
        shard_leave(&copy.hold);
        drop_damaged(buffer, from, &export->length, &export->records);
        export->done = step == STEP_DONE;
        if (step != STEP_ON)
            return SESSILE_OK;
    }
}

struct chase {                            /* of a session through its rotations */
    struct sessile *table;
    const struct sessile_call *call;
    uint8_t digest[32];
    uint8_t *buffer;
    size_t capacity, *length;
    uint32_t *records, epoch;
    struct sessile_note *note;
};

/* Copies what has this digest. OK: a SESSION, or nothing; CHANGED: go on with the next digest; else a status. */
static enum sessile_status copy_digest(struct chase *chase)
{
    struct hold hold;
    struct record *record;
    struct arena_place place;
    struct retired retired;
    enum sessile_status status = succession_settle(chase->table, chase->digest, chase->call->wait_ms);
    if (status == SESSILE_GONE || status == SESSILE_CHANGED)
        return SESSILE_OK;    /* CHANGED: its rotation is under way, and the parent valid */
    if (status == SESSILE_OK)
        status = shard_enter(chase->table, shard_number(chase->table, chase->digest), chase->call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    uint32_t slot = shard_find(&hold, chase->digest, &record);
    bool copies = slot != 0 && arena_place(&chase->table->arena, hold.number, slot, &place);
    if (copies && record_kind(record->terms) == RECORD_RETIRED) {
        memcpy(&retired, record->payload, sizeof retired);
        memcpy(chase->digest, retired.child, 32);
        copies = succession_forwards(&retired, hold.now);
        status = SESSILE_CHANGED;
    } else if (copies) {
        copies = !shard_is_due(chase->table, record, hold.now);
        *chase->note = newer_note(record, record_read_terms(record));
    }
    size_t before = *chase->length;
    if (copies && !append(chase->buffer, chase->capacity, chase->length, record, place.size))
        status = SESSILE_BUFFER;
    *chase->records += *chase->length != before;
    chase->epoch = atomic_load(&hold.shard->epoch);
    shard_leave(&hold);
    drop_damaged(chase->buffer, before, chase->length, chase->records);
    return status;
}

enum sessile_status sessile_export_digest(struct sessile *table, const struct sessile_call *call,
                                          const uint8_t digest[SESSILE_DIGEST_SIZE], uint8_t *buffer, size_t capacity,
                                          size_t *length, uint32_t *records, uint32_t *epoch, struct sessile_note *note)
{
    struct chase chase = {.table = table, .call = call, .buffer = buffer, .capacity = capacity, .length = length,
                          .records = records, .note = note};
    memcpy(chase.digest, digest, sizeof chase.digest);
    *length = 0;
    *records = *epoch = 0;
    *note = (struct sessile_note){.kind = 0};
    for (unsigned hop = 0; hop < TABLE_HOPS; hop++) {
        uint32_t before = *records;
        enum sessile_status status = copy_digest(&chase);
        if (before == 0)
            *epoch = chase.epoch;
        if (status == SESSILE_CHANGED)
            continue;
        /* revoke_all came between two of them: all of it is over. */
        if (status == SESSILE_OK && *records > 0 && *epoch != chase.epoch)
            *length = *records = 0;
        return status;
    }
    return SESSILE_OK;
}
