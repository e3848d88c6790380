/* wheel.c - see wheel.h. */
#include "wheel.h"

#define HEAD_MARK 0x80000000u

static uint32_t read_link(const _Atomic uint32_t *link)
{
    return atomic_load_explicit(link, memory_order_relaxed);
}

static void write_link(_Atomic uint32_t *link, uint32_t value)
{
    atomic_store_explicit(link, value, memory_order_relaxed);
}

static uint32_t head_code(enum wheel_kind kind, uint32_t level, uint32_t bucket)
{
    return HEAD_MARK | (uint32_t)kind << 8 | level << 6 | bucket;
}

/* Level and bucket for a deadline: the first level on which it lies 1 to 64 buckets ahead. The bucket 64 ahead has the
 * number of the current one, which has fired and is empty. */
static uint32_t choose(uint32_t deadline, uint32_t now, uint32_t *level, uint32_t *bucket)
{
    uint64_t fires = 0;
    for (uint32_t l = 0; l < WHEEL_LEVELS; l++) {
        uint64_t step = (uint64_t)1 << (6 * l);
        uint64_t at = ((uint64_t)deadline + step - 1) >> (6 * l), current = (uint64_t)now >> (6 * l);
        if (at <= current)
            at = current + 1;
        *level = l;
        *bucket = (uint32_t)(at & 63);
        fires = at << (6 * l);
        if (at - current <= WHEEL_BUCKETS)
            break;
        *bucket = (uint32_t)((current + WHEEL_BUCKETS) & 63);
        fires = (current + WHEEL_BUCKETS) << (6 * l);
    }
    return fires < WHEEL_NEVER ? (uint32_t)fires : WHEEL_NEVER - 1;
}

uint32_t wheel_add(const struct arena *arena, struct wheel *wheels, enum wheel_kind kind, uint32_t slot, uint32_t deadline,
                   uint32_t now)
{
    struct record *record = arena_record(arena, slot);
    uint32_t level = 0, bucket = 0;
    if (!record)
        return WHEEL_NEVER;
    uint32_t fires = choose(deadline, now, &level, &bucket);
    struct wheel *wheel = &wheels[kind];
    uint32_t next = wheel->heads[level][bucket];
    struct record *follower = next ? arena_record(arena, next) : NULL;
    write_link(&record->next, follower ? next : 0);
    write_link(&record->prev, head_code(kind, level, bucket));
    if (follower)
        write_link(&follower->prev, slot);
    wheel->heads[level][bucket] = slot;
    wheel->bitmap[level] |= (uint64_t)1 << bucket;
    return fires;
}

void wheel_remove(const struct arena *arena, struct wheel *wheels, uint32_t slot)
{
    struct record *record = arena_record(arena, slot);
    if (!record)
        return;
    uint32_t next = read_link(&record->next), prev = read_link(&record->prev);
    if (prev == 0)
        return;
    struct record *follower = next ? arena_record(arena, next) : NULL;
    if (prev & HEAD_MARK) {
        uint32_t kind = prev >> 8 & 3, level = prev >> 6 & 3, bucket = prev & 63;
        if (kind >= WHEEL_COUNT)
            return;
        wheels[kind].heads[level][bucket] = follower ? next : 0;
        if (!follower)
            wheels[kind].bitmap[level] &= ~((uint64_t)1 << bucket);
    } else {
        struct record *leader = arena_record(arena, prev);
        if (leader)
            write_link(&leader->next, follower ? next : 0);
    }
    if (follower)
        write_link(&follower->prev, prev);
    write_link(&record->next, 0);
    write_link(&record->prev, 0);
}

/* The tick at which the first set bucket of a level after `now` fires. */
static uint32_t first_of_level(uint64_t bitmap, uint32_t level, uint32_t now, uint32_t *bucket)
{
    uint32_t current = now >> (6 * level), from = (current + 1) & 63;
    uint64_t turned = from == 0 ? bitmap : bitmap >> from | bitmap << (64 - from);
    uint32_t ahead = (uint32_t)__builtin_ctzll(turned);
    *bucket = (from + ahead) & 63;
    uint64_t tick = ((uint64_t)current + 1 + ahead) << (6 * level);
    return tick >= WHEEL_NEVER ? WHEEL_NEVER - 1 : (uint32_t)tick;
}

uint32_t wheel_first(const struct wheel *wheel, uint32_t now, bool opens, uint32_t *slot)
{
    uint32_t best = WHEEL_NEVER;
    for (uint32_t level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t bitmap = wheel->bitmap[level];
        uint32_t bucket;
        if (bitmap == 0)
            continue;
        uint32_t tick = first_of_level(bitmap, level, now, &bucket);
        if (opens)
            tick -= ((uint32_t)1 << (6 * level)) - 1;
        if (tick < best) {
            best = tick;
            *slot = wheel->heads[level][bucket];
        }
    }
    return best;
}

void wheel_clear(struct wheel *wheel)
{
    memset(wheel, 0, sizeof *wheel);
}

static uint32_t check_bucket(const struct arena *arena, uint32_t first, uint32_t code, struct check *check)
{
    uint32_t count = 0, expected = code;
    for (uint32_t slot = first; slot != 0;) {
        const struct record *record = arena_record(arena, slot);
        if (!record || count > arena->geometry.end_slot) {
            check_finding(check, "W2: bucket %x leads outside the data", code);
            break;
        }
        if (read_link(&record->prev) != expected) {
            check_finding(check, "W2: record at slot %u does not lead back", slot);
            break;
        }
        count++;
        expected = slot;
        slot = read_link(&record->next);
    }
    return count;
}

void wheel_check(const struct arena *arena, const struct wheel *wheels, uint32_t *filed, struct check *check)
{
    *filed = 0;
    for (uint32_t kind = 0; kind < WHEEL_COUNT; kind++)
        for (uint32_t level = 0; level < WHEEL_LEVELS; level++)
            for (uint32_t bucket = 0; bucket < WHEEL_BUCKETS; bucket++) {
                uint32_t head = wheels[kind].heads[level][bucket];
                if ((wheels[kind].bitmap[level] >> bucket & 1) != (head != 0))
                    check_finding(check, "W1: wheel %u level %u bucket %u: bitmap and head differ", kind, level, bucket);
                if (head)
                    *filed += check_bucket(arena, head, head_code((enum wheel_kind)kind, level, bucket), check);
            }
}
