/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an export. A model directory from a hub holds more than the model: the same weights in other formats,
 * which would not be pruned and which other programs might load instead. Those are left out; everything small that
 * describes the model is copied.
 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"

static const int64_t COPY_BYTES_MAX = (int64_t)1 << 30; /* larger files are hardly configuration or tokenizer */

const char *espl_export_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

espl_status espl_export_join(const char *dir, const char *name, const char *suffix, espl_str *out) {
    *out = (espl_str){0};
    espl_str_printf(out, "%s/%s%s", dir, name, suffix);
    return espl_str_status(out);
}

/* ------------------------------------------------------------------- list */

static const char LINK_OUT[] = "a link out of the model directory";

static bool name_ends_with(const char *name, const char *suffix) {
    size_t n = strlen(name), s = strlen(suffix);
    return n >= s && strcasecmp(name + n - s, suffix) == 0;
}

bool espl_export_leads_out(const char *source, const char *path) {
    char *target = realpath(path, NULL), *dir = realpath(source, NULL), *slash = NULL;
    bool inside = false;
    if (target && dir) {
        size_t n = strlen(dir);
        inside = strncmp(target, dir, n) == 0 && target[n] == '/';
        if (!inside && (slash = strrchr(dir, '/')) != NULL) {
            static const char snapshots[] = "/snapshots", blobs[] = "/blobs/";
            *slash = '\0'; /* dir is now what holds the revisions */
            bool cache = name_ends_with(dir, snapshots);
            n = strlen(dir) - (sizeof snapshots - 1);
            inside = cache && strncmp(target, dir, n) == 0 && strncmp(target + n, blobs, sizeof blobs - 1) == 0;
        }
    }
    free(target);
    free(dir);
    return !inside;
}

/* *reason: why a file of the source is not copied; NULL: it is copied. Static storage. */
static espl_status files_reason_to_skip(const espl_weights *w, const char *source, const char *name,
                                        const char **reason) {
    static const char *const weight_suffixes[] = {".safetensors", ".index.json", ".bin",      ".pt",   ".pth",
                                                  ".ckpt",        ".gguf",       ".ggml",     ".onnx", ".h5",
                                                  ".msgpack",     ".npz",        ".onnx_data"};
    struct stat info;
    espl_str path;
    *reason = NULL;
    ESPL_TRY(espl_export_join(source, name, "", &path));
    bool found = lstat(path.data, &info) == 0;
    bool leads_out = found && S_ISLNK(info.st_mode) && espl_export_leads_out(source, path.data);
    found = found && stat(path.data, &info) == 0;
    espl_str_free(&path);
    if (leads_out)
        *reason = LINK_OUT;
    else if (!found)
        *reason = "cannot be read";
    else if (S_ISDIR(info.st_mode))
        *reason = "a directory";
    else if (!S_ISREG(info.st_mode))
        *reason = "not a regular file";
    else if (name_ends_with(name, ".part"))
        *reason = "an unfinished file";
    if (*reason) return ESPL_OK;
    if (info.st_size > COPY_BYTES_MAX) *reason = "larger than 1 GiB";
    /* The index of the shards that are written belongs to them. One beside a single model.safetensors does not: the
     * model was not read by it. */
    bool is_index = strcmp(name, "model.safetensors.index.json") == 0 &&
                    strcmp(espl_export_base_name(espl_weights_shard_path(w, 0)), "model.safetensors") != 0;
    for (size_t i = 0; !is_index && i < sizeof weight_suffixes / sizeof *weight_suffixes; i++)
        if (name_ends_with(name, weight_suffixes[i])) *reason = "weights that the model is not read from";
    return ESPL_OK;
}

/* The name of a file of the source in its export. The names of card and recipe are the export's own: README.md becomes
 * README.base.md, and a README.base.md, which an export of an export has, README.base.base.md: no two files get the
 * same name. */
static espl_status files_put_target(const char *name, espl_str *out) {
    static const struct { const char *stem, *suffix; } own[] = {{"README", ".md"}, {"espalier_recipe", ".json"}};
    static const char base[] = ".base";
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t stem = strlen(own[i].stem);
        if (strncmp(name, own[i].stem, stem) != 0) continue;
        const char *rest = name + stem;
        while (strncmp(rest, base, sizeof base - 1) == 0) rest += sizeof base - 1;
        if (strcmp(rest, own[i].suffix) != 0) continue;
        espl_str_printf(out, "%s%s%s", own[i].stem, base, name + stem);
        return espl_str_status(out);
    }
    espl_str_puts(out, name);
    return espl_str_status(out);
}

static espl_status files_add(export_files *f, const char *name) {
    ESPL_TRY(espl_mem_resize(&f->names, f->n + 1, sizeof *f->names, "list of files"));
    ESPL_TRY(espl_str_dup(&f->names[f->n], name, "file name"));
    const char *copy = f->names[f->n++]; /* the map borrows its keys */
    return espl_map_put(f->known, copy, (int64_t)strlen(copy), 0);
}

static espl_status files_add_source(export_files *f, const char *name) {
    ESPL_TRY(espl_mem_resize(&f->sources, f->n_copied + 1, sizeof *f->sources, "list of files"));
    ESPL_TRY(espl_str_dup(&f->sources[f->n_copied], name, "file name"));
    f->n_copied++;
    return ESPL_OK;
}

static int files_compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

espl_status espl_export_files_list(export_files *f, const espl_weights *w, const char *source, bool quiet) {
    int64_t shards = espl_weights_shards(w);
    espl_status st;
    DIR *d = opendir(source);
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", source, strerror(errno));
    ESPL_CHECK(st, done, espl_map_create(&f->known, 64));
    ESPL_CHECK(st, done, espl_map_put(f->known, ESPL_EXPORT_MARKER, sizeof ESPL_EXPORT_MARKER - 1, 0));
    for (const struct dirent *e; (e = readdir(d));) {
        const char *name = e->d_name;
        bool skip = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, ESPL_EXPORT_MARKER) == 0;
        for (int64_t s = 0; s < shards; s++)
            skip |= strcmp(espl_export_base_name(espl_weights_shard_path(w, s)), name) == 0;
        if (skip) continue;
        const char *reason;
        ESPL_CHECK(st, done, files_reason_to_skip(w, source, name, &reason));
        if (reason == LINK_OUT && (strcmp(name, "config.json") == 0 || strcmp(name, "tokenizer.json") == 0)) {
            st = ESPL_FAIL(ESPL_IO,
                           "%s/%s: is a link out of the model directory, which an export does not follow: "
                           "replace it by the file",
                           source, name); /* now: without it, the export would be none */
            goto done;
        }
        if (!reason) ESPL_CHECK(st, done, files_add_source(f, name));
        if (!reason || quiet) continue;
        espl_str quoted = {0}; /* a file name may hold control characters */
        espl_str_put_json(&quoted, name, (int64_t)strlen(name));
        if (!quoted.failed) ESPL_INFO("export: %s of %s is left out: %s", quoted.data, source, reason);
        espl_str_free(&quoted);
    }
    if (f->n_copied > 0) qsort(f->sources, (size_t)f->n_copied, sizeof *f->sources, files_compare_names);
    for (int64_t i = 0; i < f->n_copied; i++) {
        espl_str target = {0};
        st = files_put_target(f->sources[i], &target);
        if (st == ESPL_OK) st = files_add(f, target.data);
        espl_str_free(&target);
        ESPL_CHECK(st, done, st);
    }
    ESPL_CHECK(st, done, files_add(f, ESPL_EXPORT_CARD));
    ESPL_CHECK(st, done, files_add(f, ESPL_EXPORT_RECIPE));
    for (int64_t s = 0; s < shards; s++)
        ESPL_CHECK(st, done, files_add(f, espl_export_base_name(espl_weights_shard_path(w, s))));
done:
    closedir(d);
    return st;
}

bool espl_export_files_know(const export_files *f, const char *name) {
    static const char part[] = ".part";
    int64_t n = (int64_t)strlen(name), s = sizeof part - 1;
    if (espl_map_get(f->known, name, n, NULL)) return true;
    return n > s && strcmp(name + n - s, part) == 0 && espl_map_get(f->known, name, n - s, NULL);
}

void espl_export_files_free(export_files *f) {
    for (int64_t i = 0; i < f->n_copied; i++) espl_mem_free(&f->sources[i]);
    for (int64_t i = 0; i < f->n; i++) espl_mem_free(&f->names[i]);
    espl_mem_free(&f->sources);
    espl_mem_free(&f->names);
    espl_map_destroy(&f->known);
}

/* ------------------------------------------------------------------- copy */

static espl_status file_copy(const char *from, const char *to) {
    char buffer[65536];
    ssize_t n = 0;
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    bool copied = out >= 0;
    while (copied && (n = read(in, buffer, sizeof buffer)) != 0)
        if (n > 0)
            copied = espl_file_write_all(out, buffer, n);
        else
            copied = errno == EINTR;
    copied = copied && fsync(out) == 0;
    int error = errno;
    close(in);
    if (out >= 0 && close(out) != 0 && copied) { /* NFS may report a full disk only here */
        copied = false;
        error = errno;
    }
    if (copied && !espl_fault("export.copy")) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be copied to %s: %s", from, to, copied ? "fault on demand" : strerror(error));
}

espl_status espl_export_files_copy(const export_files *f, const char *source, const char *target) {
    espl_status st = ESPL_OK;
    for (int64_t i = 0; st == ESPL_OK && i < f->n_copied; i++) {
        espl_str from = {0}, to = {0};
        ESPL_CHECK(st, next, espl_export_join(source, f->sources[i], "", &from));
        ESPL_CHECK(st, next, espl_export_join(target, f->names[i], "", &to));
        st = file_copy(from.data, to.data);
    next:
        espl_str_free(&from);
        espl_str_free(&to);
    }
    return st;
}
