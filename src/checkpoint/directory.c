/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoints of a directory. Rank 0 reads the directory and decides, all ranks get the result: on a cluster file
 * system two ranks may see different files. Only names that espalier writes are ever renamed or deleted.
 */
#include "directory.h"

#include "espalier/checkpoint.h"
#include "skeleton.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char CHECKPOINT_PREFIX[] = "iteration-";

/* Fits any iteration with any ending. */
enum { CHECKPOINT_NAME_MAX = 64 };

static const char *checkpoint_format_name(int64_t iteration, const char *ending, char buf[CHECKPOINT_NAME_MAX]) {
    snprintf(buf, CHECKPOINT_NAME_MAX, "%s%06" PRId64 ".h5%s", CHECKPOINT_PREFIX, iteration, ending);
    return buf;
}

void espl_checkpoint_put_path(espl_str *s, const char *dir, int64_t iteration, const char *ending) {
    char name[CHECKPOINT_NAME_MAX];
    espl_str_printf(s, "%s/%s", dir, checkpoint_format_name(iteration, ending, name));
}

/* The iteration in a file name, -1 unless the name is exactly as espalier writes it: "iteration-3.h5" is not ours. */
static int64_t checkpoint_parse_name(const char *name, const char *ending) {
    char *end, again[CHECKPOINT_NAME_MAX];
    if (strncmp(name, CHECKPOINT_PREFIX, sizeof CHECKPOINT_PREFIX - 1) != 0) return -1;
    const char *digits = name + sizeof CHECKPOINT_PREFIX - 1;
    if (*digits < '0' || *digits > '9') return -1;
    errno = 0;
    int64_t n = strtoll(digits, &end, 10);
    return errno == 0 && strcmp(checkpoint_format_name(n, ending, again), name) == 0 ? n : -1;
}

/* The checkpoints of a directory. */
typedef struct checkpoint_list {
    int64_t *iterations; /* [n], newest first; owned */
    int64_t n;
} checkpoint_list;

static int checkpoint_newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The iterations of the files in `dir` with that ending, none if the directory is missing. *l is owned by the caller,
 * also after a failure. */
static espl_status checkpoint_list_files(const char *dir, const char *ending, checkpoint_list *l) {
    espl_status st = ESPL_OK;
    *l = (checkpoint_list){0};
    /* A run that has not written a checkpoint yet has no directory. */
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return ESPL_OK;
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", dir, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        int64_t i = checkpoint_parse_name(e->d_name, ending);
        if (i < 0) continue;
        ESPL_CHECK(st, done, espl_mem_resize(&l->iterations, l->n + 1, sizeof *l->iterations, "list of checkpoints"));
        l->iterations[l->n++] = i;
    }
    if (l->n > 0) qsort(l->iterations, (size_t)l->n, sizeof *l->iterations, checkpoint_newest_first);
done:
    closedir(d);
    return st;
}

/* Whether a run could resume from this file, judged by its attributes alone: reading all of it would take long for
 * every file of a directory. ESPL_CONFIG: it is of another schema; ESPL_NOMEM; any other failure: it is damaged. */
static espl_status checkpoint_check_usable(const char *dir, int64_t iteration) {
    espl_str path = {0};
    h5_file f = {.id = -1};
    skeleton_root root;
    espl_status st;
    espl_checkpoint_put_path(&path, dir, iteration, CHECKPOINT_WHOLE);
    ESPL_CHECK(st, done, espl_str_status(&path));
    f.path = path.data;
    ESPL_CHECK(st, done, espl_h5_open(&f, H5_READ, NULL));
    ESPL_CHECK(st, done, espl_skeleton_read_root(&f, &root));
    if (!root.complete)
        st = ESPL_FAIL(ESPL_FORMAT, "%s: is not complete", path.data);
    else if (root.iteration != iteration)
        st = ESPL_FAIL(ESPL_FORMAT, "%s: holds iteration %" PRId64, path.data, root.iteration);
done:
    espl_h5_close(&f);
    espl_str_free(&path);
    return st;
}

/* ---------------------------------------------------------------- newest */

static espl_status checkpoint_find_newest(const char *dir, int64_t *before, espl_str *path) {
    checkpoint_list l;
    int64_t passed = 0;
    espl_status st;
    ESPL_CHECK(st, done, checkpoint_list_files(dir, CHECKPOINT_WHOLE, &l));
    for (int64_t i = 0; i < l.n; i++) {
        if (l.iterations[i] >= *before) continue;
        st = checkpoint_check_usable(dir, l.iterations[i]);
        if (st == ESPL_CONFIG || st == ESPL_NOMEM) goto done; /* a valid file must not be passed over as damaged */
        if (st != ESPL_OK) ESPL_INFO("skipping a damaged checkpoint: %s", espl_base_error_text());
        if (st == ESPL_OK) {
            *before = l.iterations[i];
            espl_checkpoint_put_path(path, dir, *before, CHECKPOINT_WHOLE);
            st = espl_str_status(path);
            goto done;
        }
        passed++;
    }
    st = ESPL_OK;
    if (passed > 0) /* a run that started over here would overwrite what may be hours of work */
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: no checkpoint can be read; to start over, delete them or choose another run.dir", dir);
done:
    espl_mem_free(&l.iterations);
    return st;
}

espl_status espl_checkpoint_newest(espl_comm *c, const char *dir, int64_t *before, espl_str *path) {
    *path = (espl_str){0};
    ESPL_TRY(espl_comm_agree(c, espl_comm_rank(c) == 0 ? checkpoint_find_newest(dir, before, path) : ESPL_OK));
    espl_comm_broadcast(c, before, sizeof *before, 0);
    return espl_comm_broadcast_str(c, path, 0);
}

/* ------------------------------------------------- setting aside, deleting */

static espl_status checkpoint_rename_damaged(const char *dir, int64_t iteration) {
    espl_str from = {0}, to = {0};
    espl_status st;
    espl_checkpoint_put_path(&from, dir, iteration, CHECKPOINT_WHOLE);
    espl_checkpoint_put_path(&to, dir, iteration, CHECKPOINT_DAMAGED);
    ESPL_CHECK(st, done, espl_str_status(&from));
    ESPL_CHECK(st, done, espl_str_status(&to));
    if (rename(from.data, to.data) != 0)
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", from.data, to.data, strerror(errno));
done:
    espl_str_free(&from);
    espl_str_free(&to);
    return st;
}

espl_status espl_checkpoint_set_aside(espl_comm *c, const char *dir, int64_t after) {
    checkpoint_list l = {0};
    espl_status st = ESPL_OK;
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, agree, checkpoint_list_files(dir, CHECKPOINT_WHOLE, &l));
        for (int64_t i = 0; i < l.n && l.iterations[i] > after; i++)
            ESPL_CHECK(st, agree, checkpoint_rename_damaged(dir, l.iterations[i]));
    }
agree:
    espl_mem_free(&l.iterations);
    return espl_comm_agree(c, st);
}

/* A file that is gone already is no failure. */
static espl_status checkpoint_delete(const char *dir, const char *name) {
    espl_str path = {0};
    espl_str_printf(&path, "%s/%s", dir, name);
    espl_status st = espl_str_status(&path);
    (void)espl_fault("checkpoint.delete");
    if (st == ESPL_OK && unlink(path.data) != 0 && errno != ENOENT)
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be deleted: %s", path.data, strerror(errno));
    espl_str_free(&path);
    return st;
}

/* Deletes what runs that were killed have left: part files, and files of MPI-IO beside them. Open MPI keeps the shared
 * file pointer of an open file in FILE.data.0, FILE.lockedfilename, ... */
static espl_status checkpoint_delete_parts(const char *dir) {
    espl_status st = ESPL_OK;
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return ESPL_OK;
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", dir, strerror(errno));
    for (const struct dirent *e; st == ESPL_OK && (e = readdir(d));) {
        char name[CHECKPOINT_NAME_MAX];
        const char *part = strstr(e->d_name, CHECKPOINT_PART);
        if (!part) continue;
        snprintf(name, sizeof name, "%.*s", (int)(part - e->d_name + (ptrdiff_t)strlen(CHECKPOINT_PART)), e->d_name);
        if (checkpoint_parse_name(name, CHECKPOINT_PART) >= 0) st = checkpoint_delete(dir, e->d_name);
    }
    closedir(d);
    return st;
}

espl_status espl_checkpoint_retain(espl_comm *c, const char *dir, int64_t keep) {
    checkpoint_list whole = {0};
    char name[CHECKPOINT_NAME_MAX];
    espl_status st = ESPL_OK;
    int64_t kept = 0;
    if (espl_comm_rank(c) != 0) goto agree;
    ESPL_CHECK(st, agree, checkpoint_list_files(dir, CHECKPOINT_WHOLE, &whole));
    for (int64_t i = 0; i < whole.n; i++) {
        if (kept < keep) /* only usable files count as kept: a damaged one must not cost a good one */
            kept += checkpoint_check_usable(dir, whole.iterations[i]) == ESPL_OK;
        else
            ESPL_CHECK(st, agree,
                       checkpoint_delete(dir, checkpoint_format_name(whole.iterations[i], CHECKPOINT_WHOLE, name)));
    }
    st = checkpoint_delete_parts(dir);
agree:
    espl_mem_free(&whole.iterations);
    return espl_comm_agree(c, st);
}
