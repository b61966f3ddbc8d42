/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole files: reading, mapping, atomic replacement; directories. All functions are Local. Errors are ESPL_IO and name
 * the path and the system's reason.
 */
#ifndef ESPALIER_BASE_FILE_H
#define ESPALIER_BASE_FILE_H

#include "espalier/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Reads a whole file, or stdin for path "-". A NUL follows the bytes and is not counted in *len. A file larger than
 * max_bytes is refused. Owned by the caller: espl_mem_free. */
espl_status espl_file_read(const char *path, int64_t max_bytes, char **out, int64_t *len);

/* The same for a regular file only: a FIFO or a device, which might never end, is refused at once. For everything that
 * a model directory or a run directory holds. */
espl_status espl_file_read_regular(const char *path, int64_t max_bytes, char **out, int64_t *len);

/* What tells a file's content from another without reading it. The time of the last change of its inode (ctime) is part
 * of it, because programs can set the time of the last change of its content back. The device is not: NFS clients
 * number devices differently. */
typedef struct espl_file_state {
    int64_t bytes, inode;
    int64_t modified_ns, changed_ns; /* mtime and ctime, nanoseconds since 1970 */
} espl_file_state;
/* The state of the file that `path` names, links followed. */
espl_status espl_file_state_of(const char *path, espl_file_state *out);
bool espl_file_state_equals(const espl_file_state *a, const espl_file_state *b);

/* A file mapped read-only. */
typedef struct espl_mapping {
    const uint8_t *data; /* NULL for an empty file */
    int64_t len;
    espl_file_state state; /* when it was mapped */
} espl_mapping;
/* Maps a regular file. Reading a page of it that is gone, because the file was cut off or its disk failed, raises
 * SIGBUS.
 */
espl_status espl_file_map(const char *path, espl_mapping *out);
void espl_file_unmap(espl_mapping *m);

/* The path of the mapped file that holds this address, or NULL. For a handler of SIGBUS: it is async-signal-safe. */
const char *espl_file_mapped_at(const void *address);

bool espl_file_exists(const char *path);
/* Writes all `len` bytes to a descriptor, in as many write(2) calls as it takes. False on failure, with errno set. */
bool espl_file_write_all(int fd, const char *bytes, int64_t len);
/* Replaces the file's content atomically: writes PATH.part, flushes it to disk, renames it. On failure the old file
 * stands and the part file is removed. */
espl_status espl_file_replace(const char *path, const char *bytes, int64_t len);
/* Creates a directory and its parents; an existing one is fine. */
espl_status espl_file_make_directory(const char *path);
/* Flushes the directory that holds `path`, so that a rename survives a crash. Some file systems refuse to; that is not
 * a failure. */
void espl_file_sync_directory(const char *path);

#endif
