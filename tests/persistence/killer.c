/* killer.c - runs a program and kills it at one system call, before the kernel does anything of it.
 *
 *    killer NUMBER PROGRAM ARGUMENT…
 *
 * System calls of all its threads are counted from its first getppid() to its second. It is killed at the entry of the one
 * with this number, from 0: status 0, and the call's number on stderr. Had it fewer: status 1. Anything else: status 2.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSTEM_CALL_STOP (SIGTRAP | 0x80)
#define OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)

struct count {
    long number, seen;
    int marks;                             /* getppid() so far */
};

/* One system call is entered or left. True: here the program is to be killed. */
static bool is_here(struct count *count, pid_t thread)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return false;
    if (info.entry.nr == SYS_getppid)
        count->marks++;
    else if (count->marks == 1 && count->seen++ == count->number) {
        fprintf(stderr, "%llu\n", (unsigned long long)info.entry.nr);
        return true;
    }
    return false;
}

static int trace(pid_t program, long number)
{
    struct count count = {.number = number};
    int status;
    if (waitpid(program, &status, 0) != program || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, program, NULL, OPTIONS) != 0)
        return 2;
    pid_t thread = program;
    int signal = 0;
    for (;;) {
        ptrace(count.marks < 2 ? PTRACE_SYSCALL : PTRACE_CONT, thread, NULL, (long)signal);
        thread = waitpid(-1, &status, __WALL);
        if (thread < 0)
            return 2;
        signal = 0;
        if (thread == program && (WIFEXITED(status) || WIFSIGNALED(status)))
            return WIFEXITED(status) && WEXITSTATUS(status) == 0 && count.marks == 2 ? 1 : 2;
        if (!WIFSTOPPED(status))
            continue;
        if (WSTOPSIG(status) == SYSTEM_CALL_STOP) {
            if (is_here(&count, thread)) {
                kill(program, SIGKILL);
                while (waitpid(-1, &status, __WALL) > 0) {
                }    /* its leader is told of last, and only when all others were */
                return 0;
            }
        } else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
            signal = WSTOPSIG(status);
        }
    }
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 2;
    pid_t program = fork();
    if (program == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execvp(arguments[2], arguments + 2);
        _exit(2);
    }
    return program < 0 ? 2 : trace(program, atol(arguments[1]));
}
