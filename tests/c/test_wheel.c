/* test_wheel.c - csrc/wheel.c against an array of deadlines: what fires first, how late, and that nothing is missed; W1 and W2. */
#include "tables.h"

#define RECORDS 600u
#define START 69120000u              /* 800 days, where the clock of a table starts */
#define RANGE (64u * 64 * 64 * 64)

static struct sessile *table;
static struct wheel wheels[WHEEL_COUNT];
static uint32_t now;
static uint64_t state = 1;
static struct {
    bool filed;
    enum wheel_kind kind;
    uint32_t deadline, fires;
} filed[RECORDS];

static uint32_t slot_of(unsigned i)
{
    return table->arena.geometry.first_slot + 2 * i;
}

static unsigned number_of(uint32_t slot)
{
    return (slot - table->arena.geometry.first_slot) / 2;
}

static void begin(void)
{
    for (unsigned kind = 0; kind < WHEEL_COUNT; kind++)
        wheel_clear(&wheels[kind]);
    for (unsigned i = 0; i < RECORDS; i++) {
        filed[i].filed = false;
        struct record *record = arena_record(&table->arena, slot_of(i));
        atomic_store(&record->next, 0);
        atomic_store(&record->prev, 0);
    }
    now = START + (uint32_t)(check_random(&state) % 100000);
}

static void file(unsigned i, enum wheel_kind kind, uint32_t deadline)
{
    filed[i].filed = true;
    filed[i].kind = kind;
    filed[i].deadline = deadline;
    filed[i].fires = wheel_add(&table->arena, wheels, kind, slot_of(i), deadline, now);
    CHECK(filed[i].fires > now);
}

static void take_off(unsigned i)
{
    wheel_remove(&table->arena, wheels, slot_of(i));
    filed[i].filed = false;
}

static uint32_t findings(uint32_t *count)
{
    struct findings found = {0};
    struct check check = {.report = note_finding, .context = &found};
    wheel_check(&table->arena, wheels, count, &check);
    return found.count;
}

/* Is the first to fire what the array says? */
static void agree(void)
{
    uint32_t count, expected = 0;
    for (unsigned kind = 0; kind < WHEEL_COUNT; kind++) {
        uint32_t first = WHEEL_NEVER, slot = 0;
        for (unsigned i = 0; i < RECORDS; i++)
            if (filed[i].filed && filed[i].kind == kind) {
                expected++;
                first = filed[i].fires < first ? filed[i].fires : first;
            }
        CHECK(wheel_first(&wheels[kind], now, false, &slot) == first);
        CHECK(first == WHEEL_NEVER || filed[number_of(slot)].fires == first);
        uint32_t opens = wheel_first(&wheels[kind], now, true, &slot);
        CHECK(opens <= first);
    }
    CHECK(findings(&count) == 0 && count == expected);
}

static uint32_t some_deadline(void)
{
    /* As many in each scale, up to beyond the range. */
    uint32_t bits = (uint32_t)(check_random(&state) % 26);
    return now + (uint32_t)(check_random(&state) % ((uint64_t)1 << bits)) + (check_random(&state) % 4 == 0 ? 0 : 1);
}

static void the_first_to_fire_is_known_at_once_w1_w2(void)
{
    begin();
    for (unsigned step = 0; step < 6000; step++) {
        unsigned i = (unsigned)(check_random(&state) % RECORDS);
        if (filed[i].filed)
            take_off(i);
        else
            file(i, (enum wheel_kind)(check_random(&state) % WHEEL_COUNT), some_deadline());
        if (step % 8 == 0)
            agree();
    }
    for (unsigned i = 0; i < RECORDS; i++)
        if (filed[i].filed)
            take_off(i);
    agree();
}

/* Late by less than its bucket, whose level is the lowest that reaches it; never early but beyond the range. */
static void a_record_fires_at_its_deadline_or_a_little_late(void)
{
    for (unsigned step = 0; step < 20000; step++) {
        if (step % 500 == 0)
            begin();
        unsigned i = step % 500;
        uint32_t deadline = some_deadline(), distance = deadline > now ? deadline - now : 1;
        file(i, WHEEL_OWNED, deadline);
        uint32_t head = atomic_load(&arena_record(&table->arena, slot_of(i))->prev), level = head >> 6 & 3;
        CHECK(head >> 31 && (level == 0 || distance > 63u << 6 * (level - 1)));
        if (distance < RANGE - RANGE / 64)
            CHECK(filed[i].fires >= deadline && filed[i].fires - deadline < (deadline > now ? 1u << 6 * level : 1 + now - deadline + 1));
        else
            CHECK(filed[i].fires >= now + RANGE - RANGE / 64);
    }
}

/* With the time going on as shard_advance() lets it: up to the tick before the first to fire, then that bucket is emptied. */
static void everything_fires_in_its_turn(void)
{
    begin();
    uint32_t left = RECORDS, last = now;
    for (unsigned i = 0; i < RECORDS; i++)
        file(i, (enum wheel_kind)(i % WHEEL_COUNT), some_deadline());
    while (left > 0) {
        uint32_t slot = 0, first = WHEEL_NEVER;
        for (unsigned kind = 0; kind < WHEEL_COUNT; kind++) {
            uint32_t found = 0, tick = wheel_first(&wheels[kind], now, false, &found);
            if (tick < first) {
                first = tick;
                slot = found;
            }
        }
        CHECK(first != WHEEL_NEVER && first >= last);
        last = first;
        now = first - 1 > now ? first - 1 : now;
        unsigned i = number_of(slot);
        CHECK(filed[i].filed && filed[i].fires == first);
        take_off(i);
        if (filed[i].deadline > first) {
            file(i, filed[i].kind, filed[i].deadline);    /* beyond the range: filed anew */
        } else {
            left--;
        }
        if (left % 50 == 0)
            agree();
    }
    uint32_t count;
    CHECK(findings(&count) == 0 && count == 0);
}

/* A sweep opens buckets at their beginning: a bucket that could hold something due is opened. */
static void a_sweep_misses_nothing_that_is_due(void)
{
    for (unsigned turn = 0; turn < 50; turn++) {
        begin();
        for (unsigned i = 0; i < RECORDS; i++)
            file(i, WHEEL_PROVEN, some_deadline());
        uint32_t then = now + (uint32_t)(check_random(&state) % 200000), slot = 0;
        while (wheel_first(&wheels[WHEEL_PROVEN], now, true, &slot) <= then) {
            uint32_t fires = wheel_first(&wheels[WHEEL_PROVEN], now, false, &(uint32_t){0});
            now = fires - 1 < then ? (fires - 1 > now ? fires - 1 : now) : then;
            if (wheel_first(&wheels[WHEEL_PROVEN], now, true, &slot) > then)
                break;
            unsigned i = number_of(slot);
            take_off(i);
            if (filed[i].deadline > then)
                file(i, WHEEL_PROVEN, filed[i].deadline);
        }
        for (unsigned i = 0; i < RECORDS; i++)
            CHECK(!filed[i].filed || filed[i].deadline >= then);
    }
}

static void the_check_names_w1(void)
{
    uint32_t count;
    begin();
    file(1, WHEEL_OWNED, now + 10);
    struct findings found = {0};
    struct check check = {.report = note_finding, .context = &found};
    wheels[WHEEL_OWNED].bitmap[0] = 0;
    wheel_check(&table->arena, wheels, &count, &check);
    CHECK(found.count == 1 && names(&found, "W1"));
    begin();
    wheels[WHEEL_PROBATION].bitmap[3] = 1;
    wheel_check(&table->arena, wheels, &count, &check);
    CHECK(found.count == 2 && count == 0);
}

static void the_check_names_w2(void)
{
    uint32_t count;
    struct findings found = {0};
    struct check check = {.report = note_finding, .context = &found};
    begin();
    for (unsigned i = 0; i < 3; i++)
        file(i, WHEEL_OWNED, now + 10);
    atomic_store(&arena_record(&table->arena, slot_of(1))->prev, slot_of(0));
    wheel_check(&table->arena, wheels, &count, &check);
    CHECK(found.count == 1 && names(&found, "W2") && count == 1);
    /* A list that leads outside, or in a circle, ends the check. */
    begin();
    for (unsigned i = 0; i < 3; i++)
        file(i, WHEEL_OWNED, now + 10);
    atomic_store(&arena_record(&table->arena, slot_of(1))->next, UINT32_MAX);
    wheel_check(&table->arena, wheels, &count, &check);
    CHECK(found.count == 2);
    atomic_store(&arena_record(&table->arena, slot_of(0))->next, slot_of(2));
    atomic_store(&arena_record(&table->arena, slot_of(2))->next, slot_of(2));
    wheel_check(&table->arena, wheels, &count, &check);
    CHECK(found.count == 3);
}

/* Links from a damaged mapping lead nowhere outside of it. */
static void damaged_links_are_not_followed(void)
{
    static const uint32_t links[] = {1, 0x7fffffff, 0x80000000u, 0x80000300u, 0xffffffffu, 0x00100000};
    for (unsigned a = 0; a < 6; a++)
        for (unsigned b = 0; b < 6; b++) {
            begin();
            for (unsigned i = 0; i < 3; i++)
                file(i, WHEEL_OWNED, now + 10);
            atomic_store(&arena_record(&table->arena, slot_of(1))->next, links[a]);
            atomic_store(&arena_record(&table->arena, slot_of(1))->prev, links[b]);
            wheel_remove(&table->arena, wheels, slot_of(1));
            wheel_add(&table->arena, wheels, WHEEL_OWNED, slot_of(1), now + 10, now);
            wheels[WHEEL_OWNED].heads[0][(now + 10) & 63] = links[a];
            wheel_add(&table->arena, wheels, WHEEL_OWNED, slot_of(4), now + 10, now);
            wheel_remove(&table->arena, wheels, links[b]);
            CHECK(wheel_add(&table->arena, wheels, WHEEL_OWNED, UINT32_MAX, now, now) == WHEEL_NEVER);
        }
}

int main(void)
{
    table = open_table(1000, 2 << 20, 0.5);
    RUN(the_first_to_fire_is_known_at_once_w1_w2);
    RUN(a_record_fires_at_its_deadline_or_a_little_late);
    RUN(everything_fires_in_its_turn);
    RUN(a_sweep_misses_nothing_that_is_due);
    RUN(the_check_names_w1);
    RUN(the_check_names_w2);
    RUN(damaged_links_are_not_followed);
    sessile_close(table);
    return check_summary();
}
