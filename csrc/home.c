/* home.c - see home.h. The only file that deals in paths; every check is made on the open descriptor, not on the name. */
#define _GNU_SOURCE
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Of file systems whose locks or mappings are not those of one host (linux/magic.h and the file systems' sources). */
static const uint32_t network_file_systems[] = {
    0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x00c36400, 0x01021997, 0x5346414f, 0x73757245, 0x564c, 0x0bd00bd0, 0x65735546,
};

static enum sessile_status failed(struct sessile_problem *problem, const char *operation, int error)
{
    problem->operation = operation;
    problem->error = error;
    return SESSILE_SYSTEM;
}

static enum sessile_status foreign(const struct stat *facts, const char *owner, const char *mode,
                                   struct sessile_problem *problem)
{
    bool by_owner = facts->st_uid != geteuid();
    problem->operation = by_owner ? owner : mode;
    problem->wanted = geteuid();
    problem->found = by_owner ? facts->st_uid : facts->st_mode & 07777;
    return SESSILE_FOREIGN;
}

static enum sessile_status check_file_system(int descriptor, uint64_t size, struct sessile_problem *problem)
{
    struct statfs facts;
    if (fstatfs(descriptor, &facts) < 0)
        return failed(problem, "fstatfs", errno);
    for (size_t i = 0; i < sizeof network_file_systems / sizeof *network_file_systems; i++)
        if ((uint32_t)facts.f_type == network_file_systems[i]) {
            problem->operation = "network file system";
            return SESSILE_PLACE;
        }
    problem->wanted = size;
    problem->found = (uint64_t)facts.f_bavail * (uint64_t)facts.f_bsize;
    return problem->found < size ? SESSILE_NO_SPACE : SESSILE_OK;
}

/* The directory of a path, opened; the part behind the last slash in *name. */
static enum sessile_status open_directory(const char *path, int *directory, const char **name,
                                          struct sessile_problem *problem)
{
    char text[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash || length >= sizeof text || slash[1] == 0)
        return failed(problem, "path", EINVAL);
    memcpy(text, path, length);
    text[length] = 0;
    *name = slash + 1;
    *directory = open(length ? text : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*directory < 0) {
        if (errno != ENOTDIR && errno != ELOOP)
            return failed(problem, "open directory", errno);
        problem->operation = "symbolic link";
        return SESSILE_PLACE;
    }
    struct stat facts;
    if (fstat(*directory, &facts) < 0) {
        close(*directory);
        return failed(problem, "fstat", errno);
    }
    if (facts.st_uid == geteuid() && (facts.st_mode & 022) == 0)
        return SESSILE_OK;
    close(*directory);
    return foreign(&facts, "owner of the directory", "mode of the directory", problem);
}

static enum sessile_status check_file(int descriptor, struct sessile_problem *problem)
{
    struct stat facts;
    if (fstat(descriptor, &facts) < 0)
        return failed(problem, "fstat", errno);
    if (!S_ISREG(facts.st_mode) || facts.st_nlink != 1) {
        problem->operation = S_ISREG(facts.st_mode) ? "hard link" : "regular file";
        return SESSILE_PLACE;
    }
    if (facts.st_uid == geteuid() && (facts.st_mode & 077) == 0)
        return SESSILE_OK;
    return foreign(&facts, "owner of the file", "mode of the file", problem);
}

int home_memory(uint64_t size, struct home_file *file)
{
    file->descriptor = system_memory_file(size);
    if (file->descriptor < 0)
        return file->descriptor;
    int status = system_identify(file->descriptor, &file->identity);
    if (status < 0)
        system_close(file->descriptor);
    return status;
}

static enum sessile_status finish(struct home_file *file, struct sessile_problem *problem)
{
    int status = system_identify(file->descriptor, &file->identity);
    if (status == 0)
        return SESSILE_OK;
    system_close(file->descriptor);
    return failed(problem, "fstat", -status);
}

enum sessile_status home_open(const char *path, struct home_file *file, struct sessile_problem *problem)
{
    int directory;
    const char *name;
    enum sessile_status status = open_directory(path, &directory, &name, problem);
    if (status != SESSILE_OK)
        return status == SESSILE_SYSTEM && problem->error == ENOENT ? SESSILE_ABSENT : status;
    file->descriptor = openat(directory, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int error = errno;
    close(directory);
    if (file->descriptor < 0 && error == ENOENT)
        return SESSILE_ABSENT;
    if (file->descriptor < 0 && error == ELOOP) {
        problem->operation = "symbolic link";
        return SESSILE_PLACE;
    }
    if (file->descriptor < 0 && error == EISDIR) {
        problem->operation = "regular file";
        return SESSILE_PLACE;
    }
    if (file->descriptor < 0 && (error == EACCES || error == EPERM)) {
        problem->operation = "access to the file";
        problem->error = error;
        return SESSILE_FOREIGN;
    }
    if (file->descriptor < 0)
        return failed(problem, "open", error);
    status = check_file(file->descriptor, problem);
    if (status == SESSILE_OK)
        status = check_file_system(file->descriptor, 0, problem);
    if (status != SESSILE_OK) {
        close(file->descriptor);
        return status;
    }
    return finish(file, problem);
}

enum sessile_status home_make(const char *path, uint64_t size, struct home_file *file, struct sessile_problem *problem)
{
    int directory;
    const char *name;
    enum sessile_status status = open_directory(path, &directory, &name, problem);
    if (status != SESSILE_OK)
        return status;
    status = check_file_system(directory, size, problem);
    if (status == SESSILE_OK) {
        file->descriptor = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (file->descriptor < 0)
            status = failed(problem, "open O_TMPFILE", errno);
    }
    close(directory);
    if (status != SESSILE_OK)
        return status;
    if (fchmod(file->descriptor, 0600) < 0 || ftruncate(file->descriptor, (off_t)size) < 0) {
        int error = errno;
        close(file->descriptor);
        return failed(problem, "ftruncate", error);
    }
    return finish(file, problem);
}

enum sessile_status home_name(const char *path, const struct home_file *file, struct sessile_problem *problem)
{
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", file->descriptor);
    if (linkat(AT_FDCWD, own, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return SESSILE_OK;
    return errno == EEXIST ? SESSILE_EXISTS : failed(problem, "linkat", errno);
}

bool home_is_named(const char *path, const struct home_file *file)
{
    struct stat facts;
    return lstat(path, &facts) == 0 && (uint64_t)facts.st_dev == file->identity.device &&
           (uint64_t)facts.st_ino == file->identity.inode;
}

bool home_is_lost(const struct home *home)
{
    struct stat facts;
    return fstat(home->descriptor, &facts) == 0 && (uint64_t)facts.st_dev == home->identity.device &&
           (uint64_t)facts.st_ino == home->identity.inode && facts.st_nlink == 0;
}

void home_forget(const char *path, const struct home_file *file)
{
    if (home_is_named(path, file))
        unlink(path);
}

uint64_t home_size(const struct home_file *file)
{
    struct stat facts;
    return fstat(file->descriptor, &facts) == 0 ? (uint64_t)facts.st_size : 0;
}
