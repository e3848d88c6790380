/* test_persist.c - export.c, import.c, persist.c: images of a table that works, and tables made from images. */
#define _GNU_SOURCE

#include "packed.h"
#include "tables.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAPACITY 4096u
#define MEMORY (8u << 20)

struct image_file {
    uint8_t *bytes;
    size_t length, room;
    struct sessile_note *notes;
    size_t note_count, note_room;
    uint32_t records;
};

static void add_records(struct image_file *file, const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return;
    if (file->length + length > file->room) {
        file->room = (file->length + length) * 2;
        file->bytes = realloc(file->bytes, file->room);
    }
    memcpy(file->bytes + file->length, bytes, length);
    file->length += length;
}

static void add_notes(struct image_file *file, const struct sessile_note *notes, size_t count)
{
    if (count == 0)
        return;
    file->note_room = (file->note_count + count + 1) * 2;
    file->notes = realloc(file->notes, file->note_room * sizeof *notes);
    memcpy(file->notes + file->note_count, notes, count * sizeof *notes);
    file->note_count += count;
}

static void free_image(struct image_file *file)
{
    free(file->bytes);
    free(file->notes);
    *file = (struct image_file){0};
}

/* Told before each shard, to change the table meanwhile. */
typedef void (*meanwhile)(void *context, uint32_t shard);

static void take(struct sessile *table, struct image_file *file, meanwhile before, void *context)
{
    static uint8_t buffer[SESSILE_IMAGE_RECORD_MAX];
    uint32_t shards = sessile_facts(table).shards, *marks = malloc(shards * sizeof *marks);
    struct sessile_note notes[16];
    CHECK(sessile_export_marks(table, &waits, marks) == SESSILE_OK);
    int64_t since = sessile_now(table);
    for (uint32_t shard = 0; shard < shards; shard++) {
        struct sessile_export export = {.shard = shard, .mark = marks[shard], .since_ms = since};
        if (before)
            before(context, shard);
        while (!export.done) {
            CHECK(sessile_export(table, &waits, &export, buffer, sizeof buffer, notes, 16) == SESSILE_OK);
            add_records(file, buffer, export.length);
            add_notes(file, notes, export.notes);
            file->records += export.records;
        }
    }
    for (size_t i = 0, noted = file->note_count; i < noted; i++) {
        size_t length;
        uint32_t records, epoch;
        struct sessile_note note;
        CHECK(sessile_export_digest(table, &waits, file->notes[i].digest, buffer, sizeof buffer, &length, &records, &epoch,
                                    &note) == SESSILE_OK);
        if (note.kind != 0)
            add_notes(file, &note, 1);
        add_records(file, buffer, length);
        file->records += records;
    }
    free(marks);
}

static const struct sessile_rules no_rules;

static struct sessile_import_counts give(struct sessile *table, const struct image_file *file,
                                         const struct sessile_rules *rules)
{
    struct sessile_import_counts counts = {0};
    CHECK(sessile_import(table, &waits, file->bytes, file->length, rules, &counts) == SESSILE_OK);
    return counts;
}

static struct sessile *fresh(const struct sessile *from)
{
    struct sessile *table = open_table(CAPACITY * 16, 4 * MEMORY, 1.0);
    int64_t now = sessile_now(from);
    sessile_restore_clock(table, now);
    CHECK(sessile_now(table) >= now);
    return table;
}

static int by_handle(const void *a, const void *b)
{
    const struct sessile_note *one = a, *other = b;
    return one->handle < other->handle ? -1 : one->handle > other->handle;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

/* The rules that the notes of an image make. */
struct noted {
    struct sessile_note newer[64];
    uint8_t superseded[64][32];
    struct sessile_rules rules;
};

static void note_rules(const struct image_file *file, struct noted *noted)
{
    size_t newer = 0;
    for (size_t i = 0; i < file->note_count; i++)
        if (file->notes[i].kind == SESSILE_NOTE_NEWER && newer < 64) {
            memcpy(noted->superseded[newer], file->notes[i].digest, 32);
            noted->newer[newer++] = file->notes[i];
        }
    qsort(noted->newer, newer, sizeof noted->newer[0], by_handle);
    qsort(noted->superseded, newer, 32, by_digest);
    noted->rules = (struct sessile_rules){.newer = noted->newer, .newer_count = newer,
                                          .superseded = (const uint8_t (*)[32])noted->superseded,
                                          .superseded_count = newer};
}

static void everything_comes_back_in_a_table_of_another_size(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session stored[300], found;
    struct image_file file = {0};
    char owner[16];
    for (uint64_t i = 0; i < 300; i++) {
        snprintf(owner, sizeof owner, "owner %u", (unsigned)(i % 40));
        CHECK(create(table, i, i % 3 ? owner : NULL, (size_t)i * 7, &stored[i]) == SESSILE_OK);
        CHECK(load(table, i, i % 2 ? SESSILE_PRESENT | SESSILE_TOUCH : 0, &stored[i]) == SESSILE_OK);
    }
    take(table, &file, NULL, NULL);
    CHECK(file.records == 300 && file.note_count == 0);
    other = fresh(table);
    CHECK(sessile_facts(other).shards != sessile_facts(table).shards);
    struct sessile_import_counts counts = give(other, &file, &no_rules);
    CHECK(counts.imported == 300 && counts.known == 0 && counts.expired == 0 && counts.impossible == 0);
    for (uint64_t i = 0; i < 300; i++) {
        CHECK(load(other, i, 0, &found) == SESSILE_OK);
        CHECK(found.handle == stored[i].handle && found.created_ms == stored[i].created_ms &&
              found.authenticated_ms == stored[i].authenticated_ms && found.last_used_ms == stored[i].last_used_ms &&
              found.absolute_deadline_ms == stored[i].absolute_deadline_ms && found.idle_ms == stored[i].idle_ms &&
              found.fields_length == i * 7 && found.flags == (stored[i].flags & ~(uint32_t)SESSILE_FIRST));
    }
    CHECK_CLEAN(other);
    /* O1: the owner's sessions can be revoked. Of numbers 7, 47, … 287 two are anonymous. */
    uint64_t count;
    CHECK(sessile_owner_revoke(other, &waits, (const uint8_t *)"owner 7", 7, 0, 0, &count) == SESSILE_OK && count == 6);
    /* Once more: what is there is not stored twice. */
    counts = give(other, &file, &no_rules);
    CHECK(counts.known == 294 && counts.imported == 6);
    CHECK_CLEAN(other);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

static void deadlines_go_on_and_the_past_is_dropped(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other = open_table(CAPACITY, MEMORY, 1.0);
    struct sessile_session stored, found;
    struct image_file file = {0};
    CHECK(create(table, 1, NULL, 10, &stored) == SESSILE_OK);
    sessile_advance(table, MINUTES(20));
    CHECK(create(table, 2, "eva", 10, &stored) == SESSILE_OK);
    take(table, &file, NULL, NULL);
    sessile_restore_clock(other, sessile_now(table) + MINUTES(15));
    struct sessile_import_counts counts = give(other, &file, &no_rules);
    CHECK(counts.imported == 1 && counts.expired == 1);
    CHECK(load(other, 1, 0, &found) == SESSILE_MISS);
    CHECK(load(other, 2, 0, &found) == SESSILE_OK && found.idle_deadline_ms == stored.idle_deadline_ms);
    sessile_advance(other, MINUTES(15));
    CHECK(load(other, 2, 0, &found) == SESSILE_EXPIRED);
    /* Never back. */
    int64_t now = sessile_now(other);
    sessile_restore_clock(other, now - 1000);
    CHECK(sessile_now(other) >= now);
    CHECK_CLEAN(other);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

static void what_cannot_be_is_dropped(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other = open_table(CAPACITY, MEMORY, 1.0);
    struct sessile_session stored;
    struct image_file file = {0};
    sessile_advance(table, MINUTES(10));
    CHECK(create(table, 1, NULL, 10, &stored) == SESSILE_OK);    /* ten minutes ahead of the other table */
    take(table, &file, NULL, NULL);
    struct sessile_import_counts counts = give(other, &file, &no_rules);
    CHECK(counts.imported == 0 && counts.impossible == 1);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

static void revoked_handles_stay_out(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session stored[4], found;
    struct image_file file = {0};
    for (uint64_t i = 0; i < 4; i++)
        CHECK(create(table, i, "eva", 10, &stored[i]) == SESSILE_OK);
    take(table, &file, NULL, NULL);
    uint64_t revoked[2] = {stored[1].handle, stored[3].handle}, watched[1] = {stored[0].handle};
    uint8_t seen[1] = {0};
    if (revoked[0] > revoked[1]) {
        revoked[0] = stored[3].handle;
        revoked[1] = stored[1].handle;
    }
    struct sessile_rules rules = {.revoked = revoked, .revoked_count = 2, .watched = watched, .seen = seen,
                                  .watched_count = 1};
    other = fresh(table);
    struct sessile_import_counts counts = give(other, &file, &rules);
    CHECK(counts.imported == 2 && counts.revoked == 2 && seen[0] == 1);
    for (uint64_t i = 0; i < 4; i++)
        CHECK((load(other, i, 0, &found) == SESSILE_OK) == (i % 2 == 0));
    CHECK_CLEAN(other);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

/* ---- new ids while the image is taken ---- */

struct mover {
    struct sessile *table;
    struct sessile_session session;
    enum sessile_rotation how;
    uint64_t next;
    uint32_t at;
    unsigned times;
};

static void rotate_at(void *context, uint32_t shard)
{
    struct mover *mover = context;
    for (unsigned i = 0; shard == mover->at && i < mover->times; i++) {
        CHECK(load(mover->table, mover->next - 1, SESSILE_PRESENT, &mover->session) == SESSILE_OK);
        CHECK(rotate(mover->table, &mover->session, "eva", mover->how, mover->next, &mover->session) == SESSILE_OK);
        mover->next++;
    }
}

/* For every way to rotate, before each shard: the session is in the new table once, under one of its ids. */
static void a_session_rotated_meanwhile_comes_back_once(void)
{
    for (int how = SESSILE_RENEW; how <= SESSILE_LOGIN; how++)
        for (uint32_t at = 0; at <= 8; at++)
            for (uint64_t first = 0; first < 24; first++) {
                struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
                struct mover mover = {.table = table, .how = (enum sessile_rotation)how, .next = first * 100 + 1, .at = at,
                                      .times = how == SESSILE_LOGIN ? 1 : first % 3 + 1};
                struct image_file file = {0};
                struct sessile_session found;
                struct noted noted;
                CHECK(sessile_facts(table).shards == 8);
                CHECK(create(table, mover.next - 1, "eva", 6, &mover.session) == SESSILE_OK);
                take(table, &file, rotate_at, &mover);
                note_rules(&file, &noted);
                other = fresh(table);
                struct sessile_import_counts counts = give(other, &file, &noted.rules);
                uint64_t last = mover.next - 1;
                CHECK(counts.imported == 1);
                unsigned alive = 0;
                for (uint64_t id = first * 100; id <= last; id++)
                    alive += load(other, id, 0, &found) == SESSILE_OK && !(found.flags & SESSILE_FORWARDED);
                CHECK(alive == 1);
                /* Rotated before its shard was copied: only the last id is good. */
                if (at == 0)
                    CHECK(load(other, last, 0, &found) == SESSILE_OK && found.handle == mover.session.handle);
                uint64_t count;
                size_t length;
                uint8_t list[4096];
                CHECK(sessile_owner_list(other, &waits, (const uint8_t *)"eva", 3, list, sizeof list, &count, &length) ==
                          SESSILE_OK && count == 1);
                if (how == SESSILE_RENEW && load(other, last, 0, &found) == SESSILE_OK && at < 8)
                    CHECK(load(other, last - 1, 0, &found) == SESSILE_OK && found.flags & SESSILE_FORWARDED);
                CHECK_CLEAN(other);
                free_image(&file);
                sessile_close(other);
                sessile_close(table);
            }
}

static void a_renewal_after_the_image_is_replayed(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session stored, found;
    struct image_file file = {0};
    CHECK(create(table, 1, "eva", 10, &stored) == SESSILE_OK);
    take(table, &file, NULL, NULL);
    for (int how = SESSILE_RENEW; how <= SESSILE_ROTATE; how++) {
        struct sessile_rekey rekey = {.handle = stored.handle, .rotations = 1, .how = (uint32_t)how,
                                      .at_ms = sessile_now(table), .nonce = {9}};
        digest_of(table, 1, rekey.parent);
        digest_of(table, 2, rekey.digest);
        struct sessile_rules rules = {.rekeys = &rekey, .rekey_count = 1};
        other = fresh(table);
        CHECK(give(other, &file, &rules).imported == 1);
        CHECK(load(other, 2, 0, &found) == SESSILE_OK && found.handle == stored.handle && found.rotations == 1);
        CHECK(found.fields_length == 10 && !(found.flags & SESSILE_PROVEN));
        if (how == SESSILE_RENEW) {
            /* LIF-08: until the new id is presented the old one forwards, as if there had been no restart. */
            CHECK(load(other, 1, SESSILE_PRESENT, &found) == SESSILE_OK && found.flags & SESSILE_FORWARDED);
            CHECK(load(other, 2, SESSILE_PRESENT, &found) == SESSILE_OK && found.flags & SESSILE_FIRST);
            sessile_advance(other, SHARD_DRAIN_MS + 1);
            CHECK(load(other, 1, SESSILE_PRESENT, &found) != SESSILE_OK);
        } else {
            CHECK(load(other, 1, 0, &found) == SESSILE_MISS);
        }
        CHECK_CLEAN(other);
        sessile_close(other);
    }
    free_image(&file);
    sessile_close(table);
}

/* ---- damage ---- */

static void every_bit_and_every_byte_less_is_noticed(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session stored;
    struct image_file file = {0};
    struct sessile_import_counts counts = {0};
    CHECK(create(table, 1, "eva", 40, &stored) == SESSILE_OK);
    take(table, &file, NULL, NULL);
    other = fresh(table);
    for (size_t length = 1; length < file.length; length++) {
        uint8_t *exact = malloc(length);    /* so that a sanitizer sees a read beyond */
        memcpy(exact, file.bytes, length);
        CHECK(sessile_import(other, &waits, exact, length, &no_rules, &counts) == SESSILE_DAMAGED);
        free(exact);
    }
    for (size_t bit = 0; bit < file.length * 8; bit++) {
        /* Version and `used` are not under the record's checksum, but under that of the file. */
        size_t byte = bit / 8;
        bool covered = !(byte >= 4 && byte < 8) && !(byte >= 40 && byte < 48);
        file.bytes[byte] ^= (uint8_t)(1u << bit % 8);
        if (covered)
            CHECK(sessile_import(other, &waits, file.bytes, file.length, &no_rules, &counts) == SESSILE_DAMAGED);
        file.bytes[byte] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(counts.imported == 0);
    CHECK(give(other, &file, &no_rules).imported == 1);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

static void a_damaged_record_is_left_out(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0);
    struct sessile_session stored;
    struct image_file file = {0};
    for (uint64_t i = 0; i < 50; i++)
        CHECK(create(table, i, NULL, 40, &stored) == SESSILE_OK);
    uint8_t digest[32];
    struct hold hold;
    struct record *record;
    CHECK(shard_enter(table, shard_number(table, digest_of(table, 25, digest)), 1000, &hold) == SESSILE_OK);
    CHECK(shard_find(&hold, digest, &record) != 0);
    record->payload[3] ^= 1;
    shard_leave(&hold);
    take(table, &file, NULL, NULL);
    CHECK(file.records == 49);
    struct sessile *other = fresh(table);
    CHECK(give(other, &file, &no_rules).imported == 49);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

/* ---- epochs ---- */

static void a_revocation_of_all_meanwhile_shows(void)
{
    static uint8_t buffer[SESSILE_IMAGE_RECORD_MAX];
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0);
    struct sessile_session stored;
    struct sessile_export export = {.shard = 0};
    struct sessile_note notes[1];
    uint64_t next = 0, count;
    CHECK(create(table, id_in_shard(table, 0, &next), NULL, 10, &stored) == SESSILE_OK);
    uint32_t epoch = sessile_epoch(table);
    CHECK(sessile_export(table, &waits, &export, buffer, sizeof buffer, notes, 1) == SESSILE_OK);
    CHECK(export.records == 1 && export.epoch == epoch);
    CHECK(sessile_revoke_all(table, &count) == SESSILE_OK && sessile_epoch(table) == epoch + 1);
    CHECK(create(table, id_in_shard(table, 0, &next), NULL, 10, &stored) == SESSILE_OK);
    export = (struct sessile_export){.shard = 0};
    CHECK(sessile_export(table, &waits, &export, buffer, sizeof buffer, notes, 1) == SESSILE_OK);
    CHECK(export.records == 1 && export.epoch == epoch + 1 && export.done);
    struct sessile *other = open_table(CAPACITY, MEMORY, 1.0);
    sessile_restore_epoch(other, epoch + 1);
    CHECK(sessile_epoch(other) == epoch + 1);
    sessile_restore_epoch(other, epoch);
    CHECK(sessile_epoch(other) == epoch + 1);
    CHECK(create(other, 1, "eva", 10, &stored) == SESSILE_OK);
    CHECK_CLEAN(other);
    sessile_close(other);
    sessile_close(table);
}

static void a_full_table_says_so(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *small = open_table(100, 2u << 20, 1.0);
    struct sessile_session stored;
    struct image_file file = {0};
    struct sessile_import_counts counts = {0};
    for (uint64_t i = 0; i < 200; i++)
        CHECK(create(table, i, i % 2 ? "eva" : NULL, 40, &stored) == SESSILE_OK);
    take(table, &file, NULL, NULL);
    sessile_restore_clock(small, sessile_now(table));
    CHECK(sessile_import(small, &waits, file.bytes, file.length, &no_rules, &counts) == SESSILE_FULL);
    CHECK(counts.imported == 100);
    CHECK_CLEAN(small);
    free_image(&file);
    sessile_close(small);
    sessile_close(table);
}

/* Room for one note makes a call stop at each session that got a new id; at each stop everything moves (E1). */
static void nobody_is_missed_between_two_calls(void)
{
    enum { SESSIONS = 120, STOPS = 40 };
    static uint8_t buffer[SESSILE_IMAGE_RECORD_MAX];
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session stored[SESSIONS], rotated, found;
    uint64_t numbers[SESSIONS], next = 0;
    struct image_file file = {0};
    uint32_t marks[8];
    CHECK(sessile_facts(table).shards == 8 && sessile_export_marks(table, &waits, marks) == SESSILE_OK);
    struct sessile_export export = {.shard = 3, .mark = marks[3], .since_ms = sessile_now(table)};
    for (unsigned i = 0; i < SESSIONS; i++) {
        CHECK(create(table, numbers[i] = id_in_shard(table, 3, &next), NULL, 40, &stored[i]) == SESSILE_OK);
        if (i % (SESSIONS / STOPS) != 0)
            continue;
        CHECK(create(table, id_in_shard(table, 3, &next), "eva", 300, &rotated) == SESSILE_OK);
        CHECK(rotate(table, &rotated, "eva", SESSILE_ROTATE, id_in_shard(table, 3, &next), &rotated) == SESSILE_OK);
    }
    for (unsigned call = 0; !export.done; call++) {
        struct sessile_note note;
        CHECK(call < 10000);
        CHECK(sessile_export(table, &waits, &export, buffer, sizeof buffer, &note, 1) == SESSILE_OK);
        add_records(&file, buffer, export.length);
        for (unsigned i = 0; call < 200 && i < SESSIONS; i++)
            CHECK((i + call) % 3 || update(table, &stored[i], NULL, call % 2 ? 40 : 200, &stored[i]) == SESSILE_OK);
    }
    other = fresh(table);
    give(other, &file, &no_rules);
    for (unsigned i = 0; i < SESSIONS; i++)
        CHECK(load(other, numbers[i], 0, &found) == SESSILE_OK);
    free_image(&file);
    sessile_close(other);
    sessile_close(table);
}

#ifndef SESSILE_PRIVATE_HOME
/* ---- other processes ---- */

static void nobody_is_missed_while_everything_moves(void)
{
    enum { SESSIONS = 2000 };
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0), *other;
    struct sessile_session *stored = calloc(SESSIONS, sizeof *stored), found;
    _Atomic int *stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (uint64_t i = 0; i < SESSIONS; i++)
        CHECK(create(table, i, NULL, 40, &stored[i]) == SESSILE_OK);
    pid_t child = fork();
    if (child == 0) {
        /* Sizes from two classes, so that records change pages, too. */
        for (uint64_t turn = 0; !atomic_load(stop); turn++)
            for (uint64_t i = 0; i < SESSIONS && !atomic_load(stop); i++)
                CHECK(update(table, &stored[i], NULL, turn % 2 ? 40 : 200, &stored[i]) == SESSILE_OK);
        _exit(0);
    }
    for (int round = 0; round < 20; round++) {
        struct image_file file = {0};
        take(table, &file, NULL, NULL);
        other = fresh(table);
        struct sessile_import_counts counts = give(other, &file, &no_rules);
        CHECK(counts.imported == SESSIONS);
        for (uint64_t i = 0; i < SESSIONS; i++)
            CHECK(load(other, i, 0, &found) == SESSILE_OK);
        free_image(&file);
        sessile_close(other);
    }
    atomic_store(stop, 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    munmap((void *)stop, 4096);
    free(stored);
    sessile_close(table);
}

static void a_dead_writer_is_followed_by_another(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0);
    int pipes[2];
    char byte = 0;
    CHECK(pipe(pipes) == 0);
    CHECK(sessile_writer_claim(table) && sessile_writer_claim(table));
    sessile_writer_release(table);
    pid_t child = fork();
    if (child == 0) {
        CHECK(sessile_writer_claim(table));
        CHECK(write(pipes[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(pipes[0], &byte, 1) == 1);
    CHECK(!sessile_writer_claim(table));
    sessile_writer_release(table);    /* another's is not released */
    CHECK(!sessile_writer_claim(table));
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    for (int tries = 0; tries < 1000 && !sessile_writer_claim(table); tries++)
        usleep(1000);    /* the kernel gives the dead one's lock back after a moment */
    CHECK(sessile_writer_claim(table));
    sessile_writer_release(table);
    /* The slot of a dead writer may be another process's by now. */
    atomic_store(&table->arena.header->writer, arena_me(&table->arena) ^ (1u << 16));
    CHECK(sessile_writer_claim(table));
    close(pipes[0]);
    close(pipes[1]);
    sessile_close(table);
}
#endif

static void generations_are_everybodys(void)
{
    struct sessile *table = open_table(CAPACITY, MEMORY, 1.0);
    CHECK(sessile_generation(table).published == 0);
    sessile_publish(table, 7);
    sessile_complete(table, 6, 1234);
    struct sessile_generation generation = sessile_generation(table);
    CHECK(generation.published == 7 && generation.complete == 6 && generation.complete_ms == 1234);
    sessile_close(table);
}

int main(void)
{
    RUN(everything_comes_back_in_a_table_of_another_size);
    RUN(deadlines_go_on_and_the_past_is_dropped);
    RUN(what_cannot_be_is_dropped);
    RUN(revoked_handles_stay_out);
    RUN(a_session_rotated_meanwhile_comes_back_once);
    RUN(a_renewal_after_the_image_is_replayed);
    RUN(every_bit_and_every_byte_less_is_noticed);
    RUN(a_damaged_record_is_left_out);
    RUN(a_revocation_of_all_meanwhile_shows);
    RUN(a_full_table_says_so);
    RUN(nobody_is_missed_between_two_calls);
#ifndef SESSILE_PRIVATE_HOME
    RUN(nobody_is_missed_while_everything_moves);
    RUN(a_dead_writer_is_followed_by_another);
#endif
    RUN(generations_are_everybodys);
    return check_summary();
}
