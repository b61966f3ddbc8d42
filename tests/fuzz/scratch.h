/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for targets whose parser reads a file by its path: in memory where that is possible. */
#ifndef ESPL_TEST_FUZZ_SCRATCH_H
#define ESPL_TEST_FUZZ_SCRATCH_H

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch_memory[] = "/dev/shm/espl-fuzz-XXXXXX", scratch_disk[] = "/tmp/espl-fuzz-XXXXXX";
static const char *scratch_made;

static int scratch_remove(const char *path, const struct stat *info, int flag, struct FTW *place) {
    (void)info, (void)flag, (void)place;
    return remove(path);
}

static void scratch_end(void) { nftw(scratch_made, scratch_remove, 8, FTW_DEPTH | FTW_PHYS); }

/* The directory, which is removed when the process ends. */
static inline const char *scratch_dir(void) {
    if (scratch_made) return scratch_made;
    scratch_made = mkdtemp(scratch_memory);
    if (!scratch_made) scratch_made = mkdtemp(scratch_disk);
    if (!scratch_made) abort();
    atexit(scratch_end);
    return scratch_made;
}

/* The path of a file in it. Static storage, of the newest call. */
static inline const char *scratch_path(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch_dir(), name);
    return path;
}

/* Replaces the file's content. Returns its path, as scratch_path does. */
static inline const char *scratch_put(const char *name, const void *bytes, size_t n) {
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
    return path;
}

#endif
