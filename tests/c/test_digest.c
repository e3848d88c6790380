/* test_digest.c - csrc/digest.c against the official vectors, against a plain SHA-256 written here, and its engines
 * against each other.
 *
 * The key block is the first 64 bytes of a message, so any message of at least 64 bytes is a vector for digest_text().
 * An argument (portable, sha-ni, armv8) names an engine that this machine must have.
 */
#define _DEFAULT_SOURCE
#include "check.h"
#include "digest.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#define THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define THREAD_SANITIZER 0
#endif

#define MESSAGE_MAX 1000000u

static const char *const engine_name[DIGEST_ENGINE_COUNT] = {"portable", "sha-ni", "armv8"};
static enum digest_engine chosen_at_load;

static void with_each_engine(void (*body)(void))
{
    for (int engine = 0; engine < DIGEST_ENGINE_COUNT; engine++)
        if (digest_engine_select((enum digest_engine)engine))
            body();
    CHECK(digest_engine_select(chosen_at_load));
}

static void fill(uint8_t *bytes, size_t size, uint64_t *random)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)check_random(random);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    CHECK(memory != NULL);
    return memory;
}

/* ---- a plain SHA-256: constants computed from their definition, padding byte by byte ---- */

__extension__ typedef unsigned __int128 uint128;

/* The first 32 bits of the fractional part of the `degree`-th root (2 or 3) of a number below 512. */
static uint32_t root_fraction(unsigned number, unsigned degree)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 36; bit > 0; bit >>= 1) {
        uint128 tried = root | bit;
        if ((degree == 2 ? tried * tried : tried * tried * tried) <= (uint128)number << 32 * degree)
            root |= bit;
    }
    return (uint32_t)root;
}

static bool is_prime(unsigned number)
{
    for (unsigned divisor = 2; divisor < number; divisor++)
        if (number % divisor == 0)
            return false;
    return true;
}

static uint8_t padded_byte(const uint8_t *message, size_t length, size_t size, size_t i)
{
    if (i < length)
        return message[i];
    if (i == length)
        return 0x80;
    return i + 8 < size ? 0 : (uint8_t)((uint64_t)length * 8 >> 8 * (size - 1 - i));
}

static uint32_t rotated(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

static void reference_block(uint32_t state[8], const uint32_t constant[64], uint32_t word[64])
{
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (unsigned t = 0; t < 64; t++) {
        if (t >= 16)
            word[t] = (rotated(word[t - 2], 17) ^ rotated(word[t - 2], 19) ^ word[t - 2] >> 10) + word[t - 7]
                    + (rotated(word[t - 15], 7) ^ rotated(word[t - 15], 18) ^ word[t - 15] >> 3) + word[t - 16];
        uint32_t first = v[7] + (rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25))
                       + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constant[t] + word[t];
        uint32_t second = (rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22))
                        + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += first;
        v[0] = first + second;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += v[i];
}

static void reference(const uint8_t *message, size_t length, uint8_t out[DIGEST_SIZE])
{
    static uint32_t state_at_start[8], constant[64];
    for (unsigned i = 0, number = 2; i < 64 && constant[63] == 0; number++)
        if (is_prime(number)) {
            if (i < 8)
                state_at_start[i] = root_fraction(number, 2);
            constant[i++] = root_fraction(number, 3);
        }
    uint32_t state[8], word[64];
    const size_t size = (length + 9 + 63) / 64 * 64;
    memcpy(state, state_at_start, sizeof state);
    for (size_t at = 0; at < size; at += 64) {
        memset(word, 0, sizeof word);
        for (size_t i = 0; i < 64; i++)
            word[i / 4] = word[i / 4] << 8 | padded_byte(message, length, size, at + i);
        reference_block(state, constant, word);
    }
    for (unsigned i = 0; i < DIGEST_SIZE; i++)
        out[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- vectors ---- */

static size_t from_hex(const char *text, uint8_t *out)
{
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        CHECK(sscanf(text + 2 * i, "%2x", &byte) == 1);
        out[i] = (uint8_t)byte;
    }
    return size;
}

static bool is_hex(const uint8_t digest[DIGEST_SIZE], const char *expected)
{
    uint8_t bytes[DIGEST_SIZE];
    CHECK(strlen(expected) == 2 * DIGEST_SIZE);
    from_hex(expected, bytes);
    return memcmp(digest, bytes, sizeof bytes) == 0;
}

/* The examples of FIPS 180-4 that are shorter than a block: they make the reference trustworthy. */
static void reference_matches_the_short_vectors(void)
{
    static const struct {
        const char *message, *digest;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
         "nopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    uint8_t digest[DIGEST_SIZE];
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        reference((const uint8_t *)vectors[i].message, strlen(vectors[i].message), digest);
        CHECK(is_hex(digest, vectors[i].digest));
    }
}

static void digest_message(const uint8_t *message, size_t length, uint8_t out[DIGEST_SIZE])
{
    struct digest_key key;
    CHECK(length >= DIGEST_BLOCK);
    digest_key_init(&key, message);
    digest_text(&key, message + DIGEST_BLOCK, length - DIGEST_BLOCK, out);
}

/* From the NIST's validation suite (SHA256ShortMsg.rsp, SHA256LongMsg.rsp) and its examples. */
static void literal_vectors(void)
{
    static const struct {
        const char *message, *digest;
    } vectors[] = {
        {"5a86b737eaea8ee976a0a24da63e7ed7eefad18a101c1211e2b3650c5187c2a8a650547208251f6d4237e661c7bf4c77f335390394c3"
         "7fa1a9f9be836ac28509",
         "42e61e174fbb3897d6dd6cef3dd2802fe67b331953b06114a65c772859dfc1aa"},
        {"451101250ec6f26652249d59dc974b7361d571a8101cdfd36aba3b5854d3ae086b5fdd4597721b66e3c0dc5d8c606d9657d0e323283a"
         "5217d1f53f2f284f57b85c8a61ac8924711f895c5ed90ef17745ed2d728abd22a5f7a13479a462d71b56c19a74a40b655c58edfe0a18"
         "8ad2cf46cbf30524f65d423c837dd1ff2bf462ac4198007345bb44dbb7b1c861298cdf61982a833afc728fae1eda2f87aa2c9480858b"
         "ec",
         "3c593aa539fdcdae516cdf2f15000f6634185c88f505b39775fb9ab137a10aa2"},
        {"61626364656667686263646566676869636465666768696a6465666768696a6b65666768696a6b6c666768696a6b6c6d6768696a6b6c"
         "6d6e68696a6b6c6d6e6f696a6b6c6d6e6f706a6b6c6d6e6f70716b6c6d6e6f7071726c6d6e6f707172736d6e6f70717273746e6f7071"
         "72737475",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    uint8_t message[256], digest[DIGEST_SIZE];
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        digest_message(message, from_hex(vectors[i].message, message), digest);
        CHECK(is_hex(digest, vectors[i].digest));
    }
}

/* One byte repeated, likewise from the NIST's examples. */
static void repeated_byte_vectors(void)
{
    static const struct {
        uint8_t byte;
        size_t length;
        const char *digest;
    } vectors[] = {
        {0, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
        {0, 1000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"},
        {'A', 1000, "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4"},
        {'U', 1005, "f4d62ddec0f3dd90ea1380fa16a5ff8dc4c54b21740650f24afc4120903552b0"},
        {0, 1000000, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"},
        {'a', 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    uint8_t *message = allocate(MESSAGE_MAX), digest[DIGEST_SIZE];
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        memset(message, vectors[i].byte, vectors[i].length);
        digest_message(message, vectors[i].length, digest);
        CHECK(is_hex(digest, vectors[i].digest));
    }
    free(message);
}

static void official_vectors(void)
{
    with_each_engine(literal_vectors);
    with_each_engine(repeated_byte_vectors);
}

/* 2^29 zero bytes: the length in bits needs its upper half. Where an engine is fast; the thread sanitizer would need
 * gigabytes for it. */
static void length_beyond_32_bits(void)
{
    const size_t length = (size_t)1 << 29;
    if (THREAD_SANITIZER || !digest_engine_select(DIGEST_SHA_NI))
        return;
    uint8_t *zeros = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(zeros != MAP_FAILED);
    uint8_t digest[DIGEST_SIZE];
    digest_message(zeros, length, digest);
    CHECK(is_hex(digest, "9acca8e8c22201155389f65abbf6bc9723edc7384ead80503839f49dcc56d767"));
    CHECK(munmap(zeros, length) == 0);
    CHECK(digest_engine_select(chosen_at_load));
}

/* ---- engines ---- */

static void all_lengths_match_the_reference(void)
{
    uint64_t random = 1;
    for (size_t length = 0; length <= 300; length++) {
        /* Of exact size, so that a sanitizer sees a read beyond the text. */
        uint8_t *message = allocate(DIGEST_BLOCK + length), expected[DIGEST_SIZE], digest[DIGEST_SIZE];
        fill(message, DIGEST_BLOCK + length, &random);
        reference(message, DIGEST_BLOCK + length, expected);
        digest_message(message, DIGEST_BLOCK + length, digest);
        CHECK(memcmp(digest, expected, sizeof digest) == 0);
        free(message);
    }
    struct digest_key key;
    uint8_t block[DIGEST_BLOCK] = {0}, expected[DIGEST_SIZE], digest[DIGEST_SIZE];
    reference(block, sizeof block, expected);
    digest_key_init(&key, block);
    digest_text(&key, NULL, 0, digest);
    CHECK(memcmp(digest, expected, sizeof digest) == 0);
}

static void all_alignments_match_the_reference(void)
{
    uint64_t random = 2;
    uint8_t message[DIGEST_BLOCK + 200], expected[DIGEST_SIZE];
    uint8_t moved_block[DIGEST_BLOCK + 16], moved_text[200 + 16], moved_out[DIGEST_SIZE + 16];
    fill(message, sizeof message, &random);
    reference(message, sizeof message, expected);
    for (size_t shift = 0; shift < 16; shift++) {
        struct digest_key key;
        memcpy(moved_block + shift, message, DIGEST_BLOCK);
        memcpy(moved_text + shift, message + DIGEST_BLOCK, 200);
        digest_key_init(&key, moved_block + shift);
        digest_text(&key, moved_text + shift, 200, moved_out + shift);
        CHECK(memcmp(moved_out + shift, expected, DIGEST_SIZE) == 0);
    }
}

static void an_id_is_a_text_of_32_bytes(void)
{
    uint64_t random = 3;
    for (unsigned round = 0; round < 1000; round++) {
        uint8_t message[DIGEST_BLOCK + DIGEST_ID_LENGTH], by_text[DIGEST_SIZE], expected[DIGEST_SIZE];
        uint8_t *id = allocate(DIGEST_ID_LENGTH), *digest = allocate(DIGEST_SIZE);
        struct digest_key key, before;
        fill(message, sizeof message, &random);
        memcpy(id, message + DIGEST_BLOCK, DIGEST_ID_LENGTH);
        reference(message, sizeof message, expected);
        digest_key_init(&key, message);
        before = key;
        digest_id(&key, id, digest);
        digest_text(&key, id, DIGEST_ID_LENGTH, by_text);
        CHECK(memcmp(digest, expected, DIGEST_SIZE) == 0);
        CHECK(memcmp(by_text, expected, DIGEST_SIZE) == 0);
        CHECK(memcmp(&key, &before, sizeof key) == 0);
        CHECK(memcmp(id, message + DIGEST_BLOCK, DIGEST_ID_LENGTH) == 0);
        free(id);
        free(digest);
    }
}

static void the_result_may_replace_the_input(void)
{
    uint64_t random = 4;
    uint8_t message[DIGEST_BLOCK + 150], expected[DIGEST_SIZE], buffer[150];
    struct digest_key key;
    fill(message, sizeof message, &random);
    digest_key_init(&key, message);

    reference(message, DIGEST_BLOCK + DIGEST_ID_LENGTH, expected);
    memcpy(buffer, message + DIGEST_BLOCK, DIGEST_ID_LENGTH);
    digest_id(&key, buffer, buffer);
    CHECK(memcmp(buffer, expected, DIGEST_SIZE) == 0);

    reference(message, sizeof message, expected);
    memcpy(buffer, message + DIGEST_BLOCK, 150);
    digest_text(&key, buffer, 150, buffer + 118);
    CHECK(memcmp(buffer + 118, expected, DIGEST_SIZE) == 0);
}

static void every_engine_matches_the_reference(void)
{
    with_each_engine(all_lengths_match_the_reference);
    with_each_engine(all_alignments_match_the_reference);
    with_each_engine(an_id_is_a_text_of_32_bytes);
    with_each_engine(the_result_may_replace_the_input);
}

static struct digest_key portable_key;

static void same_key_as_portable(void)
{
    uint8_t block[DIGEST_BLOCK];
    struct digest_key key;
    uint64_t random = 5;
    fill(block, sizeof block, &random);
    digest_key_init(&key, block);
    if (digest_engine() == DIGEST_PORTABLE)
        portable_key = key;
    CHECK(memcmp(&key, &portable_key, sizeof key) == 0);
}

/* A key may be set up by one engine and used by another. */
static void engines_make_the_same_key(void)
{
    with_each_engine(same_key_as_portable);
}

static void the_best_engine_is_chosen_at_load(void)
{
    enum digest_engine best = DIGEST_PORTABLE;
    for (int engine = 0; engine < DIGEST_ENGINE_COUNT; engine++)
        if (digest_engine_select((enum digest_engine)engine)) {
            CHECK(digest_engine() == (enum digest_engine)engine);
            best = (enum digest_engine)engine;
        }
    CHECK(chosen_at_load == best);
#if defined(__x86_64__) && !defined(__clang__) && __GNUC__ >= 11
    /* The compiler's own detection is the witness. (AArch64: the caller names the engine that must be there.) */
    CHECK((best == DIGEST_SHA_NI) == (__builtin_cpu_supports("sha") != 0));
#endif
}

static void an_absent_engine_is_refused(void)
{
    CHECK(digest_engine_select(DIGEST_PORTABLE));
    CHECK(!digest_engine_select(DIGEST_ENGINE_COUNT));
    CHECK(digest_engine() == DIGEST_PORTABLE);
#if !defined(__aarch64__)
    CHECK(!digest_engine_select(DIGEST_ARMV8));
#endif
#if !defined(__x86_64__)
    CHECK(!digest_engine_select(DIGEST_SHA_NI));
#endif
    CHECK(digest_engine() == DIGEST_PORTABLE);
    CHECK(digest_engine_select(chosen_at_load));
}

static void *digest_many(void *expected)
{
    uint8_t message[DIGEST_BLOCK + DIGEST_ID_LENGTH] = {0}, digest[DIGEST_SIZE];
    struct digest_key key;
    for (unsigned round = 0; round < 2000; round++) {
        digest_key_init(&key, message);
        digest_id(&key, message + DIGEST_BLOCK, digest);
        CHECK(memcmp(digest, expected, DIGEST_SIZE) == 0);
    }
    return NULL;
}

static void threads_agree_while_the_engine_changes(void)
{
    uint8_t message[DIGEST_BLOCK + DIGEST_ID_LENGTH] = {0}, expected[DIGEST_SIZE];
    pthread_t threads[4];
    reference(message, sizeof message, expected);
    for (size_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, digest_many, expected) == 0);
    for (unsigned round = 0; round < 500; round++) {
        CHECK(digest_engine_select(DIGEST_PORTABLE));
        CHECK(digest_engine_select(chosen_at_load));
    }
    for (size_t i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void a_forked_child_agrees(void)
{
    uint8_t message[DIGEST_BLOCK + DIGEST_ID_LENGTH] = {0}, expected[DIGEST_SIZE];
    reference(message, sizeof message, expected);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        digest_many(expected);
        _exit(digest_engine() == chosen_at_load ? 0 : 2);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- comparison and form ---- */

/* STO-02: all 32 bytes count. Operands of exact size at every alignment of a word. */
static void every_single_bit_difference_is_seen_STO_02(void)
{
    uint64_t random = 6;
    for (size_t shift = 0; shift < 8; shift++) {
        uint8_t *left = allocate(shift + DIGEST_SIZE), *right = allocate(DIGEST_SIZE);
        uint8_t *a = left + shift;
        fill(a, DIGEST_SIZE, &random);
        memcpy(right, a, DIGEST_SIZE);
        CHECK(digest_equal(a, a) && digest_equal(a, right) && digest_equal(right, a));
        for (unsigned bit = 0; bit < 8 * DIGEST_SIZE; bit++) {
            right[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK(!digest_equal(a, right));
            CHECK(!digest_equal(right, a));
            right[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK(digest_equal(a, right));
        free(left);
        free(right);
    }
}

/* STO-02: equal differences in two places must not cancel out. */
static void differences_do_not_cancel_out_STO_02(void)
{
    uint8_t a[DIGEST_SIZE] = {0}, b[DIGEST_SIZE];
    for (unsigned first = 0; first < DIGEST_SIZE; first++)
        for (unsigned second = 0; second < DIGEST_SIZE; second++) {
            memcpy(b, a, sizeof b);
            b[first] = 0x80;
            b[second] = 0x80;
            CHECK(!digest_equal(a, b));
            b[second] = (uint8_t)(first == second ? 1 : 0x7f);
            CHECK(!digest_equal(a, b));
        }
    memset(b, 0xff, sizeof b);
    CHECK(!digest_equal(a, b));
}

static bool is_id_character(unsigned byte)
{
    return byte < 128 && byte != 0
        && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", (int)byte) != NULL;
}

/* SID-03: every byte at every place. */
static void only_base64url_characters_are_wellformed_SID_03(void)
{
    uint64_t random = 7;
    static const uint8_t fillers[] = "aZ09-_";
    for (size_t filler = 0; filler + 1 < sizeof fillers; filler++)
        for (unsigned at = 0; at < DIGEST_ID_LENGTH; at++)
            for (unsigned byte = 0; byte < 256; byte++) {
                uint8_t text[DIGEST_ID_LENGTH];
                memset(text, fillers[filler], sizeof text);
                text[at] = (uint8_t)byte;
                CHECK(digest_id_wellformed(text, sizeof text) == is_id_character(byte));
            }
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t text[DIGEST_ID_LENGTH];
        bool all = true;
        for (unsigned at = 0; at < sizeof text; at++) {
            text[at] = (uint8_t)(check_random(&random) % 64 == 0 ? check_random(&random) : 'k');
            all = all && is_id_character(text[at]);
        }
        CHECK(digest_id_wellformed(text, sizeof text) == all);
    }
}

/* SID-03, SID-07: one length only, and of another nothing is read (a sanitizer would see it). */
static void only_32_characters_are_wellformed_SID_03(void)
{
    for (size_t length = 0; length <= 100; length++) {
        uint8_t *text = allocate(length + 1);
        memset(text, 'x', length);
        uint8_t *exact = realloc(text, length > 0 ? length : 1);
        CHECK(exact != NULL);
        CHECK(digest_id_wellformed(exact, length) == (length == DIGEST_ID_LENGTH));
        free(exact);
    }
    CHECK(!digest_id_wellformed(NULL, 0));
    CHECK(!digest_id_wellformed(NULL, (size_t)1 << 32 | DIGEST_ID_LENGTH));
}

static void require_engine(const char *name)
{
    for (int engine = 0; engine < DIGEST_ENGINE_COUNT; engine++)
        if (strcmp(name, engine_name[engine]) == 0 && digest_engine_select((enum digest_engine)engine))
            return;
    fprintf(stderr, "this machine lacks the engine %s\n", name);
    exit(1);
}

int main(int argc, char **argv)
{
    chosen_at_load = digest_engine();
    for (int i = 1; i < argc; i++)
        require_engine(argv[i]);
    printf("digest engines:");
    for (int engine = 0; engine < DIGEST_ENGINE_COUNT; engine++)
        if (digest_engine_select((enum digest_engine)engine))
            printf(" %s", engine_name[engine]);
    printf("\n");
    CHECK(digest_engine_select(chosen_at_load));

    RUN(reference_matches_the_short_vectors);
    RUN(official_vectors);
    RUN(length_beyond_32_bits);
    RUN(every_engine_matches_the_reference);
    RUN(engines_make_the_same_key);
    RUN(the_best_engine_is_chosen_at_load);
    RUN(an_absent_engine_is_refused);
    RUN(threads_agree_while_the_engine_changes);
    RUN(a_forked_child_agrees);
    RUN(every_single_bit_difference_is_seen_STO_02);
    RUN(differences_do_not_cancel_out_STO_02);
    RUN(only_base64url_characters_are_wellformed_SID_03);
    RUN(only_32_characters_are_wellformed_SID_03);
    return check_summary();
}
