/* doors.c - stands in for some functions of system.c (linked with --wrap): a clock that only tests move, waits that are over
 * at once, randomness from a seed, and a word to the tracer of each mapping that is made. */
#include <errno.h>
#include <string.h>

#include "system.h"
#include "world.h"

struct doors doors = {.clock_ms = 1000000000, .monotonic_ms = 1, .random = 1};

int64_t __wrap_system_clock_ms(void);
int64_t __wrap_system_monotonic_ms(void);
int __wrap_system_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t wait_ms);
int __wrap_system_random(void *bytes, size_t length);
int __wrap_system_map(int descriptor, size_t size, void **mapping);
int __real_system_map(int descriptor, size_t size, void **mapping);

int64_t __wrap_system_clock_ms(void)
{
    return doors.clock ? *doors.clock : doors.clock_ms;
}

int64_t __wrap_system_monotonic_ms(void)
{
    return doors.monotonic_ms;
}

int __wrap_system_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t wait_ms)
{
    (void)word;
    (void)expected;
    doors.monotonic_ms += wait_ms;
    return -ETIMEDOUT;
}

int __wrap_system_random(void *bytes, size_t length)
{
    uint8_t *next = bytes;
    for (size_t i = 0; i < length; i++)
        next[i] = (uint8_t)world_random(&doors.random);
    return 0;
}

int __wrap_system_map(int descriptor, size_t size, void **mapping)
{
    int status = __real_system_map(descriptor, size, mapping);
    if (status == 0 && doors.mapped && size > ARENA_HEADER_SIZE)
        *mapping = doors.mapped(*mapping, size);
    return status;
}
