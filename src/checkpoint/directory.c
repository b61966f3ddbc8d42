/* The checkpoints of a directory, by name: rank 0 looks, all ranks hear. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PREFIX[] = "iteration-";

static void put_name(espl_str *s, const char *dir, int64_t iteration, const char *suffix) {
    espl_str_printf(s, "%s/%s%06" PRId64 ".h5%s", dir, PREFIX, iteration, suffix);
}

espl_status espl_checkpoint_paths(const char *dir, int64_t iteration, espl_str *path, espl_str *part) {
    put_name(path, dir, iteration, "");
    put_name(part, dir, iteration, ".part");
    ESPL_TRY(espl_str_status(path));
    return espl_str_status(part);
}

/* The iteration of such a file name, exactly as written by put_name with that suffix; -1: some other file. */
static int64_t parse_name(const char *name, const char *suffix) {
    char again[64], *end;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) != 0 || strlen(name) >= sizeof again) return -1;
    const char *digits = name + sizeof PREFIX - 1;
    if (*digits < '0' || *digits > '9') return -1;
    errno = 0;
    int64_t n = strtoll(digits, &end, 10);
    snprintf(again, sizeof again, "%s%06" PRId64 ".h5%s", PREFIX, n, suffix);
    return errno == 0 && strcmp(again, name) == 0 ? n : -1;
}

typedef struct listing {
    int64_t *iterations; /* [n], newest first; owned */
    int64_t n;
} listing;

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Iterations of the files in `dir` whose names end so; a directory that is not there has none. */
static espl_status list(const char *dir, const char *suffix, listing *l) {
    *l = (listing){0};
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return ESPL_OK;
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", dir, strerror(errno));
    espl_status st = ESPL_OK;
    for (const struct dirent *e; st == ESPL_OK && (e = readdir(d));) {
        int64_t i = parse_name(e->d_name, suffix);
        if (i >= 0) st = espl_mem_resize(&l->iterations, l->n + 1, sizeof *l->iterations, "list of checkpoints");
        if (i >= 0 && st == ESPL_OK) l->iterations[l->n++] = i;
    }
    closedir(d);
    if (l->n > 0) qsort(l->iterations, (size_t)l->n, sizeof *l->iterations, newest_first);
    return st;
}

/* Does this file look like a checkpoint that can be resumed? A look at its attributes only. */
static espl_status probe(const char *path, int64_t iteration) {
    h5file f = {.path = path};
    root top = {0};
    ESPL_TRY(espl_h5_open(&f, H5_READ, NULL));
    espl_status st = espl_skeleton_read_root(&f, &top);
    espl_h5_close(&f);
    ESPL_TRY(st);
    if (!top.complete) return ESPL_FAIL(ESPL_FORMAT, "%s: is not complete", path);
    if (top.iteration != iteration) return ESPL_FAIL(ESPL_FORMAT, "%s: holds iteration %" PRId64, path, top.iteration);
    return ESPL_OK;
}

static bool usable(const char *dir, int64_t iteration) {
    espl_str path = {0};
    put_name(&path, dir, iteration, "");
    bool ok = espl_str_status(&path) == ESPL_OK && probe(path.data, iteration) == ESPL_OK;
    if (!ok) ESPL_INFO("checkpoint passed over: %s", espl_base_error_text());
    espl_str_free(&path);
    return ok;
}

static espl_status pick_newest(const char *dir, const listing *l, int64_t *before, espl_str *path) {
    int64_t i = 0, passed = 0;
    for (; i < l->n; i++) {
        if (l->iterations[i] >= *before) continue;
        if (usable(dir, l->iterations[i])) break;
        passed++;
    }
    if (i == l->n && passed > 0)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: no checkpoint there can be read; to begin anew, delete them or choose another run.dir",
                         dir);
    if (i < l->n) {
        *before = l->iterations[i];
        put_name(path, dir, *before, "");
    }
    return path->failed ? espl_str_status(path) : ESPL_OK;
}

static espl_status find_newest(const char *dir, int64_t *before, espl_str *path) {
    listing l;
    espl_status st = list(dir, "", &l);
    if (st == ESPL_OK) st = pick_newest(dir, &l, before, path);
    espl_mem_free(&l.iterations);
    return st;
}

espl_status espl_checkpoint_newest(espl_comm *c, const char *dir, int64_t *before, espl_str *path) {
    *path = (espl_str){0};
    espl_status st = espl_comm_rank(c) == 0 ? find_newest(dir, before, path) : ESPL_OK;
    ESPL_TRY(espl_comm_agree(c, st));
    espl_comm_broadcast(c, before, sizeof *before, 0);
    return espl_comm_broadcast_str(c, path, 0);
}

/* -------------------------------------------------------------- set aside */

static espl_status set_aside(const char *dir, int64_t iteration) {
    espl_str from = {0}, to = {0};
    put_name(&from, dir, iteration, "");
    put_name(&to, dir, iteration, ".damaged");
    espl_status st = espl_str_status(&from);
    if (st == ESPL_OK) st = espl_str_status(&to);
    if (st == ESPL_OK && rename(from.data, to.data) != 0)
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", from.data, to.data, strerror(errno));
    espl_str_free(&from);
    espl_str_free(&to);
    return st;
}

static espl_status set_all_aside(const char *dir, int64_t after) {
    listing l;
    espl_status st = list(dir, "", &l);
    for (int64_t i = 0; st == ESPL_OK && i < l.n && l.iterations[i] > after; i++) st = set_aside(dir, l.iterations[i]);
    espl_mem_free(&l.iterations);
    return st;
}

espl_status espl_checkpoint_set_aside(espl_comm *c, const char *dir, int64_t after) {
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? set_all_aside(dir, after) : ESPL_OK);
}

/* ---------------------------------------------------------------- retention */

static espl_status delete (const char *dir, int64_t iteration, const char *suffix) {
    espl_str path = {0};
    put_name(&path, dir, iteration, suffix);
    espl_status st = espl_str_status(&path);
    if (st == ESPL_OK && unlink(path.data) != 0 && errno != ENOENT)
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be deleted: %s", path.data, strerror(errno));
    espl_str_free(&path);
    return st;
}

/* Only files that can be resumed count as kept: a damaged one never makes a good one go. */
static espl_status delete_old(const char *dir, const listing *l, int64_t keep) {
    int64_t kept = 0;
    for (int64_t i = 0; i < l->n; i++) {
        int64_t iteration = l->iterations[i];
        if (kept < keep)
            kept += usable(dir, iteration);
        else
            ESPL_TRY(delete (dir, iteration, ""));
    }
    return ESPL_OK;
}

static espl_status retain(const char *dir, int64_t keep) {
    listing whole, parts;
    espl_status st = list(dir, "", &whole);
    if (st == ESPL_OK) st = delete_old(dir, &whole, keep);
    espl_mem_free(&whole.iterations);
    ESPL_TRY(st);
    st = list(dir, ".part", &parts);
    for (int64_t i = 0; st == ESPL_OK && i < parts.n; i++) st = delete (dir, parts.iterations[i], ".part");
    espl_mem_free(&parts.iterations);
    return st;
}

espl_status espl_checkpoint_retain(espl_comm *c, const char *dir, int64_t keep) {
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? retain(dir, keep) : ESPL_OK);
}
