/* system.h - the one door to the operating system: mapping, reservation, futex, file locks, clock, randomness, threads.
 *
 * Nothing else in csrc makes a system call, so that a test can refuse any of them (system_fault) and move the clock.
 * Functions answer 0 or a negative errno. Those marked (child) are safe in the child of a fork of a threaded process.
 */
#ifndef SESSILE_SYSTEM_H
#define SESSILE_SYSTEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__linux__)
#error "sessile needs Linux: memfd_create, futex and open-file-description locks"
#endif
#if UINTPTR_MAX != 0xffffffffffffffffu
#error "sessile needs a 64-bit platform"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sessile needs a little-endian platform"
#endif

struct system_identity {           /* of a file: a descriptor's number may come to mean another file */
    uint64_t device, inode;
};

enum system_operation {
    SYSTEM_MEMFD, SYSTEM_OPEN, SYSTEM_TRUNCATE, SYSTEM_MMAP, SYSTEM_RESERVE, SYSTEM_SEAL, SYSTEM_BYTE_LOCK, SYSTEM_FUTEX,
    SYSTEM_STAT, SYSTEM_LINK, SYSTEM_MADVISE, SYSTEM_RANDOM, SYSTEM_CHMOD, SYSTEM_MKDIR, SYSTEM_WRITE, SYSTEM_UNLINK,
    SYSTEM_THREAD, SYSTEM_OPERATION_COUNT
};
#ifdef SESSILE_FAULTS
/* Tests: asked before each operation; an errno that is not 0 is its result, and the call is not made. */
extern int (*system_fault)(enum system_operation operation);
#endif

int64_t system_clock_ms(void);                       /* boot-time clock */
int64_t system_monotonic_ms(void);                   /* for waits */
int system_random(void *bytes, size_t length);       /* the kernel's generator */
int system_boot_id(uint8_t id[16]);
uint64_t system_time_namespace(void);                /* inode of this process's time namespace; 0: unknown */
uint32_t system_process_id(void);

int system_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t wait_ms);
void system_futex_wake(_Atomic uint32_t *word);      /* one waiter */
void system_pause(void);

int system_memory_file(size_t size);                 /* a sealed memfd of this size, mode 0600: descriptor */
int system_identify(int descriptor, struct system_identity *identity);  /* (child) */
int system_reopen(int descriptor);                   /* a new description of the same file (child) */
int system_close(int descriptor);                    /* (child) */
int system_map(int descriptor, size_t size, void **mapping);            /* shared; descriptor -1: private memory */
void system_unmap(void *mapping, size_t size);
int system_reserve(int descriptor, uint64_t offset, uint64_t length);
/* Reserves pages of a mapping whose descriptor is gone; EFAULT instead of a signal where there is no room. */
int system_populate(void *address, size_t length);
/* Takes the lock of one byte of the file for this open file description, without waiting: -EAGAIN when it is taken. (child) */
int system_byte_lock(int descriptor, uint64_t offset);
/* Maps one page of the descriptor where no child inherits it, so that the description and its locks live as long as the
 * process, and closes the descriptor: nothing can close a mapping by accident. (child) */
int system_pin(int descriptor, void **pin);
void system_unpin(void *pin);                        /* (child) */
int system_wiped_page(void **page);                  /* a page that reads as zeroes in a forked child */
int system_secret_page(void **page, size_t size);    /* not in core dumps, not swapped where that is allowed */
void system_secret_free(void *page, size_t size);    /* wipes first */
/* Runs `work` in this thread and, where there is another, beside it, and waits for both: each is to take its share of what is
 * left to do. The other one answers no signals. */
void system_both(void (*work)(void *context), void *context);
size_t system_page_size(void);
void system_wipe(void *bytes, size_t length);        /* a memset that is not optimised away */

#endif
