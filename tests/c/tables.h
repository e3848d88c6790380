/* tables.h - what the tests of whole tables share: opening one, ids, contents, findings of a check.
 *
 * A table of open_table() is the same in every run: its owners' key is fixed, so that a failure can be repeated.
 */
#ifndef SESSILE_TESTS_TABLES_H
#define SESSILE_TESTS_TABLES_H

#include "check.h"
#include "table.h"

#include <string.h>

#define MINUTES(n) ((int64_t)(n) * 60000)
#define HOURS(n) MINUTES((n) * 60)

__attribute__((unused)) static const uint8_t test_keys[2][SESSILE_KEY_SIZE] = {{1, 2, 3}, {4, 5, 6}};
__attribute__((unused)) static const struct sessile_policy test_policy = {
    .owned_idle_ms = MINUTES(30), .owned_absolute_ms = HOURS(8), .anonymous_idle_ms = MINUTES(30),
    .anonymous_absolute_ms = HOURS(8), .sessions_per_owner = 0, .fields_max = SESSILE_FIELDS_MAX,
};
__attribute__((unused)) static const struct sessile_call waits = {.wait_ms = 5000};
__attribute__((unused)) static const struct sessile_call at_once = {.wait_ms = 0};

__attribute__((unused)) static struct sessile_options test_options(uint64_t capacity, uint64_t memory, double share)
{
    return (struct sessile_options){.capacity = capacity, .memory = memory, .anonymous_share = share, .keys = test_keys,
                                    .key_count = 1, .policy = test_policy};
}

__attribute__((unused)) static struct sessile *open_options(const struct sessile_options *options)
{
    struct sessile *table;
    struct sessile_problem problem;
    enum sessile_status status = sessile_open(options, &table, &problem);
    if (status != SESSILE_OK)
        fprintf(stderr, "sessile_open: %s, %s, errno %d, wanted %llu, found %llu\n", sessile_status_name(status),
                problem.operation ? problem.operation : "-", problem.error, (unsigned long long)problem.wanted,
                (unsigned long long)problem.found);
    CHECK(status == SESSILE_OK);
    return table;
}

__attribute__((unused)) static struct sessile *open_table(uint64_t capacity, uint64_t memory, double share)
{
    static const uint8_t owners[DIGEST_BLOCK] = {7, 7, 7};
    struct sessile_options options = test_options(capacity, memory, share);
    struct sessile *table = open_options(&options);
    digest_key_init(&table->keys->owner, owners);
    return table;
}

/* Memory of this process only, which nothing else can attach to? */
__attribute__((unused)) static bool home_is_private(void)
{
    struct sessile *table = open_table(100, SESSILE_MEMORY_MIN, 0.5);
    bool is = table->arena.home.descriptor < 0;
    sessile_close(table);
    return is;
}

/* The id with this number: 32 characters, each number another id. */
__attribute__((unused)) static const char *id_of(uint64_t number, char id[SESSILE_ID_LENGTH + 1])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t state = number, bits = number;
    for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++) {
        if (i >= 11)
            bits = check_random(&state);
        id[i] = letters[bits & 63];
        bits >>= 6;
    }
    id[SESSILE_ID_LENGTH] = 0;
    return id;
}

__attribute__((unused)) static const uint8_t *digest_of(const struct sessile *table, uint64_t number, uint8_t digest[32])
{
    char id[SESSILE_ID_LENGTH + 1];
    CHECK(sessile_digest(table, 0, id_of(number, id), SESSILE_ID_LENGTH, digest));
    return digest;
}

/* The first number from *next on whose id belongs to a shard; *next goes behind it. */
__attribute__((unused)) static uint64_t id_in_shard(const struct sessile *table, uint32_t shard, uint64_t *next)
{
    uint8_t digest[32];
    while (shard_number(table, digest_of(table, *next, digest)) != shard)
        ++*next;
    return (*next)++;
}

__attribute__((unused)) static struct sessile_content content_of(const char *owner, const void *fields, size_t length)
{
    return (struct sessile_content){.owner = (const uint8_t *)owner, .owner_length = owner ? (uint32_t)strlen(owner) : 0,
                                    .fields = fields, .fields_length = (uint32_t)length, .idle_ms = SESSILE_DEFAULT,
                                    .absolute_ms = SESSILE_DEFAULT};
}

__attribute__((unused)) static enum sessile_status create_with(struct sessile *table, const struct sessile_call *call,
                                                               uint64_t number, const struct sessile_content *content,
                                                               struct sessile_session *session)
{
    char id[SESSILE_ID_LENGTH + 1];
    return sessile_create(table, call, id_of(number, id), content, session);
}

/* A session of `length` bytes of fields, all of them the letter x; owner NULL: anonymous. */
__attribute__((unused)) static enum sessile_status create(struct sessile *table, uint64_t number, const char *owner,
                                                          size_t length, struct sessile_session *session)
{
    static uint8_t fields[SESSILE_FIELDS_MAX];
    if (fields[0] == 0)
        memset(fields, 'x', sizeof fields);
    struct sessile_content content = content_of(owner, fields, length);
    return create_with(table, &waits, number, &content, session);
}

__attribute__((unused)) static enum sessile_status load(struct sessile *table, uint64_t number, unsigned flags,
                                                        struct sessile_session *session)
{
    static _Thread_local uint8_t buffer[SESSILE_FIELDS_MAX + SESSILE_DEVICE_MAX + SESSILE_OWNER_MAX];
    char id[SESSILE_ID_LENGTH + 1];
    return sessile_load(table, &waits, id_of(number, id), SESSILE_ID_LENGTH, flags, session, buffer, sizeof buffer);
}

__attribute__((unused)) static struct sessile_reference reference_to(const struct sessile_session *session,
                                                                     const char *owner)
{
    struct sessile_reference reference = {.handle = session->handle, .rotates = session->rotates,
                                          .owner = (const uint8_t *)owner,
                                          .owner_length = owner ? (uint32_t)strlen(owner) : 0};
    memcpy(reference.digest, session->digest, sizeof reference.digest);
    return reference;
}

__attribute__((unused)) static enum sessile_status update(struct sessile *table, const struct sessile_session *session,
                                                          const char *owner, size_t length, struct sessile_session *result)
{
    static uint8_t fields[SESSILE_FIELDS_MAX];
    struct sessile_reference reference = reference_to(session, owner);
    struct sessile_content content = content_of(NULL, fields, length);
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    return sessile_update(table, &waits, &reference, session->version, 0, &content, result);
}

__attribute__((unused)) static enum sessile_status rotate(struct sessile *table, const struct sessile_session *session,
                                                          const char *owner, enum sessile_rotation how, uint64_t number,
                                                          struct sessile_session *result)
{
    static const uint8_t nonce[SESSILE_NONCE_SIZE] = {9};
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_reference reference = reference_to(session, owner);
    struct sessile_content content = content_of(owner, "fields", 6);
    return sessile_rotate(table, &waits, &reference, session->version, how, id_of(number, id),
                          how == SESSILE_RENEW ? nonce : NULL, how == SESSILE_LOGIN ? &content : NULL, result);
}

/* ---- findings ---- */

#define FINDINGS_KEPT 100u

struct findings {
    unsigned count;
    char text[FINDINGS_KEPT][200];
};

__attribute__((unused)) static void note_finding(void *context, const char *finding)
{
    struct findings *findings = context;
    if (findings->count < FINDINGS_KEPT)
        snprintf(findings->text[findings->count], sizeof findings->text[0], "%s", finding);
    findings->count++;
}

__attribute__((unused)) static void find(struct sessile *table, bool repair, struct findings *findings)
{
    uint64_t count;
    memset(findings, 0, sizeof *findings);
    CHECK(sessile_check(table, &waits, repair, note_finding, findings, &count) == SESSILE_OK);
    CHECK(count == findings->count);
}

/* Is there a finding of the invariant with this name, such as "S3"? */
__attribute__((unused)) static bool names(const struct findings *findings, const char *invariant)
{
    for (unsigned i = 0; i < findings->count && i < FINDINGS_KEPT; i++)
        if (strstr(findings->text[i], invariant))
            return true;
    return false;
}

__attribute__((unused)) static void print_findings(const struct findings *findings)
{
    for (unsigned i = 0; i < findings->count && i < FINDINGS_KEPT; i++)
        fprintf(stderr, "finding: %s\n", findings->text[i]);
}

#define CHECK_CLEAN(table)                  \
    do {                                    \
        struct findings found;              \
        find(table, false, &found);         \
        if (found.count)                    \
            print_findings(&found);         \
        CHECK(found.count == 0);            \
    } while (0)

#endif
