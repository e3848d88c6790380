/* crc32c.c - CRC-32C, three engines.
 *
 * The checksum is the remainder of the message, as a polynomial over GF(2), with bits reflected: bit 31 of the register
 * is x^0. A register starts and ends inverted, so that leading and trailing zeros count; crc32c() inverts, an engine
 * works on the bare register.
 *
 * The hardware engines take eight bytes an instruction. The portable one takes eight bytes a step too ("slicing"): the
 * remainder is linear, so the remainder of eight bytes is the exclusive or of eight remainders, one for each byte with
 * as many zero bytes behind it as it has neighbours. remainder_of[z][b] is that of byte b before z zero bytes.
 *
 * Choice of the engine: as in digest.c. A constructor stores a pointer to constant data; before that it names the
 * portable engine.
 */
#include "crc32c.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#define HAVE_SSE42 1
#include <cpuid.h>
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__) && (!defined(__clang__) || __clang_major__ >= 16)
#define HAVE_ARMV8 1
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

_Static_assert(sizeof(void *) == 8, "64-bit only");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian only");

struct engine {
    enum crc32c_engine name;
    uint32_t (*update)(uint32_t crc, const uint8_t *data, size_t length);
};

static inline uint64_t load_u64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* ---- portable ---- */

/* The 256 remainders of a table follow from those of the eight bytes with one bit set, which are its arguments: that of
 * bit 0 is `a`, of bit 7 is `h`. Macros, because only they make constant tables. */
#define BIT(byte, bit, remainder) (((byte) >> (bit) & 1u) * (remainder))
#define ONE(i, a, b, c, d, e, f, g, h)                                \
    (BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d)        \
     ^ BIT(i, 4, e) ^ BIT(i, 5, f) ^ BIT(i, 6, g) ^ BIT(i, 7, h))
#define FOUR(i, ...)                                                  \
    ONE(i, __VA_ARGS__), ONE((i) + 1u, __VA_ARGS__),                  \
    ONE((i) + 2u, __VA_ARGS__), ONE((i) + 3u, __VA_ARGS__)
#define SIXTEEN(i, ...)                                               \
    FOUR(i, __VA_ARGS__), FOUR((i) + 4u, __VA_ARGS__),                \
    FOUR((i) + 8u, __VA_ARGS__), FOUR((i) + 12u, __VA_ARGS__)
#define SIXTY_FOUR(i, ...)                                            \
    SIXTEEN(i, __VA_ARGS__), SIXTEEN((i) + 16u, __VA_ARGS__),         \
    SIXTEEN((i) + 32u, __VA_ARGS__), SIXTEEN((i) + 48u, __VA_ARGS__)
#define TABLE(...)                                                    \
    {SIXTY_FOUR(0u, __VA_ARGS__), SIXTY_FOUR(64u, __VA_ARGS__),       \
     SIXTY_FOUR(128u, __VA_ARGS__), SIXTY_FOUR(192u, __VA_ARGS__)}

static const uint32_t remainder_of[8][256] = {
    TABLE(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    TABLE(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    TABLE(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    TABLE(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
    TABLE(0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u, 0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu),
    TABLE(0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu, 0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u),
    TABLE(0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u, 0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u),
    TABLE(0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau, 0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u),
};

static uint32_t portable_update(uint32_t crc, const uint8_t *data, size_t length)
{
    for (; length >= 8; length -= 8, data += 8) {
        uint64_t word = load_u64(data) ^ crc;
        crc = remainder_of[7][word & 0xff] ^ remainder_of[6][word >> 8 & 0xff]
            ^ remainder_of[5][word >> 16 & 0xff] ^ remainder_of[4][word >> 24 & 0xff]
            ^ remainder_of[3][word >> 32 & 0xff] ^ remainder_of[2][word >> 40 & 0xff]
            ^ remainder_of[1][word >> 48 & 0xff] ^ remainder_of[0][word >> 56];
    }
    for (; length > 0; length--, data++)
        crc = crc >> 8 ^ remainder_of[0][(crc ^ *data) & 0xff];
    return crc;
}

/* ---- x86-64 with SSE 4.2 ---- */

#ifdef HAVE_SSE42
__attribute__((target("sse4.2,crc32"))) static uint32_t sse42_update(uint32_t crc, const uint8_t *data, size_t length)
{
    uint64_t wide = crc;
    for (; length >= 8; length -= 8, data += 8)
        wide = _mm_crc32_u64(wide, load_u64(data));
    crc = (uint32_t)wide;
    for (; length > 0; length--, data++)
        crc = _mm_crc32_u8(crc, *data);
    return crc;
}

static bool sse42_present(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_SSE4_2) != 0;
}
#endif

/* ---- AArch64 with CRC instructions ---- */

#ifdef HAVE_ARMV8
__attribute__((target("+crc"))) static uint32_t armv8_update(uint32_t crc, const uint8_t *data, size_t length)
{
    for (; length >= 8; length -= 8, data += 8)
        crc = __crc32cd(crc, load_u64(data));
    for (; length > 0; length--, data++)
        crc = __crc32cb(crc, *data);
    return crc;
}

static bool armv8_present(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#endif

/* ---- choice of the engine ---- */

static const struct engine portable_engine = {CRC32C_PORTABLE, portable_update};
static _Atomic(const struct engine *) chosen = &portable_engine;

static const struct engine *engine_if_present(enum crc32c_engine name)
{
    switch (name) {
    case CRC32C_PORTABLE:
        return &portable_engine;
    case CRC32C_SSE42: {
#ifdef HAVE_SSE42
        static const struct engine sse42_engine = {CRC32C_SSE42, sse42_update};
        return sse42_present() ? &sse42_engine : NULL;
#else
        return NULL;
#endif
    }
    case CRC32C_ARMV8: {
#ifdef HAVE_ARMV8
        static const struct engine armv8_engine = {CRC32C_ARMV8, armv8_update};
        return armv8_present() ? &armv8_engine : NULL;
#else
        return NULL;
#endif
    }
    case CRC32C_ENGINE_COUNT:
        return NULL;
    }
    return NULL;
}

static inline const struct engine *engine(void)
{
    return atomic_load_explicit(&chosen, memory_order_relaxed);
}

enum crc32c_engine crc32c_engine(void)
{
    return engine()->name;
}

bool crc32c_engine_select(enum crc32c_engine name)
{
    const struct engine *wanted = engine_if_present(name);
    if (wanted == NULL)
        return false;
    atomic_store_explicit(&chosen, wanted, memory_order_relaxed);
    return true;
}

__attribute__((constructor)) static void choose_engine(void)
{
    if (!crc32c_engine_select(CRC32C_SSE42))
        (void)crc32c_engine_select(CRC32C_ARMV8);
}

/* ---- the function of crc32c.h ---- */

uint32_t crc32c(uint32_t seed_crc, const void *data, size_t length)
{
    return ~engine()->update(~seed_crc, data, length);
}
