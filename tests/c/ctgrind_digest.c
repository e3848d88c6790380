/* ctgrind_digest.c - STO-02: the comparison of digests, the digest of an id and the check of its form do not branch on
 * what they read and do not use it as an address.
 *
 * Memcheck follows undefined bits and reports each conditional jump and each address that depends on one. So the
 * operands are marked undefined: an error that valgrind reports is a dependence of the time on a secret. Run by
 * tests/test_constant_time.py, once for each of these arguments:
 *
 *     equal        digest_equal()
 *     id           digest_id(), key and id undefined
 *     form         digest_id_wellformed()
 *     early-exit   a comparison that stops at the first difference: valgrind must report it, or nothing here is proved
 *
 * Results are declared defined before they are checked. Status 77: not run under valgrind, nothing is proved. Without
 * -DCTGRIND this file is empty, so that nothing else needs valgrind's header.
 */
#include "digest.h"

#ifdef CTGRIND
#include "check.h"

#include <string.h>
#include <valgrind/memcheck.h>

static bool early_exit_equal(const uint8_t a[DIGEST_SIZE], const uint8_t b[DIGEST_SIZE])
{
    for (unsigned i = 0; i < DIGEST_SIZE; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static bool defined(bool result)
{
    VALGRIND_MAKE_MEM_DEFINED(&result, sizeof result);
    return result;
}

static void compare(bool (*equal)(const uint8_t *, const uint8_t *))
{
    for (unsigned place = 0; place <= DIGEST_SIZE; place++) {
        uint8_t a[DIGEST_SIZE], b[DIGEST_SIZE];
        memset(a, 0x5a, sizeof a);
        memset(b, 0x5a, sizeof b);
        if (place < DIGEST_SIZE)
            b[place] ^= 1;
        VALGRIND_MAKE_MEM_UNDEFINED(a, sizeof a);
        VALGRIND_MAKE_MEM_UNDEFINED(b, sizeof b);
        CHECK(defined(equal(a, b)) == (place == DIGEST_SIZE));
    }
}

static void digest_one_id(void)
{
    struct digest_key key;
    uint8_t block[DIGEST_BLOCK], id[DIGEST_ID_LENGTH], first[DIGEST_SIZE], second[DIGEST_SIZE];
    memset(block, 'k', sizeof block);
    memset(id, 'i', sizeof id);
    digest_key_init(&key, block);
    digest_id(&key, id, first);
    VALGRIND_MAKE_MEM_UNDEFINED(block, sizeof block);
    VALGRIND_MAKE_MEM_UNDEFINED(id, sizeof id);
    digest_key_init(&key, block);
    digest_id(&key, id, second);
    VALGRIND_MAKE_MEM_DEFINED(second, sizeof second);
    CHECK(memcmp(first, second, sizeof first) == 0);
}

static void check_form(void)
{
    for (unsigned place = 0; place <= DIGEST_ID_LENGTH; place++) {
        uint8_t id[DIGEST_ID_LENGTH];
        memset(id, 'a', sizeof id);
        if (place < DIGEST_ID_LENGTH)
            id[place] = '/';
        VALGRIND_MAKE_MEM_UNDEFINED(id, sizeof id);
        CHECK(defined(digest_id_wellformed(id, sizeof id)) == (place == DIGEST_ID_LENGTH));
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    if (!RUNNING_ON_VALGRIND)
        return 77;
    if (strcmp(mode, "equal") == 0)
        compare(digest_equal);
    else if (strcmp(mode, "early-exit") == 0)
        compare(early_exit_equal);
    else if (strcmp(mode, "id") == 0)
        digest_one_id();
    else if (strcmp(mode, "form") == 0)
        check_form();
    else
        check_failed(__FILE__, __LINE__, __func__, "one argument: equal, id, form or early-exit");
    check_passed++;
    return check_summary();
}
#endif
