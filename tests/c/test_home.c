/* test_home.c - what sessile_open() checks before it uses a file as its table, one thing wrong at a time; and what it does
 * after an unclean end (MPR-03, MPR-04). The private home has no files: the tests then say so.
 */
#define _GNU_SOURCE
#include "tables.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crc32c.h"

static char folder[64], path[96], aside[96];
static uint32_t pretended_type;    /* of the file system; 0: what it is */
static uint64_t pretended_free = UINT64_MAX;

/* In the place of the C library's. */
int fstatfs(int file, struct statfs *facts)
{
    if (syscall(SYS_fstatfs, file, facts) != 0)
        return -1;
    if (pretended_type)
        facts->f_type = (__typeof__(facts->f_type))pretended_type;
    if (pretended_free != UINT64_MAX)
        facts->f_bavail = pretended_free / (uint64_t)facts->f_bsize;
    return 0;
}

static struct sessile_problem problem;

static enum sessile_status try_with(const struct sessile_options *options)
{
    struct sessile *table = NULL;
    enum sessile_status status = sessile_open(options, &table, &problem);
    CHECK((status == SESSILE_OK) == (table != NULL));
    sessile_close(table);
    return status;
}

static struct sessile_options options_of(const char *where)
{
    struct sessile_options options = test_options(2000, 4 << 20, 0.5);
    options.path = where;
    return options;
}

static enum sessile_status try(const char *where)
{
    struct sessile_options options = options_of(where);
    return try_with(&options);
}

static bool says(const char *operation)
{
    return problem.operation && strcmp(problem.operation, operation) == 0;
}

static void with_table(void (*body)(void))
{
    snprintf(folder, sizeof folder, "/dev/shm/sessile-test-XXXXXX");
    if (!mkdtemp(folder)) {
        snprintf(folder, sizeof folder, "/tmp/sessile-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof path, "%s/table", folder);
    snprintf(aside, sizeof aside, "%s/aside", folder);
    CHECK(try(path) == SESSILE_OK);
    body();
    (void)remove(path);
    (void)remove(aside);
    CHECK(rmdir(folder) == 0);
}

#define RUN_WITH_TABLE(test) (with_table(test), (void)check_passed++)

/* ---- the place ---- */

static void a_directory_that_others_write_to_is_refused(void)
{
    CHECK(chmod(folder, 0720) == 0 && try(path) == SESSILE_FOREIGN && says("mode of the directory") && problem.found == 0720);
    CHECK(chmod(folder, 0702) == 0 && try(path) == SESSILE_FOREIGN && problem.found == 0702);
    CHECK(chmod(folder, 0755) == 0 && try(path) == SESSILE_OK);
}

static void a_file_that_others_read_is_refused(void)
{
    CHECK(chmod(path, 0640) == 0 && try(path) == SESSILE_FOREIGN && says("mode of the file") && problem.found == 0640);
    CHECK(chmod(path, 0604) == 0 && try(path) == SESSILE_FOREIGN && problem.found == 0604);
    CHECK(chmod(path, 0600) == 0 && try(path) == SESSILE_OK);
}

static void what_belongs_to_another_user_is_refused(void)
{
    if (geteuid() != 0)
        return;    /* only root can give files away */
    CHECK(chown(path, 12345, 12345) == 0 && try(path) == SESSILE_FOREIGN && says("owner of the file") && problem.found == 12345);
    CHECK(chown(path, 0, 0) == 0 && chown(folder, 12345, 12345) == 0);
    CHECK(try(path) == SESSILE_FOREIGN && says("owner of the directory") && problem.found == 12345 && problem.wanted == 0);
}

static void a_link_is_no_table(void)
{
    CHECK(symlink(path, aside) == 0 && try(aside) == SESSILE_PLACE && says("symbolic link"));
    CHECK(unlink(aside) == 0 && link(path, aside) == 0);
    CHECK(try(path) == SESSILE_PLACE && says("hard link"));
    CHECK(unlink(aside) == 0 && try(path) == SESSILE_OK);
}

static void a_link_is_no_directory_for_tables(void)
{
    char link_to[80], inside[96];
    snprintf(link_to, sizeof link_to, "%s-link", folder);
    snprintf(inside, sizeof inside, "%s/table", link_to);
    CHECK(symlink(folder, link_to) == 0);
    enum sessile_status status = try(inside);
    CHECK(unlink(link_to) == 0 && status == SESSILE_PLACE && says("symbolic link"));
}

static void only_a_regular_file_is_a_table(void)
{
    CHECK(mkfifo(aside, 0600) == 0 && try(aside) == SESSILE_PLACE && says("regular file"));
    CHECK(unlink(aside) == 0 && mkdir(aside, 0700) == 0 && try(aside) == SESSILE_PLACE && says("regular file"));
}

static void what_is_not_there_is_made_or_missed(void)
{
    struct sessile_options options = options_of(aside);
    options.must_exist = true;
    CHECK(try_with(&options) == SESSILE_ABSENT && access(aside, F_OK) != 0);
    CHECK(try(aside) == SESSILE_OK && access(aside, F_OK) == 0);
}

static void a_network_file_system_is_refused(void)
{
    /* NFS, SMB 1 to 3, 9P, AFS twice, OCFS2, Lustre, FUSE, as linux/magic.h and the file systems' sources have them. */
    static const uint32_t types[] = {0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x01021997, 0x5346414f, 0x0bd00bd0, 0x65735546};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        pretended_type = types[i];
        CHECK(try(path) == SESSILE_PLACE && says("network file system"));
        CHECK(try(aside) == SESSILE_PLACE && access(aside, F_OK) != 0);
    }
    pretended_type = 0x01021994;    /* tmpfs */
    CHECK(try(path) == SESSILE_OK);
    pretended_type = 0;
}

static void a_table_that_cannot_grow_to_its_size_is_not_made(void)
{
    pretended_free = 3 << 20;
    CHECK(try(aside) == SESSILE_NO_SPACE && access(aside, F_OK) != 0);
    CHECK(problem.wanted > 4 << 20 && problem.found <= 3 << 20 && problem.found > 2 << 20);
    CHECK(try(path) == SESSILE_OK);    /* one that is there has its memory */
    pretended_free = UINT64_MAX;
    CHECK(try(aside) == SESSILE_OK);
}

/* ---- the header ---- */

static struct arena_header *map_header(void)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0);
    struct arena_header *header = mmap(NULL, ARENA_HEADER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(header != MAP_FAILED);
    close(file);
    return header;
}

/* One constant changed, and the checksum made right again. */
static enum sessile_status try_changed(size_t offset, uint8_t by)
{
    struct arena_header *header = map_header(), before = *header;
    ((uint8_t *)header)[offset] ^= by;
    header->constants_checksum = crc32c(0, header, offsetof(struct arena_header, constants_checksum));
    enum sessile_status status = try(path);
    memcpy((void *)header, &before, offsetof(struct arena_header, key_ids));
    munmap(header, ARENA_HEADER_SIZE);
    CHECK(try(path) == SESSILE_OK);
    return status;
}

static void another_format_is_refused(void)
{
    CHECK(try_changed(offsetof(struct arena_header, magic), 1) == SESSILE_FORMAT);
    CHECK(try_changed(offsetof(struct arena_header, format), 2) == SESSILE_FORMAT);
    CHECK(try_changed(offsetof(struct arena_header, layout), 1) == SESSILE_FORMAT);
    CHECK(try_changed(offsetof(struct arena_header, capacity) + 2, 1) == SESSILE_FORMAT);
    CHECK(try_changed(offsetof(struct arena_header, memory) + 3, 0x40) == SESSILE_FORMAT);
    CHECK(try_changed(offsetof(struct arena_header, time_namespace), 1) == SESSILE_BOOT);
}

static void a_header_with_a_wrong_checksum_is_refused(void)
{
    struct arena_header *header = map_header();
    header->owner_key[5] ^= 1;
    CHECK(try(path) == SESSILE_FORMAT);
    header->owner_key[5] ^= 1;
    munmap(header, ARENA_HEADER_SIZE);
    CHECK(try(path) == SESSILE_OK);
}

static void a_file_of_another_size_is_refused(void)
{
    struct stat facts;
    CHECK(stat(path, &facts) == 0 && truncate(path, facts.st_size + 4096) == 0 && try(path) == SESSILE_FORMAT);
    CHECK(truncate(path, facts.st_size - 4096) == 0 && try(path) == SESSILE_FORMAT);
    CHECK(truncate(path, 100) == 0 && try(path) == SESSILE_FORMAT);
    CHECK(truncate(path, 0) == 0 && try(path) == SESSILE_FORMAT);
}

static void a_table_of_an_earlier_boot_makes_way_for_a_new_one(void)
{
    struct sessile_options options = options_of(path);
    struct sessile *table = open_options(&options);
    struct sessile_session session;
    struct stat before, after;
    struct arena_header *header = map_header();
    CHECK(create(table, 1, NULL, 10, &session) == SESSILE_OK && stat(path, &before) == 0);
    header->boot_id[3] ^= 1;
    header->constants_checksum = crc32c(0, header, offsetof(struct arena_header, constants_checksum));
    CHECK(try(path) == SESSILE_BOOT);    /* somebody is attached to it */
    sessile_close(table);
    table = open_options(&options);
    CHECK(load(table, 1, 0, &session) == SESSILE_MISS && stat(path, &after) == 0 && after.st_ino != before.st_ino);
    sessile_close(table);
    munmap(header, ARENA_HEADER_SIZE);
}

static void a_member_has_a_key_in_common(void)
{
    struct sessile_options options = options_of(path);
    options.keys = test_keys + 1;
    CHECK(try_with(&options) == SESSILE_KEY);
    options.key_count = 0;    /* for upkeep: handles need no key */
    CHECK(try_with(&options) == SESSILE_OK);
}

/* ---- an unclean end ---- */

/* Takes process slot `slot`, and dies in the middle of a write to shard 3. */
static void die_inside(uint32_t slot)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct sessile_options options = options_of(path);
        struct sessile *tables[4], *table = NULL;
        struct hold hold;
        for (uint32_t i = 0; i <= slot; i++)
            table = tables[i] = open_options(&options);
        for (uint32_t i = 0; i < slot; i++)
            sessile_close(tables[i]);
        CHECK(lock_owner_slot(arena_me(&table->arena)) == slot);
        CHECK(shard_enter(table, 3, 1000, &hold) == SESSILE_OK);
        shard_seq_begin(hold.shard);
        kill(getpid(), SIGKILL);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Whichever slot the dead had: that the newcomer gets the same one must not hide from it that the end was unclean. */
static void after_an_unclean_end_an_attach_checks_everything(void)
{
    for (uint32_t slot = 0; slot < 3; slot++) {
        struct sessile_options options = options_of(path);
        struct sessile *table = open_options(&options);
        struct sessile_session session;
        struct sessile_stats stats, before;
        uint8_t digest[32];
        struct hold hold;
        struct record *record;
        uint64_t id = 10;    /* of a session in another shard than the dead will be in */
        while (shard_number(table, digest_of(table, id, digest)) == 3 || create(table, id, NULL, 50, &session) != SESSILE_OK)
            id++;
        CHECK(shard_enter(table, shard_number(table, digest), 1000, &hold) == SESSILE_OK);
        CHECK(shard_find(&hold, digest, &record) != 0);
        record->payload[20] ^= 1;
        shard_leave(&hold);
        sessile_stats(table, &before);
        sessile_close(table);
        table = open_options(&options);
        sessile_stats(table, &stats);
        CHECK(stats.quarantined == before.quarantined);    /* a clean one looks at nothing */
        sessile_close(table);
        die_inside(slot);
        table = open_options(&options);
        sessile_stats(table, &stats);
        CHECK(stats.quarantined == before.quarantined + 1);
        CHECK_CLEAN(table);
        sessile_close(table);
    }
}

int main(void)
{
    if (home_is_private()) {
        printf("the private home has no files\n");
        return check_summary();
    }
    RUN_WITH_TABLE(a_directory_that_others_write_to_is_refused);
    RUN_WITH_TABLE(a_file_that_others_read_is_refused);
    RUN_WITH_TABLE(what_belongs_to_another_user_is_refused);
    RUN_WITH_TABLE(a_link_is_no_table);
    RUN_WITH_TABLE(a_link_is_no_directory_for_tables);
    RUN_WITH_TABLE(only_a_regular_file_is_a_table);
    RUN_WITH_TABLE(what_is_not_there_is_made_or_missed);
    RUN_WITH_TABLE(a_network_file_system_is_refused);
    RUN_WITH_TABLE(a_table_that_cannot_grow_to_its_size_is_not_made);
    RUN_WITH_TABLE(another_format_is_refused);
    RUN_WITH_TABLE(a_header_with_a_wrong_checksum_is_refused);
    RUN_WITH_TABLE(a_file_of_another_size_is_refused);
    RUN_WITH_TABLE(a_table_of_an_earlier_boot_makes_way_for_a_new_one);
    RUN_WITH_TABLE(a_member_has_a_key_in_common);
    RUN_WITH_TABLE(after_an_unclean_end_an_attach_checks_everything);
    return check_summary();
}
