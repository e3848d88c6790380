/* marks.c - tells callgrind where an operation begins and ends: a shared object for Python, or linked into a program.
 *
 * Outside callgrind both do nothing. Each mark_end() makes callgrind write a file of what ran since mark_begin(), with the
 * name in it.
 */
#include <valgrind/callgrind.h>

void mark_begin(void);
void mark_end(const char *name);

void mark_begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void mark_end(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
