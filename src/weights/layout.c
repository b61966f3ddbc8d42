/* Where each tensor of a new safetensors file goes, and the header that says so. No file is touched here. */
#include "writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The reference implementation's order of dtypes, first in the file first. */
static int dtype_rank(espl_dtype d) {
    static const espl_dtype order[] = {ESPL_DTYPE_I64,  ESPL_DTYPE_F32, ESPL_DTYPE_I32,
                                       ESPL_DTYPE_BF16, ESPL_DTYPE_F16, ESPL_DTYPE_U8};
    int i = 0;
    while (i < (int)(sizeof order / sizeof *order) && order[i] != d) i++;
    return i;
}

static int by_place(const void *a, const void *b) {
    const planned *x = a, *y = b;
    int rx = dtype_rank(x->dtype), ry = dtype_rank(y->dtype);
    return rx != ry ? rx - ry : strcmp(x->name, y->name);
}

static bool is_utf8(const char *s) {
    int64_t n = (int64_t)strlen(s);
    for (int64_t i = 0, len; i < n; i += len)
        if ((len = espl_utf8_length(s + i, n - i)) == 0) return false;
    return true;
}

static espl_status copy_name(const char *name, planned *p) {
    espl_str copy = {0};
    espl_str_puts(&copy, name);
    p->name = copy.data;
    return espl_str_status(&copy);
}

static espl_status plan_one(const espl_tensor_spec *spec, int64_t i, const char *path, planned *p) {
    const char *name = spec->name;
    if (!*name || strcmp(name, "__metadata__") == 0 || !espl_weights_name_is_clean(name) || !is_utf8(name))
        return ESPL_FAIL(ESPL_INTERNAL, "%s: tensor %" PRId64 " has no usable name", path, i);
    *p = (planned){
        .dtype = spec->dtype, .n_dims = spec->n_dims, .spec = i, .bytes = (int64_t)espl_dtype_size(spec->dtype)};
    bool ok = spec->n_dims >= 0 && spec->n_dims <= ESPL_WEIGHTS_MAX_DIMS;
    for (int d = 0; ok && d < spec->n_dims; d++) {
        p->dims[d] = spec->dims[d];
        ok = espl_mul_i64(p->bytes, spec->dims[d], &p->bytes);
    }
    if (!ok) return ESPL_FAIL(ESPL_INTERNAL, "%s: tensor \"%s\" has an impossible shape", path, name);
    return copy_name(name, p);
}

/* Sorted tensors end to end, offsets from the start of the data. */
static espl_status assign_offsets(espl_weights_writer *w) {
    int64_t at = 0;
    for (int64_t k = 0; k < w->n; k++) {
        planned *p = &w->tensors[k];
        if (p->bytes > INT64_MAX / 2 - at) return ESPL_FAIL(ESPL_INTERNAL, "%s: too large for a file", w->path);
        p->offset = at;
        at += p->bytes;
    }
    w->file_bytes = at;
    return ESPL_OK;
}

static void put_entry(espl_str *s, const planned *p) {
    espl_str_puts(s, ",");
    espl_str_put_json(s, p->name, (int64_t)strlen(p->name));
    espl_str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", espl_dtype_name(p->dtype));
    for (int d = 0; d < p->n_dims; d++) espl_str_printf(s, "%s%" PRId64, d ? "," : "", p->dims[d]);
    espl_str_printf(s, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", p->offset, p->offset + p->bytes);
}

/* The first 8 bytes (the header's size), the header, spaces up to a multiple of 8. */
static espl_status write_header(espl_weights_writer *w) {
    espl_str *s = &w->header;
    espl_str_put(s, "\0\0\0\0\0\0\0\0", 8);
    espl_str_puts(s, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t k = 0; k < w->n; k++) put_entry(s, &w->tensors[k]);
    espl_str_puts(s, "}");
    while (s->len % 8 != 0 && !s->failed) espl_str_puts(s, " ");
    ESPL_TRY(espl_str_status(s));
    for (int i = 0; i < 8; i++) s->data[i] = (char)((uint64_t)(s->len - 8) >> 8 * i);
    w->file_bytes += s->len;
    return ESPL_OK;
}

static espl_status check_names(const espl_weights_writer *w) {
    espl_map *names;
    espl_status st = espl_map_create(&names, w->n);
    for (int64_t k = 0; st == ESPL_OK && k < w->n; k++) {
        const char *name = w->tensors[k].name;
        if (espl_map_get(names, name, (int64_t)strlen(name), NULL))
            st = ESPL_FAIL(ESPL_INTERNAL, "%s: tensor \"%s\" planned twice", w->path, name);
        else
            st = espl_map_put(names, name, (int64_t)strlen(name), k);
    }
    espl_map_destroy(&names);
    return st;
}

espl_status espl_weights_plan(espl_weights_writer *w, const espl_tensor_spec *specs, int64_t n) {
    ESPL_TRY(espl_mem_alloc(&w->tensors, n, sizeof *w->tensors, "tensor plan"));
    ESPL_TRY(espl_mem_alloc(&w->place, n, sizeof *w->place, "tensor plan"));
    for (; w->n < n; w->n++) ESPL_TRY(plan_one(&specs[w->n], w->n, w->path, &w->tensors[w->n]));
    ESPL_TRY(check_names(w));
    if (n > 0) qsort(w->tensors, (size_t)n, sizeof *w->tensors, by_place);
    for (int64_t k = 0; k < n; k++) w->place[w->tensors[k].spec] = k;
    ESPL_TRY(assign_offsets(w));
    return write_header(w);
}

espl_status espl_weights_plan_like(espl_weights_writer *w, const espl_weights *like, int64_t number) {
    const shard *s = &like->shards[number];
    ESPL_TRY(espl_mem_alloc(&w->tensors, like->count, sizeof *w->tensors, "tensor plan"));
    ESPL_TRY(espl_mem_alloc(&w->place, like->count, sizeof *w->place, "tensor plan"));
    for (; w->n < like->count; w->n++) {
        const espl_tensor_info *t = &like->tensors[w->n];
        planned *p = &w->tensors[w->n];
        w->place[w->n] = w->n;
        if (t->shard == number) *p = (planned){.bytes = t->bytes, .offset = t->offset - s->data_start};
        ESPL_TRY(copy_name(t->name, p));
    }
    espl_str_put(&w->header, s->map.data, s->data_start);
    w->file_bytes = s->map.len;
    return espl_str_status(&w->header);
}
