/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose content is not there: links that lead nowhere, and Git LFS pointers. Downloads of models leave both. All
 * functions are Local.
 */
#ifndef ESPALIER_BASE_ABSENT_H
#define ESPALIER_BASE_ABSENT_H

#include "espalier/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Records why `path` cannot be opened, from errno; names the target of a dangling link. Returns ESPL_IO. */
espl_status espl_file_fail_open(const char *path);
/* True if `path` is a link whose target does not exist. */
bool espl_file_is_dangling(const char *path);

/* True if the bytes begin as the small text that a clone without git-lfs has in place of a file. */
bool espl_file_is_lfs_pointer(const void *bytes, int64_t len);
/* Records that `path` is such a pointer, and what fetches the file. Returns ESPL_FORMAT. */
espl_status espl_file_fail_lfs_pointer(const char *path);

#endif
