/* fuzz_import.c - any bytes in the place of an image's records and of the rules beside it: sessile_import() answers, keeps to
 * its memory, and leaves a table without findings, which can be exported again.
 *
 * An image was authenticated before it gets here, so this is the second line. libFuzzer (tests/persistence/Makefile: fuzz)
 * finds inputs; those of tests/persistence/corpus are replayed by the same program with its own main().
 *
 *    0       bit 0: leave checksums as they are; else each record gets the right one, so that what is behind is reached
 *    1..5    how many rules of each kind follow, modulo 4: revoked, newer, superseded, rekeys, watched
 *    then    the rules, then the records
 */
#include "packed.h"
#include "tables.h"

#include <stdio.h>
#include <stdlib.h>

#define KINDS 5u
#define MOST 3u

struct input {
    const uint8_t *bytes;
    size_t left;
};

struct rules {
    uint64_t revoked[MOST], watched[MOST];
    struct sessile_note newer[MOST];
    uint8_t superseded[MOST][SESSILE_DIGEST_SIZE];
    struct sessile_rekey rekeys[MOST];
    uint8_t seen[MOST];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(struct input *input, void *to, size_t size)
{
    size_t most = size < input->left ? size : input->left;
    memset(to, 0, size);
    memcpy(to, input->bytes, most);
    input->bytes += most;
    input->left -= most;
}

static int by_first_word(const void *a, const void *b)
{
    uint64_t left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return (left > right) - (left < right);
}

static int by_handle(const void *a, const void *b)
{
    uint64_t left = ((const struct sessile_note *)a)->handle, right = ((const struct sessile_note *)b)->handle;
    return (left > right) - (left < right);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, SESSILE_DIGEST_SIZE);
}

static struct sessile_rules read_rules(struct input *input, const uint8_t counts[KINDS], struct rules *rules)
{
    size_t n[KINDS];
    for (unsigned kind = 0; kind < KINDS; kind++)
        n[kind] = counts[kind] % (MOST + 1);
    take(input, rules->revoked, n[0] * sizeof *rules->revoked);
    take(input, rules->newer, n[1] * sizeof *rules->newer);
    take(input, rules->superseded, n[2] * sizeof *rules->superseded);
    take(input, rules->rekeys, n[3] * sizeof *rules->rekeys);
    take(input, rules->watched, n[4] * sizeof *rules->watched);
    memset(rules->seen, 0, sizeof rules->seen);
    qsort(rules->revoked, n[0], sizeof *rules->revoked, by_first_word);
    qsort(rules->newer, n[1], sizeof *rules->newer, by_handle);
    qsort(rules->superseded, n[2], sizeof *rules->superseded, by_bytes);
    qsort(rules->rekeys, n[3], sizeof *rules->rekeys, by_first_word);
    qsort(rules->watched, n[4], sizeof *rules->watched, by_first_word);
    return (struct sessile_rules){.revoked = rules->revoked, .revoked_count = n[0], .newer = rules->newer, .newer_count = n[1],
                                  .superseded = rules->superseded, .superseded_count = n[2], .rekeys = rules->rekeys,
                                  .rekey_count = n[3], .watched = rules->watched, .watched_count = n[4], .seen = rules->seen};
}

/* Gives each record that lies in bounds the checksum that it should have, and makes it LIVE. */
static void set_checksums(uint8_t *image, size_t length)
{
    for (size_t place = 0; length - place >= SESSILE_IMAGE_HEADER;) {
        uint8_t *packed = image + place;
        size_t size = packed_size(packed_word(packed, PACKED_LENGTHS));
        if (size > length - place)
            return;
        uint32_t sum = crc32c(0, packed + PACKED_DIGEST, 32), high = packed_word(packed, 4) | 0x80000000u;
        sum = crc32c(sum, packed + PACKED_TERMS, size - PACKED_TERMS);
        memcpy(packed, &sum, sizeof sum);
        memcpy(packed + 4, &high, sizeof high);
        place += size;
    }
}

static void print_finding(void *context, const char *finding)
{
    (void)context;
    fprintf(stderr, "%s\n", finding);
}

static void require_sound(struct sessile *table)
{
    uint64_t findings = 0;
    if (sessile_check(table, &waits, false, print_finding, NULL, &findings) != SESSILE_OK || findings != 0)
        abort();
}

static void export_all(struct sessile *table)
{
    static uint8_t buffer[SESSILE_IMAGE_RECORD_MAX];
    struct sessile_note notes[8];
    for (uint32_t shard = 0; shard < sessile_facts(table).shards; shard++) {
        struct sessile_export export = {.shard = shard};
        while (!export.done)
            if (sessile_export(table, &waits, &export, buffer, sizeof buffer, notes, 8) != SESSILE_OK)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct rules rules;
    struct sessile_import_counts counts = {0};
    uint8_t choices[1 + KINDS];
    take(&input, choices, sizeof choices);
    struct sessile_rules given = read_rules(&input, choices + 1, &rules);
    size_t length = input.left;
    uint8_t *image = malloc(length);    /* of exactly its size, so that a read behind it is seen */
    if (length != 0)
        memcpy(image, input.bytes, length);
    if (!(choices[0] & 1))
        set_checksums(image, length);
    struct sessile *table = open_table(1000, SESSILE_MEMORY_MIN, 0.5);
    enum sessile_status status = sessile_import(table, &waits, image, length, &given, &counts);
    if (status != SESSILE_OK && status != SESSILE_FULL && status != SESSILE_DAMAGED)
        abort();
    if (status == SESSILE_DAMAGED && counts.imported + counts.forwarding != 0)
        abort();
    require_sound(table);
    export_all(table);
    sessile_close(table);
    free(image);
    return 0;
}

#ifndef FUZZER
static void replay(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file)
        abort();
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, length);
}

int main(int count, char **paths)
{
    for (int i = 1; i < count; i++)
        replay(paths[i]);
    printf("%d replayed\n", count - 1);
    return 0;
}
#endif
