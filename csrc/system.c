/* system.c - see system.h. */
#define _GNU_SOURCE
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

#ifdef SESSILE_FAULTS
int (*system_fault)(enum system_operation operation);
#define FAULT(operation)                                              \
    do {                                                              \
        int fault = system_fault ? system_fault(operation) : 0;       \
        if (fault)                                                    \
            return -fault;                                            \
    } while (0)
#else
#define FAULT(operation) ((void)0)
#endif

static int result(int value)
{
    return value < 0 ? -errno : value;
}

static int64_t milliseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t system_clock_ms(void)
{
    return milliseconds(CLOCK_BOOTTIME);
}

int64_t system_monotonic_ms(void)
{
    return milliseconds(CLOCK_MONOTONIC);
}

int system_random(void *bytes, size_t length)
{
    FAULT(SYSTEM_RANDOM);
    uint8_t *next = bytes;
    while (length > 0) {
        ssize_t got = getrandom(next, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        next += got;
        length -= (size_t)got;
    }
    return 0;
}

static int hexadecimal(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

int system_boot_id(uint8_t id[16])
{
    FAULT(SYSTEM_OPEN);
    memset(id, 0, 16);
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    char text[40] = {0};
    ssize_t got = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    size_t nibble = 0;
    for (ssize_t i = 0; i < got && nibble < 32; i++) {
        int value = hexadecimal(text[i]);
        if (value < 0)
            continue;
        id[nibble / 2] = (uint8_t)(id[nibble / 2] << 4 | value);
        nibble++;
    }
    return nibble == 32 ? 0 : -EIO;
}

uint64_t system_time_namespace(void)
{
    struct stat facts;
    return stat("/proc/self/ns/time", &facts) == 0 ? (uint64_t)facts.st_ino : 0;
}

uint32_t system_process_id(void)
{
    return (uint32_t)getpid();
}

int system_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t wait_ms)
{
    FAULT(SYSTEM_FUTEX);
    struct timespec limit = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
    return result((int)syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, NULL, 0));
}

void system_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void system_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int system_memory_file(size_t size)
{
    FAULT(SYSTEM_MEMFD);
    int descriptor = memfd_create("sessile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0)
        return -errno;
    if (fchmod(descriptor, 0600) < 0 || ftruncate(descriptor, (off_t)size) < 0 ||
        fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int system_identify(int descriptor, struct system_identity *identity)
{
    FAULT(SYSTEM_STAT);
    struct stat facts;
    if (fstat(descriptor, &facts) < 0)
        return -errno;
    identity->device = (uint64_t)facts.st_dev;
    identity->inode = (uint64_t)facts.st_ino;
    return 0;
}

int system_reopen(int descriptor)
{
    FAULT(SYSTEM_OPEN);
    /* By hand: snprintf is not safe in the child of a fork. */
    char path[32] = "/proc/self/fd/";
    char digits[12];
    size_t count = 0, end = strlen(path);
    unsigned number = (unsigned)descriptor;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count > 0)
        path[end++] = digits[--count];
    path[end] = 0;
    return result(open(path, O_RDWR | O_CLOEXEC));
}

int system_close(int descriptor)
{
    return result(close(descriptor));
}

int system_map(int descriptor, size_t size, void **mapping)
{
    FAULT(SYSTEM_MMAP);
    int flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (address == MAP_FAILED)
        return -errno;
    madvise(address, size, MADV_DONTDUMP);
    *mapping = address;
    return 0;
}

void system_unmap(void *mapping, size_t size)
{
    munmap(mapping, size);
}

int system_reserve(int descriptor, uint64_t offset, uint64_t length)
{
    FAULT(SYSTEM_RESERVE);
    int status;
    do {
        status = fallocate(descriptor, 0, (off_t)offset, (off_t)length);
    } while (status < 0 && errno == EINTR);
    return result(status);
}

int system_populate(void *address, size_t length)
{
    FAULT(SYSTEM_MADVISE);
    return result(madvise(address, length, MADV_POPULATE_WRITE));
}

int system_byte_lock(int descriptor, uint64_t offset)
{
    FAULT(SYSTEM_BYTE_LOCK);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
    int status = result(fcntl(descriptor, F_OFD_SETLK, &lock));
    return status == -EACCES ? -EAGAIN : status;
}

int system_pin(int descriptor, void **pin)
{
    FAULT(SYSTEM_MMAP);
    void *address = mmap(NULL, system_page_size(), PROT_READ, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED)
        return -errno;
    if (madvise(address, system_page_size(), MADV_DONTFORK) < 0) {
        int error = errno;
        munmap(address, system_page_size());
        return -error;
    }
    madvise(address, system_page_size(), MADV_DONTDUMP);
    close(descriptor);
    *pin = address;
    return 0;
}

void system_unpin(void *pin)
{
    munmap(pin, system_page_size());
}

int system_wiped_page(void **page)
{
    FAULT(SYSTEM_MMAP);
    void *address = mmap(NULL, system_page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
        return -errno;
    if (madvise(address, system_page_size(), MADV_WIPEONFORK) < 0) {
        int error = errno;
        munmap(address, system_page_size());
        return -error;
    }
    *page = address;
    return 0;
}

int system_secret_page(void **page, size_t size)
{
    FAULT(SYSTEM_MMAP);
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
        return -errno;
    madvise(address, size, MADV_DONTDUMP);
    (void)mlock(address, size);    /* best effort: RLIMIT_MEMLOCK may forbid it */
    *page = address;
    return 0;
}

void system_secret_free(void *page, size_t size)
{
    system_wipe(page, size);
    munmap(page, size);
}

struct share {
    void (*work)(void *context);
    void *context;
};

static void *run_share(void *pointer)
{
    const struct share *share = pointer;
    share->work(share->context);
    return NULL;
}

static int start(pthread_t *thread, struct share *share)
{
    FAULT(SYSTEM_THREAD);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run_share, share);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

void system_both(void (*work)(void *context), void *context)
{
    struct share share = {.work = work, .context = context};
    pthread_t thread;
    bool started = start(&thread, &share) == 0;
    work(context);
    if (started)
        pthread_join(thread, NULL);
}

size_t system_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void system_wipe(void *bytes, size_t length)
{
    memset(bytes, 0, length);
    __asm__ volatile("" : : "r"(bytes) : "memory");
}
