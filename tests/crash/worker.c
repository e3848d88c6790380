/* worker.c - see oracle.h: the operations of one process, and their check against what is written down. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "oracle.h"

struct me {
    struct oracle *oracle;
    struct worker *worker;
    struct sessile *table;
    struct sessile_call call;
    uint32_t number;
    uint64_t random;
    char owner[16];
    uint8_t buffer[FIELDS_MAX + 2048], fields[FIELDS_MAX + 64];
};

uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

void violation(struct oracle *oracle, const char *format, ...)
{
    va_list arguments;
    atomic_fetch_add(&oracle->violations, 1);
    if (atomic_exchange(&oracle->told, 1))
        return;
    va_start(arguments, format);
    vsnprintf(oracle->first, sizeof oracle->first, format, arguments);
    va_end(arguments);
}

/* ---- what follows from a key and a value ---- */

static uint64_t mix(const struct oracle *oracle, uint32_t worker, uint32_t key, uint64_t value)
{
    uint64_t state = oracle->seed ^ (uint64_t)worker << 56 ^ (uint64_t)key << 48 ^ value;
    return next_random(&state);
}

static void id_of(const struct oracle *oracle, uint32_t worker, uint32_t key, uint64_t value, char id[SESSILE_ID_LENGTH])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t state = mix(oracle, worker, key, value);
    for (unsigned i = 0; i < SESSILE_ID_LENGTH; i++)
        id[i] = alphabet[next_random(&state) & 63];
}

/* Mostly small, sometimes of any class, rarely beyond them. */
static uint32_t fields_of(const struct oracle *oracle, uint32_t worker, uint32_t key, uint64_t value, uint8_t *fields)
{
    uint64_t state = mix(oracle, worker, key, value) ^ 0x5a5a;
    uint64_t choice = next_random(&state);
    uint32_t length = 24 + (uint32_t)(choice >> 8) % (choice % 16 == 0 ? FIELDS_MAX - 24 : choice % 4 == 0 ? 1500 : 300);
    uint64_t facts[3] = {worker, key, value};
    memcpy(fields, facts, sizeof facts);
    for (uint32_t i = sizeof facts; i < length; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(fields + i, &word, 8);
    }
    return length;
}

/* ---- looking ---- */

struct seen {
    enum sessile_status status;
    uint64_t value;
    bool sound, forwarded, owned;
    struct sessile_session session;
};

static bool is_sound(struct me *me, uint32_t worker, uint32_t key, struct seen *seen)
{
    uint64_t facts[3];
    const struct sessile_session *session = &seen->session;
    const uint8_t *fields = me->buffer + session->owner_length + session->device_length;
    if (session->fields_length < sizeof facts)
        return false;
    memcpy(facts, fields, sizeof facts);
    seen->value = facts[2];
    uint32_t length = fields_of(me->oracle, worker, key, facts[2], me->fields);
    return facts[0] == worker && facts[1] == key && length == session->fields_length &&
           memcmp(me->fields, fields, length) == 0;
}

static struct seen look(struct me *me, uint32_t worker, uint32_t key, uint64_t id_value, unsigned flags)
{
    char id[SESSILE_ID_LENGTH];
    struct seen seen = {0};
    id_of(me->oracle, worker, key, id_value, id);
    do
        seen.status = sessile_load(me->table, &me->call, id, sizeof id, flags, &seen.session, me->buffer, sizeof me->buffer);
    while (seen.status == SESSILE_BUSY);
    if (seen.status != SESSILE_OK)
        return seen;
    seen.sound = is_sound(me, worker, key, &seen);
    seen.forwarded = (seen.session.flags & SESSILE_FORWARDED) != 0;
    seen.owned = (seen.session.flags & SESSILE_OWNED) != 0;
    if (!seen.sound)
        violation(me->oracle, "worker %u key %u: its fields are those of nothing that was ever stored", worker, key);
    return seen;
}

static bool gone(enum sessile_status status)
{
    return status == SESSILE_MISS || status == SESSILE_RETIRED || status == SESSILE_THEFT || status == SESSILE_EXPIRED;
}

/* ---- after a kill ---- */

static struct key_state current(const struct key *key)
{
    return key->states[atomic_load(&key->word) & KEY_CURRENT];
}

static bool is_revoked(const struct worker *worker, const struct key_state *state)
{
    return state->owned && state->epoch < atomic_load(&worker->revoked);
}

static bool holds(struct me *me, uint32_t number, const struct key_state *state)
{
    struct seen seen = look(me, me->number, number, state->id_value, 0);
    if (!state->present || is_revoked(me->worker, state))
        return gone(seen.status);
    return seen.status == SESSILE_OK && seen.value == state->value && seen.owned == (state->owned != 0);
}

/* The id of a state that is not the key's must lead to nothing; after a renewal it may lead on for a while. */
static bool is_past(struct me *me, uint32_t number, const struct key_state *past, const struct key_state *now)
{
    if (past->value == 0 || past->id_value == now->id_value)
        return true;
    struct seen seen = look(me, me->number, number, past->id_value, 0);
    return gone(seen.status) || (now->forwards && seen.status == SESSILE_OK && seen.forwarded && seen.value == now->value);
}

static void settle_key(struct me *me, uint32_t number)
{
    struct key *key = &me->worker->keys[number];
    uint32_t word = atomic_load(&key->word);
    struct key_state is = key->states[word & KEY_CURRENT], next = key->states[~word & KEY_CURRENT];
    if (!(word & KEY_BEGUN)) {
        if (!holds(me, number, &is))
            violation(me->oracle, "worker %u key %u: value %" PRIu64 " was acknowledged and is not there", me->number, number,
                      is.value);
        return;
    }
    bool old = holds(me, number, &is) && is_past(me, number, &next, &is);
    bool new = holds(me, number, &next) && is_past(me, number, &is, &next);
    if (!old && !new)
        violation(me->oracle, "worker %u key %u: neither value %" PRIu64 " nor %" PRIu64, me->number, number, is.value,
                  next.value);
    atomic_store(&key->word, new ? (word ^ KEY_CURRENT) & KEY_CURRENT : word & KEY_CURRENT);
}

/* A revocation that was begun: all of the owner's sessions are gone, or none. Its next user finishes it. */
static void settle_revocation(struct me *me)
{
    struct worker *worker = me->worker;
    uint64_t count, listed = 0, lost = 0;
    size_t length;
    enum sessile_status status;
    if (atomic_load(&worker->revoking) == atomic_load(&worker->revoked))
        return;
    do
        status = sessile_owner_list(me->table, &me->call, (const uint8_t *)me->owner, (uint32_t)strlen(me->owner), me->buffer,
                                    0, &count, &length);
    while (status == SESSILE_BUSY);
    for (uint32_t number = 0; number < KEYS; number++) {
        struct key_state state = current(&worker->keys[number]);
        if (!state.present || !state.owned || is_revoked(worker, &state))
            continue;
        struct seen seen = look(me, me->number, number, state.id_value, 0);
        listed += seen.status == SESSILE_OK;
        lost += gone(seen.status);
    }
    if (listed && lost)
        violation(me->oracle, "worker %u: of a revocation's sessions %" PRIu64 " are gone, %" PRIu64 " are there", me->number,
                  lost, listed);
    if (lost)
        atomic_store(&worker->revoked, atomic_load(&worker->revoking));
    atomic_store(&worker->revoking, atomic_load(&worker->revoked));
}

static void begin_me(struct me *me, struct oracle *oracle, uint32_t number, struct sessile *table)
{
    memset(me, 0, sizeof *me);
    me->oracle = oracle;
    me->worker = &oracle->of[number];
    me->table = table;
    me->call.wait_ms = oracle->wait_ms;
    me->number = number;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    me->random = oracle->seed ^ (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec ^ number;
    snprintf(me->owner, sizeof me->owner, "owner %u", number);
}

void settle_all(struct oracle *oracle, uint32_t number, struct sessile *table)
{
    static _Thread_local struct me me;
    begin_me(&me, oracle, number, table);
    settle_revocation(&me);
    for (uint32_t key = 0; key < KEYS; key++)
        settle_key(&me, key);
}

/* ---- operations ---- */

static struct key_state *begin(struct key *key, const struct key_state *next)
{
    uint32_t word = atomic_load(&key->word) & KEY_CURRENT;
    key->states[word ^ KEY_CURRENT] = *next;
    atomic_store(&key->word, word | KEY_BEGUN);
    return &key->states[word ^ KEY_CURRENT];
}

static void end(struct me *me, struct key *key, enum sessile_status status, const char *what)
{
    uint32_t word = atomic_load(&key->word) & KEY_CURRENT;
    atomic_store(&key->word, status == SESSILE_OK ? word ^ KEY_CURRENT : word);
    if (status == SESSILE_OK)
        return;
    if (status == SESSILE_BUSY && me->oracle->may_be_busy)
        atomic_fetch_add(&me->worker->busy, 1);
    else
        violation(me->oracle, "worker %u: %s answered %s", me->number, what, sessile_status_name(status));
}

static struct sessile_content content_of(struct me *me, uint32_t number, const struct key_state *state)
{
    struct sessile_content content = {.fields = me->fields};
    content.fields_length = fields_of(me->oracle, me->number, number, state->value, me->fields);
    if (state->owned) {
        content.owner = (const uint8_t *)me->owner;
        content.owner_length = (uint32_t)strlen(me->owner);
    }
    return content;
}

static struct sessile_reference reference_to(struct me *me, const struct seen *seen)
{
    struct sessile_reference reference = {.handle = seen->session.handle, .rotates = seen->session.rotates};
    memcpy(reference.digest, seen->session.digest, sizeof reference.digest);
    if (seen->owned) {
        reference.owner = (const uint8_t *)me->owner;
        reference.owner_length = (uint32_t)strlen(me->owner);
    }
    return reference;
}

static void create(struct me *me, uint32_t number, struct key_state next)
{
    struct key *key = &me->worker->keys[number];
    struct sessile_session session;
    char id[SESSILE_ID_LENGTH];
    next.present = 1;
    next.owned = next_random(&me->random) & 1;
    next.id_value = next_random(&me->random);
    next.forwards = 0;
    next.epoch = atomic_load(&me->worker->revoked);
    begin(key, &next);
    id_of(me->oracle, me->number, number, next.id_value, id);
    struct sessile_content content = content_of(me, number, &next);
    end(me, key, sessile_create(me->table, &me->call, id, &content, &session), "create");
}

static void update(struct me *me, uint32_t number, struct key_state next, const struct seen *seen)
{
    struct key *key = &me->worker->keys[number];
    struct sessile_reference reference = reference_to(me, seen);
    struct sessile_session session = seen->session;
    enum sessile_status status;
    begin(key, &next);
    struct sessile_content content = content_of(me, number, &next);
    content.idle_ms = content.absolute_ms = SESSILE_KEEP;
    for (;;) {
        status = sessile_update(me->table, &me->call, &reference, session.version, SESSILE_TOUCH, &content, &session);
        if (status != SESSILE_CHANGED)
            break;
        /* It was moved. */
        if (sessile_read(me->table, &me->call, &reference, 0, &session, NULL, 0) != SESSILE_OK)
            break;
    }
    end(me, key, status, "update");
}

static void destroy(struct me *me, uint32_t number, struct key_state next, const struct seen *seen)
{
    struct key *key = &me->worker->keys[number];
    struct sessile_reference reference = reference_to(me, seen);
    next.present = 0;
    begin(key, &next);
    end(me, key, sessile_remove(me->table, &me->call, &reference, SESSILE_DESTROYED), "remove");
}

static void rotate(struct me *me, uint32_t number, struct key_state next, struct seen *seen)
{
    struct key *key = &me->worker->keys[number];
    struct sessile_reference reference = reference_to(me, seen);
    struct sessile_session session;
    enum sessile_rotation how = (enum sessile_rotation)(next_random(&me->random) % 3);
    char id[SESSILE_ID_LENGTH];
    uint8_t nonce[SESSILE_NONCE_SIZE];
    enum sessile_status status;
    if (how == SESSILE_RENEW && (!seen->owned || !(seen->session.flags & SESSILE_PROVEN)))
        how = SESSILE_ROTATE;
    next.id_value = next_random(&me->random);
    next.forwards = how == SESSILE_RENEW;
    if (how == SESSILE_RENEW)
        next.value = seen->value;    /* a renewal keeps the fields */
    if (how == SESSILE_LOGIN) {
        next.owned = 1;
        next.epoch = atomic_load(&me->worker->revoked);
    }
    begin(key, &next);
    id_of(me->oracle, me->number, number, next.id_value, id);
    memset(nonce, 7, sizeof nonce);
    struct sessile_content content = content_of(me, number, &next);
    do
        status = sessile_rotate(me->table, &me->call, &reference, seen->session.version, how, id,
                                how == SESSILE_RENEW ? nonce : NULL, how == SESSILE_RENEW ? NULL : &content, &session);
    while (status == SESSILE_CHANGED &&
           sessile_read(me->table, &me->call, &reference, 0, &seen->session, NULL, 0) == SESSILE_OK);
    end(me, key, status, "rotate");
    if (status == SESSILE_OK)
        (void)look(me, me->number, number, next.id_value, SESSILE_PRESENT);
}

static void revoke(struct me *me)
{
    struct worker *worker = me->worker;
    uint64_t count;
    enum sessile_status status;
    atomic_store(&worker->revoking, atomic_load(&worker->revoked) + 1);
    do
        status = sessile_owner_revoke(me->table, &me->call, (const uint8_t *)me->owner, (uint32_t)strlen(me->owner), 0, 0,
                                      &count);
    while (status == SESSILE_BUSY);
    if (status == SESSILE_OK)
        atomic_store(&worker->revoked, atomic_load(&worker->revoking));
    else
        violation(me->oracle, "worker %u: revoke answered %s", me->number, sessile_status_name(status));
}

/* A key of another worker: what was acknowledged before must be there, or its worker began something meanwhile. */
static void read_other(struct me *me)
{
    uint32_t other = (uint32_t)(next_random(&me->random) % me->oracle->workers);
    uint32_t number = (uint32_t)(next_random(&me->random) % KEYS);
    const struct worker *worker = &me->oracle->of[other];
    const struct key *key = &worker->keys[number];
    uint32_t word = atomic_load(&key->word);
    uint64_t revoking = atomic_load(&worker->revoking);
    struct key_state state = key->states[word & KEY_CURRENT];
    if (word & KEY_BEGUN || !state.present || revoking != atomic_load(&worker->revoked) || is_revoked(worker, &state) ||
        atomic_load(&key->word) != word)
        return;
    struct seen seen = look(me, other, number, state.id_value, SESSILE_TOUCH);
    if (atomic_load(&key->word) != word || atomic_load(&worker->revoking) != revoking ||
        key->states[word & KEY_CURRENT].value != state.value)
        return;
    if (seen.status != SESSILE_OK || seen.value != state.value)
        violation(me->oracle, "worker %u reads key %u of %u: %s, value %" PRIu64 ", should be %" PRIu64, me->number, number,
                  other, sessile_status_name(seen.status), seen.value, state.value);
}

static void tend(struct me *me)
{
    uint64_t count, choice = next_random(&me->random) % 8;
    size_t length;
    if (choice == 0)
        revoke(me);
    else if (choice < 3 && sessile_sweep(me->table, &me->call, 10, &count) == SESSILE_BUSY)
        atomic_fetch_add(&me->worker->busy, 1);
    else if (choice == 3 &&
             sessile_scan(me->table, &me->call, (uint32_t)(next_random(&me->random) % 8), me->buffer, sizeof me->buffer,
                          &count, &length) == SESSILE_BUSY)
        atomic_fetch_add(&me->worker->busy, 1);
    else if (sessile_owner_list(me->table, &me->call, (const uint8_t *)me->owner, (uint32_t)strlen(me->owner), me->buffer,
                                sizeof me->buffer, &count, &length) == SESSILE_BUSY)
        atomic_fetch_add(&me->worker->busy, 1);
}

static void one_operation(struct me *me)
{
    uint32_t number = (uint32_t)(next_random(&me->random) % KEYS), choice = (uint32_t)(next_random(&me->random) % 100);
    struct key_state state = current(&me->worker->keys[number]), next = state;
    next.value = state.value + 1;
    if (choice < 30) {
        read_other(me);
        return;
    }
    if (choice < 32) {
        tend(me);
        return;
    }
    if (!state.present || is_revoked(me->worker, &state)) {
        create(me, number, next);
        return;
    }
    struct seen seen = look(me, me->number, number, state.id_value, SESSILE_TOUCH | SESSILE_PRESENT);
    if (seen.status != SESSILE_OK || seen.value != state.value) {
        violation(me->oracle, "worker %u key %u: %s, value %" PRIu64 ", should be %" PRIu64, me->number, number,
                  sessile_status_name(seen.status), seen.value, state.value);
        return;
    }
    if (choice < 65)
        update(me, number, next, &seen);
    else if (choice < 80)
        rotate(me, number, next, &seen);
    else if (choice < 86)
        destroy(me, number, next, &seen);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void work(struct oracle *oracle, uint32_t number, struct sessile *table)
{
    static _Thread_local struct me me;
    settle_all(oracle, number, table);
    begin_me(&me, oracle, number, table);
    while (!atomic_load(&oracle->stop)) {
        uint64_t began = now_us();
        one_operation(&me);
        uint64_t took = now_us() - began;
        atomic_fetch_add(&me.worker->operations, 1);
        if (took > atomic_load(&me.worker->worst_us))
            atomic_store(&me.worker->worst_us, took);
    }
}
