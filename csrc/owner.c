/* owner.c - see owner.h. */
#include "owner.h"

#define COUNT_BITS 26
#define COUNT_MASK ((1u << COUNT_BITS) - 1)
#define ENTRY_REFS 4u
#define NODE_REFS 7u
#define SWEEP_ENTRIES 2u
#define SWEEP_WHEN_FULL 64u
#define SWEEP_FIRST 4u                    /* log2 of the references that start an owner's first sweep */

static uint32_t holder_of(const struct sessile *table, uint32_t number)
{
    return table->arena.geometry.shards + number;
}

static void *index_region(const struct sessile *table, uint32_t number)
{
    const struct geometry *geometry = &table->arena.geometry;
    return table->arena.base + geometry->stripe_index + (uint64_t)number * geometry->index_entries * 8;
}

static void view(struct stripe_hold *hold)
{
    hold->index = index_view(index_region(hold->table, hold->number), hold->stripe->active,
                             hold->table->arena.geometry.index_entries);
}

/* A 64-byte slot, checked to lie in reserved data. */
static void *small_at(const struct sessile *table, uint32_t slot)
{
    if (!arena_within(&table->arena, slot, 64))
        return NULL;
    return table->arena.base + (uint64_t)slot * ARENA_SLOT;
}

/* A node of this stripe's own node pages, or NULL. */
static struct owner_node *node_at(const struct sessile *table, uint32_t number, uint32_t slot)
{
    struct arena_place place;
    if (slot == 0 || !arena_place(&table->arena, holder_of(table, number), slot, &place) || place.class != ARENA_NODE)
        return NULL;
    return small_at(table, slot);
}

static void seq_begin(struct stripe *stripe)
{
    atomic_store_explicit(&stripe->seq, atomic_load_explicit(&stripe->seq, memory_order_relaxed) | 1, memory_order_relaxed);
    record_order();
}

static void seq_end(struct stripe *stripe)
{
    record_order();
    uint32_t seq = atomic_load_explicit(&stripe->seq, memory_order_relaxed);
    atomic_store_explicit(&stripe->seq, (seq | 1) + 1, memory_order_relaxed);
}

struct owner owner_named(const struct sessile *table, const uint8_t *text, uint32_t length)
{
    struct owner owner = {.text = text, .length = length};
    uint8_t digest[32];
    digest_text(&table->keys->owner, text, length, digest);
    memcpy(owner.key, digest, sizeof owner.key);
    owner.key[0] |= 1;    /* 0 is a free entry */
    return owner;
}

/* ---- entering ---- */

/* All references are to sessions that revoke_all ended: forgets them. */
static void reset(struct stripe_hold *hold, uint32_t epoch)
{
    struct arena *arena = &hold->table->arena;
    struct stripe *stripe = hold->stripe;
    uint32_t holder = holder_of(hold->table, hold->number);
    struct arena_page page;
    seq_begin(stripe);
    for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);)
        system_wipe(arena->base + (uint64_t)arena_slot_of(arena, page.unit, 0, page.size) * ARENA_SLOT,
                    (size_t)page.units * arena->geometry.unit_size);
    arena_rebuild_begin(&stripe->lists);
    for (uint32_t unit = 0; arena_next_page(arena, holder, &unit, &page);) {
        arena_rebuild_page(arena, &stripe->lists, &page, NULL, NULL);
        arena_return_page(arena, &stripe->lists, page.unit);
    }
    index_clear(&hold->index);
    stripe->entries = 0;
    record_order();
    atomic_store_explicit(&stripe->epoch, epoch, memory_order_release);
    seq_end(stripe);
}

/* A process died while it ended an owner's sessions: ends the rest. Its reports went with it. */
static enum sessile_status finish_revocations(struct stripe_hold *hold, int64_t wait_ms)
{
    struct sessile_call call = {.wait_ms = wait_ms};
    for (uint32_t place = 0; place < hold->index.active; place++) {
        uint64_t word = atomic_load(&hold->index.entries[place]), count;
        const struct owner_entry *entry = word ? small_at(hold->table, (uint32_t)word & 0x7fffffffu) : NULL;
        uint64_t state = entry ? atomic_load(&entry->state) : 0;
        if (state == 0)
            continue;
        struct owner owner = {.key = {atomic_load(&entry->key[0]), atomic_load(&entry->key[1])}};
        enum sessile_status status = owner_revoke(hold, &owner, state == 1 ? 0 : state, &call, &count);
        if (status != SESSILE_OK)
            return status;
        /* Entries may have moved: from the start. One that its own key does not find is damaged, and is passed over. */
        if (atomic_load(&entry->state) == 0 || atomic_load(&hold->index.entries[place]) != word)
            place = UINT32_MAX;
    }
    atomic_store_explicit(&hold->stripe->revoking, 0, memory_order_release);
    return SESSILE_OK;
}

enum sessile_status stripe_enter(struct sessile *table, uint32_t number, int64_t wait_ms, struct stripe_hold *hold)
{
    struct stripe *stripe = stripe_at(table, number);
    uint32_t me = arena_me(&table->arena);
    if (me == 0) {
        if (process_attach(&table->arena.process) != SESSILE_OK)
            return SESSILE_DETACHED;
        me = arena_me(&table->arena);
    }
    enum sessile_status status = lock_take(&stripe->lock, me, LOCK_STRIPE, wait_ms, &table->arena.watch);
    if (status != SESSILE_OK)
        return status;
    *hold = (struct stripe_hold){.table = table, .stripe = stripe, .number = number};
    view(hold);
    uint32_t epoch = shard_epoch(table);
    if (atomic_load(&stripe->epoch) != epoch)
        reset(hold, epoch);
    if (__builtin_expect(atomic_load(&stripe->revoking) != 0, 0)) {
        status = finish_revocations(hold, wait_ms);
        if (status != SESSILE_OK)
            owner_leave(hold);
    }
    return status;
}

void owner_leave(struct stripe_hold *hold)
{
    lock_release(&hold->stripe->lock, LOCK_STRIPE);
}

static struct owner_entry *find(const struct stripe_hold *hold, const uint64_t key[2], uint32_t *slot)
{
    uint32_t hash = (uint32_t)key[1];
    struct index_cursor cursor = index_start(&hold->index, hash);
    while ((*slot = index_next(&hold->index, hash, &cursor)) != 0) {
        struct owner_entry *entry = small_at(hold->table, *slot);
        if (entry && atomic_load(&entry->key[0]) == key[0] && atomic_load(&entry->key[1]) == key[1])
            return entry;
    }
    return NULL;
}

enum sessile_status owner_enter(struct sessile *table, const struct owner *owner, const struct sessile_call *call,
                                struct stripe_hold *hold)
{
    uint32_t number = (uint32_t)(owner->key[0] >> table->arena.geometry.shard_shift);
    return stripe_enter(table, number, call->wait_ms, hold);
}

/* ---- entries and nodes ---- */

static void grow(struct stripe_hold *hold)
{
    if (index_should_grow(&hold->index, hold->stripe->entries)) {
        index_grow(&hold->index);
        record_order();
        hold->stripe->active = hold->index.active;
    }
}

static enum arena_answer obtain(struct stripe_hold *hold, const struct owner *owner, struct owner_entry **entry)
{
    struct stripe *stripe = hold->stripe;
    uint32_t slot;
    *entry = find(hold, owner->key, &slot);
    if (*entry)
        return ARENA_OK;
    if (!index_has_room(&hold->index, stripe->entries))
        return ARENA_NEED_PAGE;
    enum arena_answer answer = arena_take_small(&hold->table->arena, &stripe->lists, holder_of(hold->table, hold->number),
                                                ARENA_ENTRY, 0, &slot);
    if (answer != ARENA_OK)
        return answer;
    *entry = small_at(hold->table, slot);
    memset((void *)*entry, 0, sizeof **entry);
    (*entry)->count = SWEEP_FIRST << COUNT_BITS;
    atomic_store(&(*entry)->key[1], owner->key[1]);
    record_order();
    atomic_store_explicit(&(*entry)->key[0], owner->key[0], memory_order_release);
    record_order();
    grow(hold);
    if (index_insert(&hold->index, (uint32_t)owner->key[1], slot))
        stripe->entries++;
    return ARENA_OK;
}

static _Atomic uint64_t *empty_place(struct stripe_hold *hold, struct owner_entry *entry)
{
    for (unsigned i = 0; i < ENTRY_REFS; i++)
        if (atomic_load(&entry->ref[i]) == 0)
            return &entry->ref[i];
    struct owner_node *node = node_at(hold->table, hold->number, atomic_load(&entry->next));
    for (unsigned i = 0; node && i < NODE_REFS; i++)
        if (atomic_load(&node->ref[i]) == 0)
            return &node->ref[i];
    return NULL;
}

enum arena_answer owner_add(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix)
{
    struct owner_entry *entry;
    seq_begin(hold->stripe);
    enum arena_answer answer = obtain(hold, owner, &entry);
    _Atomic uint64_t *place = answer == ARENA_OK ? empty_place(hold, entry) : NULL;
    if (answer == ARENA_OK && !place) {
        uint32_t slot;
        answer = arena_take_small(&hold->table->arena, &hold->stripe->lists, holder_of(hold->table, hold->number),
                                  ARENA_NODE, 0, &slot);
        if (answer == ARENA_OK) {
            struct owner_node *node = small_at(hold->table, slot);
            memset((void *)node, 0, sizeof *node);
            atomic_store(&node->next, atomic_load(&entry->next));
            record_order();
            atomic_store_explicit(&entry->next, slot, memory_order_release);
            record_order();
            place = &node->ref[0];
        }
    }
    if (answer == ARENA_OK) {
        atomic_store_explicit(place, prefix, memory_order_release);
        entry->count++;
    }
    seq_end(hold->stripe);
    return answer;
}

static void free_entry(struct stripe_hold *hold, struct owner_entry *entry, uint32_t slot)
{
    uint32_t hash = (uint32_t)atomic_load(&entry->key[1]);
    atomic_store_explicit(&entry->key[0], 0, memory_order_release);
    record_order();
    if (index_remove(&hold->index, hash, slot))
        hold->stripe->entries--;
    system_wipe((void *)entry, sizeof *entry);
    arena_give(&hold->table->arena, &hold->stripe->lists, holder_of(hold->table, hold->number), slot);
}

static bool node_is_empty(const struct owner_node *node)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < NODE_REFS; i++)
        any |= atomic_load(&node->ref[i]);
    return any == 0;
}

/* Frees the empty nodes of a chain, and the entry when nothing is left of it. */
static bool tidy(struct stripe_hold *hold, const struct owner *owner)
{
    uint32_t slot, limit = hold->table->arena.geometry.end_slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    if (!entry)
        return false;
    seq_begin(hold->stripe);
    _Atomic uint32_t *link = &entry->next;
    struct owner_node *node;
    bool freed = false;
    while (limit-- > 0 && (node = node_at(hold->table, hold->number, atomic_load(link))) != NULL) {
        uint32_t here = atomic_load(link);
        if (!node_is_empty(node)) {
            link = &node->next;
            continue;
        }
        atomic_store_explicit(link, atomic_load(&node->next), memory_order_release);
        record_order();
        system_wipe((void *)node, sizeof *node);
        arena_give(&hold->table->arena, &hold->stripe->lists, holder_of(hold->table, hold->number), here);
        freed = true;
    }
    uint64_t any = atomic_load(&entry->next) | atomic_load(&entry->state);
    for (unsigned i = 0; i < ENTRY_REFS; i++)
        any |= atomic_load(&entry->ref[i]);
    if (any == 0) {
        free_entry(hold, entry, slot);
        freed = true;
    }
    seq_end(hold->stripe);
    return freed;
}

/* A way along the nodes of a chain. */
struct chain {
    uint32_t next, seen, steps, power;
};

/* The next node, or NULL: at the end, and where a damaged chain leads astray (`next` is not 0 then) or runs in a circle,
 * which shows when it comes back to the node that was noted at the last power of two. */
static struct owner_node *chain_next(const struct stripe_hold *hold, struct chain *chain)
{
    struct owner_node *node = chain->steps > 0 && chain->next == chain->seen
                                  ? NULL : node_at(hold->table, hold->number, chain->next);
    if (!node)
        return NULL;
    if (++chain->steps > chain->power) {
        chain->seen = chain->next;
        chain->power = chain->steps * 2;
    }
    chain->next = atomic_load(&node->next);
    return node;
}

/* Calls `each` for every place of a chain; stops where it answers false. */
static void for_places(const struct stripe_hold *hold, struct owner_entry *entry,
                       bool (*each)(void *context, _Atomic uint64_t *place), void *context)
{
    for (unsigned i = 0; i < ENTRY_REFS; i++)
        if (!each(context, &entry->ref[i]))
            return;
    struct chain chain = {.next = atomic_load(&entry->next)};
    for (struct owner_node *node; (node = chain_next(hold, &chain)) != NULL;)
        for (unsigned i = 0; i < NODE_REFS; i++)
            if (!each(context, &node->ref[i]))
                return;
}

struct search {
    uint64_t prefix;
    _Atomic uint64_t *place;
};

static bool is_it(void *context, _Atomic uint64_t *place)
{
    struct search *search = context;
    if (atomic_load(place) != search->prefix)
        return true;
    search->place = place;
    return false;
}

static void drop(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix)
{
    uint32_t slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    struct search search = {.prefix = prefix};
    if (!entry)
        return;
    for_places(hold, entry, is_it, &search);
    if (search.place) {
        atomic_store_explicit(search.place, 0, memory_order_release);
        entry->count -= (entry->count & COUNT_MASK) != 0;
    }
}

bool owner_has(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix)
{
    uint32_t slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    struct search search = {.prefix = prefix};
    if (entry)
        for_places(hold, entry, is_it, &search);
    return search.place != NULL;
}

/* ---- verifying ---- */

/* The record whose digest begins with `prefix`. */
static uint32_t find_prefix(struct hold *hold, uint64_t prefix, struct record **record)
{
    struct index_cursor cursor = index_start(&hold->index, (uint32_t)prefix);
    uint32_t slot;
    while ((slot = index_next(&hold->index, (uint32_t)prefix, &cursor)) != 0) {
        *record = arena_record(&hold->table->arena, slot);
        if (*record && record_is_live(atomic_load(&(*record)->commit)) && record_prefix((*record)->digest) == prefix)
            return slot;
    }
    return 0;
}

static bool same_text(const uint8_t *a, const uint8_t *b, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* Does the record belong to this owner? `owner->text` NULL: whoever has the key of the entry. */
static bool belongs(const struct hold *hold, uint32_t slot, const struct record *record, const struct owner *owner)
{
    struct record_parts parts;
    uint32_t lengths = record_read_lengths(record), length = record_payload_length(lengths);
    if (!arena_within(&hold->table->arena, slot, RECORD_HEADER + (uint64_t)length) ||
        !record_parts(record_read_terms(record), lengths, record->payload, &parts))
        return false;
    if (owner->text)
        return parts.owner_length == owner->length && same_text(parts.owner, owner->text, owner->length);
    struct owner named = owner_named(hold->table, parts.owner, parts.owner_length);
    return parts.owner_length > 0 && named.key[0] == owner->key[0] && named.key[1] == owner->key[1];
}

struct walk {
    struct stripe_hold *stripe;
    const struct owner *owner;
    const struct sessile_call *call;
    owner_visit visit;
    void *context;
    enum sessile_status status;
    uint32_t seen, kept;
    enum owner_next next;
};

/* Verifies one reference and visits its session. STALE: the reference means nothing any more. */
enum verdict { VERDICT_LIVE, VERDICT_STALE, VERDICT_UNKNOWN };
static enum verdict verify(struct walk *walk, uint64_t prefix)
{
    struct sessile *table = walk->stripe->table;
    uint32_t number = (uint32_t)(prefix >> table->arena.geometry.shard_shift);
    for (int tries = 0; tries < 3; tries++) {
        struct hold hold;
        struct record *record;
        walk->status = shard_enter(table, number, walk->call->wait_ms, &hold);
        if (walk->status != SESSILE_OK)
            return VERDICT_UNKNOWN;
        uint32_t slot = find_prefix(&hold, prefix, &record);
        enum record_kind kind = slot ? record_kind(record->terms) : RECORD_RETIRED;
        if (kind == RECORD_RETIRED || !belongs(&hold, slot, record, walk->owner)) {
            /* A record retired by a renewal: its child has a reference of its own. */
            shard_leave(&hold);
            return VERDICT_STALE;
        }
        if (kind == RECORD_SESSION) {
            if (walk->visit && !shard_is_due(table, record, hold.now))
                walk->next = walk->visit(walk->context, &hold, slot, record);
            shard_leave(&hold);
            return walk->next == OWNER_REMOVED ? VERDICT_STALE : VERDICT_LIVE;
        }
        uint8_t digest[32];
        memcpy(digest, record->digest, sizeof digest);
        shard_leave(&hold);
        enum sessile_status settled = succession_settle(table, digest, walk->call->wait_ms);
        if (settled == SESSILE_GONE)
            return VERDICT_STALE;
        if (settled != SESSILE_OK) {
            walk->status = settled == SESSILE_CHANGED ? SESSILE_OK : settled;
            return VERDICT_UNKNOWN;
        }
    }
    return VERDICT_UNKNOWN;
}

static bool walk_place(void *context, _Atomic uint64_t *place)
{
    struct walk *walk = context;
    uint64_t prefix = atomic_load(place);
    if (prefix == 0)
        return true;
    walk->seen++;
    walk->next = OWNER_GO_ON;
    if (verify(walk, prefix) == VERDICT_STALE)
        atomic_store_explicit(place, 0, memory_order_release);
    else
        walk->kept++;
    return walk->status == SESSILE_OK && walk->next != OWNER_STOP;
}

static uint32_t log_above(uint32_t count)
{
    uint32_t log = SWEEP_FIRST;
    while (log < COUNT_BITS && 1u << log < 2 * count + 8)
        log++;
    return log;
}

enum sessile_status owner_walk(struct stripe_hold *hold, const struct owner *owner, const struct sessile_call *call,
                               owner_visit visit, void *context)
{
    uint32_t slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    struct walk walk = {.stripe = hold, .owner = owner, .call = call, .visit = visit, .context = context};
    if (!entry)
        return SESSILE_OK;
    for_places(hold, entry, walk_place, &walk);
    if (walk.status == SESSILE_OK && walk.next != OWNER_STOP)
        entry->count = walk.kept | log_above(walk.kept) << COUNT_BITS;
    if (walk.kept < walk.seen)
        tidy(hold, owner);
    return walk.status;
}

/* ---- revocation ---- */

struct revocation {
    uint64_t keep;
    struct sessile_sink *sink;
    uint64_t count;
};

static enum owner_next end_one(void *context, struct hold *hold, uint32_t slot, struct record *record)
{
    struct revocation *revocation = context;
    if (revocation->keep != 0 && (record->handle | 1) == (revocation->keep | 1))
        return OWNER_GO_ON;
    shard_report(hold, revocation->sink, record, SESSILE_REVOKED, true);
    hold->shard->revoked++;
    shard_remove(hold, slot);
    revocation->count++;
    return OWNER_REMOVED;
}

enum sessile_status owner_revoke(struct stripe_hold *hold, const struct owner *owner, uint64_t keep,
                                 const struct sessile_call *call, uint64_t *count)
{
    uint32_t slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    struct revocation revocation = {.keep = keep, .sink = call->sink};
    *count = 0;
    if (!entry)
        return SESSILE_OK;
    atomic_store_explicit(&hold->stripe->revoking, 1, memory_order_release);
    record_order();
    atomic_store_explicit(&entry->state, keep | 1, memory_order_release);
    record_order();
    enum sessile_status status = owner_walk(hold, owner, call, end_one, &revocation);
    *count = revocation.count;
    if (status != SESSILE_OK)
        return status;    /* the state stays: the next user of the stripe goes on */
    entry = find(hold, owner->key, &slot);
    if (entry)
        atomic_store_explicit(&entry->state, 0, memory_order_release);
    record_order();
    atomic_store_explicit(&hold->stripe->revoking, 0, memory_order_release);
    tidy(hold, owner);
    return SESSILE_OK;
}

struct oldest {
    const uint8_t *except;
    uint32_t count;
    int64_t used_ms;
    uint64_t prefix;
};

static enum owner_next find_oldest(void *context, struct hold *hold, uint32_t slot, struct record *record)
{
    struct oldest *oldest = context;
    (void)hold;
    (void)slot;
    oldest->count++;
    if ((oldest->prefix == 0 || record_used_ms(record) < oldest->used_ms) &&
        !(oldest->except && digest_equal(record->digest, oldest->except))) {
        oldest->used_ms = record_used_ms(record);
        oldest->prefix = record_prefix(record->digest);
    }
    return OWNER_GO_ON;
}

static enum sessile_status evict_prefix(struct sessile *table, uint64_t prefix, const struct sessile_call *call)
{
    struct hold hold;
    struct record *record;
    enum sessile_status status = shard_enter(table, (uint32_t)(prefix >> table->arena.geometry.shard_shift),
                                             call->wait_ms, &hold);
    if (status != SESSILE_OK)
        return status;
    uint32_t slot = find_prefix(&hold, prefix, &record);
    if (slot != 0 && record_kind(record->terms) == RECORD_SESSION) {
        shard_report(&hold, call->sink, record, SESSILE_EVICTED, true);
        hold.shard->evicted++;
        shard_remove(&hold, slot);
    }
    shard_leave(&hold);
    return SESSILE_OK;
}

enum sessile_status owner_evict(struct sessile *table, const struct owner *owner, uint32_t cap, const uint8_t except[32],
                                const struct sessile_call *call, uint32_t *evicted)
{
    *evicted = 0;
    for (;;) {
        struct stripe_hold hold;
        struct oldest oldest = {.except = except};
        enum sessile_status status = owner_enter(table, owner, call, &hold);
        if (status != SESSILE_OK)
            return status;
        status = owner_walk(&hold, owner, call, find_oldest, &oldest);
        bool over = status == SESSILE_OK && oldest.prefix != 0 && (cap == OWNER_ONE_LESS || oldest.count > cap);
        if (over)
            status = evict_prefix(table, oldest.prefix, call);
        owner_leave(&hold);
        if (!over || status != SESSILE_OK)
            return status;
        *evicted += 1;
        if (cap == OWNER_ONE_LESS || oldest.count - 1 <= cap)
            return SESSILE_OK;
    }
}

/* ---- sweeping ---- */

/* Are there so many entries that some must be of owners without a session? */
static bool seems_stale(const struct stripe_hold *hold)
{
    const struct arena_header *header = hold->table->arena.header;
    int64_t owned = (int64_t)((uint64_t)atomic_load(&header->sessions) - (uint64_t)atomic_load(&header->anonymous));
    int64_t mean = owned / (int64_t)hold->table->arena.geometry.shards;
    return (int64_t)hold->stripe->entries > mean + mean / 4 + 16;
}

/* Verifies the references of the next few entries. True: an entry was freed. */
static bool sweep(struct stripe_hold *hold, const struct sessile_call *call, unsigned entries)
{
    bool freed = false;
    for (uint32_t looks = 0; entries > 0 && looks < hold->index.active; looks++) {
        uint32_t place = hold->stripe->hand++ & (hold->index.active - 1);
        uint64_t word = atomic_load(&hold->index.entries[place]);
        struct owner_entry *entry = word ? small_at(hold->table, (uint32_t)word & 0x7fffffffu) : NULL;
        if (!entry)
            continue;
        entries--;
        struct owner owner = {.key = {atomic_load(&entry->key[0]), atomic_load(&entry->key[1])}};
        uint32_t before = hold->stripe->entries;
        if (atomic_load(&entry->state) != 0 || owner_walk(hold, &owner, call, NULL, NULL) != SESSILE_OK)
            continue;
        freed |= hold->stripe->entries < before;
    }
    return freed;
}

/* Stale references pile up only where no cap verifies them: the owner's own are verified each time they have doubled. */
static void sweep_own(struct stripe_hold *hold, const struct owner *owner, const struct sessile_call *call)
{
    uint32_t slot;
    struct owner_entry *entry = find(hold, owner->key, &slot);
    if (!entry || (entry->count & COUNT_MASK) < 1u << (entry->count >> COUNT_BITS & 31))
        return;
    enum sessile_status ignored = owner_walk(hold, owner, call, NULL, NULL);    /* busy: at the next log-in */
    (void)ignored;
}

enum sessile_status owner_claim(struct sessile *table, const struct owner *owner, uint64_t prefix,
                                const struct sessile_call *call, struct stripe_hold *hold, enum arena_answer *answer)
{
    enum sessile_status status = owner_enter(table, owner, call, hold);
    if (status != SESSILE_OK)
        return status;
    sweep_own(hold, owner, call);
    if (seems_stale(hold))
        sweep(hold, call, SWEEP_ENTRIES);
    *answer = owner_add(hold, owner, prefix);
    if (*answer == ARENA_NEED_PAGE && sweep(hold, call, SWEEP_WHEN_FULL))
        *answer = owner_add(hold, owner, prefix);
    if (*answer != ARENA_OK)
        owner_leave(hold);
    return SESSILE_OK;
}

bool owner_exceeds(const struct stripe_hold *hold, const struct owner *owner, uint32_t cap)
{
    uint32_t slot;
    const struct owner_entry *entry = find(hold, owner->key, &slot);
    return cap != 0 && entry && (entry->count & COUNT_MASK) > cap;
}

void owner_unclaim(struct stripe_hold *hold, const struct owner *owner, uint64_t prefix)
{
    drop(hold, owner, prefix);
    tidy(hold, owner);
    owner_leave(hold);
}

/* Moves an entry into another slot: filled before its key is set, found by the index from then on. */
static bool move_entry(struct stripe_hold *hold, uint32_t slot, struct owner_entry *entry)
{
    uint32_t to, holder = holder_of(hold->table, hold->number);
    struct page_lists *lists = &hold->stripe->lists;
    if (lists->free[ARENA_OWNED][ARENA_ENTRY] == 0 ||
        arena_take_small(&hold->table->arena, lists, holder, ARENA_ENTRY, ARENA_NO_WAIT, &to) != ARENA_OK)
        return false;
    struct owner_entry *new = small_at(hold->table, to);
    uint64_t key = atomic_load(&entry->key[0]);
    uint32_t hash = (uint32_t)atomic_load(&entry->key[1]);
    memcpy((uint8_t *)new + sizeof key, (const uint8_t *)entry + sizeof key, sizeof *new - sizeof key);
    record_order();
    atomic_store_explicit(&new->key[0], key, memory_order_release);
    record_order();
    index_replace(&hold->index, hash, slot, to);
    record_order();
    /* Its key first: an entry that is wiped halfway must not pass for the whole one. */
    atomic_store_explicit(&entry->key[0], 0, memory_order_release);
    record_order();
    system_wipe((void *)entry, sizeof *entry);
    arena_give(&hold->table->arena, lists, holder, slot);
    return true;
}

static bool evacuate_page(struct stripe_hold *hold, uint32_t unit)
{
    struct arena *arena = &hold->table->arena;
    struct page_lists *lists = &hold->stripe->lists;
    uint32_t next = unit;
    struct arena_page page;
    if (unit == UINT32_MAX || !arena_next_page(arena, holder_of(hold->table, hold->number), &next, &page) ||
        page.unit != unit || page.class == ARENA_LARGE)
        return false;
    seq_begin(hold->stripe);
    arena_unlist(arena, lists, unit);
    for (uint32_t i = 0; page.class == ARENA_ENTRY && i < page.slots; i++) {
        uint32_t slot = arena_slot_of(arena, unit, i, page.size);
        struct owner_entry *entry = small_at(hold->table, slot);
        if (entry && atomic_load(&entry->key[0]) != 0 && !move_entry(hold, slot, entry))
            break;
    }
    arena_relist(arena, lists, unit);
    bool returned = arena_return_page(arena, lists, unit);
    seq_end(hold->stripe);
    return returned;
}

bool owner_evacuate(struct sessile *table, uint32_t number, uint32_t unit, const struct sessile_call *call)
{
    struct stripe_hold hold;
    if (stripe_enter(table, number, call->wait_ms, &hold) != SESSILE_OK)
        return false;
    if (seems_stale(&hold))
        sweep(&hold, call, SWEEP_WHEN_FULL);
    if (unit == UINT32_MAX)
        unit = arena_sparsest(&table->arena, &hold.stripe->lists, ARENA_OWNED);
    bool returned = evacuate_page(&hold, unit);
    owner_leave(&hold);
    return returned;
}

bool owner_compact(struct sessile *table, uint32_t number, const struct sessile_call *call)
{
    return owner_evacuate(table, number, UINT32_MAX, call);
}

/* ---- recovery and checks ---- */

/* Of a free slot nothing stays: its page may be lent for records, where the first 8 bytes are a commit word (R3). */
static void wipe_small(void *slot)
{
    const uint64_t *words = slot;
    uint64_t any = 0;
    for (unsigned i = 0; slot && i < sizeof(struct owner_entry) / sizeof *words; i++)
        any |= words[i];
    if (any != 0)
        system_wipe(slot, sizeof(struct owner_entry));
}

static bool entry_taken(void *context, uint32_t slot)
{
    struct stripe_hold *hold = context;
    struct owner_entry *entry = small_at(hold->table, slot);
    if (!entry || atomic_load(&entry->key[0]) == 0) {
        wipe_small(entry);
        return false;
    }
    uint64_t key[2] = {atomic_load(&entry->key[0]), atomic_load(&entry->key[1])};
    uint32_t other;
    if (find(hold, key, &other)) {
        /* Killed while it was moved: both are the same, and the chain is marked through either. */
        wipe_small(entry);
        return false;
    }
    grow(hold);
    if (index_insert(&hold->index, (uint32_t)key[1], slot))
        hold->stripe->entries++;
    if (atomic_load(&entry->state) != 0)
        atomic_store(&hold->stripe->revoking, 1);
    return true;
}

static bool node_taken(void *context, uint32_t slot)
{
    const struct stripe_hold *hold = context;
    struct owner_node *node = small_at(hold->table, slot);
    bool taken = node && node->in_use == 1;
    if (!taken)
        wipe_small(node);
    return taken;
}

/* Marks the nodes of an entry's chain, and cuts it where it leads astray or into another chain (O3). */
static void mark_chain(const struct stripe_hold *hold, struct owner_entry *entry)
{
    _Atomic uint32_t *link = &entry->next;
    uint32_t count = 0;
    for (unsigned i = 0; i < ENTRY_REFS; i++)
        count += atomic_load(&entry->ref[i]) != 0;
    while (atomic_load(link) != 0) {
        struct owner_node *node = node_at(hold->table, hold->number, atomic_load(link));
        if (!node || node->in_use == 1) {
            atomic_store(link, 0);
            break;
        }
        node->in_use = 1;
        for (unsigned i = 0; i < NODE_REFS; i++)
            count += atomic_load(&node->ref[i]) != 0;
        link = &node->next;
    }
    entry->count = count | log_above(count) << COUNT_BITS;
}

static void for_small(struct stripe_hold *hold, uint32_t class, void (*each)(struct stripe_hold *hold, void *slot))
{
    const struct arena *arena = &hold->table->arena;
    struct arena_page page;
    for (uint32_t unit = 0; arena_next_page(arena, holder_of(hold->table, hold->number), &unit, &page);)
        for (uint32_t i = 0; page.class == class && i < page.slots; i++) {
            void *slot = small_at(hold->table, arena_slot_of(arena, page.unit, i, page.size));
            if (slot)
                each(hold, slot);
        }
}

static void unmark_node(struct stripe_hold *hold, void *slot)
{
    (void)hold;
    ((struct owner_node *)slot)->in_use = 0;
}

static void mark_entry(struct stripe_hold *hold, void *slot)
{
    if (atomic_load(&((struct owner_entry *)slot)->key[0]) != 0)
        mark_chain(hold, slot);
}

void owner_recover(struct sessile *table, uint32_t number)
{
    struct stripe_hold stripe = {.table = table, .stripe = stripe_at(table, number), .number = number};
    struct stripe_hold *hold = &stripe;
    struct arena *arena = &table->arena;
    struct arena_page page;
    uint32_t most = arena->geometry.index_entries;
    seq_begin(hold->stripe);
    struct index whole = {index_region(table, number), most, most};
    index_clear(&whole);
    hold->stripe->active = INDEX_FIRST < most ? INDEX_FIRST : most;
    hold->stripe->entries = 0;
    view(hold);
    for_small(hold, ARENA_NODE, unmark_node);
    for_small(hold, ARENA_ENTRY, mark_entry);
    arena_rebuild_begin(&hold->stripe->lists);
    for (uint32_t unit = 0; arena_next_page(arena, holder_of(table, number), &unit, &page);)
        arena_rebuild_page(arena, &hold->stripe->lists, &page, page.class == ARENA_ENTRY ? entry_taken : node_taken,
                           hold);
    seq_end(hold->stripe);
}

/* Adds the nodes of an entry's chain to *nodes. */
static void check_chain(const struct stripe_hold *hold, const struct owner_entry *entry, uint32_t *nodes,
                        struct check *check)
{
    struct chain chain = {.next = atomic_load(&entry->next)};
    while (chain_next(hold, &chain))
        *nodes += 1;
    if (chain.next != 0)
        check_finding(check, "O3: stripe %u: a chain leads astray at slot %u", hold->number, chain.next);
}

void owner_check(const struct stripe_hold *hold, struct check *check)
{
    const struct page_lists *lists = &hold->stripe->lists;
    uint32_t nodes = 0, taken = lists->live[ARENA_OWNED][ARENA_NODE] + lists->live[ARENA_ANONYMOUS][ARENA_NODE];
    uint32_t broken, count = index_count(&hold->index, &broken);
    if (broken || count != hold->stripe->entries)
        check_finding(check, "I1, I2: stripe %u: %u entries, counted as %u, %u not found from their home", hold->number,
                      count, hold->stripe->entries, broken);
    if (atomic_load(&hold->stripe->seq) & 1)
        check_finding(check, "O3: stripe %u is in the middle of a write", hold->number);
    for (uint32_t at = 0; at < hold->index.active; at++) {
        uint64_t word = atomic_load(&hold->index.entries[at]);
        const struct owner_entry *entry = word ? small_at(hold->table, (uint32_t)word & 0x7fffffffu) : NULL;
        if (word && (!entry || atomic_load(&entry->key[0]) == 0))
            check_finding(check, "O3: stripe %u: index entry %u leads to no owner", hold->number, at);
        else if (entry && atomic_load(&entry->state) != 0)
            check_finding(check, "O2: stripe %u: an unfinished revocation", hold->number);
        if (entry)
            check_chain(hold, entry, &nodes, check);
    }
    if (nodes != taken)
        check_finding(check, "O3: stripe %u: %u nodes in chains, %u taken", hold->number, nodes, taken);
    arena_check_holder(&hold->table->arena, &hold->stripe->lists, holder_of(hold->table, hold->number), check);
}
