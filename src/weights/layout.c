/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where each tensor of a new safetensors file goes, and the header that says so. No file is touched here, so every
 * process can compute the same layout on its own, and no rank has to tell another an offset.
 */
#include "layout.h"

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "shards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The header fills up to a multiple of HEADER_ALIGNMENT, so that a mapped tensor is aligned for its elements. Its own
 * size stands before it, in SIZE_BYTES little-endian bytes. */
enum { HEADER_ALIGNMENT = 8, SIZE_BYTES = 8 };

/* The order of the reference implementation: the dtypes of its list from the last to the first, then names bytewise.
 * The same order makes the same bytes, so that its files can be compared with ours. */
static int spec_by_place(const void *a, const void *b) {
    static const int rank[ESPL_DTYPE_COUNT] = {[ESPL_DTYPE_I64] = 0,  [ESPL_DTYPE_F32] = 1, [ESPL_DTYPE_I32] = 2,
                                               [ESPL_DTYPE_BF16] = 3, [ESPL_DTYPE_F16] = 4, [ESPL_DTYPE_U8] = 5};
    const espl_tensor_spec *x = *(const espl_tensor_spec *const *)a, *y = *(const espl_tensor_spec *const *)b;
    return rank[x->dtype] != rank[y->dtype] ? rank[x->dtype] - rank[y->dtype] : strcmp(x->name, y->name);
}

/* Writes the header for the specs in file order, and sets the offset of each place. Tensors lie end to end, as the
 * reader demands. Only `offset` needs the order: places stay in the caller's. */
static espl_status header_write(espl_weights_writer *w, const espl_tensor_spec *specs,
                                const espl_tensor_spec *const *order) {
    espl_str *s = &w->header;
    int64_t at = 0;
    espl_str_put(s, "\0\0\0\0\0\0\0\0", SIZE_BYTES); /* the header's size, set below */
    espl_str_puts(s, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t k = 0; k < w->n; k++) {
        const espl_tensor_spec *spec = order[k];
        espl_weights_place *p = &w->tensors[spec - specs];
        /* Half of what an offset can hold leaves room for the header. */
        if (p->bytes > INT64_MAX / 2 - at) return ESPL_FAIL(ESPL_INTERNAL, "%s: too large for a file", w->path);
        p->offset = at;
        at += p->bytes;
        espl_str_puts(s, ",");
        espl_str_put_json(s, spec->name, (int64_t)strlen(spec->name));
        espl_str_printf(s, ":{\"dtype\":\"%s\",\"shape\":[", espl_dtype_name(spec->dtype));
        for (int d = 0; d < spec->n_dims; d++) espl_str_printf(s, "%s%" PRId64, d ? "," : "", spec->dims[d]);
        espl_str_printf(s, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", p->offset, at);
    }
    espl_str_puts(s, "}");
    /* JSON allows spaces behind the value; the reference implementation pads in the same way. */
    while (s->len % HEADER_ALIGNMENT != 0 && !s->failed) espl_str_puts(s, " ");
    ESPL_TRY(espl_str_status(s));
    for (int i = 0; i < SIZE_BYTES; i++) s->data[i] = (char)((uint64_t)(s->len - SIZE_BYTES) >> 8 * i);
    w->file_bytes = s->len + at;
    return ESPL_OK;
}

/* Specs come from our own code: a bad one is a bug (ESPL_INTERNAL), but must not become a file that no reader opens. */
espl_status espl_weights_lay_out(espl_weights_writer *w, const espl_tensor_spec *specs, int64_t n) {
    const espl_tensor_spec **order = NULL;
    espl_map *names = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&w->tensors, n, sizeof *w->tensors, "tensor layout"));
    ESPL_CHECK(st, done, espl_mem_alloc(&order, n, sizeof *order, "tensor layout"));
    ESPL_CHECK(st, done, espl_map_create(&names, n));
    for (int64_t i = 0; i < n; i++) {
        const espl_tensor_spec *spec = order[i] = &specs[i];
        espl_weights_place *p = &w->tensors[i];
        int64_t len = (int64_t)strlen(spec->name);
        bool usable = len > 0 && strcmp(spec->name, "__metadata__") != 0 && espl_weights_name_is_clean(spec->name);
        for (int64_t k = 0, step; usable && k < len; k += step)
            usable = (step = espl_utf8_length(spec->name + k, len - k)) > 0;
        bool possible = spec->n_dims >= 0 && spec->n_dims <= ESPL_WEIGHTS_MAX_DIMS;
        p->bytes = (int64_t)espl_dtype_size(spec->dtype);
        for (int d = 0; possible && d < spec->n_dims; d++) possible = espl_mul_i64(p->bytes, spec->dims[d], &p->bytes);
        w->n = i + 1; /* counts what destroy must free */
        if (!usable)
            st = ESPL_FAIL(ESPL_INTERNAL, "%s: tensor %" PRId64 " has no usable name", w->path, i);
        else if (!possible)
            st = ESPL_FAIL(ESPL_INTERNAL, "%s: tensor \"%s\" has an impossible shape", w->path, spec->name);
        else if (espl_map_get(names, spec->name, len, NULL))
            st = ESPL_FAIL(ESPL_INTERNAL, "%s: tensor \"%s\" planned twice", w->path, spec->name);
        else
            st = espl_str_dup(&p->name, spec->name, "tensor layout");
        if (st == ESPL_OK) st = espl_map_put(names, spec->name, len, i);
        if (st != ESPL_OK) goto done;
    }
    if (n > 0) qsort(order, (size_t)n, sizeof *order, spec_by_place);
    ESPL_CHECK(st, done, header_write(w, specs, order));
done:
    espl_map_destroy(&names);
    espl_mem_free(&order);
    return st;
}

/* The header is copied as it stands: order, metadata and padding need not be understood to be kept. */
espl_status espl_weights_lay_out_like(espl_weights_writer *w, const espl_weights *like, int64_t shard) {
    const espl_weights_shard *s = &like->shards[shard];
    ESPL_TRY(espl_mem_alloc(&w->tensors, like->count, sizeof *w->tensors, "tensor layout"));
    for (; w->n < like->count; w->n++) {
        const espl_tensor_info *t = &like->tensors[w->n];
        espl_weights_place *p = &w->tensors[w->n];
        if (t->shard == shard) *p = (espl_weights_place){.bytes = t->bytes, .offset = t->offset - s->data_start};
        ESPL_TRY(espl_str_dup(&p->name, t->name, "tensor layout"));
    }
    espl_str_put(&w->header, s->map.data, s->data_start);
    w->file_bytes = s->map.len;
    return espl_str_status(&w->header);
}
