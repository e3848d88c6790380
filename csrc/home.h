/* home.h - the file behind a table: a sealed memfd, or a file that processes name; made complete, checked before use. */
#ifndef SESSILE_HOME_H
#define SESSILE_HOME_H

#include "arena.h"

struct home_file {
    int descriptor;
    struct system_identity identity;
};

/* A memfd of `size` bytes. 0 or a negative errno. */
int home_memory(uint64_t size, struct home_file *file);

/* Opens the file of a path after checking it and its directory. OK, ABSENT, PLACE, FOREIGN, SYSTEM. */
SESSILE_CHECKED enum sessile_status home_open(const char *path, struct home_file *file, struct sessile_problem *problem);
/* Makes a nameless file of `size` bytes in the directory of `path`. OK, PLACE, FOREIGN, NO_SPACE, SYSTEM. */
SESSILE_CHECKED enum sessile_status home_make(const char *path, uint64_t size, struct home_file *file,
                                              struct sessile_problem *problem);
/* Gives the complete file its name. OK, EXISTS (somebody was first), SYSTEM. */
SESSILE_CHECKED enum sessile_status home_name(const char *path, const struct home_file *file,
                                              struct sessile_problem *problem);
/* Is the file still the one that the path names? */
bool home_is_named(const char *path, const struct home_file *file);
/* Has the file lost its last name? Asked of the file: the path may be out of reach, after a chroot or a change of user. */
bool home_is_lost(const struct home *home);
/* Takes the name away, if it still names this file. */
void home_forget(const char *path, const struct home_file *file);
uint64_t home_size(const struct home_file *file);

#endif
