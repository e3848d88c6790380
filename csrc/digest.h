/* digest.h - the digest of an id, and the comparison of two digests.
 *
 * digest = SHA-256(64-byte key block, then the 32 characters of the id). The key fills one block of SHA-256 exactly, so
 * it is compressed once, when the key is set up, and each look-up costs one compression of one further block. The state
 * after the key block replaces the key: it is the secret, and its owner wipes it.
 *
 * Every function may be called from any thread, after fork() and from a signal handler: none takes a lock, allocates or
 * keeps a pointer. No function branches on a secret or uses one as an address.
 */
#ifndef SESSILE_DIGEST_H
#define SESSILE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32u       /* bytes */
#define DIGEST_BLOCK 64u      /* bytes of the key block: one block of SHA-256 */
#define DIGEST_ID_LENGTH 32u  /* characters of an id */

struct digest_key {
    uint32_t state[8];        /* of SHA-256 after the key block */
};

void digest_key_init(struct digest_key *key, const uint8_t block[DIGEST_BLOCK]);

/* SHA-256(key block, id) in exactly one compression. `out` may be `id`. */
void digest_id(const struct digest_key *key, const uint8_t id[DIGEST_ID_LENGTH], uint8_t out[DIGEST_SIZE]);

/* SHA-256(key block, text) for a text of fewer than 2^32 bytes; NULL is allowed when there are none. `out` may overlap
 * the text. What is copied of the text is wiped. */
void digest_text(const struct digest_key *key, const uint8_t *text, size_t length, uint8_t out[DIGEST_SIZE]);

/* Whether all 32 bytes are the same, in a time that depends on none of them. */
bool digest_equal(const uint8_t a[DIGEST_SIZE], const uint8_t b[DIGEST_SIZE]);

/* Whether the text has the form of an id: exactly 32 characters of [A-Za-z0-9_-]. Takes the same time for any 32 bytes,
 * and reads nothing of a text of another length. */
bool digest_id_wellformed(const uint8_t *text, size_t length);

/* The implementations of SHA-256's compression. The best that this processor has is chosen when the code is loaded. */
enum digest_engine {
    DIGEST_PORTABLE,
    DIGEST_SHA_NI,            /* x86-64 with the SHA extensions */
    DIGEST_ARMV8,             /* AArch64 with the SHA-2 instructions */
    DIGEST_ENGINE_COUNT
};

enum digest_engine digest_engine(void);

/* For tests: uses that engine in this process from now on; false, and nothing changed, if this machine lacks it. */
bool digest_engine_select(enum digest_engine engine);

#endif
