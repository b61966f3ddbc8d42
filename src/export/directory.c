/* The directory that an export becomes: what belongs in it, what may be replaced, how it gets its name. */
#include "directory.h"

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only a directory with this file is ever replaced: another model of the same kind has files of the same names. It is
 * written first and deleted last. */
static const char MARKER[] = "espalier_export.json";
static const char MARKER_TEXT[] =
    "{\n  \"written_by\": \"espalier\",\n"
    "  \"note\": \"a pruned model; the next export to this place may replace the directory that holds this file\"\n}\n";

#define COPY_MAX ((off_t)1 << 30)

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static espl_status join(const char *dir, const char *name, const char *suffix, espl_str *out) {
    *out = (espl_str){0};
    espl_str_printf(out, "%s/%s%s", dir, name, suffix);
    return espl_str_status(out);
}

static bool ends_with(const char *name, const char *suffix) {
    size_t n = strlen(name), s = strlen(suffix);
    return n >= s && strcasecmp(name + n - s, suffix) == 0;
}

/* ------------------------------------------------------- what belongs in it */

static espl_status add_name(export_place *p, const char *name) {
    espl_str copy = {0};
    espl_str_puts(&copy, name);
    espl_status st = espl_str_status(&copy);
    if (st == ESPL_OK) st = espl_mem_resize(&p->names, p->n + 1, sizeof *p->names, "list of files");
    if (st != ESPL_OK) {
        espl_str_free(&copy);
        return st;
    }
    p->names[p->n++] = copy.data;
    return espl_map_put(p->known, copy.data, copy.len, 0);
}

/* The weights as another program keeps them would not be pruned ones. */
static bool is_weights(const char *name) {
    static const char *const suffixes[] = {".safetensors", ".index.json", ".bin",      ".pt",   ".pth",
                                           ".ckpt",        ".gguf",       ".ggml",     ".onnx", ".h5",
                                           ".msgpack",     ".npz",        ".onnx_data"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (ends_with(name, suffixes[i])) return true;
    return false;
}

/* Is `name` the list of the shards that are written? One beside a model.safetensors has no part in the model. */
static bool is_index(const espl_weights *w, const char *name) {
    return strcmp(name, "model.safetensors.index.json") == 0 &&
           strcmp(base_name(espl_weights_shard_path(w, 0)), "model.safetensors") != 0;
}

static bool is_shard(const espl_weights *w, const char *name) {
    for (int64_t s = 0; s < espl_weights_shards(w); s++)
        if (strcmp(base_name(espl_weights_shard_path(w, s)), name) == 0) return true;
    return false;
}

/* Why the source's file is not copied; NULL: it is. */
static const char *why_not(const export_place *p, const espl_weights *w, const char *name) {
    struct stat info;
    espl_str path;
    bool found = join(p->source, name, "", &path) == ESPL_OK && stat(path.data, &info) == 0;
    espl_str_free(&path);
    if (!found) return "cannot be looked at";
    if (S_ISDIR(info.st_mode)) return "a directory";
    if (!S_ISREG(info.st_mode)) return "not a regular file";
    if (ends_with(name, ".part")) return "an unfinished file";
    if (is_weights(name) && !is_index(w, name)) return "weights that the model is not read from";
    if (info.st_size > COPY_MAX) return "larger than 1 GiB";
    return NULL;
}

static espl_status consider(export_place *p, const espl_weights *w, const char *name) {
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, MARKER) == 0 || is_shard(w, name))
        return ESPL_OK;
    const char *reason = why_not(p, w, name);
    if (!reason) return add_name(p, name);
    espl_str quoted = {0};
    espl_str_put_json(&quoted, name, (int64_t)strlen(name));
    if (!quoted.failed && !p->quiet) ESPL_INFO("export: %s of %s is left out: %s", quoted.data, p->source, reason);
    espl_str_free(&quoted);
    return ESPL_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static espl_status list_files(export_place *p, const espl_weights *w) {
    DIR *d = opendir(p->source);
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", p->source, strerror(errno));
    espl_status st = espl_map_create(&p->known, 64);
    if (st == ESPL_OK) st = espl_map_put(p->known, MARKER, sizeof MARKER - 1, 0);
    for (const struct dirent *e; st == ESPL_OK && (e = readdir(d));) st = consider(p, w, e->d_name);
    closedir(d);
    ESPL_TRY(st);
    if (p->n > 0) qsort(p->names, (size_t)p->n, sizeof *p->names, by_name);
    p->n_copied = p->n;
    for (int64_t s = 0; s < espl_weights_shards(w); s++)
        ESPL_TRY(add_name(p, base_name(espl_weights_shard_path(w, s))));
    return ESPL_OK;
}

/* -------------------------------------------------------- what may be replaced */

static bool is_known(const export_place *p, const char *name) {
    static const char part[] = ".part";
    int64_t n = (int64_t)strlen(name), s = sizeof part - 1;
    if (espl_map_get(p->known, name, n, NULL)) return true;
    return n > s && strcmp(name + n - s, part) == 0 && espl_map_get(p->known, name, n - s, NULL);
}

static espl_status look_inside(const export_place *p, const char *path, DIR *d, bool *there) {
    int64_t files = 0;
    bool marked = false;
    for (const struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!is_known(p, e->d_name))
            return ESPL_FAIL(ESPL_IO, "%s: holds \"%s\", which is not of an export of this model: not replaced", path,
                             e->d_name);
        marked |= strcmp(e->d_name, MARKER) == 0;
        files++;
    }
    if (files > 0 && !marked)
        return ESPL_FAIL(ESPL_IO, "%s: holds files but no %s, so it is no earlier export: not replaced", path, MARKER);
    *there = files > 0;
    return ESPL_OK;
}

/* *there: an earlier export, complete or not; false: nothing or an empty directory. ESPL_IO: anything else. */
static espl_status look(const export_place *p, const char *path, bool *there) {
    *there = false;
    DIR *d = opendir(path);
    if (!d && errno == ENOENT) return ESPL_OK;
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened as a directory: %s", path, strerror(errno));
    espl_status st = look_inside(p, path, d, there);
    closedir(d);
    return st;
}

/* Removes an export's files and nothing else, then the directory; true: it is gone. */
static bool remove_export(const export_place *p, const char *path) {
    static const char *const suffixes[] = {"", ".part"};
    espl_str file;
    for (int64_t i = 0; i <= p->n; i++)
        for (int k = 0; k < 2; k++) {
            const char *name = i < p->n ? p->names[i] : MARKER;
            if (join(path, name, suffixes[1 - k], &file) == ESPL_OK) (void)unlink(file.data);
            espl_str_free(&file);
        }
    return rmdir(path) == 0 || errno == ENOENT;
}

/* ----------------------------------------------------------------- beginning */

static bool same_directory(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A directory that is not there yet: its parent is made. */
static espl_status resolve_new(export_place *p, const char *dir) {
    espl_str path = {0}, parent = {0};
    espl_str_puts(&path, dir);
    ESPL_TRY(espl_str_status(&path));
    while (path.len > 1 && path.data[path.len - 1] == '/') path.data[--path.len] = '\0';
    const char *name = base_name(path.data);
    espl_str_put(&parent, path.data, name - path.data);
    espl_str_puts(&parent, ".");
    espl_status st = espl_str_status(&parent);
    if (st == ESPL_OK && (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
        st = ESPL_FAIL(ESPL_IO, "\"%s\" is no name for a directory that is not there yet", dir);
    if (st == ESPL_OK) st = espl_file_make_directory(parent.data);
    char *real = st == ESPL_OK ? realpath(parent.data, NULL) : NULL;
    if (st == ESPL_OK && !real) st = ESPL_FAIL(ESPL_IO, "%s: cannot be reached: %s", parent.data, strerror(errno));
    if (st == ESPL_OK) espl_str_printf(&p->dir, "%s/%s", real, name);
    free(real);
    espl_str_free(&parent);
    espl_str_free(&path);
    return st;
}

/* A directory that takes DIR.part's name must be on DIR.part's file system. */
static espl_status check_mount(const export_place *p) {
    struct stat inside, outside;
    espl_str parent = {0};
    espl_str_printf(&parent, "%s/..", p->dir.data);
    espl_status st = espl_str_status(&parent);
    if (st == ESPL_OK && stat(p->dir.data, &inside) == 0 && stat(parent.data, &outside) == 0 &&
        inside.st_dev != outside.st_dev)
        st = ESPL_FAIL(ESPL_IO, "%s: is a mount point, which cannot be replaced: give a directory inside it",
                       p->dir.data);
    espl_str_free(&parent);
    return st;
}

static espl_status resolve(export_place *p, const char *dir) {
    struct stat link;
    char *real = realpath(dir, NULL);
    if (real)
        espl_str_puts(&p->dir, real);
    else if (errno != ENOENT || lstat(dir, &link) == 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be reached: %s", dir, strerror(errno));
    else
        ESPL_TRY(resolve_new(p, dir));
    free(real);
    espl_str_printf(&p->part, "%s.part", p->dir.data);
    espl_str_printf(&p->old, "%s.old", p->dir.data);
    ESPL_TRY(espl_str_status(&p->dir));
    ESPL_TRY(espl_str_status(&p->part));
    ESPL_TRY(espl_str_status(&p->old));
    const char *const paths[] = {p->dir.data, p->part.data, p->old.data};
    for (int i = 0; i < 3; i++)
        if (same_directory(paths[i], p->source))
            return ESPL_FAIL(ESPL_IO, "%s: an export to %s would overwrite the model that is exported", p->source, dir);
    return check_mount(p);
}

static espl_status make_part(export_place *p) {
    espl_str marker;
    bool leftover;
    ESPL_TRY(look(p, p->part.data, &leftover));
    if (!remove_export(p, p->part.data))
        return ESPL_FAIL(ESPL_IO, "%s: an unfinished export cannot be removed: %s", p->part.data, strerror(errno));
    if (mkdir(p->part.data, 0777) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be made: %s", p->part.data, strerror(errno));
    p->begun = true;
    espl_status st = join(p->part.data, MARKER, "", &marker);
    if (st == ESPL_OK) st = espl_file_replace(marker.data, MARKER_TEXT, sizeof MARKER_TEXT - 1);
    espl_str_free(&marker);
    return st;
}

espl_status espl_export_check(export_place *p, const espl_weights *w, const char *source, const char *dir) {
    bool unfinished;
    p->source = source;
    ESPL_TRY(resolve(p, dir));
    ESPL_TRY(list_files(p, w));
    ESPL_TRY(look(p, p->dir.data, &p->replaces));
    ESPL_TRY(look(p, p->part.data, &unfinished));
    espl_status st = look(p, p->old.data, &p->has_old);
    return p->replaces ? st : ESPL_OK; /* else it is in nobody's way */
}

espl_status espl_export_begin(export_place *p, const espl_weights *w, const char *source, const char *dir) {
    ESPL_TRY(espl_export_check(p, w, source, dir));
    return make_part(p);
}

/* ------------------------------------------------------------------- copying */

static bool copy_bytes(int from, int to) {
    char buf[65536];
    ssize_t n;
    while ((n = read(from, buf, sizeof buf)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        for (ssize_t done = 0, put; done < n; done += put) {
            put = write(to, buf + done, (size_t)(n - done));
            if (put < 0 && errno == EINTR) put = 0;
            if (put < 0) return false;
        }
    }
    return fsync(to) == 0;
}

static espl_status copy_file(const char *from, const char *to) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool copied = out >= 0 && copy_bytes(in, out);
    int error = errno;
    close(in);
    if (out >= 0 && close(out) != 0 && copied) { /* NFS reports a full disk here */
        copied = false;
        error = errno;
    }
    if (copied && !espl_fault("export.copy")) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be copied to %s: %s", from, to, copied ? "fault on demand" : strerror(error));
}

espl_status espl_export_copy(const export_place *p) {
    espl_status st = ESPL_OK;
    for (int64_t i = 0; st == ESPL_OK && i < p->n_copied; i++) {
        espl_str from, to = {0};
        st = join(p->source, p->names[i], "", &from);
        if (st == ESPL_OK) st = join(p->part.data, p->names[i], "", &to);
        if (st == ESPL_OK) st = copy_file(from.data, to.data);
        espl_str_free(&from);
        espl_str_free(&to);
    }
    return st;
}

/* -------------------------------------------------------------------- its name */

static espl_status move(const char *from, const char *to, const char *site) {
    bool fault = espl_fault(site);
    if (!fault && rename(from, to) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", from, to, fault ? "fault on demand" : strerror(errno));
}

/* An earlier export steps aside and is deleted when the new one stands in its place; an empty directory is replaced by
 * the renaming itself. */
espl_status espl_export_publish(export_place *p) {
    espl_str inside;
    ESPL_TRY(join(p->part.data, MARKER, "", &inside));
    espl_file_sync_directory(inside.data);
    espl_str_free(&inside);
    if (p->replaces && p->has_old && !remove_export(p, p->old.data))
        return ESPL_FAIL(ESPL_IO, "%s: cannot be removed: %s", p->old.data, strerror(errno));
    if (p->replaces) ESPL_TRY(move(p->dir.data, p->old.data, "export.aside"));
    espl_status st = move(p->part.data, p->dir.data, "export.rename");
    if (st != ESPL_OK && p->replaces) (void)rename(p->old.data, p->dir.data);
    ESPL_TRY(st);
    p->begun = false;
    espl_file_sync_directory(p->dir.data);
    if ((p->replaces || p->has_old) && !remove_export(p, p->old.data))
        ESPL_INFO("export: %s, the earlier export, cannot be removed: %s", p->old.data, strerror(errno));
    return ESPL_OK;
}

void espl_export_abandon(export_place *p) {
    if (p->begun) (void)remove_export(p, p->part.data);
    p->begun = false;
}

void espl_export_free(export_place *p) {
    espl_map_destroy(&p->known);
    for (int64_t i = 0; i < p->n; i++) espl_mem_free(&p->names[i]);
    espl_mem_free(&p->names);
    espl_str_free(&p->dir);
    espl_str_free(&p->part);
    espl_str_free(&p->old);
}
