/* check.h - what the C tests stand on.
 *
 *     static void what_it_proves(void) { CHECK(1 + 1 == 2); }
 *     int main(void) { RUN(what_it_proves); return check_summary(); }
 *
 * A CHECK that does not hold prints its place and ends the program with status 1: a table in a wrong state proves
 * nothing further. CHECK holds in every build, and may be used in a child of fork() and in a thread.
 */
#ifndef SESSILE_TESTS_CHECK_H
#define SESSILE_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #condition))
#define RUN(test) (test(), (void)check_passed++)

__attribute__((unused)) static unsigned check_passed;

__attribute__((noreturn)) static inline void check_failed(const char *file, int line, const char *function,
                                                          const char *condition)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, function, condition);
    exit(1);
}

/* Prints the closing line; the result is the exit status of the program. */
static inline int check_summary(void)
{
    printf("%u passed, 0 failed\n", check_passed);
    return 0;
}

/* The next of a fixed series of 64-bit numbers (SplitMix64); any value starts one. */
static inline uint64_t check_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

#endif
