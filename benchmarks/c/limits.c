/* limits.c - what the machine allows: nothing that looks something up in memory can be faster.
 *
 * Prints lines "what nanoseconds": a dependent load from working sets of several sizes (each step goes to the address that
 * the one before it read, in an order that no prefetcher guesses), a keyed digest of an id, a checksum of 160 bytes.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "crc32c.h"
#include "digest.h"

enum { LINE = 64, STEPS = 2000000 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static uint64_t random_number(void)
{
    static uint64_t state = 1;
    uint64_t mixed = state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

/* One cycle through all lines, in random order (Sattolo). */
static void chase(const char *name, size_t size)
{
    size_t lines = size / LINE;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *order = malloc(lines * sizeof *order);
    if (memory == MAP_FAILED || order == NULL)
        exit(1);
    for (size_t i = 0; i < lines; i++)
        order[i] = (uint32_t)i;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t other = random_number() % i;
        uint32_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < lines; i++)
        *(void **)(void *)(memory + (size_t)order[i] * LINE) = memory + (size_t)order[(i + 1) % lines] * LINE;
    void *volatile *at = (void *volatile *)(void *)memory;
    for (size_t i = 0; i < STEPS / 4; i++)
        at = (void *volatile *)*at;
    double start = now();
    for (size_t i = 0; i < STEPS; i++)
        at = (void *volatile *)*at;
    printf("a dependent read, %s|%.1f\n", name, (now() - start) / STEPS + (at == NULL));
    munmap(memory, size);
    free(order);
}

static void digests(void)
{
    static const uint8_t key[DIGEST_BLOCK] = {1};
    struct digest_key ready;
    uint8_t digest[DIGEST_SIZE] = {0};
    uint8_t id[DIGEST_ID_LENGTH + 1] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    digest_key_init(&ready, key);
    double start = now();
    for (unsigned i = 0; i < STEPS; i++) {
        id[0] = (uint8_t)('A' + (digest[0] & 15));    /* each waits for the one before */
        digest_id(&ready, id, digest);
    }
    printf("the digest of an id|%.1f\n", (now() - start) / STEPS);
}

static void checksums(void)
{
    static uint8_t bytes[160];
    uint32_t sum = 0;
    double start = now();
    for (unsigned i = 0; i < STEPS; i++)
        sum = crc32c(sum, bytes, sizeof bytes);
    printf("the checksum of 160 bytes|%.1f\n", (now() - start) / STEPS + (sum == 1 ? 1e-9 : 0));
}

int main(void)
{
    chase("16 KiB", 16 << 10);
    chase("512 KiB", 512 << 10);
    chase("16 MiB", 16 << 20);
    chase("256 MiB", 256 << 20);
    chase("2 GiB", (size_t)2 << 30);
    digests();
    checksums();
    return 0;
}
