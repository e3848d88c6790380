/* digest.c - keyed SHA-256 of an id (FIPS 180-4), three engines, and constant-time comparison.
 *
 *     message   | key block, 64 bytes | id, 32 bytes | 80 00 … 00 | length in bits, 768 |
 *     SHA-256   |<-- digest_key_init->|<------------- digest_id, one block ------------>|
 *
 * An engine is a pair of functions: `blocks` compresses any number of whole blocks, `id` does the second half of the
 * drawing. In `id` the last eight words of the block are constants, which the compiler folds into the round constants.
 *
 * Choice: a constructor looks at the processor and stores a pointer to the best engine. Until then, and where there is
 * none better, the pointer names the portable one, so there is no moment at which a call would be wrong. All engines
 * give the same result and are constant data, so the pointer needs no order beyond being atomic: no lock, nothing to
 * repair in a child of fork(). Clang before 16 has the AArch64 instructions only when the whole file may use them: it
 * builds the portable engine alone.
 *
 * Secrets: a key's state, an id, and every text. They are never an address or a condition here (no table is indexed by
 * them), and what the code copies of them to memory of its own is wiped before it returns. Registers are not.
 */
#include "digest.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#define HAVE_SHA_NI 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__) && (!defined(__clang__) || __clang_major__ >= 16)
#define HAVE_ARMV8 1
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

_Static_assert(sizeof(void *) == 8, "64-bit only");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian only");
_Static_assert(sizeof(struct digest_key) == DIGEST_SIZE, "the state has the size of a digest");
_Static_assert(DIGEST_ID_LENGTH + 1 + 8 <= DIGEST_BLOCK, "id, end mark and length share one block");

enum { ID_BITS = (DIGEST_BLOCK + DIGEST_ID_LENGTH) * 8 };  /* length of the message that digest_id() hashes */
#define END_MARK 0x80u                                     /* the bit after the message, as a byte */

/* FIPS 180-4, 4.2.2: fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* FIPS 180-4, 5.3.3: fractional parts of the square roots of the first 8 primes. */
static const uint32_t initial_state[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

struct engine {
    enum digest_engine name;
    void (*blocks)(uint32_t state[8], const uint8_t *data, size_t count);
    void (*id)(const uint32_t state[8], const uint8_t *id, uint8_t *out);
};

/* The barrier claims to read the memory, so that the stores before it are not dead. */
static inline void wipe(void *memory, size_t size)
{
    memset(memory, 0, size);
    __asm__ volatile("" : : "r"(memory) : "memory");
}

/* ---- portable ---- */

static inline uint32_t load_be32(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return __builtin_bswap32(word);
}

static inline void store_be32(uint8_t *to, uint32_t word)
{
    word = __builtin_bswap32(word);
    memcpy(to, &word, sizeof word);
}

static inline uint32_t rotate_right(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

/* One round. The eight working variables stay in place and change their roles: the caller rotates the arguments. */
static inline void one_round(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f, uint32_t g,
                             uint32_t *h, uint32_t word)
{
    uint32_t sum = *h + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) + (g ^ (e & (f ^ g))) + word;
    *d += sum;
    *h = sum + (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) + ((a & b) | (c & (a | b)));
}

static void portable_rounds(uint32_t state[8], const uint32_t word[64])
{
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (unsigned t = 0; t < 64; t += 8) {
        one_round(a, b, c, &d, e, f, g, &h, round_constant[t] + word[t]);
        one_round(h, a, b, &c, d, e, f, &g, round_constant[t + 1] + word[t + 1]);
        one_round(g, h, a, &b, c, d, e, &f, round_constant[t + 2] + word[t + 2]);
        one_round(f, g, h, &a, b, c, d, &e, round_constant[t + 3] + word[t + 3]);
        one_round(e, f, g, &h, a, b, c, &d, round_constant[t + 4] + word[t + 4]);
        one_round(d, e, f, &g, h, a, b, &c, round_constant[t + 5] + word[t + 5]);
        one_round(c, d, e, &f, g, h, a, &b, round_constant[t + 6] + word[t + 6]);
        one_round(b, c, d, &e, f, g, h, &a, round_constant[t + 7] + word[t + 7]);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void portable_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    uint32_t word[64];
    for (; count > 0; count--, data += DIGEST_BLOCK) {
        for (unsigned t = 0; t < 16; t++)
            word[t] = load_be32(data + 4 * t);
        for (unsigned t = 16; t < 64; t++) {
            uint32_t near = word[t - 2], far = word[t - 15];
            word[t] = (rotate_right(near, 17) ^ rotate_right(near, 19) ^ near >> 10) + word[t - 7]
                    + (rotate_right(far, 7) ^ rotate_right(far, 18) ^ far >> 3) + word[t - 16];
        }
        portable_rounds(state, word);
    }
    wipe(word, sizeof word);
}

static void portable_id(const uint32_t state[8], const uint8_t *id, uint8_t *out)
{
    uint32_t own[8];
    uint8_t block[DIGEST_BLOCK] = {0};
    memcpy(own, state, sizeof own);
    memcpy(block, id, DIGEST_ID_LENGTH);
    block[DIGEST_ID_LENGTH] = END_MARK;
    store_be32(block + DIGEST_BLOCK - 4, ID_BITS);
    portable_blocks(own, block, 1);
    for (unsigned i = 0; i < 8; i++)
        store_be32(out + 4 * i, own[i]);
    wipe(block, sizeof block);
    wipe(own, sizeof own);
}

/* ---- x86-64 with SHA extensions ---- */

#ifdef HAVE_SHA_NI
#define SHA_NI __attribute__((target("sha,sse4.1,ssse3")))

/* The instructions keep the working variables a to h as {f, e, b, a} and {h, g, d, c}, lowest lane first. */
struct sha_ni_state {
    __m128i abef, cdgh;
};

SHA_NI static inline struct sha_ni_state sha_ni_load(const uint32_t state[8])
{
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    return (struct sha_ni_state){_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0)};
}

/* The reverse: {a, b, c, d} to `low`, {e, f, g, h} to `high`. */
SHA_NI static inline void sha_ni_unload(struct sha_ni_state state, __m128i *low, __m128i *high)
{
    __m128i feba = _mm_shuffle_epi32(state.abef, 0x1b), dchg = _mm_shuffle_epi32(state.cdgh, 0xb1);
    *low = _mm_blend_epi16(feba, dchg, 0xf0);
    *high = _mm_alignr_epi8(dchg, feba, 8);
}

SHA_NI static inline __m128i sha_ni_swap(__m128i words)
{
    return _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
}

SHA_NI static inline __m128i sha_ni_words(const uint8_t *from)
{
    return sha_ni_swap(_mm_loadu_si128((const __m128i *)from));
}

SHA_NI static inline void sha_ni_four_rounds(struct sha_ni_state *state, __m128i words, unsigned t)
{
    __m128i sum = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(round_constant + t)));
    state->cdgh = _mm_sha256rnds2_epu32(state->cdgh, state->abef, sum);
    state->abef = _mm_sha256rnds2_epu32(state->abef, state->cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

/* The four words of the schedule after w3, from the sixteen before them. */
SHA_NI static inline __m128i sha_ni_next(__m128i w0, __m128i w1, __m128i w2, __m128i w3)
{
    return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4)), w3);
}

SHA_NI static inline struct sha_ni_state sha_ni_compress(struct sha_ni_state before, __m128i w0, __m128i w1, __m128i w2,
                                                         __m128i w3)
{
    struct sha_ni_state state = before;
    sha_ni_four_rounds(&state, w0, 0);
    sha_ni_four_rounds(&state, w1, 4);
    sha_ni_four_rounds(&state, w2, 8);
    sha_ni_four_rounds(&state, w3, 12);
    for (unsigned t = 16; t < 64; t += 16) {
        w0 = sha_ni_next(w0, w1, w2, w3);
        sha_ni_four_rounds(&state, w0, t);
        w1 = sha_ni_next(w1, w2, w3, w0);
        sha_ni_four_rounds(&state, w1, t + 4);
        w2 = sha_ni_next(w2, w3, w0, w1);
        sha_ni_four_rounds(&state, w2, t + 8);
        w3 = sha_ni_next(w3, w0, w1, w2);
        sha_ni_four_rounds(&state, w3, t + 12);
    }
    return (struct sha_ni_state){_mm_add_epi32(before.abef, state.abef), _mm_add_epi32(before.cdgh, state.cdgh)};
}

SHA_NI static void sha_ni_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    struct sha_ni_state own = sha_ni_load(state);
    for (; count > 0; count--, data += DIGEST_BLOCK)
        own = sha_ni_compress(own, sha_ni_words(data), sha_ni_words(data + 16), sha_ni_words(data + 32),
                              sha_ni_words(data + 48));
    __m128i low, high;
    sha_ni_unload(own, &low, &high);
    _mm_storeu_si128((__m128i *)state, low);
    _mm_storeu_si128((__m128i *)(state + 4), high);
}

SHA_NI static void sha_ni_id(const uint32_t state[8], const uint8_t *id, uint8_t *out)
{
    __m128i low, high;
    struct sha_ni_state own = sha_ni_compress(sha_ni_load(state), sha_ni_words(id), sha_ni_words(id + 16),
                                              _mm_set_epi32(0, 0, 0, (int)(END_MARK << 24)),
                                              _mm_set_epi32(ID_BITS, 0, 0, 0));
    sha_ni_unload(own, &low, &high);
    _mm_storeu_si128((__m128i *)out, sha_ni_swap(low));
    _mm_storeu_si128((__m128i *)(out + 16), sha_ni_swap(high));
}

static bool sha_ni_present(void)
{
    unsigned eax, ebx, ecx, edx;
    const unsigned needed = bit_SSSE3 | bit_SSE4_1;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & needed) != needed)
        return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA) != 0;
}
#endif

/* ---- AArch64 with SHA-2 instructions ---- */

#ifdef HAVE_ARMV8
#define ARMV8 __attribute__((target("+crypto")))

struct armv8_state {
    uint32x4_t abcd, efgh;
};

ARMV8 static inline uint32x4_t armv8_words(const uint8_t *from)
{
    return vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(from)));
}

ARMV8 static inline void armv8_four_rounds(struct armv8_state *state, uint32x4_t words, unsigned t)
{
    uint32x4_t sum = vaddq_u32(words, vld1q_u32(round_constant + t)), abcd = state->abcd;
    state->abcd = vsha256hq_u32(abcd, state->efgh, sum);
    state->efgh = vsha256h2q_u32(state->efgh, abcd, sum);
}

/* The four words of the schedule after w3, from the sixteen before them. */
ARMV8 static inline uint32x4_t armv8_next(uint32x4_t w0, uint32x4_t w1, uint32x4_t w2, uint32x4_t w3)
{
    return vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3);
}

ARMV8 static inline struct armv8_state armv8_compress(struct armv8_state before, uint32x4_t w0, uint32x4_t w1,
                                                      uint32x4_t w2, uint32x4_t w3)
{
    struct armv8_state state = before;
    armv8_four_rounds(&state, w0, 0);
    armv8_four_rounds(&state, w1, 4);
    armv8_four_rounds(&state, w2, 8);
    armv8_four_rounds(&state, w3, 12);
    for (unsigned t = 16; t < 64; t += 16) {
        w0 = armv8_next(w0, w1, w2, w3);
        armv8_four_rounds(&state, w0, t);
        w1 = armv8_next(w1, w2, w3, w0);
        armv8_four_rounds(&state, w1, t + 4);
        w2 = armv8_next(w2, w3, w0, w1);
        armv8_four_rounds(&state, w2, t + 8);
        w3 = armv8_next(w3, w0, w1, w2);
        armv8_four_rounds(&state, w3, t + 12);
    }
    return (struct armv8_state){vaddq_u32(before.abcd, state.abcd), vaddq_u32(before.efgh, state.efgh)};
}

ARMV8 static void armv8_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    struct armv8_state own = {vld1q_u32(state), vld1q_u32(state + 4)};
    for (; count > 0; count--, data += DIGEST_BLOCK)
        own = armv8_compress(own, armv8_words(data), armv8_words(data + 16), armv8_words(data + 32),
                             armv8_words(data + 48));
    vst1q_u32(state, own.abcd);
    vst1q_u32(state + 4, own.efgh);
}

ARMV8 static void armv8_id(const uint32_t state[8], const uint8_t *id, uint8_t *out)
{
    static const uint32_t padding[8] = {END_MARK << 24, 0, 0, 0, 0, 0, 0, ID_BITS};
    struct armv8_state own = {vld1q_u32(state), vld1q_u32(state + 4)};
    own = armv8_compress(own, armv8_words(id), armv8_words(id + 16), vld1q_u32(padding), vld1q_u32(padding + 4));
    vst1q_u8(out, vrev32q_u8(vreinterpretq_u8_u32(own.abcd)));
    vst1q_u8(out + 16, vrev32q_u8(vreinterpretq_u8_u32(own.efgh)));
}

static bool armv8_present(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
}
#endif

/* ---- choice of the engine ---- */

static const struct engine portable_engine = {DIGEST_PORTABLE, portable_blocks, portable_id};
static _Atomic(const struct engine *) chosen = &portable_engine;

static const struct engine *engine_if_present(enum digest_engine name)
{
    switch (name) {
    case DIGEST_PORTABLE:
        return &portable_engine;
    case DIGEST_SHA_NI: {
#ifdef HAVE_SHA_NI
        static const struct engine sha_ni_engine = {DIGEST_SHA_NI, sha_ni_blocks, sha_ni_id};
        return sha_ni_present() ? &sha_ni_engine : NULL;
#else
        return NULL;
#endif
    }
    case DIGEST_ARMV8: {
#ifdef HAVE_ARMV8
        static const struct engine armv8_engine = {DIGEST_ARMV8, armv8_blocks, armv8_id};
        return armv8_present() ? &armv8_engine : NULL;
#else
        return NULL;
#endif
    }
    case DIGEST_ENGINE_COUNT:
        return NULL;
    }
    return NULL;
}

static inline const struct engine *engine(void)
{
    return atomic_load_explicit(&chosen, memory_order_relaxed);
}

enum digest_engine digest_engine(void)
{
    return engine()->name;
}

bool digest_engine_select(enum digest_engine name)
{
    const struct engine *wanted = engine_if_present(name);
    if (wanted == NULL)
        return false;
    atomic_store_explicit(&chosen, wanted, memory_order_relaxed);
    return true;
}

__attribute__((constructor)) static void choose_engine(void)
{
    if (!digest_engine_select(DIGEST_SHA_NI))
        (void)digest_engine_select(DIGEST_ARMV8);
}

/* ---- the functions of digest.h ---- */

void digest_key_init(struct digest_key *key, const uint8_t block[DIGEST_BLOCK])
{
    memcpy(key->state, initial_state, sizeof key->state);
    engine()->blocks(key->state, block, 1);
}

void digest_id(const struct digest_key *key, const uint8_t id[DIGEST_ID_LENGTH], uint8_t out[DIGEST_SIZE])
{
    engine()->id(key->state, id, out);
}

void digest_text(const struct digest_key *key, const uint8_t *text, size_t length, uint8_t out[DIGEST_SIZE])
{
    const struct engine *used = engine();
    const size_t whole = length / DIGEST_BLOCK, rest = length % DIGEST_BLOCK;
    const size_t last = rest + 1 + 8 <= DIGEST_BLOCK ? 1 : 2;  /* blocks of the rest, the end mark and the length */
    const uint64_t bits = ((uint64_t)DIGEST_BLOCK + length) * 8;
    uint32_t state[8];
    uint8_t tail[2 * DIGEST_BLOCK] = {0};

    memcpy(state, key->state, sizeof state);
    if (whole > 0)
        used->blocks(state, text, whole);
    if (rest > 0)
        memcpy(tail, text + whole * DIGEST_BLOCK, rest);
    tail[rest] = END_MARK;
    store_be32(tail + last * DIGEST_BLOCK - 8, (uint32_t)(bits >> 32));
    store_be32(tail + last * DIGEST_BLOCK - 4, (uint32_t)bits);
    used->blocks(state, tail, last);
    for (unsigned i = 0; i < 8; i++)
        store_be32(out + 4 * i, state[i]);
    wipe(tail, sizeof tail);
    wipe(state, sizeof state);
}

static inline uint64_t load_u64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* The barrier hides from the compiler that only zero or not matters, so that it cannot stop at the first difference. */
bool digest_equal(const uint8_t a[DIGEST_SIZE], const uint8_t b[DIGEST_SIZE])
{
    uint64_t difference = load_u64(a) ^ load_u64(b);
    difference |= load_u64(a + 8) ^ load_u64(b + 8);
    difference |= load_u64(a + 16) ^ load_u64(b + 16);
    difference |= load_u64(a + 24) ^ load_u64(b + 24);
    __asm__("" : "+r"(difference));
    return difference == 0;
}

typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));

/* All-ones in each byte that is a character of an id. Setting bit 5 maps upper case to lower case, and no byte that is
 * not a letter to one; a byte below the range wraps round to a value beyond it. */
static inline sixteen_bytes id_characters(const uint8_t *text)
{
    sixteen_bytes bytes;
    memcpy(&bytes, text, sizeof bytes);
    return (sixteen_bytes)(((bytes | 0x20) - 'a' < 26) | (bytes - '0' < 10) | (bytes == '-') | (bytes == '_'));
}

bool digest_id_wellformed(const uint8_t *text, size_t length)
{
    if (length != DIGEST_ID_LENGTH)
        return false;
    sixteen_bytes both = id_characters(text) & id_characters(text + 16);
    uint64_t half[2];
    memcpy(half, &both, sizeof half);
    return (half[0] & half[1]) == UINT64_MAX;
}
