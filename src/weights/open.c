/* The set of tensors of a model: opening, looking up, closing. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

espl_status espl_weights_join(const char *dir, const char *name, char **out) {
    espl_str s = {0};
    espl_str_printf(&s, "%s/%s", dir, name);
    espl_status st = espl_str_status(&s);
    if (st != ESPL_OK) espl_str_free(&s);
    *out = s.data;
    return st;
}

/* Enters the tensors from `first` on into by_name. */
static espl_status register_names(espl_weights *w, int64_t first) {
    for (int64_t i = first, j; i < w->count; i++) {
        const espl_tensor_info *t = &w->tensors[i];
        int64_t len = (int64_t)strlen(t->name);
        if (espl_map_get(w->by_name, t->name, len, &j) && w->tensors[j].file == t->file)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" twice", t->file, t->name);
        if (espl_map_get(w->by_name, t->name, len, &j))
            return ESPL_FAIL(ESPL_FORMAT, "tensor \"%s\" is both in %s and in %s", t->name, w->tensors[j].file,
                             t->file);
        ESPL_TRY(espl_map_put(w->by_name, t->name, len, i));
        w->bytes += t->bytes;
    }
    return ESPL_OK;
}

espl_status espl_weights_add_shard(espl_weights *w, char *path) {
    shard *s = &w->shards[w->n_shards++];
    int64_t first = w->count;
    *s = (shard){.path = path, .mapped = true};
    ESPL_TRY(espl_file_map(path, &s->map));
    ESPL_TRY(espl_weights_read_header(w, s));
    return register_names(w, first);
}

static espl_status add_only_shard(espl_weights *w, const char *path) {
    espl_str copy = {0};
    espl_str_puts(&copy, path);
    ESPL_TRY(espl_str_status(&copy));
    espl_status st = espl_mem_alloc(&w->shards, 1, sizeof *w->shards, "shard list");
    if (st != ESPL_OK)
        espl_str_free(&copy);
    else
        st = espl_weights_add_shard(w, copy.data);
    return st;
}

static espl_status add_memory(espl_weights *w, const void *bytes, int64_t len, const char *name) {
    espl_str copy = {0};
    ESPL_TRY(espl_mem_alloc(&w->shards, 1, sizeof *w->shards, "shard list"));
    espl_str_puts(&copy, name);
    w->shards[w->n_shards++] = (shard){.path = copy.data, .map = {bytes, len}};
    ESPL_TRY(espl_str_status(&copy));
    ESPL_TRY(espl_weights_read_header(w, &w->shards[0]));
    return register_names(w, 0);
}

static espl_status add_dir(espl_weights *w, const char *dir) {
    char *single = NULL, *index = NULL;
    struct stat sb;
    if (stat(dir, &sb) != 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", dir, strerror(errno));
    espl_status st = espl_weights_join(dir, "model.safetensors", &single);
    if (st == ESPL_OK) st = espl_weights_join(dir, "model.safetensors.index.json", &index);
    if (st == ESPL_OK && espl_file_exists(single))
        st = add_only_shard(w, single);
    else if (st == ESPL_OK && espl_file_exists(index))
        st = espl_weights_open_index(w, dir, index);
    else if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_IO, "%s: holds neither model.safetensors nor model.safetensors.index.json", dir);
    espl_mem_free(&index);
    espl_mem_free(&single);
    return st;
}

static int by_name(const void *a, const void *b) {
    const espl_tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static espl_status sort(espl_weights *w) {
    if (w->count > 0) qsort(w->tensors, (size_t)w->count, sizeof *w->tensors, by_name);
    for (int64_t i = 0; i < w->count; i++) {
        const char *name = w->tensors[i].name;
        ESPL_TRY(espl_map_put(w->by_name, name, (int64_t)strlen(name), i));
    }
    return ESPL_OK;
}

static espl_status begin(espl_weights **w) {
    *w = NULL;
    ESPL_TRY(espl_mem_alloc(w, 1, sizeof **w, "weights"));
    return espl_map_create(&(*w)->by_name, 512);
}

/* Ends every open: hands w out, or takes it apart. */
static espl_status conclude(espl_weights *w, espl_status st, espl_weights **out) {
    if (st == ESPL_OK) st = sort(w);
    if (st != ESPL_OK) espl_weights_close(&w);
    *out = w;
    return st;
}

espl_status espl_weights_open(const char *dir, espl_weights **out) {
    espl_weights *w;
    espl_status st = begin(&w);
    if (st == ESPL_OK) st = add_dir(w, dir);
    return conclude(w, st, out);
}

espl_status espl_weights_open_file(const char *path, espl_weights **out) {
    espl_weights *w;
    espl_status st = begin(&w);
    if (st == ESPL_OK) st = add_only_shard(w, path);
    return conclude(w, st, out);
}

espl_status espl_weights_open_memory(const void *bytes, int64_t len, const char *name, espl_weights **out) {
    espl_weights *w;
    espl_status st = begin(&w);
    if (st == ESPL_OK) st = add_memory(w, bytes, len, name);
    return conclude(w, st, out);
}

static void close_shard(shard *s) {
    if (s->mapped) espl_file_unmap(&s->map);
    espl_json_free(&s->header);
    espl_mem_free(&s->path);
}

void espl_weights_close(espl_weights **w) {
    if (!w || !*w) return;
    for (int64_t i = 0; i < (*w)->n_shards; i++) close_shard(&(*w)->shards[i]);
    espl_mem_free(&(*w)->shards);
    espl_mem_free(&(*w)->tensors);
    espl_map_destroy(&(*w)->by_name);
    espl_mem_free(w);
}

int64_t espl_weights_count(const espl_weights *w) { return w->count; }

const espl_tensor_info *espl_weights_at(const espl_weights *w, int64_t i) { return &w->tensors[i]; }

const espl_tensor_info *espl_weights_find(const espl_weights *w, const char *name) {
    int64_t i;
    return espl_map_get(w->by_name, name, (int64_t)strlen(name), &i) ? &w->tensors[i] : NULL;
}

int64_t espl_weights_bytes(const espl_weights *w) { return w->bytes; }

int64_t espl_weights_shards(const espl_weights *w) { return w->n_shards; }

const char *espl_weights_shard_path(const espl_weights *w, int64_t number) { return w->shards[number].path; }

static const char *shape_text(int n_dims, const int64_t *dims, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%lld", i ? ", " : "", (long long)dims[i]);
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

static bool same_shape(const espl_tensor_info *t, int n_dims, const int64_t *dims) {
    if (t->n_dims != n_dims) return false;
    for (int i = 0; i < n_dims; i++)
        if (t->dims[i] != dims[i]) return false;
    return true;
}

espl_status espl_weights_require(const espl_weights *w, const char *name, int n_dims, const int64_t *dims,
                                 const espl_tensor_info **out) {
    char found[256], expected[256];
    const espl_tensor_info *t = espl_weights_find(w, name);
    *out = NULL;
    if (!t)
        return ESPL_FAIL(ESPL_FORMAT, "%s%s: there is no tensor \"%s\"", w->shards[0].path,
                         w->n_shards > 1 ? " and the other shards" : "", name);
    if (!same_shape(t, n_dims, dims))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" has shape %s, expected %s", t->file, name,
                         shape_text(t->n_dims, t->dims, found, sizeof found),
                         shape_text(n_dims, dims, expected, sizeof expected));
    if (!espl_dtype_is_float(t->dtype))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" has dtype %s, expected F32, F16 or BF16", t->file, name,
                         espl_dtype_name(t->dtype));
    *out = t;
    return ESPL_OK;
}
