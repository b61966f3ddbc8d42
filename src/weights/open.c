/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensors of a model as one set: opening, looking up, closing. While shards are added the tensors stand in file
 * order and by_name grows; the end of an open sorts them by name, so that callers see the same order on every rank and
 * for every way the model is cut into shards.
 */
#include "shards.h"

#include "espalier/base/absent.h"
#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An empty set, whose shards the caller allocates: their number is only known once the index is read. */
static espl_status weights_create(espl_weights **w) {
    *w = NULL;
    ESPL_TRY(espl_mem_alloc(w, 1, sizeof **w, "weights"));
    return espl_map_create(&(*w)->by_name, ESPL_WEIGHTS_EXPECTED);
}

/* Bytewise, as the safetensors library lists them. */
static int tensor_by_name(const void *a, const void *b) {
    const espl_tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Sorts the tensors. Sorting moves them, so by_name is filled again: putting an existing key replaces its value. */
static espl_status weights_sort(espl_weights *w) {
    if (w->count > 0) qsort(w->tensors, (size_t)w->count, sizeof *w->tensors, tensor_by_name);
    for (int64_t i = 0; i < w->count; i++) {
        const char *name = w->tensors[i].name;
        ESPL_TRY(espl_map_put(w->by_name, name, (int64_t)strlen(name), i));
    }
    return ESPL_OK;
}

/* Ends every open: sorts the tensors and hands w out, or releases it when `st` is a failure. */
static espl_status weights_finish(espl_weights *w, espl_status st, espl_weights **out) {
    if (st == ESPL_OK) st = weights_sort(w);
    if (st != ESPL_OK) espl_weights_close(&w);
    *out = w;
    return st;
}

/* The headers, which own the old names, stay: an export copies them. */
espl_status espl_weights_add_prefix(espl_weights *w, const char *prefix, const char *except) {
    size_t prefix_bytes = strlen(prefix), bytes = 0;
    for (int64_t i = 0; i < w->count; i++) bytes += prefix_bytes + strlen(w->tensors[i].name) + 1;
    ESPL_TRY(espl_mem_alloc(&w->names, (int64_t)bytes, 1, "names of tensors"));
    espl_map_destroy(&w->by_name); /* it borrows the old names */
    ESPL_TRY(espl_map_create(&w->by_name, w->count));
    char *at = w->names;
    for (int64_t i = 0; i < w->count; i++) {
        espl_tensor_info *t = &w->tensors[i];
        if (strcmp(t->name, except) == 0) continue;
        size_t n = prefix_bytes + strlen(t->name) + 1;
        snprintf(at, n, "%s%s", prefix, t->name);
        t->name = at;
        at += n;
    }
    return weights_sort(w);
}

/* `memory`: the bytes of the file, NULL to map the file `name`. */
static espl_status weights_open_single(const char *name, const espl_mapping *memory, espl_weights **out) {
    espl_weights *w;
    espl_status st;
    ESPL_CHECK(st, done, weights_create(&w));
    ESPL_CHECK(st, done, espl_mem_alloc(&w->shards, 1, sizeof *w->shards, "shard list"));
    ESPL_CHECK(st, done, espl_weights_add_shard(w, name, memory));
done:
    return weights_finish(w, st, out);
}

espl_status espl_weights_open_file(const char *path, espl_weights **out) {
    return weights_open_single(path, NULL, out);
}

/* For the tests and the fuzzer: hostile files need no disk. */
espl_status espl_weights_open_memory(const void *bytes, int64_t len, const char *name, espl_weights **out) {
    espl_mapping memory = {.data = bytes, .len = len};
    return weights_open_single(name, &memory, out);
}

/* Weights in a form that is not read here, and what helps. */
static const struct {
    const char *name, *advice;
} other_weights[] = {
#define SAVE_AGAIN                                                                                                     \
    "load it with transformers and save it with save_pretrained(NEW_DIRECTORY), which writes model.safetensors"
    {"pytorch_model.bin", SAVE_AGAIN},
    {"pytorch_model.bin.index.json", SAVE_AGAIN},
    {"tf_model.h5", SAVE_AGAIN},
    {"flax_model.msgpack", SAVE_AGAIN},
    {"consolidated.safetensors",
     "it names its tensors in another way: take the repository's model*.safetensors instead"},
    {"consolidated.00.pth", "take the repository's model*.safetensors instead"},
    {"adapter_model.safetensors", "an adapter: merge it into its base model first"},
#undef SAVE_AGAIN
};

static espl_status weights_fail_missing(const char *dir) {
    for (size_t i = 0; i < sizeof other_weights / sizeof *other_weights; i++) {
        espl_str path = {0};
        espl_str_printf(&path, "%s/%s", dir, other_weights[i].name);
        bool found = !path.failed && espl_file_exists(path.data);
        espl_str_free(&path);
        if (found)
            return ESPL_FAIL(ESPL_IO,
                             "%s: holds neither model.safetensors nor model.safetensors.index.json, but %s: %s", dir,
                             other_weights[i].name, other_weights[i].advice);
    }
    return ESPL_FAIL(ESPL_IO, "%s: holds neither model.safetensors nor model.safetensors.index.json", dir);
}

/* model.safetensors first, as in transformers: an index beside it may be a leftover. */
espl_status espl_weights_open(const char *dir, espl_weights **out) {
    espl_str single = {0}, index = {0};
    espl_weights *w = NULL;
    struct stat sb;
    espl_status st;
    espl_str_printf(&single, "%s/model.safetensors", dir);
    espl_str_printf(&index, "%s/model.safetensors.index.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&single));
    ESPL_CHECK(st, done, espl_str_status(&index));
    if (stat(dir, &sb) != 0) {
        st = espl_file_fail_open(dir);
    } else if (espl_file_exists(single.data) || espl_file_is_dangling(single.data)) { /* mapping it says so */
        st = weights_open_single(single.data, NULL, &w);
    } else if (espl_file_exists(index.data) || espl_file_is_dangling(index.data)) {
        st = weights_create(&w);
        if (st == ESPL_OK) st = espl_weights_open_index(w, dir, index.data);
        st = weights_finish(w, st, &w);
    } else {
        st = weights_fail_missing(dir);
    }
done:
    espl_str_free(&index);
    espl_str_free(&single);
    *out = w;
    return st;
}

/* Also takes apart what a failed open leaves: any pointer may still be NULL. */
void espl_weights_close(espl_weights **wp) {
    if (!wp || !*wp) return;
    espl_weights *w = *wp;
    for (int64_t i = 0; i < w->n_shards; i++) {
        espl_weights_shard *s = &w->shards[i];
        if (s->mapped) espl_file_unmap(&s->map);
        espl_json_free(&s->header);
        espl_mem_free(&s->path);
    }
    espl_mem_free(&w->shards);
    espl_mem_free(&w->tensors);
    espl_map_destroy(&w->by_name);
    espl_mem_free(&w->names);
    espl_mem_free(wp);
}

int64_t espl_weights_count(const espl_weights *w) { return w->count; }

const espl_tensor_info *espl_weights_at(const espl_weights *w, int64_t i) { return &w->tensors[i]; }

const espl_tensor_info *espl_weights_find(const espl_weights *w, const char *name) {
    int64_t i;
    return espl_map_get(w->by_name, name, (int64_t)strlen(name), &i) ? &w->tensors[i] : NULL;
}

int64_t espl_weights_bytes(const espl_weights *w) { return w->bytes; }

int64_t espl_weights_shards(const espl_weights *w) { return w->n_shards; }

const char *espl_weights_shard_path(const espl_weights *w, int64_t shard) { return w->shards[shard].path; }

const espl_file_state *espl_weights_shard_state(const espl_weights *w, int64_t shard) {
    return &w->shards[shard].map.state;
}

espl_status espl_weights_check_unchanged(const espl_weights *w) {
    for (int64_t i = 0; i < w->n_shards; i++) {
        const espl_weights_shard *s = &w->shards[i];
        espl_file_state now;
        if (!s->mapped) continue;
        ESPL_TRY(espl_file_state_of(s->path, &now));
        /* ctime alone also changes with the owner or a link, which changes no weight. */
        if (now.bytes != s->map.state.bytes || now.inode != s->map.state.inode ||
            now.modified_ns != s->map.state.modified_ns)
            return ESPL_FAIL(ESPL_IO, "%s: was changed or replaced while it was in use", s->path);
    }
    return ESPL_OK;
}

/* "[2, 3]", cut off when it does not fit. */
static const char *shape_text(int n_dims, const int64_t *dims, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%" PRId64, i ? ", " : "", dims[i]);
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

/* A shape that the configuration does not promise is refused here, before any code multiplies by it. */
espl_status espl_weights_require(const espl_weights *w, const char *name, int n_dims, const int64_t *dims,
                                 const espl_tensor_info **out) {
    char found[256], expected[256];
    const espl_tensor_info *t = espl_weights_find(w, name);
    *out = NULL;
    if (!t)
        return ESPL_FAIL(ESPL_FORMAT, "%s%s: there is no tensor \"%s\"", w->shards[0].path,
                         w->n_shards > 1 ? " and the other shards" : "", name);
    bool same = t->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++) same = t->dims[i] == dims[i];
    if (!same)
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" has shape %s, expected %s", t->file, name,
                         shape_text(t->n_dims, t->dims, found, sizeof found),
                         shape_text(n_dims, dims, expected, sizeof expected));
    if (t->foreign)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: tensor \"%s\": unsupported dtype %s, expected F32, F16 or BF16",
                         t->file, name, t->foreign);
    if (!espl_dtype_is_float(t->dtype))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" has dtype %s, expected F32, F16 or BF16", t->file, name,
                         espl_dtype_name(t->dtype));
    *out = t;
    return ESPL_OK;
}
