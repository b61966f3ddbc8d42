/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for files whose content is not there. The system's "No such file or directory" sends users looking for a
 * file that `ls` shows them.
 */
#include "espalier/base/absent.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TARGET_SHOWN_MAX = 256 }; /* bytes of a link's target in a message */

bool espl_file_is_dangling(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISLNK(info.st_mode) && stat(path, &info) != 0 && errno == ENOENT;
}

espl_status espl_file_fail_open(const char *path) {
    int error = errno;
    char target[TARGET_SHOWN_MAX + 1];
    if (error != ENOENT || !espl_file_is_dangling(path))
        return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(error));
    ssize_t n = readlink(path, target, TARGET_SHOWN_MAX);
    target[n > 0 ? n : 0] = '\0';
    return ESPL_FAIL(ESPL_IO,
                     "%s: is a link to %s, which does not exist (an incomplete download or copy: repeat it, or copy "
                     "with cp -rL)",
                     path, target);
}

bool espl_file_is_lfs_pointer(const void *bytes, int64_t len) {
    static const char start[] = "version https://git-lfs";
    return len >= (int64_t)sizeof start - 1 && memcmp(bytes, start, sizeof start - 1) == 0;
}

espl_status espl_file_fail_lfs_pointer(const char *path) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: is a Git LFS pointer, not the file itself (run git lfs pull in its repository)",
                     path);
}
