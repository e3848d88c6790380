/* test_model.c - random operations on a whole table against a naive model of it.
 *
 *     test_model [steps of a run] [seed]
 *
 * The model is an array of sessions with all that is known of them. Every answer of the table is compared with it, every
 * end of a session must have been reported with its last owner and fields, and every few steps sessile_check() must find
 * nothing. Geometries are tiny, so that everything fills, splits, moves and is evicted early. A failure prints the seed;
 * the same seed and steps repeat the run, but for where the host's clock falls between two milliseconds.
 */
#include "tables.h"

#include <stdarg.h>

#define OWNERS 10
#define KNOWN_MAX 12000u
#define RETIRED_MAX 4000u
#define SINK_SIZE (8u << 20)
#define BUFFER_SIZE (2u << 20)
#define CHECK_EVERY 8u
#define MANY_EVICTIONS 400u          /* a search for room that gave up may leave evictable sessions behind */

struct setting {                     /* one kind of run */
    const char *name;
    uint64_t capacity, memory;
    double share;
    uint32_t cap;
    uint32_t sizes[3];               /* largest fields: usual, sometimes, rare */
    unsigned owned_percent;
    unsigned steps_percent;
};

struct known {                       /* a session, as the model knows it */
    bool alive;
    int owner;                       /* -1: anonymous */
    uint64_t id;
    uint64_t seed;                   /* of device and fields */
    uint32_t fields_length, device_length;
    struct sessile_session facts;    /* as the table told them last */
    bool forwards;                   /* the id before the last renewal is `old_id` */
    uint64_t old_id;
    int64_t old_used, drain_until;   /* drain_until 0: the new id was not presented yet */
    uint8_t nonce[SESSILE_NONCE_SIZE];
};

struct gone_id {                     /* a retired id */
    uint64_t id;
    uint32_t shard;
    bool owned;
    bool loose;                      /* it may be anything but a session */
    int64_t since, forwards_until;
};

static struct {
    const struct setting *setting;
    struct sessile *table;
    struct sessile_sink sink;
    struct sessile_call call;
    uint64_t seed, random, step, next_id;
    unsigned count;                  /* of known[] */
    struct known *known;
    struct gone_id *gone;
    unsigned gone_count;
    uint64_t ended[SESSILE_REASON_COUNT], evicted_now;
    int64_t before, after;           /* around the last call */
    const struct known *retimed;     /* the last call may have given it deadlines that have passed */
} world;
static uint8_t *content_buffer, *load_buffer;

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s, seed %llu, step %llu: ", world.setting->name, (unsigned long long)world.seed,
            (unsigned long long)world.step);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(1);
}

#define EXPECT(condition, ...) ((condition) ? (void)0 : wrong(__VA_ARGS__))

static uint64_t below(uint64_t limit)
{
    return check_random(&world.random) % limit;
}

static bool chance(unsigned percent)
{
    return below(100) < percent;
}

/* ---- what a session holds ---- */

static const char *owner_name(int owner)
{
    static char names[OWNERS][300];
    if (owner < 0)
        return NULL;
    if (names[owner][0] == 0) {
        /* One owner has the longest name that is allowed. */
        size_t length = owner == OWNERS - 1 ? SESSILE_OWNER_MAX : 3 + (size_t)owner;
        memset(names[owner], 'a' + owner, length);
    }
    return names[owner];
}

static void pattern(uint64_t seed, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = check_random(&seed);
        memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
    }
}

static bool has_pattern(uint64_t seed, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = check_random(&seed);
        if (memcmp(bytes + i, &word, length - i < 8 ? length - i : 8) != 0)
            return false;
    }
    return true;
}

static uint32_t some_length(void)
{
    unsigned which = (unsigned)below(100);
    return (uint32_t)below(world.setting->sizes[which < 80 ? 0 : which < 97 ? 1 : 2] + 1);
}

static struct sessile_content some_content(const struct known *known)
{
    const char *name = owner_name(known->owner);
    struct sessile_content content = content_of(name, content_buffer + SESSILE_DEVICE_MAX, known->fields_length);
    pattern(known->seed, content_buffer + SESSILE_DEVICE_MAX, known->fields_length);
    if (known->device_length) {
        pattern(known->seed ^ 1, content_buffer, known->device_length);
        content.device = content_buffer;
        content.device_length = known->device_length;
    }
    return content;
}

static int64_t some_timeout(void)
{
    return chance(60) ? SESSILE_DEFAULT : (int64_t)(1000 + below((uint64_t)HOURS(3)));
}

/* ---- deadlines ---- */

static int64_t deadline(const struct known *known)
{
    const struct sessile_session *facts = &known->facts;
    return facts->idle_deadline_ms < facts->absolute_deadline_ms ? facts->idle_deadline_ms : facts->absolute_deadline_ms;
}

static bool was_due(const struct known *known)
{
    return deadline(known) <= world.before;
}

static bool is_due(const struct known *known)
{
    return deadline(known) <= world.after;
}

static void begin(void)
{
    world.evicted_now = 0;
    world.sink.used = 0;
    world.retimed = NULL;
    world.before = sessile_now(world.table);
}

/* ---- what is alive ---- */

static struct known *find_handle(uint64_t handle)
{
    for (unsigned i = 0; i < world.count; i++)
        if (world.known[i].alive && world.known[i].facts.handle == handle)
            return &world.known[i];
    return NULL;
}

static uint64_t count_alive(bool anonymous_only)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < world.count; i++)
        count += world.known[i].alive && (!anonymous_only || world.known[i].owner < 0);
    return count;
}

/* A random session, if possible one that is alive. */
static struct known *some_known(void)
{
    struct known *known = &world.known[below(world.count)];
    for (unsigned tries = 0; tries < 8 && !known->alive; tries++)
        known = &world.known[below(world.count)];
    return known;
}

static struct known *some_dead(void)
{
    for (unsigned tries = 0; tries < 200; tries++) {
        struct known *known = &world.known[below(world.count)];
        if (!known->alive)
            return known;
    }
    return NULL;
}

static void retire_id(uint64_t id, bool owned, bool loose, int64_t since, int64_t forwards_until)
{
    uint8_t digest[32];
    unsigned at = world.gone_count < RETIRED_MAX ? world.gone_count++ : (unsigned)below(RETIRED_MAX);
    world.gone[at] = (struct gone_id){.id = id, .owned = owned, .loose = loose, .since = since,
                                      .forwards_until = forwards_until,
                                      .shard = shard_number(world.table, digest_of(world.table, id, digest))};
}

/* The id before a renewal goes its own way from now on. */
static void let_old_go(struct known *known, bool may_forward)
{
    if (known->forwards)
        retire_id(known->old_id, true, true, world.after, may_forward ? known->drain_until : 0);
    known->forwards = false;
}

static void end(struct known *known)
{
    known->alive = false;
    let_old_go(known, false);
}

/* ---- reports ---- */

static void check_reported(const struct known *known, const struct sessile_report *report)
{
    const uint8_t *data = (const uint8_t *)(report + 1);
    const char *name = owner_name(known->owner);
    if (report->cut)
        return;
    EXPECT(report->owner_length == (name ? strlen(name) : 0) && report->fields_length == known->fields_length,
           "the report of an end has other lengths");
    EXPECT((!name || memcmp(data, name, report->owner_length) == 0) &&
           has_pattern(known->seed, data + report->owner_length, report->fields_length),
           "the report of an end has another owner or other fields");
}

/* The cap and the search for room end the session of the owner that was unused for longest. */
static void check_longest_unused(const struct known *ended, int64_t at_ms)
{
    for (unsigned i = 0; i < world.count; i++) {
        const struct known *other = &world.known[i];
        if (other->alive && other != ended && other->owner == ended->owner && deadline(other) > world.after)
            EXPECT(other->facts.last_used_ms >= ended->facts.last_used_ms,
                   "evicted one used at %lld, while one used at %lld stays", (long long)ended->facts.last_used_ms,
                   (long long)other->facts.last_used_ms);
    }
    EXPECT(deadline(ended) > world.before || deadline(ended) > at_ms, "a session past its deadline counted for the cap");
}

static void apply_report(const struct sessile_report *report, unsigned reasons, int own)
{
    struct known *known = find_handle(report->handle);
    EXPECT(known, "the end of an unknown session was reported, reason %u", report->reason);
    EXPECT(reasons >> report->reason & 1, "a session ended for reason %u", report->reason);
    EXPECT(report->at_ms >= world.before && report->at_ms <= world.after, "an end at another time");
    if ((report->reason == SESSILE_IDLE || report->reason == SESSILE_ABSOLUTE) && known != world.retimed) {
        bool absolute = known->facts.absolute_deadline_ms <= known->facts.idle_deadline_ms;
        EXPECT(report->at_ms >= deadline(known), "a session expired %lld ms early",
               (long long)(deadline(known) - report->at_ms));
        EXPECT((report->reason == SESSILE_ABSOLUTE) == absolute, "expired by the other deadline");
    }
    if (report->reason == SESSILE_EVICTED) {
        EXPECT(known->owner < 0 || known->owner == own, "somebody else's owned session was evicted");
        if (known->owner >= 0)
            check_longest_unused(known, report->at_ms);
        world.evicted_now++;
    }
    if (known != world.retimed)
        check_reported(known, report);
    world.ended[report->reason]++;
    end(known);
}

#define EXPIRIES (1u << SESSILE_IDLE | 1u << SESSILE_ABSOLUTE)
#define STORES (EXPIRIES | 1u << SESSILE_EVICTED)

/* Ends what the last call reported. `own`: whose owned sessions it may have evicted. */
static void finish(unsigned reasons, int own)
{
    world.after = sessile_now(world.table);
    for (size_t at = 0; at < world.sink.used;) {
        const struct sessile_report *report = (const void *)(world.sink.buffer + at);
        EXPECT(report->size >= sizeof *report && report->size % 8 == 0, "a report of %u bytes", report->size);
        at += report->size;
        apply_report(report, reasons, own);
    }
}

/* FULL is an answer only after all that may be evicted was: then no anonymous session is left but `except`. */
static void check_full(const struct known *except, int own)
{
    if (world.evicted_now >= MANY_EVICTIONS)
        return;
    for (unsigned i = 0; i < world.count; i++) {
        const struct known *known = &world.known[i];
        if (!known->alive || known == except)
            continue;
        EXPECT(known->owner >= 0, "FULL although an anonymous session could be evicted (%llu were)",
               (unsigned long long)world.evicted_now);
        EXPECT(known->owner != own || is_due(known), "FULL although the owner has a session that could be evicted");
        EXPECT(deadline(known) > world.before, "FULL although a session is past its deadline");
    }
}

/* ---- facts ---- */

static void check_facts(const struct known *known, const struct sessile_session *got, bool touches)
{
    const struct sessile_session *had = &known->facts;
    int64_t idle = had->idle_ms, used = had->last_used_ms;
    if (touches && got->now_ms - used >= idle / 64)
        used = got->now_ms;
    EXPECT(memcmp(got->digest, had->digest, 32) == 0 && got->handle == had->handle, "another session");
    EXPECT(got->version == had->version, "version %u, not %u", got->version, had->version);
    EXPECT(got->now_ms >= world.before && got->now_ms <= world.after, "read at another time");
    EXPECT(got->created_ms == had->created_ms && got->authenticated_ms == had->authenticated_ms &&
           got->issued_ms == had->issued_ms, "times of creation, log-in or issue differ");
    EXPECT(got->last_used_ms == used, "last used at %lld, not %lld (read at %lld, idle %lld)", (long long)got->last_used_ms,
           (long long)used, (long long)got->now_ms, (long long)idle);
    EXPECT(got->idle_ms == idle && got->idle_deadline_ms == used + idle &&
           got->absolute_deadline_ms == had->absolute_deadline_ms, "deadlines differ");
    EXPECT(got->owner_length == had->owner_length && got->device_length == had->device_length &&
           got->fields_length == had->fields_length, "lengths differ");
    EXPECT(got->rotations == had->rotations && got->rotates == had->rotates, "rotations differ");
    uint32_t lasting = SESSILE_OWNED | SESSILE_IDLE_IS_DEFAULT | SESSILE_ABSOLUTE_IS_DEFAULT;
    EXPECT((got->flags & lasting) == (had->flags & lasting), "flags %u, not %u", got->flags, had->flags);
}

static void learn(struct known *known, const struct sessile_session *got)
{
    known->facts = *got;
    known->facts.flags &= ~(unsigned)(SESSILE_FORWARDED | SESSILE_FIRST);
}

static void check_content(const struct known *known, const uint8_t *buffer)
{
    const char *name = owner_name(known->owner);
    size_t owner_length = name ? strlen(name) : 0;
    EXPECT((!name || memcmp(buffer, name, owner_length) == 0) &&
           has_pattern(known->seed ^ 1, buffer + owner_length, known->device_length) &&
           has_pattern(known->seed, buffer + owner_length + known->device_length, known->fields_length),
           "owner, device or fields differ");
}

/* Deadlines of a session that was given its timeouts at facts->now_ms. */
static void check_new_deadlines(const struct known *known, const struct sessile_session *got, int64_t idle, int64_t absolute)
{
    bool owned = known->owner >= 0;
    const struct sessile_policy *policy = &world.table->policy;
    int64_t idle_ms = idle ? idle : owned ? policy->owned_idle_ms : policy->anonymous_idle_ms;
    int64_t absolute_ms = absolute ? absolute : owned ? policy->owned_absolute_ms : policy->anonymous_absolute_ms;
    EXPECT(got->now_ms >= world.before && got->now_ms <= world.after, "made at another time");
    EXPECT(got->last_used_ms == got->now_ms, "a new session was not used just now");
    EXPECT(got->idle_ms >= idle_ms && got->idle_ms < idle_ms + RECORD_IDLE_STEP_MS, "another idle timeout");
    EXPECT(got->idle_deadline_ms == got->now_ms + got->idle_ms, "another idle deadline");
    EXPECT(got->absolute_deadline_ms == got->now_ms + absolute_ms, "another absolute deadline");
    EXPECT(((got->flags & SESSILE_IDLE_IS_DEFAULT) != 0) == (idle == 0) &&
           ((got->flags & SESSILE_ABSOLUTE_IS_DEFAULT) != 0) == (absolute == 0), "timeouts are not marked as given");
    EXPECT(((got->flags & SESSILE_OWNED) != 0) == owned, "owned or not");
}

/* ---- operations ---- */

static void check_cap(int owner)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.count; i++)
        count += world.known[i].alive && world.known[i].owner == owner && !was_due(&world.known[i]);
    EXPECT(world.setting->cap == 0 || owner < 0 || count <= world.setting->cap, "owner has %u sessions", count);
}

static void do_create(void)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct known *place = some_dead(), made = {.owner = chance(world.setting->owned_percent) ? (int)below(OWNERS) : -1};
    struct sessile_session got;
    if (!place)
        return;
    const struct known *twin = chance(2) ? some_known() : NULL;
    made.id = twin && twin->alive ? twin->id : world.next_id++;
    made.seed = check_random(&world.random);
    made.fields_length = some_length();
    made.device_length = chance(20) ? (uint32_t)below(chance(10) ? SESSILE_DEVICE_MAX + 1 : 60) : 0;
    struct sessile_content content = some_content(&made);
    content.idle_ms = some_timeout();
    content.absolute_ms = some_timeout();
    begin();
    enum sessile_status status = sessile_create(world.table, &world.call, id_of(made.id, id), &content, &got);
    finish(STORES, made.owner);
    if (twin && twin->alive) {
        EXPECT(status == SESSILE_EXISTS || status == SESSILE_FULL, "%s for an id in use", sessile_status_name(status));
        return;
    }
    if (status == SESSILE_FULL) {
        check_full(NULL, made.owner);
        return;
    }
    EXPECT(status == SESSILE_OK || (status == SESSILE_EXISTS && twin), "create: %s", sessile_status_name(status));
    if (status != SESSILE_OK)
        return;
    check_new_deadlines(&made, &got, content.idle_ms, content.absolute_ms);
    EXPECT(got.version == 1 && got.rotations == 0 && got.rotates == 0, "a new session is of version %u", got.version);
    learn(&made, &got);
    made.alive = true;
    *place = made;
    check_cap(made.owner);
}

static void expect_expired(struct known *known, const struct sessile_session *got)
{
    EXPECT(is_due(known), "EXPIRED %lld ms early", (long long)(deadline(known) - world.after));
    EXPECT(memcmp(got->digest, known->facts.digest, 32) == 0 && got->handle == known->facts.handle,
           "EXPIRED names another session");
    if (chance(50))
        return;
    begin();
    enum sessile_status status = sessile_collect(world.table, &world.call, got->digest);
    finish(EXPIRIES, -1);
    EXPECT(status == SESSILE_OK, "collect: %s", sessile_status_name(status));
    EXPECT(!known->alive, "a collected session was not reported");
}

/* A buffer that is too small changes nothing. */
static void try_short_buffer(const struct known *known, const char *id, unsigned flags)
{
    struct sessile_session got;
    size_t whole = known->facts.owner_length + known->facts.device_length + known->facts.fields_length;
    if (whole == 0 || !chance(10))
        return;
    begin();
    enum sessile_status status = sessile_load(world.table, &world.call, id, SESSILE_ID_LENGTH, flags, &got, load_buffer,
                                              below(whole));
    finish(0, -1);
    if (status == SESSILE_EXPIRED && is_due(known))
        return;
    EXPECT(status == SESSILE_BUFFER, "a short buffer: %s", sessile_status_name(status));
    EXPECT(got.fields_length == known->facts.fields_length && got.device_length == known->facts.device_length,
           "a short buffer is told other lengths");
}

static void load_own(struct known *known)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session got;
    unsigned flags = (unsigned)below(4);
    id_of(known->id, id);
    if (known->alive)
        try_short_buffer(known, id, flags);
    begin();
    enum sessile_status status = sessile_load(world.table, &world.call, id, SESSILE_ID_LENGTH, flags, &got, load_buffer,
                                              BUFFER_SIZE);
    finish(0, -1);
    if (!known->alive) {
        EXPECT(status == SESSILE_MISS, "%s for a session that ended", sessile_status_name(status));
        return;
    }
    if (status == SESSILE_EXPIRED) {
        expect_expired(known, &got);
        return;
    }
    EXPECT(status == SESSILE_OK && !was_due(known), "load: %s, %lld ms before its deadline", sessile_status_name(status),
           (long long)(deadline(known) - world.before));
    check_facts(known, &got, flags & SESSILE_TOUCH);
    check_content(known, load_buffer);
    bool first = flags & SESSILE_PRESENT && !(known->facts.flags & SESSILE_PROVEN);
    EXPECT(((got.flags & SESSILE_FIRST) != 0) == first, "flags %u: first presentation or not", got.flags);
    EXPECT(!(got.flags & SESSILE_FORWARDED) && got.key_index == 0, "found by its own id");
    EXPECT(((got.flags & SESSILE_PROVEN) != 0) == (first || known->facts.flags & SESSILE_PROVEN), "proven or not");
    if (first && known->forwards && known->drain_until == 0)
        known->drain_until = world.after + SHARD_DRAIN_MS;
    learn(known, &got);
}

/* By the id before the last renewal. */
static void load_old(struct known *known)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session got;
    unsigned flags = (unsigned)below(4);
    begin();
    enum sessile_status status = sessile_load(world.table, &world.call, id_of(known->old_id, id), SESSILE_ID_LENGTH, flags,
                                              &got, load_buffer, BUFFER_SIZE);
    finish(0, -1);
    int64_t old_deadline = known->old_used + known->facts.idle_ms;
    bool old_due = old_deadline <= world.after + 1000 || known->facts.absolute_deadline_ms <= world.after + 1000;
    if (known->drain_until && world.after + 1000 >= known->drain_until) {
        EXPECT(status == SESSILE_RETIRED || status == SESSILE_THEFT || status == SESSILE_MISS || status == SESSILE_OK,
               "an old id at the end of its drain: %s", sessile_status_name(status));
        EXPECT(status != SESSILE_OK || world.before < known->drain_until, "an old id forwards after its drain");
        EXPECT(status != SESSILE_THEFT || world.after >= known->drain_until + SHARD_LATE_MS - 1000, "a theft too early");
        if (status == SESSILE_OK)
            learn(known, &got);
        return;
    }
    if (status != SESSILE_OK) {
        EXPECT((status == SESSILE_EXPIRED || status == SESSILE_MISS) && (old_due || is_due(known)),
               "an id that forwards: %s", sessile_status_name(status));
        return;
    }
    check_facts(known, &got, flags & SESSILE_TOUCH);
    check_content(known, load_buffer);
    EXPECT(got.flags & SESSILE_FORWARDED && memcmp(got.nonce, known->nonce, sizeof got.nonce) == 0, "another nonce");
    EXPECT(!(got.flags & SESSILE_FIRST), "an old id proves nothing");
    EXPECT(((got.flags ^ known->facts.flags) & SESSILE_PROVEN) == 0, "an old id proves nothing");
    if (flags & SESSILE_TOUCH && world.before - known->old_used >= known->facts.idle_ms / 64)
        known->old_used = world.before;
    learn(known, &got);
}

static bool is_crowded(const struct gone_id *gone)
{
    unsigned count = 0;
    for (unsigned i = 0; i < world.gone_count; i++)
        count += world.gone[i].shard == gone->shard;
    return count > world.table->arena.geometry.retired_bound || world.gone_count == RETIRED_MAX;
}

static void load_gone(void)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct sessile_session got;
    if (world.gone_count == 0)
        return;
    unsigned at = (unsigned)below(world.gone_count);
    struct gone_id *gone = &world.gone[at];
    begin();
    enum sessile_status status = sessile_load(world.table, &world.call, id_of(gone->id, id), SESSILE_ID_LENGTH, SESSILE_PRESENT,
                                              &got, load_buffer, BUFFER_SIZE);
    finish(0, -1);
    int64_t young = world.after - gone->since, old = world.before - gone->since;
    const char *name = sessile_status_name(status);
    if (gone->loose) {
        EXPECT(status != SESSILE_OK || world.before < gone->forwards_until, "a retired id loads a session");
        return;
    }
    EXPECT(status == SESSILE_MISS || status == SESSILE_RETIRED || status == SESSILE_THEFT, "a retired id: %s", name);
    if (!gone->owned)
        EXPECT(status != SESSILE_THEFT, "an anonymous session's old id is called a theft");
    else if (status == SESSILE_MISS)
        EXPECT(young >= SHARD_RETIRED_MS || is_crowded(gone), "a retired id was forgotten after %lld ms", (long long)old);
    else if (status == SESSILE_RETIRED)
        EXPECT(old < SHARD_LATE_MS, "a retired id is called late after %lld ms", (long long)old);
    else
        EXPECT(young >= SHARD_LATE_MS, "a retired id is called stolen after %lld ms", (long long)young);
    if (status == SESSILE_MISS)
        gone->loose = true;
}

static void do_load(void)
{
    struct known *known = some_known();
    if (chance(10))
        load_gone();
    else if (known->alive && known->forwards && chance(40))
        load_old(known);
    else
        load_own(known);
}

/* A reference to a session; sometimes by the id that it had before a renewal. */
static struct sessile_reference some_reference(const struct known *known, bool *by_old)
{
    struct sessile_reference reference = reference_to(&known->facts, owner_name(known->owner));
    *by_old = known->alive && known->forwards && chance(30);
    if (*by_old)
        digest_of(world.table, known->old_id, reference.digest);
    return reference;
}

/* May this status be the answer for the session, instead of OK? Some are, whatever else. */
static void expect_absent(const struct known *known, enum sessile_status status, const char *what)
{
    if (status == SESSILE_EXPIRED)
        EXPECT(known->alive && is_due(known), "%s: EXPIRED", what);
    else
        EXPECT(status == SESSILE_GONE && (!known->alive || is_due(known)), "%s: %s", what, sessile_status_name(status));
}

static void do_read(void)
{
    struct known *known = some_known();
    struct sessile_session got;
    bool by_old;
    unsigned flags = chance(50) ? SESSILE_TOUCH : 0;
    struct sessile_reference reference = some_reference(known, &by_old);
    begin();
    enum sessile_status status = sessile_read(world.table, &world.call, &reference, flags, &got, load_buffer, BUFFER_SIZE);
    finish(0, -1);
    if (status != SESSILE_OK) {
        expect_absent(known, status, "read");
        return;
    }
    EXPECT(known->alive && !was_due(known), "read a session that ended");
    check_facts(known, &got, flags & SESSILE_TOUCH);
    check_content(known, load_buffer);
    EXPECT(((got.flags & SESSILE_FORWARDED) != 0) == by_old, "forwarded or not");
    learn(known, &got);
}

/* The facts that an update leaves, for check_facts(). */
static struct known updated(const struct known *known, const struct known *change, const struct sessile_content *content,
                            const struct sessile_session *got)
{
    struct known after = *known;
    after.seed = change->seed;
    after.fields_length = after.facts.fields_length = change->fields_length;
    after.facts.version = (known->facts.version + 1) & RECORD_VERSION_MASK;
    int64_t since = after.facts.authenticated_ms > after.facts.created_ms ? after.facts.authenticated_ms
                                                                          : after.facts.created_ms;
    const struct sessile_policy *policy = &world.table->policy;
    bool owned = known->owner >= 0;
    if (content->idle_ms >= 0) {
        int64_t ours = owned ? policy->owned_idle_ms : policy->anonymous_idle_ms;
        after.facts.idle_ms = content->idle_ms ? (content->idle_ms + 9) / 10 * 10 : ours;
        after.facts.flags &= ~(unsigned)SESSILE_IDLE_IS_DEFAULT;
        after.facts.flags |= content->idle_ms ? 0 : SESSILE_IDLE_IS_DEFAULT;
    }
    if (content->absolute_ms >= 0) {
        int64_t ours = owned ? policy->owned_absolute_ms : policy->anonymous_absolute_ms;
        after.facts.absolute_deadline_ms = since + 999 + (content->absolute_ms ? content->absolute_ms : ours);
        after.facts.flags &= ~(unsigned)SESSILE_ABSOLUTE_IS_DEFAULT;
        after.facts.flags |= content->absolute_ms ? 0 : SESSILE_ABSOLUTE_IS_DEFAULT;
    }
    /* The device, whose pattern depends on the seed, stays as it is. */
    after.facts.now_ms = got->now_ms;
    return after;
}

static void do_update(void)
{
    struct known *known = some_known(), change = *known;
    struct sessile_session got;
    bool by_old, right = chance(90);
    unsigned flags = chance(50) ? SESSILE_TOUCH : 0;
    struct sessile_reference reference = some_reference(known, &by_old);
    change.seed = known->device_length ? known->seed : check_random(&world.random);
    change.fields_length = chance(40) ? known->fields_length : some_length();
    struct sessile_content content = some_content(&change);
    content.idle_ms = chance(80) ? SESSILE_KEEP : some_timeout();
    content.absolute_ms = chance(80) ? SESSILE_KEEP : some_timeout();
    begin();
    if (content.idle_ms >= 0 || content.absolute_ms >= 0)
        world.retimed = known;
    bool alive = known->alive;
    enum sessile_status status = sessile_update(world.table, &world.call, &reference, known->facts.version - (right ? 0 : 1),
                                                flags, &content, &got);
    finish(STORES, -1);
    if (status == SESSILE_CHANGED) {
        EXPECT(!right, "an update of the right version: CHANGED");
        return;
    }
    if (status == SESSILE_FULL) {
        EXPECT(change.fields_length > known->fields_length, "FULL for an update of no larger size (A4)");
        check_full(known, -2);
        return;
    }
    if (status != SESSILE_OK) {
        expect_absent(known, status, "update");
        return;
    }
    EXPECT(right && alive && !was_due(known), "an update that should not be");
    struct known after = updated(known, &change, &content, &got);
    check_facts(&after, &got, flags & SESSILE_TOUCH);
    EXPECT(((got.flags & SESSILE_FORWARDED) != 0) == by_old, "forwarded or not");
    *known = after;
    learn(known, &got);
    EXPECT(known->alive || is_due(known), "an update ended its session");
}

static void do_remove(void)
{
    struct known *known = some_known();
    bool by_old, versioned = chance(30), right = chance(80), alive = known->alive;
    struct sessile_reference reference = some_reference(known, &by_old);
    enum sessile_reason reason = chance(50) ? SESSILE_LOGOUT : SESSILE_DESTROYED;
    enum sessile_status status;
    begin();
    if (versioned)
        status = sessile_remove_version(world.table, &world.call, &reference, known->facts.version - (right ? 0 : 1), reason);
    else
        status = sessile_remove(world.table, &world.call, &reference, reason);
    finish(1u << reason | EXPIRIES, -1);
    if (versioned && status == SESSILE_CHANGED) {
        EXPECT(!right, "a removal of the right version: CHANGED");
        return;
    }
    if (status == SESSILE_OK)
        EXPECT(alive && !known->alive && !(versioned && !right), "removed what was not there");
    else
        EXPECT(status == SESSILE_GONE && (!alive || is_due(known)), "remove: %s", sessile_status_name(status));
}

static void rotated(struct known *known, struct known *child, enum sessile_rotation how,
                    const struct sessile_content *content, const struct sessile_session *got)
{
    const struct sessile_session *had = &known->facts;
    EXPECT(how != SESSILE_LOGIN || got->version == 1, "a new session has version %u", got->version);
    EXPECT(!(got->flags & SESSILE_PROVEN), "nobody presented the new id yet");
    EXPECT(got->created_ms == had->created_ms, "creation stays");
    if (how == SESSILE_LOGIN) {
        check_new_deadlines(child, got, content->idle_ms, content->absolute_ms);
        EXPECT(got->handle != had->handle && got->rotations == 0 && got->rotates == 0, "a log-in gives a new handle");
    } else {
        struct known expected = *known;
        expected.facts = *had;
        memcpy(expected.facts.digest, got->digest, 32);
        EXPECT(got->version == had->version + (how == SESSILE_ROTATE), "a child of version %u after %u", got->version,
               had->version);    /* what was read before a renewal stays current, and nothing else */
        expected.facts.version = got->version;
        expected.facts.issued_ms = got->issued_ms;
        expected.facts.last_used_ms = got->now_ms;
        expected.facts.fields_length = child->fields_length;
        expected.facts.rotations = (uint16_t)((had->rotations + 1) % RECORD_ROTATIONS);
        expected.facts.rotates = (uint16_t)(had->rotates + (how == SESSILE_ROTATE));
        check_facts(&expected, got, false);
    }
    let_old_go(known, how == SESSILE_RENEW);
    if (how != SESSILE_RENEW)
        retire_id(known->id, known->owner >= 0, false, world.after, 0);
    child->forwards = how == SESSILE_RENEW;
    child->old_id = known->id;
    child->old_used = had->last_used_ms;
    child->drain_until = 0;
    child->alive = true;
    learn(child, got);
    *known = *child;
}

static void do_rotate(void)
{
    char id[SESSILE_ID_LENGTH + 1];
    struct known *known = some_known(), child = *known;
    struct sessile_session got;
    bool by_old, right = chance(92);
    enum sessile_rotation how = (enum sessile_rotation)below(3);
    struct sessile_reference reference = some_reference(known, &by_old);
    child.id = chance(2) ? known->id : world.next_id++;
    if (how == SESSILE_LOGIN || (how == SESSILE_ROTATE && !known->device_length)) {
        child.seed = check_random(&world.random);
        child.fields_length = some_length();
    }
    if (how == SESSILE_LOGIN) {
        child.owner = (int)below(OWNERS);
        child.device_length = chance(20) ? (uint32_t)below(60) : 0;
    }
    pattern(check_random(&world.random), child.nonce, sizeof child.nonce);
    struct sessile_content content = some_content(&child);
    content.idle_ms = some_timeout();
    content.absolute_ms = some_timeout();
    begin();
    enum sessile_status status =
        sessile_rotate(world.table, &world.call, &reference, known->facts.version - (right ? 0 : 1), how, id_of(child.id, id),
                       how == SESSILE_RENEW ? child.nonce : NULL, how == SESSILE_RENEW ? NULL : &content, &got);
    struct known *parent = known;
    finish(STORES, how == SESSILE_LOGIN ? child.owner : -1);
    bool provable = known->owner >= 0 && known->facts.flags & SESSILE_PROVEN;
    if (status == SESSILE_CHANGED) {
        EXPECT(!right || by_old, "a rotation of the right version: CHANGED");
    } else if (status == SESSILE_INVALID) {
        EXPECT(how == SESSILE_RENEW && !provable, "a rotation: INVALID");
    } else if (status == SESSILE_EXISTS) {
        EXPECT(child.id == known->id, "a rotation to a fresh id: EXISTS");
    } else if (status == SESSILE_FULL) {
        check_full(parent, how == SESSILE_LOGIN ? child.owner : -2);
    } else if (status != SESSILE_OK) {
        expect_absent(known, status, "rotate");
    } else {
        EXPECT(known->alive && right && !by_old && !was_due(known) && child.id != known->id,
               "rotation %d: alive %d, right version %d, old id %d, due %d, same id %d", how, known->alive, right, by_old,
               was_due(known), child.id == known->id);
        EXPECT(how != SESSILE_RENEW || provable, "a renewal of an id that was not proven");
        rotated(known, &child, how, &content, &got);
        if (how == SESSILE_LOGIN)
            check_cap(child.owner);
    }
}

/* ---- many ---- */

/* Compares a list with what the model says of `owner` (-1: all). */
static void check_list(const uint8_t *buffer, size_t length, uint64_t count, int owner)
{
    uint64_t seen = 0, expected = 0;
    for (size_t at = 0; at < length;) {
        struct sessile_session got;
        memcpy(&got, buffer + at, sizeof got);
        struct known *known = find_handle(got.handle);
        EXPECT(known && (owner < 0 || known->owner == owner), "the list has a session that is not there");
        check_facts(known, &got, false);
        const char *name = owner_name(known->owner);
        EXPECT(!name || memcmp(buffer + at + sizeof got, name, got.owner_length) == 0, "listed with another owner");
        EXPECT(has_pattern(known->seed ^ 1, buffer + at + sizeof got + got.owner_length, got.device_length),
               "listed with another device");
        EXPECT(!was_due(known), "listed after its deadline");
        at += (sizeof got + got.owner_length + got.device_length + 7) & ~(size_t)7;
        seen++;
    }
    EXPECT(seen == count, "%llu sessions in the list, %llu counted", (unsigned long long)seen, (unsigned long long)count);
    uint64_t unsure = 0;
    for (unsigned i = 0; i < world.count; i++) {
        const struct known *known = &world.known[i];
        if (!known->alive || (owner >= 0 && known->owner != owner))
            continue;
        expected += !is_due(known);
        unsure += is_due(known) && !was_due(known);
    }
    EXPECT(seen >= expected && seen <= expected + unsure, "%llu sessions listed, %llu are there", (unsigned long long)seen,
           (unsigned long long)expected);
}

static void do_list(void)
{
    int owner = (int)below(OWNERS);
    const char *name = owner_name(owner);
    uint64_t count;
    size_t length;
    begin();
    enum sessile_status status = sessile_owner_list(world.table, &world.call, (const uint8_t *)name, (uint32_t)strlen(name),
                                                    load_buffer, BUFFER_SIZE, &count, &length);
    finish(0, -1);
    EXPECT(status == SESSILE_OK, "list: %s", sessile_status_name(status));
    check_list(load_buffer, length, count, owner);
}

static void do_scan(void)
{
    uint64_t total = 0;
    size_t filled = 0;
    begin();
    for (uint32_t shard = 0; shard < world.table->arena.geometry.shards; shard++) {
        uint64_t count;
        size_t length;
        enum sessile_status status = sessile_scan(world.table, &world.call, shard, load_buffer + filled, BUFFER_SIZE - filled,
                                                  &count, &length);
        EXPECT(status == SESSILE_OK, "scan: %s", sessile_status_name(status));
        total += count;
        filled += length;
    }
    finish(0, -1);
    check_list(load_buffer, filled, total, -1);
}

static void do_revoke(void)
{
    int owner = (int)below(OWNERS);
    const char *name = owner_name(owner);
    const struct known *one = some_known();
    uint64_t handle = one->owner == owner && one->facts.handle ? one->facts.handle : 77;
    uint64_t count, mine = 0, unsure = 0, spared = 0;
    unsigned how = (unsigned)below(3);
    uint64_t keep = how == 1 ? handle : 0, only = how == 2 ? handle : 0, before = world.ended[SESSILE_REVOKED];
    begin();
    for (unsigned i = 0; i < world.count; i++) {
        const struct known *known = &world.known[i];
        if (!known->alive || known->owner != owner || was_due(known))
            continue;
        bool named = (known->facts.handle | 1) == (handle | 1);
        spared += how == 0 ? 0 : how == 1 ? named : !named;
        mine++;
        unsure += deadline(known) < world.before + 2000;
    }
    enum sessile_status status = sessile_owner_revoke(world.table, &world.call, (const uint8_t *)name,
                                                      (uint32_t)strlen(name), keep, only, &count);
    finish(1u << SESSILE_REVOKED, owner);
    EXPECT(status == SESSILE_OK, "revoke: %s", sessile_status_name(status));
    EXPECT(count == world.ended[SESSILE_REVOKED] - before, "another number than was reported");
    EXPECT(count <= mine - spared && count + unsure >= mine - spared, "%llu revoked of %llu", (unsigned long long)count,
           (unsigned long long)(mine - spared));
}

static void do_revoke_all(void)
{
    uint64_t count, alive = count_alive(false);
    begin();
    EXPECT(sessile_revoke_all(world.table, &count) == SESSILE_OK, "revoke_all");
    finish(0, -1);
    EXPECT(count == alive, "%llu revoked of %llu", (unsigned long long)count, (unsigned long long)alive);
    for (unsigned i = 0; i < world.count; i++) {
        world.known[i].alive = false;
        world.known[i].forwards = false;
    }
    for (unsigned i = 0; i < world.gone_count; i++) {
        world.gone[i].loose = true;
        world.gone[i].forwards_until = 0;
    }
}

static void do_sweep(void)
{
    uint64_t count, budget = chance(50) ? below(20) : UINT64_MAX, before = count_alive(false);
    /* Wheels tick once a second, and what is filed when it is due already fires at the next tick. */
    sessile_advance(world.table, 2000);
    begin();
    EXPECT(sessile_sweep(world.table, &world.call, budget, &count) == SESSILE_OK, "sweep");
    bool broke_off = world.sink.used > world.sink.capacity / 2;
    finish(EXPIRIES, -1);
    EXPECT(count == before - count_alive(false) && count <= budget, "%llu swept, another number reported",
           (unsigned long long)count);
    for (unsigned i = 0; budget == UINT64_MAX && !broke_off && i < world.count; i++) {
        const struct known *known = &world.known[i];
        EXPECT(!known->alive || deadline(known) + 2000 > world.before, "a sweep left session %llx, due for %lld ms",
               (unsigned long long)known->facts.handle, (long long)(world.before - deadline(known)));
    }
}

static void do_theft(void)
{
    struct known *known = some_known();
    uint8_t digest[32];
    uint64_t handle = 0;
    bool alive = known->alive;
    if (!known->forwards || !alive)
        return;
    begin();
    enum sessile_status status = sessile_end_theft(world.table, &world.call, digest_of(world.table, known->old_id, digest),
                                                   &handle);
    finish(1u << SESSILE_STOLEN, -1);
    if (status == SESSILE_OK)
        EXPECT(!known->alive && handle == known->facts.handle, "a theft ended another session");
    else
        EXPECT(status == SESSILE_GONE && (is_due(known) || known->drain_until || known->old_used), "theft: %s",
               sessile_status_name(status));
}

static void do_advance(void)
{
    static const int64_t steps[] = {5, 900, 4000, 11000, 70000, 700000, HOURS(1), HOURS(5), HOURS(200)};
    unsigned which = (unsigned)below(100);
    unsigned at = which < 50 ? which % 4 : which < 90 ? 4 : which < 95 ? 5 : which < 98 ? 6 : 7 + which % 2;
    sessile_advance(world.table, steps[at] + (int64_t)below(1000));
}

/* Recovery and evacuation change nothing that can be seen. */
static void do_maintain(void)
{
    struct hold hold;
    uint32_t number = (uint32_t)below(world.table->arena.geometry.shards);
    EXPECT(shard_enter(world.table, number, 1000, &hold) == SESSILE_OK, "enter");
    if (chance(50)) {
        shard_recover(world.table, number);
    } else {
        for (unsigned i = 0; i < 4; i++)
            if (!shard_evacuate(&hold, chance(50) ? ARENA_OWNED : ARENA_ANONYMOUS))
                break;
    }
    shard_leave(&hold);
    if (chance(50))
        shard_recount(world.table);
}

/* ---- runs ---- */

static void check_everything(void)
{
    struct findings findings;
    struct sessile_stats stats;
    find(world.table, false, &findings);
    print_findings(&findings);
    EXPECT(findings.count == 0, "%u findings", findings.count);
    sessile_stats(world.table, &stats);
    EXPECT(stats.sessions == count_alive(false), "%llu sessions, %llu are there", (unsigned long long)stats.sessions,
           (unsigned long long)count_alive(false));
    EXPECT(stats.anonymous == count_alive(true), "%llu anonymous sessions, %llu are there",
           (unsigned long long)stats.anonymous, (unsigned long long)count_alive(true));
    EXPECT(stats.expired == world.ended[SESSILE_IDLE] + world.ended[SESSILE_ABSOLUTE] &&
           stats.evicted == world.ended[SESSILE_EVICTED], "counts of ends differ from the reports");
    EXPECT(stats.memory_used <= stats.memory_lent && stats.memory_lent <= stats.memory, "memory: %llu of %llu of %llu",
           (unsigned long long)stats.memory_used, (unsigned long long)stats.memory_lent, (unsigned long long)stats.memory);
    EXPECT(stats.anonymous <= world.table->arena.geometry.anonymous_capacity, "too many anonymous sessions");
}

static void one_step(void)
{
    static const struct {
        unsigned weight;
        void (*operation)(void);
    } operations[] = {
        {330, do_create}, {230, do_load}, {40, do_read}, {150, do_update}, {60, do_remove}, {100, do_rotate}, {15, do_list},
        {4, do_scan}, {12, do_revoke}, {1, do_revoke_all}, {8, do_sweep}, {3, do_theft}, {30, do_advance}, {10, do_maintain},
    };
    unsigned at = (unsigned)below(993), i = 0;
    while (at >= operations[i].weight)
        at -= operations[i++].weight;
    operations[i].operation();
}

static void run(const struct setting *setting, uint64_t steps, uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.setting = setting;
    world.seed = world.random = seed;
    world.next_id = 1;
    world.count = setting->capacity + setting->capacity / 2 + 64 < KNOWN_MAX
                      ? (unsigned)(setting->capacity + setting->capacity / 2 + 64) : KNOWN_MAX;
    world.known = calloc(world.count, sizeof *world.known);
    world.gone = calloc(RETIRED_MAX, sizeof *world.gone);
    world.sink = (struct sessile_sink){.buffer = aligned_alloc(64, SINK_SIZE), .capacity = SINK_SIZE};
    world.call = (struct sessile_call){.wait_ms = 1000, .sink = &world.sink};
    CHECK(world.known && world.gone && world.sink.buffer);
    for (unsigned i = 0; i < world.count; i++)
        world.known[i].id = world.next_id++;
    world.table = open_table(setting->capacity, setting->memory, setting->share);
    struct sessile_policy policy = test_policy;
    policy.sessions_per_owner = setting->cap;
    sessile_set_policy(world.table, &policy);
    steps = steps * setting->steps_percent / 100;
    for (world.step = 0; world.step < steps; world.step++) {
        one_step();
        if (world.step % CHECK_EVERY == 0)
            check_everything();
    }
    check_everything();
    sessile_close(world.table);
    free(world.sink.buffer);
    free(world.known);
    free(world.gone);
}

static const struct setting settings[] = {
    {"few small sessions", 40, 2 << 20, 0.5, 3, {60, 200, 1000}, 50, 100},
    {"sessions that fill the capacity", 600, 2 << 20, 0.5, 0, {60, 300, 2000}, 50, 100},
    {"sessions that fill the memory", 6000, 2 << 20, 0.5, 8, {800, 4000, 60000}, 50, 150},
    {"large sessions, mostly anonymous", 500, 3 << 20, 0.9, 5, {6000, 20000, 300000}, 15, 100},
    {"owned sessions only", 4000, 2 << 20, 0.05, 0, {900, 3000, 9000}, 97, 150},
    {"many tiny sessions", 9000, 4 << 20, 1.0, 0, {10, 100, 400}, 60, 300},
};

static uint64_t steps = 2500, first_seed = 1;
static const struct setting *current;

static void agrees_with_the_model(void)
{
    run(current, steps, first_seed);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        steps = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    content_buffer = malloc(SESSILE_DEVICE_MAX + SESSILE_FIELDS_MAX);
    load_buffer = malloc(BUFFER_SIZE);
    CHECK(content_buffer && load_buffer);
    for (unsigned i = 0; i < sizeof settings / sizeof *settings; i++) {
        current = &settings[i];
        RUN(agrees_with_the_model);
    }
    free(content_buffer);
    free(load_buffer);
    return check_summary();
}
