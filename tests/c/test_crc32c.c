/* test_crc32c.c - csrc/crc32c.c against the official vectors and against a division bit by bit, each engine.
 *
 * An argument (portable, sse4.2, armv8) names an engine that this machine must have.
 */
#include "check.h"
#include "crc32c.h"

#include <string.h>

#define LENGTH_MAX 300u

static const char *const engine_name[CRC32C_ENGINE_COUNT] = {"portable", "sse4.2", "armv8"};
static enum crc32c_engine chosen_at_load;

static void with_each_engine(void (*body)(void))
{
    for (int engine = 0; engine < CRC32C_ENGINE_COUNT; engine++)
        if (crc32c_engine_select((enum crc32c_engine)engine))
            body();
    CHECK(crc32c_engine_select(chosen_at_load));
}

static void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    CHECK(memory != NULL);
    return memory;
}

static void fill(uint8_t *bytes, size_t size, uint64_t *random)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)check_random(random);
}

static uint32_t reference(const uint8_t *data, size_t length)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

/* RFC 3720 B.4, and the check value that catalogues of checksums give for "123456789". */
static void vectors_of_rfc_3720(void)
{
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
    };
    uint8_t data[32];
    memset(data, 0, sizeof data);
    CHECK(crc32c(0, data, sizeof data) == 0x8a9136aau);
    memset(data, 0xff, sizeof data);
    CHECK(crc32c(0, data, sizeof data) == 0x62a8ab43u);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    CHECK(crc32c(0, data, sizeof data) == 0x46dd794eu);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    CHECK(crc32c(0, data, sizeof data) == 0x113fdb5cu);
    CHECK(crc32c(0, read_command, sizeof read_command) == 0xd9963a56u);
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283u);
}

static void nothing_changes_nothing(void)
{
    CHECK(crc32c(0, NULL, 0) == 0);
    CHECK(crc32c(0x12345678u, NULL, 0) == 0x12345678u);
    CHECK(crc32c(UINT32_MAX, "", 0) == UINT32_MAX);
}

/* Buffers of exact size, so that a sanitizer sees a read beyond them. */
static void all_lengths_and_alignments_match_the_reference(void)
{
    uint64_t random = 1;
    for (size_t shift = 0; shift < 16; shift++)
        for (size_t length = 0; length <= LENGTH_MAX; length++) {
            uint8_t *data = allocate(shift + length);
            fill(data, shift + length, &random);
            CHECK(crc32c(0, data + shift, length) == reference(data + shift, length));
            free(data);
        }
}

static void one_large_buffer_matches_the_reference(void)
{
    const size_t length = (1u << 20) + 5;
    uint8_t *data = allocate(length);
    uint64_t random = 2;
    fill(data, length, &random);
    CHECK(crc32c(0, data, length) == reference(data, length));
    free(data);
}

static void any_split_gives_the_same(void)
{
    uint8_t data[LENGTH_MAX];
    uint64_t random = 3;
    fill(data, sizeof data, &random);
    uint32_t whole = reference(data, sizeof data);
    for (size_t split = 0; split <= sizeof data; split++) {
        uint32_t first = crc32c(0, data, split);
        CHECK(crc32c(first, data + split, sizeof data - split) == whole);
        size_t second = split + (sizeof data - split) / 3;
        uint32_t two = crc32c(first, data + split, second - split);
        CHECK(crc32c(two, data + second, sizeof data - second) == whole);
    }
}

static void every_engine(void)
{
    with_each_engine(vectors_of_rfc_3720);
    with_each_engine(nothing_changes_nothing);
    with_each_engine(all_lengths_and_alignments_match_the_reference);
    with_each_engine(one_large_buffer_matches_the_reference);
    with_each_engine(any_split_gives_the_same);
}

static void the_best_engine_is_chosen_at_load(void)
{
    enum crc32c_engine best = CRC32C_PORTABLE;
    for (int engine = 0; engine < CRC32C_ENGINE_COUNT; engine++)
        if (crc32c_engine_select((enum crc32c_engine)engine)) {
            CHECK(crc32c_engine() == (enum crc32c_engine)engine);
            best = (enum crc32c_engine)engine;
        }
    CHECK(chosen_at_load == best);
#if defined(__x86_64__)
    /* The compiler's own detection is the witness. (AArch64: the caller names the engine that must be there.) */
    CHECK((best == CRC32C_SSE42) == (__builtin_cpu_supports("sse4.2") != 0));
#endif
}

static void an_absent_engine_is_refused(void)
{
    CHECK(crc32c_engine_select(CRC32C_PORTABLE));
    CHECK(!crc32c_engine_select(CRC32C_ENGINE_COUNT));
#if !defined(__aarch64__)
    CHECK(!crc32c_engine_select(CRC32C_ARMV8));
#endif
#if !defined(__x86_64__)
    CHECK(!crc32c_engine_select(CRC32C_SSE42));
#endif
    CHECK(crc32c_engine() == CRC32C_PORTABLE);
    CHECK(crc32c_engine_select(chosen_at_load));
}

static void require_engine(const char *name)
{
    for (int engine = 0; engine < CRC32C_ENGINE_COUNT; engine++)
        if (strcmp(name, engine_name[engine]) == 0 && crc32c_engine_select((enum crc32c_engine)engine))
            return;
    fprintf(stderr, "this machine lacks the engine %s\n", name);
    exit(1);
}

int main(int argc, char **argv)
{
    chosen_at_load = crc32c_engine();
    for (int i = 1; i < argc; i++)
        require_engine(argv[i]);
    printf("crc32c engines:");
    for (int engine = 0; engine < CRC32C_ENGINE_COUNT; engine++)
        if (crc32c_engine_select((enum crc32c_engine)engine))
            printf(" %s", engine_name[engine]);
    printf("\n");
    CHECK(crc32c_engine_select(chosen_at_load));

    RUN(every_engine);
    RUN(the_best_engine_is_chosen_at_load);
    RUN(an_absent_engine_is_refused);
    return check_summary();
}
